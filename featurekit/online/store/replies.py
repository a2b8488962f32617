"""Turns commands into bytes, and the reply to MGET into values.

To make an object for each key and each value of many entities takes longer than Redis does. So keys
that differ only in their ends are written by one join. Values of one size stay in the bytes of the
reply, as a `Run`, until someone asks for them.
"""

from __future__ import annotations

import functools
import itertools
import struct
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import hiredis

from featurekit.online.store.notes import read_clock

Values = Sequence[bytes | None]
_T = TypeVar("_T")

_LINE = 32
"""More than the bytes of a header: the kind, a length and the end of the line."""
_KEPT = 256
"""The header and prefix of a key are kept for ends shorter than this."""
_FEW = 16
"""Fewer arguments than this are written one by one."""


class NotPlain(Exception):
    """The reply is not the array of strings that was asked for."""


class _Lazy(Sequence[Any]):
    """A sequence that makes a list where an item or a slice is asked for."""

    __slots__ = ()

    def __getitem__(self, place: Any) -> Any:
        return list(self)[place]


# --- commands -------------------------------------------------------------------------------------


def arguments(values: Sequence[bytes]) -> bytes:
    """The bytes that are sent for a command's arguments."""
    if len(values) < _FEW:
        return b"".join([b"$%d\r\n%b\r\n" % (len(value), value) for value in values])
    sizes = list(map(len, values))
    heads = {size: b"\r\n$%d\r\n" % size for size in set(sizes)}
    parts: list[bytes] = [b""] * (2 * len(sizes))
    parts[::2] = map(heads.__getitem__, sizes)
    parts[1::2] = values
    parts[0] = parts[0][2:]
    parts.append(b"\r\n")
    return b"".join(parts)


def command(*values: bytes) -> bytes:
    """The bytes that are sent for a command."""
    return b"*%d\r\n%b" % (len(values), arguments(values))


def command_on(name: bytes, n: int, sent: bytes) -> bytes:
    """The bytes that are sent for a command on `n` keys; `sent` has the bytes for the keys."""
    return b"*%d\r\n$%d\r\n%b\r\n%b" % (n + 1, len(name), name, sent)


def mget(keys: Sequence[bytes]) -> bytes:
    """The bytes that are sent for MGET."""
    return command_on(b"MGET", len(keys), keys.sent if type(keys) is Keys else arguments(keys))


_TIME = command(b"TIME")
_TWO = b"*2\r\n"
_SHORT = 128


# --- keys -----------------------------------------------------------------------------------------


class Heads(dict[int, bytes]):
    """The bytes that are sent before the end of a key that begins with `prefix`, by the length of
    the end."""

    def __init__(self, prefix: bytes) -> None:
        super().__init__()
        self.prefix = prefix

    def __missing__(self, size: int) -> bytes:
        made = b"$%d\r\n%b" % (len(self.prefix) + size, self.prefix)
        if size < _KEPT:
            self[size] = made
        return made

    def sent(self, ends: Ends) -> bytes:
        """The bytes that are sent for the keys with these ends."""
        parts = [b""] * (2 * len(ends.sizes))
        parts[0::2], parts[1::2] = map(self.__getitem__, ends.sizes), ends.closed
        return b"".join(parts)


class Ends:
    """The ends of keys, made ready to be sent after several prefixes."""

    __slots__ = ("closed", "plain", "sizes")

    def __init__(self, plain: Sequence[bytes]) -> None:
        self.plain = plain
        self.sizes = list(map(len, plain))
        self.closed = [end + b"\r\n" for end in plain]


class Keys(_Lazy):
    """`firsts` keys, followed by one or more groups of `each` keys, two or more; `sent` has the
    bytes that are sent for all, and `groups_of` the prefix and the ends of each group's keys. They
    are `plain` where all values are read as columns, however many there are."""

    __slots__ = ("_n", "each", "firsts", "groups_of", "plain", "sent")

    def __init__(
        self,
        sent: bytes,
        n: int,
        each: int,
        groups_of: Sequence[tuple[bytes, Sequence[bytes]]] = (),
        *,
        firsts: int,
        plain: bool = True,
    ) -> None:
        self.sent, self._n, self.each, self.groups_of = sent, n, each, groups_of
        self.firsts, self.plain = firsts, plain

    def __len__(self) -> int:
        return self._n

    def __iter__(self) -> Iterator[bytes]:
        at = 0
        for _ in range(self._n):
            begin = self.sent.index(b"\r\n", at) + 2
            end = begin + int(self.sent[at + 1 : begin])
            yield self.sent[begin:end]
            at = end + 2

    def groups(self, values: Values) -> list[Values]:
        """The values of each group."""
        if type(values) is Grouped:
            return values.groups
        begins = range(self.firsts, self._n, self.each)
        return [values[begin : begin + self.each] for begin in begins]


