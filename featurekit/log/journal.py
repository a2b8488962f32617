"""Turns small pushes into records of a file that one process appends to, and back into rows.

A journal is a sequence of records: its Arrow schema, then one batch for each push. A record without
content ends the journal. Before each record stand its length and checksums; one checksum includes
the record's position. A record that is cut short at the end is a push that never returned; nothing
is written after it.

A journal belongs to its maker, but other processes may end it, replace its file or remove it. Each
of them takes the file's lock for a moment. The maker takes the lock too before it appends, to check
that the journal is as it left it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from featurekit.core.files import lock, sync_folder, unwritten
from featurekit.core.openness import make_folder, opened
from featurekit.errors import DamagedLog, SourceError

SUFFIX = ".journal"
CLAIM, CLAIMS = b"featurekit.claim", b"featurekit.claims"
"""Where the claim of a push stands beside its rows, and those of many pushes beside all of theirs:
in the metadata of a batch, and of a schema. A reader of rows sees neither."""
_MARK = b"fkj1"
_HEAD, _CHECK = struct.Struct("<4sII"), struct.Struct("<I")
_FRONT = _HEAD.size + _CHECK.size
_END = b"\xff\xff\xff\xff\0\0\0\0"
"""The end of an Arrow stream."""
_sync = getattr(os, "fdatasync", os.fsync)
_READ = 1 << 20
_SECTOR, _ZEROS = 512, 64
"""What a disk writes at once, and more zeros than a record's content ends with."""
_POLL_S, _PATIENCE_S = 0.001, 10.0


def record(content: bytes | memoryview, at: int) -> bytes:
    """The bytes of a record at a position of a journal; one without content ends the journal."""
    head = _HEAD.pack(_MARK, len(content), zlib.crc32(content))
    return b"".join((head, _CHECK.pack(zlib.crc32(head, at & 0xFFFFFFFF)), content))


def _content(data: memoryview, at: int) -> memoryview | None:
    """The content of the record at a position; None if there is no whole record."""
    start = at + _FRONT
    if start > len(data):
        return None
    head = data[at : at + _HEAD.size]
    mark, size, check = _HEAD.unpack(head)
    (of_head,) = _CHECK.unpack_from(data, at + _HEAD.size)
    if mark != _MARK or zlib.crc32(head, at & 0xFFFFFFFF) != of_head or start + size > len(data):
        return None
    content = data[start : start + size]
    return content if zlib.crc32(content) == check else None


def _torn(data: memoryview, at: int) -> bool:
    """Whether what follows the last whole record is no record, but the beginning of a push that
    never returned. Bytes are missing at its end; or whole sectors of it are zeros, as a power
    failure leaves what was not written yet."""
    rest, begun = bytes(data[at:]), data[at : at + _HEAD.size]
    if len(rest) < _FRONT or not any(rest):
        return True
    boundary = -at % _SECTOR
    if boundary >= _FRONT and not any(rest[:boundary]):
        return True
    if rest[:4] == _MARK and _CHECK.unpack_from(rest, _HEAD.size)[0] == zlib.crc32(
        begun, at & 0xFFFFFFFF
    ):
        if _FRONT + _HEAD.unpack(begun)[1] > len(rest):
            return True
        zeros = len(rest) - len(rest.rstrip(b"\0"))
        return zeros >= max((at + len(rest)) % _SECTOR or _SECTOR, _ZEROS)
    return False


class Read:
    """A journal as it is at one moment: the contents of its records, whether it has ended, and how
    many of its bytes are whole. DamagedLog if a record is not as it was written."""

    def __init__(self, data: bytes, name: str) -> None:
        self.contents: list[memoryview] = []
        self.ended, self.size = False, 0
        view = memoryview(data)
        while not self.ended and (found := _content(view, self.size)) is not None:
            self.size += _FRONT + len(found)
            self.ended = not found
            if found:
                self.contents.append(found)
        at = self.size + 1
        while not self.ended and (at := data.find(_MARK, at)) >= 0:
            if _content(view, at) is not None:
                raise DamagedLog(
                    f"the log of pushed events {name} is damaged: what is at byte {self.size} is "
                    f"no record of it, and there is one at byte {at}; put the file back from a copy"
                )
            at += 1
        if not self.ended and not _torn(view, self.size):
            raise DamagedLog(
                f"the log of pushed events {name} is damaged: its last record, at byte "
                f"{self.size}, is not as it was written; put the file back from a copy, or cut it "
                f"to {self.size} bytes if that push may be lost"
            )

    @property
    def schema(self) -> Any:
        """The Arrow schema of the rows; None if the journal does not hold even that."""
        import pyarrow as pa

        return pa.ipc.read_schema(pa.py_buffer(self.contents[0])) if self.contents else None

    @property
    def claims(self) -> list[str]:
        """The claims of the pushes that have one."""
        import pyarrow as pa

        if not self.contents:
            return []
        found = claims_in(self.schema)
        with pa.ipc.open_stream(pa.py_buffer(b"".join(self.contents))) as stream:
            for _ in self.contents[1:]:
                about = stream.read_next_batch_with_custom_metadata().custom_metadata
                if about is not None and CLAIM in about:
                    found.append(about[CLAIM].decode())
        return found

    @property
    def table(self) -> Any:
        """The rows as an Arrow table; None if there are none."""
        import pyarrow as pa

        if len(self.contents) < 2:
            return None
        with pa.ipc.open_stream(pa.py_buffer(b"".join(self.contents))) as stream:
            return stream.read_all().combine_chunks()


