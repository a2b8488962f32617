"""Turns a source's files into a checked, lazy view of canonical columns (S1, T1, T2)."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

from featurekit.core.files import whole, write_whole
from featurekit.core.sql import quote, text_literal
from featurekit.core.types import DATETIME, Type
from featurekit.define.definitions import EventSource
from featurekit.errors import BadRowError, SourceError
from featurekit.sources import csv, parquet
from featurekit.sources.check import (
    ROW,
    BadRow,
    Column,
    Reading,
    Summary,
    bad,
    column,
    fetch,
    first_bad,
    first_line,
    found_hint,
    instant_column,
    numbered,
    op_column,
    prepared,
    reason_sql,
    select_sql,
    summarise,
    unreadable,
)

if TYPE_CHECKING:
    import duckdb


class Format(Protocol):
    """What a module of a file format offers; another format is one more such module."""

    def inspect(
        self, con: duckdb.DuckDBPyConnection, path: str, schema: Mapping[str, Type]
    ) -> dict[str, str]:
        """The file's columns with their found types; `SourceError` for an unreadable file."""

    def scan(self, paths: Sequence[str], found: Mapping[str, str]) -> str:
        """A FROM item over files of the same columns."""

    def reading(self, expr: str, found: str, type_: Type, *, zone_name: str) -> Reading | None:
        """How a column of a found type is read as the declared one."""

    def undecodable(
        self, con: duckdb.DuckDBPyConnection, path: str, found: Mapping[str, str]
    ) -> list[tuple[BadRow, dict[str, Any]]]:
        """The rows that stop a scan, with what they hold."""

    def without(
        self, path: str, found: Mapping[str, str], rows: Sequence[int], *, copy: Path
    ) -> str:
        """A FROM item over the file's other rows."""


_FORMATS: dict[str, Format] = {"parquet": parquet, "csv": csv}


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file as it was read: a snapshot for manifests (F2)."""

    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class CheckedFiles:
    """A source's good rows: a quoted TEMP VIEW, their number, and the rows set aside (S1)."""

    relation: str
    rows: int
    quarantined: int
    files: tuple[FileInfo, ...]


@dataclass(frozen=True, slots=True)
class _Part:
    """Files of equal columns, their scan, how its columns are read, and what the check found."""

    paths: tuple[str, ...]
    found: Mapping[str, str]
    scan: str
    columns: tuple[Column, ...]
    summary: Summary
    cut: int = 0  # rows that no scan delivers, already left out of it


@dataclass(frozen=True, slots=True)
class _Checked:
    select: str
    rows: int
    quarantined: int
    kept: tuple[str, ...]  # files written for the rows set aside


_CACHE: OrderedDict[str, _Checked] = OrderedDict()
_CACHE_SIZE = 256
_LOCK = Lock()


def read_events(
    con: duckdb.DuckDBPyConnection, source: EventSource, *, base: Path, state_dir: Path | None
) -> CheckedFiles:
    """The source's rows as a TEMP VIEW of `con`, after every one of them was checked (S1).

    Columns: the schema's in their canonical DuckDB types, NaN being one NaN; `__ts` and
    `__created`, BIGINT microseconds UTC. Raises `SourceError` for files that are absent, unreadable
    or of other columns or types, `BadRowError` for a bad row unless the source quarantines them:
    then they stand with their `reason` in `state_dir`/quarantine/<source>.parquet. Unchanged files
    are checked once a process.
    """
    files = _files(source, base)
    key = _key(source, files, state_dir)
    with _LOCK:
        checked = _CACHE.get(key)
    if checked is None or not all(Path(path).exists() for path in checked.kept):
        checked = _check(con, source, files, state_dir)
        with _LOCK:
            _CACHE[key] = checked
            while len(_CACHE) > _CACHE_SIZE:
                _CACHE.popitem(last=False)
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    relation = quote(f"__events_{source.name}_{digest}")
    fetch(con, f"CREATE OR REPLACE TEMP VIEW {relation} AS {checked.select}")
    return CheckedFiles(relation, checked.rows, checked.quarantined, files)


def source_files(source: EventSource, base: Path) -> tuple[FileInfo, ...]:
    """The files that the source's path names, sorted; `SourceError` where it names none."""
    return _files(source, base)


