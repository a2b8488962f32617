"""Reads a sample of a source's files with other readers, Arrow's and Python's, and compares it with
what DuckDB read: as many rows, and among them these, bit for bit (S1, S4).

Both paths may take their rows from the same reader: so where it loses or changes one, they agree
with each other.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import itertools
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from featurekit.core import tables
from featurekit.core.tables import Row
from featurekit.core.types import DATETIME, INT, Type, micros
from featurekit.define.definitions import EventSource
from featurekit.define.dialect import Dialect
from featurekit.errors import FeaturekitError
from featurekit.parity.compare import bits
from featurekit.parity.report import Difference, Report
from featurekit.sources import read_events
from featurekit.sources.decoded import opened
from featurekit.sources.files import absent, partitions
from featurekit.sources.origins.copies import FAULT
from featurekit.sources.protocol import FileInfo
from featurekit.sources.raw import value_of
from featurekit.sources.rows import as_pushed

REREAD = "rows read again"
"""What a report calls this opinion."""

_ROWS, _FILES = 200, 3
_CSV_BYTES = 64 * 2**20
"""CSV is read again up to so many bytes: Python takes a second for some ten megabytes."""


def check_reading(
    report: Report,
    con: Any,
    source: EventSource,
    *,
    base: Path,
    state_dir: Path | None,
    rng: random.Random,
) -> None:
    """Compare what DuckDB reads of a source's files with what other readers read."""
    if absent(source, base):
        return  # all of its rows were pushed
    found = read_events(con, source, base=base, state_dir=state_dir)
    files = [f for f in found.files if Path(f.path).is_file()]
    if not files:
        return
    if source.format == "csv" and sum(f.size for f in files) > _CSV_BYTES:
        report.notes.append(f"the CSV files of source {source.name!r} are too large to read again")
        return
    read = con.execute(f"SELECT count(*) FROM {found.relation}").fetchall()[0][0]
    chosen = rng.sample(files, min(len(files), _FILES))
    wanted = -(-_ROWS // len(chosen))
    try:
        there = sum(_count(source, file) for file in files)
        rows = [row for file in chosen for row in _sample(source, file, rng, wanted)]
    except csv.Error as error:
        report.notes.append(
            f"the CSV files of source {source.name!r} are not read again, as Python's reader takes "
            f"them to the end in another way: {error}"
        )
        return
    if read + found.quarantined != there:
        _differ(report, source, "rows", {}, read + found.quarantined, there)
    _check_rows(report, con, source, found.relation, rows)


def _check_rows(
    report: Report, con: Any, source: EventSource, relation: str, rows: Sequence[Row]
) -> None:
    """Look for each row among those that DuckDB read of its instant."""
    report.opinions[REREAD] += len(rows)
    if not rows:
        return
    types = {**source.schema, "__ts": INT, "__created": INT}
    at = ", ".join(sorted({str(row["__ts"]) for row in rows}))
    known = tables.rows(con, relation, types, then=f"WHERE __ts IN ({at})")
    left = Counter(_bits(row, types) for row in known)
    for row in rows:
        mark = _bits(row, types)
        left[mark] -= 1
        if left[mark] < 0:
            near = next((k for k in known if _bits(k, types) not in left or _alike(k, row)), None)
            _differ(report, source, "a row", row, near, row)


def _bits(row: Row, types: Iterable[str]) -> str:
    return repr([bits(_plain(row[name])) for name in types])


def _plain(value: Any) -> Any:
    """A value whose text is one whatever library it comes from: an instant by its microseconds."""
    if isinstance(value, dt.datetime):
        return "instant", micros(value)
    return [_plain(v) for v in value] if isinstance(value, list) else value


def _alike(one: Row, other: Row) -> bool:
    """Whether two rows of one instant have most of their values in common."""
    same = sum(bits(one[name]) == bits(other[name]) for name in one)
    return bool(one["__ts"] == other["__ts"]) and 2 * same > len(one)


def _differ(
    report: Report, source: EventSource, what: str, row: Row, read: Any, there: Any
) -> None:
    label = f"{source.name}: {what} read again"
    report.count(label, compared=1, differing=1)
    shown = {k: v for k, v in row.items() if not k.startswith("__")}
    report.keep(Difference(label, shown, "", (read, "READ"), (there, "READ AGAIN")))


# --- other readers --------------------------------------------------------------------------------


def _count(source: EventSource, file: FileInfo) -> int:
    """The number of rows of a file; the file of a frame is Parquet, too."""
    if source.format == "csv":
        return sum(1 for _ in _records(source, file)) - 1
    import pyarrow.parquet as pq

    with pq.ParquetFile(file.path) as held:
        return int(held.metadata.num_rows)


def _records(source: EventSource, file: FileInfo) -> Iterator[list[str]]:
    """The records of a CSV file, its header first, as Python's own reader tells them apart.
    csv.Error where quotes are not in order: then the readers divide the text differently."""
    dialect = source.dialect
    with (
        opened(Path(file.path), dialect) as data,
        io.TextIOWrapper(data, dialect.encoding, errors="replace", newline="") as lines,
    ):
        first = next(lines, "").removeprefix("\ufeff")
        yield from filter(
            None,
            csv.reader(
                itertools.chain([first], lines),
                delimiter=dialect.delimiter,
                quotechar=dialect.quote or None,
                quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
                strict=True,
            ),
        )


def _sample(source: EventSource, file: FileInfo, rng: random.Random, wanted: int) -> list[Row]:
    """Some rows of a file, read value by value as a push reads them. A row that is bad, or whose
    text may be read in more than one way, is left out; so are those of a frame, whose values had
    other types before they were written."""
    if source.frame is not None:
        return []
    names = _names(source)
    folders = {n: text for n, text in partitions(file).items() if n in names}
    given = {n: value_of(text, _type(source, n), Dialect()) for n, text in folders.items()}
    of_kind = _of_csv if source.format == "csv" else _of_parquet
    found: list[Row] = []
    for row in of_kind(source, file, rng, wanted, given):
        try:
            found += as_pushed(source, row, arrived=file.arrived)
        except FeaturekitError:
            continue  # a bad row, which is set aside or an error where it is read (S1)
    return found


def _names(source: EventSource) -> list[str]:
    arrival = source.created_timestamp_column
    named = [*source.schema, source.timestamp_field, *([arrival] if arrival else [])]
    return list(dict.fromkeys(named))


def _type(source: EventSource, name: str) -> Type | None:
    """The type whose values the texts of a column are; None where a push reads the text itself, as
    of an instant in a declared format."""
    if name in source.formats:
        return None
    found: Type = source.schema.get(name, DATETIME)
    return found


def _of_parquet(
    source: EventSource, file: FileInfo, rng: random.Random, wanted: int, given: Row
) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(file.path) as held:
        groups = [i for i in range(held.num_row_groups) if held.metadata.row_group(i).num_rows]
        if not groups:
            return
        table = held.read_row_group(rng.choice(groups), columns=[*_names(source), FAULT])
    if FAULT in table.column_names:  # a copy has the rows that are set aside, too
        table = table.filter(table[FAULT].is_null()).drop_columns([FAULT])
    for name in given.keys() - set(table.column_names):
        table = table.append_column(name, pa.array([given[name]] * table.num_rows))
    for i in sorted(rng.sample(range(table.num_rows), min(wanted, table.num_rows))):
        yield table.slice(i, 1)


def _of_csv(
    source: EventSource, file: FileInfo, rng: random.Random, wanted: int, given: Row
) -> Iterator[Any]:
    records = _records(source, file)
    header = next(records, [])
    kept: list[list[str]] = []
    for number, record in enumerate(records):  # each record with the same chance
        if number < wanted:
            kept.append(record)
        elif (at := rng.randrange(number + 1)) < wanted:
            kept[at] = record
    names = _names(source)
    for record in kept:
        if len(record) != len(header):
            continue
        texts = dict(zip(header, record, strict=True))
        values = given | {
            name: _value(texts[name], _type(source, name), source.dialect)
            for name in names
            if name in texts
        }
        if values.keys() >= {*names} and _UNSURE not in values.values():
            yield [values]


_UNSURE = object()


def _value(text: str, type_: Type | None, dialect: Dialect) -> Any:
    """The value that a text plainly is; `_UNSURE` for a text that may be read otherwise. An empty
    one may be None or, in quotes, a text."""
    if not text or text != text.strip() or "\ufffd" in text:
        return _UNSURE
    if text in dialect.null_values:
        return None
    if type_ is None:
        return text
    try:
        match type_.name:
            case "str":
                return text
            case "int":
                return int(text) if text.lstrip("-").isdigit() and text.isascii() else _UNSURE
            case "float":
                return _float(text, dialect.decimal)
            case "bool":
                return {"true": True, "false": False}.get(text, _UNSURE)
            case "date":
                return dt.date.fromisoformat(text) if len(text) == 10 else _UNSURE
            case "datetime":
                return (
                    dt.datetime.fromisoformat(text)
                    if len(text) == 10 or len(text) >= 19
                    else _UNSURE
                )
    except ValueError:
        return _UNSURE
    return _UNSURE


def _float(text: str, point: str) -> Any:
    other = "." if point == "," else ","
    if not text.isascii() or "_" in text or other in text:
        return _UNSURE
    return float(text.replace(point, "."))
