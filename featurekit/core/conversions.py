"""Turns tables of features into frames of pandas and polars, arrays of NumPy, and rows of Python.

Training sets and online results are converted here, so that a feature has the same dtype and the
same values in both (A3).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from featurekit.core.types import Type
from featurekit.errors import DefinitionError

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
    for name in [columns] if isinstance(columns, str) else list(columns):
        if name not in frame.columns:
            raise DefinitionError(
                f"{what} has no column {name!r}; it has {', '.join(map(str, frame.columns))}"
            )
    return frame[columns if isinstance(columns, str) else list(columns)]


def to_polars(table: pa.Table) -> pl.DataFrame:
    """A table as a frame of polars: a vector is an Array(Float32), a dict a Map."""
    import polars as pl

    made = pl.from_arrow(table)
    assert isinstance(made, pl.DataFrame)
    return made


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
    """One dict for each row; a map is a dict."""
    found: list[dict[str, Any]] = table.to_pylist(maps_as_pydicts="strict")
    return found


def to_dict(table: pa.Table) -> dict[str, list[Any]]:
    """One list for each column; a map is a dict."""
    columns = zip(table.column_names, table.columns, strict=True)
    return {name: column.to_pylist(maps_as_pydicts="strict") for name, column in columns}
