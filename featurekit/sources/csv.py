"""Turns CSV files into scans of text, and text strictly into values of declared types (S1).

A header is required. An unquoted empty field is null, a quoted one is the empty string.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurekit.core.sql import paths_sql, quote, text_literal, unquoted
from featurekit.core.tables import fetch
from featurekit.core.types import INSTANT_MAX, INSTANT_MIN, Type
from featurekit.errors import SourceError
from featurekit.sources.check import BadRow, shortened
from featurekit.sources.files import snapshot
from featurekit.sources.readings import NAN, Reading, Span, naive

if TYPE_CHECKING:
    import duckdb

__all__ = ["columns", "reading", "rejected", "rewrite", "scan", "snapshot", "without"]

TEXT = "CSV text"
_REJECTS = count()
_INT = "[+-]?[0-9]+"
# The texts that float() reads, without underscores, and with blanks as the only spaces.
_FLOAT = r"(?i) *[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|inf|infinity|nan) *"
_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_HOUR, _SIXTY = "(?:[01][0-9]|2[0-3])", "[0-5][0-9]"
_INSTANT = (
    f"^({_DATE})(?:[ T]({_HOUR}:{_SIXTY})(?::({_SIXTY})(?:[.,]([0-9]+))?)?"
    f" ?(Z|z|[+-]{_HOUR}(?::?{_SIXTY}(?::?{_SIXTY})?)?)?)?$"
)


def columns(
    con: duckdb.DuckDBPyConnection, path: str, schema: Mapping[str, Type]
) -> dict[str, str]:
    """The columns that the file's header names, all of text. SourceError for a header that cannot
    be read, is empty or repeats a name."""
    del con, schema
    try:
        with Path(path).open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            header = next(csv.reader(file, strict=True), [])
        "".join(header).encode()
    except (OSError, UnicodeEncodeError, csv.Error) as error:
        raise SourceError(
            f"{path}: its first line cannot be read as a CSV header ({error})"
        ) from None
    doubled = {name for name in header if header.count(name) > 1}
    if not header or doubled:
        what = f"names {sorted(doubled)[0]!r} twice" if doubled else "is empty"
        raise SourceError(f"{path}: its first line {what}; write a header of distinct names")
    seen: dict[bytes, str] = {}
    for name in header:  # DuckDB cannot scan names that differ in ASCII case alone
        other = seen.setdefault(name.encode().lower(), name)
        if other != name:
            raise SourceError(
                f"{path}: its columns {other!r} and {name!r} differ in case alone, and cannot be "
                "read so; rename one of them"
            )
    return dict.fromkeys(header, TEXT)


def scan(paths: Sequence[str], found: Mapping[str, str]) -> str:
    """A FROM item over files with equal headers; every column is VARCHAR."""
    return _scan(paths, found)


def _scan(paths: Sequence[str], found: Mapping[str, str], *options: str) -> str:
    columns = ", ".join(f"{text_literal(name)}: 'VARCHAR'" for name in found)
    fixed = (
        "header=true, auto_detect=false, delim=',', quote='\"', escape='\"', nullstr='', "
        "allow_quoted_nulls=false, hive_partitioning=false, union_by_name=false"
    )
    listed = ", ".join([paths_sql(paths), f"columns={{{columns}}}", fixed, *options])
    return f"read_csv({listed})"


def rejected(
    con: duckdb.DuckDBPyConnection, path: str, found: Mapping[str, str]
) -> list[tuple[BadRow, dict[str, Any]]]:
    """The lines that DuckDB rejects: they are not UTF-8, or have too few or too many fields."""
    number = next(_REJECTS)
    errors, scans = f"__csv_rejects_{number}", f"__csv_scans_{number}"
    options = (
        "ignore_errors=true",
        "store_rejects=true",
        f"rejects_table={text_literal(errors)}",
        f"rejects_scan={text_literal(scans)}",
    )
    every = " OR ".join(f"{quote(name)} IS NULL" for name in found)
    fetch(con, f"SELECT count(*) FILTER ({every}) FROM {_scan([path], found, *options)}")
    rows = fetch(
        con,
        f"SELECT line, column_name, error_message, csv_line FROM {quote(errors)} "
        "ORDER BY line, error_message",
    )
    fetch(con, f"DROP TABLE {quote(errors)}")
    fetch(con, f"DROP TABLE {quote(scans)}")
    faults: dict[int, tuple[BadRow, dict[str, Any]]] = {}
    for line, name, message, text in rows:
        shown = shortened(repr(text))
        fault = BadRow(line - 2, name or next(iter(found)), message.split("\n")[0], shown)
        faults.setdefault(line, (fault, {"line": text}))
    return list(faults.values())


def without(path: str, found: Mapping[str, str], rows: Sequence[int], *, copy: Path) -> str:
    """A FROM item over the lines of the file that are not in `rows`."""
    del rows, copy
    return _scan([path], found, "ignore_errors=true")


def rewrite(path: Path, target: Path, rows: Collection[int]) -> None:
    """Write the file without some rows; every other line stays as it is, byte for byte."""
    removed = frozenset(rows)
    with path.open("rb") as file, target.open("wb") as out:
        number = -1  # the header
        for record in _records(file):
            if not record.strip():
                out.write(record)  # an empty line is no row
                continue
            if number not in removed:
                out.write(record)
            number += 1


def _records(lines: Any) -> Iterator[bytes]:
    """The records of a CSV file, each with its line end; a quoted field may contain line ends."""
    record = b""
    for line in lines:
        record += line
        if record.count(b'"') % 2 == 0:
            yield record
            record = b""
    if record:
        yield record


def reading(expr: str, found: str, type_: Type, *, zone_name: str) -> Reading | None:
    """How a column of text is read as `type_`; None for bytes, timedeltas and lists (S1)."""
    del found
    match type_.name:
        case "str":
            return Reading(lambda _: expr, touch=f"{expr} IS NULL")
        case "int":
            return _parsed(expr, _INT, f"TRY_CAST({expr} AS BIGINT)", "no int of 64 bits")
        case "float":
            number = f"TRY_CAST(trim({expr}) AS DOUBLE)"
            value = f"CASE WHEN isnan({number}) THEN {NAN} ELSE {number} END"
            return _parsed(expr, _FLOAT, value, "no float")
        case "bool":
            value = f"CASE lower({expr}) WHEN 'true' THEN true WHEN 'false' THEN false END"
            return _parsed(expr, "(?i)true|false", value, "neither true nor false")
        case "date":
            date = f"TRY_CAST({expr} AS DATE)"
            value = f"CASE WHEN {date} >= DATE '0001-01-01' THEN {date} END"
            return _parsed(expr, _DATE, value, "no ISO date, as in 2011-03-27")
        case "datetime":
            return _instant(expr, zone_name)
    return None


def _parsed(expr: str, pattern: str, value: str, reason: str) -> Reading:
    # The pattern decides: DuckDB's casts accept '2.5' and '1_0' as ints.
    fits = f"regexp_full_match({expr}, {text_literal(pattern)})"
    misfit = f"{expr} IS NOT NULL AND (NOT {fits} OR ({value}) IS NULL)"
    return Reading(lambda _: value, ((misfit, reason),))


def _instant(expr: str, zone_name: str) -> Reading:
    """Text with an offset is an instant; without one it is read in the source's zone (T1).

    DuckDB's own cast of '…+02:00' to TIMESTAMP drops the offset.
    """
    names = [f"{what}_{unquoted(expr)}" for what in ("__local", "__instant")]
    local, instant = map(quote, names)
    parts = f"regexp_extract({expr}, {text_literal(_INSTANT)}, ['d', 't', 's', 'f', 'o'])"
    time = f"CASE WHEN {parts}.t = '' THEN '00:00' ELSE {parts}.t END"
    seconds = f"CASE WHEN {parts}.s = '' THEN '00' ELSE {parts}.s END"
    whole = f"TRY_CAST({parts}.d || ' ' || {time} || ':' || {seconds} AS TIMESTAMP)"
    # Digits beyond the sixth are dropped; for a positive fraction this floors.
    micros = f"TRY_CAST(rpad(left({parts}.f, 6), 6, '0') AS BIGINT)"
    base = f"({whole} + to_microseconds({micros}))"
    prepared = (
        (names[0], f"CASE WHEN {parts}.o = '' THEN {base} END"),
        (
            names[1],
            f"CASE WHEN {parts}.o <> '' THEN epoch_us({base}) - {_offset(f'{parts}.o')} END",
        ),
    )
    there = naive(local, zone_name)
    assert there.micros is not None
    of_local = there.micros

    def us(span: Span | None) -> str:
        return f"coalesce({instant}, {of_local(span)})"

    unread = f"{expr} IS NOT NULL AND {local} IS NULL AND {instant} IS NULL"
    outside = f"{instant} < {INSTANT_MIN} OR {instant} > {INSTANT_MAX}"
    return Reading(
        lambda span: f"make_timestamp({us(span)})",
        (
            (unread, "no ISO 8601 instant, as in 2011-03-27 01:30:00 or 2011-03-27T01:30:00+01:00"),
            (outside, "an instant outside the years 1 to 9999"),
            *there.problems,
        ),
        micros=us,
        span=there.span,
        prepared=prepared,
    )


def _offset(text: str) -> str:
    """Microseconds of an offset such as Z, +02, +0200, +02:00 or +02:00:30."""
    digits = f"rpad(regexp_replace({text}, '[^0-9]', '', 'g'), 6, '0')"
    part = "TRY_CAST(substr({digits}, {at}, 2) AS BIGINT)"
    hours, minutes, seconds = (part.format(digits=digits, at=at) for at in (1, 3, 5))
    sign = f"(CASE WHEN {text}[1] = '-' THEN -1000000 ELSE 1000000 END)"
    return f"{sign} * ({hours} * 3600 + {minutes} * 60 + {seconds})"
