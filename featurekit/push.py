"""Turns the rows of a push into changes of online states, one event at a time or many."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import Any, Generic, TypeVar

from featurekit.compiled import PerView, View
from featurekit.errors import OnlineError
from featurekit.online.codec import joined_key, key_encoder
from featurekit.online.ids import Ids, Row
from featurekit.online.splice import splice_of
from featurekit.online.state import Event, State, decode_state
from featurekit.online.states import add_events
from featurekit.online.store import OnlineStore
from featurekit.serve import floor_key, ids_prefix, state_key, state_prefix
from featurekit.to_python import ERROR, to_python
from featurekit.types import instant

_CHUNK = 500
_T = TypeVar("_T")
_NO_EVENT: Event = (0, 0, ())


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push did: rows taken, entities whose states changed, rows without an entity in some
    view (S2), rows with an erring slot (R3), rows set aside (S1), rows left out since their entity
    was forgotten after they arrived."""

    rows: int
    entities: int
    null_keys: int
    erring: int
    quarantined: int = 0
    forgotten: int = 0


class ViewWriter:
    """A view, made ready to take events."""

    def __init__(self, project: str, view: View) -> None:
        self.view = view
        self.prefix = state_prefix(project, view)
        self.keys = [(key_encoder(p.type), p.name) for p in view.join_keys]
        self.slots = [_slot_function(slot) for slot in view.slots]
        columns = [slot.column for slot in view.slots if slot.transform is None]
        whole = len(columns) == len(view.slots) > 1
        self.columns: Any = itemgetter(*columns) if whole else None
        self.ids = None if view.dedupe_us is None else Ids(view)
        self.ids_prefix = ids_prefix(project, view)
        self.floor_key = floor_key(project, view)

    def key(self, row: Mapping[str, Any]) -> bytes | None:
        """The key of the row's entity; None for a row that belongs to none."""
        parts = []
        for encode, name in self.keys:
            value = row[name]
            if value is None:
                return None
            parts.append(encode(value))
        return state_key(self.prefix, joined_key(parts))

    def event(self, row: Mapping[str, Any]) -> Event:
        """The row as the view's states keep it, but for its end."""
        if self.columns is not None:
            return row["__ts"], row["__created"], self.columns(row)
        return row["__ts"], row["__created"], tuple([slot(row) for slot in self.slots])

    def ending(self, event: Event, end: int) -> Event:
        """The event with the instant from which it counts no more, where the view keeps one."""
        if self.view.source.op is None:
            return event
        return event[0], event[1], (*event[2], end)


@functools.cache
def _writers(project: str) -> PerView[ViewWriter]:
    return PerView(partial(ViewWriter, project))


def writer_of(project: str, view: View) -> ViewWriter:
    """The view's writer, made once: its transforms are compiled."""
    return _writers(project)(view)


def _slot_function(slot: Any) -> Callable[[Mapping[str, Any]], Any]:
    if slot.transform is None:
        column = slot.column
        return lambda row: row[column]
    function = to_python(slot.transform)
    names = [p.name for p in slot.transform.params]
    return lambda row: function(*[row[n] for n in names])


class Events:
    """The entity and the event of each row, made once."""

    def __init__(self, writer: ViewWriter) -> None:
        self.writer = writer
        self.made: dict[int, tuple[Row, bytes | None, Event]] = {}

    def __call__(self, row: Row) -> tuple[bytes | None, Event]:
        found = self.made.get(id(row))  # no row goes while this holds it
        if found is None:
            key = self.writer.key(row)
            event = _NO_EVENT if key is None else self.writer.event(row)
            found = self.made[id(row)] = row, key, event
        return found[1], found[2]

    def entities(self, rows: Iterable[Row]) -> set[bytes]:
        """The entities that rows belong to."""
        return {key for row in rows if (key := self(row)[0]) is not None}


@dataclass(frozen=True, slots=True)
class Prepared:
    """The rows of a push as events of each view's entities: nothing is written yet."""

    events: list[tuple[View, dict[bytes, list[Event]]]]
    done: Pushed
    rows: list[tuple[ViewWriter, dict[bytes, list[Row]]]] = field(default_factory=list)
    """For views whose source has an `event_id`: the rows of each id (T7)."""
    made: list[Events] = field(default_factory=list)
    """Of each of `rows`, the events that were made of them."""


