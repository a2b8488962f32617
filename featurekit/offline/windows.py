"""Joins labels with the windows of a view."""

from __future__ import annotations

from typing import Any

from featurekit.aggregates.sql import Column
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
from featurekit.define.plan import Feature, View
from featurekit.offline.events import EventRows
from featurekit.offline.view_events import keys_sql, order_sql, view_events
from featurekit.offline.view_result import (
    ViewSql,
    asked_span,
    empty_sql,
    keep,
    of_labels,
    result_columns,
)
from featurekit.offline.window_plans.asked import Asked
from featurekit.offline.window_plans.choose import grouped


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
    """Every aggregate of the view over each label's windows (T3–T5, A1–A4), by the plan that
    `window_plans` chooses.

    `name` is free for a temporary table of the view's events. `span`: the first and the last
    instant to read events for, where they are not those of `labels`.
    """
    made = view_events(con, view, of_labels(view, events.relation, labels))
    ordered = any(f.implementation().ordered for f in view.features)
    number = f"row_number() OVER (ORDER BY {order_sql(view, made)})" if ordered else "0"
    earliest, high = span or asked_span(con, labels)
    low = earliest - view.retain_us
    con.execute(
        f"CREATE TEMP TABLE {name} AS SELECT *, {number} AS __o FROM {made.sql} "
        f"WHERE __ts > {low} AND __ts <= {high} AND __created <= {high}"
    )
    columns = result_columns(con, view, name)
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
        empty = empty_sql(feature)
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
        everything = view_events(con, view, of_labels(view, events.relation, labels)).sql
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
    sql = feature.implementation().sql(column, keep(feature))
    return Asked(feature, sql, tuple(f"{name}_{p}" for p in range(len(sql.parts))))


def _within_ttl(ttl_us: int) -> Feature:
    """How many events are no older than the view's ttl (T4)."""
    return Feature("", INT, None, aggregate="Count", window_us=ttl_us)
