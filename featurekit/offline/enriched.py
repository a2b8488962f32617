"""Turns the rows of a source into rows that have taken features of other views, as relations (T11).

`feed/enrich.py` does the same to pushed rows in Python. A row takes from the rows of the other view
that had happened by its own instant and had arrived by its own arrival the last one by T6. What it
takes follows from its keys and these two instants, so it is found once for each such triple.

Mostly the last row that had happened had also arrived: one ASOF join finds it. The other triples,
for which it came late or is over, are compared with every row of their entity.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from featurekit.core.sql import quote
from featurekit.define.plan import Join, Part, View
from featurekit.define.union import part_schema
from featurekit.offline.counted_events import make_counted_rows, make_events
from featurekit.offline.events import EventRows
from featurekit.offline.view_events import ViewEvents, keys_sql, order_sql, view_events

_numbers = itertools.count()
EventsOf = Callable[[View], EventRows]
"""Gives the events of another view's source, as the same call reads them."""


def make_enriched(
    con: Any, part: Part, relation: str, events_of: EventsOf, also: Sequence[str] = ()
) -> str:
    """Make a relation of the rows of `relation` (the part's source's columns, __ts, __created and
    the columns `also`) with the columns that they take. A part without joins gives `relation`
    itself."""
    columns = [p.name for p in part.source.schema]
    for join in part.joins or ():
        shown = [*map(quote, columns), "__ts", "__created", *also]
        relation = _make_joined(con, join, relation, shown, events_of(join.view))
        columns += join.names
    return relation


def unenriched_sql(part: Part, relation: str) -> str:
    """The relation with null in every column that its rows would take, for who reads none."""
    types = {p.name: p.type for p in part_schema(part)[len(part.source.schema) :]}
    if not types:
        return relation
    nulls = ", ".join(f"NULL::{t.duckdb} AS {quote(name)}" for name, t in types.items())
    return f"(SELECT *, {nulls} FROM {relation})"


def _make_joined(
    con: Any, join: Join, relation: str, columns: Sequence[str], events: EventRows
) -> str:
    """Make a table of the rows of `relation` with what they take by one join."""
    name, view = f"__enriched_{next(_numbers)}", join.view
    own = [quote(column) for column in join.keys]
    places = [f"k{i}" for i in range(len(own))]
    known = " AND ".join(f"{column} IS NOT NULL" for column in own)
    keys = ", ".join(f"{column} AS {place}" for column, place in zip(own, places, strict=True))
    asked, found = f"{name}_asked", f"{name}_found"
    con.execute(
        f"CREATE TEMP TABLE {asked} AS SELECT DISTINCT {keys}, __ts AS __a, __created AS __b "
        f"FROM {relation} WHERE {known}"
    )
    made = view_events(
        con, view, make_events(con, view, make_counted_rows(con, view, events.relation))
    )
    con.execute(f"CREATE TEMP TABLE {found} AS {_last_sql(join, made, asked)}")
    late = f"(SELECT {', '.join(places)}, __a, __b FROM {found} WHERE {_is_late(view)})"
    taken = _taken_sql(join)
    whole = (
        f"(SELECT {', '.join(places)}, __a, __b, {taken} FROM {found} WHERE NOT ({_is_late(view)}) "
        f"UNION ALL SELECT {', '.join(places)}, __a, __b, {taken} "
        f"FROM ({_general_sql(join, made, late)}))"
    )
    same = " AND ".join(
        [f"r.{column} = t.{place}" for column, place in zip(own, places, strict=True)]
        + ["r.__ts = t.__a", "r.__created = t.__b"]
    )
    shown = ", ".join(
        [*(f"r.{column}" for column in columns), *(f"t.{quote(n)}" for n in join.names)]
    )
    con.execute(
        f"CREATE TEMP TABLE {name} AS SELECT {shown} FROM {relation} r "
        f"LEFT JOIN {whole} t ON {same}"
    )
    con.execute(f"DROP TABLE {asked}")
    con.execute(f"DROP TABLE {found}")
    return name


def _slots(join: Join) -> list[str]:
    """The columns of the slots that are taken, each once."""
    slots = (join.view.features[i].slot for i in join.takes)
    return [f"s{slot}" for slot in dict.fromkeys(slots)]


def _row(join: Join) -> list[str]:
    """What is kept of the row that is found."""
    ends = ["__end"] if join.view.source.op is not None else []
    return ["__ts", "__created", *ends, *_slots(join)]


def _last_sql(join: Join, made: ViewEvents, asked: str) -> str:
    """SQL that gives for each triple the last row by T6 that had happened by then, whenever it
    arrived; nulls where there is none."""
    view = join.view
    keys = keys_sql(view)
    last = (
        f"(SELECT * FROM {made.sql} QUALIFY row_number() OVER (PARTITION BY {keys}, __ts "
        f"ORDER BY {order_sql(view, made, backwards=True)}) = 1)"
    )
    # DuckDB's ASOF join loses rows if a bytes column follows another key, so bytes are compared as
    # hex.
    of = ["hex({})" if p.type.name == "bytes" else "{}" for p in view.join_keys]
    same = " AND ".join(f"{t.format(f'q.k{i}')} = {t.format(f'e.k{i}')}" for i, t in enumerate(of))
    shown = ", ".join(f"e.{column}" for column in _row(join))
    return (
        f"SELECT {keys_sql(view, 'q.')}, q.__a, q.__b, {shown} FROM {asked} q "
        f"ASOF LEFT JOIN {last} e ON {same} AND q.__a >= e.__ts"
    )


def _is_late(view: View) -> str:
    """Whether a row that was found had not arrived, or was over: then an earlier one may count."""
    over = " OR __end <= __b" if view.source.op is not None else ""
    return f"coalesce(__created > __b{over}, FALSE)"


def _general_sql(join: Join, made: ViewEvents, late: str) -> str:
    """SQL that gives for each triple of `late` the last row by T6 that had happened and arrived."""
    view = join.view
    on = [f"q.k{i} = e.k{i}" for i in range(len(view.join_keys))]
    on += ["e.__ts <= q.__a", "e.__created <= q.__b"]
    on += ["e.__end > q.__b"] if view.source.op is not None else []
    keys = keys_sql(view, "q.")
    return (
        f"SELECT {keys}, q.__a, q.__b, e.* EXCLUDE ({keys_sql(view)}) "
        f"FROM {late} q LEFT JOIN {made.sql} e ON {' AND '.join(on)} "
        f"QUALIFY row_number() OVER (PARTITION BY {keys}, q.__a, q.__b "
        f"ORDER BY {order_sql(view, made, backwards=True)}) = 1"
    )


def _taken_sql(join: Join) -> str:
    """The columns that are taken of the row that was found, null outside the ttl (T4)."""
    view, columns = join.view, []
    for index, name in zip(join.takes, join.names, strict=True):
        value = f"s{view.features[index].slot}"
        if view.ttl_us is not None:
            value = f"CASE WHEN __ts > __a - {view.ttl_us} THEN {value} END"
        columns.append(f"{value} AS {quote(name)}")
    return ", ".join(columns)