def claims_in(schema: Any) -> list[str]:
    """The claims that stand in the metadata of an Arrow schema."""
    held: bytes = (schema.metadata or {}).get(CLAIMS, b"")
    return held.decode().split()


def with_claims(table: Any, claims: Sequence[str]) -> Any:
    """The table, whose schema has these claims in its metadata and nothing else."""
    return table.replace_schema_metadata({CLAIMS: " ".join(claims)} if claims else None)


def read(path: str | Path) -> Read:
    """The journal at `path`."""
    with open(path, "rb") as file:  # noqa: PTH123
        return Read(file.read(), os.path.basename(path))  # noqa: PTH119


def has_ended(path: Path) -> bool:
    """Whether the journal has ended, which its last record says."""
    with path.open("rb") as file:
        at = max(0, file.seek(0, os.SEEK_END) - _FRONT)
        file.seek(at)
        last = file.read()
    return last == record(b"", at)


def end(path: Path) -> Read:
    """End a journal, so that nobody appends to it any more; returns what it holds."""
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
    try:
        with _locked(file):
            found = Read(_all(file), path.name)
            if not found.ended:
                # A push that never returned leaves nothing.
                os.ftruncate(file, found.size)
                os.write(file, record(b"", found.size))
    finally:
        os.close(file)
    return found


def discard(path: Path) -> None:
    """Remove a journal that holds no rows because its maker died as it began."""
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        with _locked(file):
            if Read(_all(file), path.name).table is None:
                path.unlink()
    finally:
        os.close(file)


def encoded(table: Any) -> bytes:
    """The rows as an ended journal."""
    schema, parts, at = table.schema, [], 0
    for content in (schema.serialize(), *(b.serialize() for b in table.to_batches()), b""):
        parts.append(record(memoryview(content), at))
        at += len(parts[-1])
    return b"".join(parts)


def _all(file: int) -> bytes:
    parts, at = [], 0
    while part := os.pread(file, _READ, at):
        parts.append(part)
        at += len(part)
    return b"".join(parts)


@contextlib.contextmanager
def _locked(file: int) -> Iterator[None]:
    """Hold the lock of a journal. Its maker holds it for one write only, so BlockingIOError means
    that the maker died and a process that it forked still holds the lock."""
    if not lock(file, wait_s=_PATIENCE_S, every_s=_POLL_S):
        raise BlockingIOError(errno.EWOULDBLOCK, "another process holds the lock of a journal")
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _claimed(batch: Any, claim: str) -> memoryview:
    """The bytes of a batch with its claim in its metadata."""
    import pyarrow as pa

    made = pa.BufferOutputStream()
    with pa.ipc.new_stream(made, batch.schema) as stream:
        stream.write_batch(batch, custom_metadata={CLAIM: claim})
    first = len(batch.schema.serialize())
    return memoryview(made.getvalue())[first : -len(_END)]


class Journal:
    """A new journal; its first push makes the file."""

    def __init__(self, path: str, schema: Any) -> None:
        self._file = -1
        self.path, self.schema = path, schema
        self.pushes = self.size = 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        try:
            try:
                self._file = opened(path, flags)
            except FileNotFoundError:
                make_folder(Path(path).parent)
                self._file = opened(path, flags)
        except OSError as error:
            raise unwritten(path, error) from error

    def append(self, batch: Any, claim: str | None = None) -> bool:
        """Add a push, an Arrow RecordBatch of the schema, so that it survives a power failure. Its
        claim stands beside it. Returns False, and adds nothing, if the journal is not as it was
        left, or if another process holds its lock for long.

        If it raises, nothing is added either, and the journal must not be used any more.
        """
        file, size = self._file, self.size
        content = batch.serialize() if claim is None else _claimed(batch, claim)
        try:
            mine = lock(file, wait_s=_PATIENCE_S, every_s=_POLL_S)
        except OSError:
            if not size:
                os.unlink(self.path)  # noqa: PTH108
            raise
        if not mine:  # whoever ends it was stopped in the middle of that
            return False
        try:
            if not self._as_left():
                return False
            if size:
                data = record(content, size)
            else:
                first = record(self.schema.serialize(), 0)
                data = first + record(content, len(first))
            try:
                written = os.write(file, data)
                while written < len(data):  # the next write raises the reason
                    written += os.write(file, memoryview(data)[written:])
                _sync(file)
                if not size:
                    sync_folder(os.path.dirname(self.path))  # noqa: PTH120
            except BaseException as error:
                with contextlib.suppress(OSError):  # the first error is the one to report
                    os.ftruncate(file, size)
                    if not size:
                        os.unlink(self.path)  # noqa: PTH108
                if isinstance(error, OSError):
                    raise unwritten(self.path, error) from error
                raise
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)
        self.size = size + len(data)
        self.pushes += 1
        return True

    def _as_left(self) -> bool:
        """Whether the file is still in its place and has the length that this process left."""
        found = os.fstat(self._file)
        try:
            there = os.stat(self.path)  # noqa: PTH116
        except FileNotFoundError:
            return False
        same = found.st_dev == there.st_dev and found.st_ino == there.st_ino
        return same and found.st_size == self.size

    def end(self) -> None:
        """End the journal and close the file. If the end cannot be written, the journal stays like
        one whose maker has died."""
        with contextlib.suppress(OSError, SourceError):
            end(Path(self.path))
        self.close()

    def close(self) -> None:
        """Close the file, which stays as it is."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            self.close()
