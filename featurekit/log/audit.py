"""Turns what was done to a project into lines of a file that only grows, and that file into entries
and the places where it is not as it was written.

A line is `SHA-256 JSON`, and the JSON has its number and the SHA-256 of the line before. So a line
that was changed, removed or put in breaks the chain. How far the chain had come stands in a file
beside it, the head, which tells that an end was cut off. Whoever may write both files can write a
chain of his own: a head that is kept elsewhere tells that, too.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

from featurekit.core.files import lock, sync_folder, unwritten, write_whole
from featurekit.core.openness import make_folder, opened
from featurekit.errors import WriteError

NOTHING = "0" * 64
"""What stands in the first entry for the line before it."""
_POLL_S, _PATIENCE_S = 0.005, 10.0
_TAIL = 1 << 13
_MOST = 50
"""The number of faults that are told."""


@dataclass(frozen=True, slots=True)
class Head:
    """A place in the chain: the number of an entry, and its hash."""

    number: int
    hash: str

    def __str__(self) -> str:
        return f"{self.number}:{self.hash}"

    @classmethod
    def read(cls, text: str) -> Head:
        """The head that `str` wrote. ValueError where it is none."""
        number, _, hash_ = text.strip().partition(":")
        if not (number.isascii() and number.isdigit()) or not _is_hash(hash_):
            raise ValueError("it is no number of an entry with its hash")
        return cls(int(number), hash_)


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the log: what `step` of a verb was taken when, by whom; `about` says with what."""

    number: int
    at: str
    who: str
    host: str
    pid: int
    verb: str
    step: str
    about: Mapping[str, Any]
    before: str
    hash: str

    @property
    def head(self) -> Head:
        """The entry's place in the chain."""
        return Head(self.number, self.hash)


@dataclass(frozen=True, slots=True)
class Fault:
    """A place where the log is not as it was written: its line and byte, and what is wrong."""

    line: int
    byte: int
    what: str


_START = Head(0, NOTHING)
_KINDS = [int, str, str, str, int, str, str, dict, str, str]
"""The types of an entry's fields."""


def _is_hash(text: str) -> bool:
    return len(text) == len(NOTHING) and not set(text) - set("0123456789abcdef")


def _line(entry: Mapping[str, Any]) -> tuple[bytes, str]:
    data = json.dumps(entry, separators=(",", ":")).encode("ascii")
    hash_ = hashlib.sha256(data).hexdigest()
    return b"%b %b\n" % (hash_.encode(), data), hash_


def _parsed(line: bytes) -> Entry | None:
    """The entry of a line without its end; None where it is not as it was written."""
    hash_, _, data = line.partition(b" ")
    if hashlib.sha256(data).hexdigest().encode() != hash_:
        return None
    try:
        made = Entry(**json.loads(data), hash=hash_.decode())
        dt.datetime.fromisoformat(made.at)
        kinds = [type(getattr(made, name)) for name in made.__slots__]
    except (ValueError, TypeError):  # somebody wrote it who knows how a hash is made
        return None
    return made if kinds == _KINDS else None


class AuditLog:
    """The log in the file `path`, which the first entry makes."""

    def __init__(self, path: Path) -> None:
        self.path, self.head_path = path, path.with_suffix(".head")

    def append(self, said: Mapping[str, Any]) -> Head:
        """Add an entry, so that it survives a power failure; `said` has its fields from `at` to
        `about`. Processes take turns.

        An end that a dying process left half written is replaced. WriteError, with nothing added,
        where the entry cannot be written.
        """
        file = -1
        try:
            file = self._opened()
            if not lock(file, wait_s=_PATIENCE_S, every_s=_POLL_S):
                raise WriteError(
                    f"{self.path} is held by another process, which has been writing to it for "
                    f"{_PATIENCE_S:g} s; a write takes milliseconds, so that process may be "
                    f"stopped: `fuser {self.path}` shows it. Let it go on, or end it"
                )
            return self._append(file, said)
        except OSError as error:
            if isinstance(error, WriteError):
                raise
            made = unwritten(self.path, error)
            if made is error:
                reason = error.strerror or "an error"
                made = WriteError(f"{self.path} cannot be written: {reason}")
            raise made from error
        finally:
            if file >= 0:
                os.close(file)

    def _opened(self) -> int:
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
        try:
            return os.open(self.path, flags)
        except FileNotFoundError:
            make_folder(self.path.parent)
            return opened(self.path, flags | os.O_CREAT)

    def _append(self, file: int, said: Mapping[str, Any]) -> Head:
        size = os.fstat(file).st_size
        last, end = _last(file, size)
        head, made = self.head(), _START
        if head is None and not size:
            self._keep(_START)
        elif head is None:
            # Without this entry nobody could tell any more that an end may be gone.
            said = {**said, "about": {**said["about"], "head": "it was not there"}}
        known = [place for place in (head, last) if place is not None]
        # Where an end was cut off, the chain goes on from what it had, and verifying tells the gap.
        before = max(known, key=lambda place: place.number, default=_START)
        data, hash_ = _line({"number": before.number + 1, **said, "before": before.hash})
        if end < size and (last or _START) == before:
            os.ftruncate(file, end)  # it never was an entry
            size = end
        elif end < size:
            data = b"\n" + data
        try:
            written = os.write(file, data)
            while written < len(data):  # the next write raises the reason
                written += os.write(file, memoryview(data)[written:])
            os.fsync(file)
            if not size:
                sync_folder(os.fspath(self.path.parent))
            made = Head(before.number + 1, hash_)
            self._keep(made)
        except BaseException:
            with suppress(OSError):  # the first error is the one to report
                if made == _START or self.head() != made:
                    os.ftruncate(file, size)
            raise
        return made

    def head(self) -> Head | None:
        """How far the chain had come, by the file beside it; None where that is absent or
        damaged."""
        try:
            text, _, check = self.head_path.read_bytes().strip().rpartition(b" ")
            return Head.read(text.decode("ascii")) if check == b"%08x" % crc32(text) else None
        except (FileNotFoundError, ValueError):
            return None

    def _keep(self, head: Head) -> None:
        text = str(head).encode()
        write_whole(self.head_path, b"%b %08x\n" % (text, crc32(text)))

    def entries(self, kept: Sequence[Head] = ()) -> Iterator[Entry | Fault]:
        """Every entry in order, and each fault where it is found; those of the end come last.

        `kept` are heads that were kept elsewhere. No more than some faults are told. Entries that
        are added meanwhile may be left out.
        """
        head, told = self.head(), 0
        for found in _checked(self.path, head, kept):
            told += isinstance(found, Fault)
            if told <= _MOST or isinstance(found, Entry):
                yield found


