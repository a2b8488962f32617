"""Writes the events of a push, and settles which rows of an id count (T7)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from zlib import crc32

from featurekit.core.status import FOREVER, NEVER
from featurekit.core.types import instant
from featurekit.define.plan import View
from featurekit.define.union import number_of, taken_rows
from featurekit.errors import OnlineError
from featurekit.feed.events import (
    Enrich,
    Prepared,
    Pushed,
    RowEvents,
    ViewWriter,
    nothing_taken,
    writer_of,
)
from featurekit.online.state.blocks import Moved, Patience, is_head, open_state
from featurekit.online.state.ids import Row, stamped
from featurekit.online.state.rewrite import change_blocks, written
from featurekit.online.state.seal import (
    UNREADABLE,
    opened_states,
    refuse_unsealed,
    sealed,
    sealed_by,
    sealed_marked,
)
from featurekit.online.state.splice import splice_of
from featurekit.online.state.state import Event, State, newest_arrival
from featurekit.online.state.update import adding_events, updating
from featurekit.online.store.protocol import (
    Change,
    Closing,
    OnlineStore,
    Pending,
    PendingSteps,
    finish,
)

_CHUNK = 250
"""The number of keys that are changed at once. What Redis 6.2 spends on WATCH grows with its
square."""


def write(store: OnlineStore, prepared: Prepared) -> Pushed:
    """Add the events to the states: each entity's at once, and a small push's all at once (A2)."""
    return finish(_writing(store, prepared, None))


def open_write(store: OnlineStore, prepared: Prepared, closing: Closing) -> Pending[Pushed]:
    """`write` in two halves; its end also ends the announced push `closing`.

    Nothing is written where the result is not asked for.
    """
    return Pending(_writing(store, prepared, closing))


def _writing(
    store: OnlineStore, prepared: Prepared, closing: Closing | None
) -> PendingSteps[Pushed]:
    changes = [
        (view, key, events) for view, grouped in prepared.events for key, events in grouped.items()
    ]
    works: list[Callable[..., PendingSteps[None]]] = [
        partial(adding_events, store, changes[first : first + _CHUNK])
        for first in range(0, len(changes), _CHUNK)
    ]
    works += [partial(_settling, store, parts) for parts in _parts(prepared)]
    for work in works[:-1]:
        yield from work()
    if works:
        yield from works[-1](closing=closing)
    else:
        yield
        if closing is not None:
            store.close_push(closing.key, closing.token)
    return prepared.done


_Part = tuple[ViewWriter, Mapping[bytes, list[Row]], RowEvents]
"""Rows of a view by their ids, and the events that they have become."""


def _parts(prepared: Prepared) -> Iterator[list[_Part]]:
    """The rows of each view by their ids, up to half of `_CHUNK` ids at a time, since each may
    change a state, too. What changes at once has a view once."""
    most = max(_CHUNK // 2, 1)
    held: list[_Part] = []
    n = 0
    for (writer, of_ids), events in zip(prepared.rows, prepared.made, strict=True):
        names = list(of_ids)
        for first in range(0, len(names), most):
            some = {name: of_ids[name] for name in names[first : first + most]}
            if held and (n + len(some) > most or held[-1][0] is writer):
                yield held
                held, n = [], 0
            held.append((writer, some, events))
            n += len(some)
    if held:
        yield held


def check(store: OnlineStore, prepared: Prepared) -> None:
    """OnlineError where `write` would refuse the rows; nothing is written."""
    for parts in _parts(prepared):
        finish(_settling(store, parts, write=False))


def open_claim(
    store: OnlineStore,
    project: str,
    views: Sequence[View],
    rows: Sequence[Row],
    now: int,
    *,
    source: str | None = None,
    enrich: Enrich = nothing_taken,
) -> Pending[tuple[list[int], list[Row]]]:
    """The arrivals of rows that are pushed at `now`, and the rows with these arrivals; `source` and
    `enrich` as `prepare` takes them.

    `now` is the store's clock, and the arrival that `rows` have. The rows are noted in the memory
    of one of `views`, before anything else is written (T3, T7). A row that repeats one in force,
    value for value, keeps the arrival that it had; every other row arrives `now`. So rows that are
    pushed again, after a crash or by two at once, are the same rows and leave no trace. Nothing is
    noted where the result is not asked for.
    """
    return Pending(_claiming(store, project, views, rows, now, source, enrich))


def _claiming(
    store: OnlineStore,
    project: str,
    views: Sequence[View],
    given: Sequence[Row],
    now: int,
    source: str | None,
    enrich: Enrich,
) -> PendingSteps[tuple[list[int], list[Row]]]:
    # What rows take follows from the arrivals that they get here, so best they take nothing.
    writer = writer_of(project, min(views, key=lambda view: len(view.source.joins)))
    ids, within = writer.ids, min(view.dedupe_us or 0 for view in views)
    assert ids is not None
    of = writer.view.source
    # A row of a union tells all of the row that it was, so it repeats another one as that does.
    rows = given if source is None else taken_rows(of, source, enrich(of, source, given))
    named: dict[bytes, list[int]] = {}
    for i, row in enumerate(rows):
        named.setdefault(writer.ids_prefix + ids.name(row), []).append(i)
    stamps, held = [now] * len(rows), list(rows)

    def change(blobs: list[bytes | None], part: list[bytes]) -> list[bytes | None]:
        out: list[bytes | None] = []
        for key, blob in zip(part, blobs, strict=True):
            numbers = named[key]
            if blob is None and len(numbers) == 1:  # nearly all ids are new
                (i,) = numbers
                stamps[i], held[i] = now, rows[i]
                out.append(ids.written(key, [rows[i]]))
                continue
            known = ids.read(key, blob)
            repeated = ids.repeated(known, [rows[i] for i in numbers], now, within)
            for i, arrival in zip(numbers, repeated, strict=True):
                stamps[i] = now if arrival is None else arrival
                held[i] = rows[i] if arrival is None else ids.stamped(rows[i], arrival)
            # Of rows that are equal the known one stays: it has what it took as of its arrival.
            out.append(ids.written(key, ids.merged([held[i] for i in numbers], known)))
        return out

    keys = list(named)
    if not keys:
        yield
    for first in range(0, len(keys), _CHUNK):
        part = keys[first : first + _CHUNK]
        with store.open_update(part, partial(change, part=part)) as pending:
            yield
            pending.result()
    if of.parts is None or source is None:
        return stamps, held
    mine = of.sources[number_of(of, source)]
    return stamps, [stamped(mine, row, at) for row, at in zip(given, stamps, strict=True)]


class _OtherEntities(Exception):
    """The memories of `of` now have rows of entities whose states were not read; `entities` are all
    that are needed."""

    def __init__(self, of: _Settling, entities: set[bytes]) -> None:
        super().__init__()
        self.of, self.entities = of, entities


def settle_ids(store: OnlineStore, writer: ViewWriter, rows: Mapping[bytes, list[Row]]) -> None:
    """Add rows to the memories of their ids, and update the states of every entity that has rows of
    these ids, all at once (T7).

    `rows` has the new rows by the keys of the memories. For an id without new rows only the states
    are updated. OnlineError where a row arrived so long before others that its id's memory, or what
    the row would be compared with, has been dropped.
    """
    finish(_settling(store, [(writer, rows, RowEvents(writer))]))


def _settling(
    store: OnlineStore,
    parts: Sequence[_Part],
    *,
    write: bool = True,
    closing: Closing | None = None,
) -> PendingSteps[None]:
    settlings = [_Settling(store, *part) for part in parts]
    change = partial(_changed, settlings)
    while True:
        keys = [key for settling in settlings for key in settling.keys]
        try:
            if write:
                yield from updating(store, keys, change, closing)
            else:
                _settled_at_once(store, keys, change)
            return
        except _OtherEntities as others:
            others.of.entities = sorted(others.entities)


def _changed(settlings: Sequence[_Settling], blobs: list[bytes | None]) -> dict[bytes, bytes]:
    """The new values of all of them, given the values of their keys."""
    out: dict[bytes, bytes] = {}
    at = 0
    for settling in settlings:
        end = at + len(settling.keys)
        out |= settling.changed(blobs[at:end])
        at = end
    return out


def _settled_at_once(store: OnlineStore, keys: Sequence[bytes], change: Change) -> None:
    """Raise what settling would raise; nothing is written."""
    patience = Patience()
    while True:
        try:
            change(list(store.read(keys)))
            return
        except Moved as moved:
            patience.spend(moved)


class _Settling:
    """Adds `rows` to the memories of their ids, and settles the states of `entities`: at first
    those of these rows."""

    def __init__(
        self,
        store: OnlineStore,
        writer: ViewWriter,
        rows: Mapping[bytes, list[Row]],
        events: RowEvents,
    ) -> None:
        assert writer.ids is not None
        self.store, self.writer, self.view, self.ids = store, writer, writer.view, writer.ids
        self.rows, self.events = rows, events
        self.entities = events.entities([row for new in rows.values() for row in new])

    @property
    def keys(self) -> list[bytes]:
        """The keys of the floor, the memories and the states."""
        return [self.writer.floor_key, *self.rows, *self.entities]

    def changed(self, blobs: Sequence[bytes | None]) -> dict[bytes, bytes]:
        """The new values of the memories and states that change, given those of the floor, the
        memories and the states."""
        view = self.view
        floor = self.ids.read_floor(self.writer.floor_key, blobs[0])
        memories, values = blobs[1 : len(self.rows) + 1], blobs[len(self.rows) + 1 :]
        changed: dict[bytes, tuple[list[Event], list[Event]]] = {}
        out, merged = self._remembered(floor, memories, changed)
        if not changed.keys() <= set(self.entities):
            raise _OtherEntities(self, set(changed))
        keys = self.entities
        sums = list(map(crc32, keys))
        crcs, held = dict(zip(keys, sums, strict=True)), dict(zip(keys, values, strict=True))
        opened = opened_states(itertools.repeat(view, len(keys)), keys, values, sums)
        states = dict(zip(keys, opened, strict=True))
        for before, after in merged:
            if floor is not None:
                _check_floor(self.writer, before, after, floor)
            _check_order(self.writer, self.events, states, before, after)
        splice = splice_of(view)
        for key, (every, counting) in changed.items():
            try:
                # Where all events count; `added` gives None where an instant is taken already.
                spliced = None
                if splice is not None and (every is counting or counting == self._lasting(every)):
                    spliced = splice.added(states[key], counting)
                if spliced is not None:
                    out[key] = sealed_by(crcs[key], spliced)
                    continue
                new_of = self._state(key, states[key], every, counting)
            except UNREADABLE as error:
                refuse_unsealed(view, key, held[key], error)
                raise
            new_of[key] = sealed(key, new_of[key])
            out |= new_of
        return out

    def _remembered(
        self,
        floor: int | None,
        memories: Sequence[bytes | None],
        changed: dict[bytes, tuple[list[Event], list[Event]]],
    ) -> tuple[dict[bytes, bytes], list[tuple[list[Row], list[Row]]]]:
        """The memories that change, and the rows before and after of those that had some. For each
        entity all events of the ids, and those that count, are put into `changed`."""
        writer, ids, events = self.writer, self.ids, self.events
        alike = self.view.each_row_an_event  # a row is one event, which is found sooner
        out: dict[bytes, bytes] = {}
        merged: list[tuple[list[Row], list[Row]]] = []
        lasts, fresh = ids.op is None, dict[bytes, list[Event]]()
        for (name, new), blob in zip(self.rows.items(), memories, strict=True):
            alone = len(new) == 1 and (floor is None or new[0]["__created"] >= floor)
            made = sealed_marked(name, events.memory(new[0])) if alone else None
            if made is not None and (blob is None or blob == made):
                # Nearly all ids are new, or were noted by this push.
                if blob is None:
                    out[name] = made
                if lasts:
                    for key, event in (events(new[0]),) if alike else events.each(new[0]):
                        if key is not None:
                            fresh.setdefault(key, []).append(event)
                    continue
                after = new
            else:
                before = ids.read(name, blob)
                after = ids.merged(before, new)
                if len(after) > len(before):
                    merged.append((before, after))
                    out[name] = ids.written(name, after)
            for row in after:
                for key, event in (events(row),) if alike else events.each(row):
                    if key is not None:
                        changed.setdefault(key, ([], []))[0].append(event)
            for row, end in ids.counting(after):
                for key, event in (events(row),) if alike else events.each(row):
                    if key is not None:
                        changed[key][1].append(writer.ending(event, end))
        for key, some in fresh.items():  # they count, and are all events of their ids
            every, counting = changed.setdefault(key, (some, some))
            if every is not some:
                every += some
                counting += some
        return out, merged

    def _lasting(self, events: list[Event]) -> list[Event]:
        """The events as they count where no row ends them."""
        if self.ids.op is None:
            return events
        return [self.writer.ending(event, FOREVER) for event in events]

    def _state(
        self, key: bytes, blob: bytes | None, every: list[Event], counting: list[Event]
    ) -> dict[bytes, bytes]:
        """The keys to write of a state, with their new values. `every` are all events of the ids,
        and `counting` those that count."""
        newest, read = max(event[1] for event in every), self.store.read
        if is_head(blob):
            return change_blocks(self.view, key, blob, counting, read, rows=every, newest=newest)
        state = open_state(self.view, key, blob, read)
        state.settle(every, counting, newest)
        return written(state, key, blob)


def _check_floor(writer: ViewWriter, known: list[Row], merged: list[Row], floor: int) -> None:
    """Refuse new rows that arrived before the floor."""
    assert writer.ids is not None
    old = [row for row in merged if row["__created"] < floor]
    remembered = [writer.ids.order(row) for row in known if row["__created"] < floor]
    for row in old:
        if writer.ids.order(row) not in remembered:
            raise _too_late(writer, row, f"ids that arrived before {instant(floor).isoformat()}")


def _check_order(
    writer: ViewWriter,
    events: RowEvents,
    states: Mapping[bytes, bytes | None],
    known: list[Row],
    merged: list[Row],
) -> None:
    """Refuse rows that end or remove an event that its state, of these bytes, holds for settled."""
    assert writer.ids is not None
    if not known:
        return
    after = {writer.ids.order(row): end for row, end in writer.ids.counting(merged)}
    for row, end in writer.ids.counting(known):
        if after.get(writer.ids.order(row)) == end:
            continue
        for key, event in events.each(row):
            if key is None:
                continue
            blob, view = states[key], writer.view
            state = State(view, newest_arrival=NEVER if blob is None else newest_arrival(blob))
            if state.settled(writer.ending(event, end)):
                raise _too_late(writer, row, "what it would change")


def _too_late(writer: ViewWriter, row: Row, what: str) -> OnlineError:
    view, name = writer.view, writer.view.source.event_id
    assert name is not None
    return OnlineError(
        f"push to {view.source.name!r}: a row of {name} {row[name]!r} arrived too long before "
        f"others that are known, and view {view.name!r} remembers no longer {what}; push rows in "
        "the order of their arrival, or put them into the source's files and run `featurekit "
        "materialize`; a longer dedupe_within remembers longer"
    )
