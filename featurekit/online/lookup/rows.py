"""Checks the entity rows that a lookup is given, one by one or by column (S2)."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

from featurekit.core.coerce import Misfit, asked
from featurekit.core.columns import Columns, columns_of
from featurekit.core.samples import to_give
from featurekit.core.types import INT_MAX, INT_MIN, Type
from featurekit.errors import EntityFrameError

EntityRow = Mapping[str, Any]
Given = Sequence[EntityRow] | Columns
"""The rows of a lookup: one by one, or by column."""
_PLAIN: dict[str, type] = {"int": int, "float": float, "bool": bool}


def typed(value: Any, type_: Type, name: str, row: int) -> Any:
    """`value`, checked to be of `type_` (S2). A scalar or array of NumPy becomes the Python value
    that it holds. EntityFrameError for a value of another type."""
    if (
        type(value) is _PLAIN.get(type_.name)
        and type_.choices is None
        and (type(value) is not int or INT_MIN <= value <= INT_MAX)
    ):
        return value
    try:
        return asked(value, type_)
    except Misfit as reason:
        raise EntityFrameError(f"row {row}, {name!r}: {reason}; {to_give(type_.base)}") from None


def given(rows: Any) -> Given:
    """The rows of a lookup: a list of dicts as it is, a frame or a dict of lists by column.
    EntityFrameError for anything else."""
    if isinstance(rows, Sequence) and not isinstance(rows, (str, bytes)):
        return rows
    return columns_of(rows, refuse=_refuse)


def _refuse(reason: str) -> EntityFrameError:
    return EntityFrameError(f"entity rows: {reason}")


def typed_column(columns: Columns, name: str, type_: Type) -> list[Any]:
    """One of the columns, each value checked to be of `type_`. A NaN of pandas is None in an
    optional column and in one of another type than float, and a float of pandas that is an int is
    one where an int is declared (S1). EntityFrameError for a value of another type."""
    values = columns.values[name]
    if type_.name == "int" and type_.choices is None and _plain_ints(values):
        return list(values)
    if name in columns.of_pandas:
        values = [of_pandas(value, type_) for value in values]
    return [typed(value, type_, name, i) for i, value in enumerate(values)]


def _plain_ints(values: Sequence[Any]) -> bool:
    """Whether all values are ints of 64 bits, without a look at each of them in Python."""
    if list(map(type, values)).count(int) != len(values):
        return False
    try:
        struct.pack(f"{len(values)}q", *values)
    except struct.error:
        return False
    return True


def of_pandas(value: Any, type_: Type) -> Any:
    """A value of a frame's column: NaN is None in an optional column and in one of another type
    than float, and a float that is an int is one where an int is declared (S1)."""
    if type(value) is not float:
        return value
    if value != value:
        return None if type_.optional or type_.name != "float" else value
    if type_.name == "int" and value.is_integer() and abs(value) <= 2**53:
        return int(value)
    return value
