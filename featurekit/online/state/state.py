"""The state of one entity in one view: the events that a lookup may still need.

A state is a function of the *set* of events that it took, whatever their order or grouping (A2).
What it keeps depends only on its horizon, which is the newest arrival less the view's history (T8).
So a backfill and a stream of pushes over the same events give the same bytes.

For a source with an `event_id`, a state holds the events that count (T7); `ids` decides which they
are. While an id is remembered, a later row may end or remove its event. Until then the event is not
*settled*, and no other event is dropped because of it.
"""

from __future__ import annotations

import itertools
import math
import struct
from bisect import bisect_right, insort
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from featurekit.core.kept import Kept
from featurekit.core.status import FOREVER, NEVER, NEVER_VISIBLE
from featurekit.core.values import ERROR, sort_value
from featurekit.define.plan import View
from featurekit.errors import OnlineError
from featurekit.online.state import row
from featurekit.online.state.codec import (
    FORMATS,
    decode_column,
    encode_column,
    raw_column,
    skip_column,
)

VERSION = 1
# version, first visible instant, newest arrival, number of events
HEADER = struct.Struct("<BqqI")
Event = tuple[int, int, tuple[Any, ...]]
"""event_timestamp, created_timestamp and the view's slots. Where the source has an `op`, the last
of the slots is the instant from which the event no longer counts."""


def _event_order(view: View) -> Callable[[Event], tuple[Any, ...]]:
    order = view.order

    def key(event: Event) -> tuple[Any, ...]:
        slots = event[2]
        return (event[0], event[1], *[sort_value(slots[i]) for i in order])

    return key


event_order = Kept(_event_order)
"""The sort key of T6, for events of a view."""


def visible_from(event: Event) -> int:
    """The first instant at which an event counts: it has happened and has arrived (T3)."""
    return max(event[0], event[1])


def _due(view: View) -> Callable[[Event], int]:
    reach, memory = view.history_us + view.retain_us, view.dedupe_us
    if memory is None:
        return lambda event: event[0] + reach
    if view.source.op is None:
        return lambda event: max(event[0] + reach, event[1] + memory + 1)

    def due(event: Event) -> int:
        end: int = event[2][-1]
        if end != FOREVER:
            return end + view.history_us
        return max(event[0] + reach, event[1] + 2 * memory + 1)

    return due


due_of = Kept(_due)
"""For a view of windows: the newest arrival from which on a state no longer keeps an event.

Such an event lies before every window, and no row can change any more how it counts (T7, `settled`
below), or it is over by the horizon. So it counts at no instant from the horizon on (T8).
"""


def without(view: View, events: list[Event], rows: Iterable[Event]) -> list[Event]:
    """The `events` that are none of `rows`, whatever their ends."""
    gone: dict[tuple[int, int], list[Any]] = {}
    for event in rows:
        gone.setdefault((event[0], event[1]), []).append(event)
    if not any((e[0], e[1]) in gone for e in events):
        return events
    key = event_order(view)
    keys = {at: [key(event) for event in same] for at, same in gone.items()}
    return [e for e in events if (e[0], e[1]) not in keys or key(e) not in keys[e[0], e[1]]]


