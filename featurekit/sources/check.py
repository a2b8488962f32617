"""Turns a scan and the readings of its columns into good rows, and says which rows are bad (S1).

Files, pushes and entity frames share this module, so S1 is written once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from featurekit.core.formats import EpochFormat, Format, TextFormat
from featurekit.core.sql import quote, text_literal
from featurekit.core.tables import fetch
from featurekit.core.types import DATETIME, EPOCH, MICROSECOND, Type
from featurekit.sources.readings import (
    TEXTS,
    Reading,
    Span,
    among,
    date_instants,
    epoch_instants,
    epoch_text_instants,
    reading,
    text_instants,
)

if TYPE_CHECKING:
    import duckdb

ROW = '"__source_row"'
OPS = ("upsert", "delete")
NO_OP = 'neither "upsert" nor "delete"'


class ReasonInRow(str):
    """The name of a scan's column that says why a row is bad."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Column:
    """A column to make: its name, its type, the file's column that it comes from, and how it is
    read. A column without a name is checked and not made. `held` is the name that the scan gives
    the file's column, if that is another one."""

    name: str
    origin: str
    type: Type
    reading: Reading
    as_micros: bool = False
    held: str | None = None

    @property
    def expr(self) -> str:
        """The scan's column that it comes from, quoted."""
        return quote(self.origin if self.held is None else self.held)

    def sql(self, span: Span | None) -> str:
        """The select item of the canonical value."""
        build = self.reading.micros if self.as_micros else self.reading.value
        assert build is not None, self.name
        return f"{build(span)} AS {quote(self.name)}"

    @property
    def problems(self) -> tuple[tuple[str, str], ...]:
        """The reading's problems; null is one too, if the type does not allow it."""
        if self.type.optional:
            return self.reading.problems
        return ((f"{self.expr} IS NULL", _null_reason(self)), *self.reading.problems)


@dataclass(frozen=True, slots=True)
class Marks:
    """Columns of a scan that are no columns of the file: `line` names the one with the number of
    the row's line, and `aside` checks the one that says why the reader set the row aside."""

    line: str
    aside: Column


@dataclass(frozen=True, slots=True)
class BadRow:
    """The first row that breaks S1: its number (the first row is 0), the line of the file where it
    has one, its column (None for the whole row), fault and value."""

    row: int
    column: str | None
    reason: str
    value: str | None
    line: int | None = None

    def __str__(self) -> str:
        where = f"row {self.row} (the first is 0)"
        if self.line is not None:
            where += f", line {self.line}"
        if self.column is not None:
            where += f", column {self.column!r}"
        if self.value is None:
            return f"{where}: {self.reason}"
        reason, sign, more = self.reason.partition("; ")
        return f"{where}: {reason}: {self.value}{sign}{more}"

    @property
    def why(self) -> str:
        """The column and the fault."""
        return self.reason if self.column is None else f"{self.column}: {self.reason}"


def _null_reason(column: Column) -> str:
    return "null as an instant" if column.as_micros else f"null in a column declared {column.type}"


def prepared(scan: str, columns: Sequence[Column]) -> str:
    """The FROM item of `scan`, with the columns that the readings need computed first."""
    wanted = dict(pair for column in columns for pair in column.reading.prepared)
    if not wanted:
        return scan
    items = ", ".join(f"{sql} AS {quote(alias)}" for alias, sql in wanted.items())
    return f"(SELECT *, {items} FROM {scan})"


def bad(columns: Sequence[Column]) -> str:
    """The predicate of bad rows: true for a bad row, null or false for a good one."""
    conditions = dict.fromkeys(c for column in columns for c, _ in column.problems)
    return " OR ".join(f"({c})" for c in conditions) or "false"


@dataclass(frozen=True, slots=True)
class Summary:
    """The result of one scan: the number of rows and of bad rows, and the spans of naive local
    times."""

    rows: int
    bad: int
    span: Span | None


def summary_sql(scan: str, columns: Sequence[Column]) -> str:
    """SQL of one aggregate over the scan: rows, bad rows, the least and greatest local time in µs
    of each span, and the expressions that only have to be read."""
    spans = dict.fromkeys(c.reading.span for c in columns if c.reading.span is not None)
    touches = dict.fromkeys(c.reading.touch for c in columns if c.reading.touch is not None)
    items = [
        "count(*)",
        f"count(*) FILTER ({bad(columns)})",
        *(f"{{'low': min({low}), 'high': max({high})}}" for low, high in spans),
        *(f"count(*) FILTER ({touch})" for touch in touches),
    ]
    return f"SELECT {', '.join(items)} FROM {prepared(scan, columns)}"


def summarise(con: duckdb.DuckDBPyConnection, scan: str, columns: Sequence[Column]) -> Summary:
    """Check every row of the scan in one pass (S1); returns the counts and spans."""
    rows, bad_rows, *more = fetch(con, summary_sql(scan, columns))[0]
    # A span without a local time is all null; then DuckDB is not asked for the least of nulls.
    spans = [s for s in more if isinstance(s, dict) and s["low"] is not None]
    if not spans:
        return Summary(rows, bad_rows, None)
    start = EPOCH.replace(tzinfo=None)
    low, high = min(s["low"] for s in spans), max(s["high"] for s in spans)
    return Summary(rows, bad_rows, (start + low * MICROSECOND, start + high * MICROSECOND))


