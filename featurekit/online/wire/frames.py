"""Turns a frame into a stream of Arrow, and a table that came in one into what the frame meant.

A pandas column of floats has no null but NaN, and no whole numbers beside one. Which columns are of
that kind stands in the metadata of the schema, since only the receiver knows what is declared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from featurekit.core.frames import is_numpy_float, is_pandas, table_of
from featurekit.core.types import Type

_FLOATS = b"featurekit.pandas_floats"


def stream_of(data: Any, *, refuse: Callable[[str], Exception]) -> bytes:
    """The bytes of a stream of Arrow with the columns of a frame. Raises what `refuse` makes of a
    reason."""
    import pyarrow as pa

    table = table_of(data, refuse=refuse, objects_as_text=True)
    names = [n for n in table.column_names if is_pandas(data) and is_numpy_float(data[n])]
    if names:
        table = table.replace_schema_metadata({_FLOATS: "\0".join(names)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    made: bytes = sink.getvalue().to_pybytes()
    return made


def rows_of_pandas(table: Any, types: Mapping[str, Type]) -> Any:
    """The table, where a NaN of such a column is null unless it is declared a float without None,
    and whole numbers are ints where an int is declared."""
    import pyarrow as pa
    import pyarrow.compute as pc

    held = (table.schema.metadata or {}).get(_FLOATS)
    for name in held.decode("utf-8", "replace").split("\0") if held else ():
        type_ = types.get(name)
        number = table.schema.get_field_index(name)
        if number < 0 or type_ is None or not pa.types.is_floating(table.schema.types[number]):
            continue
        if type_.name == "float" and not type_.optional:
            continue
        column = table.column(number)
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
        if column.null_count == len(column) and type_.name not in ("int", "float"):
            column = pa.nulls(len(column))
        if type_.name == "int":
            with suppress(pa.ArrowInvalid):  # the push says which row
                column = column.cast(pa.int64())
        table = table.set_column(number, name, column)
    return table
