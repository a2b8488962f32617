"""Turns a source's files into a checked, lazy view of canonical columns (S1, T1, T2)."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from featurekit.core.files import whole
from featurekit.core.sql import quote, text_literal
from featurekit.core.tables import fetch
from featurekit.core.types import DATETIME, Type
from featurekit.core.written import placed
from featurekit.define.arrivals import LATEST_US, Commit, Modified, delay_us, text_of
from featurekit.define.contracts.compiled import Judge, contract_of
from featurekit.define.definitions import EventSource
from featurekit.define.origins import Database
from featurekit.errors import BadRowError, DataError, SourceError
from featurekit.language import wire
from featurekit.language.python_calls import PythonCall, register_python_ops
from featurekit.sources import contract, csv
from featurekit.sources.check import (
    ROW,
    BadRow,
    Column,
    Marks,
    Summary,
    bad,
    column,
    first_bad,
    first_line,
    instant_column,
    instant_reading,
    numbered,
    op_column,
    prepared,
    reason_sql,
    select_sql,
    summarise,
    unreadable,
)
from featurekit.sources.files import partitions
from featurekit.sources.folders import with_texts, with_texts_by_path
from featurekit.sources.identity import Identity
from featurekit.sources.kinds import kind_of
from featurekit.sources.protocol import ARRIVED, FileColumn, FileInfo, SourceKind
from featurekit.sources.quarantine import quarantine_dir, write_json_lines
from featurekit.sources.reading import files_of
from featurekit.sources.readings import (
    CSV_COMMA_TEXT,
    CSV_TEXT,
    Reading,
    found_hint,
    instant_hint,
)
from featurekit.sources.verdicts import Verdicts

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True, slots=True)
class CheckedFiles:
    """A source's good rows: the quoted name of a TEMP VIEW, their number, and the rows set aside
    (S1); its files, and the hash of each."""

    relation: str
    rows: int
    quarantined: int
    files: tuple[FileInfo, ...]
    digests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Part:
    """Files with equal columns, by the paths that are scanned for them: their scan, how its columns
    are read, and the result of the check."""

    paths: tuple[str, ...]
    found: Mapping[str, FileColumn]
    scan: str
    columns: tuple[Column, ...]
    summary: Summary
    cut: int = 0  # undecodable rows, which the scan leaves out


@dataclass(frozen=True, slots=True)
class _Checked:
    select: str
    rows: int
    quarantined: int
    kept: tuple[tuple[str, _Stat], ...]  # copies, and files with the rows set aside
    calls: Mapping[str, PythonCall] = field(default_factory=dict)  # what the select calls (R5)


_CACHE: OrderedDict[str, _Checked] = OrderedDict()
_CACHE_SIZE = 256
_LOCK = Lock()
_ROLES = ("timestamp_field", "created_timestamp_column")
_SHORT = 20
_BESIDE = f"{quote(ARRIVED)}::BIGINT"
_APART = 32
"""Of more folders with other texts there is one scan: DuckDB takes long to plan one for each."""


_Stat = tuple[int, int, int] | None


def read_events(
    con: duckdb.DuckDBPyConnection,
    source: EventSource,
    *,
    base: Path,
    state_dir: Path | None,
    judged: bool = True,
) -> CheckedFiles:
    """The source's rows as a TEMP VIEW of `con`; every row was checked (S1).

    The columns are those of the schema in their canonical DuckDB types, with one NaN, and `__ts`
    and `__created`, BIGINT microseconds UTC. Raises `SourceError` for files that are absent,
    unreadable or have other columns or types, and `BadRowError` for a bad row. A source that
    quarantines bad rows keeps them, with their `reason`, in `state_dir`/quarantine/<source>.parquet
    instead, and so are rows kept that its contract sets aside (S5). Files are checked once for a
    content; the verdict is kept in `state_dir` (S4).

    Where they are not `judged`, rows that break the contract are there too, and no row set aside is
    written.
    """
    files = files_of(con, source, base, state_dir)
    identities = Identity.of_all([Path(file.path) for file in files], state_dir)
    key = _key(source, files, identities, state_dir, judged=judged)
    with _LOCK:
        checked = _CACHE.get(key)
    if checked is None or any(_stat(path) != about for path, about in checked.kept):
        checked = _check(con, source, files, identities, state_dir, judged=judged)
        with _LOCK:
            _CACHE[key] = checked
            while len(_CACHE) > _CACHE_SIZE:
                _CACHE.popitem(last=False)
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    relation = quote(f"__events_{source.name}_{digest}")
    register_python_ops(con, dict(checked.calls))
    fetch(con, f"CREATE OR REPLACE TEMP VIEW {relation} AS {checked.select}")
    digests = tuple(identity.digest for identity in identities)
    return CheckedFiles(relation, checked.rows, checked.quarantined, files, digests)


def source_files(
    source: EventSource, base: Path, state_dir: Path | None, *, most: int | None = None
) -> tuple[FileInfo, ...]:
    """The files that the source's path names, sorted, or that its origin has; `SourceError` where
    there are none. With `most`, those of an origin may have that many rows alone."""
    return kind_of(source).snapshot(source, base, state_dir, most=most)


def first_fault(
    con: duckdb.DuckDBPyConnection,
    source: EventSource,
    file: FileInfo,
    *,
    rows: int,
) -> tuple[DataError | None, int]:
    """What is wrong with a file's columns, or with one of its first `rows` rows, None where nothing
    is seen; and how many of these rows are to be set aside. That is no fault, unless it is all of
    them. No more rows are read, and nothing is kept."""
    import duckdb

    reader = _Reader(con, source, None, most=rows)
    try:
        ((paths, found),) = reader.groups([file])
        columns = _columns(source, reader.kind, file, found)
        scan = f"(SELECT * FROM {reader.scan(paths, found)} LIMIT {rows})"
        row = first_bad(con, scan, columns)
        if row is None:
            return None, 0
        if source.on_bad_row == "quarantine":
            seen = summarise(con, scan, columns)
            if seen.bad < seen.rows:
                return None, seen.bad
    except SourceError as error:
        return error, 0
    except duckdb.Error as error:
        if not unreadable(error):
            raise
        if source.on_bad_row == "quarantine":  # the rows that stop the scan are set aside
            return None, 0
        return _unreadable(source, file, error), 0
    if source.on_bad_row == "quarantine":
        return _none_left(source, file, row, seen.bad), seen.bad
    return _row_error(source, file, row), 0


def numbered_rows(
    con: duckdb.DuckDBPyConnection, source: EventSource, file: FileInfo, state_dir: Path | None
) -> str:
    """The good rows of one file: the columns of `read_events`, and `__source_row`, the row's number
    in the file. `SourceError` if the file cannot be read to its end."""
    reader = _Reader(con, source, state_dir)
    ((paths, found),) = reader.groups([file])
    columns = _columns(source, reader.kind, file, found)
    scan = reader.scan(paths, found)
    summary = reader.summary(scan, columns)
    if isinstance(summary, Exception):
        raise _unreadable(source, file, summary)
    number = f"{ROW}::BIGINT AS {ROW}, "
    drop = summary.bad > 0
    scan = numbered(scan)
    return f"({select_sql(scan, columns, span=summary.span, drop_bad=drop, also=number)})"


def _declared(source: EventSource) -> list[Any]:
    """What of a source's definition decides the verdict on its rows."""
    return [
        [(name, str(type_)) for name, type_ in source.schema.items()],
        source.timestamp_field,
        [source.created_timestamp_column, text_of(source.arrives, what=source.name)],
        source.timezone,
        source.format,
        asdict(source.dialect),
        repr(source.formats),
        source.op,
    ]


