"""Turns the windows of a view into SQL, by the plan that suits its data; all plans give the same
bits.

A key is *crowded* if its labels and events make many times more pairs than rows. The labels of
crowded keys go by `running_sums`, `running_extremes` and `tiled_join`; each aggregate takes the
plan that accepts it. All other labels go by `range_join`. Each plan is a file that says when it is
chosen and what it costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from featurekit.core.sql import quote
from featurekit.define.plan import View
from featurekit.offline.window_plans.parts import WindowParts, same_keys_sql, shortest_us
from featurekit.offline.window_plans.range_join import range_join
from featurekit.offline.window_plans.running_extremes import running_extremes
from featurekit.offline.window_plans.running_sums import running_sums
from featurekit.offline.window_plans.tiled_join import tiled_join

# How many pairs of the range join cost as much as one row of the other plans: if only running sums
# are used, and if others are among them (benchmarks/window_plans.py).
PAIRS_PER_SUM = 20
PAIRS_PER_ROW = 100


def group_windows(
    con: Any, view: View, asked: Sequence[WindowParts], *, table: str, labels: str, prompt: bool
) -> str:
    """Find the crowded keys, and make SQL of the parts of `asked` for each label of `labels` over
    the events of `table`. `prompt` means that no event arrived after it happened."""
    keys = ", ".join(f"k{i}" for i in range(len(view.join_keys)))
    on = same_keys_sql(view, "c")
    crowded = quote(f"{table.strip(chr(34))}_crowded")
    most = _find_crowded(con, view, asked, crowded, table, labels)
    late = "max(greatest(__created - __ts, 0))"
    if most is None:
        lateness = 0 if prompt else con.execute(f"SELECT {late} FROM {table}").fetchall()[0][0]
        return range_join(view, asked, table, labels, lateness or 0)
    hot = f"(SELECT * FROM {table} JOIN (SELECT __n, {keys} FROM {crowded}) USING ({keys}))"
    hot_labels = f"(SELECT l.*, c.__n FROM {labels} l JOIN {crowded} c ON {on})"
    found = _of_crowded_sql(view, asked, hot, hot_labels, 0 if prompt else most)
    others = f"(SELECT * FROM {labels} l ANTI JOIN {crowded} c ON {on})"
    if con.execute(f"SELECT count(*) FROM {others}").fetchall()[0][0]:
        lateness = 0 if prompt else con.execute(f"SELECT {late} FROM {table}").fetchall()[0][0]
        joined = range_join(view, asked, table, others, lateness)
        found = f"(SELECT * FROM {found} UNION ALL BY NAME SELECT * FROM {joined})"
    return found


def _of_crowded_sql(
    view: View, asked: Sequence[WindowParts], table: str, labels: str, lateness: int
) -> str:
    """SQL of the parts for each label of crowded keys. Their events and labels also have __n, the
    number of their entity.

    `lateness`: the longest time from an event to its arrival, in microseconds.
    """
    if view.source.op is not None:
        # An event may be over by t, so the plan must look at each event.
        return tiled_join(view, asked, table, labels, lateness)
    adding = [a for a in asked if a.runs and a.sql.adds]
    moving = [a for a in asked if a.runs and not a.sql.adds]
    others = [a for a in asked if not a.runs]
    parts = []
    if adding:
        parts.append(running_sums(view, adding, table, labels, lateness))
    if moving:
        parts.append(running_extremes(moving, table, labels, lateness))
    if others:
        parts.append(tiled_join(view, others, table, labels, lateness))
    joined = " LEFT JOIN ".join(p if i == 0 else f"{p} USING (__rid)" for i, p in enumerate(parts))
    return f"(SELECT * FROM {joined})"


def _find_crowded(
    con: Any, view: View, asked: Sequence[WindowParts], name: str, table: str, labels: str
) -> int | None:
    """Make the temporary table `name` of the crowded keys, k0 …, numbered by __n. Returns the
    longest time from one of their events to its arrival, in microseconds; None if no key is
    crowded."""
    keys = ", ".join(f"k{i}" for i in range(len(view.join_keys)))
    named = ", ".join(f"{quote(p.name)} AS k{i}" for i, p in enumerate(view.join_keys))
    late = "greatest(__created - __ts, 0)"
    pairs = PAIRS_PER_SUM if all(a.sql.adds for a in asked) else PAIRS_PER_ROW
    rows = f"SELECT (SELECT count(*) FROM {table}), (SELECT count(*) FROM {labels})"
    if min(con.execute(rows).fetchall()[0]) <= pairs:
        # l.n · e.n > pairs · (l.n + e.n) asks for more than `pairs` of both, and a small frame is
        # made in half the time without this statement.
        return None
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE {name} AS "
        f"SELECT {keys}, row_number() OVER () AS __n, e.most AS most "
        f"FROM (SELECT {keys}, count(*) AS n, max({late}) AS most, "
        f"sum(CASE WHEN {late} > {shortest_us(asked)} THEN {late}::DOUBLE ELSE 0 END) AS late, "
        f"max(__ts) - min(__ts) + 1 AS span FROM {table} GROUP BY ALL) e "
        f"JOIN (SELECT {named}, count(*) AS n FROM {labels} GROUP BY ALL) l USING ({keys}) "
        f"WHERE {_is_crowded_sql(pairs)}"
    )
    most: int | None = con.execute(f"SELECT max(most) FROM {name}").fetchall()[0][0]
    return most


def _is_crowded_sql(pairs_per_row: int) -> str:
    """The predicate that the range join is the slower plan for an entity with e.n events and l.n
    labels. This needs two facts. Its pairs cost more than its rows, one row being as expensive as
    `pairs_per_row` pairs. And its pairs are more than the pairs with an event that arrived after
    its window and after the label, which are a share e.late / e.span of all."""
    return f"(l.n::DOUBLE * e.n > {pairs_per_row} * (l.n + e.n) AND e.n > 4 * e.late / e.span)"
