"""Turns a table or a query of a DuckDB database into Arrow batches, in DuckDB's own types."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from featurekit.core.sql import quote, text_literal
from featurekit.core.tables import fetch
from featurekit.core.types import Type
from featurekit.core.written import placed
from featurekit.define.definitions import EventSource
from featurekit.errors import SourceError
from featurekit.sources.check import first_line
from featurekit.sources.origins.copies import (
    BATCH,
    FAULT,
    LINE,
    TEXT,
    check_case,
    check_columns,
    rows_sql,
    where_of,
)
from featurekit.sources.origins.database_file import FileSnapshot, file_of
from featurekit.sources.readings import reading

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class _Snapshot(FileSnapshot):
    """A database that is open to be read."""

    beside: ClassVar[tuple[str, ...]] = (".wal",)

    def batches(
        self, wanted: Mapping[str, Type], *, most: int | None
    ) -> tuple[pa.Schema, Iterable[pa.RecordBatch]]:
        """See `Opened.batches`."""
        import duckdb
        import pyarrow as pa

        rows = rows_sql(self.source)
        try:
            there = dict(row[:2] for row in fetch(self.con, f"DESCRIBE SELECT * FROM {rows}"))
            query = getattr(self.source.origin, "query", None)
            # Of the query itself: as a part of another one, its columns of one name are renamed.
            names = [*there] if query is None else list(self.con.sql(query).columns)
            check_columns(self.source, names)
            check_case(self.source, names)
            items, spans, faults = [], set[str](), list[tuple[str, str, str]]()
            for name, type_ in wanted.items():
                expr = quote(name)
                items.append(expr)
                if there[name] == "INTERVAL" and type_.name == "timedelta":  # Parquet has none
                    how = reading(expr, there[name], type_, zone_name="UTC")
                    assert how is not None
                    faults += [(c, f"{name}: {why}", expr) for c, why in how.problems]
                    items[-1] = f"{how.value(None)} AS {expr}"
                    spans.add(name)
            limit = "" if most is None else f" LIMIT {most}"
            reader = self.con.sql(
                f"SELECT {', '.join(items)}, {own_sql(faults)} FROM {rows}{limit}"
            ).to_arrow_reader(BATCH)
        except duckdb.Error as error:
            raise _unreadable(self.source, error) from None
        schema = pa.schema(
            [pa.field(f.name, pa.duration("us")) if f.name in spans else f for f in reader.schema]
        )
        return schema, self._batches(reader, schema)

    def _batches(self, reader: Any, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        import duckdb
        import pyarrow as pa

        try:
            for batch in reader:
                yield batch if batch.schema == schema else batch.cast(schema)
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise _unreadable(self.source, error) from None


def own_sql(faults: Iterable[tuple[str, str, str]]) -> str:
    """The columns of `OWN`, from the conditions of bad rows, each with its reason and the
    expression of the value."""
    found = list(faults)
    which = " ".join(f"WHEN {c} THEN {text_literal(why)}" for c, why, _ in found)
    value = " ".join(f"WHEN {c} THEN {expr}::VARCHAR" for c, _, expr in found)
    fault, text = (f"CASE {w} END" if w else "NULL" for w in (which, value))
    return f"NULL::BIGINT AS {LINE}, {fault}::VARCHAR AS {FAULT}, {text}::VARCHAR AS {TEXT}"


@contextmanager
def opened(source: EventSource, base: Path) -> Iterator[_Snapshot]:
    """The database of a source, open to be read. SourceError if it cannot be opened, as while
    another process writes to it."""
    import duckdb

    path = file_of(source, base)
    try:
        # Not connect(path): a connection of this process to the same file would share its settings.
        con = duckdb.connect()
        con.execute("SET TimeZone = 'UTC'")
        con.execute(f"ATTACH {text_literal(str(path))} AS events_of (READ_ONLY)")
        con.execute("USE events_of")
        con.execute("SET enable_external_access = false")  # a query reads this file alone
    except duckdb.Error as error:
        raise _unreadable(source, error) from None
    with closing(con):
        yield _Snapshot(con, source, path)


def _unreadable(source: EventSource, error: Exception) -> SourceError:
    busy = "Could not set lock" in str(error) or "already attached" in str(error)
    hint = "; somebody has it open to write, so close it there first" if busy else ""
    text = f"{where_of(source)}: it cannot be read ({first_line(error)}){hint}"
    return placed(SourceError(text), source.place)