def _key(
    source: EventSource,
    files: Sequence[FileInfo],
    identities: Sequence[Identity],
    state_dir: Path | None,
    *,
    judged: bool,
) -> str:
    kept = str(Path(state_dir).absolute()) if state_dir is not None else None
    contents = [(str(i.path), i.digest) for i in identities]
    beside = [file.folders for file in files]
    about = [source.name, source.on_bad_row, kept, _declared(source), contents, beside]
    if source.expect:
        rules = [(judge.reason, wire.canonical(judge.check)) for judge in contract_of(source).aside]
        about.append(rules if judged else None)
    return json.dumps(about)


def _check(
    con: duckdb.DuckDBPyConnection,
    source: EventSource,
    files: Sequence[FileInfo],
    identities: Sequence[Identity],
    state_dir: Path | None,
    *,
    judged: bool,
) -> _Checked:
    reader = _Reader(con, source, state_dir)
    reader.digests.update((str(i.path), i.digest) for i in identities)
    parts = [part for paths, found in reader.groups(files) for part in reader.parts(paths, found)]
    for identity in identities:
        identity.check()
    total = sum(part.summary.bad for part in parts)
    if total and source.on_bad_row == "error":
        reader.verdicts.keep()
        raise reader.bad_row_error(parts)
    aside = contract_of(source).aside if judged and source.expect else ()
    broken = [reader.broken(part, aside) if aside else 0 for part in parts]
    reader.verdicts.keep()
    if judged and (source.on_bad_row == "quarantine" or aside):
        reader.keep(parts, aside, broken)
    selects: list[str] = []
    calls: dict[str, PythonCall] = {}
    for part, some in zip(parts, broken, strict=True):
        select = _good_sql(part)
        if some:
            ruled = contract.judged_sql(aside, f"({select})")
            select = contract.kept_sql(source, ruled)
            calls |= ruled.calls
        selects.append(select)
    rows = sum(part.summary.rows for part in parts) - total - sum(broken)
    cut = sum(part.cut for part in parts)
    kept = tuple((path, _stat(path)) for path in reader.kept)
    gone = total + sum(broken) + cut
    return _Checked(" UNION ALL ".join(selects), rows, gone, kept, calls)


