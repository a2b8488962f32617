"""Says at which commit of git a folder stands, and whether its modules differ from that."""

from __future__ import annotations

import subprocess
from pathlib import Path

_PATIENCE_S = 30.0


def commit_of(folder: Path, *patterns: str) -> tuple[str, bool] | None:
    """The commit that a folder stands at, and whether files below it whose names fit one of the
    patterns differ from it, or are not in it. None outside of a repository, in one without a
    commit, and where there is no git."""
    commit = _told(folder, "rev-parse", "--verify", "HEAD")
    changed = _told(folder, "status", "--porcelain", "--", *patterns)
    if commit is None or changed is None:
        return None
    return commit.strip(), bool(changed.strip())


def _told(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(folder), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=_PATIENCE_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
