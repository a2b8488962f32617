"""A view, made ready to answer lookups: the common state is read by one precompiled struct.

`state.answer` is the whole meaning and is what every other state is read by.
"""

from __future__ import annotations

import copy
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from featurekit.compiled import View
from featurekit.online import row, state
from featurekit.online.block_lookup import Large, answer_large
from featurekit.online.blocks import Head, Layout
from featurekit.online.row import row_form
from featurekit.online.state import PRESENT, Reader, unknown

if TYPE_CHECKING:
    import numpy as np

_AT_ONCE = 128
"""Rows whose instants one struct reads."""

Columns = tuple[Sequence[Any], Sequence[str]]
"""A view's values and their statuses, in the order of its features."""


class ViewLookup:
    """Answers for one view."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.unknown = _split(unknown(view))
        self.layout = Layout(view)
        self.present = (PRESENT,) * len(view.features)
        self.form = row_form(view)
        # A row without flags whose features are numbers is read by its struct alone.
        self.whole: struct.Struct | None = None
        if self.form is not None:
            slots = [f.slot or 0 for f in view.features]
            self.pick = _picked(slots)
            self.every_slot = slots == list(range(self.form.slots))
            if self.form.plain:
                self.whole = self.form.whole
                self._of_size: dict[int, struct.Struct] = {}
                self._values = struct.Struct(f"<{row.HEAD.size}x{self.form.codes}")
                self._whole_row = _picked([4 + slot for slot in slots])
        # Without a ttl any row that counts is fresh.
        self._oldest = -(2**80) if view.ttl_us is None else -view.ttl_us

    def open(self, head: bytes) -> Large:
        """The state in blocks that has this head."""
        return Large(Head(self.layout, head))

    def answer(self, blob: bytes | Large | None, t: int) -> Columns:
        """The view's values and statuses for one entity as of `t`; see `state.answer`."""
        if blob is None:
            values, statuses = self.unknown
            return copy.deepcopy(values), statuses  # an empty list or dict is the caller's own
        if isinstance(blob, Large):
            return _split(answer_large(blob, t))
        if blob[0] == row.VERSION and self.form is not None:
            whole = self.whole
            if whole is not None and not blob[1]:
                fields = whole.unpack(blob)
                ts, created = fields[2], fields[3]
                if ts <= t and created <= t and ts > t + self._oldest:
                    return self._whole_row(fields), self.present
            else:
                found = self.form.decode(blob)
                if self._counts(found, t):
                    return _split([state.stated(value) for value in self.pick(found.values)])
        return _split(state.answer(Reader(self.view, blob), self.view, t))

    def _counts(self, found: row.Row, t: int) -> bool:
        """Whether the row is the answer as of `t`: it is known, fresh, and `t` not too old."""
        known = found.ts <= t and found.created <= t and t >= found.newest - self.view.history_us
        return known and found.ts > t + self._oldest

    def packed(self, blobs: Sequence[bytes | None]) -> Packed | None:
        """States of many entities, if all are rows of one layout without None, to be read as
        columns."""
        if self.whole is None or None in blobs:
            return None
        n, size = len(blobs), self.whole.size
        if set(map(len, blobs)) != {size}:  # type: ignore[arg-type]
            return None
        joined = b"".join(blobs)  # type: ignore[arg-type]
        if joined[::size].count(row.VERSION) != n or joined[1::size].count(0) != n:
            return None
        instants: list[int] = []
        for first in range(0, n, _AT_ONCE):
            read = self._heads(min(_AT_ONCE, n - first))
            instants += read.unpack_from(joined, first * size)
        ts, created = instants[::2], instants[1::2]
        return Packed(self, joined, n, min(ts), max(ts), max(created))

    def _heads(self, n: int) -> struct.Struct:
        """What reads both instants of `n` rows that lie one after the other."""
        made = self._of_size.get(n)
        if made is None:
            assert self.whole is not None
            one = f"2xqq{self.whole.size - row.HEAD.size}x"
            made = self._of_size[n] = struct.Struct("<" + n * one)
        return made


@dataclass(frozen=True, slots=True)
class Packed:
    """Rows of a view's entities that lie in bytes one after the other, none with a None.

    `oldest` and `newest` are the extremes of their instants, `arrived` is the newest arrival.
    """

    lookup: ViewLookup
    joined: bytes
    n: int
    oldest: int
    newest: int
    arrived: int

    def counts(self, t: int) -> bool:
        """Whether each row is its entity's answer as of `t`."""
        known = self.newest <= t and self.arrived <= t
        return known and self.oldest > t + self.lookup._oldest

    def rows(self) -> list[Sequence[Any]]:
        """The values of the features of each row."""
        lookup = self.lookup
        every = lookup._values.iter_unpack(self.joined)
        return list(every) if lookup.every_slot else [lookup.pick(values) for values in every]

    def columns(self) -> list[np.ndarray[Any, Any]]:
        """The features' values as matrices, a row for each feature: float64, int64 or bool. Those
        of one type that stand together are one matrix."""
        import numpy as np

        form, size = self.lookup.form, self.lookup._values.size
        assert form is not None
        slots = [f.slot or 0 for f in self.lookup.view.features]
        if set(form.codes) == {"d"}:
            shape, strides = (form.slots, self.n), (8, size)
            table: Any = np.ndarray(shape, "<f8", self.joined, row.HEAD.size, strides)
            return [table.copy() if self.lookup.every_slot else table[slots]]
        table = np.frombuffer(self.joined, form.numpy())
        return [table[f"f{slot}"].copy().reshape(1, -1) for slot in slots]


def _picked(slots: Sequence[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """What takes the values of some slots, in this order."""
    first, n = slots[0], len(slots)
    if list(slots) == list(range(first, first + n)):
        return itemgetter(slice(first, first + n))
    return itemgetter(*slots)


def _split(pairs: list[tuple[Any, str]]) -> Columns:
    values, statuses = zip(*pairs, strict=True)
    return values, statuses