def _good_sql(part: _Part, scan: str = "", also: str = "") -> str:
    """SQL of the rows of a part, or of a scan of one of its files, that S1 lets pass."""
    summary = part.summary
    return select_sql(
        scan or part.scan, part.columns, span=summary.span, drop_bad=summary.bad > 0, also=also
    )


def _stat(path: str) -> _Stat:
    """What tells a file from another one that was written in its place; None where it is gone."""
    with suppress(FileNotFoundError):
        about = Path(path).stat()
        return about.st_ino, about.st_mtime_ns, about.st_size
    return None


@dataclass(frozen=True, slots=True)
class _Reader:
    """One pass over all files of a source; `kept` are the files that it wrote or relies on beside
    them. By the paths that are scanned, `files` has the files, and `folders` the texts of columns
    that the names of a file's folders say. `digests` are the hashes of the files. With `most`, only
    so many rows of each file are asked for."""

    con: duckdb.DuckDBPyConnection
    source: EventSource
    state_dir: Path | None
    most: int | None = None
    kept: list[str] = field(default_factory=list)
    files: dict[str, FileInfo] = field(default_factory=dict)
    folders: dict[str, dict[str, str | None]] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    verdicts: Verdicts = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "verdicts", Verdicts(self.source.name, self.state_dir))

    @property
    def kind(self) -> SourceKind:
        return kind_of(self.source)

    def groups(self, files: Sequence[FileInfo]) -> list[tuple[list[str], dict[str, FileColumn]]]:
        """The paths to scan, grouped by their columns, so that each group is read with its own
        types. The texts of folders are one for all of a group, or, where there are many, one for
        each path."""
        groups: dict[tuple[Any, ...], tuple[list[str], dict[str, FileColumn]]] = {}
        for file in files:
            try:
                path = self.kind.readable(self.source, file, self.state_dir, most=self.most)
                found = self.kind.columns(self.con, path, self.source.schema)
            except SourceError as error:
                said = str(error).replace(file.path, file.shown)
                fault = SourceError(f"EventSource {self.source.name!r}: {said}")
                raise placed(fault, self.source.place) from None
            self.files[path] = file
            if path != file.path:
                self.kept.append(path)
            self.folders[path] = self._folders(file, found)
            same = (*found.items(), *self.folders[path])
            groups.setdefault(same, ([], found))[0].append(path)
        return [one for paths, found in groups.values() for one in self._by_texts(paths, found)]

    def _by_texts(
        self, paths: Sequence[str], found: Mapping[str, FileColumn]
    ) -> list[tuple[list[str], dict[str, FileColumn]]]:
        """Paths with equal columns, by the texts of their folders; all of them as one group where a
        scan for each would be too many."""
        groups: dict[tuple[Any, ...], list[str]] = {}
        for path in paths:
            groups.setdefault(tuple(self.folders[path].values()), []).append(path)
        named = any(column.held.lower() == "filename" for column in found.values())
        made = [*groups.values()] if len(groups) <= _APART or named else [[*paths]]
        return [(one, {**found, **self._text_columns(one, found)}) for one in made]

    def _text_columns(
        self, paths: Sequence[str], found: Mapping[str, FileColumn]
    ) -> dict[str, FileColumn]:
        """The columns of folders' names, beside those of the file; no two differ in case alone."""
        taken = {column.held.lower() for column in found.values()}
        return {
            name: FileColumn(
                # Null is of any type, and text of some.
                CSV_TEXT if any(self.folders[p][name] is not None for p in paths) else '"NULL"',
                f"__folder_{place}" if name.lower() in taken else name,
            )
            for place, name in enumerate(self.folders[paths[0]])
        }

    def _folders(self, file: FileInfo, found: Mapping[str, FileColumn]) -> dict[str, str | None]:
        """The columns that the source reads, and that only the names of the file's folders say, or
        what its origin keeps beside it."""
        read = {*self.source.schema, self.source.timestamp_field}
        read.add(self.source.created_timestamp_column or self.source.timestamp_field)
        if isinstance(self.source.arrives, (Commit, Modified)):
            read.add(ARRIVED)
        texts = partitions(file) if read - found.keys() else {}
        return {name: text for name, text in texts.items() if name in read and name not in found}

    def scan(self, paths: Sequence[str], found: Mapping[str, FileColumn]) -> str:
        """A FROM item over paths of one group, with the columns that their folders' names say."""
        folders = {path: self.folders[path] for path in paths}
        first = folders[paths[0]]
        scan = self.kind.scan(paths, {n: c for n, c in found.items() if n not in first})
        if all(texts == first for texts in folders.values()):
            return with_texts(scan, first, found)
        return with_texts_by_path(scan, folders, found)

    def parts(self, paths: Sequence[str], found: Mapping[str, FileColumn]) -> list[_Part]:
        """Files with equal columns as one part; as one part per file if a row stops their scan."""
        columns = tuple(_columns(self.source, self.kind, self.files[paths[0]], found))
        scan = self.scan(paths, found)
        about = self.about(paths, found)
        summary = self.verdicts.get(about) or self.summary(scan, columns)
        if isinstance(summary, Summary):
            self.check_rows(paths, found, summary)
            self.verdicts.add(about, summary)
            return [_Part(tuple(paths), found, scan, columns, summary)]
        parts = []
        for path in paths:
            scan, cut = self.scan([path], found), 0
            summary = self.summary(scan, columns)
            if isinstance(summary, Exception):
                scan, cut = self.cut(path, found, summary)
                summary = self.summary(scan, columns)
            if isinstance(summary, Exception):
                raise _unreadable(self.source, self.files[path], summary)
            parts.append(_Part((path,), found, scan, columns, summary, cut))
        return parts

    def about(self, paths: Sequence[str], found: Mapping[str, FileColumn]) -> list[Any]:
        """What the verdict on the rows of a group depends on."""
        contents = [self.digests[self.files[path].path] for path in paths]
        columns = [(name, column.type) for name, column in found.items()]
        texts: Any = self.folders[paths[0]]
        if any(self.folders[path] != texts for path in paths):
            texts = [self.folders[path] for path in paths]
        return [contents, columns, texts, _declared(self.source)]

    def check_rows(
        self, paths: Sequence[str], found: Mapping[str, FileColumn], summary: Summary
    ) -> None:
        """A bug, where the texts of folders did not find all rows of their files (S4)."""
        if all(self.folders[path] == self.folders[paths[0]] for path in paths):
            return
        there = fetch(self.con, f"SELECT count(*) FROM {self.kind.scan(paths, found)}")[0][0]
        if there != summary.rows:
            raise AssertionError(f"{self.source.name}: {there} rows, and {summary.rows} were read")

    def summary(self, scan: str, columns: Sequence[Column]) -> Summary | Exception:
        """The summary of the scan, or the error of a file that cannot be scanned to its end."""
        import duckdb

        try:
            return summarise(self.con, scan, columns)
        except duckdb.Error as error:
            if not unreadable(error):
                raise
            return error

    def cut(self, path: str, found: Mapping[str, FileColumn], error: Exception) -> tuple[str, int]:
        """A scan of the file without the rows that stop it, and the number of those rows. They are
        kept as JSON lines."""
        source, file = self.source, self.files[path]
        only = found if file.columns is None else {n: found[n] for n in file.columns}
        rows = self.kind.rejected(self.con, path, only)
        if not rows:
            raise _unreadable(source, file, error)
        if source.on_bad_row == "error":
            raise _row_error(source, file, rows[0][0])
        folder = quarantine_dir(source.name, self.state_dir)
        stem = f"{source.name}.{hashlib.sha256(path.encode()).hexdigest()[:8]}"
        target = folder / f"{stem}.undecodable.jsonl"
        lines = [
            {"file": file.shown, "row": fault.row, "reason": fault.why, "values": raw}
            for fault, raw in rows
        ]
        write_json_lines(target, lines)
        copy = folder / f"{stem}.readable.parquet"
        folders = self.folders[path]
        there = {name: column for name, column in found.items() if name not in folders}
        scan = self.kind.without(path, there, [fault.row for fault, _ in rows], copy=copy)
        scan = with_texts(scan, folders, found)
        self.kept.extend([str(target), *([str(copy)] if copy.exists() else [])])
        return scan, len(rows)

    def bad_row_error(self, parts: Sequence[_Part]) -> Exception:
        """An error for the first bad row of the first file, by name, that has one."""
        by_path = {path: part for part in parts if part.summary.bad for path in part.paths}
        for path in sorted(by_path, key=lambda path: self.files[path].shown):
            part = by_path[path]
            fault = first_bad(self.con, self.scan_of(part, path), part.columns, self.kind.marks)
            if fault is not None:
                return _row_error(self.source, self.files[path], fault)
        changed = RuntimeError("its rows changed while it was read")
        raise _unreadable(self.source, self.files[min(by_path)], changed)

    def scan_of(self, part: _Part, path: str) -> str:
        """The scan of one file of a part."""
        return part.scan if len(part.paths) == 1 else self.scan([path], part.found)

    def broken(self, part: _Part, aside: Sequence[Judge]) -> int:
        """How many rows of a part that S1 lets pass break a rule which sets rows aside (S5)."""
        about = [*self.about(part.paths, part.found), [wire.canonical(j.check) for j in aside]]
        found = None if part.cut else self.verdicts.get(about)
        if found is None:
            ruled = contract.judged_sql(aside, f"({_good_sql(part)})")
            ruled.register(self.con)
            sql = f"SELECT count(*), count(*) FILTER ({ruled.any_broken}) FROM {ruled.relation}"
            rows, bad_rows = fetch(self.con, sql)[0]
            found = Summary(rows, bad_rows, None)
        if not part.cut:
            self.verdicts.add(about, found)
        return found.bad

    def keep(self, parts: Sequence[_Part], aside: Sequence[Judge], broken: Sequence[int]) -> None:
        """Write the rows set aside, whole and with their reason, to Parquet: those that break S1,
        and those that break a rule of the contract, of which each part has `broken`. If there are
        none, an older file is removed."""
        faulty = [p for p, some in zip(parts, broken, strict=True) if p.summary.bad or some]
        name = f"{self.source.name}.parquet"
        if not faulty:
            if self.state_dir is not None:
                (Path(self.state_dir) / "quarantine" / name).unlink(missing_ok=True)
            return
        target = quarantine_dir(self.source.name, self.state_dir) / name
        taken = {column.held.lower() for part in faulty for column in part.found.values()}
        reason = "__reason" if "reason" in taken else "reason"
        written = [
            one
            for part, some in zip(parts, broken, strict=True)
            for path in part.paths
            for one in self._aside_sqls(part, path, aside if some else (), reason)
        ]
        selects = " UNION ALL BY NAME ".join(written)
        with whole(target) as hidden:
            fetch(self.con, f"COPY ({selects}) TO {text_literal(str(hidden))} (FORMAT parquet)")
        self.kept.append(str(target))

    def _aside_sqls(
        self, part: _Part, path: str, aside: Sequence[Judge], reason: str
    ) -> Iterator[str]:
        """SQL of the rows of one file that are set aside: for S1, and for the contract."""
        scan, named, marks = self.scan_of(part, path), self.files[path].shown, self.kind.marks
        if part.summary.bad:
            yield _bad_select_sql(named, scan, part, marks, reason=reason)
        if aside:
            ruled = contract.judged_sql(aside, f"({_good_sql(part, numbered(scan), f'{ROW}, ')})")
            yield _broken_select_sql(named, scan, marks, aside, ruled, reason=reason)


