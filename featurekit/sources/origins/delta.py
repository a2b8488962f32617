"""Turns a version of a Delta Lake table into its Parquet files, or into a copy of its rows.

The files of a version never change, so they are scanned where they lie, and what the log keeps
beside them comes from the log: the values of partitions, and null for columns that came later. A
table with deletion vectors, renamed columns or another feature that decides what a file's rows mean
is read through the library, into a copy; so is a table that lies in S3.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from featurekit.core.missing import no_folder
from featurekit.core.types import Type
from featurekit.core.written import placed
from featurekit.define.definitions import EventSource
from featurekit.define.origins import Delta
from featurekit.errors import DataError, SourceError
from featurekit.sources.check import first_line
from featurekit.sources.object_store import without_credentials
from featurekit.sources.origins.commits import Committed
from featurekit.sources.origins.copies import OWN, check_columns, where_of
from featurekit.sources.origins.lake import as_copied, file_info
from featurekit.sources.protocol import FileInfo

if TYPE_CHECKING:
    import pyarrow as pa

_PLAIN = frozenset(("timestampNtz", "vacuumProtocolCheck", "v2Checkpoint", "deletionVectors"))
"""The features for readers with which a file still means what it says, if no row of it is deleted
by a vector."""
_ADDED = ("path", "partition")
_OF_TERMINAL = re.compile("\x1b\\[[0-9;]*m|↳")
_LONGEST = 400
_IN_TEXT = ("string", "long", "integer", "short", "byte", "double", "float", "boolean", "date")
"""The types of partitions whose values are read from the log; others go through the library."""


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """A version of a table."""

    table: Any
    source: EventSource

    @property
    def identity(self) -> Any:
        """A version of a table is what it is for good."""
        return [str(self.table.metadata().id), self.table.version()]

    @property
    def about(self) -> Mapping[str, Any]:
        """The origin, and the version that was read."""
        assert isinstance(self.source.origin, Delta)
        return {"delta": self.source.origin.path, "version": self.table.version()}

    def batches(
        self, wanted: Mapping[str, Type], *, most: int | None
    ) -> tuple[pa.Schema, Iterable[pa.RecordBatch]]:
        """See `Opened.batches`."""
        import pyarrow as pa

        _check_names(self.source, self.table)
        with _told(self.source):
            reader = pa.RecordBatchReader.from_stream(self.table.scan(columns=[*wanted]))
        schema, batches = as_copied(reader, most=most)
        return schema, _told_batches(self.source, batches)

    def files(self) -> tuple[FileInfo, ...] | None:
        """See `OpenedTable.files`."""
        return _files(self)

    @property
    def table_id(self) -> str:
        """See `OpenedTable.table_id`."""
        return str(self.table.metadata().id)

    def commits(self, paths: Collection[str]) -> dict[str, Committed]:
        """See `OpenedTable.commits`. A commit never arrives before an earlier one, whatever the
        clock of who made it."""
        root = Path(self.table.table_uri.removeprefix("file://"))
        found: dict[str, Committed] = {}
        latest = None
        known: set[str] = set()
        for version in range(self.table.version() + 1):
            log = root / "_delta_log" / f"{version:020}.json"
            if not log.is_file():
                latest = None  # what was before it is not known
                continue
            actions = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
            at = _committed_us(actions)
            if at is not None:
                latest = at if latest is None else max(at, latest)
            added = [action["add"] for action in actions if "add" in action]
            # A version that was restored adds files again that came before, and may remove none.
            rewrote = any("remove" in action for action in actions) or _restores(actions)
            rewrote = rewrote or any(add["path"] in known for add in added)
            known.update(add["path"] for add in added)
            for add in added:
                appended = not rewrote and add.get("dataChange", True)
                told = Committed(f"version {version}", latest if at is not None else None, appended)
                for name in (add["path"], unquote(add["path"])):
                    if str(root / name) in paths:
                        found[str(root / name)] = told
        return found


def _restores(actions: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a commit says that it restores an earlier version."""
    told = (action["commitInfo"] for action in actions if "commitInfo" in action)
    return any(about.get("operation") == "RESTORE" for about in told)


def _committed_us(actions: Iterable[Mapping[str, Any]]) -> int | None:
    """When a commit was made, by its own log; None where that does not say it."""
    for about in (action["commitInfo"] for action in actions if "commitInfo" in action):
        ms = about.get("inCommitTimestamp", about.get("timestamp"))
        return None if ms is None else int(ms) * 1000
    return None


