"""The offline log of pushed events: Parquet segments beside the repo, read with the source's files.

A segment is written whole under another name and then renamed, so that a reader sees all of a push
or nothing of it.
"""

from __future__ import annotations

import functools
import json
import os
import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featurekit.define import EventSource
from featurekit.errors import SourceError
from featurekit.to_duckdb import quote, text_literal
from featurekit.types import INT, Type

REPLACES = b"featurekit.replaces"
_FEW = 1000
_MOST, _MOST_ROWS = 128, 10_000
"""Segments, and rows of them, that a process remembers."""


def log_folder(state_dir: Path, source: str) -> Path:
    """Where the segments of a source lie."""
    return state_dir / "log" / source


def write_segment(state_dir: Path, source: EventSource, rows: Any) -> Path:
    """Keep the rows of a push, as an Arrow table or as dicts of the source's columns, with `__ts`
    and `__created`; the segment's path."""
    table = _stored(source, rows)
    # Names sort by time of writing; no result depends on it (T6).
    first = min(table["__created"].to_pylist(), default=0)
    path = log_folder(state_dir, source.name) / f"{first:020d}-{uuid.uuid4().hex}.parquet"
    file = put_segment(path, table)
    if table.num_rows <= _FEW:
        _remember(os.fspath(path), _Recent(file, table))
    return path


_INSTANTS = ("__ts", "__created")


def _pa() -> Any:
    import pyarrow as pa

    return pa


def put_segment(path: Path, table: Any) -> _File:
    """Write a segment whole, to last through a power failure, before it has its name; which file it
    is."""
    import pyarrow.parquet as pq

    made = _pa().BufferOutputStream()
    # Of few rows statistics and dictionaries are most of the file, and of the work.
    large = table.num_rows > _FEW
    pq.write_table(table, made, use_dictionary=large, write_statistics=large)
    return _put(path, made.getvalue())


def _put(path: Path, data: Any) -> _File:
    name, folder = os.fspath(path), os.fspath(path.parent)
    hidden = name.removesuffix(path.suffix) + ".writing"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    try:
        file = os.open(hidden, flags, 0o666)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(hidden, flags, 0o666)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(file, view) :]
        os.fsync(file)
        found = _file(os.fstat(file))
    finally:
        os.close(file)
    os.rename(hidden, name)  # noqa: PTH104 (a Path takes as long as the call)
    there = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(there)
    finally:
        os.close(there)
    return found


# --- what this process has written ----------------------------------------------------------------

_File = tuple[int, int, int, int]


def _file(found: os.stat_result) -> _File:
    """What tells a file from another that was put in its place."""
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


@dataclass(frozen=True, slots=True)
class _Recent:
    """A segment's file, and its rows."""

    file: _File
    table: Any


_recent: OrderedDict[str, _Recent] = OrderedDict()
_recent_rows = 0
_lock = threading.Lock()


def _remember(path: str, made: _Recent) -> None:
    """Keep the rows of the newest segments, which are soon joined, so that they are not read."""
    global _recent_rows
    with _lock:
        _recent[path] = made
        _recent_rows += made.table.num_rows
        while len(_recent) > _MOST or _recent_rows > _MOST_ROWS:
            _, gone = _recent.popitem(last=False)
            _recent_rows -= gone.table.num_rows


def recent(folder: Path, names: Sequence[str]) -> dict[str, _Recent]:
    """The rows of those segments that this process has written, where no other file is in their
    place."""
    wanted, found, lost = set(names), {}, []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name not in wanted:
                continue
            with _lock:
                made = _recent.get(entry.path)
            if made is None:
                continue
            if made.file == _file(entry.stat()):
                found[entry.name] = made
            else:
                lost.append(entry.name)
    forget_recent(folder, lost)
    return found


def forget_recent(folder: Path, names: Iterable[str]) -> None:
    """Keep the rows of these segments no longer."""
    global _recent_rows
    with _lock:
        for name in names:
            gone = _recent.pop(f"{folder}{os.sep}{name}", None)
            _recent_rows -= 0 if gone is None else gone.table.num_rows


def written_schema(folder: Path, name: str) -> str | None:
    """As `schema_text`, of a segment that this process has written; None for another."""
    with _lock:
        made = _recent.get(f"{folder}{os.sep}{name}")
    return None if made is None else schema_text(made.table.schema)


@functools.lru_cache(maxsize=_MOST)
def schema_text(schema: Any) -> str:
    """What segments that may be joined have in common."""
    text: str = schema.remove_metadata().to_string()
    return text


def _stored(source: EventSource, rows: Any) -> Any:
    """Rows as an Arrow table, in DuckDB's canonical types."""
    pa = _pa()
    columns = {}
    for name, type_ in [*source.schema.items(), *((name, INT) for name in _INSTANTS)]:
        if isinstance(rows, list):
            column = pa.array([row[name] for row in rows], type_.arrow)
        else:
            column = rows[name]
        stored = _stored_type(type_)
        columns[name] = column if column.type == stored else column.cast(stored)
    return pa.table(columns)


def _stored_type(type_: Type) -> Any:
    pa = _pa()
    return {"datetime": pa.timestamp("us"), "timedelta": pa.int64()}.get(type_.name, type_.arrow)


def segments(state_dir: Path, source: str) -> list[Path]:
    """Every whole segment of a source that no other stands in for, in the order of their names."""
    folder = log_folder(state_dir, source)
    return [folder / name for name in segment_names(folder)]


def segment_names(folder: Path) -> list[str]:
    """The names of the whole segments of a folder that no other stands in for, in order."""
    try:
        with os.scandir(folder) as found:
            names = [entry.name for entry in found if entry.name.endswith(".parquet")]
    except FileNotFoundError:
        return []
    gone = {n for name in names if "-L" in name and level(name) for n in replaced_by(folder / name)}
    return sorted(name for name in names if name not in gone)


def level(segment: str | Path) -> int:
    """How often a segment's rows were joined into a larger one; of its path, or its name."""
    name = segment if isinstance(segment, str) else segment.name
    _, dash, shown = name.removesuffix(".parquet").rpartition("-L")
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
