"""Turns a file that holds a secret into its text, unless others may read it."""

from __future__ import annotations

from pathlib import Path

from featurekit.errors import ConfigError

OTHERS, GROUP_TOO = 0o027, 0o077
"""What a secret's file must not be open to: other users, and the writing of a group; or a group at
all. A file that Kubernetes mounts belongs to root and is read by a group."""


def read_secret(path: Path, what: str, *, closed_to: int = GROUP_TOO) -> str:
    """The text of a secret, without the end of its line. ConfigError, which says `what` it is and
    shows nothing of it, where it cannot be read, is none, or is open to others."""
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ConfigError(f"{what} {path} cannot be read: {reason}") from None
    if mode & closed_to:
        wanted = "600" if closed_to == GROUP_TOO else "640"
        raise ConfigError(f"{what} {path} is open to other users; run `chmod {wanted} {path}`")
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise ConfigError(f"{what} {path} is empty")
    return text
