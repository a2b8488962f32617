"""Turns a view's events into the events of each entity, as a materialisation writes them.

They come as *groups*: batches of rows that have all the rows of each of their entities.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featurekit.core.keys import entity_key
from featurekit.core.sql import literal, quote
from featurekit.core.status import FOREVER, NEVER_VISIBLE
from featurekit.core.tables import temp_table
from featurekit.core.values import ERROR
from featurekit.define.plan import View
from featurekit.offline.counted_events import make_counted_rows, make_events
from featurekit.offline.events import EventRows
from featurekit.offline.view_events import (
    ViewEvents,
    keys_sql,
    leads_sql,
    order_sql,
    view_events,
)
from featurekit.online.state import blocks
from featurekit.online.state.encode_many import Many, entity_keys
from featurekit.online.state.state import Event

_BATCH = 50_000
_FIRST = 10_000
"""Rows of the first group. It is smaller than the others, so that writing can begin soon."""
_LISTED = 100
"""So many entities are written into a query; more are a table."""
_tables = itertools.count()


@dataclass(frozen=True, slots=True)
class Counts:
    """What a run found: entities, events, events without an entity, events with an erring slot."""

    entities: int
    events: int
    null_keys: int
    erring: int


@dataclass(frozen=True, slots=True)
class Entity:
    """The events of one entity, and its first visible instant and newest arrival, as a run found
    them."""

    key: bytes
    first: int
    newest: int
    events: list[Event]


class Group:
    """Entities and their events, in the columns of the queries below.

    Entity i has the rows `starts[i]` up to `starts[i + 1]`. An entity without events that matter
    has one row of nulls.
    """

    def __init__(self, view: View, made: ViewEvents, batch: pa.RecordBatch, starts: Any) -> None:
        self.view, self.made, self.batch, self.starts = view, made, batch, starts

    def __len__(self) -> int:
        return len(self.starts) - 1

    @functools.cached_property
    def keys(self) -> pa.LargeBinaryArray:
        """The key of each entity, as `entity_key` writes it."""
        first = pa.array(self.starts[:-1])
        columns = self.batch.columns[: len(self.view.join_keys)]
        if len(self) < self.batch.num_rows:
            columns = [column.take(first) for column in columns]
        types = [p.type for p in self.view.join_keys]
        return entity_keys(list(zip(types, columns, strict=True)))

    @functools.cached_property
    def plain(self) -> Any:
        """Which entities can be given the bytes of their `events` where they had no state before.

        A state in blocks cannot. Neither can one of a source with ids: the state itself decides
        what it keeps.
        """
        if self.view.dedupe_us is not None:
            return np.zeros(len(self), np.bool_)
        most = blocks.SPLIT if blocks.splits(self.view) else self.batch.num_rows
        return np.diff(self.starts) <= most

    @functools.cached_property
    def events(self) -> Many:
        """The events of each entity, as columns."""
        view, n = self.view, len(self.view.join_keys)
        facts = [self.batch.column(n + i).to_numpy()[self.starts[:-1]] for i in (0, 1)]
        batch, starts = self.batch, self.starts
        if batch.column(n + 2).null_count:
            there = batch.column(n + 2).is_valid()
            batch = batch.filter(there)
            until = np.cumsum(there.to_numpy(zero_copy_only=False))
            starts = np.concatenate([[0], until])[starts]
        columns = batch.columns[n + 2 :]
        flagged = iter(columns[2 + len(view.slots) :])
        slots = []
        for slot, error, column in zip(view.slots, self.made.errors, columns[2:], strict=False):
            flags = None if error is None else next(flagged).fill_null(False)
            errs = None if flags is None else flags.to_numpy(zero_copy_only=False)
            slots.append((slot.type, _typed(slot.type, column), errs))
        ts, created = columns[0].to_numpy(), columns[1].to_numpy()
        return Many(slots, facts[0], facts[1], ts, created, starts)

    @functools.cached_property
    def entities(self) -> list[Entity]:
        """Each entity, with its events as Python values."""
        return list(_grouped(self.view, self.made, _rows(self.view, self.batch)))


def _typed(type_: Any, column: pa.Array) -> pa.Array:
    return column if column.type == type_.arrow else column.cast(type_.arrow)


def _batches(con: Any, sql: str) -> Iterator[pa.RecordBatch]:
    """The rows of a statement in batches; nothing where it has no rows."""
    held: list[pa.RecordBatch] = []
    rows, wanted = 0, _FIRST
    for batch in con.sql(sql).to_arrow_reader(min(_FIRST, _BATCH)):
        held.append(batch)
        rows += batch.num_rows
        if rows >= wanted:
            yield _joined(held)
            held, rows, wanted = [], 0, _BATCH
    if rows:
        yield _joined(held)


def _singly(view: View, made: ViewEvents, batches: Iterator[pa.RecordBatch]) -> Iterator[Group]:
    """Groups of rows that each belong to an entity of their own."""
    for batch in batches:
        yield Group(view, made, batch, np.arange(batch.num_rows + 1))


def _groups(view: View, made: ViewEvents, batches: Iterator[pa.RecordBatch]) -> Iterator[Group]:
    """Groups of rows in which the rows of an entity follow each other."""
    held: list[pa.RecordBatch] = []
    n = len(view.join_keys)
    for batch in batches:
        changes = _changes(batch, n)
        if len(changes):
            last = int(changes[-1])
        elif held and _changes(_joined([held[-1].slice(held[-1].num_rows - 1), batch[:1]]), n).size:
            last = 0
        else:
            held.append(batch)
            continue
        yield _group(view, made, [*held, batch.slice(0, last)])
        held = [batch.slice(last)]
    if held:
        yield _group(view, made, held)


def _group(view: View, made: ViewEvents, batches: list[pa.RecordBatch]) -> Group:
    batch = _joined(batches)
    changes = _changes(batch, len(view.join_keys))
    return Group(view, made, batch, np.concatenate([[0], changes, [batch.num_rows]]))


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def _changes(batch: pa.RecordBatch, keys: int) -> Any:
    """The numbers of the rows that belong to another entity than the row before."""
    other = np.zeros(max(batch.num_rows - 1, 0), np.bool_)
    for column in batch.columns[:keys]:
        other |= pc.not_equal(column[1:], column[:-1]).to_numpy(zero_copy_only=False)
    return np.flatnonzero(other) + 1


def events_of_entities(
    con: Any, view: View, events: EventRows, entities: Sequence[Sequence[Any]]
) -> dict[bytes, list[Event]]:
    """All events that count of these entities, by their keys as `entity_key` writes them, whatever
    a state would let go of. An entity without any is left out."""
    counting = make_events(con, view, make_counted_rows(con, view, events.relation))
    asked = _of_these(con, view, entities)
    made = view_events(con, view, f"(SELECT * FROM {counting} {asked})")
    ends = ["__end"] if view.source.op is not None else []
    shown = ["0::BIGINT", "0::BIGINT", "__ts", "__created", *_slots(made), *ends]
    keys = keys_sql(view)
    sql = f"SELECT {keys}, {', '.join(shown)} FROM {made.sql} ORDER BY {keys}"
    groups = _groups(view, made, _batches(con, sql))
    return {entity.key: entity.events for group in groups for entity in group.entities}


def _of_these(con: Any, view: View, entities: Sequence[Sequence[Any]]) -> str:
    """What leaves of a relation the rows of these entities, in SQL."""
    types = {p.name: p.type for p in view.join_keys}
    if len(types) == 1 and len(entities) <= _LISTED:
        # A pushed row that comes late asks for one entity. A table for it takes about 3 ms more.
        ((name, type_),) = types.items()
        values = ", ".join(literal(value, type_) for (value,) in entities)
        return f"WHERE {quote(name)} IN ({values})"
    listed = temp_table(con, f"__entities_of_{view.name}", types, entities)
    return f"SEMI JOIN {listed} USING ({', '.join(map(quote, types))})"


# --- what is asked of DuckDB ----------------------------------------------------------------------


def count(con: Any, view: View, relation: str, made: ViewEvents) -> Counts:
    """What a run finds, from counting its rows."""
    bad = _erring(con, made)
    keys = [quote(p.name) for p in view.join_keys]
    known = " AND ".join(f"{key} IS NOT NULL" for key in keys)
    entities, total, null_keys = con.execute(
        f"SELECT count(DISTINCT ({', '.join(keys)})) FILTER ({known}), count(*), "
        f"count(*) FILTER (NOT ({known})) FROM {relation}"
    ).fetchall()[0]
    return Counts(entities, total, null_keys, bad)


def found(con: Any, view: View, relation: str, made: ViewEvents) -> tuple[Counts, Iterator[Group]]:
    """What a run finds, and every entity with rows in `relation`, with the events that its state
    keeps.

    It is for sources without ids. `made` has the events of `relation`.
    """
    keys, facts = keys_sql(view), f"__facts_{next(_tables)}"
    known = " AND ".join(f"{quote(p.name)} IS NOT NULL" for p in view.join_keys)
    null_keys = con.execute(f"SELECT count(*) FROM {relation} WHERE NOT ({known})").fetchall()[0][0]
    if view.kind == "latest":
        # Where each entity has one event, nothing else about it is needed.
        entities, most = con.execute(
            f"SELECT count(*), max(n) FROM (SELECT count(*) AS n FROM {made.sql} GROUP BY {keys})"
        ).fetchall()[0]
        if entities and most == 1:
            counts = Counts(entities, entities + null_keys, null_keys, _erring(con, made))
            return counts, _of_single(con, view, made)
    con.execute(
        f"CREATE TEMP TABLE {facts} AS SELECT {keys}, min(greatest(__ts, __created)) AS __first, "
        f"max(__created) AS __newest, max(__ts) AS __last, count(*) AS __n, "
        f"count(*) FILTER ({_errs(made)}) AS __erring FROM {made.sql} GROUP BY ALL"
    )
    entities, events, bad = con.execute(
        f"SELECT count(*), coalesce(sum(__n), 0)::BIGINT, coalesce(sum(__erring), 0)::BIGINT "
        f"FROM {facts}"
    ).fetchall()[0]
    counts = Counts(entities, events + null_keys, null_keys, bad)
    groups = _of_latest if view.kind == "latest" else _of_windows
    return counts, groups(con, view, made, facts)


def _errs(made: ViewEvents) -> str:
    """A condition in SQL: whether some slot of an event errs."""
    return " OR ".join(e for e in made.errors if e) or "FALSE"


def _erring(con: Any, made: ViewEvents) -> int:
    """The number of events with an erring slot."""
    if not any(made.errors):
        return 0
    errs = f"SELECT count(*) FROM {made.sql} WHERE {_errs(made)}"
    number: int = con.execute(errs).fetchall()[0][0]
    return number


def _of_windows(con: Any, view: View, made: ViewEvents, facts: str) -> Iterator[Group]:
    matters = f"a.__ts > b.__newest - {view.history_us} - {view.retain_us}"
    yield from _ordered(con, view, made, facts, made.sql, matters)


def _of_single(con: Any, view: View, made: ViewEvents) -> Iterator[Group]:
    """Entities that have one row each, which leads from its arrival on."""
    sql = (
        f"SELECT {keys_sql(view)}, greatest(__ts, __created), __created, __ts, __created, "
        f"{', '.join(_slots(made))} FROM {made.sql}"
    )
    yield from _singly(view, made, _batches(con, sql))


def _of_latest(con: Any, view: View, made: ViewEvents, facts: str) -> Iterator[Group]:
    """The rows that lead at the horizon or later. A row that happened before the one that leads at
    the horizon never leads again, so most entities keep one row, and nothing has to be ordered."""
    keys, columns = keys_sql(view), ", ".join(_slots(made))
    if view.history_us:
        visible = f"greatest(__ts, __created) <= __newest - {view.history_us}"
        since = (
            f"(SELECT {keys}, __first, __newest, max(__ts) FILTER ({visible}) AS __since "
            f"FROM {made.sql} JOIN {facts} USING ({keys}) GROUP BY ALL)"
        )
        con.execute(f"CREATE TEMP TABLE {facts}_since AS SELECT * FROM {since}")
        since = f"{facts}_since"
    else:
        # All events have arrived by the horizon, but some may have an instant after it.
        since = (
            f"(SELECT {keys}, __first, __newest, "
            f"CASE WHEN __last <= __newest THEN __last END AS __since FROM {facts})"
        )
    recent = f"{made.sql} JOIN {since} USING ({keys}) WHERE (__since IS NULL OR __ts >= __since)"
    tied = f"{facts}_tied"
    con.execute(
        f"CREATE TEMP TABLE {tied} AS SELECT {keys} FROM {recent} GROUP BY ALL HAVING count(*) > 1"
    )
    some = con.execute(f"SELECT count(*) FROM {tied}").fetchall()[0][0]
    single = f"(SELECT {keys}, __first, __newest, __ts, __created, {columns} FROM {recent})"
    if some:
        single = f"(SELECT * FROM {single} ANTI JOIN {tied} USING ({keys}))"
    yield from _singly(view, made, _batches(con, f"SELECT * FROM {single}"))
    if some:
        events = f"(SELECT {keys}, __ts, __created, {columns}{_orders(made)} FROM {recent})"
        several = f"(SELECT * FROM {events} SEMI JOIN {tied} USING ({keys}))"
        follows = f"lead(__v) OVER (PARTITION BY {keys} ORDER BY __v)"
        leading = f"(SELECT *, {follows} AS __until FROM {leads_sql(view, made, several)})"
        matters = f"coalesce(a.__until > b.__newest - {view.history_us}, TRUE)"
        facts = f"(SELECT * FROM {facts} SEMI JOIN {tied} USING ({keys}))"
        yield from _ordered(con, view, made, facts, leading, matters)


def _ordered(
    con: Any, view: View, made: ViewEvents, facts: str, events: str, matters: str
) -> Iterator[Group]:
    """Each entity of `facts` with those of its events that matter, in the order of T6."""
    same = " AND ".join(f"a.k{i} = b.k{i}" for i in range(len(view.join_keys)))
    shown = ["b.__first", "b.__newest", "a.__ts", "a.__created", *(f"a.{s}" for s in _slots(made))]
    sql = (
        f"SELECT {', '.join([keys_sql(view, 'b.'), *shown])} FROM {facts} b LEFT JOIN {events} a "
        f"ON {same} AND {matters} "
        f"ORDER BY {', '.join([keys_sql(view, 'b.'), _prefixed(order_sql(view, made))])}"
    )
    return _groups(view, made, _batches(con, sql))


def _slots(made: ViewEvents) -> list[str]:
    """The columns of the slots, then the columns that say where a slot errs."""
    return [f"s{i}" for i in range(len(made.errors))] + [e for e in made.errors if e]


def _orders(made: ViewEvents) -> str:
    """The columns by which T6 orders lists, where they are not slots themselves; as text for a
    SELECT."""
    slots = _slots(made)
    return "".join(f", {o}" for o in dict.fromkeys(made.orders) if o not in slots)


def remembering(con: Any, view: View, relation: str, made: ViewEvents) -> Iterator[Group]:
    """As `found`, for a source with ids: every entity with rows in `relation`, with the events that
    count and that its state may keep (T7). The state drops the rest itself."""
    assert view.dedupe_us is not None
    keys = keys_sql(view)
    named = ", ".join(f"{quote(p.name)} AS k{i}" for i, p in enumerate(view.join_keys))
    known = " AND ".join(f"{quote(p.name)} IS NOT NULL" for p in view.join_keys)
    newest = (
        f"(SELECT {named}, max(__created) AS __newest FROM {relation} WHERE {known} GROUP BY ALL)"
    )
    events = f"(SELECT * FROM {made.sql} JOIN {newest} USING ({keys}))"
    horizon = f"(__newest - {view.history_us})"
    remembered = f"__created + {2 * view.dedupe_us} >= __newest"
    ends = "__end" if view.source.op is not None else str(FOREVER)
    unsettled = f"({remembered} OR ({ends} < {FOREVER} AND {ends} > {horizon}))"
    old = f"(SELECT * FROM {events} WHERE NOT {remembered} AND {ends} = {FOREVER})"
    if view.kind == "latest":
        follows = f"lead(__v) OVER (PARTITION BY {keys} ORDER BY __v)"
        leading = f"(SELECT *, {follows} AS __until FROM {leads_sql(view, made, old)})"
        matter = f"(SELECT * FROM {leading} WHERE coalesce(__until > {horizon}, TRUE))"
        first = f"(SELECT {keys}, {NEVER_VISIBLE} AS __first FROM {newest})"
    else:
        reach = f"__ts > {horizon} - {view.retain_us}"
        matter = f"(SELECT * FROM {old} WHERE {reach})"
        first = (
            f"(SELECT {keys}, min(greatest(__ts, __created)) AS __first FROM {old} "
            f"WHERE NOT ({reach}) GROUP BY ALL)"
        )
    slots = [*_slots(made), *(["__end"] if view.source.op is not None else [])]
    columns = ", ".join([keys, "__ts", "__created", *slots]) + _orders(made)
    kept = (
        f"(SELECT {columns} FROM {events} WHERE {unsettled} "
        f"UNION ALL SELECT {columns} FROM {matter})"
    )
    facts = (
        f"(SELECT {keys}, coalesce(__first, {NEVER_VISIBLE}) AS __first, __newest "
        f"FROM {newest} LEFT JOIN {first} USING ({keys}))"
    )
    same = " AND ".join(f"a.k{i} = b.k{i}" for i in range(len(view.join_keys)))
    shown = ["b.__first", "b.__newest", "a.__ts", "a.__created", *(f"a.{s}" for s in slots)]
    sql = (
        f"SELECT {', '.join([keys_sql(view, 'b.'), *shown])} FROM {facts} b LEFT JOIN {kept} a "
        f"ON {same} ORDER BY {', '.join([keys_sql(view, 'b.'), _prefixed(order_sql(view, made))])}"
    )
    return _groups(view, made, _batches(con, sql))


def _prefixed(order: str) -> str:
    """The terms of an ORDER BY, with their columns taken from the relation `a`."""
    terms = []
    for term in order.split(", "):
        terms.append(term.replace("signbit(", "signbit(a.") if "(" in term else f"a.{term}")
    return ", ".join(terms)


def _rows(view: View, batch: Any) -> Iterator[tuple[Any, ...]]:
    types = [
        *(p.type for p in view.join_keys),
        None,
        None,
        None,
        None,
        *(s.type for s in view.slots),
    ]
    columns = []
    for i, column in enumerate(batch.columns):
        type_ = types[i] if i < len(types) else None
        if type_ is not None and column.type != type_.arrow:
            column = column.cast(type_.arrow)
        columns.append(column.to_pylist())
    return zip(*columns, strict=True)


def _grouped(view: View, made: ViewEvents, rows: Iterator[tuple[Any, ...]]) -> Iterator[Entity]:
    n, slots = len(view.join_keys), len(view.slots)
    erring = [i for i, e in enumerate(made.errors) if e]
    types = [p.type for p in view.join_keys]
    current: Entity | None = None
    current_keys: tuple[Any, ...] = ()
    for row in rows:
        if current is None or row[:n] != current_keys:
            if current is not None:
                yield current
            current_keys = row[:n]
            key = entity_key(list(zip(types, current_keys, strict=True)))
            current = Entity(key, row[n], row[n + 1], [])
        if row[n + 2] is None:
            continue  # all of its events lie before every window
        values = row[n + 4 : n + 4 + slots]
        flags = row[n + 4 + slots : n + 4 + slots + len(erring)]
        if any(flags):
            marked = list(values)
            for flag, i in zip(flags, erring, strict=True):
                if flag:
                    marked[i] = ERROR
            values = tuple(marked)
        values += row[n + 4 + slots + len(erring) :]  # the end, where the source has an op
        current.events.append((row[n + 2], row[n + 3], values))
    if current is not None:
        yield current
