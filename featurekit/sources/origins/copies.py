"""Turns the rows of a database into a Parquet copy beside the store's state, once for each content.

A copy has the declared columns in a form that DuckDB reads without loss, and for a row that breaks
S1 the reason. It is named by the hash of its content. A note beside it says what it was made of:
where the database can tell that nothing has changed since, the copy is read again and not the
database. Of each source the last few copies are kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from featurekit.core.calls import near
from featurekit.core.files import WRITING, scratch_folder, whole, write_whole
from featurekit.core.openness import make_folder
from featurekit.core.sql import quote
from featurekit.core.types import DATETIME, STR, Type
from featurekit.core.written import placed
from featurekit.define.definitions import EventSource
from featurekit.errors import SourceError
from featurekit.sources import parquet
from featurekit.sources.check import Column, Marks, ReasonInRow
from featurekit.sources.identity import Identity, note_name
from featurekit.sources.origins.growing import Earlier, Growing, Reading
from featurekit.sources.parquet import rejected, scan, without
from featurekit.sources.protocol import FileColumn, FileInfo
from featurekit.sources.readings import Reading as HowRead
from featurekit.sources.readings import reading

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_FORMAT = 1
"""The version of the copies and of their notes."""
_MOST = 4
"""So many copies of a source are kept."""
LINE, FAULT, TEXT = "__featurekit_line", "__featurekit_fault", "__featurekit_text"
OWN = (LINE, FAULT, TEXT)
BATCH = 1 << 16
_NEW = ".new"
_NAMED = 20
"""So many tables are named."""
_UNDER_WAY_S = 3600.0
"""A copy without a name of its own for so long belongs to a process that died."""

_fault = HowRead(
    lambda _: quote(FAULT), problems=((f"{quote(FAULT)} IS NOT NULL", ReasonInRow(FAULT)),)
)
MARKS = Marks(line=LINE, aside=Column("", TEXT, STR.or_none(), _fault))


class Opened(Protocol):
    """A database at one snapshot."""

    @property
    def identity(self) -> Any:
        """JSON of what decides the rows, as it is now: while it is the same, so are they. None
        where the database cannot tell."""

    @property
    def about(self) -> Mapping[str, Any]:
        """What a manifest says of the snapshot."""

    def batches(
        self, wanted: Mapping[str, Type], *, most: int | None
    ) -> tuple[pa.Schema, Iterable[pa.RecordBatch]]:
        """The rows with the columns of `wanted` and those of `OWN`, all of them or the first
        `most`. SourceError where they cannot be read."""


Open = Callable[[EventSource, Path], AbstractContextManager[Opened]]


@dataclass(frozen=True, slots=True)
class CopiedKind:
    """A kind of source (`SourceKind`) whose rows are copied; `open` gives its snapshot."""

    open: Open
    marks: Marks | None = MARKS
    rewrite: Any = None

    def snapshot(
        self, source: EventSource, base: Path, state_dir: Path | None, *, most: int | None = None
    ) -> tuple[FileInfo, ...]:
        """The copy of the rows as they are now; with `most`, one of the first rows."""
        folder = _scratch() if most is not None or state_dir is None else copies_in(state_dir)
        make_folder(folder)
        with self.open(source, base) as opened:
            before = opened.identity
            key = _key(source, [before, most])
            found = None if before is None else _noted(folder, source, key, state_dir)
            if found is not None:
                return (found,)
            grown = None if most is not None else _grown(opened, source, folder, state_dir)
            copy, rows = _write(opened, source, folder, most, grown)
            if before is None or opened.identity != before:  # changed, and of which was it told?
                key = _key(source, ["content", copy.name])
            about = {**dict(opened.about), "rows": rows, "sha256": copy.stem.rpartition(".")[2]}
        note = {"copy": copy.name, "about": about}
        if grown is not None:
            note["growth"] = {"key": grown.key, **grown.reading.noted}
        write_whole(_note(folder, source, key), json.dumps(note).encode())
        _drop_old(folder, source, _MOST)
        return (_info(copy, about),)

    def readable(
        self, source: EventSource, file: FileInfo, state_dir: Path | None, *, most: int | None
    ) -> str:
        """The copy itself."""
        del source, state_dir, most
        return file.path

    def kept(self, source: EventSource, file: FileInfo, state_dir: Path) -> Collection[str]:
        """None: `copies_left` knows the copies."""
        del source, file, state_dir
        return ()

    def columns(
        self, con: duckdb.DuckDBPyConnection, path: str, schema: Mapping[str, Type]
    ) -> dict[str, FileColumn]:
        """The columns of the database."""
        found = parquet.columns(con, path, schema)
        return {name: column for name, column in found.items() if name not in OWN}

    def scan(self, paths: Sequence[str], found: Mapping[str, FileColumn]) -> str:
        """See `SourceKind`."""
        return scan(paths, found)

    def reading(self, expr: str, found: str, type_: Type, *, zone_name: str) -> HowRead | None:
        """See `SourceKind`."""
        return reading(expr, found, type_, zone_name=zone_name)

    def rejected(
        self, con: duckdb.DuckDBPyConnection, path: str, found: Mapping[str, FileColumn]
    ) -> list[Any]:
        """See `SourceKind`."""
        return rejected(con, path, found)

    def without(
        self, path: str, found: Mapping[str, FileColumn], rows: Sequence[int], *, copy: Path
    ) -> str:
        """See `SourceKind`."""
        return without(path, found, rows, copy=copy)


# --- what is kept ---------------------------------------------------------------------------------


@cache
def _scratch() -> Path:
    return scratch_folder(copies_in)


def copies_in(state_dir: Path) -> Path:
    """The folder of copies in a state folder."""
    return Path(state_dir) / "copies"


def copies_left(sources: Iterable[EventSource], state_dir: Path) -> Iterator[Path]:
    """The files of the folder of copies that none of the sources needs: of each the last copy is
    needed, and its note."""
    folder = copies_in(state_dir)
    needed = {path for source in sources for path in _last(folder, source, 1)}
    now = time.time()
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        under_way = path.suffix in (WRITING, _NEW) and now - path.stat().st_mtime < _UNDER_WAY_S
        if path not in needed and not under_way:
            yield path


def last_copies(source: EventSource, state_dir: Path) -> Iterator[str]:
    """The names of what `identity` keeps of a source's last copy."""
    for path in _last(copies_in(state_dir), source, 1):
        if path.suffix == ".parquet":
            yield note_name(str(path.absolute()))


