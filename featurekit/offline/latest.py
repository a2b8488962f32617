"""Turns the latest rows of a view into a relation of values, errors and statuses, one row per label
(V1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from featurekit.core.sql import quote
from featurekit.core.status import ERROR_STATUS, NOT_FOUND, NULL_VALUE, OUTSIDE_MAX_AGE, PRESENT
from featurekit.core.types import FLOAT
from featurekit.define.plan import Feature, View
from featurekit.language.python_calls import register_python_ops
from featurekit.language.to_duckdb import Lowering, Sql, Value, lower
from featurekit.offline.events import EventRows
from featurekit.offline.view_events import order_sql, view_events
from featurekit.offline.view_result import ViewSql, asked_events_sql


def make_latest(
    con: Any, view: View, events: EventRows, labels: str, *, statuses: bool, name: str
) -> ViewSql:
    """Join each label with the latest row of its entity as of its instant, within the ttl (V1, T4).

    `name` is an unused name for a temporary table of the rows.
    """
    # A label without a row gets nulls, even if a transform would turn nulls into a value.
    fresh = "__ts IS NOT NULL" if view.ttl_us is None else f"__ts > __t - {view.ttl_us}"
    used = sorted({i for feature in view.features for i in feature.reads})
    if view.source.op is None:
        errors = _make_latest_rows(con, view, events, labels, used, name=name)
        found = name
    else:
        errors, found = _make_latest_alive(con, view, events, labels, used, name=name)
    columns, erring = [], []
    lowering = Lowering("__a")
    for i, feature in enumerate(view.features):
        value, error = _value(lowering, feature, errors)
        columns.append(f"CASE WHEN {fresh} THEN {value} END AS f{i}")
        failed = None if error is None else f"coalesce({fresh} AND {error}, FALSE)"
        if failed is not None:
            columns.append(f"{failed} AS x{i}")
            erring.append(i)
        if statuses:
            columns.append(
                f"CASE WHEN __ts IS NULL THEN '{NOT_FOUND}' "
                f"WHEN NOT ({fresh}) THEN '{OUTSIDE_MAX_AGE}' "
                f"WHEN {failed or 'FALSE'} THEN '{ERROR_STATUS}' "
                f"WHEN {value} IS NULL THEN '{NULL_VALUE}' ELSE '{PRESENT}' END AS t{i}"
            )
    register_python_ops(con, lowering.python_ops)
    relation = lowering.wrap(found)
    return ViewSql(f"(SELECT __rid, {', '.join(columns)} FROM {relation})", frozenset(erring))


def _value(
    lowering: Lowering, feature: Feature, errors: Sequence[str | None]
) -> tuple[str, str | None]:
    """A feature's value over a label and its latest row, and the predicate that it errs, which is
    None if it cannot."""
    if feature.asked is None:
        assert feature.slot is not None
        return f"s{feature.slot}", errors[feature.slot]
    given = []
    for slot in feature.asked.inputs:
        error = None if slot is None else errors[slot]
        text = "make_timestamp(__t)" if slot is None else f"s{slot}"
        given.append(Value(Sql(text), error is not None, None if error is None else Sql(error)))
    made = lower(lowering, feature.asked.function, given)
    value = made.sql.text
    if feature.type.base == FLOAT:
        value = f"CASE WHEN isnan({value}) THEN 'nan'::DOUBLE ELSE {value} END"
    return value, None if made.error is None else made.error.text


def _make_latest_rows(
    con: Any, view: View, events: EventRows, labels: str, used: Sequence[int], *, name: str
) -> tuple[str | None, ...]:
    """Make the temporary table `name`. It has for each label `__rid` and `__t`, and from its latest
    row `__ts`, `__created`, the slots `used` and their error columns, and `__end` if there is an
    `op`. Returns the error columns of all slots.

    First it finds the instants of the rows and reads only keys and instants: an ASOF join spends
    its time on sorting, and whole rows would take longest. Then it fetches the rows of those
    instants. If these are more than the labels, some are tied; only then it settles ties, an
    instant at a time.
    """
    keys = [quote(p.name) for p in view.join_keys]
    asked = asked_events_sql(view, events.relation, labels)
    instants = quote(f"{name.strip(chr(34))}_instants")
    con.execute(
        f"CREATE TEMP TABLE {instants} AS "
        f"{_instants_sql(view, asked, labels, prompt=events.prompt)}"
    )
    # The instant from which a row is visible separates late rows from prompt rows of the same
    # instant.
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
    # One row too many shows that there are ties, however many there are.
    con.execute(f"{table}{made.sql} LIMIT {count + 1}")
    if con.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0] > count:
        con.execute(f"DROP TABLE {name}")
        con.execute(f"{table}{_settled_sql(con, view, rows, instants, by, row)}")
    con.execute(f"DROP TABLE {instants}")
    return made.errors


def _instants_sql(view: View, events: str, labels: str, *, prompt: bool) -> str:
    """SQL that gives for each label `__rid`, `__t`, the keys, and the `__ts` of its latest row.
    Unless all rows are `prompt`, it also gives `__v`, the instant from which that row is visible.
    Both are null if there is no row.

    An ASOF join on __ts finds the events that had arrived when they happened. Late events are
    usually few. A late event leads from its arrival until another late event arrives that happened
    later; a second ASOF join, on __created, finds the late event that leads. If both joins find a
    row of the same instant, the late one is the later by T6.
    """
    keys = [quote(p.name) for p in view.join_keys]
    named = ", ".join(f"l.{k}" for k in keys)

    def same(alias: str) -> str:
        # DuckDB's ASOF join loses rows if a bytes column follows another key, so bytes are compared
        # as hex.
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
    """A relation of the labels of `instants` with the columns `row`. Among the rows of `rows` that
    are equal to a label's in the columns `by`, the last one by T6 is taken."""
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


def _make_latest_alive(
    con: Any, view: View, events: EventRows, labels: str, used: Sequence[int], *, name: str
) -> tuple[tuple[str | None, ...], str]:
    """As `_make_latest_rows`, for the events that no correction or deletion had ended by the
    label's instant (T7). Returns the error columns and a relation.

    Mostly the latest row has not ended, since a correction comes after the row that it corrects.
    For the other labels, all events of their entities are looked at.
    """
    _make_latest_rows(con, view, events, labels, used, name=name)
    made = view_events(con, view, asked_events_sql(view, events.relation, labels))
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