def _told_batches(source: EventSource, batches: Iterable[Any]) -> Iterator[Any]:
    with _told(source):
        yield from batches


def _files(version: _Snapshot) -> tuple[FileInfo, ...] | None:
    """The files of a version; None where they are elsewhere, or alone do not say what its rows
    are."""
    import pyarrow as pa

    table, source = version.table, version.source
    assert isinstance(source.origin, Delta)
    if source.origin.elsewhere:
        return None
    with _told(source):
        features = table.protocol().reader_features or ()
        mapping = table.metadata().configuration.get("delta.columnMapping.mode", "none")
        if not {*features} <= _PLAIN or mapping != "none":
            return None
        if "deletionVectors" in features and sum(b.num_rows for b in _vectors(table)):
            return None
        types = {
            field.name: str(getattr(field.type, "type", "")) for field in table.schema().fields
        }
        names = table.metadata().partition_columns
        if any(types[name] not in _IN_TEXT for name in names):
            return None
        added = pa.table(table.get_add_actions(flatten=False))
        uris = {*table.file_uris()}
    _check_names(source, table)
    found = []
    for row in added.drop_columns([c for c in added.column_names if c not in _ADDED]).to_pylist():
        path = _path(version, row["path"], uris)
        values = {name: _text(value) for name, value in (row.get("partition") or {}).items()}
        folders = {**dict.fromkeys(types), **values}
        found.append(file_info(source, version.about, path, folders))
    return tuple(sorted(found, key=lambda file: file.path))


def _path(version: _Snapshot, written: str, uris: Collection[str]) -> Path:
    """The path of a file that the log names; there it may be encoded as a part of a URL."""
    root = Path(version.table.table_uri.removeprefix("file://"))
    for name in (written, unquote(written)):
        if str(root / name) in uris:
            return root / name
    text = f"{where_of(version.source)}: its log names {written!r}, which is no file of its folder"
    raise placed(SourceError(text), version.source.place)


def _vectors(table: Any) -> Iterable[pa.RecordBatch]:
    import pyarrow as pa

    found: Iterable[pa.RecordBatch] = pa.RecordBatchReader.from_stream(table.deletion_vectors())
    return found


def _text(value: Any) -> str | None:
    """The value of a partition as a text of CSV; null is None."""
    match value:
        case None:
            return None
        case bool():
            return "true" if value else "false"
    return str(value)


def _check_names(source: EventSource, table: Any) -> None:
    with _told(source):
        names = [field.name for field in table.schema().fields]
    check_columns(source, [name for name in names if name not in OWN])


@contextmanager
def opened(source: EventSource, base: Path) -> Iterator[_Snapshot]:
    """The version of the table that the source reads now. SourceError if there is none."""
    origin = source.origin
    assert isinstance(origin, Delta)
    library = _library(source)
    from deltalake.exceptions import DeltaError

    where, options = _where(source, origin, base)
    made: dict[int, int] = {}
    with _told(source):
        try:
            table = library.DeltaTable(where, version=origin.version, storage_options=options)
        except DeltaError:
            newest = library.DeltaTable(where, storage_options=options).version()
            if origin.version is None or origin.version <= newest:
                raise
            text = f"{where_of(source)}: there is no such version; the newest one is {newest}"
            raise placed(SourceError(text), source.place) from None
        if origin.as_of is not None:
            table.load_as_version(origin.as_of)
            made = {one["version"]: one.get("timestamp", 0) for one in table.history()}
    if origin.as_of is not None and made.get(table.version(), 0) > _ms(origin.as_of):
        text = f"{where_of(source)}: its first version that is kept is a later one"
        raise placed(SourceError(text), source.place)
    yield _Snapshot(table, source)


def _where(source: EventSource, origin: Delta, base: Path) -> tuple[str, dict[str, str] | None]:
    """The place of a table, and how its store is asked. SourceError where a folder has none."""
    if origin.elsewhere:
        # Whoever names a server without TLS means it, as one on loopback.
        plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
        return origin.path, {"allow_http": "true"} if plain else None
    path = (Path(base) / origin.path).absolute()
    if not (path / "_delta_log").is_dir():
        why = "it has no _delta_log" if path.is_dir() else no_folder(origin.path, base)
        raise placed(SourceError(f"{where_of(source)}: {why}"), source.place)
    return str(path), None