@dataclass(slots=True)
class State:
    """An entity's state, open for change; `events` stand in the order of T6."""

    view: View
    first_visible: int = NEVER_VISIBLE
    newest_arrival: int = NEVER
    events: list[Event] = field(default_factory=list)
    # For a source with ids, `first_visible` is that of the dropped events, and `newest_arrival`
    # may be that of a copy or of a deletion.

    def add(self, events: Iterable[Event]) -> None:
        """Take events, in any order, and drop what no lookup can need any more."""
        key = event_order(self.view)
        for event in events:
            insort(self.events, event, key=key)
            self.note(event)
        self.prune()

    def note(self, event: Event) -> None:
        """Update the state's instants for an event that it takes."""
        if self.view.dedupe_us is None:
            self.first_visible = min(self.first_visible, visible_from(event))
        self.newest_arrival = max(self.newest_arrival, event[1])

    def settle(self, rows: Iterable[Event], counting: Iterable[Event], newest: int) -> None:
        """Replace the events of some ids by `counting`.

        `rows` are all known rows of these ids, as events, whatever their ends. `newest` is the
        newest arrival among them.
        """
        if self.events:
            self.events = without(self.view, self.events, rows)
        self.newest_arrival = max(self.newest_arrival, newest)
        self.add(counting)

    def end(self, event: Event) -> int:
        """The instant from which the event no longer counts."""
        return FOREVER if self.view.source.op is None else int(event[2][-1])

    def settled(self, event: Event) -> bool:
        """Whether no row can still change how the event counts.

        Such a row may arrive later, or it arrived up to `dedupe_within` before the newest arrival
        and reaches this state late (T7).
        """
        assert self.view.dedupe_us is not None
        remembered = self.newest_arrival - self.view.dedupe_us
        end = self.end(event)
        if self.view.source.op is None:
            return event[1] < remembered
        return (event[1] + self.view.dedupe_us if end == FOREVER else end) < remembered

    def replace(
        self, after: int, until: int, events: list[Event], *, first: int, newest: int
    ) -> None:
        """Replace what is known of the arrivals in (after, until] by `events`, which are all that
        matters of them.

        Doing it twice has the effect of doing it once, so materialising can be repeated. `events`
        stand in the order of T6. `first` and `newest` are the first visible instant and the newest
        arrival of all events in the interval, including those that no longer matter.
        """
        if self.view.source.op is not None:
            events = self._ended_later(after, until, events)
        self.events = [e for e in self.events if not after < e[1] <= until]
        if after == NEVER:
            memory = self.view.dedupe_us
            if memory is not None and self.newest_arrival - memory <= until:
                self.first_visible = NEVER_VISIBLE  # the dropped events arrived in the interval
            # Nothing known of the interval may stay, which includes the first visible instant.
            if self.newest_arrival <= until:
                self.newest_arrival, self.first_visible = NEVER, NEVER_VISIBLE
            elif self.first_visible <= until:
                # Events after the interval may be pruned in part: these were visible soon after it.
                later = (visible_from(e) for e in self.events)
                self.first_visible = min(later, default=until + 1)
        self.first_visible = min(self.first_visible, first)
        self.newest_arrival = max(self.newest_arrival, newest)
        if self.events:
            self.add(events)
        else:
            self.events = events
            self.prune()

    def drop_after(self, latest: int) -> None:
        """Let go of what arrived after `latest`, with the ends that it gave to other events.

        What was dropped for its sake does not come back: the state is to be replaced.
        """
        self.events = [e for e in self.events if e[1] <= latest]
        if self.view.source.op is not None:
            self.events = [
                (e[0], e[1], (*e[2][:-1], FOREVER)) if self.end(e) > latest else e
                for e in self.events
            ]
        self.newest_arrival = max((e[1] for e in self.events), default=NEVER)

    def _ended_later(self, after: int, until: int, events: list[Event]) -> list[Event]:
        """`events`, with the ends that rows with an arrival after `until` gave to them."""
        key = event_order(self.view)
        ended = [e for e in self.events if after < e[1] <= until < self.end(e) < FOREVER]
        ends: dict[tuple[int, int], list[tuple[Any, int]]] = {}
        for event in ended:
            ends.setdefault((event[0], event[1]), []).append((key(event), self.end(event)))
        made = []
        for event in events:
            found = ends.get((event[0], event[1]), ())
            end = min([self.end(event), *(end for same, end in found if same == key(event))])
            made.append((event[0], event[1], (*event[2][:-1], end)))
        return made

    @property
    def horizon(self) -> int:
        """The oldest instant that the state can answer (T8)."""
        if self.newest_arrival == NEVER:
            return NEVER
        return self.newest_arrival - self.view.history_us

    def let_go(self, gone: Iterable[Event]) -> None:
        """Note that events of a source with ids are dropped: an entity that had one is known."""
        shown = (visible_from(e) for e in gone if self.end(e) == FOREVER)
        self.first_visible = min(itertools.chain([self.first_visible], shown))

    def prune(self) -> None:
        """Drop the events that count at no instant from the horizon on."""
        horizon = self.horizon
        if self.view.dedupe_us is not None:
            self._prune_settled(horizon)
            return
        if self.view.kind == "window":
            oldest = horizon - self.view.retain_us
            self.events = [e for e in self.events if e[0] > oldest]
            return
        # A latest row counts at t if no row after it in the order of T6 is visible by then. So
        # keep the last one visible at the horizon, and each later one that comes to lead.
        ranked = sorted(enumerate(self.events), key=lambda r: (visible_from(r[1]), r[0]))
        kept: list[int] = []
        best = -1
        for rank, event in ranked:
            if rank > best:
                best = rank
                if kept and visible_from(event) <= max(
                    horizon, visible_from(self.events[kept[-1]])
                ):
                    kept.pop()
                kept.append(rank)
        self.events = [self.events[rank] for rank in sorted(kept)]

    def _prune_settled(self, horizon: int) -> None:
        """Drop events that are over by the horizon, settled events before every window, and latest
        rows that a settled row outranks."""
        if self.view.kind == "window":
            due = due_of(self.view)
            self.let_go([e for e in self.events if due(e) <= self.newest_arrival])
            self.events = [e for e in self.events if due(e) > self.newest_arrival]
            return
        alive = [e for e in self.events if self.end(e) > horizon]
        lasting = [self.end(e) == FOREVER and self.settled(e) for e in alive]
        self.events = []
        shown = sorted((visible_from(e), i) for i, e in enumerate(alive) if lasting[i])
        best = list(itertools.accumulate((i for _, i in shown), max))
        for i, event in enumerate(alive):
            by = bisect_right(shown, (max(horizon, visible_from(event)), len(alive)))
            if not by or best[by - 1] <= i:
                self.events.append(event)

    def encode(self) -> bytes:
        """The canonical bytes, which are equal for equal sets of events."""
        events, n = self.events, len(self.events)
        first = self.first_visible
        if self.view.kind == "latest":
            if n and self.view.dedupe_us is None:
                # Dropped rows were visible earlier, but no lookup asks: once a row leads, some row
                # always does.
                first = min(map(visible_from, events))
            form = row.row_form(self.view) if n == 1 else None
            if form is not None:
                (event,) = events
                let_go = None if self.view.dedupe_us is None or first == NEVER_VISIBLE else first
                blob = form.encode(event[0], event[1], self.newest_arrival, let_go, event[2])
                if blob is not None:
                    return blob
        plain = plain_states(self.view)
        if plain is not None and n:
            ts, created, slots = zip(*events, strict=True)
            made = plain.encode(first, self.newest_arrival, ts, created, slots)
            if made is not None:
                return made
        parts = [HEADER.pack(VERSION, first, self.newest_arrival, n)]
        parts.append(struct.pack(f"<{n}q", *(e[0] for e in self.events)))
        parts.append(struct.pack(f"<{n}q", *(e[1] for e in self.events)))
        if self.view.source.op is not None:
            parts.append(struct.pack(f"<{n}q", *(e[2][-1] for e in self.events)))
        for i, slot in enumerate(self.view.slots):
            parts.append(encode_column(slot.type, [e[2][i] for e in self.events]))
        return b"".join(parts)