# --- values ---------------------------------------------------------------------------------------


class Run(_Lazy):
    """Values of one size that lie in `data`, one every `stride` bytes from `at` on. In each stride
    the value follows the first `before` bytes."""

    __slots__ = ("_n", "at", "before", "data", "size", "stride")

    def __init__(self, data: bytes, at: int, n: int, size: int, before: int, stride: int) -> None:
        self.data, self.at, self._n = data, at, n
        self.size, self.before, self.stride = size, before, stride

    def __len__(self) -> int:
        return self._n

    def __iter__(self) -> Iterator[bytes]:
        read = _one_of(self.before, self.size, self.stride)
        here = memoryview(self.data)[self.at : self.at + self._n * self.stride]
        return iter([value for (value,) in read.iter_unpack(here)])


@functools.lru_cache(maxsize=256)
def _one_of(before: int, size: int, stride: int) -> struct.Struct:
    """A struct that reads the value of one stride."""
    return struct.Struct(f"{before}x{size}s{stride - before - size}x")


class Grouped(_Lazy):
    """The values of `Keys`: those before the groups, and those of each group."""

    __slots__ = ("firsts", "groups")

    def __init__(self, firsts: Sequence[bytes | None], groups: list[Values]) -> None:
        self.firsts, self.groups = firsts, groups

    def __len__(self) -> int:
        return len(self.firsts) + sum(map(len, self.groups))

    def __iter__(self) -> Iterator[bytes | None]:
        return itertools.chain(self.firsts, *self.groups)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, int) and 0 <= place < len(self.firsts):
            return self.firsts[place]
        return super().__getitem__(place)


@dataclass(slots=True)
class Question(Generic[_T]):
    """Commands that are sent together, as `sent`; `receiver` makes a function that is given the
    bytes of the replies as they come, and returns None until they are whole. `whole` reads the
    `replies` of this number where they were read by someone else."""

    sent: bytes
    receiver: Callable[[], Callable[[bytes], _T | None]]
    replies: int
    whole: Callable[[list[Any]], _T]


def values_of(keys: Sequence[bytes]) -> Question[Values]:
    """What is asked for the values of `keys`: MGET."""
    return Question(mget(keys), lambda: receiver(keys), 1, lambda replies: replies[0])


@functools.lru_cache(maxsize=256)
def _asking(clock: bytes) -> bytes:
    return _TIME + command(b"GET", clock)


ValuesAt = tuple[Values, int, int]
"""Values, the server's time, and the last stamp: 0 where there is none."""


def values_at(keys: Sequence[bytes], clock: bytes) -> Question[ValuesAt]:
    """What is asked for the time, the last stamp under `clock`, and then the values of `keys`:
    TIME, GET, and MGET if there are keys."""
    sent = _asking(clock) + mget(keys) if keys else _asking(clock)
    return Question(sent, lambda: _receiver_at(keys), 3 if keys else 2, whole_at)


def whole_at(replies: list[Any]) -> ValuesAt:
    """The answer to `values_at`, from the replies to its commands."""
    (seconds, micros), last, *values = replies
    time = int(seconds) * 1_000_000 + int(micros)
    return values[0] if values else [], time, read_clock(last)


def _receiver_at(keys: Sequence[bytes]) -> Callable[[bytes], ValuesAt | None]:
    receive = receiver(keys) if keys else None
    waiting = b""
    known: tuple[int, int] | None = None

    def take(data: bytes) -> ValuesAt | None:
        nonlocal waiting, known
        if known is None:
            waiting += data
            head = _clock_of(waiting)
            if head is None:
                return None
            time, last, data = head
            known = time, last
            if receive is None:
                if data:
                    raise NotPlain
                return [], time, last
            if not data:
                return None
        assert receive is not None
        values = receive(data)
        return None if values is None else (values, *known)

    return take


def _clock_of(data: bytes) -> tuple[int, int, bytes] | None:
    """The time and the last stamp in the replies to TIME and GET, and what follows; None where they
    are not whole."""
    if not _TWO.startswith(data[: len(_TWO)]):
        raise NotPlain
    # Both are short, and what follows may be long: it is copied once.
    parts = data[:_SHORT].split(b"\r\n", 7)
    if len(parts) < 8 and len(data) > _SHORT:
        parts = data.split(b"\r\n", 7)
    if len(parts) < 7:
        return None
    lines, last = 6, b"0"
    if parts[5] not in (b"$-1", b"_"):
        if len(parts) < 8:
            return None
        lines, last = 7, parts[6]
    try:
        # A last stamp that is no number is as one that cannot be right: it is not believed.
        stamp = int(last) if last.isdigit() else 0
        rest = data[sum(map(len, parts[:lines])) + 2 * lines :]
        return int(parts[2]) * 1_000_000 + int(parts[4]), stamp, rest
    except ValueError:
        raise NotPlain from None


