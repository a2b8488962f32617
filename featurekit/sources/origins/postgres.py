"""Turns a table or a query of a PostgreSQL database into Arrow batches, in one read transaction.

The driver hands over some types in a form that has lost something: an infinite date wraps around,
an array of several dimensions is flat, money is in cents. So each type that is read stands in a
table here, what Arrow lacks is turned into it by SQL, with the reason for each row that does not
fit (S1), and all other types are refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from featurekit.core.postgres import Connection, Refused, Server, telling
from featurekit.core.sql import quote
from featurekit.core.types import Type
from featurekit.core.variables import Lacking
from featurekit.core.written import placed
from featurekit.define.definitions import EventSource
from featurekit.define.origins import Postgres
from featurekit.errors import SourceError
from featurekit.sources.origins.copies import (
    FAULT,
    LINE,
    TEXT,
    check_columns,
    check_table,
    rows_sql,
    where_of,
)
from featurekit.sources.origins.growing import Growth
from featurekit.sources.readings import found_hint

if TYPE_CHECKING:
    import pyarrow as pa

_ITEMS = ("int2", "int4", "int8", "float4", "float8", "text", "varchar", "bool", "bytea")
_AS_IT_IS = frozenset((*_ITEMS, "bpchar", "name"))
_AS_TEXT = frozenset(("uuid", "json", "jsonb"))
_LISTS = frozenset(f"_{item}" for item in _ITEMS)
_RANGES = {
    "date": ("'0001-01-01'::date", "'9999-12-31'::date", "a date outside the years 1 to 9999"),
    **dict.fromkeys(
        ("timestamp", "timestamptz"),
        (
            "'0001-01-01 00:00:00+00'::{}",
            "'9999-12-31 23:59:59.999999+00'::{}",
            "an instant outside the years 1 to 9999",
        ),
    ),
}
_START = (
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY",
    "SET LOCAL TimeZone = 'UTC'",
    "SET LOCAL DateStyle = 'ISO'",
    # The same rows in the same order, as far as it lies with the reader.
    "SET LOCAL max_parallel_workers_per_gather = 0",
    "SET LOCAL synchronize_seqscans = off",
)
_MAY_ASK = """
SELECT has_function_privilege('pg_control_system()', 'EXECUTE')
   AND has_function_privilege('pg_control_checkpoint()', 'EXECUTE')
"""
_UNCHANGED = """
SELECT s.system_identifier::text, c.timeline_id::text, pg_postmaster_start_time()::text,
       pg_current_snapshot()::text, r.oid::text
FROM pg_control_system() s, pg_control_checkpoint() c, pg_class r
WHERE r.oid = to_regclass({table}) AND r.relkind IN ('r', 'm')
  AND NOT r.relrowsecurity AND NOT r.relhassubclass
"""
"""What tells that a table is as it was: the server, since its start, and the transactions that are
seen. No row where it is a view or a foreign table, or has parts, which may be foreign, or rows that
depend on who reads it."""

_STORED = """
SELECT pg_relation_filenode(r.oid)::text,
       (SELECT json_agg(ARRAY[attname::text, attnum::text, atttypid::text, atttypmod::text,
                              attmissingval::text, attgenerated::text] ORDER BY attnum)::text
        FROM pg_attribute WHERE attrelid = r.oid AND attnum > 0 AND NOT attisdropped)
FROM pg_class r JOIN pg_am a ON a.oid = r.relam
WHERE r.oid = {oid} AND r.relkind = 'r' AND a.amname = 'heap'
  AND NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = r.oid AND attgenerated = 'v')
"""
"""The file of a table, and its columns: a row that its own transaction wrote has other values once
these are others. No row where a table's rows do not stand in it, or not for good."""
_TABLES = """
SELECT CASE WHEN pg_table_is_visible(r.oid) THEN r.relname ELSE nspname || '.' || r.relname END
FROM pg_class r JOIN pg_namespace n ON n.oid = r.relnamespace
WHERE r.relkind IN ('r', 'v', 'm', 'f', 'p') AND nspname !~ '^pg_|^information_schema$'
  AND has_table_privilege(r.oid, 'SELECT')
ORDER BY 1
"""
_EPOCH = 2**32


