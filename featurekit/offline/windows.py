"""Turns the windows of a view into a relation of values, errors and statuses, one row per label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from featurekit.aggregates.sql import NEVER, InputColumn
from featurekit.core.sql import literal, quote
from featurekit.core.status import (
    ERROR_STATUS,
    FOREVER,
    NOT_FOUND,
    NULL_VALUE,
    OUTSIDE_MAX_AGE,
    PRESENT,
)
from featurekit.core.types import INT
from featurekit.define.plan import Feature, View, in_order
from featurekit.offline.by_category import by_category_sql
from featurekit.offline.events import EventRows
from featurekit.offline.view_events import ViewEvents, keys_sql, order_sql, view_events
from featurekit.offline.view_result import (
    ViewSql,
    asked_events_sql,
    choose_columns,
    empty_sql,
    find_span,
    in_window_sql,
)
from featurekit.offline.window_plans.choose import group_windows
from featurekit.offline.window_plans.firsts import with_firsts
from featurekit.offline.window_plans.parts import WindowParts, high_sql
from featurekit.offline.window_plans.periods import with_periods

_PLANNED_AT_ONCE = 100
"""A view of more windows than this writes the results of so many at a time to a table. DuckDB plans
a statement, and hands its rows on, in time that grows faster than the number of its columns."""


def make_windows(
    con: Any,
    view: View,
    events: EventRows,
    labels: str,
    *,
    statuses: bool,
    name: str,
    span: tuple[int, int] | None = None,
) -> ViewSql:
    """Join labels with every aggregate of the view over its window (T3–T5, A1–A4), by the plan that
    `window_plans` chooses.

    `name` is an unused name for a temporary table of the view's events. `span` is the first and the
    last instant to read events for, if it differs from that of `labels`: then these are a bucket of
    the labels, and each bucket has the same columns.
    """
    made = view_events(con, view, asked_events_sql(view, events.relation, labels))
    _make_events(con, view, made, name, span or find_span(con, labels))
    asked = _parts(con, view, choose_columns(con, view, name, made.errors))
    every = range(len(view.features))
    first = ""
    if statuses or view.ttl_us is not None:
        # NOT_FOUND means that the entity has no visible event, however old (T4), so all events are
        # read.
        first = f"LEFT JOIN {_first_sql(view, made.sql, labels)}"
    if len(every) <= _PLANNED_AT_ONCE:
        sql, erring = _windows_sql(
            con, view, asked, every, first, name, labels,
            prompt=events.prompt, statuses=statuses, bucket=span is not None,
        )  # fmt: skip
        return ViewSql(sql, frozenset(erring), name, made.errors)
    tables, erring = [], []
    bare = name.strip(chr(34))
    if first:
        known = quote(f"{bare}_known")
        con.execute(
            f"CREATE OR REPLACE TEMP TABLE {known} AS "
            f"SELECT l.__rid, k.__first FROM {labels} l {first}"
        )
        first = f"LEFT JOIN {known} k ON l.__rid = k.__rid"
    for low in every[::_PLANNED_AT_ONCE]:
        chosen = every[low : low + _PLANNED_AT_ONCE]
        found, failing = _windows_sql(
            con, view, asked, chosen, first, name, labels,
            prompt=events.prompt, statuses=statuses, bucket=span is not None,
        )  # fmt: skip
        tables.append(quote(f"{bare}_from_{low}"))
        con.execute(f"CREATE OR REPLACE TEMP TABLE {tables[-1]} AS SELECT * FROM {found}")
        erring += failing
    joined = " JOIN ".join(t if i == 0 else f"{t} USING (__rid)" for i, t in enumerate(tables))
    return ViewSql(f"(SELECT * FROM {joined})", frozenset(erring), name, made.errors)


def _windows_sql(
    con: Any,
    view: View,
    asked: Sequence[WindowParts],
    chosen: Sequence[int],
    first: str,
    table: str,
    labels: str,
    *,
    prompt: bool,
    statuses: bool,
    bucket: bool,
) -> tuple[str, list[int]]:
    """A relation with the columns of the features with the numbers `chosen`, and the numbers of
    those that have an `x` column. `first` joins `k.__first`, where that is read."""
    numbers = [*chosen, *range(len(view.features), len(asked))]
    parts = [asked[i] for i in numbers]
    features = [a.feature for a in parts]
    framed = with_periods(con, features, labels, table)
    framed = with_firsts(con, view, features, table=table, labels=framed, prompt=prompt)
    found = group_windows(con, view, parts, table=table, labels=framed, prompt=prompt)
    finished = _finished_sql({i: asked[i] for i in numbers})
    # A label without an event in reach may have no group. Its parts are NULL then, and so are those
    # of a window without events: the value and the error of NULLs are what an empty window has.
    own = ", ".join(["l.__rid", "l.__t", *(f"l.{quote(p.name)}" for p in view.join_keys)])
    values = f"(SELECT {own}, {finished} FROM {labels} l LEFT JOIN {found} g ON l.__rid = g.__rid)"
    columns, erring = _columns_sql(view, asked, chosen, statuses=statuses, bucket=bucket)
    return f"(SELECT l.__rid, {', '.join(columns)} FROM {values} l {first})", erring


def _make_events(con: Any, view: View, made: ViewEvents, name: str, span: tuple[int, int]) -> None:
    """Make the temporary table `name` of the events that the instants of `span` can reach. `__o`
    orders the events of an entity by T6, if some aggregate needs that."""
    earliest, high = span
    reached = f"__ts > {earliest - view.retain_us} AND __ts <= {high} AND __created <= {high}"
    if view.kind == "label":  # what arrived by the run's end is known, whatever the instant is
        reached = f"__ts > {earliest} AND __ts <= {high + view.retain_us}"
    con.execute(
        f"CREATE TEMP TABLE {name} AS SELECT *, __ts AS __o FROM {made.sql} WHERE {reached}"
    )
    if not any(map(in_order, view.features)):
        return
    tied = f"SELECT 1 FROM {name} GROUP BY {keys_sql(view)}, __ts HAVING count(*) > 1 LIMIT 1"
    if con.execute(tied).fetchall():
        # Only ties need all of T6. Rows that are sorted already are numbered in half the time that
        # a window with an order takes.
        con.execute(
            f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT * REPLACE (row_number() OVER () AS __o)"
            f" FROM (SELECT * FROM {name} ORDER BY {order_sql(view, made)})"
        )


def _parts(con: Any, view: View, columns: Mapping[int, InputColumn]) -> list[WindowParts]:
    """The view's aggregates in DuckDB, in order. If the view has a ttl, one more follows: the count
    of the events within the ttl.

    Parts that are equal, and computed by one plan, have one name, and are computed once.
    """
    features = [*view.features]
    if view.ttl_us is not None:
        features.append(Feature("", INT, None, aggregate="Count", window_us=view.ttl_us))
    names: dict[tuple[str, bool, bool], str] = {}
    asked = []
    for feature in features:
        column = None if feature.slot is None else columns[feature.slot]
        keep = in_window_sql(feature)
        if feature.by is None:
            sql = feature.implementation().sql(column, keep)
        else:
            sql = by_category_sql(con, view, feature, column, keep)
        plan = bool(sql.terms), sql.adds
        named = tuple(names.setdefault((part, *plan), f"p{len(names)}") for part in sql.parts)
        asked.append(WindowParts(feature, sql, named))
    return asked


def _finished_sql(asked: Mapping[int, WindowParts]) -> str:
    """The values `__v0` … made of the parts of `g` and, for those that can err, the errors `__e0`
    …. They form a subquery of their own: if they were written out where they are read, they would
    cost DuckDB a second."""
    finished: list[str] = []
    for i, a in asked.items():
        finished.append(f"{a.sql.value.format(*a.names)} AS __v{i}")
        if a.sql.error not in (None, NEVER):
            assert a.sql.error is not None
            finished.append(f"{a.sql.error.format(*a.names)} AS __e{i}")
    return ", ".join(finished)


def _columns_sql(
    view: View,
    asked: Sequence[WindowParts],
    chosen: Sequence[int],
    *,
    statuses: bool,
    bucket: bool,
) -> tuple[list[str], list[int]]:
    """The columns of the features `chosen`, and the numbers of those that have an `x` column. The
    columns read labels with values `l` and, if statuses or a ttl need it, `k.__first`."""
    known, fresh = "k.__first <= l.__t", None
    ahead = view.kind == "label"
    if view.ttl_us is not None:
        fresh = f"(coalesce({known}, FALSE) AND coalesce(l.__v{len(view.features)}, 0) > 0)"
    columns: list[str] = []
    erring: list[int] = []
    for i in chosen:
        feature = view.features[i]
        if ahead:
            known = f"k.__first <= {high_sql(feature)}"
        never = asked[i].sql.error == NEVER
        failed = None if never or asked[i].sql.error is None else f"l.__e{i}"
        value = _value_sql(feature, f"l.__v{i}", failed)
        if fresh is not None:
            # An unknown entity has empty windows; for one that is too old, all values are None
            # (T4).
            value = (
                f"CASE WHEN {fresh} THEN {value} "
                f"WHEN ({known}) IS NOT TRUE THEN {empty_sql(feature)} END"
            )
            failed = failed and f"({fresh} AND {failed})"
        columns.append(f"{value} AS f{i}")
        if failed is not None or (never and bucket):
            # Other data could err: each bucket of a join has the same columns.
            columns.append(f"{failed or NEVER} AS x{i}")
            erring.append(i)
        if statuses:
            old = f"WHEN NOT {fresh} THEN '{OUTSIDE_MAX_AGE}' " if fresh is not None else ""
            columns.append(
                f"CASE WHEN ({known}) IS NOT TRUE THEN '{NOT_FOUND}' {old}"
                f"WHEN {failed or 'FALSE'} THEN '{ERROR_STATUS}' "
                f"WHEN ({value}) IS NULL THEN '{NULL_VALUE}' ELSE '{PRESENT}' END AS t{i}"
            )
    return columns, erring


def _value_sql(feature: Feature, value: str, error: str | None) -> str:
    """The feature's value if its windows may have events: its default instead of None, and NULL if
    it errs (A4)."""
    if feature.default is not None:
        value = f"coalesce({value}, {literal(feature.default, feature.type)})"
    return value if error is None else f"CASE WHEN NOT ({error}) THEN {value} END"


def _first_sql(view: View, everything: str, labels: str) -> str:
    """A relation `k` with `__first`, the instant from which the label's entity has an event, and
    the join condition. With an `op` it only counts events that are not over at the label's
    instant."""
    seen = "__ts" if view.kind == "label" else "greatest(__ts, __created)"
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
