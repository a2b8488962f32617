"""Turns whatever carries an Arrow stream into columns that DuckDB reads without loss (S1).

DuckDB's Arrow scan truncates durations, cannot read half floats and does not check that text is
UTF-8. So such columns are put into a plain form first, and their original type is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from featurekit.core.arrays import array_of, in_plain_shape
from featurekit.core.coerce import Misfit, canonical
from featurekit.core.frames import (
    dense,
    is_numpy_float,
    is_object,
    is_pandas,
    kind_of_pandas,
    storage_of,
)
from featurekit.core.types import INT, Type
from featurekit.sources.check import BadRow, shortened
from featurekit.sources.parquet import text_faults

if TYPE_CHECKING:
    import pyarrow as pa


def pandas_column(
    series: Any,
    name: str,
    type_: Type,
    *,
    zone_name: str,
    read: Callable[[Any], Any] | None = None,
) -> tuple[pa.Array, str | None, list[BadRow]]:
    """A pandas column in plain form, its original type, and its rows that do not fit (S1, S2).

    A float NaN is null in an optional column, and in a column of a type other than float. Objects
    are read one by one, so that no bool becomes an int on the way.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    series = dense(series)
    if is_object(series):
        values = [_object(value, type_) for value in series]
        array, faults = python_column(values, name, type_, zone_name=zone_name, read=read)
        return *plain(array), faults
    if not is_numpy_float(series):
        array = pa.Array.from_pandas(series)
        return *plain(array), faults_of(array, name)
    array = pa.array(series.to_numpy(), from_pandas=False)
    if type_.name == "float" and not type_.optional:
        return *plain(array), []
    array = plain(array)[0]
    array = pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)
    if type_.name not in ("int", "float") and array.null_count == len(array):
        return pa.nulls(len(array)), None, []
    return array, "PANDAS FLOAT" if type_.name in ("int", "float") else None, []


def plain_table(
    data: Any,
    table: pa.Table,
    types: Mapping[str, Type],
    *,
    zone_name: str,
    readers: Mapping[str, Callable[[Any], Any]] | None = None,
    whole: Collection[str] = (),
) -> tuple[pa.Table, dict[str, str], list[BadRow]]:
    """The columns `types` of a frame and its table, in a form that DuckDB reads without loss; the
    original types of the columns that were changed; and the rows that do not fit (S1), column by
    column. `readers` read the Python objects of a pandas column; the columns of `whole` are whole
    numbers, which pandas holds as floats beside nulls."""
    import pyarrow as pa

    arrays, found, faults = [], {}, []
    for name, type_ in types.items():
        if is_pandas(data):
            read = (readers or {}).get(name)
            type_ = INT.or_none() if name in whole and not is_object(data[name]) else type_
            array, kind, wrong = pandas_column(
                data[name], name, type_, zone_name=zone_name, read=read
            )
        else:
            array, kind = plain(table[name])
            wrong = faults_of(table[name], name)
        arrays.append(array)
        faults += wrong
        if kind is not None:
            found[name] = kind
    return pa.table(arrays, names=list(types)), found, faults


def _object(value: Any, type_: Type) -> Any:
    """A Python object of a pandas column; a float NaN is null in an optional column, and in a
    column of a type other than float."""
    if isinstance(value, float) and value != value and (type_.optional or type_.name != "float"):
        return None
    if type_.item is not None and type(value).__name__ == "ndarray":
        return value.tolist()
    return value


def python_column(
    values: Sequence[Any],
    name: str,
    type_: Type,
    *,
    zone_name: str,
    read: Callable[[Any], Any] | None = None,
) -> tuple[pa.Array, list[BadRow]]:
    """Python values as a canonical array, with null where one does not fit, and the rows that do
    not fit (S1). `read` reads a value in the place of `canonical`."""

    if read is None:
        read = partial(canonical, type_=type_, zone_name=zone_name)
    good, faults = [], []
    for row, value in enumerate(values):
        try:
            good.append(read(value))
        except Misfit as reason:
            faults.append(BadRow(row, name, str(reason), shortened(repr(value))))
            good.append(None)
    return array_of(good, type_.arrow), faults


def faults_of(column: pa.Array | pa.ChunkedArray, name: str) -> list[BadRow]:
    """The rows of a column whose text is not UTF-8 (S1); DuckDB's Arrow scan does not check
    this."""
    import pyarrow as pa

    faults, start = [], 0
    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        texts = _decoded(chunk) if pa.types.is_dictionary(chunk.type) else chunk
        if pa.types.is_string_view(texts.type):
            texts = _as_string(texts)
        for row, reason, value in _nested_faults(texts):
            faults.append(BadRow(start + row, name, reason, shortened(repr(value))))
        start += len(chunk)
    return faults


