"""Turns the batch source of a Feast view into a relation of the view's events in DuckDB."""

from __future__ import annotations

import datetime as dt
import uuid
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from feast.data_format import DeltaFormat, ParquetFormat
from feast.infra.offline_stores.file_source import FileSource

from featurekit.core.sql import quote, text_literal
from featurekit.core.types import DATETIME, INT, STR
from featurekit.define.definitions import EventSource
from featurekit.define.origins import Delta
from featurekit.errors import DataError, DefinitionError, SourceError
from featurekit.offline.events import EventRows, Snapshot
from featurekit.plugins.feast.arrays import DICTS
from featurekit.plugins.feast.kinds import Kind, OpaqueKind
from featurekit.plugins.feast.transformed import transformed, transforms
from featurekit.plugins.feast.views import NO_ENTITY, Mapped, mapped, plain_name
from featurekit.plugins.feast.words import in_words_of_feast
from featurekit.sources import read_events


def folder_of(config: Any) -> Path:
    """The folder of a Feast repo."""
    return Path.cwd() if config.repo_path is None else Path(config.repo_path)


def state_folder(config: Any) -> Path:
    """Where featurekit keeps what it knows of a Feast repo's files, and what does not fit into
    memory."""
    return folder_of(config) / ".featurekit" / "feast"


def view_rows(con: Any, config: Any, view: Any, *, by_created: bool = False) -> Snapshot:
    """The events of a Feast view, with the columns of the compiled view's source, __ts and
    __created. They arrive when they happen; `by_created`, at their created timestamp."""
    made = mapped(view)
    source = view.batch_source
    if source is None:
        raise DefinitionError(
            f"Feast's view {view.name!r} has no batch source, so it has no rows to read; give its "
            "stream source a batch_source"
        )
    table = _transformed(con, config, view) if transforms(view) else None
    rows = file_rows(con, config, source) if table is None else _registered(con, table)
    back = {} if table is not None else _back(con, rows, source)
    columns: dict[str, tuple[str, Kind]] = {}
    for key, kind in made.key_kinds.items():
        if made.keys[key] != NO_ENTITY:
            columns[made.keys[key]] = back.get(key, key), kind
    for name, kind in made.kinds.items():
        columns[name] = back.get(name, name), kind
    numbers = _numbers(con, rows, made, columns)
    read = _event_source(source, view.name, columns, made, folder_of(config), back, numbers)
    if table is not None or any(kind.opaque for _, kind in columns.values()):
        read = _held(con, rows, read, columns)
    with in_words_of_feast():
        files = read_events(con, read, base=folder_of(config), state_dir=state_folder(config))
    parts = [
        f"{quote(old)}::VARCHAR AS {quote(new)}"
        if old in numbers
        else f"{kind.kept_sql(quote(old), _what(view, new))} AS {quote(new)}"
        for new, (old, kind) in columns.items()
    ]
    if NO_ENTITY in made.keys.values():
        parts.append(f"'' AS {quote(NO_ENTITY)}")
    arrival = "__ts"
    if made.created is not None:
        created = quote(_created(source, back))
        parts.append(f"{created} AS {quote(made.created)}")
        if by_created:
            arrival = f"coalesce(epoch_us({created}), __ts)"
    relation = f"(SELECT {', '.join(parts)}, __ts, {arrival} AS __created FROM {files.relation})"
    return Snapshot(EventRows(relation, prompt=arrival == "__ts", rows=files.rows), {})


def _what(view: Any, column: str) -> str:
    return f"Feast's view {view.name!r}, column {column!r}"


def _transformed(con: Any, config: Any, view: Any) -> pa.Table:
    """The rows that a view's transformation makes of those of its source, by the names that the
    view has for their columns."""
    source = view.batch_source
    rows = file_rows(con, config, source)
    table = con.execute(f"SELECT * FROM {rows}").to_arrow_table()
    mapping = source.field_mapping or {}
    return transformed(
        view, table.rename_columns([mapping.get(name, name) for name in table.column_names])
    )


def _registered(con: Any, table: pa.Table) -> str:
    name = f"rows_{uuid.uuid4().hex}"
    con.register(name, table)
    return name


def _types(con: Any, rows: str) -> dict[str, str]:
    """The type of DuckDB of each column of a relation."""
    try:
        found = con.execute(f"DESCRIBE SELECT * FROM {rows}").fetchall()
    except duckdb.Error as error:
        raise SourceError(
            f"the files of a Feast source cannot be read ({str(error).splitlines()[0]}); write "
            "them, or correct its path"
        ) from None
    return {name: type_ for name, type_, *_ in found}


def _numbers(
    con: Any, rows: str, made: Mapped, columns: Mapping[str, tuple[str, Kind]]
) -> set[str]:
    """The columns of the files that hold ints where a join key is a text: the text is their
    digits."""
    keys = {columns[key][0] for key in made.keys.values() if key in columns}
    texts = {old for old, kind in columns.values() if old in keys and kind.type == STR}
    if not texts:
        return set()
    return {name for name, type_ in _types(con, rows).items() if name in texts and type_ in _INTS}


