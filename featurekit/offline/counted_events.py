"""Turns the rows of a source with an `event_id` into the events that count, as one SQL relation
(T7).

`online/state/ids.py` states the same rule in Python. The rows of one id are taken in order of
arrival, ties by T6. Without an `op`, the first row is the event. Copies that arrive up to
`dedupe_within` after it do not count; the first one after that is an event again. With an `op`,
each row is a version, which counts until the next version arrives if that is within
`dedupe_within`, and otherwise for good.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from featurekit.core.sql import quote
from featurekit.core.status import FOREVER
from featurekit.core.types import FLOAT
from featurekit.define.explode import exploded_sql
from featurekit.define.plan import Service, Source, View
from featurekit.define.union import FROM, row_orders
from featurekit.language.python_calls import register_python_ops
from featurekit.language.to_duckdb import Lowering, Sql, Value, lower
from featurekit.offline.events import EventRows
from featurekit.offline.view_events import order_key

_numbers = itertools.count()


def row_order_sql(source: Source) -> str:
    """The ORDER BY of T6, for rows of a source that arrived at one instant; of a union, for such
    rows of one of its sources."""
    types = {p.name: p.type for p in source.schema}
    terms = ["__ts"]
    for number, names in enumerate(row_orders(source)):
        for name in names:
            column = quote(name)
            if source.parts is not None:  # what another source calls so has its own place there
                column = f"CASE WHEN {FROM} = {number} THEN {column} END"
            terms.append(f"{order_key(column, types[name])} ASC NULLS FIRST")
            if types[name].base == FLOAT:
                terms.append(f"signbit({column}) DESC")
    return ", ".join(terms)


def make_counted_rows(con: Any, view: View, relation: str) -> str:
    """Make a relation of those rows of `relation` that count for a view: `make_counted` of its
    source, with ids that are remembered for as long as the view does."""
    if view.source.event_id is None:
        return relation
    assert view.dedupe_us is not None
    return make_counted(con, view.source, relation, within=view.dedupe_us)


def make_counted(con: Any, source: Source, relation: str, *, within: int) -> str:
    """Make a relation of those rows of `relation` (a source's columns, __ts, __created) that count,
    where ids are remembered for `within` microseconds. It has `__end` if the source has an `op`.

    Only the rows of repeated ids are ordered. They are kept in temporary tables of `con`, so that a
    query that reads the result often pays for them once.
    """
    assert source.event_id is not None
    event_id, name = quote(source.event_id), f"__ids_{next(_numbers)}"
    repeated, kept = f"{name}_repeated", f"{name}_kept"
    con.execute(
        f"CREATE TEMP TABLE {repeated} AS SELECT {event_id} FROM {relation} "
        f"GROUP BY {event_id} HAVING count(*) > 1"
    )
    rows = f"(SELECT * FROM {relation} SEMI JOIN {repeated} USING ({event_id}))"
    columns = ", ".join([*(quote(p.name) for p in source.schema), "__ts", "__created"])
    single = f"SELECT {columns} FROM {relation} ANTI JOIN {repeated} USING ({event_id})"
    if source.op is None:
        first_known = _make_first_known(con, source, rows, within, name)
        con.execute(f"CREATE TEMP TABLE {kept} AS {first_known}")
        return f"({single} UNION ALL SELECT {columns} FROM {kept})"
    con.execute(f"CREATE TEMP TABLE {kept} AS {_versions_sql(source, rows, within)}")
    upserts = f"SELECT *, {FOREVER} AS __end FROM ({single}) WHERE {quote(source.op)} = 'upsert'"
    return f"({upserts} UNION ALL SELECT {columns}, __end FROM {kept})"


def _make_first_known(con: Any, source: Source, rows: str, within: int, name: str) -> str:
    """Make SQL of the rows that count: of each id, the row that arrived first and each row that
    arrived after the id was forgotten."""
    event_id = quote(source.event_id or "")
    over = f"OVER (PARTITION BY {event_id} ORDER BY __created, {row_order_sql(source)})"
    # A row that arrives long after the row before it is always an event; mostly that finds all of
    # them.
    long_after = f"(__created - lag(__created) {over} > {within}) IS NOT FALSE"
    since = f"max(CASE WHEN __starts THEN __created END) {over}"
    con.execute(
        f"CREATE TEMP TABLE {name}_runs AS SELECT *, {since} AS __since "
        f"FROM (SELECT *, {long_after} AS __starts FROM {rows})"
    )
    chained = f"(SELECT {event_id} FROM {name}_runs WHERE __created - __since > {within})"
    later = f"CASE WHEN x[1] > a[len(a)] + {within} THEN list_concat(a, x) ELSE a END"
    ordered = "list_transform(list_sort(list(DISTINCT __created)), lambda c: [c])"
    of_chained = f"(SELECT * FROM {name}_runs SEMI JOIN {chained} USING ({event_id}))"
    chain = (
        f"(SELECT {event_id}, unnest(list_reduce({ordered}, lambda a, x: {later})) AS __created "
        f"FROM {of_chained} GROUP BY {event_id})"
    )
    return (
        f"SELECT * FROM {name}_runs ANTI JOIN {chained} USING ({event_id}) WHERE __starts "
        f"UNION ALL SELECT * FROM {of_chained} SEMI JOIN {chain} USING ({event_id}, __created) "
        f"QUALIFY row_number() OVER (PARTITION BY {event_id}, __created "
        f"ORDER BY {row_order_sql(source)}) = 1"
    )


def _versions_sql(source: Source, rows: str, within: int) -> str:
    """SQL of each upsert, with the instant at which the next version of its id arrived."""
    following = (
        f"lead(__created) OVER (PARTITION BY {quote(source.event_id or '')} "
        f"ORDER BY __created, {row_order_sql(source)})"
    )
    end = f"CASE WHEN __next - __created <= {within} THEN __next ELSE {FOREVER} END"
    return (
        f"SELECT * EXCLUDE (__next), {end} AS __end "
        f"FROM (SELECT *, {following} AS __next FROM {rows}) "
        f"WHERE {quote(source.op or '')} = 'upsert' AND __end > __created"
    )


def make_counted_events(con: Any, service: Service, events: Sequence[EventRows]) -> list[EventRows]:
    """Make the relations of the events that count for each view (T7). Views that remember ids alike
    share one."""
    found: dict[Any, EventRows] = {}
    made = []
    for view, rows in zip(service.views, events, strict=True):
        key = (rows, view.source.event_id, view.source.op, view.dedupe_us)
        if key not in found:
            found[key] = _counted(con, view, rows)
        made.append(_exploded(con, view, found[key]))
    return made


def make_counted_view(con: Any, view: View, rows: EventRows) -> EventRows:
    """Make the relation of the events that count for one view (T7)."""
    return _exploded(con, view, _counted(con, view, rows))


def _counted(con: Any, view: View, rows: EventRows) -> EventRows:
    # Copies are few, so the number of all rows is a good enough estimate.
    return replace(rows, relation=make_counted_rows(con, view, rows.relation))


def make_events(con: Any, view: View, relation: str) -> str:
    """Make the relation of the view's events, of one that has the rows of its source that count:
    the elements of a list that is exploded, and the rows that pass the view's `where`."""
    relation = exploded_sql(view, relation)
    if view.where is None:
        return relation
    lowering, where = Lowering("__where"), view.where
    value = lower(lowering, where.function, [Value(Sql(quote(c))) for c in where.columns])
    register_python_ops(con, lowering.python_ops)
    own = "COLUMNS(lambda c: NOT starts_with(c, '__where'))"
    return f"(SELECT {own} FROM {lowering.wrap(relation)} WHERE coalesce({value.sql.text}, FALSE))"


def _exploded(con: Any, view: View, counted: EventRows) -> EventRows:
    if view.each_row_an_event:
        return counted
    # Nobody knows how many elements the rows have.
    return replace(counted, relation=make_events(con, view, counted.relation), rows=None)
