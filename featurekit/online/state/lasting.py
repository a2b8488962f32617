"""Says of each block when it has to change without a new event, and how many of its events last.

Events of a source with an `event_id` may be corrected or deleted (T7), and are kept for as long as
they may. So the head of a state in blocks also has of each block: the newest arrival from which on
the state drops an event of it, the latest instant at which one that ended was over, and how many
never end. From that instant on, what the head holds of the block, which is of the events that never
end, is all that counts of it. For a source without ids all of this follows from the block's first
instant and its number of events.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from typing import NamedTuple

from featurekit.core.status import FOREVER, NEVER
from featurekit.define.plan import View
from featurekit.online.state.state import Event, due_of


class Lasting(NamedTuple):
    """Of a block: the newest arrival from which on the state drops an event of it, the latest end
    of an event that ended (NEVER for none), and how many events never end."""

    due: int
    over: int
    number: int


def lasting_of(view: View, events: Sequence[Event]) -> Lasting:
    """What a head holds of a block of `events`."""
    due = min(map(due_of(view), events))
    if view.source.op is None:
        return Lasting(min(due, FOREVER), NEVER, len(events))
    ends = [event[2][-1] for event in events]
    over = max((end for end in ends if end != FOREVER), default=NEVER)
    return Lasting(min(due, FOREVER), over, ends.count(FOREVER))


def lasts(view: View, event: Event) -> bool:
    """Whether no row has ended an event."""
    return view.source.op is None or event[2][-1] == FOREVER


class LastingColumns:
    """What the head of a state in blocks holds of this, block by block. `first` and `counts` are
    the blocks' first instants and numbers of events."""

    def __init__(
        self, view: View, data: memoryview, at: int, first: memoryview, counts: memoryview
    ) -> None:
        n = len(first)
        self.over: memoryview | None = None
        self.counts = counts
        self.latest = NEVER
        """The latest of all ends."""
        self._view, self._first = view, first
        self._due: memoryview | None = None
        if view.dedupe_us is not None:
            self._due = data[at : at + 8 * n].cast("q")
            at += 8 * n
        if view.source.op is not None:
            self.over = data[at : at + 8 * n].cast("q")
            self.counts = data[at + 8 * n : at + 12 * n].cast("I")
            self.latest = max(self.over)
            at += 12 * n
        self.end = at

    def due(self) -> list[int]:
        """Of each block, the newest arrival from which on the state drops an event of it."""
        if self._due is not None:
            return self._due.tolist()
        reach = self._view.history_us + self._view.retain_us
        return [first + reach for first in self._first.tolist()]

    def is_over(self, k: int, t: int) -> bool:
        """Whether each event of block `k` that ended is over by `t`."""
        return self.over is None or self.over[k] <= t

    def every(self) -> list[Lasting]:
        """What the head holds of each block."""
        over = itertools.repeat(NEVER) if self.over is None else self.over.tolist()
        return list(map(Lasting, self.due(), over, self.counts.tolist()))


def encode_lasting(view: View, blocks: Sequence[Lasting]) -> bytes:
    """The columns of a head."""
    n, parts = len(blocks), []
    if view.dedupe_us is not None:
        parts.append(struct.pack(f"<{n}q", *(b.due for b in blocks)))
    if view.source.op is not None:
        parts.append(struct.pack(f"<{n}q", *(b.over for b in blocks)))
        parts.append(struct.pack(f"<{n}I", *(b.number for b in blocks)))
    return b"".join(parts)
