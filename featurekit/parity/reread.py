"""Reads a sample of a source's files with other readers, Arrow's and Python's, and compares it with
what DuckDB read: as many rows, and among them these, bit for bit (S1, S4).

Both paths may take their rows from the same reader: so where it loses or changes one, they agree
with each other.
"""

from __future__ import annotations

import csv
import datetime as dt
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from featurekit.core import tables
from featurekit.core.tables import Row
from featurekit.core.types import DATETIME, INT, Type, micros
from featurekit.define.definitions import EventSource
from featurekit.errors import FeaturekitError
from featurekit.parity.compare import bits
from featurekit.parity.report import Difference, Report
from featurekit.sources import read_events
from featurekit.sources.files import absent
from featurekit.sources.protocol import FileInfo
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
    there = sum(map(_count(source), files))
    if read + found.quarantined != there:
        _differ(report, source, "rows", {}, read + found.quarantined, there)
    chosen = rng.sample(files, min(len(files), _FILES))
    rows = [row for file in chosen for row in _sample(source, file, rng, -(-_ROWS // len(chosen)))]
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


def _count(source: EventSource) -> Any:
    return _parquet_rows if source.format == "parquet" else _csv_rows


def _parquet_rows(file: FileInfo) -> int:
    import pyarrow.parquet as pq

    with pq.ParquetFile(file.path) as opened:
        return int(opened.metadata.num_rows)


def _csv_rows(file: FileInfo) -> int:
    return sum(1 for _ in _records(file)) - 1


def _records(file: FileInfo) -> Iterator[list[str]]:
    with Path(file.path).open(encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        yield from (record for record in csv.reader(text) if record)


def _sample(source: EventSource, file: FileInfo, rng: random.Random, wanted: int) -> list[Row]:
    """Some rows of a file, read value by value as a push reads them. A row that is bad, or whose
    text may be read in more than one way, is left out."""
    of_kind = _of_parquet if source.format == "parquet" else _of_csv
    found: list[Row] = []
    for row in of_kind(source, file, rng, wanted):
        try:
            found += as_pushed(source, row)
        except FeaturekitError:
            continue  # a bad row, which is set aside or an error where it is read (S1)
    return found


def _names(source: EventSource) -> list[str]:
    arrival = source.created_timestamp_column
    named = [*source.schema, source.timestamp_field, *([arrival] if arrival else [])]
    return list(dict.fromkeys(named))


def _of_parquet(
    source: EventSource, file: FileInfo, rng: random.Random, wanted: int
) -> Iterator[Any]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(file.path) as opened:
        groups = [i for i in range(opened.num_row_groups) if opened.metadata.row_group(i).num_rows]
        if not groups:
            return
        table = opened.read_row_group(rng.choice(groups), columns=_names(source))
    for i in sorted(rng.sample(range(table.num_rows), min(wanted, table.num_rows))):
        yield table.slice(i, 1)


def _of_csv(source: EventSource, file: FileInfo, rng: random.Random, wanted: int) -> Iterator[Any]:
    records = _records(file)
    header = next(records, [])
    kept: list[list[str]] = []
    for number, record in enumerate(records):  # each record with the same chance
        if number < wanted:
            kept.append(record)
        elif (at := rng.randrange(number + 1)) < wanted:
            kept[at] = record
    instants = (source.timestamp_field, source.created_timestamp_column)
    types = {n: DATETIME if n in instants else source.schema[n] for n in _names(source)}
    for record in kept:
        texts = dict(zip(header, record, strict=False))
        if len(record) == len(header) and types.keys() <= texts.keys():
            values = {name: _value(texts[name], type_) for name, type_ in types.items()}
            if _UNSURE not in values.values():
                yield [values]


_UNSURE = object()


def _value(text: str, type_: Type) -> Any:
    """The value that a text plainly is; `_UNSURE` for a text that may be read otherwise. An empty
    one may be None or, in quotes, a text."""
    if not text or text != text.strip():
        return _UNSURE
    try:
        match type_.name:
            case "str":
                return text
            case "int":
                return int(text) if text.lstrip("-").isdigit() and text.isascii() else _UNSURE
            case "float":
                return float(text) if text.isascii() and "_" not in text else _UNSURE
            case "bool":
                return {"true": True, "false": False}.get(text, _UNSURE)
            case "date":
                return dt.date.fromisoformat(text) if len(text) == 10 else _UNSURE
            case "datetime":
                return dt.datetime.fromisoformat(text) if len(text) >= 19 else _UNSURE
    except ValueError:
        return _UNSURE
    return _UNSURE
