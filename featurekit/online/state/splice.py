"""Adds events to the bytes of a window view's state, without decoding its events.

The bytes equal those of `State.add` and `State.encode`, which define them. An event's numbers are
put into each column at their place, and dropped events are cut from the front. `State` handles all
other cases: an instant that is there already, None, errors and NaN, other types, blocks.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from featurekit.core.kept import Kept
from featurekit.core.status import NEVER_VISIBLE
from featurekit.define.plan import View
from featurekit.online.state import blocks
from featurekit.online.state.state import HEADER, VERSION, Event, plain_states

_START = HEADER.size
_pack_int = struct.Struct("<q").pack


class Splice:
    """Adds events to the states of one view."""

    def __init__(self, view: View, codes: Sequence[str]) -> None:
        self.reach = view.history_us + view.retain_us
        self.memory = view.dedupe_us
        self.floats = [i for i, code in enumerate(codes) if code == "d"]
        self.bools = [i for i, code in enumerate(codes) if code == "?"]
        self.fresh = struct.Struct("<BqqIqq" + "".join(f"B{code}" for code in codes))
        self.values = struct.Struct("<" + "".join(codes))
        self.sizes = [struct.calcsize(f"<{code}") for code in codes]
        self.width = 16 + sum(self.sizes)

    def added(self, blob: bytes | None, events: Sequence[Event]) -> bytes | None:
        """The bytes of the state with the events added; None where `State` has to do it."""
        for event in events:
            blob = self._first(event) if blob is None else self._next(blob, event)
            if blob is None:
                return None
        return blob

    def _plain(self, slots: Sequence[object]) -> bool:
        for i in self.floats:
            if slots[i] != slots[i]:
                return False
        return all(slots[i] is True or slots[i] is False for i in self.bools)

    def _first(self, event: Event) -> bytes | None:
        ts, created, slots = event
        if ts <= created - self.reach or not self._plain(slots):
            return None
        first = NEVER_VISIBLE if self.memory is not None else max(ts, created)
        numbers = [part for value in slots for part in (0, value)]
        try:
            return self.fresh.pack(VERSION, first, created, 1, ts, created, *numbers)
        except struct.error:
            return None

    def _next(self, blob: bytes, event: Event) -> bytes | None:
        ts, created, slots = event
        if blob[0] != VERSION:
            return None
        _, first, newest, n = HEADER.unpack_from(blob)
        size = _START + n * self.width + len(self.sizes)
        if len(blob) != size or not 0 < n < blocks.SPLIT or not self._plain(slots):
            return None
        try:
            packed = self.values.pack(*slots)
        except struct.error:
            return None
        data = memoryview(blob)
        at = _START + 8 * n
        instants = data[_START:at].cast("q")
        place = bisect_left(instants, ts)
        if place < n and instants[place] == ts:
            return None
        newest = max(newest, created)
        oldest = newest - self.reach
        if ts <= oldest:
            return None
        if self.memory is None:
            first = min(first, max(ts, created))
        gone = 0
        if instants[0] <= oldest:
            gone = bisect_right(instants, oldest)
            if self.memory is not None:
                arrivals = data[at : at + 8 * gone].cast("q").tolist()
                if max(arrivals) >= newest - self.memory:
                    return None
                first = min(first, *map(max, instants[:gone], arrivals))
        parts: list[bytes | memoryview] = [
            HEADER.pack(VERSION, first, newest, n + 1 - gone),
            data[_START + 8 * gone : _START + 8 * place],
            _pack_int(ts),
            data[_START + 8 * place : at],
            data[at + 8 * gone : at + 8 * place],
            _pack_int(created),
            data[at + 8 * place : at + 8 * n],
        ]
        at += 8 * n
        begin = 0
        for width in self.sizes:
            if blob[at]:
                return None
            at += 1
            parts += (
                b"\0",
                data[at + width * gone : at + width * place],
                packed[begin : begin + width],
                data[at + width * place : at + width * n],
            )
            at += width * n
            begin += width
        return b"".join(parts)


def _splice(view: View) -> Splice | None:
    plain = plain_states(view) if view.kind == "window" else None
    return None if plain is None else Splice(view, plain.codes)


splice_of = Kept(_splice)
"""The view's `Splice`; None where its states hold more than numbers."""