def numbered_rows(con: duckdb.DuckDBPyConnection, source: EventSource, path: str) -> str:
    """The good rows of one file, with the columns that `read_events` gives and `__source_row`,
    their numbers in the file. `SourceError` where it cannot be read to its end."""
    format_ = _FORMATS[str(source.format)]
    found = format_.inspect(con, path, source.schema)
    columns = _columns(source, format_, path, found)
    scan = format_.scan([path], found)
    summary = _summary(con, scan, columns)
    if isinstance(summary, Exception):
        raise _unreadable(source, path, summary)
    number = f"{ROW}::BIGINT AS {ROW}, "
    drop = summary.bad > 0
    scan = numbered(scan)
    return f"({select_sql(scan, columns, span=summary.span, drop_bad=drop, also=number)})"


def _key(source: EventSource, files: Sequence[FileInfo], state_dir: Path | None) -> str:
    schema = [(name, str(type_)) for name, type_ in source.schema.items()]
    kept = str(Path(state_dir).absolute()) if state_dir is not None else None
    return json.dumps(
        [
            source.name,
            schema,
            source.timestamp_field,
            source.created_timestamp_column,
            source.timezone,
            source.format,
            source.on_bad_row,
            source.op,
            kept,
            [(f.path, f.size, f.mtime_ns) for f in files],
        ]
    )


def _files(source: EventSource, base: Path) -> tuple[FileInfo, ...]:
    """The files that the path names, sorted; `SourceError` where it names none."""
    where, path = f"EventSource {source.name!r}", Path(base) / source.path
    if path.is_dir():
        raise SourceError(
            f'{where}: {path} is a folder; write a glob, as in "{source.path}/*.{source.format}"'
        )
    if path.exists():
        return (_info(where, path.absolute()),)
    if not any(sign in source.path for sign in "*?["):
        raise SourceError(
            f"{where}: there is no file {path}; the path is relative to the feature repo"
        )
    found = sorted(p.absolute() for p in _matches(Path(base), source.path) if p.is_file())
    if not found:
        raise SourceError(f"{where}: no file matches {path}")
    return tuple(_info(where, p) for p in found)


def _matches(base: Path, pattern: str) -> list[Path]:
    """What a glob matches, without hidden files; only the pattern's own signs are special."""
    if Path(pattern).is_absolute():
        base = Path(Path(pattern).anchor)
        pattern = str(Path(pattern).relative_to(base))
    return [path for path in base.glob(pattern) if not path.name.startswith(".")]


def _info(where: str, path: Path) -> FileInfo:
    try:
        stat = path.stat()
        with path.open("rb"):
            pass
    except OSError as error:
        raise SourceError(f"{where}: {path} cannot be opened ({error.strerror})") from None
    if stat.st_size == 0:
        raise SourceError(
            f"{where}: {path} is empty, 0 bytes; a file without rows still has a header or footer"
        )
    return FileInfo(str(path), stat.st_size, stat.st_mtime_ns)


def _check(
    con: duckdb.DuckDBPyConnection,
    source: EventSource,
    files: Sequence[FileInfo],
    state_dir: Path | None,
) -> _Checked:
    format_ = _FORMATS[str(source.format)]
    kept: list[str] = []
    parts: list[_Part] = []
    for paths, found in _groups(con, source, format_, files):
        columns = _columns(source, format_, paths[0], found)
        parts += _checked_parts(con, source, format_, paths, found, columns, state_dir, kept)
    total = sum(part.summary.bad for part in parts)
    if total and source.on_bad_row == "error":
        raise _bad_row_error(con, source, format_, parts)
    kept += (
        _keep(con, source, format_, parts, state_dir) if source.on_bad_row == "quarantine" else []
    )
    selects = [
        select_sql(p.scan, p.columns, span=p.summary.span, drop_bad=p.summary.bad > 0)
        for p in parts
    ]
    rows = sum(part.summary.rows for part in parts) - total
    cut = sum(part.cut for part in parts)
    return _Checked(" UNION ALL ".join(selects), rows, total + cut, tuple(kept))


