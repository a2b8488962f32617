"""Turns compiled views and a table of labels into the SQL of a point-in-time join.

Labels are a table with `__rid` (row number), `__t` (instant, microseconds) and the join keys. A
view's result is a relation with `__rid` and, for feature i, `f{i}`, its value, `x{i}`, whether it
erred, and `t{i}`, its status where statuses are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from featurekit import aggregates
from featurekit.aggregates import exact, since
from featurekit.aggregates.base import Column
from featurekit.buckets import bucket_sql, buckets_needed
from featurekit.compiled import Feature, Service, View
from featurekit.event_ids import counted
from featurekit.online.state import (
    ERROR_STATUS,
    FOREVER,
    NOT_FOUND,
    NULL_VALUE,
    OUTSIDE_MAX_AGE,
    PRESENT,
    empty_value,
)
from featurekit.to_duckdb import Lowering, Sql, Value, literal, quote, register_python_ops
from featurekit.types import FLOAT, INT, instant
from featurekit.vectorise import create_function
from featurekit.view_events import keys_sql, order_sql, view_events
from featurekit.window_plans import Asked, grouped, high_sql, low_sql


@dataclass(frozen=True, slots=True)
class Events:
    """A source's rows in DuckDB: columns of the schema, `__ts`, `__created`.

    `prompt`: every event arrived when it happened, so that __created adds nothing (T3). `rows`: how
    many there are, where that is known.
    """

    relation: str
    prompt: bool
    rows: int | None = None


def prepare(con: Any) -> None:
    """Give a connection the session that every query here relies on (T2) and the macros."""
    con.execute("SET TimeZone = 'UTC'")
    con.execute("SET enable_progress_bar = false")  # it would write into a program's output
    # For up to 64 labels DuckDB makes an ASOF join an arg_max, and that loses -0.0 inside lists.
    con.execute("SET asof_loop_join_threshold = 0")
    # Where a divisor is a constant 0, DuckDB divides while it plans, whatever branch it is in.
    con.execute("SET error_on_division_by_zero = false")
    # Running sums go over sorted rows in their order (window_plans).
    con.execute("SET preserve_insertion_order = true")
    for macro in (*exact.macros_sql(), *since.macros_sql()):
        con.execute(macro)
    con.execute(
        "CREATE OR REPLACE TEMP MACRO fk_hop(x, h) AS x - ((x % h) + h) % h"
    )  # DuckDB's % takes the dividend's sign
    for finisher in {f for kind in aggregates.BY_NAME.values() for f in kind.finishers}:
        create_function(
            con, finisher.name, finisher.function, list(finisher.takes), finisher.gives,
            type="arrow", null_handling="special",
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Erred:
    """`events` on which a transform erred, and the first of them: its instant and keys."""

    transform: str
    events: int
    first: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class ViewSql:
    """A view's result, and the numbers of the features that have an `x` column.

    `events` is the temporary table of the events that a window view read, with `errors` the columns
    that say where its slots err; or, where buckets came and went, `erred` says what they found.
    """

    sql: str
    erring: frozenset[int]
    events: str | None = None
    errors: tuple[str | None, ...] = ()
    erred: tuple[Erred, ...] = ()


def latest_sql(
    con: Any, view: View, events: Events, labels: str, *, statuses: bool, name: str
) -> ViewSql:
    """The latest row of each label's entity as of its instant, within the ttl (V1, T4).

    `name` is free for a temporary table of the rows.
    """
    # A label without a row has nulls in their place, whatever a transform makes of those.
    fresh = "__ts IS NOT NULL" if view.ttl_us is None else f"__ts > __t - {view.ttl_us}"
    used = sorted({f.slot for f in view.features if f.slot is not None})
    if view.source.op is None:
        errors = _latest_rows(con, view, events, labels, used, name=name)
        found = name
    else:
        errors, found = _latest_alive(con, view, events, labels, used, name=name)
    columns, erring = [], []
    for i, feature in enumerate(view.features):
        slot = feature.slot
        assert slot is not None
        columns.append(f"CASE WHEN {fresh} THEN s{slot} END AS f{i}")
        error = errors[slot]
        failed = None if error is None else f"coalesce({fresh} AND {error}, FALSE)"
        if failed is not None:
            columns.append(f"{failed} AS x{i}")
            erring.append(i)
        if statuses:
            columns.append(
                f"CASE WHEN __ts IS NULL THEN '{NOT_FOUND}' "
                f"WHEN NOT ({fresh}) THEN '{OUTSIDE_MAX_AGE}' "
                f"WHEN {failed or 'FALSE'} THEN '{ERROR_STATUS}' "
                f"WHEN s{slot} IS NULL THEN '{NULL_VALUE}' ELSE '{PRESENT}' END AS t{i}"
            )
    return ViewSql(f"(SELECT __rid, {', '.join(columns)} FROM {found})", frozenset(erring))


def _latest_rows(
    con: Any, view: View, events: Events, labels: str, used: Sequence[int], *, name: str
) -> tuple[str | None, ...]:
    """Make the temporary table `name`: for each label `__rid`, `__t`, and of its latest row `__ts`,
    `__created`, the slots `used`, their error columns, and `__end` where there is an `op`. Returns
    the error columns of all slots.

    First the instants of the rows are found, reading keys and instants alone: sorting whole rows is
    what an ASOF join takes its time for. Then the rows of those instants are fetched. Where they
    are more than the labels some are tied, and only then ties are settled, an instant at a time.
    """
    keys = [quote(p.name) for p in view.join_keys]
    asked = _of_labels(view, events.relation, labels)
    instants = quote(f"{name.strip(chr(34))}_instants")
    con.execute(
        f"CREATE TEMP TABLE {instants} AS "
        f"{_instants_sql(view, asked, labels, prompt=events.prompt)}"
    )
    # From when on a row is visible tells those that arrived late from those of the same instant
    # that did not.
    by = [*keys, "__ts", *([] if events.prompt else ["__v"])]
    rows = events.relation
    if not events.prompt:
        rows = f"(SELECT *, greatest(__ts, __created) AS __v FROM {events.relation})"
    fetched = (
        f"(SELECT l.__rid, l.__t, e.* FROM {instants} l LEFT JOIN {rows} e USING ({', '.join(by)}))"
    )
    made = view_events(con, view, fetched, ("__rid", "__t"))
    ended = [] if view.source.op is None else ["__end"]
    row = ["__ts", "__created", *ended, *(f"s{i}" for i in used)]
    row += [e for i in used if (e := made.errors[i])]
    table = f"CREATE TEMP TABLE {name} AS SELECT __rid, __t, {', '.join(row)} FROM "
    count = con.execute(f"SELECT count(*) FROM {labels}").fetchall()[0][0]
    # One more than there should be tells, however many more there are.
    con.execute(f"{table}{made.sql} LIMIT {count + 1}")
    if con.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0] > count:
        con.execute(f"DROP TABLE {name}")
        con.execute(f"{table}{_settled_sql(con, view, rows, instants, by, row)}")
    con.execute(f"DROP TABLE {instants}")
    return made.errors


def _instants_sql(view: View, events: str, labels: str, *, prompt: bool) -> str:
    """For each label `__rid`, `__t`, the keys, and of its latest row `__ts` and, unless all are
    `prompt`, `__v`, the instant from which it is visible; null where it has none.

    Events that arrived by the time they happened are found by an ASOF join on __ts. Those that
    arrived late are as a rule few. One of them is the latest for a while from its arrival on, if no
    late one that arrived until then happened later: these are found by a second ASOF join, on
    __created. Of two rows of one instant the late one is the later by T6.
    """
    keys = [quote(p.name) for p in view.join_keys]
    named = ", ".join(f"l.{k}" for k in keys)

    def same(alias: str) -> str:
        # DuckDB's ASOF join loses rows where bytes come after another key, but not their digits.
        of = ["hex({}.{})" if p.type.name == "bytes" else "{}.{}" for p in view.join_keys]
        return " AND ".join(
            f"{text.format('l', k)} = {text.format(alias, k)}"
            for text, k in zip(of, keys, strict=True)
        )

    by = ", ".join(keys)
    if prompt:
        return (
            f"SELECT l.__rid, l.__t, {named}, a.__ts FROM {labels} l "
            f"ASOF LEFT JOIN (SELECT {by}, __ts FROM {events}) a ON {same('a')} AND l.__t >= a.__ts"
        )
    on_time = f"(SELECT {by}, __ts FROM {events} WHERE __created <= __ts)"
    late = f"SELECT {by}, __ts, __created FROM {events} WHERE __created > __ts"
    leading = (
        f"({late} QUALIFY __ts = max(__ts) OVER "
        f"(PARTITION BY {by} ORDER BY __created RANGE UNBOUNDED PRECEDING))"
    )
    wins = "b.__ts IS NOT NULL AND (a.__ts IS NULL OR b.__ts >= a.__ts)"
    return (
        f"SELECT l.__rid, l.__t, {named}, CASE WHEN {wins} THEN b.__ts ELSE a.__ts END AS __ts, "
        f"CASE WHEN {wins} THEN b.__created ELSE a.__ts END AS __v FROM {labels} l "
        f"ASOF LEFT JOIN {on_time} a ON {same('a')} AND l.__t >= a.__ts "
        f"ASOF LEFT JOIN {leading} b ON {same('b')} AND l.__t >= b.__created"
    )


def _settled_sql(
    con: Any, view: View, rows: str, instants: str, by: Sequence[str], row: Sequence[str]
) -> str:
    """A relation of the labels of `instants` with the columns `row` of the last row by T6 among
    those of `rows` that are equal in the columns `by`."""
    shared = ", ".join(by)
    asked = f"(SELECT * FROM {rows} SEMI JOIN {instants} USING ({shared}))"
    tied = f"(SELECT {shared} FROM {asked} GROUP BY ALL HAVING count(*) > 1)"
    named = [*(f"k{i}" for i in range(len(view.join_keys))), *by[len(view.join_keys) :]]
    also = tuple(by[len(view.join_keys) + 1 :])
    single = view_events(
        con, view, f"(SELECT * FROM {asked} ANTI JOIN {tied} USING ({shared}))", also
    )
    made = view_events(
        con, view, f"(SELECT * FROM {asked} SEMI JOIN {tied} USING ({shared}))", also
    )
    last = (
        f"SELECT * FROM {made.sql} QUALIFY row_number() OVER (PARTITION BY {', '.join(named)} "
        f"ORDER BY {order_sql(view, made, backwards=True)}) = 1"
    )
    on = " AND ".join(f"l.{k} = e.{n}" for k, n in zip(by, named, strict=True))
    shown = ", ".join(f"e.{c}" for c in row)
    return (
        f"(SELECT l.__rid, l.__t, {shown} FROM {instants} l LEFT JOIN "
        f"(SELECT * FROM {single.sql} UNION ALL {last}) e ON {on})"
    )


def _latest_alive(
    con: Any, view: View, events: Events, labels: str, used: Sequence[int], *, name: str
) -> tuple[tuple[str | None, ...], str]:
    """As `_latest_rows`, of the events that no correction or deletion had ended by then (T7): the
    error columns, and a relation.

    Mostly the latest row is one of those, since a correction lies after what it corrects. For the
    other labels all events of their entities are looked at.
    """
    _latest_rows(con, view, events, labels, used, name=name)
    made = view_events(con, view, _of_labels(view, events.relation, labels))
    row = ["__ts", "__created", *(f"s{i}" for i in used)]
    row += [e for i in used if (e := made.errors[i])]
    on = " AND ".join(
        [f"l.{quote(p.name)} = e.k{i}" for i, p in enumerate(view.join_keys)]
        + ["e.__ts <= l.__t", "e.__created <= l.__t", "e.__end > l.__t"]
    )
    again = (
        f"(SELECT l.__rid, l.__t, e.* FROM {labels} l SEMI JOIN ended USING (__rid) "
        f"LEFT JOIN {made.sql} e ON {on})"
    )
    shown = ", ".join(["__rid", "__t", *row])
    return made.errors, (
        f"(WITH ended AS MATERIALIZED (SELECT __rid FROM {name} WHERE __end <= __t) "
        f"SELECT {shown} FROM {name} WHERE __end IS NULL OR __end > __t UNION ALL "
        f"SELECT {shown} FROM {again} QUALIFY row_number() OVER (PARTITION BY __rid "
        f"ORDER BY {order_sql(view, made, backwards=True)}) = 1)"
    )


def _of_labels(view: View, relation: str, labels: str) -> str:
    """The events whose entity some label asks about."""
    keys = ", ".join(quote(k.name) for k in view.join_keys)
    return f"(SELECT * FROM {relation} WHERE ({keys}) IN (SELECT DISTINCT {keys} FROM {labels}))"


def windows_sql(
    con: Any,
    view: View,
    events: Events,
    labels: str,
    *,
    statuses: bool,
    name: str,
    span: tuple[int, int] | None = None,
) -> ViewSql:
    """Every aggregate of the view over each label's windows (T3–T5, A1–A4), by the plan that
    `window_plans` chooses.

    `name` is free for a temporary table of the view's events. `span`: the first and the last
    instant to read events for, where they are not those of `labels`.
    """
    made = view_events(con, view, _of_labels(view, events.relation, labels))
    ordered = any(f.implementation().ordered for f in view.features)
    number = f"row_number() OVER (ORDER BY {order_sql(view, made)})" if ordered else "0"
    earliest, high = span or _span(con, labels)
    low = earliest - view.retain_us
    con.execute(
        f"CREATE TEMP TABLE {name} AS SELECT *, {number} AS __o FROM {made.sql} "
        f"WHERE __ts > {low} AND __ts <= {high} AND __created <= {high}"
    )
    columns = _columns(con, view, name)
    asked = []
    for i, feature in enumerate(view.features):
        column = None if feature.slot is None else columns[feature.slot]
        asked.append(_asked(feature, column, f"a{i}"))
    if view.ttl_us is not None:
        asked.append(_asked(_within_ttl(view.ttl_us), None, "fresh"))
    found = grouped(con, view, asked, table=name, labels=labels, prompt=events.prompt)
    # A layer of their own: written out where they are read, they would cost DuckDB a second.
    finished: list[str] = []
    for i, a in enumerate(asked):
        finished.append(f"{a.sql.value.format(*a.names)} AS v{i}")
        if a.sql.error is not None:
            finished.append(f"{a.sql.error.format(*a.names)} AS e{i}")
    known, fresh = "k.__first <= l.__t", None
    if view.ttl_us is not None:
        fresh = f"(coalesce({known}, FALSE) AND coalesce(g.v{len(view.features)}, 0) > 0)"
    outer: list[str] = []
    erring: list[int] = []
    for i, feature in enumerate(view.features):
        value, error = f"g.v{i}", asked[i].sql.error and f"g.e{i}"
        if feature.default is not None:
            value = f"coalesce({value}, {literal(feature.default, feature.type)})"
        if error is not None:
            value = f"CASE WHEN NOT ({error}) THEN {value} END"
        # A label without any event in reach may have no group: its windows are empty.
        within = "g.__rid IS NOT NULL" if i in found.summed else "coalesce(g.__in, FALSE)"
        empty = _empty_sql(feature)
        shown = f"CASE WHEN {within} THEN {value} ELSE {empty} END"
        failed = None if error is None else f"({within} AND {error})"
        if fresh is not None:
            # An entity that is not known has empty windows, one that is too old has none (T4).
            shown = f"CASE WHEN {fresh} THEN {shown} WHEN ({known}) IS NOT TRUE THEN {empty} END"
            failed = failed and f"({fresh} AND {failed})"
        outer.append(f"{shown} AS f{i}")
        if failed is not None:
            outer.append(f"{failed} AS x{i}")
            erring.append(i)
        if statuses:
            old = f"WHEN NOT {fresh} THEN '{OUTSIDE_MAX_AGE}' " if fresh is not None else ""
            outer.append(
                f"CASE WHEN ({known}) IS NOT TRUE THEN '{NOT_FOUND}' {old}"
                f"WHEN {failed or 'FALSE'} THEN '{ERROR_STATUS}' "
                f"WHEN ({shown}) IS NULL THEN '{NULL_VALUE}' ELSE '{PRESENT}' END AS t{i}"
            )
    first = ""
    if statuses or fresh is not None:
        # NOT_FOUND is an entity without any visible event, however old (T4): a fact of all of them.
        everything = view_events(con, view, _of_labels(view, events.relation, labels)).sql
        first = f"LEFT JOIN {_first_sql(view, everything, labels)}"
    whole = (
        f"(SELECT l.__rid, {', '.join(outer)} FROM {labels} l LEFT JOIN "
        f"(SELECT __rid, __in, {', '.join(finished)} FROM {found.sql}) g "
        f"ON l.__rid = g.__rid {first})"
    )
    return ViewSql(whole, frozenset(erring), name, made.errors)


def _first_sql(view: View, everything: str, labels: str) -> str:
    """A relation `k` with `__first`, from when on the label's entity has an event, and what it is
    joined on; with an `op`, of the events that are not over at the label's instant."""
    seen = "greatest(__ts, __created)"
    keys = [f"l.{quote(k.name)} = k.k{i}" for i, k in enumerate(view.join_keys)]
    on = " AND ".join(keys)
    if view.source.op is None:
        first = f"(SELECT {keys_sql(view)}, min({seen}) AS __first FROM {everything} GROUP BY ALL)"
        return f"{first} k ON {on}"
    lasting = (
        f"(SELECT {keys_sql(view)}, min({seen}) AS __first FROM {everything} "
        f"WHERE __end = {FOREVER} GROUP BY ALL)"
    )
    ended = f"(SELECT *, {seen} AS __first FROM {everything} WHERE __end < {FOREVER})"
    of_label = (
        f"(SELECT l.__rid, k.__first FROM {labels} l JOIN {lasting} k ON {on} UNION ALL "
        f"SELECT l.__rid, k.__first FROM {labels} l JOIN {ended} k "
        f"ON {on} AND k.__first <= l.__t AND k.__end > l.__t)"
    )
    return (
        f"(SELECT __rid, min(__first) AS __first FROM {of_label} GROUP BY __rid) k "
        "ON l.__rid = k.__rid"
    )


