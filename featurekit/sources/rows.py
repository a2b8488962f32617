"""Turns pushed rows, dicts or an Arrow stream, into checked canonical tables (S1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurekit.core.arrays import array_of
from featurekit.core.calls import near
from featurekit.core.coerce import Misfit, reader, timestamp
from featurekit.core.formats import EpochFormat
from featurekit.core.frames import table_of
from featurekit.core.kept import Kept
from featurekit.core.samples import to_give
from featurekit.core.tables import Row, fetch
from featurekit.core.types import DATETIME, MICROSECOND, Type, instant, micros
from featurekit.define.arrivals import LATEST_US, delay_us, text_of
from featurekit.define.definitions import EventSource
from featurekit.errors import BadRowError, SourceError
from featurekit.sources.arrow import plain_table
from featurekit.sources.check import (
    NO_OP,
    OPS,
    ROW,
    BadRow,
    Column,
    bad,
    column,
    first_bad,
    instant_column,
    instant_reading,
    numbered,
    op_column,
    prepared,
    reason_sql,
    select_sql,
    shortened,
    summarise,
)
from featurekit.sources.quarantine import fresh, set_aside
from featurekit.sources.readings import Reading, found_hint, instant_hint, reading

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa


class TakenRows:
    """Pushed rows, checked, and the number set aside. Rows that came as dicts are also in `rows`:
    the schema's columns as Python values, `__ts` and `__created`.

    `given` are the rows as they came, and `numbers` says which of them these are; without it, all.
    """

    def __init__(
        self,
        source: EventSource,
        quarantined: int,
        *,
        table: pa.Table | None = None,
        rows: list[Row] | None = None,
        given: Any,
        numbers: Sequence[int] | None = None,
    ) -> None:
        self.source, self.quarantined, self.rows = source, quarantined, rows
        self.given, self._numbers = given, numbers
        self._table = table

    def number(self, row: int) -> int:
        """Which of the rows as they came the row of this number is."""
        return row if self._numbers is None else self._numbers[row]

    @property
    def created(self) -> list[int | None]:
        """The arrival of each row; None for a row without one of its own."""
        if self.rows is not None:
            return [row["__created"] for row in self.rows]
        found: list[int | None] = self.table["__created"].to_pylist()
        return found

    def replace_arrivals(self, created: Sequence[int | None], kept: Sequence[int]) -> None:
        """Give the rows of the numbers `kept` the arrivals `created`, and let go of all others."""
        column = self.source.created_timestamp_column
        shown = column if column in self.source.schema else None
        self._numbers = [self.number(row) for row in kept]
        if self.rows is None:
            import pyarrow as pa

            table = self.table.take(pa.array(kept, pa.int64()))
            arrivals = pa.array(created, pa.int64())
            self._table = _with_arrivals(self.source, table, arrivals)
            return
        self.rows = [self.rows[row] for row in kept]
        for row, arrival in zip(self.rows, created, strict=True):
            if arrival is not None and arrival != row["__created"]:
                row["__created"] = arrival
                if shown is not None:
                    row[shown] = instant(arrival)

    @property
    def table(self) -> pa.Table:
        """The rows in canonical Arrow types, with `__ts` and `__created`."""
        if self._table is None:
            assert self.rows is not None
            self._table = _canonical_table(self.source, self.rows)
        return self._table

    @property
    def pushed(self) -> list[Row]:
        """The rows in the form that a push takes; `__created` is None if they have no arrival of
        their own."""
        if self.rows is not None:
            return self.rows
        found: list[Row] = self.table.to_pylist()
        return found

    @property
    def own(self) -> bool:
        """Whether some rows have an arrival of their own."""
        if self.rows is not None:
            if self.source.created_timestamp_column is None:
                return False
            return any(row["__created"] is not None for row in self.rows)
        return bool(self.table.num_rows > self.table["__created"].null_count)

    def arrived(self, now: int) -> list[Row]:
        """The rows; those without an arrival of their own get the arrival `now` (T3)."""
        if self.rows is None:
            table = stamped(self.source, self.table, [now] * self.table.num_rows)
            found: list[Row] = table.to_pylist()
            return found
        column = self.source.created_timestamp_column
        shown = column if column in self.source.schema else None
        for row in self.rows:
            if row["__created"] is None:
                row["__created"] = now
                if shown is not None:
                    row[shown] = instant(now)
        return self.rows


def stamped(source: EventSource, table: pa.Table, stamps: Sequence[int]) -> pa.Table:
    """The rows with their arrival: their own, or one of `stamps`, taken from the store's clock
    (T3)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    created = pc.coalesce(table["__created"], pa.array(stamps, pa.int64()))
    return _with_arrivals(source, table, created)


