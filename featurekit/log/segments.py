"""Turns pushed events into the files of the offline log, which is read together with the source's
files.

Its segments are Parquet files, written whole under another name and then renamed, and journals, to
which small pushes are appended. In both a reader sees all of a push or nothing of it.
"""

from __future__ import annotations

import functools
import json
import os
import uuid
from itertools import count
from pathlib import Path
from typing import Any

from featurekit.core.arrays import array_of
from featurekit.core.files import sync_folder, write_whole
from featurekit.core.kept import Kept
from featurekit.core.openness import make_folder
from featurekit.core.sql import parquet_sql, quote
from featurekit.core.tables import arrow_table
from featurekit.core.types import INT, Type
from featurekit.define.definitions import EventSource
from featurekit.errors import SourceError
from featurekit.log import journal
from featurekit.log.journal import SUFFIX, claims_in, with_claims
from featurekit.log.sums import BLANK, SUMS, check, check_footer, reading, summed

REPLACES = b"featurekit.replaces"
FEW = 1000
"""The most rows of a push that goes to a journal."""
PUSHES, BYTES = 512, 1 << 20
"""The most that a journal holds, apart from its last push."""


def log_folder(state_dir: Path, source: str) -> Path:
    """The folder of a source's segments."""
    return state_dir / "log" / source


def write_segment(
    state_dir: Path, source: EventSource, rows: Any, *, claim: str | None = None
) -> Path:
    """Keep the rows of a push, and its claim, as a segment of its own; returns the path of the
    segment."""
    table = columns_of(source).table(rows)
    if claim is not None:
        table = with_claims(table, [claim])
    path = Path(new(state_dir, source.name, table, ".parquet"))
    put_segment(path, table)
    return path


def new(state_dir: Path, source: str, rows: Any, suffix: str) -> str:
    """The path of a new file of the log."""
    # Names sort by the earliest arrival, about the time of writing; no result depends on it (T6).
    first = min(rows["__created"].to_pylist(), default=0)
    return f"{log_folder(state_dir, source)}{os.sep}{first:020d}-{uuid.uuid4().hex}{suffix}"


def arrow_module() -> Any:
    import pyarrow as pa

    return pa


def put_segment(path: Path, table: Any) -> None:
    """Write a segment whole; its bytes survive a power failure before it gets its name."""
    import pyarrow.parquet as pq

    made = arrow_module().BufferOutputStream()
    # For few rows, statistics and dictionaries are most of the file and of the work.
    large = table.num_rows > FEW
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), SUMS: BLANK})
    pq.write_table(table, made, use_dictionary=large, write_statistics=large)
    _put(path, summed(path.name, made.getvalue()))


def put_journal(path: Path, table: Any) -> None:
    """As `put_segment`, for a journal that has ended."""
    _put(path, journal.encoded(table))


def _put(path: Path, data: Any) -> None:
    try:
        write_whole(path, data, durable=True)
    except FileNotFoundError:
        make_folder(path.parent)
        write_whole(path, data, durable=True)
    sync_folder(os.fspath(path.parent))


INSTANTS = ("__ts", "__created")


class Columns:
    """How a source's rows are stored: in DuckDB's canonical types."""

    def __init__(self, source: EventSource) -> None:
        pa = arrow_module()
        types = [*source.schema.items(), *((name, INT) for name in INSTANTS)]
        self.given = pa.struct([(name, type_.arrow) for name, type_ in types])
        self.schema = pa.schema([(name, type_.stored) for name, type_ in types])
        self.as_given = pa.schema(self.given).equals(self.schema)

    def table(self, rows: Any) -> Any:
        """The rows, dicts or an Arrow table, as an Arrow table; columns may be in chunks."""
        pa = arrow_module()
        columns = []
        for given, stored in zip(self.given, self.schema, strict=True):
            if isinstance(rows, list):
                column = array_of([row[given.name] for row in rows], given.type)
            else:
                column = rows[given.name]
            columns.append(column if column.type == stored.type else column.cast(stored.type))
        return pa.table(columns, schema=self.schema)

    def batch(self, rows: Any) -> Any:
        """The rows as one RecordBatch; None if they are too large for one."""
        pa = arrow_module()
        if not isinstance(rows, list) and rows.nbytes > BYTES:
            return None
        if isinstance(rows, list):
            # One call for all columns: a call for each column takes three times as long.
            array = array_of(rows, self.given)
            if isinstance(array, pa.ChunkedArray):
                return None
            made = pa.RecordBatch.from_struct_array(array)
            if self.as_given:
                return made
            columns = made.columns
        else:
            columns = [rows[name].combine_chunks() for name in self.schema.names]
        stored = [
            column if column.type == type_ else column.cast(type_)
            for column, type_ in zip(columns, self.schema.types, strict=True)
        ]
        return pa.RecordBatch.from_arrays(stored, schema=self.schema)


columns_of = Kept(Columns)
"""The `Columns` of a source."""


def segments(state_dir: Path, source: str) -> list[Path]:
    """Every whole segment of a source that no other segment replaces, in the order of their
    names."""
    folder = log_folder(state_dir, source)
    return [folder / name for name in segment_names(folder)]


def segment_names(folder: Path) -> list[str]:
    """The names of the whole segments of a folder that no other segment replaces, in order."""
    try:
        with os.scandir(folder) as found:
            names = [entry.name for entry in found if entry.name.endswith((".parquet", SUFFIX))]
    except FileNotFoundError:
        return []
    gone = {n for name in names if "-L" in name and level(name) for n in replaced_by(folder / name)}
    return sorted(name for name in names if name not in gone)