def _asked(feature: Feature, column: Column | None, name: str) -> Asked:
    sql = feature.implementation().sql(column, _keep(feature))
    return Asked(feature, sql, tuple(f"{name}_{p}" for p in range(len(sql.parts))))


def _within_ttl(ttl_us: int) -> Feature:
    """How many events are no older than the view's ttl (T4)."""
    return Feature("", INT, None, aggregate="Count", window_us=ttl_us)


def _span(con: Any, labels: str) -> tuple[int, int]:
    """The first and the last instant that is asked about; 0 where none is."""
    low, high = con.execute(f"SELECT min(__t), max(__t) FROM {labels}").fetchall()[0]
    return low or 0, high or 0


def erring_events(con: Any, view: View, made: ViewSql) -> dict[str, dict[str, Any]]:
    """For each transform of a window view that erred on an event it read: how many such events the
    aggregates left out, and the keys and instant of the first (R3)."""
    found: dict[str, dict[str, Any]] = {}
    for erred in made.erred or _erred(con, view, made):
        at, *keys = erred.first
        sample = dict(zip((p.name for p in view.join_keys), keys, strict=True))
        found[erred.transform] = {
            "events": erred.events,
            "first": {
                **{k: str(v) for k, v in sample.items()},
                "event_timestamp": instant(at).isoformat(),
            },
        }
    return found


