"""Turns a source's events into the online states of a view: a backfill, whole or incremental.

A run takes over an interval of arrivals, (after, until], and puts what the files and the log say of
it in the place of what the states knew of it. So it may be repeated, or die half way and be run
again, and pushes that arrive meanwhile are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from featurekit.compiled import View
from featurekit.errors import OnlineError
from featurekit.event_ids import counted
from featurekit.online.codec import entity_key
from featurekit.online.state import FOREVER, NEVER, NEVER_VISIBLE, Event, State
from featurekit.online.states import update_states
from featurekit.online.store import OnlineStore
from featurekit.point_in_time import Events
from featurekit.remember import remember
from featurekit.serve import state_key, state_prefix
from featurekit.to_duckdb import quote
from featurekit.to_python import ERROR
from featurekit.types import instant
from featurekit.view_events import ViewEvents, keys_sql, leads_sql, order_sql, view_events

_CHUNK = 500
_BATCH = 50_000

Progress = Callable[[int, int], None]
"""Called with entities done and entities in all."""


@dataclass(frozen=True, slots=True)
class Materialized:
    """What a run did to one view: `events` read in the interval, `null_keys` of them without an
    entity (S2), `erring` of them with an erring slot (R3), and states written."""

    view: str
    entities: int
    events: int
    null_keys: int
    erring: int


@dataclass(frozen=True, slots=True)
class Entity:
    """What a run says of one entity."""

    key: bytes
    first: int
    newest: int
    events: list[Event]


def materialize_view(
    con: Any,
    store: OnlineStore,
    project: str,
    view: View,
    events: Events,
    *,
    after: int = NEVER,
    until: int,
    only: Sequence[Sequence[Any]] | None = None,
    progress: Progress = lambda done, total: None,
) -> Materialized:
    """Write the states of every entity with an arrival in (after, until], and what is remembered of
    their ids (T7); or the states of those entities of `only`, the values of the view's join keys,
    alone."""
    if view.dedupe_us is not None and after != NEVER:
        # What arrives may end or replace what arrived so long before, and nothing older.
        after = max(after - view.dedupe_us, NEVER + 1)
    arrived = f"(SELECT * FROM {events.relation} WHERE __created <= {until})"
    since = f"__created > {after}" if after != NEVER else "TRUE"
    relation = f"(SELECT * FROM {arrived} WHERE {since})"
    counting = counted(con, view, arrived)
    made_of = f"(SELECT * FROM {counting} WHERE {since})"
    if only is not None:
        names = ", ".join(quote(p.name) for p in view.join_keys)
        asked = f"SEMI JOIN {_listed(con, view, only)} USING ({names})"
        relation, made_of = (f"(SELECT * FROM {r} {asked})" for r in (relation, made_of))
    made = view_events(con, view, made_of)
    numbers = _count(con, view, relation, made)
    prefix = state_prefix(project, view)
    done = 0
    written: set[bytes] = set()
    chunk: list[Entity] = []
    found = (
        _entities(con, view, made)
        if view.dedupe_us is None
        else _remembering_entities(con, view, relation, made)
    )
    for entity in found:
        chunk.append(entity)
        written.add(state_key(prefix, entity.key))
        if len(chunk) == _CHUNK:
            _write(store, view, prefix, chunk, after, until)
            done += len(chunk)
            progress(done, numbers[0])
            chunk = []
    _write(store, view, prefix, chunk, after, until)
    progress(done + len(chunk), numbers[0])
    if after == NEVER:
        left = store.keys(prefix) if only is None else _keys(view, prefix, only)
        _empty(store, view, [k for k in left if k not in written], until)
    if view.dedupe_us is not None and only is None:
        remember(con, store, project, view, arrived, counting, after=after, until=until)
    return Materialized(view.name, done + len(chunk), *numbers[1:])


def _keys(view: View, prefix: bytes, entities: Sequence[Sequence[Any]]) -> list[bytes]:
    """The keys of entities' states."""
    types = [p.type for p in view.join_keys]
    return [state_key(prefix, entity_key(list(zip(types, e, strict=True)))) for e in entities]


def _listed(con: Any, view: View, entities: Sequence[Sequence[Any]]) -> str:
    """A temporary table of entities, by the names of the view's join keys."""
    import pyarrow as pa

    table = quote(f"__only_{view.name}")
    columns = {
        p.name: pa.array([e[i] for e in entities], type=p.type.arrow)
        for i, p in enumerate(view.join_keys)
    }
    typed = ", ".join(
        f"{quote(p.name)}::{p.type.duckdb} AS {quote(p.name)}" for p in view.join_keys
    )
    con.register("__only_arrow", pa.table(columns))
    con.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS SELECT {typed} FROM __only_arrow")
    con.unregister("__only_arrow")
    return table


