"""Turns bytes into a file that exists whole or not at all, and a file into a lock."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
import time
import uuid
import weakref
from collections.abc import Iterator
from pathlib import Path

from featurekit.core import openness
from featurekit.core.waiting import until
from featurekit.errors import ConfigError, OnlineError, WriteError

WRITING = ".writing"
"""The suffix of files that are still being written; their names begin with a dot, so that no glob
finds them."""
_DISK = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota of this user is used up",
    errno.EFBIG: "it would be larger than this process may write",
    errno.EIO: "the disk reports an error",
    errno.EROFS: "the disk can only be read",
}
_LOST_S = 86_400.0
"""A file without a write for so long belongs to a process that died."""


def unwritten(path: str | Path, error: OSError) -> OSError:
    """The error to raise where `path` could not be written: a WriteError that names it where the
    disk is the reason, and else `error` itself."""
    reason = _DISK.get(error.errno or 0)
    if reason is None or isinstance(error, WriteError):
        return error
    made = WriteError(
        f"{os.fspath(path)} cannot be written: {reason}. Nothing of it was kept; make room there, "
        "and run this again"
    )
    made.errno = error.errno
    return made


_begun: set[str] = set()
"""The hidden files that this process is writing."""


def remove_begun() -> None:
    """Remove the hidden files that this process is writing, before it ends in the middle of
    that."""
    for name in list(_begun):
        _remove(name)


def _remove(name: str) -> None:
    """Remove a hidden file or folder, as far as that is possible."""
    try:
        os.unlink(name)  # noqa: PTH108
    except IsADirectoryError:
        shutil.rmtree(name, ignore_errors=True)
    except OSError:  # the first error is the one to report
        pass


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Gives a hidden path beside `path` to write to, a file or a new folder; when the block ends,
    it replaces `path`. If the block raises, it is removed and `path` stays as it was."""
    _remove_lost(path)
    name = _hidden(os.fspath(path))
    hidden = Path(name)
    _begun.add(name)
    try:
        yield hidden
        openness.close_file(os.fspath(hidden), path)
        hidden.replace(path)
    except BaseException as error:
        _remove(name)
        if isinstance(error, OSError):
            raise unwritten(path, error) from error
        raise
    finally:
        _begun.discard(name)


def _remove_lost(path: Path) -> None:
    """Remove the hidden files of writers of `path` that died half way."""
    before = time.time() - _LOST_S
    with contextlib.suppress(OSError), os.scandir(path.parent) as found:
        for entry in found:
            mine = entry.name.startswith(f".{path.name}.") and entry.name.endswith(WRITING)
            if mine and entry.stat().st_mtime < before:
                _remove(entry.path)


def scratch_folder(owner: object) -> Path:
    """A new temporary folder, readable by this user alone, that goes when its owner does."""
    folder = tempfile.mkdtemp(prefix="featurekit-")
    weakref.finalize(owner, _remove_scratch, folder, os.getpid())
    return Path(folder)


def _remove_scratch(folder: str, maker: int) -> None:
    if os.getpid() == maker:  # a fork of the process has the owner, too
        shutil.rmtree(folder, ignore_errors=True)


def write_whole(
    path: Path,
    data: bytes | memoryview,
    *,
    durable: bool = False,
    replace: bool = True,
    mode: int = 0o666,
) -> None:
    """Write a file under a hidden name, then rename it. It replaces what is there; without
    `replace` it is dropped if the name exists already.

    With `durable` the bytes survive a power failure before the file gets its name; `sync_folder`
    makes the name survive too. If writing raises, what was there stays, and nothing else does.
    """
    # Uses strings and descriptors: building a Path takes as long as the call, and pushes wait for
    # this.
    name = os.fspath(path)
    hidden = _hidden(name)
    _begun.add(hidden)
    try:
        file = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            if mode & 0o077:
                openness.close_file(file, name)
            view = memoryview(data)
            while view:
                view = view[os.write(file, view) :]
            if durable:
                os.fsync(file)
        finally:
            os.close(file)
        if replace:
            os.rename(hidden, name)  # noqa: PTH104
        else:
            with contextlib.suppress(FileExistsError):
                os.link(hidden, name)
            os.unlink(hidden)  # noqa: PTH108
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(hidden)  # noqa: PTH108
        if isinstance(error, OSError):
            raise unwritten(name, error) from error
        raise
    finally:
        _begun.discard(hidden)


def _hidden(name: str) -> str:
    folder, last = os.path.split(name)
    return os.path.join(folder, f".{last}.{uuid.uuid4().hex}{WRITING}")  # noqa: PTH118


def sync_file(path: Path) -> None:
    """Make the bytes of a file survive a power failure."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: str) -> None:
    """Make the names in a folder survive a power failure."""
    there = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(there)
    finally:
        os.close(there)


def check_writable(path: Path, option: str) -> None:
    """Raises ConfigError if no file can be written at `path`; called before a check that takes
    long."""
    folder = path.parent
    if path.is_dir():
        raise ConfigError(f"{option} {path} is a folder; name a file")
    if not folder.is_dir():
        raise ConfigError(f"{option} {path}: there is no folder {folder}; make it first")
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"{option} {path}: folder {folder} cannot be written to")


def write_named(path: Path, data: bytes, option: str) -> None:
    """As `write_whole`, for a file that an option names. Raises ConfigError if it cannot be
    written."""
    check_writable(path, option)
    try:
        write_whole(path, data)
    except OSError as error:
        reason = error.strerror or os.strerror(error.errno or errno.EIO)
        raise ConfigError(f"{option} {path} cannot be written: {reason}") from error


def lock(file: int, *, wait_s: float = 0.0, every_s: float = 0.005) -> bool:
    """Take the exclusive lock of an open file, waiting up to `wait_s`. Returns whether it was
    taken."""

    def taken() -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    return until(taken, within_s=wait_s, every_s=every_s)


@contextlib.contextmanager
def locked(
    path: Path, *, wait_s: float = 0.0, every_s: float = 0.005, mode: int = 0o666
) -> Iterator[int | None]:
    """Hold the exclusive lock of a file, which is created if it is absent. Gives its descriptor, or
    None if somebody else still holds the lock after `wait_s`. A process that inherits the
    descriptor keeps the lock when the block ends."""
    file = openness.opened(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode)
    try:
        yield file if lock(file, wait_s=wait_s, every_s=every_s) else None
    finally:
        os.close(file)


_PATIENCE_S = 60.0


@contextlib.contextmanager
def held_folder(folder: Path) -> Iterator[Path]:
    """The folder, made where it is absent, while no other process holds it. OnlineError for one
    that is held for long."""
    openness.make_folder(folder)
    with locked(folder / ".lock", wait_s=_PATIENCE_S) as mine:
        if mine is None:
            raise OnlineError(
                f"another process has been working on {folder} for {_PATIENCE_S:.0f} s; end it, "
                "and run this again"
            )
        yield folder