def _erred(con: Any, view: View, made: ViewSql) -> tuple[Erred, ...]:
    found = []
    for slot, error in zip(view.slots, made.errors, strict=False):
        if error is None or slot.transform is None:
            continue
        count = con.execute(f"SELECT count(*) FROM {made.events} WHERE {error}").fetchall()[0][0]
        if count:
            keys = keys_sql(view)
            first = con.execute(
                f"SELECT __ts, {keys} FROM {made.events} WHERE {error} "
                f"ORDER BY __ts, {keys} LIMIT 1"
            ).fetchall()[0]
            found.append(Erred(slot.transform.name, count, first))
    return tuple(found)


def _keep(feature: Feature) -> str:
    """The predicate that an event of the join lies in the feature's window, and its `where`."""
    terms = [f"e.__ts > {low_sql(feature)}", f"e.__ts <= {high_sql(feature)}"]
    if feature.where is not None:
        terms.append(f"coalesce(e.s{feature.where}, FALSE)")
    return " AND ".join(terms)


def _empty_sql(feature: Feature) -> str:
    """The feature's value over no events."""
    value = empty_value(feature)
    if isinstance(value, (list, dict)):
        assert not value
        return f"{'[]' if isinstance(value, list) else 'MAP {}'}::{feature.type.duckdb}"
    return literal(value, feature.type)