def level(segment: str | Path) -> int:
    """How often a segment's rows were joined into a larger one, read from its path or name."""
    name = segment if isinstance(segment, str) else segment.name
    _, dash, shown = name.removesuffix(".parquet").rpartition("-L")
    return int(shown) if dash else 0


@functools.cache  # a segment never changes
def replaced_by(path: Path) -> tuple[str, ...]:
    """The names of the segments that a joined segment replaces."""
    import pyarrow.parquet as pq

    check_footer(path)
    with reading(path):
        return tuple(json.loads((pq.read_schema(path).metadata or {}).get(REPLACES, b"[]")))


def read_segment(path: Path) -> Any:
    """A segment's rows as an Arrow table, with the claims of its pushes in the metadata of its
    schema; None for a journal without rows."""
    import pyarrow.parquet as pq

    if path.suffix == SUFFIX:
        found = journal.read(path)
        table = found.table
        return None if table is None else with_claims(table, found.claims)
    check(path)
    # Not `read_table`, which makes a data set of the file first.
    with reading(path), pq.ParquetFile(arrow_module().BufferReader(path.read_bytes())) as file:
        return file.read(use_threads=False)


def claims_of(path: Path) -> list[str]:
    """The claims of the pushes in a segment that have one."""
    import pyarrow.parquet as pq

    if path.suffix == SUFFIX:
        return journal.read(path).claims
    check_footer(path)
    with reading(path):
        return claims_in(pq.read_schema(path))


def has_claim(state_dir: Path, source: str, claim: str) -> bool:
    """Whether the log has the push of a claim. It reads every journal and every footer, newest
    first."""
    while True:
        try:
            found = reversed(segments(state_dir, source))
            return any(claim in claims_of(path) for path in found)
        except FileNotFoundError:  # it was joined, and is in another one
            continue


def schema_of(path: Path) -> str | None:
    """The schema as text: segments may be joined if it is equal. None for a journal that has not
    begun."""
    if path.suffix != SUFFIX:
        return _schema_text(path)
    schema = journal.read(path).schema
    return None if schema is None else str(schema.remove_metadata().to_string())


@functools.lru_cache(maxsize=4096)  # a segment's rows may change, its columns never
def _schema_text(path: Path) -> str:
    import pyarrow.parquet as pq

    check_footer(path)
    with reading(path):
        return str(pq.read_schema(path).remove_metadata().to_string())


_tables = count()


def journal_table(con: Any, table: Any) -> str:
    """A journal's rows, in their order, in a temporary table of `con`."""
    return arrow_table(con, f"__journal_{next(_tables)}", table)


class _Looked:
    """A segment as a relation; of each column it knows the Arrow type and the number of nulls."""

    def __init__(self, path: Path, relation: str, held: dict[str, tuple[Any, int]]) -> None:
        self.path, self.relation, self.held = path, relation, held

    def others(self, name: str, choices: tuple[Any, ...]) -> list[Any]:
        """The values of a column outside the choices of its type."""
        return _others(self.path, self.path.stat().st_mtime_ns, name, choices)


class _LookedInto(_Looked):
    """A journal's rows as they are now, in a table of a connection."""

    def __init__(self, con: Any, path: Path, table: Any) -> None:
        super().__init__(path, journal_table(con, table), _held_by(table))
        self.table = table

    def others(self, name: str, choices: tuple[Any, ...]) -> list[Any]:
        """The values of a column outside the choices of its type."""
        return _outside(self.table, name, choices)


def looked(con: Any, path: Path) -> _Looked | None:
    """The segment at a path; None for a journal that holds no rows."""
    if path.suffix == SUFFIX:
        table = journal.read(path).table
        return None if table is None else _LookedInto(con, path, table)
    check(path)
    relation = parquet_sql([str(path)])
    return _Looked(path, relation, _held(path, path.stat().st_mtime_ns))


def segment_column(segment: _Looked, source: EventSource, name: str, type_: Type) -> str:
    if name not in segment.held:
        if not type_.optional:
            raise _misfit(segment, source, name, "the log lacks the column, which may not be None")
        return f"NULL::{type_.duckdb} AS {quote(name)}"
    found, nulls = segment.held[name]
    wanted = type_.stored
    if found != wanted:
        raise _misfit(segment, source, name, f"it holds {found}, and {type_} is {wanted}")
    if nulls and not type_.optional:
        raise _misfit(segment, source, name, f"{nulls} of its values are None")
    if type_.choices is not None and (others := segment.others(name, type_.choices)):
        raise _misfit(segment, source, name, f"{others[0]!r} is not among {type_.base}")
    return f"{quote(name)}::{type_.duckdb} AS {quote(name)}" if type_.size else quote(name)


def _misfit(segment: _Looked, source: EventSource, name: str, what: str) -> SourceError:
    return SourceError(
        f"source {source.name!r}, the log of pushed events {segment.path.name}, column {name!r}: "
        f"{what}; give the changed column a new name that is optional, or declare it as it was"
    )


@functools.cache
def _others(path: Path, mtime_ns: int, name: str, choices: tuple[Any, ...]) -> list[Any]:
    del mtime_ns
    import pyarrow.parquet as pq

    return _outside(pq.read_table(path, columns=[name]), name, choices)


def _outside(table: Any, name: str, choices: tuple[Any, ...]) -> list[Any]:
    values = table[name].unique().to_pylist()
    return [v for v in values if v is not None and v not in choices]


@functools.cache  # a segment changes only when events are forgotten
def _held(path: Path, mtime_ns: int) -> dict[str, tuple[Any, int]]:
    del mtime_ns
    import pyarrow.parquet as pq

    with reading(path):
        return _held_by(pq.read_table(path))


def _held_by(table: Any) -> dict[str, tuple[Any, int]]:
    return {n: (table.schema.field(n).type, table[n].null_count) for n in table.column_names}