def reason_sql(columns: Sequence[Column]) -> str:
    """SQL for why a row is bad: its first fault, as "column: reason"."""
    cases = " ".join(
        f"WHEN {condition} THEN {_said_sql(column.origin, reason)}"
        for column in columns
        for condition, reason in column.problems
    )
    return f"CASE {cases} END"


def _said_sql(origin: str, reason: str) -> str:
    if isinstance(reason, ReasonInRow):
        return quote(reason)
    return text_literal(f"{origin}: {reason}")


def numbered(scan: str) -> str:
    """The scan with each row's number in it, from 0."""
    return f"(SELECT *, row_number() OVER () - 1 AS {ROW} FROM {scan})"


def first_bad(
    con: duckdb.DuckDBPyConnection,
    scan: str,
    columns: Sequence[Column],
    marks: Marks | None = None,
) -> BadRow | None:
    """The first bad row of a scan with its first fault, or None (S1)."""
    faults = [(c, condition, why) for c in columns for condition, why in c.problems]
    if not faults:
        return None
    which = " ".join(f"WHEN {condition} THEN {i}" for i, (_, condition, _) in enumerate(faults))
    source = prepared(numbered(scan), columns)
    rows = fetch(
        con,
        f"SELECT {ROW}, CASE {which} END FROM {source} WHERE {bad(columns)} ORDER BY {ROW} LIMIT 1",
    )
    if not rows:
        return None
    row, index = rows[0]
    column, _, reason = faults[index]
    told = quote(reason) if isinstance(reason, ReasonInRow) else "NULL"
    line = "NULL" if marks is None else quote(marks.line)
    shown, told, line = fetch(
        con,
        f"SELECT {column.expr}::VARCHAR, {told}, {line} FROM {numbered(scan)} "
        f"WHERE {ROW} = {row} LIMIT 1",
    )[0]
    value = None if shown is None else shortened(repr(shown))
    if isinstance(reason, ReasonInRow):
        return BadRow(row, None, told, value, line)
    return BadRow(row, column.origin, reason, value, line)


def shortened(text: str) -> str:
    """A value for an error message, at most 80 characters long."""
    return text if len(text) <= 80 else text[:77] + "..."


def select_sql(
    scan: str, columns: Sequence[Column], *, span: Span | None, drop_bad: bool, also: str = ""
) -> str:
    """SQL of the scan's rows as canonical values; `drop_bad` leaves out the bad ones."""
    items = also + ", ".join(column.sql(span) for column in columns if column.name)
    where = f" WHERE ({bad(columns)}) IS NOT TRUE" if drop_bad else ""
    return f"SELECT {items} FROM {prepared(scan, columns)}{where}"


def column(
    name: str,
    origin: str,
    found: str,
    type_: Type,
    *,
    zone_name: str,
    read: Callable[..., Reading | None] = reading,
    held: str | None = None,
) -> Column | None:
    """The column `name` read from `origin`; None if the found type does not fit."""
    expr = quote(origin if held is None else held)
    how = read(expr, found, type_, zone_name=zone_name)
    return None if how is None else Column(name, origin, type_, among(how, type_), held=held)


def op_column(made: Column) -> Column:
    """The column of ops; a value other than "upsert" and "delete" is bad (T7)."""
    wrong = f"({made.reading.value(None)}) NOT IN ({', '.join(map(text_literal, OPS))})"
    problems = (*made.reading.problems, (wrong, NO_OP))
    return replace(made, reading=replace(made.reading, problems=problems))


def instant_column(
    name: str,
    origin: str,
    found: str,
    *,
    zone_name: str,
    read: Callable[..., Reading | None] = reading,
    held: str | None = None,
    format_: Format | None = None,
    dates: bool = False,
) -> Column | None:
    """The column `name` of microseconds UTC, never null, read from `origin`; None if the found type
    does not fit."""
    expr = quote(origin if held is None else held)
    how = instant_reading(expr, found, zone_name=zone_name, read=read, format_=format_, dates=dates)
    return None if how is None else Column(name, origin, DATETIME, how, as_micros=True, held=held)


def instant_reading(
    expr: str,
    found: str,
    *,
    zone_name: str,
    read: Callable[..., Reading | None] = reading,
    format_: Format | None = None,
    dates: bool = True,
) -> Reading | None:
    """How a column of timestamps is read: by its own type, by its declared format where it holds
    texts or numbers, or as the midnights of dates, with `dates` (T1). None if the found type does
    not fit."""
    if isinstance(format_, TextFormat) and found in TEXTS:
        return text_instants(expr, format_, zone_name)
    if isinstance(format_, EpochFormat):
        if found in TEXTS:
            return epoch_text_instants(expr, format_)
        numbers = epoch_instants(expr, found, format_)
        if numbers is not None:
            return numbers
    if found == "DATE" and dates:
        return date_instants(expr, zone_name)
    return read(expr, found, DATETIME, zone_name=zone_name)


def first_line(error: Exception) -> str:
    """The first line of a library's error, to quote in an error of featurekit."""
    return str(error).strip().split("\n", 1)[0]


def unreadable(error: duckdb.Error) -> bool:
    """Whether the data caused an error of a scan; other errors are bugs, or the machine's."""
    import duckdb

    data = (
        duckdb.InvalidInputException,
        duckdb.IOException,
        duckdb.ConversionException,
        duckdb.NotImplementedException,
        duckdb.SerializationException,
    )
    # For a page with a broken Thrift header DuckDB raises the bare base class.
    return isinstance(error, data) or type(error) is duckdb.Error