def _columns(con: Any, view: View, table: str) -> dict[int, Column]:
    """The aggregates' inputs.

    How doubles are added is chosen from the column's statistics: one scale for all where it makes
    every value a whole number, else limbs by exponent.
    """
    used = sorted({f.slot for f in view.features if f.slot is not None})
    floats = [i for i in used if view.slots[i].type.base == FLOAT]
    chosen: dict[int, exact.FloatColumn] = {}
    if floats:
        asked = [s for i in floats for s in exact.statistics_sql(f"s{i}")]
        facts = con.execute(f"SELECT {', '.join(asked)} FROM {table}").fetchall()[0]
        per = len(asked) // len(floats)
        scales = [exact.scale_for(*facts[per * n : per * n + 2]) for n in range(len(floats))]
        fits = [exact.fits_sql(f"s{i}", s) for i, s in zip(floats, scales, strict=True)]
        fitting = con.execute(f"SELECT {', '.join(fits)} FROM {table}").fetchall()[0]
        for n, i in enumerate(floats):
            specials, minus_zero = facts[per * n + 2 : per * n + 4]
            if fitting[n]:
                half = exact.half_bits(facts[per * n + 1])
                chosen[i] = exact.FloatColumn(scales[n], (), specials, minus_zero, half)
                continue
            index = exact.limb_index_sql(f"s{i}")
            rows = con.execute(
                f"SELECT DISTINCT {index} AS n FROM {table} "
                f"WHERE isfinite(s{i}) AND s{i} <> 0 ORDER BY n"
            ).fetchall()
            limbs = tuple(r[0] for r in rows)
            chosen[i] = exact.FloatColumn(None, limbs, specials, minus_zero)
    return {i: Column(f"e.s{i}", view.slots[i].type.base, "e.__o", chosen.get(i)) for i in used}


