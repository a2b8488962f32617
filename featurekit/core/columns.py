"""Turns the frame of a lookup into columns of Python values; it loads nothing before there is one.

The values are those that rows of dicts would have. What they mean for a declared type is decided
where the types are known.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featurekit.core.calls import found as found_value
from featurekit.core.frames import (
    INSTEAD,
    Refuse,
    collected,
    dense,
    is_column_of_pandas,
    is_frame,
    is_numpy_float,
    is_object,
    is_pandas,
    kind_of_pandas,
    refuse_doubles,
    storage_of,
    table_of,
)
from featurekit.core.types import MICROSECOND, instant

if TYPE_CHECKING:
    import pyarrow as pa


_SINGLE = (bool, int, float, str, bytes, dt.date, dt.timedelta)


@dataclass(frozen=True, slots=True)
class Columns:
    """Rows by column. In the columns `of_pandas`, a NaN may stand for a null and a float for an
    int, since pandas has no other way to write them there (S1)."""

    values: dict[str, list[Any]]
    rows: int
    of_pandas: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return self.rows


def columns_of(data: Any, *, refuse: Refuse) -> Columns:
    """A frame, or a dict of lists and arrays, as columns of Python values. Instants are aware, in
    UTC, and floored to microseconds (S1). Raises what `refuse` makes of a reason."""
    data = collected(data, refuse=refuse)
    if is_pandas(data):
        names = list(data.columns)
        for name in names:
            if not isinstance(name, str):
                raise refuse(f"the column {name!r} is not named by a text; rename it")
        refuse_doubles(names, refuse)
        given = {name: data[name] for name in names}
    elif isinstance(data, Mapping):
        given = dict(data)
        if given and all(isinstance(v, _SINGLE) or v is None for v in given.values()):
            row = found_value(data)
            raise refuse(f"found one row, {row}; write it in a list, [{row}]")
    elif is_frame(data):
        table = table_of(data, refuse=refuse)
        found = {name: arrow_values(table[name], name, refuse) for name in table.column_names}
        return Columns(found, table.num_rows)
    else:
        raise refuse(
            f"{type(data).__name__} has no rows; give a list of dicts, a dict of lists, or a frame "
            "of pandas, polars or Arrow"
        )
    given = {name: dense(values) for name, values in given.items()}
    made = {name: _values(values, name, refuse) for name, values in given.items()}
    lengths = {len(values) for values in made.values()}
    if len(lengths) > 1:
        shown = ", ".join(f"{name!r} {len(values)}" for name, values in made.items())
        raise refuse(f"its columns are not equally long: {shown}")
    loose = (n for n, v in given.items() if is_column_of_pandas(v) and _loose(v))
    rows = lengths.pop() if lengths else len(data) if is_pandas(data) else 0
    return Columns(made, rows, frozenset(loose))


def _loose(series: Any) -> bool:
    return is_numpy_float(series) or is_object(series)


def _values(values: Any, name: str, refuse: Refuse) -> list[Any]:
    """The values of one column, a list or an array of any library."""
    if isinstance(values, (list, tuple, range)):
        return list(values)
    if is_column_of_pandas(values):
        if values.dtype.kind in "biufO" and type(values.dtype).__module__.startswith("numpy"):
            return list(values.tolist())
        return _converted(values, name, refuse)
    if type(values).__module__ == "numpy" and getattr(values, "ndim", 0) >= 1:
        if values.dtype.kind in "biufOUS":
            return list(values.tolist())
        return _converted(values, name, refuse)
    if hasattr(values, "__arrow_c_array__") or hasattr(values, "__arrow_c_stream__"):
        return _converted(values, name, refuse)
    one = found_value(values)
    raise refuse(
        f"a dict of columns has a list or an array for each, and {name!r} is {one}; write [{one}]"
    )


def _converted(values: Any, name: str, refuse: Refuse) -> list[Any]:
    """The values of an array by way of Arrow."""
    import pyarrow as pa

    try:
        if is_column_of_pandas(values):
            made = pa.Array.from_pandas(values)
        elif hasattr(values, "__arrow_c_stream__"):
            made = pa.chunked_array(values)
        else:
            made = pa.array(values)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise refuse(f"the column {name!r} has no Arrow type ({error})") from None
    return arrow_values(made, name, refuse)


def arrow_values(column: pa.Array | pa.ChunkedArray, name: str, refuse: Refuse) -> list[Any]:
    """The values of a column of Arrow, as Python has them."""
    kind = kind_of_pandas(column.type)
    if kind is not None:
        raise refuse(f"the column {name!r} is {kind}; {INSTEAD[kind]}")
    try:
        return _python(column)
    except UnicodeDecodeError:
        raise refuse(f"the column {name!r} has text that is not UTF-8") from None
    except OverflowError:
        raise refuse(f"the column {name!r} has an instant outside the years 1 to 9999") from None


def _python(column: Any) -> list[Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    type_ = column.type
    if isinstance(type_, pa.BaseExtensionType):
        if isinstance(column, pa.Array):
            return _python(storage_of(column))
        return [value for chunk in column.chunks for value in _python(storage_of(chunk))]
    if pa.types.is_timestamp(type_):
        return [None if us is None else instant(us) for us in _micros(column)]
    if pa.types.is_duration(type_):
        return [None if us is None else us * MICROSECOND for us in _micros(column)]
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        items = iter(_python(pc.list_flatten(column)))
        lengths = pc.list_value_length(column).to_pylist()
        return [None if n is None else [next(items) for _ in range(n)] for n in lengths]
    found: list[Any] = column.to_pylist()
    return found


def _micros(column: Any) -> list[int | None]:
    """The instants or durations of a column in microseconds, floored."""
    import pyarrow as pa

    numbers = column.cast(pa.int64()).to_pylist()
    scale = {"s": 1_000_000, "ms": 1_000, "us": 1}.get(column.type.unit)
    if scale is None:
        return [None if n is None else n // 1000 for n in numbers]
    return [None if n is None else n * scale for n in numbers]
