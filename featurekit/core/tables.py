"""Turns rows of Python into a typed temporary table of DuckDB, and a relation into such rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from featurekit.core.arrays import array_of
from featurekit.core.sql import quote
from featurekit.core.types import Type

Row = dict[str, Any]


def temp_table(
    con: Any, name: str, types: Mapping[str, Type], rows: Iterable[Sequence[Any]]
) -> str:
    """Make the temporary table `name` with columns of these types; returns its quoted name. A row
    has its values in the order of `types`. An earlier table of that name is replaced."""
    import pyarrow as pa

    columns = list(zip(*rows, strict=True)) or [()] * len(types)
    arrays = {
        column: _array(type_, values)
        for (column, type_), values in zip(types.items(), columns, strict=True)
    }
    typed = ", ".join(f"{quote(c)}::{t.duckdb} AS {quote(c)}" for c, t in types.items())
    return arrow_table(con, name, pa.table(arrays), select=typed)


def arrow_table(con: Any, name: str, table: Any, *, select: str = "*") -> str:
    """Make the temporary table `name` from an Arrow table; returns its quoted name. The rows keep
    their order, and durations become whole numbers. An earlier table of that name is replaced."""
    import pyarrow as pa

    types = [_without_durations(type_) for type_ in table.schema.types]
    if types != table.schema.types:
        table = table.cast(pa.schema(list(zip(table.column_names, types, strict=True))))
    given = f"{name}_arrow"
    con.register(given, table)
    try:
        # Not a view: for a view, DuckDB lets Arrow compare the rows that it scans, and Arrow treats
        # NaN differently (S1).
        con.execute(
            f"CREATE OR REPLACE TEMP TABLE {quote(name)} AS SELECT {select} FROM {quote(given)}"
        )
    finally:
        con.unregister(given)
    return quote(name)


def rows(con: Any, relation: str, types: Mapping[str, Type], *, then: str = "") -> list[Row]:
    """The rows of a relation, as Python values of these types. `then` is SQL that follows the
    relation in the query, such as an ORDER BY."""
    shown = ", ".join(map(quote, types))
    table = con.sql(f"SELECT {shown} FROM {relation} {then}").to_arrow_table()
    found: list[Row] = in_types(table, types).to_pylist()
    return found


def fetch(con: Any, sql: str) -> list[Any]:
    """All rows of `sql`. After an error the connection is ready for the next statement."""
    import duckdb

    try:
        found: list[Any] = con.execute(sql).fetchall()
    except duckdb.Error:
        # If a fetch fails, DuckDB 2.0 keeps the result open and refuses the next statement.
        con.abort()
        raise
    return found


def in_types(table: Any, types: Mapping[str, Type]) -> Any:
    """An Arrow table or batch of DuckDB's with the columns `types`, cast to the Arrow types in
    which their values leave featurekit."""
    for name, type_ in types.items():
        at = table.schema.get_field_index(name)
        if table.column(at).type != type_.arrow:
            table = table.set_column(at, name, table.column(at).cast(type_.arrow))
    return table


def _array(type_: Type, values: Sequence[Any]) -> Any:
    """An Arrow array in the form of DuckDB's canonical columns: naive UTC instants and one NaN
    (S1)."""

    if "float" in (type_.name, type_.item and type_.item.name):
        values = [_one_nan(value) for value in values]
    made = array_of(values, type_.arrow)
    return made if made.type == type_.stored else made.cast(type_.stored)


def _one_nan(value: Any) -> Any:
    if isinstance(value, list):
        return [_one_nan(v) for v in value]
    return math.nan if value != value else value


def _without_durations(type_: Any) -> Any:
    """The type with whole numbers instead of durations, also within lists."""
    import pyarrow as pa

    if pa.types.is_list(type_):
        return pa.list_(_without_durations(type_.value_type))
    return pa.int64() if pa.types.is_duration(type_) else type_
