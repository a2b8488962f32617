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
from featurekit.online.codec import entity_key
from featurekit.online.state import NEVER, NEVER_VISIBLE, Event, State, decode_state
from featurekit.online.store import OnlineStore
from featurekit.point_in_time import Events
from featurekit.serve import state_key, state_prefix
from featurekit.to_duckdb import quote
from featurekit.to_python import ERROR
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
    """Write the states of every entity with an arrival in (after, until], or of those entities of
    `only`, the values of the view's join keys, alone."""
    span = f"__created <= {until}" + (f" AND __created > {after}" if after != NEVER else "")
    relation = f"(SELECT * FROM {events.relation} WHERE {span})"
    if only is not None:
        names = ", ".join(quote(p.name) for p in view.join_keys)
        relation = (
            f"(SELECT * FROM {relation} SEMI JOIN {_listed(con, view, only)} USING ({names}))"
        )
    made = view_events(con, view, relation)
    counted = _count(con, view, relation, made)
    prefix = state_prefix(project, view)
    done = 0
    written: set[bytes] = set()
    chunk: list[Entity] = []
    for entity in _entities(con, view, made):
        chunk.append(entity)
        written.add(state_key(prefix, entity.key))
        if len(chunk) == _CHUNK:
            _write(store, view, prefix, chunk, after, until)
            done += len(chunk)
            progress(done, counted[0])
            chunk = []
    _write(store, view, prefix, chunk, after, until)
    progress(done + len(chunk), counted[0])
    if after == NEVER:
        left = store.keys(prefix) if only is None else _keys(view, prefix, only)
        _empty(store, view, [k for k in left if k not in written], until)
    return Materialized(view.name, done + len(chunk), *counted[1:])


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
    entities, known, bad = con.execute(
        f"SELECT count(DISTINCT ({keys_sql(view)})), count(*), "
        f"count(*) FILTER ({erring}) FROM {made.sql}"
    ).fetchall()[0]
    total = con.execute(f"SELECT count(*) FROM {relation}").fetchall()[0][0]
    return entities, total, total - known, bad


def _write(
    store: OnlineStore, view: View, prefix: bytes, chunk: list[Entity], after: int, until: int
) -> None:
    def change(blobs: list[bytes | None]) -> list[bytes | None]:
        out: list[bytes | None] = []
        for entity, blob in zip(chunk, blobs, strict=True):
            state = State(view) if blob is None else decode_state(view, blob)
            state.replace(
                after, until, list(entity.events), first=entity.first, newest=entity.newest
            )
            out.append(state.encode())
        return out

    store.update([state_key(prefix, e.key) for e in chunk], change)


def _empty(store: OnlineStore, view: View, keys: list[bytes], until: int) -> None:
    """Let go of what the states of entities that left the files and the log knew of the past."""

    def change(blobs: list[bytes | None]) -> list[bytes | None]:
        out: list[bytes | None] = []
        for blob in blobs:
            state = State(view) if blob is None else decode_state(view, blob)
            state.replace(NEVER, until, [], first=NEVER_VISIBLE, newest=NEVER)
            out.append(None if blob is None else state.encode())
        return out

    for first in range(0, len(keys), _CHUNK):
        store.update(keys[first : first + _CHUNK], change)


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
        if any(row[n + 4 + slots :]):
            marked = list(values)
            for flag, i in zip(row[n + 4 + slots :], erring, strict=True):
                if flag:
                    marked[i] = ERROR
            values = tuple(marked)
        current.events.append((row[n + 2], row[n + 3], values))
    if current is not None:
        yield current
