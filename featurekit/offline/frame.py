"""Turns a frame of entities and instants into a checked temporary table of DuckDB (S1, S2, T1)."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurekit.core.calls import found as shown_value
from featurekit.core.frames import INSTEAD, dense, is_column_of_pandas, is_frame, table_of
from featurekit.core.missing import no_file
from featurekit.core.samples import row_in_python, row_in_words, to_give
from featurekit.core.sql import quote
from featurekit.core.tables import fetch
from featurekit.core.types import DATETIME, Type
from featurekit.errors import EntityFrameError, SourceError
from featurekit.offline.csv_frame import csv_frame, is_csv
from featurekit.offline.own_columns import carried_table
from featurekit.sources import parquet
from featurekit.sources.arrow import faults_of, pandas_column, plain, plain_table, python_column
from featurekit.sources.check import (
    BadRow,
    Column,
    Summary,
    column,
    first_bad,
    first_line,
    instant_column,
    numbered,
    select_sql,
    summarise,
    unreadable,
)
from featurekit.sources.protocol import FileColumn
from featurekit.sources.readings import found_hint

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

INSTANT = "event_timestamp"
_FRAMES = itertools.count()


@dataclass(frozen=True, slots=True)
class EntityFrame:
    """A frame in DuckDB: TEMP TABLE `table` (a quoted name) with `rows` rows, and where it came
    from.

    The table holds `__rid` BIGINT, 0..rows-1 in the frame's order, `__t` BIGINT microseconds UTC,
    and the join keys and request fields in their canonical types. `original` is the frame as given.
    `arrow` has all its columns as they are carried, or is None for a Parquet file, which is `path`.
    """

    table: str
    rows: int
    original: Any
    arrow: pa.Table | None
    path: Path | None


@dataclass(frozen=True, slots=True)
class _Scan:
    sql: str
    found: Mapping[str, FileColumn]
    arrow: pa.Table | None = None
    path: Path | None = None


def load_frame(
    con: duckdb.DuckDBPyConnection,
    frame: Any,
    *,
    join_keys: Mapping[str, Type],
    request: Mapping[str, Type],
    timezone: str = "UTC",
) -> EntityFrame:
    """The frame as a TEMP TABLE of `con`, in its own order; see `EntityFrame`.

    `frame` is a pandas or polars frame, anything with an Arrow stream, a DuckDB relation, a list of
    dicts, a dict of columns, or the path of a Parquet or CSV file; of a CSV file, the columns that
    are not asked for are text as it is written. Naive instants are read in `timezone` (T1). A row
    with a null key is kept (S2). Raises `EntityFrameError` for a missing column, a wrong type, a
    null or impossible instant, and a row whose request field breaks S1.
    """
    wanted = {**{key: type_.or_none() for key, type_ in join_keys.items()}, **request}
    name = f"__frame_{next(_FRAMES)}"
    scan = _scan(con, frame, wanted, timezone, registered=f"{name}_arrow")
    try:
        columns = _columns(scan.found, wanted, timezone)
        summary = _checked(con, scan, columns)
        select = select_sql(
            numbered(scan.sql),
            columns,
            span=summary.span,
            drop_bad=False,
            also='"__source_row"::BIGINT AS "__rid", ',
        )
        fetch(con, f"CREATE TEMP TABLE {quote(name)} AS {select}")
    finally:
        if scan.path is None:
            con.unregister(f"{name}_arrow")
    return EntityFrame(quote(name), summary.rows, frame, scan.arrow, scan.path)


def _refuse(reason: str) -> EntityFrameError:
    return EntityFrameError(f"entity frame: {reason}")


def _scan(
    con: duckdb.DuckDBPyConnection,
    frame: Any,
    wanted: Mapping[str, Type],
    timezone: str,
    *,
    registered: str,
) -> _Scan:
    if isinstance(frame, (str, os.PathLike)):
        path = Path(frame)
        if not path.is_file():
            said = no_file(path) if not path.exists() else f"{str(path)!r} is a folder, no file"
            raise _refuse(said)
        if not is_csv(path):
            return _parquet_scan(con, path, wanted)
        frame = csv_frame(path, {**wanted, INSTANT: DATETIME})
    if isinstance(frame, (list, tuple)):
        table, own, found = _from_dicts(frame, wanted, timezone)
        arrow = carried_table(own)
    elif isinstance(frame, Mapping):
        table, own, found = _from_columns(frame, wanted, timezone)
        arrow = carried_table(own)
    else:
        if not is_frame(frame):
            raise _refuse(
                f"{type(frame).__name__} is no frame; give a pandas, polars or Arrow table, a "
                "DuckDB relation, a list of dicts, a dict of columns or the path of a Parquet or "
                "CSV file"
            )
        arrow = carried_table(table_of(frame, refuse=_refuse))
        index = [name for name in getattr(getattr(frame, "index", None), "names", ()) if name]
        names = _needed(arrow.column_names, wanted, index)
        needed = {name: wanted.get(name, DATETIME) for name in names}
        table, found, faults = plain_table(frame, arrow, needed, zone_name=timezone)
        if faults:
            type_ = needed.get(faults[0].column or INSTANT, DATETIME)
            raise _refuse(f"{faults[0]}; {to_give(type_.base)}")
    con.register(registered, table)
    sql = quote(registered)
    described = fetch(con, f"DESCRIBE SELECT * FROM {sql}")
    columns = {
        name: FileColumn(found.get(name, type_), held)
        for name, (held, type_, *_) in zip(table.column_names, described, strict=True)
    }
    return _Scan(sql, columns, arrow=arrow)


def _parquet_scan(con: duckdb.DuckDBPyConnection, path: Path, wanted: Mapping[str, Type]) -> _Scan:
    absolute = str(path.absolute())
    try:
        found = parquet.columns(con, absolute, wanted)
    except SourceError as error:
        raise _refuse(str(error)) from None
    return _Scan(parquet.scan([absolute], found), found, path=path)


def _needed(
    names: Sequence[str], wanted: Mapping[str, Type], index: Sequence[str] = ()
) -> list[str]:
    """The columns to read; `EntityFrameError` if the frame lacks one. `index` has the names of a
    pandas frame's index, which is no column."""
    for name in (INSTANT, *wanted):
        if name not in names:
            what = "the instant of each row" if name == INSTANT else str(wanted[name].base)
            if name in index:
                raise _refuse(
                    f"{name!r} ({what}) is the index of the frame and no column; write "
                    "frame.reset_index()"
                )
            raise _refuse(f"there is no column {name!r} ({what}); {_lacking(name, names, wanted)}")
    return list(dict.fromkeys((INSTANT, *wanted)))


