"""Turns a table or a query of a SQLite database into Arrow batches of declared types.

SQLite has the type of a value and not of a column. So each value is read as a push reads it (S1),
and a row with one that does not fit is marked with the reason. SQLite itself has no bool, which is
0 or 1 there, and no date, which is a text; it makes NULL of NaN.
"""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from featurekit.core.coerce import Misfit, canonical
from featurekit.core.sql import quote
from featurekit.core.types import STR, Type
from featurekit.core.written import placed
from featurekit.define.definitions import EventSource
from featurekit.errors import SourceError
from featurekit.sources.check import first_line, shortened
from featurekit.sources.origins.copies import (
    BATCH,
    check_case,
    check_columns,
    check_table,
    nothing_own,
    own_fields,
    rows_sql,
    where_of,
)
from featurekit.sources.origins.database_file import FileSnapshot, file_of

if TYPE_CHECKING:
    import pyarrow as pa

_PLAIN: dict[str, type] = {"int": int, "float": float, "str": str, "bytes": bytes}
"""The class that SQLite gives of a value of a type."""


@dataclass(frozen=True, slots=True)
class _Snapshot(FileSnapshot):
    """A database inside of one read transaction."""

    beside: ClassVar[tuple[str, ...]] = ("-wal", "-journal")

    def batches(
        self, wanted: Mapping[str, Type], *, most: int | None
    ) -> tuple[pa.Schema, Iterable[pa.RecordBatch]]:
        """See `Opened.batches`."""
        import pyarrow as pa

        rows = rows_sql(self.source)
        self._check_table(rows)
        # Of the query itself: as a part of another one, SQLite renames columns of the same name.
        asked = getattr(self.source.origin, "query", None) or f"SELECT * FROM {rows} LIMIT 0"
        there = [name for name, *_ in self._ask(asked).description]
        check_columns(self.source, there)
        check_case(self.source, there)
        columns = [self._column(name, type_, rows) for name, type_ in wanted.items()]
        schema = pa.schema([*((c.name, c.arrow) for c in columns), *own_fields()])
        limit = "" if most is None else f" LIMIT {most}"
        cursor = self._ask(f"SELECT {', '.join(quote(c.name) for c in columns)} FROM {rows}{limit}")
        return schema, self._batches(cursor, columns, schema)

    def _check_table(self, rows: str) -> None:
        """SourceError, with the tables that there are, where there is none of the source's name."""
        try:
            self.con.execute(f"SELECT 1 FROM {rows} LIMIT 0")
        except sqlite3.Error:
            named = "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') ORDER BY name"
            check_table(self.source, [name for (name,) in self._ask(named)])

    def _batches(
        self, cursor: sqlite3.Cursor, columns: Sequence[_Column], schema: pa.Schema
    ) -> Iterator[pa.RecordBatch]:
        try:
            while rows := cursor.fetchmany(BATCH):
                yield _batch(rows, columns, schema)
        except sqlite3.Error as error:
            raise _unreadable(self.source, error) from None

    def _ask(self, sql: str) -> sqlite3.Cursor:
        try:
            found: sqlite3.Cursor = self.con.execute(sql)
        except sqlite3.Error as error:
            raise _unreadable(self.source, error) from None
        return found

    def _column(self, name: str, type_: Type, rows: str) -> _Column:
        """How a column is read. Of timestamps the first value decides whether they are texts or
        numbers; which of them a source reads is said by its `timestamp_format` (T1)."""
        import pyarrow as pa

        if type_.name in ("timedelta", "list", "dict"):
            raise SourceError(
                f"{where_of(self.source)}, column {name!r}: SQLite has no form for {type_}; keep "
                "such values in a DuckDB database or in Parquet"
            )
        if type_.name == "datetime":
            there = f"FROM {rows} WHERE {quote(name)} IS NOT NULL LIMIT 1"
            (held,) = self._ask(f"SELECT typeof({quote(name)}) {there}").fetchone() or ("null",)
            kinds = {"integer": (int, pa.int64()), "real": (float, pa.float64())}
            class_, arrow = kinds.get(held, (str, pa.string()))
            return _Column(name, class_, arrow, partial(_stamp, class_=class_))
        if type_.name in ("bool", "date"):
            return _Column(name, None, type_.arrow, _bool if type_.name == "bool" else _date)
        read = partial(canonical, type_=type_.or_none(), zone_name=self.source.timezone)
        plain = _PLAIN[type_.name] if type_.choices is None else None
        return _Column(name, plain, type_.arrow, read)