def _decoded(column: pa.DictionaryArray) -> pa.Array:
    """The values of a column that is written as a dictionary. Arrow cannot take string views from
    one, which a Categorical of polars has."""
    import pyarrow as pa

    if not pa.types.is_string_view(column.type.value_type):
        return column.dictionary_decode()
    words = _as_string(column.dictionary)
    return pa.DictionaryArray.from_arrays(column.indices, words, safe=False).dictionary_decode()


def _as_string(texts: pa.Array) -> pa.Array:
    import pyarrow as pa

    return texts.cast(pa.binary_view()).cast(pa.large_binary()).view(pa.large_string())


def _nested_faults(texts: pa.Array) -> list[tuple[int, str, Any]]:
    import pyarrow as pa

    if not (pa.types.is_list(texts.type) or pa.types.is_large_list(texts.type)):
        return list(text_faults(texts))
    inner = texts.flatten()
    if pa.types.is_string_view(inner.type):
        inner = _as_string(inner)
    parents = texts.value_parent_indices().to_pylist()
    return [(parents[at], f"in a list, {why}", value) for at, why, value in text_faults(inner)]


def plain(column: pa.Array | pa.ChunkedArray) -> tuple[pa.Array | pa.ChunkedArray, str | None]:
    """The column in a form that DuckDB reads without loss, and its original type if it changed."""
    import pyarrow as pa

    if isinstance(column, pa.ChunkedArray):
        if not column.chunks:
            column = pa.chunked_array([pa.array([], column.type)])
        done = [plain(chunk) for chunk in column.chunks]
        return pa.chunked_array([array for array, _ in done]), done[0][1]
    type_ = column.type
    if (kind := kind_of_pandas(type_)) is not None:
        return pa.nulls(len(column), pa.string()), kind
    if isinstance(type_, pa.BaseExtensionType):
        return plain(storage_of(column))
    if pa.types.is_dictionary(type_):
        return plain(_decoded(column))
    if pa.types.is_float16(type_):
        return column.cast(pa.float32()), None
    if pa.types.is_decimal256(type_):
        return _narrow_decimal(column)
    if pa.types.is_duration(type_):
        return column.view(pa.int64()), f"DURATION_{type_.unit.upper()}"
    if pa.types.is_timestamp(type_) and type_.unit in ("s", "ms"):
        return column.view(pa.int64()), f"EPOCH_{type_.unit.upper()}{' OF UTC' * bool(type_.tz)}"
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        return _plain_list(column)
    if pa.types.is_fixed_size_list(type_) and pa.types.is_float16(type_.value_type):
        return column.cast(pa.list_(pa.float32(), type_.list_size)), None
    if pa.types.is_run_end_encoded(type_):
        return plain(in_plain_shape(column))
    if _unread(type_):
        return pa.nulls(len(column), pa.string()), str(type_)
    return column, None


def _unread(type_: pa.DataType) -> bool:
    """Whether DuckDB or Parquet lacks a type: half floats inside of others, unions, months with
    days. No type of ours is one of them."""
    import pyarrow as pa

    if pa.types.is_float16(type_) or pa.types.is_union(type_) or pa.types.is_interval(type_):
        return True
    if pa.types.is_run_end_encoded(type_):
        return True
    return any(_unread(type_.field(i).type) for i in range(type_.num_fields))


def _narrow_decimal(column: pa.Array) -> tuple[pa.Array, str | None]:
    """A decimal of up to 38 digits, which DuckDB has; one that is wider is refused by its type."""
    import pyarrow as pa

    try:
        return column.cast(pa.decimal128(38, column.type.scale)), None
    except (pa.ArrowException, ValueError):
        wide = f"WIDE DECIMAL of {column.type.precision} digits"
        return pa.nulls(len(column), pa.string()), wide


def _plain_list(column: pa.Array) -> tuple[pa.Array, str | None]:
    import pyarrow as pa

    inner, found = plain(column.values)
    if inner.type.equals(column.type.value_type) and found is None:
        return column, None
    kind = pa.LargeListArray if pa.types.is_large_list(column.type) else pa.ListArray
    mask = column.is_null() if column.null_count else None
    offsets = column.offsets
    return kind.from_arrays(offsets, inner, mask=mask), found and f"{found}[]"