def _columns(
    source: EventSource, kind: SourceKind, file: FileInfo, found: Mapping[str, FileColumn]
) -> list[Column]:
    """How each declared column is read; `SourceError` if one is absent or does not fit."""
    where = f"EventSource {source.name!r}, {_shown(source, file)}"
    columns: list[Column] = [] if kind.marks is None else [kind.marks.aside]
    instants = {
        "__ts": source.timestamp_field,
        "__created": source.created_timestamp_column or source.timestamp_field,
    }
    formats = source.formats
    for name, type_ in source.schema.items():
        held = _found(source, where, name, found)
        own = _reading_of(held, kind)
        read = own
        if name in instants.values() or name in formats:
            read = partial(_instant, read=own, format_=formats.get(name))
        made = column(
            name, name, held.type, type_, zone_name=source.timezone, read=read, held=held.held
        )
        if made is not None and name == source.op:
            made = op_column(made)
        columns.append(made if made is not None else _refuse(source, where, name, held.type, type_))
    for name, origin in instants.items():
        held = _found(source, where, origin, found)
        made = instant_column(
            name,
            origin,
            held.type,
            zone_name=source.timezone,
            read=_reading_of(held, kind),
            held=held.held,
            format_=formats.get(origin),
            dates=True,
        )
        columns.append(
            made if made is not None else _refuse(source, where, origin, held.type, DATETIME)
        )
    if source.arrives is not None:
        columns[-1] = _arriving(source, columns[-1])
    return columns


