"""Turns the rows of a source into events, in Python and in SQL: one for each element of a list
column, and none of a row that does not pass the view's `where` (V1).

What of the rows counts is settled before (T7): a copy or a correction of a row is one of all of its
elements, and one of a row that does not pass. An event has the element in the place of the list,
and its position in the list, which orders the events of one row (T6).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from featurekit.core.kept import Kept
from featurekit.core.sql import quote
from featurekit.core.types import INT
from featurekit.define.plan import View
from featurekit.language.ir import Param
from featurekit.language.to_python import to_python

POSITION = "__position"
"""The column of an element's position in its list, from 0 on."""


def event_schema(view: View) -> tuple[Param, ...]:
    """The columns of a view's events: those of its source, where a list is not exploded."""
    if view.explode is None:
        return view.source.schema
    found = []
    for param in view.source.schema:
        item = param.type.item if param.name == view.explode else None
        found.append(param if item is None else Param(param.name, item))
    return (*found, Param(POSITION, INT))


def exploded_rows(view: View, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The events of some rows, in their order, of a view of which not each row is one: one for each
    element of the list, none where the list is empty or None, and those that pass."""
    assert not view.each_row_an_event
    column, passes = view.explode, passing(view)
    made: Iterable[Mapping[str, Any]] = rows
    if column is not None:
        made = (
            {**row, column: element, POSITION: position}
            for row in rows
            for position, element in enumerate(row[column] or ())
        )
    return [{**row} for row in made if passes is None or passes(row)]


def _made_passing(view: View) -> Callable[[Mapping[str, Any]], bool] | None:
    if view.where is None:
        return None
    function, names = to_python(view.where.function), view.where.columns
    return lambda row: function(*[row[name] for name in names]) is True


passing = Kept(_made_passing)
"""A function that tells whether a row passes the view's `where`; None where there is none."""


def exploded_sql(view: View, relation: str) -> str:
    """The relation of the elements of a view's list, of one that has the rows of its source; the
    same relation where no list is exploded. `counted_events.make_events` filters them too."""
    if view.explode is None:
        return relation
    column = quote(view.explode)
    return (
        f"(SELECT * REPLACE ({column}[__position + 1] AS {column}) FROM "
        f"(SELECT *, unnest(range(len({column}))) AS {POSITION} FROM {relation}))"
    )
