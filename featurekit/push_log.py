"""The offline log of pushed events: Parquet segments beside the repo, read with the source's files.

A segment is written whole under another name and then renamed, so that a reader sees all of a push
or nothing of it.
"""

from __future__ import annotations

import functools
import json
import os
import uuid
from pathlib import Path
from typing import Any

from featurekit.define import EventSource
from featurekit.errors import SourceError
from featurekit.to_duckdb import quote, text_literal
from featurekit.types import Type

REPLACES = b"featurekit.replaces"
_FEW = 1000


def log_folder(state_dir: Path, source: str) -> Path:
    """Where the segments of a source lie."""
    return state_dir / "log" / source


def write_segment(state_dir: Path, source: EventSource, rows: Any) -> Path:
    """Keep the rows of a push, an Arrow table with `__ts` and `__created`; the segment's path."""
    import pyarrow as pa

    columns = {name: _stored(rows[name], type_) for name, type_ in source.schema.items()}
    columns |= {name: rows[name] for name in ("__ts", "__created")}
    folder = log_folder(state_dir, source.name)
    folder.mkdir(parents=True, exist_ok=True)
    # Names sort by time of writing; no result depends on it (T6).
    first = min(rows["__created"].to_pylist(), default=0)
    path = folder / f"{first:020d}-{uuid.uuid4().hex}.parquet"
    put_segment(path, pa.table(columns))
    return path


def put_segment(path: Path, table: Any) -> None:
    """Write a segment whole, to last through a power failure, before it has its name."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    made = pa.BufferOutputStream()
    # Of few rows statistics and dictionaries are most of the file, and of the work.
    large = table.num_rows > _FEW
    pq.write_table(table, made, use_dictionary=large, write_statistics=large)
    hidden = path.with_suffix(".writing")
    with hidden.open("wb", buffering=0) as file:
        view = memoryview(made.getvalue())
        while view:
            view = view[file.write(view) :]
        os.fsync(file.fileno())
    hidden.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _stored(column: Any, type_: Type) -> Any:
    """The column as DuckDB's canonical types have it."""
    stored = _stored_type(type_)
    return column if column.type == stored else column.cast(stored)


def _stored_type(type_: Type) -> Any:
    import pyarrow as pa

    return {"datetime": pa.timestamp("us"), "timedelta": pa.int64()}.get(type_.name, type_.arrow)


def segments(state_dir: Path, source: str) -> list[Path]:
    """Every whole segment of a source that no other stands in for, in the order of their names."""
    found = sorted(log_folder(state_dir, source).glob("*.parquet"))
    gone = {name for path in found if level(path) for name in replaced_by(path)}
    return [path for path in found if path.name not in gone]


def level(path: Path) -> int:
    """How often a segment's rows were joined into a larger one."""
    _, dash, shown = path.stem.rpartition("-L")
    return int(shown) if dash else 0


@functools.cache  # a segment never changes
def replaced_by(path: Path) -> tuple[str, ...]:
    """The names of the segments in whose place a joined one stands."""
    import pyarrow.parquet as pq

    return tuple(json.loads((pq.read_schema(path).metadata or {}).get(REPLACES, b"[]")))


def log_sql(paths: list[Path], source: EventSource) -> str:
    """The logged events as a relation with the source's columns, `__ts` and `__created`.

    A column that came to the schema after a push is null in its rows. SourceError where the log
    does not fit the schema of today: another type, or a null in a column that may not be None (S1).
    """
    parts = []
    for path in paths:
        columns = [_column(path, source, name, type_) for name, type_ in source.schema.items()]
        shown = ", ".join([*columns, "__ts", "__created"])
        parts.append(f"SELECT {shown} FROM read_parquet([{text_literal(str(path))}])")
    return f"({' UNION ALL '.join(parts)})"


def _column(path: Path, source: EventSource, name: str, type_: Type) -> str:
    written = path.stat().st_mtime_ns
    held = _held(path, written)
    if name not in held:
        if not type_.optional:
            raise _misfit(path, source, name, "there is no such column, and it may not be None")
        return f"NULL::{type_.duckdb} AS {quote(name)}"
    found, nulls = held[name]
    wanted = _stored_type(type_)
    if found != wanted:
        raise _misfit(path, source, name, f"it holds {found}, and {type_} is {wanted}")
    if nulls and not type_.optional:
        raise _misfit(path, source, name, f"{nulls} of its values are None")
    if type_.choices is not None and (others := _others(path, written, name, type_.choices)):
        raise _misfit(path, source, name, f"{others[0]!r} is not among {type_.base}")
    return f"{quote(name)}::{type_.duckdb} AS {quote(name)}" if type_.size else quote(name)


def _misfit(path: Path, source: EventSource, name: str, what: str) -> SourceError:
    return SourceError(
        f"source {source.name!r}, the log of pushed events {path.name}, column {name!r}: {what}; "
        "give the changed column a new name that is optional, or declare it as it was"
    )


@functools.cache
def _others(path: Path, mtime_ns: int, name: str, choices: tuple[Any, ...]) -> list[Any]:
    """The values of a segment's column outside the choices of its type."""
    del mtime_ns
    import pyarrow.parquet as pq

    values = pq.read_table(path, columns=[name])[name].unique().to_pylist()
    return [v for v in values if v is not None and v not in choices]


@functools.cache  # a segment changes only where events are forgotten
def _held(path: Path, mtime_ns: int) -> dict[str, tuple[Any, int]]:
    """Each column of a segment with its Arrow type and its number of nulls."""
    del mtime_ns
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    return {n: (table.schema.field(n).type, table[n].null_count) for n in table.column_names}