def prepare(project: str, views: Iterable[View], rows: Sequence[Mapping[str, Any]]) -> Prepared:
    """The events that `rows` (a source's columns, `__ts`, `__created`) are to each of `views`."""
    null_keys = erring = entities = 0
    found: list[tuple[View, dict[bytes, list[Event]]]] = []
    by_id: list[tuple[ViewWriter, dict[bytes, list[Row]]]] = []
    made: list[Events] = []
    for view in views:
        writer = writer_of(project, view)
        events = Events(writer)
        grouped: dict[bytes, list[Event]] = {}
        of_ids: dict[bytes, list[Row]] = {}
        for row in rows:
            if writer.ids is not None:
                of_ids.setdefault(writer.ids_prefix + writer.ids.name(row), []).append(row)
            key, event = events(row)
            if key is None:
                null_keys += 1
                continue
            erring += ERROR in event[2]
            grouped.setdefault(key, []).append(event)
        entities += len(grouped)
        if writer.ids is None:
            found.append((view, grouped))
        else:
            by_id.append((writer, of_ids))
            made.append(events)
    return Prepared(found, Pushed(len(rows), entities, null_keys, erring), by_id, made)


def write(
    store: OnlineStore,
    prepared: Prepared,
    closing: tuple[bytes, bytes] | None = None,
    meanwhile: Callable[[], object] | None = None,
) -> Pushed:
    """Add the events to the states, each entity's at once and a small push's all at once (A2); then
    the announced push `closing`, its key and token, is over. Before anything is written `meanwhile`
    is called, as the store is waited for; nothing is where it raises."""
    changes = [
        (view, key, events) for view, grouped in prepared.events for key, events in grouped.items()
    ]
    works: list[Callable[..., None]] = [
        partial(add_events, store, changes[first : first + _CHUNK])
        for first in range(0, len(changes), _CHUNK)
    ]
    for (writer, of_ids), events in zip(prepared.rows, prepared.made, strict=True):
        named = list(of_ids.items())
        for first in range(0, len(named), _CHUNK):
            part = dict(named[first : first + _CHUNK])
            works.append(partial(settle_ids, store, writer, part, events=events))
    for i, work in enumerate(works):
        last = i == len(works) - 1
        work(closing=closing if last else None, meanwhile=None if i else meanwhile)
    if not works:
        if meanwhile is not None:
            meanwhile()
        if closing is not None:
            store.close_push(*closing)
    return prepared.done


def check(store: OnlineStore, prepared: Prepared) -> None:
    """OnlineError where `write` would refuse the rows; nothing is written."""
    for writer, of_ids in prepared.rows:
        named = list(of_ids.items())
        for first in range(0, len(named), _CHUNK):
            settle_ids(store, writer, dict(named[first : first + _CHUNK]), write=False)


def claim(
    store: OnlineStore,
    project: str,
    views: Sequence[View],
    rows: Sequence[Row],
    now: int,
    *,
    meanwhile: Callable[[], object] | None = None,
) -> tuple[list[int], list[Row]]:
    """The arrivals of rows that are pushed at `now` by the store's clock, and the rows with them;
    they are noted, before anything else is written, in what the first of `views` remembers (T3,
    T7). `rows` have `now` as their arrival.

    An arrival is `now`, but for rows that repeat what is in force, value for value: they keep the
    arrival that they had. So rows that are pushed again, after a crash too or by two at once, are
    the same rows, and leave no trace. `meanwhile` is called as the store is waited for.
    """
    writer = writer_of(project, views[0])
    ids, within = writer.ids, min(view.dedupe_us or 0 for view in views)
    assert ids is not None
    named: dict[bytes, list[int]] = {}
    for i, row in enumerate(rows):
        named.setdefault(writer.ids_prefix + ids.name(row), []).append(i)
    stamps, held = [now] * len(rows), list(rows)

    def change(blobs: list[bytes | None], chunk: list[list[int]]) -> list[bytes | None]:
        out: list[bytes | None] = []
        for numbers, blob in zip(chunk, blobs, strict=True):
            if blob is None and len(numbers) == 1:  # nearly all are new
                (i,) = numbers
                stamps[i], held[i] = now, rows[i]
                out.append(ids.encode([rows[i]]))
                continue
            known = ids.decode(blob)
            repeated = ids.repeated(known, [rows[i] for i in numbers], now, within)
            for i, arrival in zip(numbers, repeated, strict=True):
                stamps[i] = now if arrival is None else arrival
                held[i] = rows[i] if arrival is None else ids.stamped(rows[i], arrival)
            out.append(ids.encode(ids.merged(known, [held[i] for i in numbers])))
        return out

    keys = list(named)
    if meanwhile is not None and not keys:
        meanwhile()
    for first in range(0, len(keys), _CHUNK):
        part = keys[first : first + _CHUNK]
        chunk = [named[key] for key in part]
        store.update(part, partial(change, chunk=chunk), meanwhile=None if first else meanwhile)
    return stamps, held