@dataclass(frozen=True, slots=True)
class Joined:
    """A service's point-in-time join: a relation with `__rid` and, for output i, `o{i}`, its value,
    `x{i}`, whether it erred (only for those in `erring`), and `t{i}`, its status, where asked for.
    """

    sql: str
    erring: tuple[int, ...]
    views: tuple[ViewSql, ...]


def counted_events(con: Any, service: Service, events: Sequence[Events]) -> list[Events]:
    """The events of each view that count (T7): found once for views that remember ids alike."""
    found: dict[Any, Events] = {}
    for view, rows in zip(service.views, events, strict=True):
        key = (rows, view.source.event_id, view.source.op, view.dedupe_us)
        if key not in found:
            # Copies are the fewer part: of all rows, their number is good enough to go by.
            found[key] = replace(rows, relation=counted(con, view, rows.relation))
    return [
        found[rows, view.source.event_id, view.source.op, view.dedupe_us]
        for view, rows in zip(service.views, events, strict=True)
    ]


_PLANNED_AT_ONCE = 3
"""Joins of more views than this take the results of each as a table: DuckDB plans a statement in
time that grows with the cube of its joins, 12 s for 30 views where their tables take 0.1."""


def join_service(
    con: Any,
    service: Service,
    events: Sequence[Events],
    labels: str,
    *,
    statuses: bool,
    buckets: int | None = 1,
) -> Joined:
    """The values of every output for every label; `events` holds the rows of each view's source.

    `labels` also has the request fields as columns. Each view is joined bucket by bucket of its
    entities: by `buckets` of them, or, where that is None, by as many as the memory limit asks for.
    No number of buckets changes a bit.
    """
    relations: list[str] = []
    columns: list[str] = []
    if service.request or not service.views:
        relations.append(f"{labels} l")
        columns += [f"l.{quote(p.name)}" for p in service.request]
    erring: set[str] = set()
    views: list[ViewSql] = []
    counting = counted_events(con, service, events)
    for v, view in enumerate(service.views):
        name = quote(f"{labels.strip(chr(34))}_events_{v}")
        of_view = counting[v]
        number = buckets or buckets_needed(con, view, of_view.relation, labels, rows=of_view.rows)
        if number > 1:
            made = _by_bucket(con, view, of_view, labels, name, statuses=statuses, buckets=number)
        elif view.kind == "latest":
            made = latest_sql(con, view, of_view, labels, statuses=statuses, name=name)
        else:
            made = windows_sql(con, view, of_view, labels, statuses=statuses, name=name)
        plain = view.kind == "latest" and view.source.op is None  # it is a table already
        if number == 1 and len(service.views) > _PLANNED_AT_ONCE and not plain:
            result = quote(f"{labels.strip(chr(34))}_result_{v}")
            con.execute(f"CREATE TEMP TABLE {result} AS SELECT * FROM {made.sql}")
            made = replace(made, sql=result)
        views.append(made)
        relations.append(f"{made.sql} v{v}")
        for i in range(len(view.features)):
            columns.append(f"v{v}.f{i} AS f{v}_{i}")
            if i in made.erring:
                columns.append(f"v{v}.x{i} AS x{v}_{i}")
                erring.add(f"{v}_{i}")
            if statuses:
                columns.append(f"v{v}.t{i} AS t{v}_{i}")
    # Every one of them has each label's row exactly once.
    relation = " JOIN ".join(r if i == 0 else f"{r} USING (__rid)" for i, r in enumerate(relations))
    joined = f"(SELECT {', '.join(['__rid', *columns])} FROM {relation})"
    sql, failing = _finish(con, service, joined, erring, statuses=statuses)
    return Joined(sql, failing, tuple(views))