def _count(con: Any, view: View, relation: str, made: ViewEvents) -> tuple[int, int, int, int]:
    """Entities, events, events without an entity, events with an erring slot."""
    erring = " OR ".join(e for e in made.errors if e) or "FALSE"
    bad = con.execute(f"SELECT count(*) FILTER ({erring}) FROM {made.sql}").fetchall()[0][0]
    keys = [quote(p.name) for p in view.join_keys]
    known = " AND ".join(f"{key} IS NOT NULL" for key in keys)
    entities, total, null_keys = con.execute(
        f"SELECT count(DISTINCT ({', '.join(keys)})) FILTER ({known}), count(*), "
        f"count(*) FILTER (NOT ({known})) FROM {relation}"
    ).fetchall()[0]
    return entities, total, null_keys, bad


def _write(
    store: OnlineStore, view: View, prefix: bytes, chunk: list[Entity], after: int, until: int
) -> None:
    def change(i: int, state: State) -> None:
        entity = chunk[i]
        _check_memory(view, state, until)
        state.replace(after, until, list(entity.events), first=entity.first, newest=entity.newest)

    update_states(store, view, [state_key(prefix, e.key) for e in chunk], change)


def _check_memory(view: View, state: State, until: int) -> None:
    """Refuse to bring rows that a state has already let go of others without knowing (T7)."""
    if view.dedupe_us is not None and state.newest_arrival - view.dedupe_us > until:
        newest = instant(state.newest_arrival).isoformat()
        raise OnlineError(
            f"view {view.name!r}: rows that arrived up to {newest} were pushed, which is more than "
            f"dedupe_within after {instant(until).isoformat()}, and ids that arrived before were "
            "held against them; materialise up to a later instant (a push that died delays it by "
            "ten minutes)"
        )


def _empty(store: OnlineStore, view: View, keys: list[bytes], until: int) -> None:
    """Let go of what the states of entities that left the files and the log knew of the past."""

    def change(_: int, state: State) -> None:
        state.replace(NEVER, until, [], first=NEVER_VISIBLE, newest=NEVER)

    for first in range(0, len(keys), _CHUNK):
        update_states(store, view, keys[first : first + _CHUNK], change, create=False)


def _entities(con: Any, view: View, made: ViewEvents) -> Iterator[Entity]:
    """Every entity of the interval, with the events that its state may keep."""
    keys = keys_sql(view)
    facts = (
        f"(SELECT {keys}, min(greatest(__ts, __created)) AS __first, max(__created) AS __newest "
        f"FROM {made.sql} GROUP BY ALL)"
    )
    same = " AND ".join(f"a.k{i} = b.k{i}" for i in range(len(view.join_keys)))
    horizon = f"b.__newest - {view.history_us}"
    if view.kind == "latest":
        # What happened before the row that leads at the horizon never leads again.
        visible = f"greatest(__ts, __created) <= __newest - {view.history_us}"
        leading = f"max(__ts) FILTER ({visible})"
        joined = f"(SELECT * FROM {made.sql} JOIN {facts} USING ({keys}))"
        since = f"(SELECT {keys}, {leading} AS __since FROM {joined} GROUP BY ALL)"
        recent = (
            f"(SELECT * EXCLUDE (__since) FROM {made.sql} JOIN {since} USING ({keys}) "
            "WHERE __since IS NULL OR __ts >= __since)"
        )
        follows = f"lead(__v) OVER (PARTITION BY {keys} ORDER BY __v)"
        kept = f"(SELECT *, {follows} AS __until FROM {leads_sql(view, made, recent)})"
        matters = f"coalesce(a.__until > {horizon}, TRUE)"
    else:
        kept, matters = made.sql, f"a.__ts > {horizon} - {view.retain_us}"
    slots = [f"a.s{i}" for i in range(len(view.slots))]
    slots += [f"a.{e}" for e in made.errors if e]
    columns = ", ".join([keys_sql(view, "b."), "b.__first", "b.__newest", "a.__ts", "a.__created"])
    order = ", ".join([keys_sql(view, "b."), _prefixed(order_sql(view, made))])
    sql = (
        f"SELECT {', '.join([columns, *slots])} FROM {facts} b LEFT JOIN {kept} a "
        f"ON {same} AND {matters} ORDER BY {order}"
    )
    reader = con.sql(sql).to_arrow_reader(_BATCH)
    return _grouped(view, made, (row for batch in reader for row in _rows(view, batch)))


def _remembering_entities(
    con: Any, view: View, relation: str, made: ViewEvents
) -> Iterator[Entity]:
    """As `_entities`, of a source with ids: every entity that `relation` has rows of, with the
    events that count and that its state, which lets go of the rest, may keep (T7)."""
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
    slots = [f"s{i}" for i in range(len(view.slots))] + [e for e in made.errors if e]
    slots += ["__end"] if view.source.op is not None else []
    columns = ", ".join([keys, "__ts", "__created", *slots])
    # What T6 orders lists by stands beside the slots.
    orders = ", ".join(dict.fromkeys(o for o in made.orders if o not in slots))
    columns += f", {orders}" if orders else ""
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
    reader = con.sql(sql).to_arrow_reader(_BATCH)
    return _grouped(view, made, (row for batch in reader for row in _rows(view, batch)))


def _prefixed(order: str) -> str:
    """The terms of an ORDER BY, their columns taken from the relation `a`."""
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
            continue  # all of its events lie before any window
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