_INTS = {f"{sign}{size}INT" for sign in ("", "U") for size in ("TINY", "SMALL", "BIG")}
_INTS |= {"INTEGER", "UINTEGER"}


def _back(con: Any, rows: str, source: Any) -> dict[str, str]:
    """The column of the files for each name that a source maps one to. As in Feast, what maps a
    column that is not there is left out."""
    mapping = source.field_mapping or {}
    if not mapping:
        return {}
    there = _types(con, rows)
    return {new: old for old, new in mapping.items() if old in there}


def _created(source: Any, back: Mapping[str, str]) -> str:
    """The column of the files that says when a row was created."""
    name: str = source.created_timestamp_column
    return back.get(name, name)


def _event_source(
    source: Any,
    view: str,
    columns: dict[str, tuple[str, Kind]],
    made: Mapped,
    folder: Path,
    back: Mapping[str, str],
    numbers: set[str],
) -> EventSource:
    """The source whose rows are checked by the types that the Feast view declares (S1)."""
    keys = set(made.keys.values())
    schema = {
        old: kind.type if new in keys else kind.type.or_none()
        for new, (old, kind) in columns.items()
    }
    schema |= dict.fromkeys(numbers, INT)
    if made.created is not None:
        created = _created(source, back)
        schema.setdefault(created, DATETIME.or_none())
    made_of = EventSource(
        plain_name(view),
        schema=_with_null_keys(schema),
        timestamp_field=back.get(source.timestamp_field, source.timestamp_field),
        **_place(source, folder),
    )
    object.__setattr__(made_of, "place", None)  # else errors name a line of Feast's own code
    return made_of


def _held(
    con: Any, rows: str, read: EventSource, columns: dict[str, tuple[str, Kind]]
) -> EventSource:
    """The source with its rows in memory, where columns that featurekit has no type for are the
    bytes of Feast's protos."""
    wanted = dict.fromkeys([*read.schema, read.timestamp_field])
    if lacking := [name for name in wanted if name not in _types(con, rows)]:
        raise DataError(
            f"Feast's view {read.name!r}: its rows lack {', '.join(map(repr, lacking))}; they have "
            f"{', '.join(_types(con, rows))}"
        )
    table = con.execute(f"SELECT {', '.join(map(quote, wanted))} FROM {rows}").to_arrow_table()
    for old, kind in columns.values():
        if isinstance(kind, OpaqueKind):
            values = table[old].to_pylist(**DICTS)
            kept = kind.of_column(values, f"feature {old!r}")
            place = table.column_names.index(old)
            table = table.set_column(place, old, pa.array(kept, pa.binary()))
    made = EventSource(
        read.name, frame=table, schema=read.schema, timestamp_field=read.timestamp_field
    )
    object.__setattr__(made, "place", None)
    weakref.finalize(con, lambda held: None, made)  # its rows lie in a file while it lives
    return made


def file_rows(con: Any, config: Any, source: Any) -> str:
    """The rows of a Feast source as they are, as a relation of a connection."""
    if not isinstance(source, FileSource):
        raise _not_read(source)
    path = FileSource.get_uri_for_file_path(config.repo_path, source.file_options.uri)
    if isinstance(source.file_format, DeltaFormat):
        from deltalake import DeltaTable

        name = f"delta_{uuid.uuid4().hex}"
        con.register(name, DeltaTable(path).to_pyarrow_table())
        return name
    pattern = f"{path.rstrip('/')}/**/*.parquet" if Path(path).is_dir() else path
    return f"read_parquet({text_literal(pattern)})"


def _not_read(source: Any) -> DefinitionError:
    return DefinitionError(
        f"Feast's source {source.name!r} is a {type(source).__name__}; featurekit's offline store "
        "reads FileSource, of Parquet or Delta Lake"
    )


def _with_null_keys(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema, in which a join key may be null: such a row belongs to no entity (S2)."""
    return {name: type_.or_none() for name, type_ in schema.items()}


def _place(source: Any, folder: Path) -> dict[str, Any]:
    """Where the rows of a Feast source lie, as arguments of an EventSource."""
    if not isinstance(source, FileSource):
        raise _not_read(source)
    if isinstance(source.file_format, DeltaFormat):
        return {"origin": Delta(source.path)}
    if source.file_format is not None and not isinstance(source.file_format, ParquetFormat):
        raise DefinitionError(
            f"Feast's source {source.name!r} has the format {source.file_format}; featurekit's "
            "offline store reads Parquet and Delta"
        )
    path = source.path
    if path.endswith("/") or ("://" not in path and (folder / path).is_dir()):
        path = path.rstrip("/") + "/**/*.parquet"
    return {"path": path, "format": "parquet"}


def utc(given: dt.datetime) -> dt.datetime:
    """An instant of Feast's, where a naive one is in UTC."""
    return given.replace(tzinfo=dt.UTC) if given.tzinfo is None else given.astimezone(dt.UTC)
