"""Writes the files of a parity check: whole, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from featurekit.errors import ConfigError


def check_writable(path: Path, option: str) -> None:
    """ConfigError where no file can be written there: asked before a check that takes long."""
    folder = path.parent
    if path.is_dir():
        raise ConfigError(f"{option} {path} is a folder; name a file")
    if not folder.is_dir():
        raise ConfigError(f"{option} {path}: there is no folder {folder}; make it first")
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"{option} {path}: folder {folder} cannot be written to")


def write_whole(path: Path, data: bytes, option: str) -> None:
    """Write a file beside its name, and rename it. ConfigError where that fails; what stood there
    before stays."""
    check_writable(path, option)
    hidden = path.with_name(f".{path.name}.{os.getpid()}.writing")
    try:
        hidden.write_bytes(data)
        hidden.replace(path)
    except OSError as error:
        hidden.unlink(missing_ok=True)
        raise ConfigError(f"{option} {path} cannot be written: {error.strerror}") from error