def _with_arrivals(source: EventSource, table: pa.Table, created: Any) -> pa.Table:
    """The rows with these arrivals, also in the source's own column, if the schema has it."""
    import pyarrow as pa

    table = table.set_column(table.column_names.index("__created"), "__created", created)
    column = source.created_timestamp_column
    if column in source.schema:
        assert column is not None
        shown = created.cast(pa.timestamp("us", tz="UTC"))
        table = table.set_column(table.column_names.index(column), column, shown)
    return table


def read_rows(source: EventSource, rows: Any, *, state_dir: Path | None) -> TakenRows:
    """The rows of a push, each checked (S1). A push is a dict, a list of dicts, or an Arrow stream.

    The columns are those of the schema, then `__ts` and `__created`, int64 microseconds UTC. If the
    rows have no arrival of their own, `__created` is null, and so is the source's own column for
    it; the caller stamps them (T3). An error (`BadRowError` for a row, `SourceError` for columns
    and types) changes nothing. With on_bad_row="quarantine", bad rows go to
    `state_dir`/quarantine/<source>.pushed-<n>, as JSON lines for dicts and as Parquet for tables.
    The index of a pandas frame is not read.
    """
    if isinstance(rows, Mapping):
        rows = [rows]
    if isinstance(rows, (list, tuple)):
        return _from_dicts(source, rows, state_dir)
    return _from_arrow(source, rows, state_dir)


def as_pushed(
    source: EventSource,
    rows: pa.Table | Sequence[Mapping[str, Any]],
    *,
    arrived: int | None = None,
) -> list[Row]:
    """The rows of a source's file, or as a file has them, read value by value as a push reads them
    (S1). Rows of a source without a created_timestamp_column arrive as `arrives` says, by default
    when they happen (T3); `arrived` is the instant of their file's commit."""
    found = read_rows(source, _plain_rows(rows), state_dir=None).pushed
    if source.created_timestamp_column is None:
        delay = delay_us(text_of(source.arrives, what=source.name)) or 0
        for row in found:
            late = min(row["__ts"] + delay, LATEST_US)
            row["__created"] = late if arrived is None else arrived
    return found


