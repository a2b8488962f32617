"""Turns a source's files into rows of Python values, one by one, as a push brings them.

It takes its own way from the file: texts of CSV and of folders' names are read by Python here, and
by SQL for training. Rows that break S1 stay as they are, for the push to refuse.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurekit.core.formats import ISO, parsed
from featurekit.core.tables import Row
from featurekit.core.texts import lenient
from featurekit.core.types import DATETIME, Type
from featurekit.define.definitions import EventSource
from featurekit.define.dialect import Dialect
from featurekit.sources.csv import DATE, FLOAT, copy_of, texts_of
from featurekit.sources.files import partitions
from featurekit.sources.protocol import FileInfo

if TYPE_CHECKING:
    import pyarrow as pa


def file_rows(
    source: EventSource,
    file: FileInfo,
    wanted: Mapping[str, Collection[Any]],
    *,
    state_dir: Path | None,
) -> list[Row]:
    """The rows of a Parquet or CSV file as a push brings them: those whose value of each column of
    `wanted` is one of its values. None of the file's rows may have been set aside."""
    types, dialect = text_types(source), source.dialect
    folders = {
        name: value_of(text, types.get(name), Dialect())  # a folder's name is no text of the file
        for name, text in partitions(file).items()
        if name in _names(source)
    }
    table = _csv_texts if source.format == "csv" else _parquet_table
    found = table(source, file, state_dir)
    there = {*found.column_names}
    given = {name: value for name, value in folders.items() if name not in there}
    if any(given[name] not in values for name, values in wanted.items() if name in given):
        return []
    keys = {name: values for name, values in wanted.items() if name not in given}
    if source.format == "csv":
        rows = _of_texts(found, keys, types, dialect)
    else:
        rows = _of_values(found, {name: (source.schema[name], v) for name, v in keys.items()})
    return [{**row, **given} for row in rows]


def _csv_texts(source: EventSource, file: FileInfo, state_dir: Path | None) -> pa.Table:
    table = texts_of(copy_of(file.path, source.dialect, state_dir))[0]
    there = {*table.column_names}
    return table.select([name for name in _names(source) if name in there])


def _parquet_table(source: EventSource, file: FileInfo, state_dir: Path | None) -> pa.Table:
    import pyarrow.parquet as pq

    del state_dir
    with pq.ParquetFile(file.path) as opened:
        there = set(opened.schema_arrow.names)
        return opened.read([name for name in _names(source) if name in there])


def _of_texts(
    table: pa.Table,
    keys: Mapping[str, Collection[Any]],
    types: Mapping[str, Type],
    dialect: Dialect,
) -> list[Row]:
    import pyarrow as pa

    if keys:
        asked = values_of(table.select(list(keys)), types, dialect)
        chosen = [all(row[name] in values for name, values in keys.items()) for row in asked]
        table = table.filter(pa.array(chosen, pa.bool_()))
    return values_of(table, types, dialect)


def _of_values(table: pa.Table, keys: Mapping[str, tuple[Type, Collection[Any]]]) -> list[Row]:
    import pyarrow as pa
    import pyarrow.compute as pc

    for name, (type_, values) in keys.items():
        known = pa.array(list(values), type=type_.arrow)
        table = table.filter(pc.is_in(table[name].cast(type_.arrow), value_set=known))
    for i, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type) and field.type.tz is not None:
            # A file's zone may be unknown here.
            utc = table.column(i).cast(pa.timestamp(field.type.unit, "UTC"))
            table = table.set_column(i, field.name, utc)
    rows: list[Row] = table.to_pylist()
    return rows


def _names(source: EventSource) -> dict[str, None]:
    named = (source.timestamp_field, source.created_timestamp_column)
    return dict.fromkeys([*source.schema, *(name for name in named if name is not None)])


def text_types(source: EventSource) -> dict[str, Type]:
    """The types of the columns whose texts are read before a push; a timestamp in a declared format
    is read by the push itself."""
    types = {name: source.schema.get(name, DATETIME.or_none()) for name in _names(source)}
    return {name: type_ for name, type_ in types.items() if name not in source.formats}


def values_of(table: pa.Table, types: Mapping[str, Type], dialect: Dialect) -> list[Row]:
    """The rows of a table of texts; the columns of `types` have their values, and the others, and a
    text that is no value, stay as they are."""
    columns = {
        name: [value_of(text, types.get(name), dialect) for text in table[name].to_pylist()]
        for name in table.column_names
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def value_of(text: Any, type_: Type | None, dialect: Dialect) -> Any:
    """The value of a text of such a file, or the text itself where there is none. The forms are
    those that SQL reads (S1)."""
    if type_ is None or not isinstance(text, str):
        return text
    match type_.name:
        case "int" | "float" if dialect.decimal == ",":
            if "." in text:
                return text
            plain = text.replace(",", ".")
        case _:
            plain = text
    if type_.name == "datetime":
        return parsed(text, ISO) or text
    if text == "":
        return text  # quoted: an empty field is null
    pattern = _PATTERNS.get(type_.name)
    if pattern is not None and not re.fullmatch(pattern, plain):
        return text
    found = lenient(plain, type_)
    return text if found is plain else found


_PATTERNS = {"float": FLOAT.replace("{point}", "."), "date": DATE}
