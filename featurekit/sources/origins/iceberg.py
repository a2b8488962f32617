"""Turns a snapshot of an Iceberg table into its Parquet files, or into a copy of its rows.

The files of a snapshot never change. They are scanned where they lie, on this machine, where each
column has the name and the type by which the table knows it, and no row is deleted. All else is
read through the library, into a copy: it finds columns by their ids, whatever their names were.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from featurekit.core.missing import no_file
from featurekit.core.types import Type
from featurekit.core.variables import without_secrets
from featurekit.core.written import placed
from featurekit.define.definitions import EventSource
from featurekit.define.origins import Iceberg
from featurekit.errors import SourceError
from featurekit.sources.check import first_line
from featurekit.sources.origins.commits import Committed
from featurekit.sources.origins.copies import OWN, check_columns, wanted_of, where_of
from featurekit.sources.origins.lake import as_copied, file_info
from featurekit.sources.origins.variables import filled
from featurekit.sources.protocol import FileInfo

if TYPE_CHECKING:
    import pyarrow as pa

_WIDER = {("int32", "int64"), ("float", "double")}
"""Types of a file and of a table that are read as the same values."""
_ID = b"PARQUET:field_id"


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """A snapshot of a table, and the schema by which it is read."""

    table: Any
    source: EventSource
    secrets: tuple[str, ...]
    snapshot: Any
    schema: Any

    @property
    def _id(self) -> int | None:
        return None if self.snapshot is None else int(self.snapshot.snapshot_id)

    @property
    def identity(self) -> Any:
        """A snapshot of a table is what it is for good; so is a schema."""
        return [str(self.table.metadata.table_uuid), self._id, self.schema.schema_id]

    @property
    def about(self) -> Mapping[str, Any]:
        """The origin, and the snapshot that was read."""
        assert self.source.origin is not None
        about = self.source.origin.about
        about.pop("as_of", None)
        return {**about, "snapshot_id": self._id, "schema_id": self.schema.schema_id}

    def batches(
        self, wanted: Mapping[str, Type], *, most: int | None
    ) -> tuple[pa.Schema, Iterable[pa.RecordBatch]]:
        """See `Opened.batches`."""
        import pyarrow as pa
        from pyiceberg.expressions import AlwaysTrue
        from pyiceberg.io.pyarrow import ArrowScan, schema_to_pyarrow

        _check_names(self.source, self.schema)
        with _told(self.source, self.secrets):
            schema = self.schema.select(*wanted)
            shown = schema_to_pyarrow(schema, include_field_ids=False)
            scan = ArrowScan(self.table.metadata, self.table.io, schema, AlwaysTrue(), limit=most)
            tasks = self._tasks()
            given = scan.to_record_batches(tasks) if tasks else ()
            reader = pa.RecordBatchReader.from_batches(shown, (b.cast(shown) for b in given))
        made, batches = as_copied(reader, most=most)
        return made, self._told_batches(batches)

    def _told_batches(self, batches: Iterable[Any]) -> Iterator[Any]:
        with _told(self.source, self.secrets):
            yield from batches

    def _tasks(self) -> list[Any]:
        """The files of the snapshot, with what was deleted of them."""
        if self.snapshot is None:
            return []
        return [*self.table.scan(snapshot_id=self._id).plan_files()]

    def files(self) -> tuple[FileInfo, ...] | None:
        """See `OpenedTable.files`."""
        _check_names(self.source, self.schema)
        with _told(self.source, self.secrets):
            found = []
            for task in self._tasks():
                path = _path(task.file.file_path)
                whole = str(task.file.file_format).upper().endswith("PARQUET")
                if path is None or not whole or task.delete_files:
                    return None
                folders = self._lacking(path)
                if folders is None:
                    return None
                found.append(file_info(self.source, self.about, path, folders))
        return tuple(sorted(found, key=lambda file: file.path))

    @property
    def table_id(self) -> str:
        """See `OpenedTable.table_id`."""
        return str(self.table.metadata.table_uuid)

    def commits(self, paths: Collection[str]) -> dict[str, Committed]:
        """See `OpenedTable.commits`. A snapshot that is not kept any more tells nothing."""
        from pyiceberg.table.snapshots import Operation

        found, latest = {}, self._latest_ms()
        with _told(self.source, self.secrets):
            for listed in self.snapshot.manifests(self.table.io):
                for entry in listed.fetch_manifest_entry(self.table.io):
                    path, of = _path(entry.data_file.file_path), entry.snapshot_id
                    then = self.table.snapshot_by_id(of)
                    if str(path) in paths and then is not None and then.summary is not None:
                        appended = then.summary.operation == Operation.APPEND
                        at = latest.get(of, then.timestamp_ms) * 1000
                        found[str(path)] = Committed(f"snapshot {of}", at, appended)
        return found

    def _latest_ms(self) -> dict[int, int]:
        """The latest instant of each snapshot and of those before it, as far as they are kept. A
        snapshot never arrives before an earlier one, whatever the clock of who made it."""
        line, then = [], self.snapshot
        while then is not None:
            line.append(then)
            before = then.parent_snapshot_id
            then = None if before is None else self.table.snapshot_by_id(before)
        ids = (int(one.snapshot_id) for one in reversed(line))
        times = accumulate((int(one.timestamp_ms) for one in reversed(line)), max)
        return dict(zip(ids, times, strict=True))

    def _lacking(self, path: Path) -> dict[str, str | None] | None:
        """The columns that a file lacks, which are null in it; None where its columns have other
        names or types than the table's."""
        import pyarrow.parquet as pq
        from pyiceberg.io.pyarrow import schema_to_pyarrow

        held = pq.read_schema(path)
        by_id = {int((f.metadata or {}).get(_ID, -1)): f for f in held}
        here = {spec.source_id for one in self.table.specs().values() for spec in one.fields}
        lacking: dict[str, str | None] = {}
        for name in wanted_of(self.source):
            field = self.schema.find_field(name)
            found = by_id.get(field.field_id)
            if found is not None:
                wanted = schema_to_pyarrow(field.field_type, include_field_ids=False)
                if found.name != name or not _same(found.type, wanted):
                    return None
                continue
            if name in held.names or field.field_id in here or field.initial_default is not None:
                return None  # another column of that name, or a value that stands elsewhere
            lacking[name] = None
        return lacking


