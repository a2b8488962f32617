"""Turns the readings of a source's files into the knowledge that it has files, so that files that
have vanished are told from those that were never there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from featurekit.core.files import write_whole
from featurekit.core.missing import no_file, no_match
from featurekit.core.openness import make_folder
from featurekit.core.written import placed
from featurekit.define.definitions import EventSource
from featurekit.errors import SourceError
from featurekit.sources.files import absent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from featurekit.sources.protocol import FileInfo

_FOLDER = "read"


def remember_files(source: EventSource, files: Sequence[FileInfo], state_dir: Path) -> None:
    """Keep in the state folder that the source's path has named files. A source that is a
    frame or has an origin has no path that could name none."""
    kept = _kept(source, state_dir)
    if not source.path or kept.exists():
        return
    make_folder(kept.parent)
    about = {"path": source.path, "files": len(files)}
    write_whole(kept, json.dumps(about).encode())


def never_had_files(source: EventSource, base: Path, state_dir: Path) -> bool:
    """Whether the source's path names no file and never did: it has what is pushed to it."""
    return absent(source, base) and not _kept(source, state_dir).exists()


def vanished(source: EventSource, base: Path, state_dir: Path) -> SourceError | None:
    """The error of a source whose path names no file, but did; None for any other."""
    if not absent(source, base) or not _kept(source, state_dir).exists():
        return None
    pattern = any(sign in source.path for sign in "*?[")
    there = (no_match if pattern else no_file)(source.path, base)
    end = "" if there.endswith("?") else "."
    fault = SourceError(
        f"EventSource {source.name!r}: {there}{end} Its events have been read from files before: "
        "put the files back, or mend the path. If no event of a file is to count any more, put a "
        f"file there that has no rows{', a header alone' if source.format == 'csv' else ''}"
    )
    return placed(fault, source.place)


def _kept(source: EventSource, state_dir: Path) -> Path:
    return Path(state_dir) / _FOLDER / f"{source.name}.json"
