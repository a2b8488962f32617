"""Turns labels into labels that also know the first event that counts, where not all events of a
window do (T10): the plans then look at each event by itself, as for any window."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from featurekit.aggregates.sql import AggregateSql
from featurekit.core.sql import quote
from featurekit.core.status import FOREVER, NEVER
from featurekit.define.plan import Feature, View
from featurekit.offline.window_plans.choose import group_windows
from featurekit.offline.window_plans.parts import WindowParts, first_column, within_sql


def with_firsts(
    con: Any, view: View, features: Iterable[Feature], *, table: str, labels: str, prompt: bool
) -> str:
    """Labels with the columns that `first_column` names for the features; as they are where all
    events of each window count. What is computed is kept in a temporary table."""
    cutting = {first_column(feature): feature for feature in features if feature.cuts}
    if not cutting:
        return labels
    parts, shown = [], []
    for number, (column, feature) in enumerate(cutting.items()):
        part, first = _first_sql(feature, f"c{number}")
        parts.append(WindowParts(feature, AggregateSql((part,), "{0}"), (f"c{number}",)))
        shown.append(f"{first} AS {quote(column)}")
    found = group_windows(con, view, parts, table=table, labels=labels, prompt=prompt)
    kept = quote(f"{table.strip(chr(34))}_firsts")
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE {kept} AS SELECT l.*, {', '.join(shown)} "
        f"FROM {labels} l LEFT JOIN {found} g ON l.__rid = g.__rid"
    )
    return kept


def _first_sql(feature: Feature, name: str) -> tuple[str, str]:
    """A part over the events of the window, and SQL that makes of the part, which is called `name`,
    where those begin that count: of rows by their order, of a session by its first instant."""
    assert feature.frame is not None
    rows, gap, within = feature.frame.rows, feature.frame.session_us, within_sql(feature)
    if rows is not None:
        return f"max(e.__o, {rows}) FILTER (WHERE {within})", f"coalesce(g.{name}[{rows}], {NEVER})"
    # Of a session it is the last instant that comes later than the gap after the one before.
    begins = f"lambda ts, i: i = 1 OR ts - g.{name}[i - 1] > {gap}"
    first = f"list_max(list_filter(g.{name}, {begins}))"
    fresh = f"l.__t - {feature.offset_us} - g.{name}[-1] <= {gap}"
    part = f"list(e.__ts ORDER BY e.__ts) FILTER (WHERE {within})"
    return part, f"CASE WHEN {fresh} THEN {first} ELSE {FOREVER} END"
