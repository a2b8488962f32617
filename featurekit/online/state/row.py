"""The most common state, a single latest row, as bytes of a fixed layout.

    version, flags: a byte each
    event_timestamp, created_timestamp of the row: 8 bytes each, microseconds
    the newest arrival, 8 bytes, only with FLAG_NEWEST: without it, it is the row's own
    the first visible instant, 8 bytes, only with FLAG_FIRST: for a source with an event_id alone
    a bit for each slot that is None, only with FLAG_NONE
    a value for each slot, in the form of its type (`codec.FORMATS`); of a text, its length in bytes
    the texts, one after the other

One struct reads it. Rows without flags have one layout, so that many are read as columns. What such
a state means is defined in `state`.
"""

from __future__ import annotations

import datetime as dt
import math
import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from featurekit.core.kept import Kept
from featurekit.core.types import EPOCH, MICROSECOND
from featurekit.core.values import ERROR
from featurekit.define.plan import View
from featurekit.online.state.codec import EPOCH_DAY, FORMATS

VERSION = 3
FLAG_NEWEST, FLAG_FIRST, FLAG_NONE = 1, 2, 4
HEAD = struct.Struct("<BBqq")  # version, flags, event_timestamp, created_timestamp
_INSTANT = struct.Struct("<q")

_PLAIN = ("int", "float", "bool")
_TEXT = ("str", "bytes")
_NUMPY = {"q": "<i8", "d": "<f8", "?": "?"}
_TO_NUMBER: dict[str, Callable[[Any], int]] = {
    "datetime": lambda v: (v - EPOCH) // MICROSECOND,
    "timedelta": lambda v: v // MICROSECOND,
    "date": lambda v: v.toordinal() - EPOCH_DAY,
}
_FROM_NUMBER: dict[str, Callable[[int], Any]] = {
    "datetime": lambda v: EPOCH + v * MICROSECOND,
    "timedelta": lambda v: v * MICROSECOND,
    "date": lambda v: dt.date.fromordinal(v + EPOCH_DAY),
}


class OneRow(NamedTuple):
    """A state of one row; `first` is None where the first visible instant is the row's own."""

    ts: int
    created: int
    newest: int
    first: int | None
    values: Sequence[Any]


class RowForm:
    """The layout of a view's rows."""

    def __init__(self, view: View) -> None:
        names = [slot.type.name for slot in view.slots]
        self.codes = "".join(FORMATS.get(name, "I") for name in names)
        self.slots = len(names)
        # A whole row without flags and texts; the result of `unpack` begins with HEAD's fields.
        self.whole = struct.Struct(HEAD.format + self.codes)
        self.texts = [i for i, name in enumerate(names) if name in _TEXT]
        self.plain = all(name in _PLAIN for name in names)
        self._strings = [i for i, name in enumerate(names) if name == "str"]
        self._made = [(i, name) for i, name in enumerate(names) if name in _FROM_NUMBER]
        self._values = struct.Struct("<" + self.codes)
        self._marks = (len(names) + 7) // 8

    def numpy(self) -> Any:
        """The NumPy type of a row without flags and texts; slot i is its field "fi"."""
        import numpy as np

        fields = [(f"f{i}", _NUMPY[code]) for i, code in enumerate(self.codes)]
        return np.dtype([("head", f"V{HEAD.size}"), *fields])

    def encode(
        self, ts: int, created: int, newest: int, first: int | None, values: Sequence[Any]
    ) -> bytes | None:
        """The bytes of a row; None for a row with a value that errs."""
        if ERROR in values:
            return None
        flags, more = 0, b""
        if newest != created:
            flags, more = FLAG_NEWEST, _INSTANT.pack(newest)
        if first is not None:
            flags, more = flags | FLAG_FIRST, more + _INSTANT.pack(first)
        # Every NaN is written as one NaN, so that equal rows have equal bytes.
        given: list[Any] = [math.nan if v != v else v for v in values]
        if None in given:
            marks = sum(1 << i for i, v in enumerate(given) if v is None)
            flags, more = flags | FLAG_NONE, more + marks.to_bytes(self._marks, "little")
        for i, name in self._made:
            if given[i] is not None:
                given[i] = _TO_NUMBER[name](given[i])
        texts = []
        for i in self.texts:
            text = given[i] or b""
            texts.append(text.encode() if isinstance(text, str) else text)
            given[i] = len(texts[-1])
        if flags & FLAG_NONE:
            given = [0 if v is None else v for v in given]
        head = HEAD.pack(VERSION, flags, ts, created)
        return b"".join((head, more, self._values.pack(*given), *texts))

    def decode(self, blob: bytes) -> OneRow:
        """The row that `encode` wrote."""
        _, flags, ts, created = HEAD.unpack_from(blob)
        at, newest, first, marks = HEAD.size, created, None, 0
        if flags & FLAG_NEWEST:
            (newest,) = _INSTANT.unpack_from(blob, at)
            at += 8
        if flags & FLAG_FIRST:
            (first,) = _INSTANT.unpack_from(blob, at)
            at += 8
        if flags & FLAG_NONE:
            marks = int.from_bytes(blob[at : at + self._marks], "little")
            at += self._marks
        values: Any = self._values.unpack_from(blob, at)
        if marks or self.texts or self._made:
            values = self._finished(list(values), marks, blob, at + self._values.size)
        return OneRow(ts, created, newest, first, values)

    def _finished(self, values: list[Any], marks: int, blob: bytes, at: int) -> list[Any]:
        """The Python values, from the numbers that stand for them; texts begin at `at`."""
        for i in self.texts:
            end = at + values[i]
            values[i] = blob[at:end]
            at = end
        for i in self._strings:
            values[i] = values[i].decode()
        for i, name in self._made:
            values[i] = _FROM_NUMBER[name](values[i])
        while marks:
            low = marks & -marks
            values[low.bit_length() - 1] = None
            marks ^= low
        return values


def newest_of(blob: bytes) -> int:
    """The newest arrival that a state of one row has taken."""
    at = HEAD.size if blob[1] & FLAG_NEWEST else HEAD.size - 8
    newest: int = _INSTANT.unpack_from(blob, at)[0]
    return newest


def with_newest(blob: bytes, newest: int) -> bytes:
    """The state of one row whose newest arrival is `newest`."""
    _, flags, _, created = HEAD.unpack_from(blob)
    rest = blob[HEAD.size + (8 if flags & FLAG_NEWEST else 0) :]
    head = blob[: HEAD.size]
    if newest == created:
        return head[:1] + bytes((flags & ~FLAG_NEWEST,)) + head[2:] + rest
    return head[:1] + bytes((flags | FLAG_NEWEST,)) + head[2:] + _INSTANT.pack(newest) + rest


def _row_form(view: View) -> RowForm | None:
    names = {slot.type.name for slot in view.slots}
    fits = view.kind == "latest" and view.source.op is None and names <= {*FORMATS, *_TEXT}
    return RowForm(view) if fits else None


row_form = Kept(_row_form)
"""The layout of the view's rows; None for a view of windows, of corrections or of lists."""
