"""Turns the columns of an entity frame into those that its training set carries beside the
features: the same values, in types that every conversion knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featurekit.core.arrays import Unmapped, in_plain_shape, plain_type
from featurekit.core.frames import INSTEAD, kind_of_pandas
from featurekit.errors import EntityFrameError
from featurekit.sources.check import BadRow
from featurekit.sources.parquet import NOT_UTF8

if TYPE_CHECKING:
    import pyarrow as pa


def carried_table(table: pa.Table) -> pa.Table:
    """The columns of a frame as they are carried: a text or bytes of Arrow's views is plain, runs
    are written out, a list view is a list. EntityFrameError for a union, and for a text that is not
    UTF-8."""
    import pyarrow as pa

    schema = carried_schema(table.schema)
    columns = []
    for field, column in zip(schema, table.columns, strict=True):
        made, at = [], 0
        for chunk in column.chunks:
            made.append(carried(chunk, field.name, first_row=at))
            at += len(chunk)
        columns.append(pa.chunked_array(made, field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def carried_schema(schema: pa.Schema) -> pa.Schema:
    """The names and types of a frame's columns as they are carried."""
    import pyarrow as pa

    fields = []
    for field in schema:
        kind = kind_of_pandas(field.type, field.metadata)
        if kind is not None:
            raise _refuse(
                f"the column {field.name!r} is {kind}, which no other frame carries; "
                f"{INSTEAD[kind]}, or leave it out"
            )
        try:
            fields.append(field.with_type(plain_type(field.type)))
        except Unmapped as type_:
            raise _refuse(
                f"the column {field.name!r} holds values of several types ({type_}), which no "
                "frame of pandas or polars carries; cast it to one type, or leave it out"
            ) from None
    return pa.schema(fields, metadata=schema.metadata)


def carried(array: pa.Array, name: str, *, first_row: int) -> pa.Array:
    """An array of the column `name` as it is carried; `first_row` is the row of its first value."""
    try:
        return in_plain_shape(array, _checked)
    except _NoText:
        fault = BadRow(first_row + _first_bad(array), name, NOT_UTF8, None)
        raise _refuse(f"{fault}; mend the row, or leave the column out") from None


class _NoText(Exception):
    """A text that is not UTF-8."""


def _checked(array: pa.Array) -> pa.Array:
    import pyarrow as pa

    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        try:
            array.validate(full=True)
        except pa.ArrowInvalid:
            raise _NoText from None
    return array


def _first_bad(array: pa.Array) -> int:
    """The first row that has a text that is not UTF-8: that after the longest prefix without."""
    good, bad = 0, len(array)
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            in_plain_shape(array.slice(good, middle - good), _checked)
            good = middle
        except _NoText:
            bad = middle
    return good


def _refuse(reason: str) -> EntityFrameError:
    return EntityFrameError(f"entity frame: {reason}")