def drop_older_copies(source: EventSource, state_dir: Path) -> None:
    """Remove all copies of a source but the last one, as where somebody is forgotten."""
    _drop_old(copies_in(state_dir), source, 1)


def _drop_old(folder: Path, source: EventSource, most: int) -> None:
    kept = set(_last(folder, source, most))
    for path in folder.glob(f"{source.name}.*"):
        if path not in kept:
            path.unlink(missing_ok=True)


def _last(folder: Path, source: EventSource, most: int) -> list[Path]:
    """The notes and copies of a source that were used last."""
    times = {}
    for note in folder.glob(f"{source.name}.*.json"):
        with suppress(FileNotFoundError):
            times[note] = note.stat().st_mtime_ns
    found: list[Path] = []
    for note in sorted(times, key=times.__getitem__, reverse=True)[:most]:
        with suppress(OSError, ValueError, KeyError, TypeError):
            found += [note, folder / json.loads(note.read_bytes())["copy"]]
    return found


def _key(source: EventSource, about: Any) -> str:
    """A hash of what a copy is made of."""
    assert source.origin is not None
    types = [[name, str(type_)] for name, type_ in wanted_of(source).items()]
    how = [_FORMAT, source.origin.about, types, source.timezone, repr(source.formats), about]
    return hashlib.sha256(json.dumps(how).encode()).hexdigest()


def _note(folder: Path, source: EventSource, key: str) -> Path:
    return folder / f"{source.name}.{key[:32]}.json"


def _noted(folder: Path, source: EventSource, key: str, state_dir: Path | None) -> FileInfo | None:
    """The copy that a note names, if both are whole."""
    note = _note(folder, source, key)
    with suppress(OSError, ValueError, KeyError, TypeError, SourceError):
        kept = json.loads(note.read_bytes())
        copy = (folder / kept["copy"]).absolute()
        if Identity.of(copy, state_dir).digest == kept["about"]["sha256"]:
            os.utime(note)
            return _info(copy, kept["about"])
    return None


def pinned(source: EventSource, about: Mapping[str, Any], state_dir: Path) -> FileInfo | None:
    """The kept copy that a manifest tells of; None where it is not there any more."""
    copy = _copy(copies_in(state_dir), source, about["sha256"]).absolute()
    with suppress(SourceError):
        if Identity.of(copy, state_dir).digest == about["sha256"]:
            return _info(copy, about)
    return None


def _copy(folder: Path, source: EventSource, digest: str) -> Path:
    return folder / f"{source.name}.{digest}.parquet"


def _info(copy: Path, about: Mapping[str, Any]) -> FileInfo:
    stat = copy.stat()
    return FileInfo(str(copy.absolute()), stat.st_size, stat.st_mtime_ns, origin=dict(about))


class _Grown(NamedTuple):
    """The reading of a table that grows, and the hash of what two copies of it share."""

    key: str
    reading: Reading