def _groups(
    con: duckdb.DuckDBPyConnection,
    source: EventSource,
    format_: Format,
    files: Sequence[FileInfo],
) -> list[tuple[list[str], dict[str, str]]]:
    """The files by their columns, so that each is read by its own types."""
    groups: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for file in files:
        try:
            found = format_.inspect(con, file.path, source.schema)
        except SourceError as error:
            raise SourceError(f"EventSource {source.name!r}: {error}") from None
        groups.setdefault(tuple(found.items()), []).append(file.path)
    return [(paths, dict(found)) for found, paths in groups.items()]


def _columns(
    source: EventSource, format_: Format, path: str, found: Mapping[str, str]
) -> list[Column]:
    """How each declared column is read; `SourceError` where one is absent or does not fit."""
    where = f"EventSource {source.name!r}, {path}"
    columns: list[Column] = []
    for name, type_ in source.schema.items():
        kind = _found(where, name, found)
        made = column(name, name, kind, type_, zone_name=source.timezone, read=format_.reading)
        if made is not None and name == source.op:
            made = op_column(made)
        columns.append(made if made is not None else _refuse(where, name, kind, type_))
    instants = {
        "__ts": source.timestamp_field,
        "__created": source.created_timestamp_column or source.timestamp_field,
    }
    for name, origin in instants.items():
        kind = _found(where, origin, found)
        made = instant_column(name, origin, kind, zone_name=source.timezone, read=format_.reading)
        columns.append(made if made is not None else _refuse(where, origin, kind, DATETIME))
    return columns


def _found(where: str, name: str, found: Mapping[str, str]) -> str:
    if name not in found:
        close = get_close_matches(name.lower(), [f.lower() for f in found], n=1)
        near = [f for f in found if close and f.lower() == close[0]]
        hint = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(found)}"
        raise SourceError(f"{where}: there is no column {name!r}{hint}")
    return found[name]


def _refuse(where: str, name: str, found: str, type_: Type) -> Column:
    hint = (
        f"CSV text has no form for {type_.name}; use Parquet"
        if found == csv.TEXT
        else found_hint(found, type_)
    )
    raise SourceError(f"{where}, column {name!r}: declared {type_}, the file has {found}; {hint}")


def _checked_parts(
    con: duckdb.DuckDBPyConnection,
    source: EventSource,
    format_: Format,
    paths: Sequence[str],
    found: Mapping[str, str],
    columns: Sequence[Column],
    state_dir: Path | None,
    kept: list[str],
) -> list[_Part]:
    """The group in one part; file by file where a row stops its scan."""
    scan = format_.scan(paths, found)
    summary = _summary(con, scan, columns)
    if isinstance(summary, Summary):
        return [_Part(tuple(paths), found, scan, tuple(columns), summary)]
    parts = []
    for path in paths:
        scan, cut = format_.scan([path], found), 0
        summary = _summary(con, scan, columns)
        if isinstance(summary, Exception):
            scan, cut = _cut(con, source, format_, path, found, summary, state_dir, kept)
            summary = _summary(con, scan, columns)
        if isinstance(summary, Exception):
            raise _unreadable(source, path, summary)
        parts.append(_Part((path,), found, scan, tuple(columns), summary, cut))
    return parts


def _summary(
    con: duckdb.DuckDBPyConnection, scan: str, columns: Sequence[Column]
) -> Summary | Exception:
    """What the scan tells, or the error of a file that cannot be scanned to its end."""
    import duckdb

    try:
        return summarise(con, scan, columns)
    except duckdb.Error as error:
        if not unreadable(error):
            raise
        return error


def _unreadable(source: EventSource, path: str, error: Exception) -> SourceError:
    return SourceError(
        f"EventSource {source.name!r}: {path} cannot be read to its end ({first_line(error)}); "
        "write it again"
    )


