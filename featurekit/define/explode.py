"""Turns the rows of a source into events, one for each element of a list column, in Python and in
SQL.

What of the rows counts is settled before (T7): a copy or a correction of a row is one of all of its
elements. An event has the element in the place of the list, and its position in the list, which
orders the events of one row (T6).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from featurekit.core.sql import quote
from featurekit.core.types import INT
from featurekit.define.plan import View
from featurekit.language.ir import Param

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
    """The events of some rows, in their order: one for each element of the list, none where the
    list is empty or None."""
    column = view.explode
    assert column is not None
    return [
        {**row, column: element, POSITION: position}
        for row in rows
        for position, element in enumerate(row[column] or ())
    ]


def exploded_sql(view: View, relation: str) -> str:
    """The relation of the view's events, of one that has the rows of its source; the same relation
    where no list is exploded."""
    if view.explode is None:
        return relation
    column = quote(view.explode)
    return (
        f"(SELECT * REPLACE ({column}[__position + 1] AS {column}) FROM "
        f"(SELECT *, unnest(range(len({column}))) AS {POSITION} FROM {relation}))"
    )