def _arriving(source: EventSource, column: Column) -> Column:
    """The column of arrivals, from that of a source that says with `arrives` what they are."""
    build = column.reading.micros
    assert build is not None
    if isinstance(source.arrives, (Commit, Modified)):
        return replace(column, reading=replace(column.reading, micros=lambda _: _BESIDE))
    delay = delay_us(text_of(source.arrives, what=source.name))
    late = lambda span: f"least({build(span)} + {delay}, {LATEST_US})"  # noqa: E731
    return replace(column, reading=replace(column.reading, micros=late))


def _reading_of(column: FileColumn, kind: SourceKind) -> Callable[..., Reading | None]:
    """How a column is read; the name of a folder is text in files of any format."""
    return csv.reading if column.type == CSV_TEXT else kind.reading


def _instant(expr: str, found: str, type_: Type, **how: Any) -> Reading | None:
    """How a column of the schema is read that holds timestamps."""
    del type_
    return instant_reading(expr, found, **how)


def _found(
    source: EventSource, where: str, name: str, found: Mapping[str, FileColumn]
) -> FileColumn:
    if name not in found:
        found = {one: column for one, column in found.items() if one != ARRIVED}
        roles = {getattr(source, role) for role in _ROLES}
        spare = [f for f in found if f not in {*source.schema, *roles}]
        by_name = {f.strip().lower(): f for f in reversed(spare)}
        close = get_close_matches(name.strip().lower(), by_name, n=1)
        near = [by_name[one] for one in close]
        hint = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(found)}; "
        hint += _instead_of(source, name, near)
        sign = next((s for s in ";\t|" if len(found) == 1 and s in next(iter(found))), None)
        if sign is not None:
            hint = f"; its header is one column, {next(iter(found))!r}: write delimiter={sign!r}"
        raise placed(SourceError(f"{where}: there is no column {name!r}{hint}"), source.place)
    return found[name]