def _same(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether a file's column is read as the table's type says."""
    import pyarrow as pa

    if pa.types.is_list(wanted) or pa.types.is_large_list(wanted):
        return bool(pa.types.is_list(found) or pa.types.is_large_list(found)) and _same(
            found.value_type, wanted.value_type
        )
    names = [str(type_).removeprefix("large_") for type_ in (found, wanted)]
    return names[0] == names[1] or (names[0], names[1]) in _WIDER


def _path(url: str) -> Path | None:
    """The path of a file of this machine; None for another one."""
    if "://" not in url:
        return Path(url.removeprefix("file:")) if url.startswith(("/", "file:/")) else None
    if not url.startswith("file://"):
        return None
    written = Path(urlsplit(url).path)
    return written if written.exists() else Path(unquote(str(written)))


def _check_names(source: EventSource, schema: Any) -> None:
    check_columns(source, [f.name for f in schema.fields if f.name not in OWN])


@contextmanager
def opened(source: EventSource, base: Path) -> Iterator[_Snapshot]:
    """The snapshot of the table that the source reads now. SourceError if there is none."""
    origin = source.origin
    assert isinstance(origin, Iceberg)
    _check_library(source)
    properties, secrets = _properties(source, origin)
    with _told(source, secrets):
        table = _table(source, origin, properties, base)
        snapshot = table.current_snapshot()
        schema = table.schema()
        if origin.snapshot_id is not None:
            snapshot = table.snapshot_by_id(origin.snapshot_id)
            if snapshot is None:
                raise _fault(source, f"it keeps no snapshot {origin.snapshot_id} any more")
        if isinstance(origin.as_of, dt.datetime):
            snapshot = table.snapshot_as_of_timestamp(int(origin.as_of.timestamp() * 1000))
            if snapshot is None:
                raise _fault(source, "its first snapshot that is kept is a later one")
        pinned = origin.snapshot_id is not None or origin.as_of is not None
        then = snapshot.schema_id if pinned else None
        if origin.schema_id is not None or then is not None:
            number = then if origin.schema_id is None else origin.schema_id
            schema = table.schemas().get(number)
            if schema is None:
                raise _fault(source, f"it keeps no schema {number}")
    yield _Snapshot(table, source, secrets, snapshot, schema)


def _table(source: EventSource, origin: Iceberg, properties: Mapping[str, str], base: Path) -> Any:
    """The table as it is now."""
    from pyiceberg.catalog import load_catalog
    from pyiceberg.table import StaticTable

    if origin.table is not None:
        return load_catalog(**properties).load_table(origin.table)
    assert origin.metadata is not None
    if "://" in origin.metadata:
        return StaticTable.from_metadata(origin.metadata)
    path = (Path(base) / origin.metadata).absolute()
    if not path.is_file():
        raise _fault(source, no_file(origin.metadata, base))
    return StaticTable.from_metadata(str(path))


def _properties(source: EventSource, origin: Iceberg) -> tuple[dict[str, str], tuple[str, ...]]:
    """The properties of the catalogue with their variables replaced, and what was put in."""
    given = origin.catalog or {}
    if isinstance(given, str):
        given = {"name": given}
    made = {name: filled(source, value) for name, value in given.items()}
    secrets = tuple(one for _, put in made.values() for one in put)
    return {name: text for name, (text, _) in made.items()}, secrets


def _check_library(source: EventSource) -> None:
    try:
        import pyiceberg  # noqa: F401
    except ModuleNotFoundError:
        text = (
            "Iceberg is read with the package pyiceberg, which is not installed; "
            "pip install 'featurekit[iceberg]'"
        )
        raise _fault(source, text) from None


@contextmanager
def _told(source: EventSource, secrets: Iterable[str]) -> Iterator[None]:
    """SourceError for what the library says. Its errors have no root of their own, and catalogues
    and stores add theirs."""
    try:
        yield
    except SourceError:
        raise
    except Exception as error:
        said = without_secrets(first_line(error) or type(error).__name__, secrets)
        raise _fault(source, f"it cannot be read ({said})") from None


def _fault(source: EventSource, text: str) -> SourceError:
    return placed(SourceError(f"{where_of(source)}: {text}"), source.place)
