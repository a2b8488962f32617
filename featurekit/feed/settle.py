"""Writes the events of a push, and settles which rows of an id count (T7)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from featurekit.core.types import instant
from featurekit.define.plan import View
from featurekit.errors import OnlineError
from featurekit.feed.events import Prepared, Pushed, RowEvents, ViewWriter, writer_of
from featurekit.online.state.ids import Row
from featurekit.online.state.seal import UNREADABLE, opened_state, refuse_unsealed, sealed
from featurekit.online.state.splice import splice_of
from featurekit.online.state.state import Event, State, decode_state
from featurekit.online.state.update import adding_events
from featurekit.online.store.protocol import Closing, OnlineStore, Pending, PendingSteps, finish

_CHUNK = 500
"""The number of keys that are changed at once."""


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
    for (writer, of_ids), events in zip(prepared.rows, prepared.made, strict=True):
        works += [partial(_settling, store, writer, part, events) for part in _parts(of_ids)]
    for work in works[:-1]:
        yield from work()
    if works:
        yield from works[-1](closing=closing)
    else:
        yield
        if closing is not None:
            store.close_push(closing.key, closing.token)
    return prepared.done


def _parts(of_ids: Mapping[bytes, list[Row]]) -> Iterator[dict[bytes, list[Row]]]:
    """The rows by id, for `_CHUNK` ids at a time."""
    named = list(of_ids.items())
    for first in range(0, len(named), _CHUNK):
        yield dict(named[first : first + _CHUNK])


def check(store: OnlineStore, prepared: Prepared) -> None:
    """OnlineError where `write` would refuse the rows; nothing is written."""
    for (writer, of_ids), events in zip(prepared.rows, prepared.made, strict=True):
        for part in _parts(of_ids):
            finish(_settling(store, writer, part, events, write=False))


def open_claim(
    store: OnlineStore, project: str, views: Sequence[View], rows: Sequence[Row], now: int
) -> Pending[tuple[list[int], list[Row]]]:
    """The arrivals of rows that are pushed at `now`, and the rows with these arrivals.

    `now` is the store's clock, and the arrival that `rows` have. The rows are noted in the memory
    of the first of `views`, before anything else is written (T3, T7). A row that repeats one in
    force, value for value, keeps the arrival that it had; every other row arrives `now`. So rows
    that are pushed again, after a crash or by two at once, are the same rows and leave no trace.
    Nothing is noted where the result is not asked for.
    """
    return Pending(_claiming(store, project, views, rows, now))


def _claiming(
    store: OnlineStore, project: str, views: Sequence[View], rows: Sequence[Row], now: int
) -> PendingSteps[tuple[list[int], list[Row]]]:
    writer = writer_of(project, views[0])
    ids, within = writer.ids, min(view.dedupe_us or 0 for view in views)
    assert ids is not None
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
            out.append(ids.written(key, ids.merged(known, [held[i] for i in numbers])))
        return out

    keys = list(named)
    if not keys:
        yield
    for first in range(0, len(keys), _CHUNK):
        part = keys[first : first + _CHUNK]
        with store.open_update(part, partial(change, part=part)) as pending:
            yield
            pending.result()
    return stamps, held


class _OtherEntities(Exception):
    """A memory now has rows of entities whose states were not read; `entities` are all that are
    needed."""

    def __init__(self, entities: set[bytes]) -> None:
        super().__init__()
        self.entities = entities


def settle_ids(store: OnlineStore, writer: ViewWriter, rows: Mapping[bytes, list[Row]]) -> None:
    """Add rows to the memories of their ids, and update the states of every entity that has rows of
    these ids, all at once (T7).

    `rows` has the new rows by the keys of the memories. For an id without new rows only the states
    are updated. OnlineError where a row arrived so long before others that its id's memory, or what
    the row would be compared with, has been dropped.
    """
    finish(_settling(store, writer, rows, RowEvents(writer)))


def _settling(
    store: OnlineStore,
    writer: ViewWriter,
    rows: Mapping[bytes, list[Row]],
    events: RowEvents,
    *,
    write: bool = True,
    closing: Closing | None = None,
) -> PendingSteps[None]:
    names = list(rows)
    wanted = events.entities(row for new in rows.values() for row in new)
    while True:
        entities = sorted(wanted)
        keys = [writer.floor_key, *names, *entities]
        change = partial(_settled, writer, rows, entities, events)
        try:
            if not write:
                change(store.read(keys))
                return
            with store.open_update(keys, change, closing=closing) as pending:
                yield
                return pending.result()
        except _OtherEntities as others:
            wanted = others.entities


def _settled(
    writer: ViewWriter,
    rows: Mapping[bytes, list[Row]],
    entities: list[bytes],
    events: RowEvents,
    blobs: Sequence[bytes | None],
) -> list[bytes | None]:
    """The new values of the floor (None: unchanged), the memories and the states."""
    ids, view = writer.ids, writer.view
    assert ids is not None
    floor = ids.read_floor(writer.floor_key, blobs[0])
    memories, states = blobs[1 : len(rows) + 1], blobs[len(rows) + 1 :]
    out: list[bytes | None] = [None]
    merged: list[tuple[list[Row], list[Row]]] = []
    changed: dict[bytes, tuple[list[Event], list[Event]]] = {}
    for (name, new), blob in zip(rows.items(), memories, strict=True):
        made = ids.written(name, new) if len(new) == 1 and _since(floor, new[0]) else None
        if made is not None and (blob is None or blob == made):
            # Nearly all ids are new, or were noted by this push.
            out.append(made if blob is None else None)
            after = new
        else:
            before = ids.read(name, blob)
            after = ids.merged(before, new)
            if len(after) > len(before):
                merged.append((before, after))
            out.append(ids.written(name, after) if len(after) > len(before) else None)
        for row in after:
            key, event = events(row)
            if key is not None:
                changed.setdefault(key, ([], []))[0].append(event)
        for row, end in ids.counting(after):
            key, event = events(row)
            if key is not None:
                changed[key][1].append(writer.ending(event, end))
    if not changed.keys() <= set(entities):
        raise _OtherEntities(set(changed))
    blob_of = {k: opened_state(view, k, v) for k, v in zip(entities, states, strict=True)}
    value_of = dict(zip(entities, states, strict=True))
    open_: dict[bytes, State] = {}

    def opened(key: bytes) -> State:
        found = open_.get(key)
        if found is None:
            blob = blob_of[key]
            try:
                found = open_[key] = State(view) if blob is None else decode_state(view, blob)
            except UNREADABLE as error:
                refuse_unsealed(view, key, value_of[key], error)
                raise
        return found

    for before, after in merged:
        if floor is not None:
            _check_floor(writer, before, after, floor)
        _check_order(writer, events, opened, before, after)
    return out + _states(view, blob_of, changed, opened)


def _states(
    view: View,
    blob_of: Mapping[bytes, bytes | None],
    changed: Mapping[bytes, tuple[list[Event], list[Event]]],
    opened: Callable[[bytes], State],
) -> list[bytes | None]:
    """The new values of the states. `changed` has, for each entity, all events of the ids, and
    those that count."""
    out: list[bytes | None] = []
    splice = splice_of(view)
    for key, blob in blob_of.items():
        found = changed.get(key)
        if found is None:
            out.append(None)  # no row of the ids belongs to this entity any more
            continue
        every, counting = found
        if splice is not None and every == counting:
            # All events count, and `added` gives None where an instant is taken already.
            spliced = splice.added(blob, counting)
            if spliced is not None:
                out.append(sealed(key, spliced))
                continue
        state = opened(key)
        state.settle(every, counting, max(event[1] for event in every))
        out.append(sealed(key, state.encode()))
    return out


def _since(floor: int | None, row: Row) -> bool:
    """Whether a row arrived late enough for its id to be remembered."""
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
    events: RowEvents,
    opened: Callable[[bytes], State],
    known: list[Row],
    merged: list[Row],
) -> None:
    """Refuse rows that end or remove an event that its state holds for settled."""
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