def _grown(
    opened: Opened, source: EventSource, folder: Path, state_dir: Path | None
) -> _Grown | None:
    """The reading of a table whose rows tell what is new; None of any other."""
    if not isinstance(opened, Growing):
        return None
    growth = opened.growth()
    if growth is None:
        return None
    key = _key(source, ["growth", growth.table])
    earlier = _earlier(source, folder, key, state_dir)
    return _Grown(key, Reading(opened, growth, wanted_of(source), earlier))


def _earlier(
    source: EventSource, folder: Path, key: str, state_dir: Path | None
) -> Iterator[Earlier]:
    """The copies of a growing table that are kept whole, the last one first."""
    for note in _last(folder, source, _MOST)[::2]:
        with suppress(OSError, ValueError, KeyError, TypeError, SourceError):
            kept = json.loads(note.read_bytes())
            copy, growth = (folder / kept["copy"]).absolute(), kept["growth"]
            whole_ = Identity.of(copy, state_dir).digest == kept["about"]["sha256"]
            if growth["key"] == key and whole_:
                yield Earlier(copy, int(growth["below"]), int(growth["rows"]))


def _write(
    opened: Opened, source: EventSource, folder: Path, most: int | None, grown: _Grown | None
) -> tuple[Path, int]:
    """The new copy and its number of rows."""
    import pyarrow.parquet as pq

    if grown is None:
        schema, batches = opened.batches(wanted_of(source), most=most)
    else:
        schema, batches = grown.reading.schema, grown.reading.batches()
    rows = 0
    fresh = folder / f"{source.name}.{os.urandom(8).hex()}{_NEW}"
    how = {"use_dictionary": parquet.with_dictionaries(schema)}
    with whole(fresh) as hidden, pq.ParquetWriter(hidden, schema, **how) as writer:
        for batch in batches:
            rows += batch.num_rows
            writer.write_batch(batch)
    with fresh.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return fresh.replace(_copy(folder, source, digest)), rows


# --- what every database does ---------------------------------------------------------------------


def wanted_of(source: EventSource) -> dict[str, Type]:
    """The columns that a source reads, with their types; only these are asked for."""
    instants = (source.timestamp_field, source.created_timestamp_column)
    return {**dict.fromkeys(filter(None, instants), DATETIME), **source.schema}


def check_table(source: EventSource, there: Sequence[str]) -> None:
    """SourceError where the table that the source names is none of these."""
    table = getattr(source.origin, "table", None)
    if table is None or table in there:
        return
    close = get_close_matches(table, there, n=1)
    hint = f"did you mean {close[0]!r}? It" if close else "it"
    more = f" and {len(there) - _NAMED} more" if len(there) > _NAMED else ""
    listed = f"{', '.join(there[:_NAMED])}{more}" if there else "none that may be read"
    text = f"{where_of(source)}: there is no such table; {hint} has {listed}"
    raise placed(SourceError(text), source.place)


def check_columns(source: EventSource, there: Sequence[str]) -> None:
    """SourceError where a column that the source reads is not there, or is there twice."""
    for name in wanted_of(source):
        if there.count(name) > 1:
            raise SourceError(f"{where_of(source)}: two columns are named {name!r}; rename one")
        if name not in there:
            raise SourceError(
                f"{where_of(source)}: there is no column {name!r}; {near(name, there)}"
            )


def check_case(source: EventSource, there: Sequence[str]) -> None:
    """SourceError where a column that the source reads differs from another one in case alone, as
    in a query: SQLite and DuckDB give the values of the first of them, whichever is asked for."""
    for name in wanted_of(source):
        other = next((n for n in there if n != name and n.lower() == name.lower()), None)
        if name in there and other is not None:
            raise SourceError(
                f"{where_of(source)}: {name!r} and {other!r} differ in case alone, and cannot be "
                "told apart; rename one in the query"
            )


def where_of(source: EventSource) -> str:
    """The source and its origin, for messages."""
    assert source.origin is not None
    return f"EventSource {source.name!r}, {source.origin.text}"


def rows_sql(source: EventSource) -> str:
    """The FROM item of the origin's rows."""
    origin = source.origin
    table, query = getattr(origin, "table", None), getattr(origin, "query", None)
    if table is not None:
        return ".".join(quote(part) for part in table.split("."))
    return f"({str(query).strip().rstrip(';')}\n) AS events"


def nothing_own(rows: int) -> list[pa.Array]:
    """The columns of `OWN` of rows without a fault."""
    import pyarrow as pa

    return [pa.nulls(rows, pa.int64()), pa.nulls(rows, pa.string()), pa.nulls(rows, pa.string())]


def own_fields() -> list[pa.Field]:
    """The fields of `OWN`."""
    import pyarrow as pa

    types = (pa.int64(), pa.string(), pa.string())
    return [pa.field(name, type_) for name, type_ in zip(OWN, types, strict=True)]
