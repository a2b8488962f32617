"""Turns whatever users call a frame into a table of Arrow, or into a copy that nobody else changes.

A frame is a pandas or polars frame, a table, batch or reader of Arrow, a relation of DuckDB, or
whatever else carries an Arrow stream. A library is imported only where a frame of its is given.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

Refuse = Callable[[str], Exception]
"""Makes an error of the reason why a frame is refused; it says whose frame it is."""


def is_pandas(data: Any) -> bool:
    """True for a pandas DataFrame; pandas itself is not imported."""
    return type(data).__name__ == "DataFrame" and type(data).__module__.startswith("pandas")


def is_polars(data: Any) -> bool:
    """True for a polars DataFrame; polars itself is not imported."""
    return type(data).__name__ == "DataFrame" and type(data).__module__.startswith("polars")


def is_frame(data: Any) -> bool:
    """True for a pandas frame, and for all that carries an Arrow stream or will when it is
    collected."""
    streams = hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__")
    return is_pandas(data) or streams or _is_lazy(data)


def _is_struct(data: Any) -> bool:
    """True for an array of Arrow whose values are rows of named fields."""
    return type(data).__module__.startswith("pyarrow") and "struct" in str(data.type)


def _is_lazy(data: Any) -> bool:
    return type(data).__name__ == "LazyFrame" and type(data).__module__.startswith("polars")


def is_column_of_pandas(data: Any) -> bool:
    """True for a pandas Series; pandas itself is not imported."""
    return type(data).__name__ == "Series" and type(data).__module__.startswith("pandas")


def _is_one_column(data: Any) -> bool:
    """True for a column of pandas, polars or Arrow, and for an array of NumPy."""
    name, module = type(data).__name__, type(data).__module__.partition(".")[0]
    return (
        (name in ("Series", "Index", "DatetimeIndex") and module in ("pandas", "polars"))
        or (name.endswith("Array") and module == "pyarrow")
        or (name == "ndarray" and module == "numpy")
    )


def collected(data: Any, *, refuse: Refuse) -> Any:
    """A LazyFrame of polars collected, anything else as it is. Raises what `refuse` makes of a
    reason where the query fails, and for a column alone, which has no names of columns."""
    if _is_one_column(data) and not _is_struct(data):
        kind = f"{type(data).__module__.partition('.')[0]}.{type(data).__name__}"
        one_row = kind == "pandas.Series"
        made = "[dict(series)] for one row" if one_row else '{"customer_id": [1, 2]}'
        raise refuse(
            f"a {kind} is no table of named columns; write a frame, a list of dicts, or a dict of "
            f"columns, as in {made}"
        )
    if not _is_lazy(data):
        return data
    try:
        return data.collect()
    except Exception as error:  # a query may read files and call functions of the user
        text = str(error).strip() or type(error).__name__
        raise refuse(f"its LazyFrame cannot be collected ({text.splitlines()[0]})") from None


def is_numpy_float(series: Any) -> bool:
    """True for a pandas column of plain floats, whose only null is NaN."""
    return type(series.dtype).__module__.startswith("numpy") and series.dtype.kind == "f"


def is_object(series: Any) -> bool:
    """True for a pandas column of Python objects."""
    return bool(series.dtype == object)


PERIOD, INTERVAL = "PERIOD OF PANDAS", "INTERVAL OF PANDAS"
_OF_PANDAS = {"pandas.period": PERIOD, "pandas.interval": INTERVAL}
INSTEAD = {
    PERIOD: "a number of its counts no unit that is known: make instants of it with "
    ".dt.to_timestamp(), or texts with .astype(str)",
    INTERVAL: "make two columns of it, as by pandas.arrays.IntervalArray(…).left and .right, or "
    "texts with .astype(str)",
}
"""What to write for a column that says nothing without pandas, by its kind."""


def dense(series: Any) -> Any:
    """A Sparse column of pandas with all of its values, anything else as it is."""
    sparse = type(getattr(series, "dtype", None)).__name__ == "SparseDtype"
    return series.sparse.to_dense() if sparse and hasattr(series, "sparse") else series


def kind_of_pandas(type_: pa.DataType, metadata: Any = None) -> str | None:
    """The kind of a column whose values say nothing without pandas, also inside of a dictionary or
    a list; None for any other. Where pandas is not imported, the field's metadata name it."""
    import pyarrow as pa

    named = (metadata or {}).get(b"ARROW:extension:name", b"").decode("ascii", "replace")
    if isinstance(type_, pa.BaseExtensionType):
        named = type_.extension_name
    inner = getattr(type_, "value_type", None)
    return _OF_PANDAS.get(named) or (None if inner is None else kind_of_pandas(inner))