def _plain_rows(rows: pa.Table | Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """A table's rows as Python has them, instants in UTC: a file's zone may be unknown here."""
    import pyarrow as pa

    if not isinstance(rows, pa.Table):
        return rows
    for i, field in enumerate(rows.schema):
        if pa.types.is_timestamp(field.type) and field.type.tz is not None:
            utc = rows.column(i).cast(pa.timestamp(field.type.unit, "UTC"))
            rows = rows.set_column(i, field.name, utc)
    plain_rows: list[Row] = rows.to_pylist()
    return plain_rows


def _types(source: EventSource) -> dict[str, Type]:
    """The columns of the rows: the schema and the instants; the instant of arrival may be
    absent."""
    types: dict[str, Type] = dict(source.schema)
    types[source.timestamp_field] = DATETIME
    if source.created_timestamp_column is not None:
        types[source.created_timestamp_column] = DATETIME.or_none()
    if source.created_timestamp_column == source.timestamp_field:
        types[source.timestamp_field] = DATETIME
    return types


def _refused(source: EventSource) -> Any:
    return lambda reason: SourceError(f"push to {source.name!r}: {reason}")


def _check_names(source: EventSource, names: Sequence[str], *, row: int | None = None) -> None:
    types = _types(source)
    where = f"push to {source.name!r}" + ("" if row is None else f", row {row} (the first is 0)")
    unknown = [name for name in names if name not in types]
    if unknown:
        raise SourceError(
            f"{where}: unknown columns {', '.join(map(repr, unknown))}; "
            f"{near(unknown[0], types, listed='the source has')}"
        )
    given = {*names}
    missing = [
        name for name in types if name not in given and name != source.created_timestamp_column
    ]
    if missing:
        raise SourceError(
            f"{where}: lacks {', '.join(map(repr, missing))}; write all columns, null where there "
            "is no value (None in Python, null in JSON, nothing between the commas in CSV)"
        )


class _Reading:
    """How the rows of a source are read from dicts."""

    def __init__(self, source: EventSource) -> None:
        self.types = _types(source)
        self.names = frozenset(self.types)
        self.readers = _readers(source, self.types)
        self.columns = list(self.readers.items())
        self.instant, self.created = source.timestamp_field, source.created_timestamp_column
        self.apart = [name for name in self.types if name not in source.schema]
        self.durations = [n for n, t in source.schema.items() if t.name == "timedelta"]
        # For lists, Arrow makes the values that an event holds.
        self.plain = all(type_.item is None for type_ in source.schema.values())

    def row(self, values: Row) -> Row:
        """A row of canonical values, in the form of an event."""
        values["__ts"] = micros(values[self.instant])
        arrived = None if self.created is None else values[self.created]
        values["__created"] = None if arrived is None else micros(arrived)
        for name in self.apart:
            del values[name]
        for name in self.durations:
            if values[name] is not None:
                values[name] *= MICROSECOND
        return values


_reading_of = Kept(_Reading)


def _readers(source: EventSource, types: Mapping[str, Type]) -> dict[str, Callable[[Any], Any]]:
    """How a value of each column is read; texts, numbers and dates of timestamps as the source
    declares them, which is how its files are read."""
    readers = {name: reader(type_, zone_name=source.timezone) for name, type_ in types.items()}
    return readers | stamp_readers(source, types)


def stamp_readers(
    source: EventSource, types: Mapping[str, Type]
) -> dict[str, Callable[[Any], Any]]:
    """How Python's values are read in the columns that may hold timestamps as dates, texts or
    numbers."""
    zone, formats, readers = source.timezone, source.formats, {}
    for name in _timestamps(source):
        stamp = partial(timestamp, type_=types[name], format_=formats.get(name), zone_name=zone)
        readers[name] = reader(types[name], zone_name=zone, otherwise=stamp)
    return readers


def _timestamps(source: EventSource) -> set[str]:
    """The columns that may hold timestamps as dates, texts or numbers."""
    named = (source.timestamp_field, source.created_timestamp_column)
    return {name for name in (*named, *source.formats) if name is not None}


def _from_dicts(source: EventSource, rows: Sequence[Any], state_dir: Path | None) -> TakenRows:
    good: list[Row] = []
    aside: list[dict[str, Any]] = []
    reading = _reading_of(source)
    names, columns, op = reading.names, reading.columns, source.op
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise SourceError(
                f"push to {source.name!r}: row {number} is {type(row).__name__}; write dicts, or "
                "a table with an Arrow stream"
            )
        if row.keys() != names:
            _check_names(source, list(row), row=number)
        try:
            values = {name: read(row.get(name)) for name, read in columns}
        except Misfit:
            fault = _fault(row, reading, source, number)
        else:
            if op is None or values[op] in OPS:
                good.append(reading.row(values))
                continue
            fault = BadRow(number, op, NO_OP, shortened(repr(row.get(op))))
        if source.on_bad_row == "error":
            raise row_error(source, fault)
        aside.append({"row": number, "reason": fault.why, "values": dict(row)})
    bad_rows = {line["row"] for line in aside}
    numbers = [n for n in range(len(rows)) if n not in bad_rows] if aside else None
    table = None if reading.plain else _canonical_table(source, good)
    taken = TakenRows(
        source,
        len(aside),
        table=table,
        rows=good if reading.plain else None,
        given=rows,
        numbers=numbers,
    )
    if aside:
        set_aside(source, state_dir, aside)
    return taken


def _fault(row: Row | Mapping[str, Any], reading: _Reading, source: EventSource, n: int) -> BadRow:
    """The first fault of a row that is known to be bad."""
    for name, read in reading.columns:
        try:
            value = read(row.get(name))
            if name == source.op and value not in OPS:
                raise Misfit(NO_OP)
        except Misfit as reason:
            return BadRow(n, name, str(reason), shortened(repr(row.get(name))))
    raise AssertionError("the row has no fault")


def _canonical_table(source: EventSource, rows: Sequence[Row]) -> pa.Table:
    import pyarrow as pa

    schema = _schema(source)
    arrays = [array_of([row[f.name] for row in rows], f.type) for f in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _schema(source: EventSource) -> pa.Schema:
    import pyarrow as pa

    fields = [(name, type_.arrow) for name, type_ in source.schema.items()]
    return pa.schema([*fields, ("__ts", pa.int64()), ("__created", pa.int64())])


def row_error(source: EventSource, fault: BadRow) -> BadRowError:
    types = {**source.schema, source.timestamp_field: DATETIME}
    type_ = types.get(fault.column or "")
    expected = type_ is not None and fault.reason.startswith("expected")
    mend = f"In the row, {to_give(type_.base)}" if type_ and expected else "Mend the row"
    if expected and type_ is not None and type_.name == "datetime":
        mend += ', declare its form at the source, as in timestamp_format="iso" or "epoch_s"'
    return BadRowError(
        f"push to {source.name!r}, {fault}; nothing was pushed. {mend}, or write "
        'on_bad_row="quarantine" at the source to set such rows aside'
    )


@lru_cache(maxsize=1)
def _scratch() -> duckdb.DuckDBPyConnection:
    """An empty database whose cursors check pushes; a cursor sees only what it registers itself."""
    import duckdb

    return duckdb.connect(":memory:")


def _from_arrow(source: EventSource, rows: Any, state_dir: Path | None) -> TakenRows:
    raw = table_of(rows, refuse=_refused(source), objects_as_text=True)
    _check_names(source, raw.column_names)
    types = _types(source)
    given = {name: types[name] for name in raw.column_names}
    readers = {name: _reading_of(source).readers[name] for name in _timestamps(source)}
    table, found, faults = plain_table(
        rows, raw, given, zone_name=source.timezone, readers=readers, whole=_counted(source)
    )
    if faults and source.on_bad_row == "error":
        raise row_error(source, min(faults, key=lambda fault: fault.row))
    reasons: dict[int, str] = {}
    for fault in faults:
        reasons.setdefault(fault.row, fault.why)
    # A fault is a null in the plain table, so its row is removed before DuckDB checks the rest.
    kept: Sequence[int] = range(raw.num_rows)
    if reasons:
        kept = [row for row in kept if row not in reasons]
        table = table.take(kept)
    result = _checked(source, table, found, reasons, kept)
    if reasons:
        write_aside(source, raw, reasons, state_dir)
    numbers = [n for n in range(raw.num_rows) if n not in reasons] if reasons else None
    return TakenRows(source, len(reasons), table=result, given=raw, numbers=numbers)


def _checked(
    source: EventSource,
    table: pa.Table,
    found: Mapping[str, str],
    reasons: dict[int, str],
    kept: Sequence[int],
) -> pa.Table:
    import duckdb

    con = _scratch().cursor()
    try:
        con.register("pushed", table)
        return _read_plain(con, source, found, reasons, kept)
    except duckdb.FatalException:
        # The error invalidates the database for good, so later pushes get a new one.
        _scratch.cache_clear()
        raise
    finally:
        con.close()


def _read_plain(
    con: duckdb.DuckDBPyConnection,
    source: EventSource,
    found: Mapping[str, str],
    reasons: dict[int, str],
    kept: Sequence[int],
) -> pa.Table:
    types = {row[0]: row[1] for row in fetch(con, "DESCRIBE SELECT * FROM pushed")}
    columns = _columns(source, {**types, **found})
    summary = summarise(con, "pushed", columns)
    if summary.bad and source.on_bad_row == "error":
        fault = first_bad(con, "pushed", columns)
        assert fault is not None
        raise row_error(source, fault)
    if summary.bad:
        scan = prepared(numbered("pushed"), columns)
        wrong = fetch(con, f"SELECT {ROW}, {reason_sql(columns)} FROM {scan} WHERE {bad(columns)}")
        reasons.update({kept[row]: reason for row, reason in wrong})
    sql = select_sql("pushed", columns, span=summary.span, drop_bad=summary.bad > 0)
    table = con.sql(sql).to_arrow_table()
    return _with_created(source, table)


def _columns(source: EventSource, found: Mapping[str, str]) -> list[Column]:
    columns: list[Column] = []
    types, zone, formats = _types(source), source.timezone, source.formats
    timestamps = _timestamps(source)
    for name in source.schema:
        if name in found:
            read: Callable[..., Reading | None] = reading
            if name in timestamps:
                read = partial(_instant, format_=formats.get(name))
            made = column(name, name, found[name], types[name], zone_name=zone, read=read)
            made = made or _misfit(source, name, found[name], types[name])
            columns.append(op_column(made) if name == source.op else made)
    for name, origin in (("__ts", source.timestamp_field), ("__created", _created(source, found))):
        if origin is not None:
            format_ = formats.get(origin)
            made = instant_column(
                name, origin, found[origin], zone_name=zone, format_=format_, dates=True
            )
            made = made or _misfit(source, origin, found[origin], DATETIME)
            columns.append(Column(name, origin, types[origin], made.reading, as_micros=True))
    return columns


def _counted(source: EventSource) -> set[str]:
    """The columns of timestamps that are whole numbers."""
    return {name for name, f in source.formats.items() if isinstance(f, EpochFormat)}


def _instant(expr: str, found: str, type_: Type, **how: Any) -> Reading | None:
    """How a column of the schema is read that holds timestamps."""
    del type_
    return instant_reading(expr, found, **how)


def _created(source: EventSource, found: Mapping[str, str]) -> str | None:
    name = source.created_timestamp_column
    return name if name in found else None


def _misfit(source: EventSource, name: str, found: str, type_: Type) -> Column:
    raise SourceError(
        f"push to {source.name!r}, column {name!r}: declared {type_}, found {found}; "
        f"{(type_ == DATETIME and instant_hint(found)) or found_hint(found, type_)}"
    )


def _with_created(source: EventSource, table: pa.Table) -> pa.Table:
    """The table in the schema's order and types; an arrival that it lacks becomes null."""
    import pyarrow as pa

    schema, there = _schema(source), dict(zip(table.column_names, table.columns, strict=True))
    arrays = [
        there[field.name].cast(field.type)
        if field.name in there
        else pa.chunked_array([pa.nulls(table.num_rows, field.type)])
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def write_aside(
    source: EventSource, raw: pa.Table, reasons: Mapping[int, str], state_dir: Path | None
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = sorted(reasons)
    aside = raw.take(rows).append_column("reason", pa.array([reasons[row] for row in rows]))
    with fresh(source, state_dir, "parquet") as path:
        pq.write_table(aside, path)