def decode_state(view: View, blob: bytes) -> State:
    """The state that `encode` wrote."""
    plain = plain_states(view)
    if plain is not None:
        found = plain.decode(blob)
        if found is not None:
            return State(view, *found)
    read = Reader(view, blob)
    columns = [read.column(i) for i in range(len(view.slots))]
    if view.source.op is not None:
        columns.append(read.ends)
    events = [
        (read.ts[k], read.created[k], tuple(c[k] for c in columns)) for k in range(len(read.ts))
    ]
    return State(view, read.first_visible, read.newest_arrival, events)


class PlainStates:
    """The bytes of states whose slots are all numbers, by one call of `struct` for all columns. It
    leaves None, errors and NaN to the codec."""

    def __init__(self, codes: Sequence[str]) -> None:
        self.codes = codes
        self.floats = [i for i, code in enumerate(codes) if code == "d"]
        self.bools = [i for i, code in enumerate(codes) if code == "?"]
        self.of_size: dict[int, struct.Struct] = {}

    def _struct(self, n: int) -> struct.Struct:
        found = self.of_size.get(n)
        if found is None:
            columns = "".join(f"B{n}{code}" for code in self.codes)
            if len(self.of_size) >= _SIZES:
                self.of_size.clear()
            found = self.of_size[n] = struct.Struct(f"<BqqI{n}q{n}q{columns}")
        return found

    def encode(
        self, first: int, newest: int, ts: Sequence[int], created: Sequence[int], slots: Any
    ) -> bytes | None:
        """The bytes of `State.encode`; None where the codec has to write them."""
        columns = list(zip(*slots, strict=True))
        for i in self.bools:
            if not _BOOLS.issuperset(columns[i]):
                return None
        for i in self.floats:
            if None in columns[i] or ERROR in columns[i] or True in map(_is_nan, columns[i]):
                return None
        values: list[Any] = [VERSION, first, newest, len(ts), *ts, *created]
        for column in columns:
            values.append(0)
            values += column
        try:
            return self._struct(len(ts)).pack(*values)
        except struct.error:
            return None

    def decode(self, blob: bytes) -> tuple[int, int, list[Event]] | None:
        """The first visible instant, the newest arrival and the events; None where the codec has to
        read them."""
        if blob[0] != VERSION:
            return None
        n: int = HEADER.unpack_from(blob)[3]
        if HEADER.size + 16 * n > len(blob):
            return None
        made = self._struct(n)
        if made.size != len(blob):
            return None
        values = made.unpack(blob)
        at = 4 + 2 * n
        columns = []
        for _ in self.codes:
            if values[at]:
                return None
            columns.append(values[at + 1 : at + 1 + n])
            at += 1 + n
        slots = zip(*columns, strict=True) if columns else itertools.repeat((), n)
        ts, created = values[4 : 4 + n], values[4 + n : 4 + 2 * n]
        return values[1], values[2], list(zip(ts, created, slots, strict=True))