def storage_of(column: Any) -> Any:
    """What stands behind an array of an extension type, in a type that has its values."""
    import pyarrow as pa

    storage = column.storage
    is_bool = getattr(column.type, "extension_name", "") == "arrow.bool8"
    return storage.cast(pa.bool_()) if is_bool else storage


def table_of(data: Any, *, refuse: Refuse, objects_as_text: bool = False) -> pa.Table:
    """A frame as a table, with its columns as they are.

    A NaN of a pandas float column stays a NaN here. A column of mixed objects is refused, or turned
    into texts with `objects_as_text`. Raises what `refuse` makes of a reason.
    """
    import pyarrow as pa

    data = collected(data, refuse=refuse)
    if is_pandas(data):
        table = _pandas_table(data, refuse, objects_as_text)
    elif isinstance(data, pa.Table):
        table = data
    elif hasattr(data, "__arrow_c_stream__") or isinstance(data, pa.RecordBatch):
        try:
            table = pa.table(data)
        except _unreadable() as error:
            raise refuse(f"its Arrow stream cannot be read ({_first_line(error)})") from None
    elif hasattr(data, "__arrow_c_array__"):
        table = pa.table(pa.record_batch(data))
    else:
        raise refuse(
            f"{type(data).__name__} is no table; give a dict, a list of dicts, or a "
            "table of pandas, polars or Arrow"
        )
    refuse_doubles(names_of(table.schema, refuse), refuse)
    return table


def names_of(schema: pa.Schema, refuse: Refuse) -> list[str]:
    """The names of columns. Raises what `refuse` makes of one that is no text, and of a type with
    such a text in it: the name of a field or of a time zone."""
    try:
        names: list[str] = schema.names
    except UnicodeDecodeError as error:  # Arrow itself does not look at them
        raise refuse(
            f"a column's name is not UTF-8, found {bytes(error.object)!r}; rename it"
        ) from None
    for name, type_ in zip(names, schema.types, strict=True):
        try:
            _read_names(type_)
        except UnicodeDecodeError as error:
            raise refuse(
                f"the type of column {name!r} has a name that is not UTF-8, found "
                f"{bytes(error.object)!r}; write the column in another type"
            ) from None
    return names


def _read_names(type_: pa.DataType) -> None:
    """Read every name within a type. UnicodeDecodeError where one is no text."""
    import pyarrow as pa

    if isinstance(type_, pa.BaseExtensionType):
        _read_names(type_.storage_type)
    elif pa.types.is_timestamp(type_):
        _ = type_.tz
    elif pa.types.is_dictionary(type_) or pa.types.is_run_end_encoded(type_):
        _read_names(type_.value_type)
    for i in range(type_.num_fields):
        field = type_.field(i)
        _ = field.name
        _read_names(field.type)


def refuse_doubles(names: list[str], refuse: Refuse) -> None:
    """Raise what `refuse` makes of it where two columns share a name."""
    if len(set(names)) < len(names):
        doubled = next(name for name in names if names.count(name) > 1)
        raise refuse(f"two columns are named {doubled!r}; rename one of them, or leave it out")


def _pandas_table(frame: Any, refuse: Refuse, objects_as_text: bool) -> pa.Table:
    import pyarrow as pa

    arrays, names = [], []
    for index, name in enumerate(frame.columns):
        if not isinstance(name, str):
            raise refuse(f"the column {name!r} is not named by a text; rename it")
        arrays.append(_pandas_array(frame.iloc[:, index], name, refuse, objects_as_text))
        names.append(name)
    if not names:
        return pa.table({})
    return pa.table(arrays, names=names)