def _by_bucket(
    con: Any,
    view: View,
    events: Events,
    labels: str,
    name: str,
    *,
    statuses: bool,
    buckets: int,
) -> ViewSql:
    """The view's result as a temporary table, one bucket of entities after the other: each is freed
    before the next, and DuckDB may move the results to disk."""
    bare = name.strip('"')
    split, part, result = (quote(f"{bare}_{what}") for what in ("split", "bucket", "result"))
    keys = ", ".join(quote(p.name) for p in view.join_keys)
    con.execute(
        f"CREATE TEMP TABLE {split} AS SELECT __rid, __t, {keys}, "
        f"{bucket_sql(view, buckets)} AS __bucket FROM {labels}"
    )
    span = _span(con, labels)
    asked = con.execute(f"SELECT DISTINCT __bucket FROM {split} ORDER BY 1").fetchall() or [(0,)]
    erred: dict[str, Erred] = {}
    made = None
    for (bucket,) in asked:
        con.execute(
            f"CREATE TEMP TABLE {part} AS SELECT * EXCLUDE (__bucket) FROM {split} "
            f"WHERE __bucket = {bucket}"
        )
        if view.kind == "latest":
            found = latest_sql(con, view, events, part, statuses=statuses, name=name)
        else:
            found = windows_sql(con, view, events, part, statuses=statuses, name=name, span=span)
        if made is None:
            con.execute(f"CREATE TEMP TABLE {result} AS SELECT * FROM {found.sql}")
        else:
            con.execute(f"INSERT INTO {result} BY NAME SELECT * FROM {found.sql}")
        for one in _erred(con, view, found):
            known = erred.get(one.transform, Erred(one.transform, 0, one.first))
            erred[one.transform] = Erred(
                one.transform, known.events + one.events, min(known.first, one.first)
            )
        con.execute(f"DROP TABLE {part}; DROP TABLE IF EXISTS {name}")
        made = found
    con.execute(f"DROP TABLE {split}")
    assert made is not None
    return ViewSql(result, made.erring, erred=tuple(erred.values()))


