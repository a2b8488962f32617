"""Turns tables of features into frames of pandas and polars, arrays of NumPy, and rows of Python.

Training sets and online results are converted here, so that a feature has the same dtype and the
same values in both (A3).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from featurekit.core.arrays import as_numbers, holds, in_plain_shape, loses_nanoseconds
from featurekit.core.types import Type
from featurekit.errors import DataError, DefinitionError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import polars as pl
    import pyarrow as pa


def to_pandas(table: pa.Table, types: Mapping[str, Type], lacking: Iterable[str]) -> pd.DataFrame:
    """The columns `types` of a table as a frame of pandas.

    bool, int and float are bool, int64 and float64; a column that may lack values, one of
    `lacking`, has boolean, Int64 or Float64, where None is missing and NaN is a value. str is
    `string`, an instant datetime64[us, UTC], a duration timedelta64[us]. Everything else is a
    column of objects: bytes, dates, arrays of NumPy for lists and vectors, and dicts.
    """
    import pandas as pd

    may_lack = frozenset(lacking)
    return pd.DataFrame(
        {n: _pandas_column(table[n], type_, n in may_lack) for n, type_ in types.items()},
        columns=list(types),
        index=pd.RangeIndex(table.num_rows),
    )


def _pandas_column(column: pa.ChunkedArray, type_: Type, lacks: bool) -> Any:
    import pandas as pd

    if type_.name in ("bool", "int", "float"):
        if lacks or column.null_count:
            return _masked(column, type_)
        return column.to_numpy()
    if type_.name == "str":
        return column.to_pandas(types_mapper=lambda _: pd.StringDtype())
    return column.to_pandas(maps_as_pydicts="strict")


def _masked(column: pa.ChunkedArray, type_: Type) -> Any:
    """An array with a mask, in which NaN is a value and None is missing; pandas' own conversion
    confuses them."""
    import numpy as np
    import pandas as pd

    kinds: dict[str, tuple[Any, Any]] = {
        "bool": (pd.arrays.BooleanArray, False),
        "int": (pd.arrays.IntegerArray, 0),
        "float": (pd.arrays.FloatingArray, 0.0),
    }
    kind, empty = kinds[type_.name]
    values = column.fill_null(empty).to_numpy()
    mask = np.asarray(column.is_null().to_numpy())
    return kind(values.copy(), mask.copy())


def chosen(frame: pd.DataFrame, columns: str | list[str], *, what: str) -> Any:
    """`frame[columns]`: a frame of some columns, or a Series. DefinitionError for a name that it
    does not have; `what` says whose frame it is."""
    names: list[Any] = [columns]
    if not isinstance(columns, (str, bytes)):
        with suppress(TypeError):  # what is no list, as a number
            names = list(columns)
    if not all(isinstance(one, str) for one in names):
        raise DefinitionError(
            f"{what} is indexed by the name of a column or a list of them, not by {columns!r}; its "
            "rows are those of to_pylist(), as in to_pylist()[0]"
        )
    for name in names:
        if name not in frame.columns:
            raise DefinitionError(
                f"{what} has no column {name!r}; it has {', '.join(map(str, frame.columns))}"
            )
    return frame[columns if isinstance(columns, str) else names]


def own_to_pandas(table: pa.Table) -> pd.DataFrame:
    """The columns of an entity frame as pandas holds them by itself. DataError for one that it
    cannot hold."""
    try:
        made: pd.DataFrame = table.to_pandas()
        return made
    except _refusals() as error:
        for name in table.column_names:
            try:
                table.select([name]).to_pandas()
            except _refusals() as reason:
                raise _unheld(table, name, "pandas", reason) from None
        raise DataError(f"the training set is no frame of pandas ({error})") from None


def to_polars(table: pa.Table) -> pl.DataFrame:
    """A table as a frame of polars: a vector is an Array(Float32), a dict a Map. A decimal of more
    than 38 digits is one of 38 where its values fit. DataError for a column that polars cannot
    hold."""
    import polars as pl
    import pyarrow as pa

    arrays = [_for_polars(table, name) for name in table.column_names]
    made = pl.from_arrow(pa.table(arrays, names=table.column_names))
    assert isinstance(made, pl.DataFrame)
    return made


def _for_polars(table: pa.Table, name: str) -> pa.ChunkedArray:
    """A column in types that polars has; it panics on some others."""
    import pyarrow as pa

    column = table[name]
    if not holds(column.type, _lacking_in_polars):
        return column
    empty = pa.schema([("", column.type)]).empty_table()[0]
    try:
        chunks = [in_plain_shape(chunk, _polars_leaf) for chunk in column.chunks or empty.chunks]
    except _refusals() as reason:
        raise _unheld(table, name, "polars", reason) from None
    return pa.chunked_array(chunks)


def _lacking_in_polars(type_: pa.DataType) -> bool:
    import pyarrow as pa

    second = isinstance(type_, (pa.TimestampType, pa.DurationType)) and type_.unit == "s"
    return pa.types.is_decimal256(type_) or pa.types.is_interval(type_) or second


def _polars_leaf(array: pa.Array) -> pa.Array:
    """An array in a type that polars has, with the same values; ArrowInvalid where there is none.
    It multiplies seconds to milliseconds by itself, without a look at their size."""
    import pyarrow as pa

    type_ = array.type
    if pa.types.is_interval(type_):
        raise pa.ArrowInvalid("it has no months beside days and nanoseconds")
    if pa.types.is_decimal256(type_):
        return array.cast(pa.decimal128(38, type_.scale))
    if pa.types.is_timestamp(type_) and type_.unit == "s":
        return array.cast(pa.timestamp("ms", type_.tz))
    if pa.types.is_duration(type_) and type_.unit == "s":
        return array.cast(pa.duration("ms"))
    return array


def to_numpy(table: pa.Table, types: Mapping[str, Type]) -> dict[str, np.ndarray[Any, Any]]:
    """One array for each of the columns `types`, without a mask.

    It is float64, int64 or bool where no value is None. A None of a float is NaN; for other types
    the array is one of objects.
    """
    return {name: _numpy_column(table[name], type_) for name, type_ in types.items()}


def _numpy_column(column: pa.ChunkedArray, type_: Type) -> np.ndarray[Any, Any]:
    import numpy as np

    made: np.ndarray[Any, Any]
    if type_.name == "float":
        made = np.array(column.fill_null(float("nan")).to_numpy())
    elif type_.name in ("int", "bool") and not column.null_count:
        made = np.array(column.to_numpy())  # Arrow's own memory cannot be written to
    else:
        made = np.empty(len(column), dtype=object)
        for i, value in enumerate(column.to_pylist(maps_as_pydicts="strict")):
            made[i] = value  # NumPy would make a matrix of lists of one length
    return made


def to_pylist(table: pa.Table) -> list[dict[str, Any]]:
    """One dict for each row; a map is a dict. DataError for a column with a value that no object of
    Python holds."""
    columns = to_dict(table)
    names = list(columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)] or [
        {} for _ in range(table.num_rows)
    ]


def to_dict(table: pa.Table) -> dict[str, list[Any]]:
    """One list for each column; a map is a dict. DataError for a column with a value that no object
    of Python holds."""
    return {name: _python_values(table, name) for name in table.column_names}


def _python_values(table: pa.Table, name: str) -> list[Any]:
    column = table[name]
    try:
        if any(map(loses_nanoseconds, column.chunks)):
            raise ValueError("a time of the day has no nanoseconds")
        found: list[Any] = column.to_pylist(maps_as_pydicts="strict")
    except _refusals() as reason:
        raise _unheld(table, name, "Python", reason) from None
    return found


def _refusals() -> tuple[type[BaseException], ...]:
    """What is raised for a value that a library does not hold."""
    import pyarrow as pa

    return (pa.ArrowException, ValueError, OverflowError, TypeError, NotImplementedError)


def _unheld(table: pa.Table, name: str, library: str, reason: BaseException) -> DataError:
    text = (str(reason).strip() or type(reason).__name__).splitlines()[0]
    return DataError(
        f"the column {name!r} of the entity frame, {table.schema.field(name).type}, has no form in "
        f"{library} ({text}); cast it in the frame, leave it out, or read the training set with "
        "to_arrow()"
    )


def shown_rows(table: pa.Table) -> list[list[Any]]:
    """The rows of a table for people; a value that Python does not hold as the number that it
    is."""
    columns = []
    for name in table.column_names:
        try:
            columns.append(_python_values(table, name))
        except DataError:
            columns.append([_shown(scalar) for scalar in table[name]])
    return [list(row) for row in zip(*columns, strict=True)]


def _shown(scalar: pa.Scalar) -> str:
    import pyarrow as pa

    return str(as_numbers(pa.array([scalar], scalar.type))[0])


@contextmanager
def explaining_parquet(schema: pa.Schema) -> Iterator[None]:
    """Turns the error of a type that Parquet does not have into a DataError that names the
    column."""
    import pyarrow as pa

    try:
        yield
    except pa.ArrowNotImplementedError as error:
        for field in schema:
            table = pa.schema([field]).empty_table()
            if not _fits_parquet(table):
                raise _unheld(table, field.name, "Parquet", error) from None
        raise


def _fits_parquet(table: pa.Table) -> bool:
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        pq.write_table(table, io.BytesIO())
    except pa.ArrowNotImplementedError:
        return False
    return True