def _ms(at: dt.datetime | str) -> float:
    assert isinstance(at, dt.datetime)  # made of a text when it was defined
    return at.timestamp() * 1000


def _library(source: EventSource) -> Any:
    try:
        import deltalake
    except ModuleNotFoundError:
        text = (
            f"{where_of(source)}: Delta Lake is read with the package deltalake, which is not "
            "installed; pip install 'featurekit[delta]'"
        )
        raise placed(SourceError(text), source.place) from None
    return deltalake


def _said(error: Exception) -> str:
    """What an error of the library says. Of a store elsewhere it says why on lines of their own,
    for a terminal."""
    plain = " ".join(_OF_TERMINAL.sub("", str(error)).split())
    return plain[:_LONGEST] if _OF_TERMINAL.search(str(error)) else first_line(error)


@contextmanager
def _told(source: EventSource) -> Iterator[None]:
    """SourceError for what the library says."""
    import pyarrow as pa
    from deltalake.exceptions import DeltaError

    try:
        yield
    except (DeltaError, pa.ArrowException, OSError) as error:
        said = without_credentials(_said(error))
        text = f"{where_of(source)}: it cannot be read ({said})"
        raise placed(SourceError(text), source.place) from None


# --- writing --------------------------------------------------------------------------------------

_WRITTEN = "A training set of featurekit"
"""What the description of a table that `put_version` made begins with."""


def check_folder(folder: Path) -> None:
    """See that a training set may be written there: DataError where the package is not installed,
    or the folder holds something else than a table that `put_version` made."""
    library = _written_by()
    if not folder.parent.is_dir():
        raise DataError(
            f"{folder}: the folder {str(folder.parent)!r} does not exist; make it, or write "
            "another path"
        )
    if folder.is_file() or (folder.is_dir() and not (folder / "_delta_log").is_dir()):
        if folder.is_file() or any(folder.iterdir()):
            raise DataError(f"{folder}: it is there, and is no Delta Lake table; name a new folder")
        return
    if folder.is_dir():
        with _put(folder):
            told = library.DeltaTable(str(folder)).metadata().description or ""
        if not told.startswith(_WRITTEN):
            raise DataError(
                f"{folder}: it is a Delta Lake table that to_delta did not make, and a version of "
                "a training set takes the place of all rows; name a new folder"
            )


def put_version(
    folder: Path, schema: Any, batches: Iterable[Any], *, service: str, told: Mapping[str, str]
) -> tuple[int, Path]:
    """Commit batches as the next version of a table, which has these rows and no other; its number,
    and the one file of the rows, in their order. The commit's own metadata have what is `told`.
    DataError where it cannot be written; then there is no such version."""
    import pyarrow as pa

    library = _written_by()
    with _put(folder):
        library.write_deltalake(
            str(folder),
            pa.RecordBatchReader.from_batches(schema, batches),
            mode="overwrite",
            schema_mode="overwrite",
            description=f"{_WRITTEN}: service {service}",
            target_file_size=_ONE_FILE,
            commit_properties=library.CommitProperties(custom_metadata=dict(told)),
        )
        table = library.DeltaTable(str(folder))
        for version in range(table.version(), -1, -1):  # another writer may have been faster since
            table.load_as_version(version)
            about = table.history(1)[0]
            if all(about.get(name) == value for name, value in told.items()):
                break
        files = table.file_uris()
    if len(files) != 1:
        raise DataError(
            f"{folder}: version {version} has {len(files)} files, so its rows have no order; make "
            "the training set of fewer rows, or write Parquet"
        )
    return version, Path(files[0].removeprefix("file://"))


_ONE_FILE = 2**50


def _written_by() -> Any:
    try:
        import deltalake
    except ModuleNotFoundError:
        raise DataError(
            "a Delta Lake table is written with the package deltalake, which is not installed; "
            "pip install 'featurekit[delta]'"
        ) from None
    return deltalake


@contextmanager
def _put(folder: Path) -> Iterator[None]:
    """DataError for what the library says."""
    import pyarrow as pa
    from deltalake.exceptions import DeltaError

    try:
        yield
    except (DeltaError, pa.ArrowException, OSError) as error:
        raise DataError(f"{folder}: it cannot be written ({_said(error)})") from None
