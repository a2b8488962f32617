"""Turns Parquet files into scans: their columns and types, and the rows that DuckDB cannot
decode."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurekit.core.files import whole
from featurekit.core.frames import kind_of_pandas
from featurekit.core.gone import FixedLists, Gone
from featurekit.core.sql import escaped, parquet_sql, text_literal
from featurekit.core.tables import fetch
from featurekit.core.types import Type
from featurekit.define.definitions import EventSource
from featurekit.errors import SourceError
from featurekit.sources.check import BadRow, Marks, first_line, shortened
from featurekit.sources.files import snapshot
from featurekit.sources.protocol import FileColumn, FileInfo
from featurekit.sources.readings import reading

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

__all__ = [
    "columns",
    "kept",
    "marks",
    "readable",
    "reading",
    "rejected",
    "rewrite",
    "scan",
    "snapshot",
    "without",
]

marks: Marks | None = None
NOT_UTF8 = "text that is not UTF-8 (a lone surrogate, or other bytes)"

_INSTANT_S = 2**63 // 1_000_000


def readable(
    source: EventSource, file: FileInfo, state_dir: Path | None, *, most: int | None = None
) -> str:
    """The path of the file itself."""
    del source, state_dir, most
    return file.path


def kept(source: EventSource, file: FileInfo, state_dir: Path) -> Collection[str]:
    """None: the file itself is read."""
    del source, file, state_dir
    return ()


def columns(
    con: duckdb.DuckDBPyConnection, path: str, schema: Mapping[str, Type]
) -> dict[str, FileColumn]:
    """The columns of a file, by the names in its footer, with their DuckDB types (S4); an Arrow
    duration is DURATION_<unit>, and a period of pandas is told by its name.

    Parquet itself has neither. DuckDB shows them as plain integers, and only the Arrow schema in
    the file knows their unit. DuckDB gives other names to columns whose names differ in case
    alone, so a name of the footer and a name of the scan belong together by their place.
    """
    import duckdb

    try:
        held = fetch(con, f"DESCRIBE SELECT * FROM {scan([path], {})}")
        nodes = fetch(
            con,
            "SELECT name, num_children, coalesce(precision, 0) "
            f"FROM parquet_schema({text_literal(escaped(path))})",
        )
    except duckdb.Error as error:
        raise SourceError(
            f"{path}: not a Parquet file that can be read ({first_line(error)}); write it again, "
            'or say format="csv" if that is what it is'
        ) from None
    digits = _top_columns(nodes)
    names = [name for name, _ in digits]
    if len(names) != len(held):
        raise SourceError(
            f"{path}: its footer names {len(names)} columns and {len(held)} are read; write it "
            "again"
        )
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise SourceError(f"{path}: two columns are named {twice[0]!r}; write it without one")
    found = {
        # DuckDB reads a decimal of more than 38 digits as a double, and not the nearest one.
        name: FileColumn(type_ if most <= 38 else f"WIDE DECIMAL of {most} digits", there)
        for (name, most), (there, type_, *_) in zip(digits, held, strict=True)
    }
    if any(_may_be_duration(type_) for type_ in schema.values()):
        for name, kind in _durations(path, found).items():
            found[name] = replace(found[name], type=kind)
    return found


def _top_columns(nodes: Sequence[tuple[str, int | None, int]]) -> list[tuple[str, int]]:
    """The columns with the most digits of a decimal in each, of the nodes of a schema in the order
    of the footer: its root, then each node before its children."""
    at, columns = 1, []
    while at < len(nodes):
        name, most, below = nodes[at][0], 0, 1
        while below:
            below += (nodes[at][1] or 0) - 1
            most = max(most, nodes[at][2])
            at += 1
        columns.append((name, most))
    return columns


def _may_be_duration(type_: Type) -> bool:
    return type_.name in ("int", "timedelta") or (
        type_.item is not None and _may_be_duration(type_.item)
    )


def _durations(path: str, found: Collection[str]) -> dict[str, str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {}
    with suppress(pa.ArrowNotImplementedError):  # a type that Arrow lacks is no duration
        for column in pq.read_schema(path):
            name = duration_name(column.type) or kind_of_pandas(column.type, column.metadata)
            if name and column.name in found:
                kinds[column.name] = name
    return kinds


def duration_name(type_: pa.DataType) -> str | None:
    """DURATION_<unit> for an Arrow duration, with [] for a list of durations; None for other
    types."""
    import pyarrow as pa

    if pa.types.is_duration(type_):
        return f"DURATION_{type_.unit.upper()}"
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        inner = duration_name(type_.value_type)
        return inner and f"{inner}[]"
    return None


def scan(paths: Sequence[str], found: Mapping[str, FileColumn]) -> str:
    """A FROM item over files with equal columns."""
    del found
    return parquet_sql(paths)


def with_dictionaries(schema: pa.Schema) -> list[str]:
    """The columns that are written with dictionaries: those of text. Arrow tries one for each
    column, and for numbers that takes more than half of all the time of writing."""
    import pyarrow as pa

    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary)
    return [field.name for field in schema if any(is_(field.type) for is_ in texts)]


def rejected(
    con: duckdb.DuckDBPyConnection, path: str, found: Mapping[str, FileColumn]
) -> list[tuple[BadRow, dict[str, Any]]]:
    """The rows, as found, whose text is not UTF-8 or whose instant overflows: DuckDB stops at them.

    All columns are checked, because such a row stops the scan whether or not the column is
    declared. Of an object that was fetched without some columns, `found` has the others.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    del con
    rows, start = [], 0
    try:
        with pq.ParquetFile(path) as file:
            names = [name for name in file.schema_arrow.names if name in found]
            for batch in file.iter_batches(columns=names):
                for row, fault in _batch_faults(batch, start).items():
                    raw = {name: _raw(batch.column(name)[row]) for name in batch.schema.names}
                    rows.append((fault, raw))
                start += len(batch)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{path}: it cannot be read ({first_line(error)})") from None
    return rows


