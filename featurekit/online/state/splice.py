"""Adds events to the bytes of a state, without decoding its events.

The bytes equal those of `State.add` and `State.encode`, which define them. An event's values are
put into each column at their place, and dropped events are cut from the front: by one struct where
all are numbers, else column by column. `State` handles all other cases: an instant that is there
already, an event that has ended, lists, blocks.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from featurekit.core.kept import Kept
from featurekit.core.status import FOREVER, NEVER_VISIBLE
from featurekit.define.plan import View
from featurekit.online.state import blocks, row
from featurekit.online.state.insert import Parts, Spot, inserted, is_insertable
from featurekit.online.state.state import HEADER, VERSION, Event, plain_states

_START = HEADER.size
_pack_int = struct.Struct("<q").pack
_FOREVER = _pack_int(FOREVER)


class Splice:
    """Adds events to the states of one view. `codes` are the formats of its slots where these are
    all numbers, and no event ends."""

    def __init__(self, view: View, codes: Sequence[str] | None) -> None:
        self.types = [slot.type for slot in view.slots]
        self.reach = view.history_us + view.retain_us
        self.ends = view.source.op is not None
        # How long after its arrival an event that no row has ended may be changed (`due_of`).
        self.memory = view.dedupe_us
        if self.memory is not None and self.ends:
            self.memory *= 2
        self.numbers = None if codes is None else _Numbers(codes)

    def added(self, blob: bytes | None, events: Sequence[Event]) -> bytes | None:
        """The bytes of the state with the events added; None where `State` has to do it."""
        for event in events:
            blob = self._first(event) if blob is None else self._next(blob, event)
            if blob is None:
                return None
        return blob

    def _first(self, event: Event) -> bytes | None:
        ts, created, slots = event
        if self.numbers is None or ts <= created - self.reach:
            return None
        first = NEVER_VISIBLE if self.memory is not None else max(ts, created)
        return self.numbers.first(first, ts, created, slots)

    def _next(self, blob: bytes, event: Event) -> bytes | None:
        ts, created, slots = event
        if blob[0] != VERSION or (self.ends and slots[-1] != FOREVER):
            return None
        _, first, newest, n = HEADER.unpack_from(blob)
        if not 0 < n < blocks.SPLIT or len(blob) < _START + (24 if self.ends else 16) * n:
            return None
        if created > newest:
            newest = created
        oldest = newest - self.reach
        if ts <= oldest:
            return None
        if self.memory is None:
            first = min(first, max(ts, created))
        data = memoryview(blob)
        instants = data[_START : _START + 8 * n].cast("q")
        place = n if instants[-1] < ts else bisect_left(instants, ts)
        if place < n and instants[place] == ts:
            return None
        if self.numbers is not None and instants[0] > oldest:  # nearly always
            made = self.numbers.put(blob, n, place, (first, newest), event)
            if made is not None:
                return made
        gone = bisect_right(instants, oldest)
        if gone and self.memory is not None:
            arrivals = data[_START + 8 * n : _START + 8 * (n + gone)].cast("q").tolist()
            lasting = [arrival >= newest - self.memory for arrival in arrivals]
            gone = lasting.index(True) if True in lasting else gone
            if not all(lasting[gone:]):
                return None
            first = min([first, *map(max, instants[:gone], arrivals)])
        spot = Spot(n, gone, place)
        parts: Parts = [HEADER.pack(VERSION, first, newest, n + 1 - gone)]
        at = _START
        for value in (ts, created):
            parts += spot.into(data, at, 8, _pack_int(value))
            at += 8 * n
        if self.ends:
            if data[at : at + 8 * n] != _FOREVER * n:
                return None
            parts += spot.into(data, at, 8, _FOREVER)
            at += 8 * n
        columns = None if self.numbers is None else self.numbers.next(data, at, spot, slots)
        columns = columns or inserted(self.types, data, at, spot, slots)
        return None if columns is None else b"".join(parts + columns)


class _Numbers:
    """The columns of a view whose slots are all numbers, where they have neither None nor errors
    nor NaN."""

    def __init__(self, codes: Sequence[str]) -> None:
        self.floats = [i for i, code in enumerate(codes) if code == "d"]
        self.bools = [i for i, code in enumerate(codes) if code == "?"]
        self.fresh = struct.Struct("<BqqIqq" + "".join(f"B{code}" for code in codes))
        self.values = struct.Struct("<" + "".join(codes))
        self.sizes = [struct.calcsize(f"<{code}") for code in codes]
        self.width = 16 + sum(self.sizes)

    def _plain(self, slots: Sequence[object]) -> bool:
        for i in self.floats:
            if slots[i] != slots[i]:
                return False
        return not self.bools or all(slots[i] is True or slots[i] is False for i in self.bools)

    def first(self, first: int, ts: int, created: int, slots: Sequence[object]) -> bytes | None:
        """The bytes of a state of one event; None where it is not plain."""
        if not self._plain(slots):
            return None
        numbers: list[object] = [0] * (2 * len(slots))
        numbers[1::2] = slots
        try:
            return self.fresh.pack(VERSION, first, created, 1, ts, created, *numbers)
        except struct.error:
            return None

    def put(
        self, blob: bytes, n: int, place: int, instants: tuple[int, int], event: Event
    ) -> bytes | None:
        """The bytes of a state of `n` events, of which none is dropped, with an event at `place`;
        None where a column or a value is not plain. `instants` are those of the new header."""
        ts, created, slots = event
        if len(blob) != _START + len(self.sizes) + n * self.width or not self._plain(slots):
            return None
        try:
            new = self.values.pack(*slots)
        except struct.error:
            return None
        here, at = _START + 8 * place, _START + 16 * n
        last = here + 8 * n
        parts = [HEADER.pack(VERSION, *instants, n + 1), blob[_START:here], _pack_int(ts)]
        parts += blob[here:last], _pack_int(created)
        begin = 0
        for size in self.sizes:
            if blob[at]:
                return None
            here = at + 1 + size * place
            parts += blob[last:here], new[begin : begin + size]
            last, at, begin = here, at + 1 + size * n, begin + size
        parts.append(blob[last:])
        return b"".join(parts)

    def next(self, data: memoryview, at: int, spot: Spot, slots: Sequence[object]) -> Parts | None:
        """As `inserted`; None where a column or a value is not plain."""
        if len(data) != at + spot.n * sum(self.sizes) + len(self.sizes) or not self._plain(slots):
            return None
        try:
            packed = self.values.pack(*slots)
        except struct.error:
            return None
        parts: Parts = []
        begin = 0
        for width in self.sizes:
            if data[at]:
                return None
            at += 1
            parts += [b"\0", *spot.into(data, at, width, packed[begin : begin + width])]
            at += width * spot.n
            begin += width
        return parts


class LatestRow:
    """Adds events to states of a single latest row: the later row stays. `State` handles all other
    cases: rows of the same instants, rows that a lookup before the other's time may still need, and
    states of more rows."""

    def __init__(self, view: View, form: row.RowForm) -> None:
        self.form, self.history = form, view.history_us

    def added(self, blob: bytes | None, events: Sequence[Event]) -> bytes | None:
        """The bytes of the state with the events added; None where `State` has to do it."""
        for ts, created, slots in events:
            newest = created
            if blob is not None:
                if blob[0] != row.VERSION:
                    return None
                _, _, held_ts, held_created = row.HEAD.unpack_from(blob)
                newest = max(created, row.newest_of(blob))
                # The row that T6 orders first is over by the horizon, or is never shown.
                mine, held = max(ts, created), max(held_ts, held_created)
                if (ts, created) < (held_ts, held_created):
                    if held > max(newest - self.history, mine):
                        return None
                    blob = row.with_newest(blob, newest)
                    continue
                if (ts, created) == (held_ts, held_created):
                    return None
                if mine > max(newest - self.history, held):
                    return None
            blob = self.form.encode(ts, created, newest, None, slots)
            if blob is None:
                return None
        return blob


def _splice(view: View) -> Splice | LatestRow | None:
    if view.kind == "latest" and view.dedupe_us is None:
        form = row.row_form(view)
        return None if form is None else LatestRow(view, form)
    if view.kind != "window" or not all(is_insertable(slot.type) for slot in view.slots):
        return None
    plain = plain_states(view)
    return Splice(view, None if plain is None else plain.codes)


splice_of = Kept(_splice)
"""The view's `Splice` or `LatestRow`; None where its states are opened."""
