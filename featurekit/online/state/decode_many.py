"""Turns the bytes of many states into columns of their events.

It is the inverse of `encode_many`. A column is gathered from all states at once, by the places of
its values in their joined bytes. So there is no work for each single row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow as pa

from featurekit.core.types import Type
from featurekit.define.plan import View
from featurekit.online.state import row
from featurekit.online.state.codec import ALL_ABSENT, ALL_PRESENT, FORMATS, MIXED
from featurekit.online.state.encode_many import Many
from featurekit.online.state.seal import BACK, FRONT, MARK, WHOLE
from featurekit.online.state.state import HEADER, VERSION

_WIDTHS = {"q": "<i8", "d": "<f8", "?": "u1", "i": "<i4"}
_TEXT = ("str", "bytes")
_LEAST = 32
"""The bytes behind the last value, so that a short one can be looked at as if it were a state."""
_FIRST, _NEWEST, _COUNT = 1, 9, 17
"""Where a state has its first visible instant, its newest arrival and its number of events."""
_TS, _CREATED, _MORE = 2, 10, row.HEAD.size
"""Where a state of one row has its instants, and what its flags announce."""


def decodes(view: View) -> bool:
    """Whether the states of the view are read as columns: those of numbers and texts are."""
    names = {slot.type.name for slot in view.slots}
    return view.dedupe_us is None and view.source.op is None and names <= {*FORMATS, *_TEXT}


class Blobs:
    """Many sealed values, joined. What is sealed in value i lies from `at[i]` up to `ends[i]`, and
    `versions` has the first byte of each."""

    def __init__(self, values: Sequence[Any]) -> None:
        self.values = values
        self.sizes = np.fromiter(map(len, values), np.int64, len(values))
        ends = np.cumsum(self.sizes)
        self.data = np.frombuffer(b"".join([*values, bytes(_LEAST)]), "u1")
        self.at, self.ends = ends - self.sizes + FRONT, ends - BACK
        self.versions = self.data[self.at]

    def whole(self, crcs: Sequence[int]) -> Any:
        """Which of the values are sealed, and whole under keys of these checksums."""
        found = np.fromiter(map(crc32, self.values, crcs), np.uint32, len(crcs))
        sealed = self.data[self.at - FRONT] == MARK
        return (found == WHOLE) & sealed & (self.sizes > FRONT + BACK)

    def some(self, held: Any) -> Blobs:
        """Those of the values that are marked."""
        made = object.__new__(Blobs)
        made.data, made.versions = self.data, self.versions[held]
        made.at, made.ends = self.at[held], self.ends[held]
        made.sizes = self.sizes[held]
        return made

    def take(self, places: Any, kind: str) -> Any:
        """The numbers of this NumPy type at the places, which need not be aligned."""
        width = np.dtype(kind).itemsize
        every: Any = np.ndarray((len(self.data) - width + 1,), kind, self.data, strides=(1,))
        return every[places]

    @property
    def newest(self) -> Any:
        """The newest arrival that each state has taken; the values are states or heads."""
        rows = self.versions == row.VERSION
        later = rows & ((self.data[self.at + 1] & row.FLAG_NEWEST) != 0)
        return self.take(self.at + np.where(rows, np.where(later, _MORE, _CREATED), _NEWEST), "<i8")

    @property
    def instants(self) -> tuple[Any, Any]:
        """The event_timestamp and the created_timestamp of states of one row."""
        return self.take(self.at + _TS, "<i8"), self.take(self.at + _CREATED, "<i8")


def decode_many(view: View, blobs: Blobs) -> Many | None:
    """The events of states that all have one form: of one row, or of any number. None where some
    state has other bytes than this reads."""
    if not len(blobs.at):
        return None
    read = _Columns(blobs)
    if (blobs.versions == row.VERSION).all():
        return read.rows(view)
    return read.states(view) if (blobs.versions == VERSION).all() else None


class _Columns:
    """Reads column after column; `place` is where the next one begins in each state."""

    def __init__(self, blobs: Blobs) -> None:
        self.blobs, self.place = blobs, blobs.at

    def states(self, view: View) -> Many | None:
        """States of any number of events, as `State.encode` writes them."""
        blobs = self.blobs
        first = blobs.take(blobs.at + _FIRST, "<i8")
        newest = blobs.take(blobs.at + _NEWEST, "<i8")
        self._count(blobs.take(blobs.at + _COUNT, "<u4").astype(np.int64))
        self.place = blobs.at + HEADER.size
        ts, created = self._numbers("<i8", self.n), self._numbers("<i8", self.n)
        slots = []
        for slot in view.slots:
            marks = self._marks()
            slots.append((slot.type, *self._column(slot.type, marks)))
        if (self.place != blobs.ends).any():
            return None
        return Many(slots, first, newest, ts, created, self.starts)

    def rows(self, view: View) -> Many | None:
        """States of one row, as `row.RowForm` writes them."""
        blobs, m = self.blobs, len(self.blobs.at)
        flags = blobs.data[blobs.at + 1]
        ts, created = blobs.instants
        newest = blobs.newest
        later, some = (flags & row.FLAG_NEWEST) != 0, (flags & row.FLAG_NONE) != 0
        if (flags & row.FLAG_FIRST).any():
            return None
        self._count(np.ones(m, np.int64))
        marks_at = blobs.at + _MORE + np.where(later, 8, 0)
        width = (len(view.slots) + 7) // 8
        self.place = marks_at + np.where(some, width, 0)
        # The lengths of the texts stand among the values, and the texts follow all of them.
        lengths: dict[int, Any] = {}
        columns: list[Any] = []
        for i, slot in enumerate(view.slots):
            if slot.type.name in _TEXT:
                lengths[i] = self._numbers("<u4", self.n).astype(np.int64)
                columns.append(None)
            else:
                columns.append(self._numbers(_WIDTHS[FORMATS[slot.type.name]], self.n))
        for i, size in lengths.items():
            columns[i] = self._texts(size, np.ones(m, np.int64))
        slots = []
        for i, (slot, values) in enumerate(zip(view.slots, columns, strict=True)):
            bits = np.where(some, blobs.data[np.where(some, marks_at + i // 8, 0)], 0)
            marks = (bits >> i % 8) & 1
            slots.append((slot.type, *_made(slot.type, values, marks)))
        if (self.place != blobs.ends).any():
            return None
        return Many(slots, np.maximum(ts, created), newest, ts, created, self.starts)

    def _count(self, n: Any) -> None:
        self.n = n
        self.starts = np.concatenate([[0], np.cumsum(n)])

    def _marks(self) -> Any:
        """The mark of each row of the next column: 0 for a value, 1 for None, 2 for an error."""
        kind = self.blobs.data[self.place]
        self.place = self.place + 1
        mixed = kind == MIXED
        self._held = np.where(kind == ALL_ABSENT, 0, self.n)
        marks = np.repeat((kind == ALL_ABSENT).astype("u1"), self.n)
        if mixed.any():
            some = np.where(mixed, self.n, 0)
            marks[np.repeat(mixed, self.n)] = self._numbers("u1", some)
        assert ALL_PRESENT == 0
        return marks

    def _column(self, type_: Type, marks: Any) -> tuple[pa.Array, Any]:
        """The values of the next column, whose marks were read, and which of them err."""
        held, n = self._held, self.n
        if type_.name in _TEXT:
            sizes = self._numbers("<u4", held).astype(np.int64)
            counts = np.concatenate([[0], np.cumsum(sizes)])
            ends = np.concatenate([[0], np.cumsum(held)])
            values: Any = self._texts(sizes, held, np.diff(counts[ends]))
        else:
            values = self._numbers(_WIDTHS[FORMATS[type_.name]], held)
        if int(held.sum()) < int(n.sum()):  # an absent column has no bytes
            at = np.where(np.repeat(held > 0, n), np.cumsum(np.repeat(held > 0, n)) - 1, -1)
            values = _spread(values, at)
        return _made(type_, values, marks)

    def _numbers(self, kind: str, counts: Any) -> Any:
        """`counts` numbers of each state, from its place on."""
        width = np.dtype(kind).itemsize
        found = self.blobs.take(_places(self.place, counts, width), kind)
        self.place = self.place + width * counts
        return found

    def _texts(self, sizes: Any, held: Any, totals: Any = None) -> pa.LargeBinaryArray:
        """Texts of these sizes, `held` of them in each state, from its place on."""
        totals = sizes if totals is None else totals
        data = self.blobs.data[_places(self.place, totals, 1)]
        self.place = self.place + totals
        bounds = np.concatenate([[0], np.cumsum(sizes)])
        buffers = [None, pa.py_buffer(bounds), pa.py_buffer(data)]
        return pa.Array.from_buffers(pa.large_binary(), len(sizes), buffers)


def _places(begin: Any, counts: Any, width: int) -> Any:
    """The places of `counts` values of each state, which follow each other from `begin` on."""
    if (counts == 1).all():
        return begin
    before = np.cumsum(counts) - counts
    return np.repeat(begin - width * before, counts) + width * np.arange(int(counts.sum()))


def _spread(values: Any, at: Any) -> Any:
    """The values at these numbers; a zero where it is −1."""
    if isinstance(values, pa.Array):
        return pa.concat_arrays([values, pa.array([b""], values.type)]).take(
            pa.array(np.where(at < 0, len(values), at))
        )
    return np.append(values, np.zeros(1, values.dtype))[at]


def _made(type_: Type, values: Any, marks: Any) -> tuple[pa.Array, Any]:
    """A column in the type of its slot, null where it is marked, and which of its values err."""
    gone = marks != 0 if marks.any() else None
    if isinstance(values, pa.Array):
        if gone is not None:
            at = np.where(gone, -1, np.arange(len(values)))
            values = values.take(pa.array(at, mask=gone))
        if type_.name == "str":
            values = values.cast(pa.large_string())
        return values.cast(type_.arrow), marks == 2
    if type_.name == "bool":
        values = values != 0
    return pa.array(values, mask=gone).cast(type_.arrow), marks == 2
