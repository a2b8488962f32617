"""Turns the frame of a source into a Parquet file of its own, which is then read like any other.

The file has the declared columns in a form that DuckDB reads without loss. Its metadata say what
their types were, where Parquet has no such type, as for pandas' floats that stand for ints.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurekit.core.files import scratch_folder, whole
from featurekit.core.frames import is_pandas, table_of
from featurekit.core.types import DATETIME, Type
from featurekit.define.definitions import EventSource
from featurekit.define.given import GivenFrame
from featurekit.errors import BadRowError, SourceError
from featurekit.sources import parquet
from featurekit.sources.arrow import plain_table
from featurekit.sources.check import Marks
from featurekit.sources.parquet import kept, rejected, scan, without
from featurekit.sources.protocol import FileColumn, FileInfo
from featurekit.sources.readings import reading
from featurekit.sources.rows import stamp_readers

if TYPE_CHECKING:
    import duckdb

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

TYPES = b"featurekit"
"""Where a file of a frame has the types that Parquet lacks."""
rewrite: Any = None
marks: Marks | None = None


def snapshot(
    source: EventSource, base: Path, state_dir: Path | None = None, *, most: int | None = None
) -> tuple[FileInfo, ...]:
    """The file of the frame, written when it is first read; its `digest` is the hash of its bytes.

    SourceError for a column without an Arrow type. BadRowError for an object in a pandas column
    that is of another type than the others: no column can hold it, so it cannot be set aside
    either.
    """
    del base, state_dir, most
    given = source.frame
    assert isinstance(given, GivenFrame)
    types = _types(source)
    key = json.dumps([source.timezone, *([name, str(t)] for name, t in types.items())])
    with given.lock:
        found: FileInfo | None = given.made.get(key)
        if found is None or not Path(found.path).exists():
            found = given.made[key] = _write(source, given, types)
    return (found,)


def readable(
    source: EventSource, file: FileInfo, state_dir: Path | None, *, most: int | None = None
) -> str:
    """The file that `snapshot` wrote."""
    del source, state_dir, most
    return file.path


def columns(
    con: duckdb.DuckDBPyConnection, path: str, schema: Mapping[str, Type]
) -> dict[str, FileColumn]:
    """The columns of the file with the types that they had in the frame."""
    import pyarrow.parquet as pq

    kept = (pq.read_schema(path).metadata or {}).get(TYPES, b"{}")
    types = json.loads(kept)
    found = parquet.columns(con, path, schema)
    return {n: FileColumn(types.get(n, column.type), column.held) for n, column in found.items()}


def _types(source: EventSource) -> dict[str, Type]:
    instants = (source.timestamp_field, source.created_timestamp_column)
    return {**dict.fromkeys(filter(None, instants), DATETIME), **source.schema}


def _write(source: EventSource, given: GivenFrame, types: Mapping[str, Type]) -> FileInfo:
    import pyarrow.parquet as pq

    where = f"EventSource {source.name!r}, its frame"
    data = given.data.select(list(types)) if not is_pandas(given.data) else given.data[list(types)]
    table = table_of(
        data, refuse=lambda reason: SourceError(f"{where}: {reason}"), objects_as_text=True
    )
    table, found, faults = plain_table(
        data, table, types, zone_name=source.timezone, readers=stamp_readers(source, types)
    )
    if faults and is_pandas(data):
        raise BadRowError(f"{where}, {min(faults, key=lambda f: f.row)}; mend the row")
    folder = given.made.get("folder") or given.made.setdefault("folder", scratch_folder(given))
    folder.mkdir(mode=0o700, exist_ok=True)  # who cleans /tmp may have taken it
    path = folder / f"{source.name}-{len(given.made)}.parquet"
    with whole(path) as hidden:
        typed = table.replace_schema_metadata({TYPES: json.dumps(found)})
        pq.write_table(typed, hidden, use_dictionary=parquet.with_dictionaries(typed.schema))
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    stat = path.stat()
    return FileInfo(str(path), stat.st_size, stat.st_mtime_ns, digest)