@dataclass(frozen=True, slots=True)
class _Column:
    """A column: the class whose values are taken as they are, None where each is to be read, the
    type that the copy has, and how one value is read."""

    name: str
    plain: type | None
    arrow: pa.DataType
    read: Callable[[Any], Any]


@contextmanager
def opened(source: EventSource, base: Path) -> Iterator[_Snapshot]:
    """The database of a source, inside of one read transaction. SourceError if it cannot be
    read."""
    path = file_of(source, base)
    try:
        con = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)
    except sqlite3.Error as error:
        raise _unreadable(source, error) from None
    with closing(con):
        con.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")
        made = _Snapshot(con, source, path)
        made._ask("BEGIN")
        yield made


def _unreadable(source: EventSource, error: sqlite3.Error) -> SourceError:
    text = f"{where_of(source)}: it cannot be read ({first_line(error)})"
    return placed(SourceError(text), source.place)


def _batch(
    rows: Sequence[tuple[Any, ...]], columns: Sequence[_Column], schema: pa.Schema
) -> pa.RecordBatch:
    """The rows as a batch; those with a value that does not fit have the reason in the columns of
    `OWN`, and null in place of the value."""
    import pyarrow as pa

    arrays = []
    faults: dict[int, tuple[str, str]] = {}
    for column, values in zip(columns, zip(*rows, strict=True), strict=True):
        made = _plain(values, column)
        if made is None:
            read = [_read(value, column, row, faults) for row, value in enumerate(values)]
            made = pa.array(read, column.arrow)
        arrays.append(made)
    own = nothing_own(len(rows))
    if faults:
        for place in (0, 1):
            texts = [faults[row][place] if row in faults else None for row in range(len(rows))]
            own[place + 1] = pa.array(texts, pa.string())
    return pa.RecordBatch.from_arrays([*arrays, *own], schema=schema)


def _plain(values: Sequence[Any], column: _Column) -> pa.Array | None:
    """The array of values that are all of the column's class or null; None where one is not."""
    import pyarrow as pa

    if column.plain is None or {*map(type, values)} - {column.plain, type(None)}:
        return None
    try:
        return pa.array(values, column.arrow)
    except (UnicodeEncodeError, pa.ArrowInvalid):  # a text that is not UTF-8
        return None


def _read(value: Any, column: _Column, row: int, faults: dict[int, tuple[str, str]]) -> Any:
    if value is None:
        return None
    try:
        return column.read(value)
    except Misfit as reason:
        shown = value if isinstance(value, str) else repr(value)
        text = shown.encode(errors="backslashreplace").decode()  # it may be no UTF-8
        faults.setdefault(row, (f"{column.name}: {reason}", shortened(text)))
        return None


def _bool(value: Any) -> bool:
    if type(value) is not int or value not in (0, 1):
        raise Misfit("expected bool, which SQLite keeps as 0 or 1")
    return bool(value)


def _date(value: Any) -> dt.date:
    if isinstance(value, str) and len(value) == 10:
        try:
            return dt.date.fromisoformat(value)
        except ValueError:
            pass
    raise Misfit('expected date, which SQLite keeps as a text such as "2011-03-27"')


def _stamp(value: Any, *, class_: type) -> Any:
    if type(value) is not class_:
        raise Misfit("a timestamp of another type than those before")
    return canonical(value, STR, zone_name="UTC") if class_ is str else value