def _instead_of(source: EventSource, name: str, near: Sequence[str]) -> str:
    """What to write for a column that the files lack, where the source names it."""
    role = next((r for r in _ROLES if getattr(source, r) == name), None)
    if role is not None and near:
        return f' Write {role}="{near[0]}"'
    if near:
        return ""
    if role is None:
        return f"correct its name in the schema, or leave {name!r} out"
    if role == "timestamp_field":
        return "write timestamp_field= with the one that has the instant of the event"
    return f"write {role}= with the one that has the instant of arrival, or leave {role} out"


def _refuse(source: EventSource, where: str, name: str, found: str, type_: Type) -> Column:
    if type_.name == "datetime" and instant_hint(found):
        hint = instant_hint(found)
    elif found in (CSV_TEXT, CSV_COMMA_TEXT):
        hint = f"CSV text has no form for {type_.name}; use Parquet"
    else:
        hint = found_hint(found, type_)
    text = f"{where}, column {name!r}: declared {type_}, the file has {found}; {hint}"
    raise placed(SourceError(text), source.place)


def _unreadable(source: EventSource, file: FileInfo, error: Exception) -> SourceError:
    text = (
        f"EventSource {source.name!r}: {_shown(source, file)} cannot be read to its end "
        f"({first_line(error)}); write the file again"
    )
    return placed(SourceError(text), source.place)