def receiver(keys: Sequence[bytes]) -> Callable[[bytes], Values | None]:
    """A function that is given the bytes of the reply to MGET of `keys` as they come.

    It returns None until the reply is whole, and then the values: a `Grouped` for `Keys`, else a
    list. It raises NotPlain where the reply is not an array of as many strings and nulls.
    """
    if type(keys) is Keys:
        return _group_receiver(len(keys), keys.each, keys.firsts)
    return _plain_receiver(len(keys))


def _plain_receiver(n: int) -> Callable[[bytes], Values | None]:
    parser = hiredis.Reader()

    def receive(data: bytes) -> Values | None:
        parser.feed(data)
        try:
            found: Any = parser.gets()
        except hiredis.ProtocolError:
            raise NotPlain from None
        if found is False:
            return None
        if type(found) is not list or len(found) != n or parser.has_data():
            raise NotPlain
        return found

    return receive


def _group_receiver(n: int, each: int, firsts: int) -> Callable[[bytes], Values | None]:
    steps = _grouped_reply(n, each, firsts)
    next(steps)

    def receive(data: bytes) -> Values | None:
        try:
            steps.send(data)
        except StopIteration as done:
            found: Values = done.value
            return found
        return None

    return receive


def _grouped_reply(n: int, each: int, firsts: int) -> Generator[None, bytes, Grouped]:
    """The values in the reply to MGET of `firsts` keys and then groups of `each`, `n` keys in all.
    The bytes of the reply are sent in as they come."""
    data = yield
    head = b"*%d\r\n" % n
    while len(data) < len(head) and head.startswith(data):
        data += yield
    if not data.startswith(head):
        raise NotPlain
    at = len(head)
    found: list[Any] = []
    known = b"?"  # the header of the last value, and of the next one where the sizes are equal
    size, left, grouped = 0, n, n - firsts
    while left:
        if not data.startswith(known, at):
            end = data.find(b"\r\n", at, at + _LINE)
            while end < 0:
                if len(data) - at > _LINE:
                    raise NotPlain
                data = data[at:] + (yield)
                at, end = 0, data.find(b"\r\n", 0, _LINE)
            line = data[at:end]
            if line in (b"$-1", b"_"):
                found.append(None)
                at = end + 2
                left -= 1
                continue
            if line[:1] != b"$" or not line[1:].isdigit():
                raise NotPlain
            known, size = data[at : end + 2], int(line[1:])
        begin = at + len(known)
        if left <= grouped and left % each == 0:
            stride = len(known) + size + 2
            data, at, alike = yield from _alike(data, at, known, stride, each)
            if alike:
                found.append(Run(data, at, each, size, len(known), stride))
                at += each * stride
                left -= each
                continue
            begin = at + len(known)
        end = begin + size
        if len(data) < end + 2:
            parts, have, wanted = [data[begin:]], len(data) - begin, size + 2
            while have < wanted:
                parts.append((yield))
                have += len(parts[-1])
            data, begin, end = b"".join(parts), 0, size
        found.append(data[begin:end])
        at = end + 2
        left -= 1
    if at != len(data):
        raise NotPlain
    return _grouped(found, each, n - grouped)


def _alike(
    data: bytes, at: int, header: bytes, stride: int, n: int
) -> Generator[None, bytes, tuple[bytes, int, bool]]:
    """Whether the next `n` values, from `at` on, all have this header. It also gives the bytes that
    have come by then, and where the first of these values begins in them."""
    while True:
        here = min(n, (len(data) - at) // stride)
        end = at + here * stride
        for k, byte in enumerate(header):
            if data[at + k : end : stride].count(byte) != here:
                return data, at, False
        if here == n:
            return data, at, True
        if not header.startswith(data[end : end + len(header)]):
            return data, at, False
        parts = [data[at:], (yield)]
        while parts[-1][-1:] != b"\n":  # the end of a value, and of the reply
            parts.append((yield))
        data, at = b"".join(parts), 0


def _grouped(found: list[Any], each: int, firsts: int) -> Grouped:
    """Values and runs, put into groups."""
    groups: list[Values] = []
    at = firsts
    while at < len(found):
        if type(found[at]) is Run:
            groups.append(found[at])
            at += 1
        else:
            groups.append(found[at : at + each])
            at += each
    return Grouped(found[:firsts], groups)