def without(path: str, found: Mapping[str, FileColumn], rows: Sequence[int], *, copy: Path) -> str:
    """A FROM item over the rows of the file that are not in `rows`. They are written to `copy`,
    because DuckDB cannot skip rows itself."""
    import numpy as np
    import pyarrow.parquet as pq

    start, dropped = 0, np.asarray(rows)
    with (
        whole(copy) as hidden,
        pq.ParquetFile(path) as file,
        pq.ParquetWriter(hidden, file.schema_arrow) as writer,
    ):
        for batch in file.iter_batches():
            keep = ~np.isin(np.arange(start, start + len(batch)), dropped)
            writer.write_batch(batch.filter(keep))
            start += len(batch)
    return scan([str(copy)], found)


def rewrite(source: EventSource, path: Path, target: Path, gone: Gone) -> None:
    """Write the file without some rows and elements; its schema, metadata, compression and row
    groups stay. SourceError for elements of a column whose type says how long its lists are."""
    import pyarrow.parquet as pq

    del source
    start = 0
    with pq.ParquetFile(path) as file:
        settings = _settings(file.metadata)
    with pq.ParquetFile(path) as file, pq.ParquetWriter(target, file.schema_arrow, **settings) as w:
        for i in range(file.num_row_groups):
            group = file.read_row_group(i)
            try:
                kept = gone.without(group, start)
            except FixedLists as type_:
                raise SourceError(
                    f"{path}: lists of the type {type_} cannot lose an element; take it out in the "
                    "job that writes the file"
                ) from None
            start += group.num_rows
            if kept.num_rows:
                w.write_table(kept, row_group_size=group.num_rows)


def _settings(metadata: Any) -> dict[str, Any]:
    """The compression of the file, and whether its instants have the old 96-bit form."""
    if not metadata.num_row_groups:
        return {}
    columns = [metadata.row_group(0).column(i) for i in range(metadata.num_columns)]
    codecs = {c.path_in_schema: c.compression.replace("UNCOMPRESSED", "NONE") for c in columns}
    return {
        "compression": codecs,
        "use_deprecated_int96_timestamps": any(c.physical_type == "INT96" for c in columns),
    }


def _batch_faults(batch: pa.RecordBatch, start: int) -> dict[int, BadRow]:
    faults: dict[int, BadRow] = {}
    for name in batch.schema.names:
        for row, reason, value in _column_faults(batch.column(name)):
            faults.setdefault(row, BadRow(start + row, name, reason, shortened(repr(value))))
    return dict(sorted(faults.items()))


def _raw(scalar: pa.Scalar) -> Any:
    """The form in which a value of a row set aside is kept: a text as bytes, because it may not be
    UTF-8; anything else as text."""
    import pyarrow as pa

    if pa.types.is_string(scalar.type) or pa.types.is_large_string(scalar.type):
        buffer = scalar.as_buffer()
        return None if buffer is None else buffer.to_pybytes()
    if not scalar.is_valid:
        return None
    # An instant that overflows has no text, but it has a number in the file's unit.
    return str(scalar.value if pa.types.is_timestamp(scalar.type) else scalar)


def _column_faults(array: pa.Array) -> Iterator[tuple[int, str, Any]]:
    import pyarrow as pa

    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    yield from text_faults(array)
    if pa.types.is_timestamp(array.type) and array.type.unit in ("s", "ms"):
        limit = _INSTANT_S * (1 if array.type.unit == "s" else 1000)
        for row, value in enumerate(array.cast(pa.int64()).to_pylist()):
            if value is not None and abs(value) > limit:
                yield row, "an instant outside the years 1 to 9999", value


def text_faults(array: pa.Array) -> Iterator[tuple[int, str, Any]]:
    """The rows of a text array that are not UTF-8, such as a lone surrogate (S1)."""
    import pyarrow as pa

    if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        return
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        for row, scalar in enumerate(array):
            value = _raw(scalar)
            try:
                if value is not None:
                    value.decode()
            except UnicodeDecodeError:
                yield row, NOT_UTF8, value