def _last(file: int, size: int) -> tuple[Head | None, int]:
    """The last whole line's place in the chain, None where that cannot be read or there is none;
    and the byte at which whole lines end."""
    step = _TAIL
    while True:
        at = max(0, size - step)
        data = os.pread(file, size - at, at)
        end = data.rfind(b"\n")
        begin = data.rfind(b"\n", 0, max(end, 0))
        if at == 0 or (end >= 0 and begin >= 0):
            entry = _parsed(data[begin + 1 : end]) if end >= 0 else None
            return (None if entry is None else entry.head), at + end + 1
        step *= 8


def _checked(path: Path, head: Head | None, kept: Sequence[Head]) -> Iterator[Entry | Fault]:
    wanted = {place.number: place for place in (*kept, *([head] if head else []))}
    reading = _Reading()
    try:
        # The head was read before: a line that is half written now is none that it knows.
        with path.open("rb") as file:
            for line in file:
                yield from reading.take(line, head)
                entry = reading.entry
                place = None if entry is None else wanted.get(entry.number)
                if entry is not None and place is not None and place.hash != entry.hash:
                    yield reading.fault(
                        f"entry {place.number} is another one than the head that was kept says"
                    )
    except FileNotFoundError:
        pass
    if head is None and reading.byte:
        yield reading.fault(
            f"{path.with_suffix('.head').name} is missing or damaged, so nobody knows whether "
            "entries are missing here, at the end"
        )
    last = max(wanted, default=0)
    if last > reading.number:
        yield reading.fault(
            f"the end is cut off: {_numbers(reading.number + 1, last)} "
            f"{'is' if last == reading.number + 1 else 'are'} missing"
        )


class _Reading:
    """The lines of a log, read one after the other: where the last one stands and what it is."""

    def __init__(self) -> None:
        self.line, self.byte, self.number = 0, 0, 0
        self.before: str | None = NOTHING
        self.entry: Entry | None = None

    def fault(self, what: str) -> Fault:
        return Fault(self.line, self.byte, what)

    def take(self, line: bytes, head: Head | None) -> Iterator[Entry | Fault]:
        """What the next line is."""
        self.line += 1
        whole = line.endswith(b"\n")
        self.entry = entry = _parsed(line[:-1]) if whole else None
        wanted = self.number + 1
        if entry is None:
            if whole or (head is not None and head.number >= wanted):
                yield self.fault(f"what stands where entry {wanted} should be was changed")
                self.number, self.before = wanted, None
        elif entry.number < wanted:
            yield self.fault(
                f"entry {entry.number} stands here behind entry {self.number}: this line, or one "
                "before it, was put in"
            )
            self.entry = None
        else:
            if entry.number > wanted:
                yield self.fault(f"{_numbers(wanted, entry.number - 1)} were removed here")
            elif self.before is not None and entry.before != self.before:
                yield self.fault(
                    f"entry {entry.number} was made behind another entry {wanted - 1} than the one "
                    "before it: one of the two was changed or put in"
                )
            yield entry
            self.number, self.before = entry.number, entry.hash
        self.byte += len(line)


def _numbers(first: int, last: int) -> str:
    return f"entry {first}" if first == last else f"entries {first} to {last}"