def _finish(
    con: Any, service: Service, joined: str, erring: set[str], *, statuses: bool
) -> tuple[str, tuple[int, ...]]:
    """The request-time transforms over the joined views, and the outputs by number (Q1)."""
    lowering = Lowering("__q")
    made: list[Value] = []
    for transform in service.transforms:
        arguments = []
        for given in transform.inputs:
            match given.kind:
                case "request":
                    arguments.append(Value(Sql(quote(given.name))))
                case "transform":
                    arguments.append(made[given.index])
                case "feature":
                    at = f"{given.view}_{given.index}"
                    error = Sql(f"x{at}") if at in erring else None
                    arguments.append(Value(Sql(f"f{at}"), error is not None, error))
        made.append(lowering.lower(transform.function, arguments))
    register_python_ops(con, lowering.python_ops)
    columns = ["__rid"]
    failing = []
    for o, output in enumerate(service.outputs):
        if output.view >= 0:
            at = f"{output.view}_{output.index}"
            value, failed = f"f{at}", f"x{at}" if at in erring else None
            status = f"t{at}"
        else:
            result = made[output.index]
            value = result.sql.text
            failed = None if result.error is None else result.error.text
            status = (
                f"CASE WHEN {failed or 'FALSE'} THEN '{ERROR_STATUS}' "
                f"WHEN {value} IS NULL THEN '{NULL_VALUE}' ELSE '{PRESENT}' END"
            )
            if output.type.base == FLOAT:
                value = f"CASE WHEN isnan({value}) THEN 'nan'::DOUBLE ELSE {value} END"
        columns.append(f"{value} AS o{o}")
        if failed is not None:
            columns.append(f"{failed} AS x{o}")
            failing.append(o)
        if statuses:
            columns.append(f"{status} AS t{o}")
    return f"(SELECT {', '.join(columns)} FROM {lowering.wrap(joined)})", tuple(failing)