def _lacking(name: str, names: Sequence[str], wanted: Mapping[str, Type]) -> str:
    """What to do about a column that a frame lacks."""
    spare = [one for one in names if isinstance(one, str) and one not in (INSTANT, *wanted)]
    close = get_close_matches(name, spare, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}? Rename it to {name!r}"
    sample = "2026-10-04T12:00:00Z" if name == INSTANT else row_in_words({name: wanted[name]})
    add = f"add it, with a value in each row, such as {sample.partition('=')[2] or sample}"
    return f"it has {', '.join(names) or 'no columns'}; {add}"


def _check_names(names: Iterable[Any]) -> None:
    """EntityFrameError for the name of a column that is no text."""
    for name in names:
        if not isinstance(name, str):
            raise _refuse(f"a column is named {name!r}, which is no text")


def _row(wanted: Mapping[str, Type]) -> str:
    """A row of a frame, to copy."""
    return row_in_python({name: t.base for name, t in wanted.items()} | {INSTANT: DATETIME})


def _from_dicts(
    rows: Sequence[Any], wanted: Mapping[str, Type], timezone: str
) -> tuple[pa.Table, pa.Table, dict[str, str]]:
    import pyarrow as pa

    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise _refuse(
                f"row {number} (the first is 0) is {type(row).__name__}, not a dict; write "
                f"{_row(wanted)}"
            )
        missing = [name for name in (INSTANT, *wanted) if name not in row]
        if missing:
            spare = [str(n) for n in row if n not in (INSTANT, *wanted)]
            close = get_close_matches(missing[0], spare, n=1, cutoff=0.5)
            meant = f" and has {close[0]!r}: did you mean {missing[0]!r}?" if close else ""
            raise _refuse(
                f"row {number} (the first is 0) lacks {missing[0]!r}{meant or ';'} "
                f"{'W' if meant else 'w'}rite {_row(wanted)}"
            )
    read, plain_arrays, found = {}, {}, {}
    for name in _needed((INSTANT, *wanted), wanted):
        type_ = wanted.get(name, DATETIME)
        values = [row[name] for row in rows]
        array, faults = python_column(values, name, type_, zone_name=timezone)
        if faults:
            raise _refuse(f"{faults[0]}; {to_give(type_.base)}")
        read[name] = array
        plain_arrays[name], kind = plain(array)
        if kind is not None:
            found[name] = kind
    names = dict.fromkeys(name for row in rows for name in row)
    _check_names(names)
    arrow = {name: read[name] if name in read else _inferred(rows, name) for name in names}
    return pa.table(plain_arrays), pa.table(arrow or read), found


