"""Turns the states of a view into answers; one precompiled struct reads the most common state.

`answer.answer` defines the result, and it reads every other state.
"""

from __future__ import annotations

import copy
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from featurekit.core.status import DAMAGED, ERROR_STATUS, NEVER, PRESENT
from featurekit.define.plan import View
from featurekit.errors import DamagedState
from featurekit.online.lookup import answer as state
from featurekit.online.lookup.answer import unknown
from featurekit.online.lookup.blocks import Large, answer_large
from featurekit.online.state import row
from featurekit.online.state.blocks import BlocksHead, Layout
from featurekit.online.state.row import row_form
from featurekit.online.state.state import Reader, newest_arrival
from featurekit.online.store.replies import Run

if TYPE_CHECKING:
    import numpy as np

_AT_ONCE = 128
"""The number of rows whose instants one struct reads."""

RowAnswer = tuple[Sequence[Any], Sequence[str]]
"""The values and the statuses of a row's features, or of one view's, in their order."""


States = Sequence[bytes | DamagedState | Large | None]
"""The states of a view, one for each row: bytes without their checksum, a state in blocks, the
error of a damaged one, None for an entity without one."""


class ViewLookup:
    """A view, made ready to answer lookups of some of its features, by number; by default of all.
    An answer has a place for each feature."""

    def __init__(self, view: View, features: Iterable[int] | None = None) -> None:
        self.view = view
        self.asked = state.Asked(view, range(len(view.features)) if features is None else features)
        self.unknown = _split(unknown(view))
        self._shared = not any(isinstance(value, list | dict) for value in self.unknown[0])
        self.layout = Layout(view)
        self.present = (PRESENT,) * len(view.features)
        self.damaged: RowAnswer = ([None] * len(view.features), [DAMAGED] * len(view.features))
        self.erring: RowAnswer = (None,) * len(view.features), (ERROR_STATUS,) * len(view.features)
        # A feature that takes the instant is computed from the whole row.
        asked = any(feature.asked is not None for feature in view.features)
        self.form = None if asked else row_form(view)
        # One struct reads a row without flags whose features are all numbers.
        self.whole: struct.Struct | None = None
        if self.form is not None:
            self.slots = slots = [f.slot or 0 for f in view.features]
            self.pick = _picked(slots)
            self.every_slot = slots == list(range(self.form.slots))
            codes = set(self.form.codes)
            self.doubles, self.wide = codes == {"d"}, codes <= {"d", "q"}
            if self.form.plain:
                self.whole = self.form.whole
                self._structs: dict[tuple[int, int], struct.Struct] = {}
                self._whole_row = _picked([4 + slot for slot in slots])
        # Without a ttl, every row that counts is fresh.
        self._oldest = -(2**80) if view.ttl_us is None else -view.ttl_us

    def open(self, key: bytes, head: bytes) -> Large:
        """The state in blocks that has this head; none of its blocks is read yet."""
        return Large(key, BlocksHead(self.layout, head))

    def answer(self, blob: bytes | Large | None, t: int) -> RowAnswer:
        """The view's values and statuses for one entity as of `t`; see `answer.answer`."""
        if blob is None:
            if self._shared:
                return self.unknown
            values, statuses = self.unknown
            return copy.deepcopy(values), statuses  # the caller may change an empty list or dict
        if isinstance(blob, Large):
            return _split(answer_large(blob, t, self.asked.features))
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
        return _split(state.answer(Reader(self.view, blob), self.view, t, self.asked))

    def newest(self, blob: bytes | Large | None) -> int:
        """The newest arrival that a state knows of."""
        if blob is None:
            return NEVER
        return blob.head.newest_arrival if isinstance(blob, Large) else newest_arrival(blob)

    def _counts(self, found: row.OneRow, t: int) -> bool:
        """Whether the row is the answer as of `t`: it is known and fresh, and `t` is not too
        old."""
        known = found.ts <= t and found.created <= t and t >= found.newest - self.view.history_us
        return known and found.ts > t + self._oldest

    def packed(self, blobs: States) -> Packed | None:
        """The states of many entities, to be read as columns. None where they are not all rows of
        one layout without a None."""
        if self.whole is None:
            return None
        n, size = len(blobs), self.whole.size
        if type(blobs) is not Run:
            if set(map(type, blobs)) != {bytes} or set(map(len, blobs)) != {size}:  # type: ignore[arg-type]
                return None
            blobs = Run(b"".join(blobs), 0, n, size, 0, size)  # type: ignore[arg-type]
        elif blobs.size != size:
            return None
        data, stride = blobs.data, blobs.stride
        first = blobs.at + blobs.before
        last = first + (n - 1) * stride
        versions, flags = data[first : last + 1 : stride], data[first + 1 : last + 2 : stride]
        if versions.count(row.VERSION) != n or flags.count(0) != n:
            return None
        instants: list[int] = []
        for k in range(0, n, _AT_ONCE):
            read = self._heads(min(_AT_ONCE, n - k), blobs.before, stride)
            instants += read.unpack_from(data, blobs.at + k * stride)
        return Packed(self, blobs, instants, max(instants))

    def _heads(self, n: int, before: int, stride: int) -> struct.Struct:
        """A struct that reads both instants of `n` rows in this layout."""
        made = self._structs.get((n, stride))
        if made is None:
            one = f"{before + 2}xqq{stride - before - row.HEAD.size}x"
            made = self._structs[n, stride] = struct.Struct("<" + n * one)
        return made

    def values(self, before: int, stride: int) -> struct.Struct:
        """A struct that reads the values of one row in this layout."""
        made = self._structs.get((0, stride))
        if made is None:
            assert self.form is not None
            assert self.whole is not None
            after = stride - before - self.whole.size
            one = f"<{before + row.HEAD.size}x{self.form.codes}{after}x"
            made = self._structs[0, stride] = struct.Struct(one)
        return made