def _shown(source: EventSource, file: FileInfo) -> str:
    """A file for messages; that of a frame is nobody's but ours, and so is a copy."""
    if isinstance(source.origin, Database):
        return source.origin.text
    return file.shown if source.frame is None else "its frame"


def _row_error(source: EventSource, file: FileInfo, row: BadRow) -> BadRowError:
    return BadRowError(
        f"EventSource {source.name!r}, {_shown(source, file)}, {row}; mend the row, "
        f'{_declared_otherwise(source, row)}or write on_bad_row="quarantine" to set such rows aside'
    )


def _declared_otherwise(source: EventSource, row: BadRow) -> str:
    """How to declare a column so that a row is a good one, and where that is written."""
    name, type_ = row.column, source.schema.get(row.column or "")
    if name is None or type_ is None or name in source.instants:
        csv = " (encoding, delimiter, quote)" if name is None and source.format == "csv" else ""
        return f"say how the file is written{csv}, " if csv else ""
    where = f" ({source.place.of(name)})" if source.place is not None else ""
    if row.value is None and not type_.optional:
        return f'declare "{name}": {type_.or_none()} in the schema{where}, '
    if source.format != "csv" or row.value is None:
        return f"declare {name!r} as it is in the schema{where}, "
    ways = [f'declare "{name}": {"str | None" if type_.optional else "str"} in the schema{where}']
    if type_.name == "float" and "," in row.value:
        ways.append('write decimal=","')
    if len(row.value) <= _SHORT and type_.optional:
        text = row.value.strip("'").replace('"', '\\"')
        ways.append(f'write null_values=["{text}"] if that stands for no value')
    return f"{', '.join(ways)}, "


def _none_left(source: EventSource, file: FileInfo, row: BadRow, bad: int) -> BadRowError:
    return BadRowError(
        f"EventSource {source.name!r}, {_shown(source, file)}: all of the first {bad} rows are to "
        f"be set aside, the first since {row}; mend the file, or declare it as it is written"
    )


def _bad_select_sql(path: str, scan: str, part: _Part, marks: Marks | None, *, reason: str) -> str:
    """SQL of the bad rows of a file as they are in it, with its path, their numbers and their
    reasons."""
    columns = part.columns
    hidden = list(dict.fromkeys(alias for c in columns for alias, _ in c.reading.prepared))
    shown = ""
    if marks is not None:
        line, text = quote(marks.line), marks.aside.expr
        shown = f'{line} AS "__line", {text} AS "__text", '
        hidden += [marks.line, marks.aside.origin, *(w for _, w in marks.aside.reading.problems)]
    without = f" EXCLUDE ({', '.join(map(quote, hidden))})" if hidden else ""
    return (
        f'SELECT {text_literal(path)} AS "__source_file", {shown}*{without}, {reason_sql(columns)} '
        f"AS {quote(reason)} FROM {prepared(numbered(scan), columns)} WHERE {bad(columns)}"
    )


def _broken_select_sql(
    path: str,
    scan: str,
    marks: Marks | None,
    aside: Sequence[Judge],
    ruled: contract.JudgedSql,
    *,
    reason: str,
) -> str:
    """SQL of the rows of a file that break its contract, as `_bad_select_sql` of those that break
    S1."""
    shown, hidden = "", list[str]()
    if marks is not None:
        shown = f'{quote(marks.line)} AS "__line", {marks.aside.expr} AS "__text", '
        hidden = [marks.line, marks.aside.origin, *(w for _, w in marks.aside.reading.problems)]
    without = f" EXCLUDE ({', '.join(map(quote, hidden))})" if hidden else ""
    broken = (
        f'SELECT {ROW} AS "__broken_row", {contract.reason_sql(aside, ruled)} AS "__why" '
        f"FROM {ruled.relation} WHERE {ruled.any_broken}"
    )
    return (
        f'SELECT {text_literal(path)} AS "__source_file", {shown}rows_.*{without}, '
        f'broken_."__why" AS {quote(reason)} FROM {numbered(scan)} AS rows_ '
        f'JOIN ({broken}) AS broken_ ON rows_.{ROW} = broken_."__broken_row"'
    )
