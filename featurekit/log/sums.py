"""Puts checksums of a segment's name and bytes into its footer, and checks them.

Parquet has checksums of pages, but none of the footer, and DuckDB checks neither. A footer that is
not what was written may name other columns, or leave out rows by their statistics. So a footer
holds two CRC-32: of the file's name and all bytes before the footer, and of the name and the footer
itself, in which this second number is zero. The footer can be checked without the rest.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zlib import crc32

from featurekit.errors import DamagedLog

SUMS = b"featurekit.sums"
BLANK = b"00000000-00000000"
"""What a table's metadata say under `SUMS` before the file is written."""

_END = 8
"""The bytes behind the footer: its length, and Parquet's mark."""
_TAIL = 1 << 16
_STEP = 1 << 20
_KEPT = 4096


def summed(name: str, file: bytes) -> bytearray:
    """The bytes of a Parquet file, with its checksums in the place of `BLANK`."""
    made = bytearray(file)
    foot = len(made) - _END - int.from_bytes(made[-_END:-4], "little")
    at = made.index(BLANK, made.rindex(SUMS))
    made[at : at + 8] = b"%08x" % crc32(memoryview(made)[:foot], crc32(name.encode()))
    made[at + 9 : at + 17] = b"%08x" % crc32(memoryview(made)[foot:], crc32(name.encode()))
    return made


def check_footer(path: Path) -> None:
    """DamagedLog where the footer of a segment is not as it was written."""
    _footer(path, *_identity(path))


def check(path: Path) -> None:
    """DamagedLog where a segment is not as it was written. A file that did not change since it was
    checked is not read again."""
    _whole(path, *_identity(path))
    _CHECKED.pop(path, None)
    _CHECKED[path] = None
    if len(_CHECKED) > _KEPT:
        _CHECKED.pop(next(iter(_CHECKED)), None)


def check_again(folder: Path) -> None:
    """DamagedLog where a segment in the folder that this process has checked is another one now,
    whatever its times and size say. It is asked where a query could not read what had been
    checked."""
    for path in reversed(list(_CHECKED)):  # those of the query first
        if not path.is_relative_to(folder) or not path.exists():
            continue
        try:
            foot, pages = _footer.__wrapped__(path, *_identity(path))
            _check_pages(path, foot, pages)
        except DamagedLog:
            _footer.cache_clear()
            _whole.cache_clear()
            raise


_CHECKED: dict[Path, None] = {}
"""The segments that were found to be whole, the last one last, and no more than `_KEPT`."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """DamagedLog where the block cannot read a segment."""
    import pyarrow as pa

    try:
        yield
    except pa.ArrowException as error:
        raise _damaged(path, f"it cannot be read ({error})") from error


def _identity(path: Path) -> tuple[int, int, int]:
    about = path.stat()
    return about.st_ino, about.st_mtime_ns, about.st_size


@functools.lru_cache(maxsize=4096)
def _footer(path: Path, inode: int, mtime_ns: int, size: int) -> tuple[int, bytes]:
    """Where the footer begins, and the checksum of the bytes before it; b"" for a segment of a
    release that wrote none."""
    del inode, mtime_ns
    with path.open("rb") as file:
        file.seek(max(0, size - _TAIL))
        tail = file.read()
        length = int.from_bytes(tail[-_END:-4], "little")
        foot = size - _END - length
        if tail[-4:] != b"PAR1" or foot < 4:
            raise _damaged(path, "its end is not that of a Parquet file")
        if length + _END > len(tail):
            file.seek(foot)
            tail = file.read()
    known = tail.rfind(SUMS)
    if known < 0:
        return foot, b""
    footer = bytearray(tail[-length - _END :])
    # Two bytes lie between the key and the value: the field, and the value's length.
    at = known + len(SUMS) + 2 - (len(tail) - len(footer))
    pages, own = bytes(footer[at : at + 8]), bytes(footer[at + 9 : at + 17])
    footer[at + 9 : at + 17] = BLANK[9:]
    if b"%08x" % crc32(footer, crc32(path.name.encode())) != own:
        raise _damaged(path, "the checksum of its footer is another one")
    return foot, pages


@functools.lru_cache(maxsize=4096)
def _whole(path: Path, inode: int, mtime_ns: int, size: int) -> None:
    _check_pages(path, *_footer(path, inode, mtime_ns, size))


def _check_pages(path: Path, foot: int, pages: bytes) -> None:
    if not pages:
        return
    found, left = crc32(path.name.encode()), foot
    with path.open("rb") as file:
        while left and (part := file.read(min(left, _STEP))):
            found, left = crc32(part, found), left - len(part)
    if b"%08x" % found != pages:
        raise _damaged(path, "the checksum of its rows is another one")


def _damaged(path: Path, how: str) -> DamagedLog:
    return DamagedLog(
        f"the log of pushed events {os.fspath(path)} is damaged: {how}; put the file back from a "
        "copy, under its own name, or remove it if its pushes may be lost and run `featurekit "
        "materialize`"
    )