def _from_columns(
    columns: Mapping[Any, Any], wanted: Mapping[str, Type], timezone: str
) -> tuple[pa.Table, pa.Table, dict[str, str]]:
    import pyarrow as pa

    _check_names(columns)
    needed = _needed(list(columns), wanted)
    read, plain_arrays, found = {}, {}, {}
    faults: list[BadRow] = []
    for name, values in columns.items():
        type_ = wanted.get(name, DATETIME) if name in needed else None
        kind, values = None, dense(values)
        if isinstance(values, (list, tuple)) and type_ is not None:
            read[name], faults = python_column(values, name, type_, zone_name=timezone)
        else:
            read[name] = _array(values, name)
        if type_ is not None and is_column_of_pandas(values):
            plain_arrays[name], kind, faults = pandas_column(
                values, name, type_, zone_name=timezone
            )
        elif type_ is not None:
            plain_arrays[name], kind = plain(read[name])
            faults = faults or faults_of(read[name], name)
        if faults:
            raise _refuse(f"{faults[0]}; {to_give((type_ or DATETIME).base)}")
        if kind is not None:
            found[name] = kind
    lengths = {name: len(array) for name, array in read.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name!r} {n}" for name, n in lengths.items())
        raise _refuse(f"its columns are not equally long: {shown}")
    return pa.table(plain_arrays), pa.table(read), found


def _array(values: Any, name: str) -> pa.Array:
    """The values of a column, a list or an array of any library, as an array of Arrow."""
    import pyarrow as pa

    if isinstance(values, (str, bytes, Mapping)) or not hasattr(values, "__len__"):
        raise _refuse(
            f"a dict of columns has a list or an array for each, and {name!r} is "
            f"{shown_value(values)}; write [{shown_value(values)}]"
        )
    try:
        made = pa.array(values)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise _refuse(f"the column {name!r} has no Arrow type ({error})") from None
    return made


def _inferred(rows: Sequence[Mapping[str, Any]], name: str) -> pa.Array:
    import pyarrow as pa

    try:
        return pa.array([row.get(name) for row in rows])
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise _refuse(f"the column {name!r} has no Arrow type ({error})") from None


def _columns(
    found: Mapping[str, FileColumn], wanted: Mapping[str, Type], timezone: str
) -> list[Column]:
    _needed(list(found), wanted)
    there = found[INSTANT]
    instant = instant_column("__t", INSTANT, there.type, zone_name=timezone, held=there.held)
    columns = [instant or _misfit(INSTANT, there.type, DATETIME)]
    for name, type_ in wanted.items():
        there = found[name]
        made = column(name, name, there.type, type_, zone_name=timezone, held=there.held)
        columns.append(made or _misfit(name, there.type, type_))
    return columns


def _misfit(name: str, found: str, type_: Type) -> Column:
    if type_.name == "datetime" and found == "VARCHAR":
        raise _refuse(
            f"column {name!r}: expected datetime, found {found}; make instants of its texts, as by "
            f'pandas.to_datetime(frame["{name}"], utc=True), whatever their offsets from UTC are'
        )
    raise _refuse(
        f"column {name!r}: expected {type_.base}, found {found}; cast the frame's column"
        if not found.startswith("DECIMAL") and found not in INSTEAD
        else f"column {name!r}: expected {type_.base}, found {found}; {found_hint(found, type_)}"
    )


def _checked(con: duckdb.DuckDBPyConnection, scan: _Scan, columns: Sequence[Column]) -> Summary:
    import duckdb

    try:
        summary = summarise(con, scan.sql, columns)
    except duckdb.Error as error:
        if scan.path is None or not unreadable(error):
            raise
        faults = parquet.rejected(con, str(scan.path), scan.found)
        reason = str(faults[0][0]) if faults else f"cannot be read ({first_line(error)})"
        raise _refuse(f"{scan.path}: {reason}") from None
    if summary.bad:
        fault = first_bad(con, scan.sql, columns)
        raise _refuse(f"{fault}; mend the row or leave it out")
    return summary
