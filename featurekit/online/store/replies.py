"""Commands as they are sent, and the values in a reply to MGET.

To make an object for each key and each value of many entities takes longer than Redis does. So keys
that differ in their ends alone are written by one join, and values of one size stay where they lie
in the reply, a `Run`, until someone asks for them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import hiredis

Values = Sequence[bytes | None]

_LINE = 32
"""More than a header's bytes: the kind, a length, the end of the line."""
_KEPT = 256
"""What stands before ends shorter than this is kept."""


class NotPlain(Exception):
    """The reply is not the array of strings that was asked for."""


class _Lazy(Sequence[Any]):
    """A sequence that is made a list where one place or some are asked for."""

    __slots__ = ()

    def __getitem__(self, place: Any) -> Any:
        return list(self)[place]


# --- commands -------------------------------------------------------------------------------------


def arguments(values: Sequence[bytes]) -> bytes:
    """Arguments of a command as they are sent."""
    return b"".join([b"$%d\r\n%b\r\n" % (len(value), value) for value in values])


def command(*values: bytes) -> bytes:
    """A command as it is sent."""
    return b"*%d\r\n%b" % (len(values), arguments(values))


def command_on(name: bytes, n: int, sent: bytes) -> bytes:
    """A command on `n` keys, which are given as they are sent."""
    return b"*%d\r\n$%d\r\n%b\r\n%b" % (n + 1, len(name), name, sent)


def mget(keys: Sequence[bytes]) -> bytes:
    """MGET as it is sent."""
    return command_on(b"MGET", len(keys), keys.sent if type(keys) is Keys else arguments(keys))


# --- keys -----------------------------------------------------------------------------------------


class Heads(dict[int, bytes]):
    """Of the keys `prefix{length:end}`, as they are sent: what stands before an end of a length."""

    def __init__(self, prefix: bytes) -> None:
        super().__init__()
        self.prefix = prefix

    def __missing__(self, size: int) -> bytes:
        key = b"%b{%d:" % (self.prefix, size)
        made = b"$%d\r\n%b" % (len(key) + size + 1, key)
        if size < _KEPT:
            self[size] = made
        return made

    def sent(self, ends: Sequence[bytes]) -> bytes:
        """The keys of some ends."""
        return b"}\r\n".join([self[len(end)] + end for end in ends]) + b"}\r\n"


class Keys(_Lazy):
    """One key, and after it groups of `each` keys, of which there may be several: `sent` are all of
    them as they are sent."""

    __slots__ = ("_n", "each", "sent")

    def __init__(self, sent: bytes, n: int, each: int) -> None:
        self.sent, self._n, self.each = sent, n, each

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
        return [values[first : first + self.each] for first in range(1, self._n, self.each)]


# --- values ---------------------------------------------------------------------------------------


class Run(_Lazy):
    """Values of one size that lie in `data` a `stride` apart: each with `before` bytes in front,
    the first of them at `at`, and the rest of the stride behind."""

    __slots__ = ("_n", "at", "before", "data", "size", "stride")

    def __init__(self, data: bytes, at: int, n: int, size: int, before: int, stride: int) -> None:
        self.data, self.at, self._n = data, at, n
        self.size, self.before, self.stride = size, before, stride

    def __len__(self) -> int:
        return self._n

    def __iter__(self) -> Iterator[bytes]:
        data, size, first = self.data, self.size, self.at + self.before
        for begin in range(first, first + self._n * self.stride, self.stride):
            yield data[begin : begin + size]


class Grouped(_Lazy):
    """The values of `Keys`: the first, and those of each group."""

    __slots__ = ("first", "groups")

    def __init__(self, first: bytes | None, groups: list[Values]) -> None:
        self.first, self.groups = first, groups

    def __len__(self) -> int:
        return 1 + sum(map(len, self.groups))

    def __iter__(self) -> Iterator[bytes | None]:
        return itertools.chain((self.first,), *self.groups)

    def __getitem__(self, place: Any) -> Any:
        return self.first if place == 0 else super().__getitem__(place)


def receiver(keys: Sequence[bytes]) -> Callable[[bytes], Values | None]:
    """What takes the bytes of the reply to MGET of `keys` as they come, and gives the values when
    they are all there: of `Keys` a `Grouped`. It raises NotPlain where they are no array of so many
    strings and nulls."""
    if type(keys) is Keys:
        return _group_receiver(len(keys), keys.each)
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


def _group_receiver(n: int, each: int) -> Callable[[bytes], Values | None]:
    steps = _grouped_reply(n, each)
    next(steps)

    def receive(data: bytes) -> Values | None:
        try:
            steps.send(data)
        except StopIteration as done:
            found: Values = done.value
            return found
        return None

    return receive


def _grouped_reply(n: int, each: int) -> Generator[None, bytes, Grouped]:
    """The values in the reply to MGET of one key and groups of `each`, `n` keys in all, whose bytes
    are sent in as they come."""
    data = yield
    head = b"*%d\r\n" % n
    while len(data) < len(head) and head.startswith(data):
        data += yield
    if not data.startswith(head):
        raise NotPlain
    at = len(head)
    found: list[Any] = []
    known = b"?"  # the header of the last value: that of the next, where states are of one size
    size, left = 0, n
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
        if left < n and left % each == 0:
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
    return _grouped(found, each)


def _alike(
    data: bytes, at: int, header: bytes, stride: int, n: int
) -> Generator[None, bytes, tuple[bytes, int, bool]]:
    """Whether from `at` on `n` values have this header; the bytes that there are by then, and where
    the first of them begins."""
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
        while parts[-1][-1:] != b"\n":  # the reply ends so
            parts.append((yield))
        data, at = b"".join(parts), 0


def _grouped(found: list[Any], each: int) -> Grouped:
    """Values and runs, group by group."""
    groups: list[Values] = []
    at = 1
    while at < len(found):
        if type(found[at]) is Run:
            groups.append(found[at])
            at += 1
        else:
            groups.append(found[at : at + each])
            at += each
    return Grouped(found[0], groups)