_SIZES = 512
_BOOLS = frozenset((True, False))
_is_nan = math.isnan


def _plain_states(view: View) -> PlainStates | None:
    codes = [FORMATS[s.type.name] for s in view.slots if s.type.name in ("int", "float", "bool")]
    whole = len(codes) == len(view.slots) and view.source.op is None
    return PlainStates(codes) if whole else None


plain_states = Kept(_plain_states)


def newest_arrival(blob: bytes) -> int:
    """The newest arrival that a state has taken; `blob` is a state or the head of one in blocks."""
    if blob[0] == row.VERSION:
        return row.newest_of(blob)
    newest: int = HEADER.unpack_from(blob)[2]
    return newest


class Reader:
    """A state's bytes, read column by column as a lookup needs them."""

    def __init__(self, view: View, blob: bytes) -> None:
        self.view = view
        self.data = memoryview(blob)
        self.n: int
        self.ts: Any
        self.created: Any
        self.ends: Any = None
        self._columns: dict[int, tuple[Any, Any]] = {}
        self._raw: dict[int, tuple[Any, Any]] = {}
        if blob[0] == row.VERSION:
            self._open_row(blob)
            return
        version, self.first_visible, self.newest_arrival, n = HEADER.unpack_from(blob)
        if version != VERSION:
            raise OnlineError(
                f"view {view.name!r}: a state of version {version}, which this featurekit does not "
                "read; use the release that wrote it, or materialise the view again"
            )
        at = HEADER.size
        self.n = n
        self.ts = self.data[at : at + 8 * n].cast("q")
        self.created = self.data[at + 8 * n : at + 16 * n].cast("q")
        at += 16 * n
        if view.source.op is not None:
            self.ends = self.data[at : at + 8 * n].cast("q")
            at += 8 * n
        # The places of the first columns, as many as are known.
        self._places = [at]

    def _open_row(self, blob: bytes) -> None:
        """Open a state of one row, as columns of one value."""
        form = row.row_form(self.view)
        if form is None:
            raise OnlineError(
                f"view {self.view.name!r}: a state has the form of one row, which this view does "
                "not use; materialise the view again"
            )
        found = form.decode(blob)
        self.n, self.newest_arrival = 1, found.newest
        self.ts = (found.ts,)
        self.created = (found.created,)
        visible = max(found.ts, found.created) if self.view.dedupe_us is None else NEVER_VISIBLE
        self.first_visible = visible if found.first is None else found.first
        columns = (((v,), None if v is not None else b"\1") for v in found.values)
        self._columns = dict(enumerate(columns))

    def column(self, index: int) -> Any:
        """The values of a slot, oldest event first; None and ERROR stand among them."""
        found = self._columns.get(index)
        if found is None:
            slots, places = self.view.slots, self._places
            at = self._place(index)
            values, marks, end = decode_column(slots[index].type, self.data, at, self.n)
            if len(places) == index + 1:
                places.append(end)
            found = self._columns[index] = values, marks
        return found[0]

    def raw(self, index: int) -> tuple[Any, Any]:
        """The values of a slot as they are stored, and their marks; see `codec.raw_column`."""
        found = self._raw.get(index)
        if found is None:
            at = self._place(index)
            found = self._raw[index] = raw_column(
                self.view.slots[index].type, self.data, at, self.n
            )
        return found

    def _place(self, index: int) -> int:
        """Where a slot's column begins."""
        slots, places = self.view.slots, self._places
        while len(places) <= index:
            type_ = slots[len(places) - 1].type
            places.append(skip_column(type_, self.data, places[-1], self.n))
        found: int = places[index]
        return found

    def unpack(self, index: int) -> None:
        """Make Python values of a column of numbers, for features that read it more than once.
        Without it, every access to the view of the bytes makes the value anew."""
        values = self.column(index)
        if isinstance(values, memoryview):
            self._columns[index] = values.tolist(), self._columns[index][1]

    def known(self, t: int) -> bool:
        """Whether some event, however old, counts as of `t`."""
        if self.first_visible <= t:
            return True
        if self.view.dedupe_us is None:
            return False
        return any(self.counts(k, t) for k in range(self.n - 1, -1, -1))

    def counts(self, k: int, t: int) -> bool:
        """Whether event `k` has happened and arrived by `t`, and is not over (T3, T7)."""
        if self.ts[k] > t or self.created[k] > t:
            return False
        return self.ends is None or bool(self.ends[k] > t)

    def complete(self, index: int) -> bool:
        """Whether a slot has neither None nor ERROR."""
        self.column(index)
        return self._columns[index][1] is None
