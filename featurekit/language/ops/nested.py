"""Operators on lists whose elements may be None, and on lists of lists.

What such an element is, Python says: in DuckDB a NULL would be taken for an error. An element that
may be None is read in two steps: whether it is None, and its value.
"""

from __future__ import annotations

from featurekit.core.types import (
    BOOL,
    BYTES,
    DATE,
    DATETIME,
    FLOAT,
    INT,
    STR,
    TIMEDELTA,
    Type,
    list_of,
)
from featurekit.core.values import Beyond
from featurekit.language.ops.table import EDGES, NAMESPACE, Op, register


def _present(value: object) -> object:
    if value is None:
        raise Beyond("an element that is None")
    return value


NAMESPACE |= {"present": _present}

_ELEMENTS = (BOOL, INT, FLOAT, STR, BYTES, DATETIME, DATE, TIMEDELTA)


def _shape(values: Type) -> tuple[Op, ...]:
    """What asks nothing of the elements."""
    parts = {
        "slice": ((INT, INT), "{0}[{1}:{2}]"),
        "slice.from": ((INT,), "{0}[{1}:]"),
        "slice.to": ((INT,), "{0}[:{1}]"),
    }
    return (
        Op("len", (values,), INT, "len({0})", "len({0})"),
        Op("bool", (values,), BOOL, "bool({0})", "(len({0}) > 0)"),
        *(Op(name, (values, *more), values, python) for name, (more, python) in parts.items()),
        Op("slice.every", (values, INT), values, "{0}[::{1}]", raises=True),
        Op("slice", (values, INT, INT, INT), values, "{0}[{1}:{2}:{3}]", raises=True),
        Op("+", (values, values), values, "{0} + {1}"),
        Op("reversed", (values,), values, "{0}[::-1]"),
    )


def _of_optional(item: Type) -> tuple[Op, ...]:
    values = list_of(item.or_none())
    EDGES[values] = ([], [None], *([*e, None] for e in EDGES[list_of(item)][1:4]))
    EDGES[values] += tuple([None, *e, None] for e in EDGES[list_of(item)][1:3])
    return (
        *_shape(values),
        Op("getitem.none", (values, INT), BOOL, "{0}[{1}] is None", raises=True),
        Op("getitem", (values, INT), item, "present({0}[{1}])", raises=True),
        *((Op("in", (item, values), BOOL, "among({0}, {1})"),) if item != FLOAT else ()),
    )


def _of_lists(item: Type) -> tuple[Op, ...]:
    inner = list_of(item)
    values = list_of(inner)
    EDGES[values] = ([], [[]], *([e] for e in EDGES[inner][1:3]), list(EDGES[inner][:3]))
    return (*_shape(values), Op("getitem", (values, INT), inner, "{0}[{1}]", raises=True))


for _item in _ELEMENTS:
    register(*_of_optional(_item), *_of_lists(_item))
