"""Turns a file into the hash of its content, which is computed once for as long as the file is
unchanged (S4)."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from featurekit.core.files import scratch_folder, write_whole
from featurekit.core.openness import make_folder
from featurekit.errors import SourceError

_SETTLED_S = 2.0
"""A file that was written less long ago may be written again without a change of its times."""

_AT_ONCE = 8
Stat = tuple[int, int, int, int, int]
_SEEN: dict[str, tuple[Stat, str]] = {}


@cache
def _scratch() -> Path:
    return scratch_folder(kept_folder)


def kept_folder(state_dir: Path | None) -> Path:
    """The folder of what is known of files: in the state folder, or where there is none, for as
    long as the process lives."""
    if state_dir is None:
        return _scratch()
    folder = folder_in(state_dir)
    make_folder(folder)
    return folder


def folder_in(state_dir: Path) -> Path:
    """The folder of what is known of files, in a state folder."""
    return Path(state_dir) / "verdicts"


def path_hash(path: str) -> str:
    """What the names of all that is kept of a file begin with."""
    return hashlib.sha256(path.encode(errors="surrogateescape")).hexdigest()[:12]


def note_name(path: str) -> str:
    """The name under which the hash of a file's content is kept."""
    return f"{path_hash(path)}.json"


def drop_kept(path: str, state_dir: Path | None) -> None:
    """Remove what is kept of a file, since rows were taken out of it."""
    for kept in kept_folder(state_dir).glob(f"{path_hash(path)}*"):
        kept.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Identity:
    """A file as it was when its content was hashed."""

    path: Path
    stat: Stat
    digest: str

    @classmethod
    def of(cls, path: Path, state_dir: Path | None) -> Identity:
        """The identity of a file now. The hash is taken again only where size, inode or times
        differ from what is known of it. SourceError if the file cannot be read."""
        return cls._known(path, state_dir) or cls._hashed(path, state_dir)

    @classmethod
    def of_all(cls, paths: Sequence[Path], state_dir: Path | None) -> list[Identity]:
        """As `of`, for several files; those that are not known are hashed at once."""
        found = {path: cls._known(path, state_dir) for path in paths}
        unknown = [path for path, one in found.items() if one is None]
        if len(unknown) > 1:  # to hash lets other threads run
            with ThreadPoolExecutor(min(len(unknown), _AT_ONCE, os.cpu_count() or 1)) as pool:
                hashed = pool.map(partial(cls._hashed, state_dir=state_dir), unknown)
                found |= zip(unknown, hashed, strict=True)
        return [found[path] or cls._hashed(path, state_dir) for path in paths]

    @classmethod
    def _known(cls, path: Path, state_dir: Path | None) -> Identity | None:
        """The identity of a file that is as it was when it was hashed; None of any other."""
        name, now = str(path), _stat(path)
        seen = _SEEN.get(name)
        if seen is None or seen[0] != now:
            seen = None if state_dir is None else _noted(kept_folder(state_dir) / note_name(name))
            if seen is None or seen[0] != now:
                return None
            _SEEN[name] = seen
        return cls(path, *seen)

    @classmethod
    def _hashed(cls, path: Path, state_dir: Path | None) -> Identity:
        """The identity of a file by its content."""
        name, now = str(path), _stat(path)
        made = cls(path, now, _digest(path))
        if time.time() - max(now[1], now[2]) / 1e9 >= _SETTLED_S:
            if state_dir is not None:
                note = kept_folder(state_dir) / note_name(name)
                write_whole(note, json.dumps((now, made.digest)).encode())
            _SEEN[name] = now, made.digest
        return made

    def check(self) -> None:
        """SourceError if the file is another one now."""
        if _stat(self.path) != self.stat:
            raise SourceError(f"{self.path} changed while it was read; read it again")


def _stat(path: Path) -> Stat:
    try:
        found = path.stat()
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror})") from None
    return (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev)


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror})") from None


def _noted(note: Path) -> tuple[Stat, str] | None:
    with suppress(OSError, ValueError, TypeError):
        stat, digest = json.loads(note.read_bytes())
        size, modified, changed, inode, device = map(int, stat)
        return (size, modified, changed, inode, device), str(digest)
    return None