def _cut(
    con: duckdb.DuckDBPyConnection,
    source: EventSource,
    format_: Format,
    path: str,
    found: Mapping[str, str],
    error: Exception,
    state_dir: Path | None,
    kept: list[str],
) -> tuple[str, int]:
    """A scan of the file without the rows that stop it, which are kept as JSON lines."""
    rows = format_.undecodable(con, path, found)
    if not rows:
        raise _unreadable(source, path, error)
    if source.on_bad_row == "error":
        raise _row_error(source, path, rows[0][0])
    folder = quarantine_dir(source.name, state_dir)
    stem = f"{source.name}.{hashlib.sha256(path.encode()).hexdigest()[:8]}"
    lines = [
        {"file": path, "row": fault.row, "reason": f"{fault.column}: {fault.reason}", "values": raw}
        for fault, raw in rows
    ]
    target = folder / f"{stem}.undecodable.jsonl"
    write_json_lines(target, lines)
    copy = folder / f"{stem}.readable.{source.format}"
    scan = format_.without(path, found, [fault.row for fault, _ in rows], copy=copy)
    kept += [str(target), *([str(copy)] if copy.exists() else [])]
    return scan, len(rows)


def quarantine_dir(name: str, state_dir: Path | None) -> Path:
    """The folder of rows set aside; `SourceError` where there is no place to keep them (S1)."""
    if state_dir is None:
        raise SourceError(
            f"EventSource {name!r}: rows are to be set aside, but there is no state_dir to keep "
            'them; pass one, or write on_bad_row="error"'
        )
    folder = Path(state_dir) / "quarantine"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_json_lines(target: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Replaces the file by the lines; what JSON has not is written as Python shows it."""
    text = "".join(json.dumps(line, default=repr) + "\n" for line in lines)
    write_whole(target, text.encode())


def _bad_row_error(
    con: duckdb.DuckDBPyConnection, source: EventSource, format_: Format, parts: Sequence[_Part]
) -> Exception:
    """The first bad row of the first file, in the order of their names, that holds one."""
    by_path = {path: part for part in parts if part.summary.bad for path in part.paths}
    for path in sorted(by_path):
        part = by_path[path]
        found_row = first_bad(con, _scan_of(format_, part, path), part.columns)
        if found_row is not None:
            return _row_error(source, path, found_row)
    raise _unreadable(source, min(by_path), RuntimeError("its rows changed while it was read"))


def _scan_of(format_: Format, part: _Part, path: str) -> str:
    """The scan of one of a part's files."""
    return part.scan if len(part.paths) == 1 else format_.scan([path], part.found)


def _row_error(source: EventSource, path: str, row: BadRow) -> BadRowError:
    return BadRowError(
        f"EventSource {source.name!r}, {path}, {row}; mend the row, declare the column as it is, "
        'or write on_bad_row="quarantine" to set such rows aside'
    )


def _keep(
    con: duckdb.DuckDBPyConnection,
    source: EventSource,
    format_: Format,
    parts: Sequence[_Part],
    state_dir: Path | None,
) -> list[str]:
    """Writes the bad rows, whole and with their reason, to Parquet; removes an older file."""
    faulty = [part for part in parts if part.summary.bad]
    if not faulty:
        if state_dir is not None:
            (Path(state_dir) / "quarantine" / f"{source.name}.parquet").unlink(missing_ok=True)
        return []
    target = quarantine_dir(source.name, state_dir) / f"{source.name}.parquet"
    reason = "reason" if all("reason" not in _folded(part) for part in faulty) else "__reason"
    selects = " UNION ALL BY NAME ".join(
        _bad_select(path, _scan_of(format_, part, path), part.columns, reason=reason)
        for part in faulty
        for path in part.paths
    )
    with whole(target) as hidden:
        fetch(con, f"COPY ({selects}) TO {text_literal(str(hidden))} (FORMAT parquet)")
    return [str(target)]


def _folded(part: _Part) -> set[str]:
    return {name.lower() for name in part.found}


def _bad_select(path: str, scan: str, columns: Sequence[Column], *, reason: str) -> str:
    """The bad rows of a file as they stand in it, with its path, their number and reason."""
    helpers = dict.fromkeys(alias for c in columns for alias, _ in c.reading.prepared)
    hidden = f" EXCLUDE ({', '.join(map(quote, helpers))})" if helpers else ""
    return (
        f'SELECT {text_literal(path)} AS "__source_file", *{hidden}, {reason_sql(columns)} '
        f"AS {quote(reason)} FROM {prepared(numbered(scan), columns)} WHERE {bad(columns)}"
    )