class _Item(NamedTuple):
    """A column of the query: its SQL, the condition of rows that do not fit with the reason, and
    whether it is a number of microseconds that stands for a duration."""

    sql: str
    wrong: str | None = None
    why: str = ""
    span: bool = False


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """A database inside of one read transaction."""

    cursor: Any
    source: EventSource
    connection: Connection
    snapshot: str
    identity: Any

    @property
    def about(self) -> Mapping[str, Any]:
        """The origin, and the transactions that were seen."""
        assert self.source.origin is not None
        return {**self.source.origin.about, "snapshot": self.snapshot}

    def batches(
        self, wanted: Mapping[str, Type], *, most: int | None
    ) -> tuple[pa.Schema, Iterable[pa.RecordBatch]]:
        """See `Opened.batches`."""
        schema, sql = self._asked(wanted)
        limit = "" if most is None else f" LIMIT {most}"
        return schema, self._read(sql + limit, schema)

    def _check_table(self, rows: str) -> None:
        """SourceError, with the tables that there are, where there is none of the source's name."""
        assert isinstance(self.source.origin, Postgres)
        if self.source.origin.table is None:
            return
        with _told(self.source, self.connection):
            self.cursor.execute(f"SELECT to_regclass({_text(rows)}) IS NULL")
            if self.cursor.fetchall() != [(True,)]:
                return
            self.cursor.execute(_TABLES)
            check_table(self.source, [name for (name,) in self.cursor.fetchall()])

    def _asked(self, wanted: Mapping[str, Type]) -> tuple[pa.Schema, str]:
        """The statement that gives the rows, and what a copy of them has."""
        import pyarrow as pa

        rows = rows_sql(self.source)
        self._check_table(rows)
        with _told(self.source, self.connection):
            there = self.cursor.adbc_execute_schema(f"SELECT * FROM {rows}")
        types = {field.name: _type_of(field) for field in there}
        check_columns(self.source, [field.name for field in there])
        items = [self._item(name, types[name], type_) for name, type_ in wanted.items()]
        listed = ", ".join(f"{i.sql} AS {quote(n)}" for i, n in zip(items, wanted, strict=True))
        sql = f"SELECT {listed}, {_own_sql(items, wanted)} FROM {rows}"
        with _told(self.source, self.connection):
            shown = self.cursor.adbc_execute_schema(sql)
        spans = {name for item, name in zip(items, wanted, strict=True) if item.span}
        schema = pa.schema(
            [
                pa.field(field.name, pa.duration("us") if field.name in spans else field.type)
                for field in shown
            ]
        )
        return schema, sql

    def _read(self, sql: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        with _told(self.source, self.connection):
            self.cursor.execute(sql)
            for batch in self.cursor.fetch_record_batch():
                yield batch.cast(schema)

    def growth(self) -> Growth | None:
        """The table as it is stored by this server since its start, and the oldest transaction that
        is not over. None of a query, a view, and what else `_STORED` leaves out."""
        if self.identity is None:
            return None
        *server, _, oid = self.identity
        with _told(self.source, self.connection):
            self.cursor.execute(_STORED.format(oid=int(oid)))
            found = self.cursor.fetchall()
        if not found:
            return None
        oldest, _, _ = self.snapshot.split(":")
        return Growth([*server, oid, *found[0]], int(oldest))

    def settled(self, below: int) -> int:
        """See `Growing.settled`."""
        sql = f"SELECT count(*) FROM {rows_sql(self.source)} WHERE {self._wrote} < {below}"
        with _told(self.source, self.connection):
            self.cursor.execute(sql)
            ((found,),) = self.cursor.fetchall()
        return int(found)

    def since(
        self, wanted: Mapping[str, Type], first: int | None, below: int
    ) -> tuple[pa.Schema, Iterator[pa.RecordBatch], Iterator[pa.RecordBatch]]:
        """See `Growing.since`."""
        schema, sql = self._asked(wanted)
        if first is None and self.snapshot == f"{below}:{below}:":  # no transaction is under way
            return schema, self._read(sql, schema), iter(())
        new = "TRUE" if first is None else f"{self._wrote} >= {first}"
        settled, others = (
            self._read(f"{sql} WHERE {new} AND {self._wrote} {sign} {below}", schema)
            for sign in ("<", ">=")
        )
        return schema, settled, others

    @property
    def _wrote(self) -> str:
        """SQL of the transaction that wrote a row. The row has its last 32 bits: it is the last one
        with these before the snapshot's end, or, where it is so old that they have come again, one
        before that. Then it seems to be new, and the settled rows are too few. Numbers below 3 are
        of rows older than all others."""
        _, end, _ = self.snapshot.split(":")
        low = "xmin::text::bigint"
        return f"CASE WHEN {low} < 3 THEN 0 ELSE {end} - mod({end} - {low}, {_EPOCH}) END"

    def _item(self, name: str, found: str, type_: Type) -> _Item:
        """How a column of a PostgreSQL type is asked for."""
        column = quote(name)
        if found in _AS_IT_IS:
            return _Item(column)
        if found in _AS_TEXT:
            return _Item(f"{column}::text")
        if found in _LISTS and type_.item is not None:
            flat = f"coalesce(array_ndims({column}), 1) = 1"
            why = "an array of several dimensions, and a list has one"
            return _Item(f"CASE WHEN {flat} THEN {column} END", f"NOT ({flat})", why)
        if found in _RANGES:
            first, last, why = _RANGES[found]
            inside = f"{column} BETWEEN {first.format(found)} AND {last.format(found)}"
            return _Item(f"CASE WHEN {inside} THEN {column} END", f"NOT ({inside})", why)
        if found == "numeric" and type_.name == "int":
            whole = f"{column} = trunc({column}) AND {column} BETWEEN {-(2**63)} AND {2**63 - 1}"
            why = "a decimal that is no int of 64 bits"
            return _Item(f"CASE WHEN {whole} THEN {column}::int8 END", f"NOT ({whole})", why)
        if found == "numeric" and name in self.source.formats:
            return _Item(f"{column}::text")  # of a number that counts since 1970
        if found == "interval" and type_.name == "timedelta":
            return _span(column)
        hint = f"cast it in query=, as in SELECT {name}::text"
        if found == "numeric":
            hint = f"{found_hint('DECIMAL', type_)}, or in query=, as in SELECT {name}::float8"
        text = f"{where_of(self.source)}, column {name!r}: declared {type_}, found {found}; {hint}"
        raise placed(SourceError(text), self.source.place)


def _span(column: str) -> _Item:
    """An interval without months, in microseconds."""
    parts = {"day": 86_400_000_000, "hour": 3_600_000_000, "minute": 60_000_000, "microseconds": 1}
    us = " + ".join(f"extract({p} FROM {column})::numeric * {n}" for p, n in parts.items())
    months = f"extract(year FROM {column}) = 0 AND extract(month FROM {column}) = 0"
    inside = f"abs(extract(day FROM {column})) < 100000000"
    fits = f"isfinite({column}) AND {months} AND {inside}"
    why = "months, which have no fixed length, or a duration outside 64-bit microseconds"
    return _Item(f"CASE WHEN {fits} THEN ({us})::int8 END", f"NOT ({fits})", why, span=True)


def _own_sql(items: Iterable[_Item], names: Iterable[str]) -> str:
    """The columns of `OWN`."""
    pairs = [(item, name) for item, name in zip(items, names, strict=True) if item.wrong]
    which = " ".join(f"WHEN {i.wrong} THEN {_text(f'{n}: {i.why}')}" for i, n in pairs)
    value = " ".join(f"WHEN {i.wrong} THEN {quote(n)}::text" for i, n in pairs)
    fault, text = (f"CASE {w} END" if w else "NULL" for w in (which, value))
    return f"NULL::int8 AS {LINE}, ({fault})::text AS {FAULT}, ({text})::text AS {TEXT}"


def _text(value: str) -> str:
    """A literal of PostgreSQL, whatever it is told of backslashes."""
    escaped = value.replace("\\", "\\\\").replace("'", "''")
    return f"E'{escaped}'"


def _type_of(field: pa.Field) -> str:
    """The name of a column's type in PostgreSQL."""
    told = (field.metadata or {}).get(b"POSTGRESQL:type")
    if told is not None:
        return str(told.decode())
    return {"arrow.uuid": "uuid", "arrow.json": "json"}.get(
        getattr(field.type, "extension_name", ""), str(field.type)
    )


@contextmanager
def opened(source: EventSource, base: Path) -> Iterator[_Snapshot]:
    """The database of a source, inside of one read transaction. SourceError if it cannot be
    read."""
    del base
    origin = source.origin
    assert isinstance(origin, Postgres)
    with _told(source):
        connection = Server(origin.url).connect()
    with closing(connection), connection.raw.cursor() as cursor:
        with _told(source, connection):
            for statement in _START:
                cursor.execute(statement)
            cursor.execute("SELECT pg_current_snapshot()::text")
            ((snapshot,),) = cursor.fetchall()
        yield _Snapshot(cursor, source, connection, snapshot, _identity(cursor, source, connection))


def _identity(cursor: Any, source: EventSource, connection: Connection) -> Any:
    """What tells that the table is as it was; None where nothing does, or this user may not ask."""
    assert isinstance(source.origin, Postgres)
    if source.origin.table is None:
        return None
    with _told(source, connection):
        cursor.execute(_MAY_ASK)
        if cursor.fetchall() != [(True,)]:
            return None
        cursor.execute(_UNCHANGED.format(table=_text(rows_sql(source))))
        found = cursor.fetchall()
    return list(found[0]) if found else None


@contextmanager
def _told(source: EventSource, connection: Connection | None = None) -> Iterator[None]:
    """SourceError for what the driver or the server says."""
    try:
        with nullcontext() if connection is None else telling(connection.secrets):
            yield
    except (Lacking, Refused) as error:
        said = str(error) if isinstance(error, Lacking) else f"it cannot be read ({error})"
        raise placed(SourceError(f"{where_of(source)}: {said}"), source.place) from None