def _pandas_array(series: Any, name: str, refuse: Refuse, objects_as_text: bool) -> pa.Array:
    import pyarrow as pa

    series = dense(series)
    try:
        if is_numpy_float(series):
            return pa.array(series.to_numpy(), from_pandas=False)
        return pa.Array.from_pandas(series)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        if objects_as_text and is_object(series):
            return pa.array([ascii(value) for value in series], pa.string())
        raise refuse(
            f"the column {name!r} has no Arrow type ({error}); write values of one type in it, or "
            "leave the column out"
        ) from None


# --- a copy of one's own --------------------------------------------------------------------------


def own(data: Any, *, refuse: Refuse) -> Any:
    """The frame as it is now, in memory or files that nobody else can change.

    A pandas or polars frame stays one of its library. Anything else becomes a table of Arrow: a
    reader or a relation, which may give its rows once or other rows next time, is read to its end,
    to a file that the table maps into memory. Raises what `refuse` makes of a reason.
    """
    import pyarrow as pa

    data = collected(data, refuse=refuse)
    if is_pandas(data):
        return _own_pandas(data)
    if is_polars(data):
        return _own_polars(data, refuse)
    if isinstance(data, (pa.Table, pa.RecordBatch)):
        names_of(data.schema, refuse)  # Arrow makes no stream of a name that is no text
        sink = pa.BufferOutputStream()
        _write(pa.RecordBatchReader.from_stream(data), sink, refuse)
        return pa.ipc.open_stream(sink.getvalue()).read_all()
    if not is_frame(data):
        raise refuse(
            f"{type(data).__name__} is no table; give a dict, a list of dicts, or a "
            "table of pandas, polars or Arrow"
        )
    return _mapped(data, refuse)


def _own_pandas(frame: Any) -> Any:
    """A copy of a pandas frame, also of the lists and other objects in it that can be changed."""
    made = frame.copy(deep=True)
    for at in range(made.shape[1]):
        column = made.iloc[:, at]
        if is_object(column):
            made.isetitem(at, own_objects(column))
    return made


def own_objects(column: Any) -> Any:
    """A copy of a pandas column of objects; a column that pandas makes itself would not keep an int
    beside a None."""
    values = [own_value(value) for value in column]
    return type(column)(values, index=column.index, dtype=object, name=column.name)


def own_value(value: Any) -> Any:
    """The value, or a copy of it where it is of a class whose objects can be changed."""
    return copy.deepcopy(value) if type(value).__name__ in _CHANGING else value


_CHANGING = frozenset({"list", "dict", "set", "bytearray", "tuple", "ndarray", "Series"})


def _own_polars(frame: Any, refuse: Refuse) -> Any:
    """A copy of a polars frame. A column may share the memory of an array of NumPy, so a clone is
    not enough."""
    import io

    import polars as pl

    kept = io.BytesIO()
    try:
        frame.write_ipc_stream(kept)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise refuse(f"its columns have no Arrow type ({_first_line(error)})") from None
    kept.seek(0)
    return pl.read_ipc_stream(kept)


def _mapped(data: Any, refuse: Refuse) -> pa.Table:
    """What a stream gives, read once to a file that only the table's memory holds."""
    import tempfile

    import pyarrow as pa

    try:
        if hasattr(data, "__arrow_c_stream__"):
            stream = pa.RecordBatchReader.from_stream(data)
        else:
            stream = pa.RecordBatchReader.from_stream(pa.record_batch(data))
    except _unreadable() as error:
        raise refuse(f"its Arrow stream cannot be read ({_first_line(error)})") from None
    with tempfile.NamedTemporaryFile(prefix="featurekit-", suffix=".arrow") as file:
        _write(stream, file, refuse)
        file.flush()
        # The file has no name any more when this ends; its bytes live as long as the table.
        return pa.ipc.open_stream(pa.memory_map(file.name)).read_all()


def _write(stream: Any, sink: Any, refuse: Refuse) -> None:
    import pyarrow as pa

    names_of(stream.schema, refuse)
    try:
        with pa.ipc.new_stream(sink, stream.schema) as writer:
            for batch in stream:
                writer.write_batch(batch)
    except _unreadable() as error:
        raise refuse(f"its Arrow stream cannot be read ({_first_line(error)})") from None


def _unreadable() -> tuple[type[BaseException], ...]:
    """What reading a stream raises, whoever makes it."""
    import pyarrow as pa

    return (pa.ArrowException, OSError, TypeError, ValueError, RuntimeError)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