class Early(Generic[_T]):
    """Something that may be found before it is asked for; its errors are raised where it is."""

    def __init__(self, find: Callable[[], _T]) -> None:
        self._find = find
        self._found: tuple[_T] | Exception | None = None

    def begin(self) -> None:
        """Find it."""
        try:
            self._found = (self._find(),)
        except Exception as error:
            self._found = error

    def get(self) -> _T:
        """What was found."""
        if self._found is None:
            return self._find()
        if isinstance(self._found, Exception):
            raise self._found
        return self._found[0]


class _OtherEntities(Exception):
    """A memory has come to hold rows of entities whose states were not read: of all these."""

    def __init__(self, entities: set[bytes]) -> None:
        super().__init__()
        self.entities = entities


def settle_ids(
    store: OnlineStore,
    writer: ViewWriter,
    rows: Mapping[bytes, list[Row]],
    *,
    write: bool = True,
    events: Events | None = None,
    closing: tuple[bytes, bytes] | None = None,
    meanwhile: Callable[[], object] | None = None,
) -> None:
    """Add rows to what is remembered of their ids, and bring the states of every entity that those
    ids have rows of to what then counts, all at once (T7).

    `rows` has the rows by the keys of their ids' memories; an id without new rows is only brought
    to its states. OnlineError where a row arrived so long before others that its id's memory, or
    what it was held against, has been let go.
    """
    events = events or Events(writer)
    names = list(rows)
    wanted = events.entities(row for new in rows.values() for row in new)
    while True:
        entities = sorted(wanted)
        keys = [writer.floor_key, *names, *entities]
        change = partial(_settled, writer, rows, entities, events)
        try:
            if write:
                store.update(keys, change, closing=closing, meanwhile=meanwhile)
            else:
                change(store.read(keys))
            return
        except _OtherEntities as others:
            wanted, meanwhile = others.entities, None


def _settled(
    writer: ViewWriter,
    rows: Mapping[bytes, list[Row]],
    entities: list[bytes],
    events: Events,
    blobs: Sequence[bytes | None],
) -> list[bytes | None]:
    """The new values of the floor (None), the memories and the states."""
    ids, view = writer.ids, writer.view
    assert ids is not None
    floor = None if blobs[0] is None else int(blobs[0])
    memories, states = blobs[1 : len(rows) + 1], blobs[len(rows) + 1 :]
    out: list[bytes | None] = [None]
    merged: list[tuple[list[Row], list[Row]]] = []
    changed: dict[bytes, tuple[list[Event], list[Event]]] = {}
    for new, blob in zip(rows.values(), memories, strict=True):
        made = ids.encode(new) if len(new) == 1 and _since(floor, new[0]) else None
        if made is not None and (blob is None or blob == made):
            # Nearly all are: an id that is new, or that the push itself has noted.
            out.append(made if blob is None else None)
            after = new
        else:
            before = ids.decode(blob)
            after = ids.merged(before, new)
            if len(after) > len(before):
                merged.append((before, after))
            out.append(ids.encode(after) if len(after) > len(before) else None)
        for row in after:
            key, event = events(row)
            if key is not None:
                changed.setdefault(key, ([], []))[0].append(event)
        for row, end in ids.counting(after):
            key, event = events(row)
            if key is not None:
                changed[key][1].append(writer.ending(event, end))
    blob_of = dict(zip(entities, states, strict=True))
    if not changed.keys() <= blob_of.keys():
        raise _OtherEntities(set(changed))
    open_: dict[bytes, State] = {}

    def opened(key: bytes) -> State:
        found = open_.get(key)
        if found is None:
            blob = blob_of[key]
            found = open_[key] = State(view) if blob is None else decode_state(view, blob)
        return found

    for before, after in merged:
        if floor is not None:
            _check_floor(writer, before, after, floor)
        _check_order(writer, events, opened, before, after)
    splice = splice_of(view)
    for key, blob in blob_of.items():
        found = changed.get(key)
        if found is None:
            out.append(None)  # what was read is of nobody any more
            continue
        every, counting = found
        if splice is not None and every == counting:
            # All count, and where none stands at another's instant none is in another's place.
            spliced = splice.added(blob, counting)
            if spliced is not None:
                out.append(spliced)
                continue
        state = opened(key)
        state.settle(every, counting, max(event[1] for event in every))
        out.append(state.encode())
    return out


def _since(floor: int | None, row: Row) -> bool:
    """Whether a row arrived when ids are still remembered."""
    return floor is None or bool(row["__created"] >= floor)


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
    events: Events,
    opened: Callable[[bytes], State],
    known: list[Row],
    merged: list[Row],
) -> None:
    """Refuse rows that end or take away an event that its state took to be settled."""
    assert writer.ids is not None
    if not known:
        return
    after = {writer.ids.order(row): end for row, end in writer.ids.counting(merged)}
    for row, end in writer.ids.counting(known):
        key, event = events(row)
        if key is None or after.get(writer.ids.order(row)) == end:
            continue
        if opened(key).settled(writer.ending(event, end)):
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
