"""Running sums: turns parts that add up into the difference of two sums that run over all events.

Chosen for the labels of crowded keys if a part counts or adds whole numbers, as in Count, Sum,
Mean, Variance, StdDev, Any and All; not for doubles that are added as lists, and not for windows
that follow a calendar or end at a hop. For each order it costs a sort of events and ends of
windows: there is one order by instant, and, if events are late, one by arrival for each distance of
a window's end. It also costs a join of the events that arrived later than a window is long.
"""

from __future__ import annotations

from collections.abc import Sequence

from featurekit.core.durations import LIFETIME_US
from featurekit.core.sql import quote
from featurekit.define.plan import View
from featurekit.offline.window_plans.parts import (
    WindowParts,
    WindowTerm,
    events_sql,
    high_sql,
    low_sql,
    same_keys_sql,
    shortest_us,
    terms_of,
)


def running_sums(
    view: View, asked: Sequence[WindowParts], table: str, labels: str, lateness: int
) -> str:
    """For every label: __rid, the parts.

    Events in (low, high] that had arrived by t are those with greatest(ts + offset, created) <= t,
    minus those with ts <= low, plus those with ts <= low that had not arrived by t. The first two
    are running sums, each in its own order. The third are the events that arrived later than their
    window is long: few, if any. The sums run on from entity to entity, and the difference removes
    what the earlier entities added to both: whole numbers lose nothing, and a column's scale has
    room for all of its rows.
    """
    terms: dict[WindowTerm, int] = {}
    for a in asked:
        for _, term in terms_of(a):
            terms.setdefault(term, len(terms))
    late = lateness > 0
    # For each order of events: the ends of windows in it, numbered.
    orders: dict[str, dict[str, int]] = {}
    count = 0

    def end(order: str, at: str) -> int:
        nonlocal count
        ends = orders.setdefault(order, {})
        if at not in ends:
            ends[at] = count
            count += 1
        return ends[at]

    columns: dict[str, str] = {}
    for a in asked:
        f = a.feature
        if late:
            order, at = f"greatest(e.__ts + {f.nearest_us}, e.__created)", "l.__t"
        else:
            order, at = "e.__ts", high_sql(f)
        high = end(order, at)
        # No event of the entity is before a lifetime, whatever the order.
        low = end(order, str(-LIFETIME_US)) if f.lifetime else end("e.__ts", low_sql(f))
        for name, term in terms_of(a):
            total = f"any_value(p{terms[term]}) FILTER (__end = {{}})"
            value = " - ".join(f"coalesce({total.format(at)}, 0)" for at in (high, low))
            columns[name] = value
    passes = " UNION ALL ".join(
        _running_sql(view, list(terms), asked, table, labels, order, ends)
        for order, ends in orders.items()
    )
    shown = ", ".join(f"{value} AS {name}" for name, value in columns.items())
    sums = f"(SELECT __rid, {shown} FROM ({passes}) GROUP BY __rid)"
    if lateness <= shortest_us(asked):
        return sums
    more = ", ".join(f"s.{name} + coalesce(c.{name}, 0) AS {name}" for name in columns)
    awaited = _awaited_sql(view, asked, table, labels)
    return f"(SELECT s.__rid, {more} FROM {sums} s LEFT JOIN {awaited} c ON s.__rid = c.__rid)"


def _running_sql(
    view: View,
    terms: Sequence[WindowTerm],
    asked: Sequence[WindowParts],
    table: str,
    labels: str,
    order: str,
    ends: dict[str, int],
) -> str:
    """For each label and end of a window: __rid, __end, and for term i the sum `p{i}`. The sum is
    over all events of the entities before, and over those of its own entity that stand at or before
    the end in `order`.

    Sorted rows need only one pass without a partition (DuckDB's streaming window). When they were
    sorted and summed by partition, they took twice the time, and a crowded key only used one
    thread.
    """
    keys = ", ".join(f"k{i}" for i in range(len(view.join_keys)))
    # Twice the instant, plus one for an end, so that an end comes after the events of its instant.
    values = ", ".join(f"{term.value} AS q{i}" for i, term in enumerate(terms))
    events = (
        f"SELECT {keys}, 2 * ({order}) AS __z, NULL::BIGINT AS __rid, NULL::INTEGER AS __end, "
        f"{values} FROM {events_sql(asked, table)} e"
    )
    named = ", ".join(f"l.{quote(p.name)}" for p in view.join_keys)
    nulls = ", ".join("NULL" for _ in terms)
    rows = [events]
    for at, number in ends.items():
        rows.append(f"SELECT {named}, 2 * ({at}) + 1, l.__rid, {number}, {nulls} FROM {labels} l")
    running = ", ".join(
        f"{term.function}(q{i}) OVER (ROWS UNBOUNDED PRECEDING) AS p{i}"
        for i, term in enumerate(terms)
    )
    return (
        f"SELECT * FROM (SELECT __rid, __end, {running} FROM "
        f"(SELECT * FROM ({' UNION ALL '.join(rows)}) ORDER BY {keys}, __z)) "
        "WHERE __rid IS NOT NULL"
    )


def _awaited_sql(view: View, asked: Sequence[WindowParts], table: str, labels: str) -> str:
    """For each label with events that happened before one of its windows and had not arrived:
    __rid, and the parts over these events.

    An event is awaited in [ts, created). That interval lies in at most two tiles of the next power
    of two, and each instant lies in one. So labels meet the events of their tile, in one join for
    all powers.
    """
    # DuckDB may compute it for prompt events too, before it leaves them out.
    width = "(1::BIGINT << length(bin(greatest(__created - __ts, 0))))"
    late = events_sql(asked, table, f"{width} AS __width")
    late = f"(SELECT * FROM {late} WHERE __created - __ts > {shortest_us(asked)})"
    first, last = "fk_hop(__ts, __width)", "fk_hop(__created - 1, __width)"
    parts: dict[str, str] = {}
    for a in asked:
        f = a.feature
        keep = "FALSE" if f.lifetime else f"e.__ts <= {low_sql(f)}"
        if f.where is not None:
            keep += f" AND coalesce(e.s{f.where}, FALSE)"
        for name, term in terms_of(a):
            parts[name] = f"{term.function}({term.sql}) FILTER ({keep}) AS {name}"
    on = f"{same_keys_sql(view)} AND l.__width = e.__width AND l.__tile = e.__tile"
    on += " AND e.__ts <= l.__t AND e.__created > l.__t"
    return (
        f"(WITH late AS MATERIALIZED {late}, "
        f"tiled AS (SELECT *, {first} AS __tile FROM late UNION ALL "
        f"SELECT *, {last} FROM late WHERE {last} <> {first}), "
        f"asking AS (SELECT *, fk_hop(__t, __width) AS __tile FROM {labels} "
        f"CROSS JOIN (SELECT DISTINCT __width FROM late)) "
        f"SELECT l.__rid, {', '.join(parts.values())} FROM asking l JOIN tiled e ON {on} "
        f"GROUP BY l.__rid)"
    )
