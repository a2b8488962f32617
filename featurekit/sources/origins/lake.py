"""Turns a version of a table of a lake into its Parquet files, or into a copy of its rows.

The files of a version never change, so they are scanned where they lie, where they alone say what
the rows are. Otherwise the table's own library reads them, into a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from featurekit.core.types import Type
from featurekit.core.written import placed
from featurekit.define.arrivals import Commit
from featurekit.define.definitions import EventSource
from featurekit.errors import SourceError
from featurekit.sources import parquet
from featurekit.sources.check import Marks
from featurekit.sources.origins.commits import Committed, with_arrivals
from featurekit.sources.origins.copies import (
    CopiedKind,
    Opened,
    nothing_own,
    own_fields,
    where_of,
)
from featurekit.sources.protocol import FileColumn, FileInfo
from featurekit.sources.readings import Reading

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa


class OpenedTable(Opened, Protocol):
    """A version of a table."""

    @property
    def table_id(self) -> str:
        """What no other table has."""

    def files(self) -> tuple[FileInfo, ...] | None:
        """Its files as they are scanned; None where they alone do not say what its rows are."""

    def commits(self, paths: Collection[str]) -> Mapping[str, Committed]:
        """The commits that added some of its files, as far as its log tells them."""


class LakeKind:
    """A kind of source (`SourceKind`): the files of a version, or a copy of its rows. `open` gives
    the version that a source reads now."""

    marks: Marks | None = None
    rewrite: Any = None

    def __init__(self, open_: Callable[..., AbstractContextManager[OpenedTable]]) -> None:
        self._open = open_
        self._copied = CopiedKind(open_, marks=None)

    def snapshot(
        self, source: EventSource, base: Path, state_dir: Path | None, *, most: int | None = None
    ) -> tuple[FileInfo, ...]:
        """The files of the version, or the copy of its rows."""
        with self._open(source, base) as opened:
            files = opened.files()
            if files and isinstance(source.arrives, Commit):
                files = with_arrivals(
                    source,
                    opened.table_id,
                    files,
                    opened.commits,
                    state_dir,
                    keep=most is None,
                )
        if files:
            return files
        if isinstance(source.arrives, Commit) and files is None:
            text = (
                f"{where_of(source)}: its rows are read through the library, as its files alone do "
                "not say what they are; then no commit is told of a row. Name a column with "
                'created_timestamp_column=, or write arrives=Delay("6h")'
            )
            raise placed(SourceError(text), source.place)
        return self._copied.snapshot(source, base, state_dir, most=most)

    def where_they_lie(self, source: EventSource, base: Path) -> tuple[FileInfo, ...]:
        """The files of the version, without those of a table that is copied."""
        with self._open(source, base) as opened:
            return opened.files() or ()

    def readable(
        self, source: EventSource, file: FileInfo, state_dir: Path | None, *, most: int | None
    ) -> str:
        """The file itself, or the copy."""
        return self._copied.readable(source, file, state_dir, most=most)

    def kept(self, source: EventSource, file: FileInfo, state_dir: Path) -> Collection[str]:
        """None: the file itself is read."""
        return self._copied.kept(source, file, state_dir)

    def columns(
        self, con: duckdb.DuckDBPyConnection, path: str, schema: Mapping[str, Type]
    ) -> dict[str, FileColumn]:
        """See `SourceKind`."""
        return self._copied.columns(con, path, schema)

    def scan(self, paths: Sequence[str], found: Mapping[str, FileColumn]) -> str:
        """See `SourceKind`."""
        return parquet.scan(paths, found)

    def reading(self, expr: str, found: str, type_: Type, *, zone_name: str) -> Reading | None:
        """See `SourceKind`."""
        return parquet.reading(expr, found, type_, zone_name=zone_name)

    def rejected(
        self, con: duckdb.DuckDBPyConnection, path: str, found: Mapping[str, FileColumn]
    ) -> list[Any]:
        """See `SourceKind`."""
        return parquet.rejected(con, path, found)

    def without(
        self, path: str, found: Mapping[str, FileColumn], rows: Sequence[int], *, copy: Path
    ) -> str:
        """See `SourceKind`."""
        return parquet.without(path, found, rows, copy=copy)


def as_copied(reader: Any, *, most: int | None) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The schema and the batches of a copy, of a reader of Arrow batches; with `most`, of the first
    rows."""
    import pyarrow as pa

    schema = pa.schema([*map(_plain, reader.schema), *own_fields()])
    return schema, _batches(reader, schema, most)


def _batches(reader: Any, schema: pa.Schema, most: int | None) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    left = most
    for whole in reader:
        batch = whole if left is None else whole.slice(0, left)
        named = zip(batch.columns, schema, strict=False)
        columns = [column.cast(field.type) for column, field in named]
        own = nothing_own(batch.num_rows)
        yield pa.RecordBatch.from_arrays([*columns, *own], schema=schema)
        if left is not None:
            left -= batch.num_rows
            if left <= 0:
                return


def _plain(field: pa.Field) -> pa.Field:
    """A column as Parquet has it: text and bytes of Arrow's views as plain ones."""
    import pyarrow as pa

    types = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
    return pa.field(field.name, types.get(field.type, field.type))


def file_info(
    source: EventSource,
    about: Mapping[str, Any],
    path: Path,
    folders: Mapping[str, str | None],
) -> FileInfo:
    """A file of a version; `about` is what a manifest says of the version."""
    try:
        stat = path.stat()
    except OSError as error:
        text = f"{where_of(source)}: {path} cannot be read ({error.strerror})"
        raise placed(SourceError(text), source.place) from None
    told = {**about, "path": str(path), "bytes": stat.st_size}
    return FileInfo(str(path), stat.st_size, stat.st_mtime_ns, origin=told, folders=folders)