@dataclass(frozen=True, slots=True)
class Packed:
    """Rows of many entities of a view, without a None.

    `instants` has two for each row: when it happened and when it arrived. `latest` is the last of
    all.
    """

    lookup: ViewLookup
    run: Run
    instants: list[int]
    latest: int

    @property
    def n(self) -> int:
        """The number of rows."""
        return len(self.run)

    def counts(self, t: int) -> bool:
        """Whether each row is its entity's answer as of `t`."""
        if self.lookup.view.ttl_us is None:
            return self.latest <= t
        return self.latest <= t and min(self.instants[::2]) > t - self.lookup.view.ttl_us

    def answers(self) -> list[RowAnswer]:
        """The values and the statuses, for each row."""
        present = self.lookup.present
        return [(values, present) for values in self.rows()]

    def statuses(self) -> list[list[str]]:
        """The statuses of each feature."""
        return [[PRESENT] * self.n for _ in self.lookup.present]

    def rows(self) -> list[Sequence[Any]]:
        """The values of the features, for each row."""
        lookup, run = self.lookup, self.run
        read = lookup.values(run.before, run.stride)
        every = read.iter_unpack(memoryview(run.data)[run.at : run.at + self.n * run.stride])
        return list(every) if lookup.every_slot else [lookup.pick(values) for values in every]

    def columns(self) -> list[np.ndarray[Any, Any]]:
        """The features' values as matrices of float64, int64 or bool, with a row for each feature.
        Neighbouring features of one type may share a matrix."""
        import numpy as np

        lookup, run = self.lookup, self.run
        assert lookup.form is not None
        if lookup.doubles:
            return [self._matrix("<f8")]
        first = run.at + run.before
        table: Any = np.ndarray((self.n,), lookup.form.numpy(), run.data, first, (run.stride,))
        return [table[f"f{slot}"].copy().reshape(1, -1) for slot in lookup.slots]

    def parts(self) -> list[memoryview]:
        """The bytes of the features' values, feature by feature."""
        if self.lookup.wide:
            return [self._matrix("<i8").data]
        return [part.data for part in self.columns()]

    def _matrix(self, dtype: str) -> np.ndarray[Any, Any]:
        """The features' values as one matrix of `dtype`, with a row for each feature. Every slot
        must have 8 bytes."""
        import numpy as np

        lookup, run = self.lookup, self.run
        assert lookup.form is not None
        shape, strides = (lookup.form.slots, self.n), (8, run.stride)
        first = run.at + run.before + row.HEAD.size
        found: np.ndarray[Any, Any] = np.ndarray(shape, dtype, run.data, first, strides)
        return found.copy() if lookup.every_slot else found[lookup.slots].copy()


class Listed:
    """The answers of a view, one for each row; `damaged` has the errors of damaged states."""

    __slots__ = ("_answers", "damaged")

    def __init__(self, answers: list[RowAnswer], damaged: dict[int, DamagedState]) -> None:
        self._answers, self.damaged = answers, damaged

    @property
    def n(self) -> int:
        """The number of rows."""
        return len(self._answers)

    def answers(self) -> list[RowAnswer]:
        """The values and the statuses, for each row."""
        return self._answers

    def statuses(self) -> list[list[str]]:
        """The statuses of each feature."""
        return [list(of_one) for of_one in zip(*(s for _, s in self._answers), strict=True)]

    def rows(self) -> list[Sequence[Any]]:
        """The values of the features, for each row."""
        return [values for values, _ in self._answers]


def _picked(slots: Sequence[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """A function that takes the values of some slots, in this order."""
    first, n = slots[0], len(slots)
    if list(slots) == list(range(first, first + n)):
        return itemgetter(slice(first, first + n))
    return itemgetter(*slots)


def _split(pairs: list[tuple[Any, str]]) -> RowAnswer:
    values, statuses = zip(*pairs, strict=True)
    return values, statuses
