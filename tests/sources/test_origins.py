"""An origin is read as files are: the same events from anywhere are the same values and states."""

from __future__ import annotations

import base64
import datetime as dt
import json
import os
import random
import re
import sqlite3
import stat
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import origins
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from origins import PASSWORD, PostgresServer
from slow import slow_unless

from featurekit import (
    Delta,
    DuckDB,
    Entity,
    EventSource,
    FeatureService,
    FeatureStore,
    FeatureView,
    Postgres,
    SQLite,
    Vector,
)
from featurekit.aggregates import Count, Last, LastN, Max, Mean, Sum
from featurekit.core import tables
from featurekit.core.types import INT
from featurekit.errors import BadRowError, DefinitionError, SourceError
from featurekit.parity.compare import bits
from featurekit.sources import read_events
from featurekit.sources.origins import copies
from featurekit.sources.origins import postgres as in_postgres
from featurekit.sources.reading import one_reading
from featurekit.sources.rows import as_pushed

UTC = dt.UTC
AT = dt.datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
NAN = float("nan")
KINDS = [*origins.FILES, "s3", "postgres"]
DATABASES = ["sqlite", "duckdb", "postgres"]


def source(**options: Any) -> EventSource:
    return EventSource("events", **{"timestamp_field": "at", **options})


def read(made: EventSource, state: Path | None = None) -> list[dict[str, Any]]:
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'").fetchall()
        relation = read_events(con, made, base=Path(), state_dir=state).relation
        types = {**made.schema, "__ts": INT, "__created": INT}
        return tables.rows(con, relation, types)


def refused(made: EventSource, kind: type[Exception] = SourceError) -> str:
    """What is said of a source that cannot be read."""
    with pytest.raises(kind) as error:
        read(made)
    return str(error.value)


# --- one content ----------------------------------------------------------------------------------

customer = Entity("customer", {"k": int})
EVENTS: dict[str, Any] = {
    "k": int, "x": float | None, "n": int | None, "s": str | None, "b": bool, "d": dt.date,
}  # fmt: skip
LABELS = [{"k": k, "event_timestamp": AT + dt.timedelta(hours=h)} for k in range(6) for h in (0, 9)]


def events(rows: int = 200, seed: int = 1) -> pa.Table:
    rng = random.Random(seed)
    floats = [0.1, -0.0, 0.0, 1e300, 5e-324, float("inf"), 2.0**53, None]
    texts = ["", "a", "é\u0301", "x,\"y'\n", "\U0001f600", None]
    ints = [2**63 - 1, -(2**63), 0, None]
    given = [
        {
            "k": rng.randrange(5),
            "x": rng.choice(floats),
            "n": rng.choice(ints),
            "s": rng.choice(texts),
            "b": rng.random() < 0.5,
            "d": dt.date(1, 1, 1) + dt.timedelta(rng.randrange(3_650_000)),
            "at": AT + dt.timedelta(microseconds=rng.randrange(10**10)),
        }
        for _ in range(rows)
    ]
    types = [
        ("k", pa.int64()), ("x", pa.float64()), ("n", pa.int64()), ("s", pa.string()),
        ("b", pa.bool_()), ("d", pa.date32()), ("at", pa.timestamp("us", "UTC")),
    ]  # fmt: skip
    return pa.Table.from_pylist(given, schema=pa.schema(types))


def service(options: dict[str, Any]) -> FeatureService:
    made = source(schema=EVENTS, timestamp_format="iso", **options)
    features = {
        "rows": Count(window="1d"), "sum": Sum("x", window="2h"), "mean": Mean("x", window="1d"),
        "text": Last("s", window="1d"), "most": Max("n", window="1d"),
        "days": LastN("d", window="1d", n=3), "flag": Last("b", window="3h"),
    }  # fmt: skip
    view = FeatureView("view", entities=[customer], source=made, features=features)
    return FeatureService("service", features=[view])


def learned(options: dict[str, Any]) -> tuple[str, dict[bytes, bytes | None]]:
    """The hash of a training set of the events, and the states that are made of them."""
    with FeatureStore(definitions=[service(options)]) as store:
        store.apply()
        store.materialize(AT + dt.timedelta(hours=9))
        states = store.online
        keys = sorted(key for key in states.keys(b"fk:") if b":state:" in key)
        assert len(keys) == 5
        values = dict(zip(keys, states.read(keys), strict=True))
        return store.get_historical_features(LABELS, "service").manifest["content_hash"], values


@cache
def expected() -> tuple[str, dict[bytes, bytes | None]]:
    """What is learned of a file of Parquet."""
    with TemporaryDirectory() as folder:
        return learned(origins.to_parquet(events(), Path(folder)))


@pytest.mark.parametrize("kind", slow_unless(lambda kind: kind != "csv", KINDS[1:]))
def test_the_same_events_are_one_training_set_and_the_same_states(write: Any, kind: str) -> None:
    assert learned(write(kind, events())) == expected()


# --- every type -----------------------------------------------------------------------------------

SCHEMA: dict[str, Any] = {
    "k": int, "f": float, "of": float | None, "oi": int | None, "s": str | None, "b": bool,
    "raw": bytes, "d": dt.date, "when": dt.datetime, "items": list[int], "v": Vector[2],
    "span": dt.timedelta | None,
}  # fmt: skip
ROWS: list[dict[str, Any]] = [
    {
        "k": 1, "f": NAN, "of": None, "oi": None, "s": "a'\"\n", "b": True, "raw": b"\0\xff",
        "d": dt.date(1, 1, 1), "when": AT, "items": [], "v": [0.5, -0.0],
        "span": dt.timedelta(microseconds=-1), "at": AT,
    },
    {
        "k": 2**63 - 1, "f": -0.0, "of": 1e300, "oi": -(2**63), "s": None, "b": False, "raw": b"",
        "d": dt.date(9999, 12, 31), "when": dt.datetime(1, 1, 1, tzinfo=UTC), "items": [1, 2],
        "v": [1.0, float("inf")], "span": None, "at": AT - dt.timedelta(microseconds=1),
    },
    {
        "k": 0, "f": 5e-324, "of": NAN, "oi": 0, "s": "\U0001f600", "b": True, "raw": b"\\x",
        "d": dt.date(1969, 12, 31), "when": dt.datetime(9999, 12, 31, 23, 59, 59, 999999, UTC),
        "items": [-(2**63)], "v": [NAN, 0.0], "span": dt.timedelta(days=3, seconds=1), "at": AT,
    },
]  # fmt: skip
NO_FORM = {
    "sqlite": ["items", "v", "span", "f", "of"],  # it makes NULL of NaN
    "duckdb": [],
    "delta": ["span"],
    "postgres": [],
}


@pytest.mark.parametrize("kind", NO_FORM)
def test_every_type_is_read_as_a_push_of_its_rows(write: Any, kind: str) -> None:
    schema = {name: type_ for name, type_ in SCHEMA.items() if name not in NO_FORM[kind]}
    declared = source(path="x.parquet", schema=schema, timestamp_format={"at": "iso"})
    types = {n: t.arrow for n, t in declared.schema.items()} | {"at": pa.timestamp("us", "UTC")}
    table = pa.table({n: pa.array([r[n] for r in ROWS], t) for n, t in types.items()})
    stamps = dict.fromkeys(("at", "when"), "iso")
    made = source(schema=schema, timestamp_format=stamps, **write(kind, table))
    pushed = as_pushed(made, [{name: row[name] for name in types} for row in ROWS])
    for row in pushed:
        row["__created"] = row["__ts"]
    assert read_whole(made) == sorted(map(bits, pushed))


def test_floats_of_sqlite_are_what_it_keeps(write: Any) -> None:
    """NaN is NULL in SQLite, and a column that is declared REAL keeps 0.0 of -0.0."""
    given = [0.1, -0.0, 1e300, 5e-324, float("-inf"), NAN]
    table = pa.table({"x": given, "at": [AT] * len(given)})
    made = source(schema={"x": float | None}, timestamp_format="iso", **write("sqlite", table))
    assert bits([row["x"] for row in read(made)]) == bits([*given[:-1], None])


@pytest.mark.parametrize("kind", ["duckdb", "postgres"])
def test_naive_timestamps_are_read_in_the_zone_of_the_source(write: Any, kind: str) -> None:
    table = pa.table({"k": [1], "at": [dt.datetime(2026, 7, 1, 12, 0, 0, 1)]})
    made = source(schema={"k": int}, timezone="Asia/Kathmandu", **write(kind, table))
    at = dt.datetime(2026, 7, 1, 6, 15, 0, 1, tzinfo=UTC)
    (row,) = read(made)
    assert row["__ts"] == (at - dt.datetime(1970, 1, 1, tzinfo=UTC)) // dt.timedelta(microseconds=1)


# --- rows that do not fit -------------------------------------------------------------------------


def _sqlite(folder: Path, *values: Any) -> SQLite:
    path = folder / "bad.db"
    with closing(sqlite3.connect(path)) as con:
        con.execute("CREATE TABLE events (v, at)")
        con.executemany("INSERT INTO events VALUES (?, ?)", [(v, AT.isoformat()) for v in values])
        con.commit()
    return SQLite(str(path), table="events")


@pytest.mark.parametrize(
    ("type_", "good", "bad", "said"),
    [
        (int, 1, "1", "expected int.*: '1'"),
        (int, 1, 1.5, r"expected int.*: '1\.5'"),
        (int, 1, None, "null in a column declared int"),
        (bool, 1, 2, "expected bool, which SQLite keeps as 0 or 1: '2'"),
        (dt.date, "2026-01-01", "2026-1-1", "expected date, which SQLite keeps as a text"),
        (str, "a", b"a", "expected str, found bytes"),
        (bytes, b"a", "a", "expected bytes.*: 'a'"),
        (float, 1.5, "1.5", r"expected float.*: '1\.5'"),
    ],
)
def test_a_value_of_sqlite_of_another_type_is_a_bad_row(
    tmp_path: Path, type_: Any, good: Any, bad: Any, said: str
) -> None:
    options = {"origin": _sqlite(tmp_path, good, bad, good), "timestamp_format": "iso"}
    made = source(schema={"v": type_}, **options)
    with pytest.raises(BadRowError, match=rf"SQLite .*bad\.db, table events, row 1 .*{said}"):
        read(made)
    aside = source(schema={"v": type_}, on_bad_row="quarantine", **options)
    assert len(read(aside, tmp_path / "state")) == 2
    kept = pq.read_table(tmp_path / "state" / "quarantine" / "events.parquet").to_pylist()
    assert [row["v"] for row in kept] == [None]


def test_a_text_of_sqlite_that_is_not_utf_8_is_a_bad_row(tmp_path: Path) -> None:
    origin = _sqlite(tmp_path, "a")
    with closing(sqlite3.connect(origin.path)) as con:
        con.execute("INSERT INTO events VALUES (CAST(x'ff' AS TEXT), ?)", [AT.isoformat()])
        con.commit()
    said = refused(source(schema={"v": str}, origin=origin, timestamp_format="iso"), BadRowError)
    assert "row 1" in said
    assert "surrogate" in said


@pytest.mark.parametrize(
    ("type_", "good", "bad", "said"),
    [
        (int, "1::hugeint", "9223372036854775808", "an int outside 64 bits"),
        (int, "1::decimal(38, 1)", "1.5", "a decimal that is no int"),
        (dt.timedelta, "interval 1 day", "interval 1 month", "months, which have no fixed"),
        (dt.datetime, "timestamp '2026-01-01'", "'infinity'", "outside the years 1 to 9999"),
        (str, "'a'", "NULL", "null in a column declared str"),
    ],
)
def test_a_value_of_duckdb_outside_its_type_is_a_bad_row(
    tmp_path: Path, type_: Any, good: str, bad: str, said: str
) -> None:
    path = tmp_path / "bad.duckdb"
    with duckdb.connect(str(path)) as con:
        con.execute(f"CREATE TABLE events AS SELECT {good} AS v, now() AS at").fetchall()
        con.execute(f"INSERT INTO events VALUES ({bad}, now()), ({good}, now())").fetchall()
    options = {"origin": DuckDB(str(path), table="events"), "schema": {"v": type_}}
    assert said in refused(source(**options), BadRowError)
    assert len(read(source(on_bad_row="quarantine", **options), tmp_path / "state")) == 2


@pytest.mark.parametrize(
    ("type_", "held", "good", "bad", "said"),
    [
        (int, "numeric", "1.00", "1.5", "row 1 .*v: a decimal that is no int of 64 bits: '1.5'"),
        (int, "numeric", "-9223372036854775808", "9223372036854775808", "no int of 64 bits"),
        (int, "numeric", "0", "NaN", "a decimal that is no int"),
        (int | None, "numeric", "0", "Infinity", "a decimal that is no int"),
        (dt.date, "date", "2026-01-01", "infinity", "a date outside the years 1 to 9999"),
        (dt.datetime, "timestamp", "2026-01-01", "-infinity", "an instant outside the years"),
        (dt.datetime, "timestamptz", "2026-01-01", "0044-03-15 BC", "an instant outside the"),
        (dt.timedelta, "interval", "1 day 00:00:00.000001", "1 month", "months, which have no"),
        (list[int], "int8[]", "{1,2}", "{{1,2},{3,4}}", "an array of several dimensions"),
        (str, "text", "a", None, "null in a column declared str"),
    ],
)
@pytest.mark.usefixtures("write")
def test_a_value_of_postgres_outside_its_type_is_a_bad_row(
    postgres: PostgresServer, tmp_path: Path, type_: Any, held: str, good: str, bad: str, said: str
) -> None:
    other = "NULL" if bad is None else f"'{bad}'"
    postgres.do(
        "DROP TABLE IF EXISTS events",
        f"CREATE TABLE events (v {held}, at timestamptz)",
        f"INSERT INTO events VALUES ('{good}', now()), ({other}, now()), ('{good}', now())",
    )
    options = {"origin": Postgres(postgres.url, table="events"), "schema": {"v": type_}}
    with pytest.raises(BadRowError, match=f"{said}"):
        read(source(**options))
    rows = read(source(on_bad_row="quarantine", **options), tmp_path / "state")
    assert len(rows) == 2
    assert None not in (rows[0]["v"], rows[1]["v"])


@pytest.mark.usefixtures("write")
def test_what_the_driver_of_postgres_would_change_is_refused(postgres: PostgresServer) -> None:
    postgres.do(
        "DROP TABLE IF EXISTS events",
        "CREATE TABLE events (cents money, o oid, dates date[], n numeric, at timestamptz)",
    )
    for name, type_ in {"cents": int, "o": int, "dates": list[dt.date], "n": float}.items():
        made = source(origin=Postgres(postgres.url, table="events"), schema={name: type_})
        assert f"column {name!r}: declared {made.schema[name]}, found" in refused(made)
        assert "query=" in refused(made)
    cast = "SELECT cents::numeric::int AS cents, n::float8 AS n, at FROM events;"
    made = source(origin=Postgres(postgres.url, query=cast), schema={"cents": int, "n": float})
    assert read(made) == []


# --- what is not there ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*DATABASES, "delta"])
def test_a_column_that_is_not_there_is_named(write: Any, kind: str) -> None:
    options = write(kind, pa.table({"amount": [1], "at": [AT]}))
    said = refused(source(schema={"amuont": int}, timestamp_format="iso", **options))
    assert "there is no column 'amuont'; did you mean 'amount'? It has amount, at" in said


def test_columns_that_a_query_confuses_are_refused(tmp_path: Path) -> None:
    """SQLite and DuckDB find a column by its name in any case, and take the first one."""
    databases = [origins.to_sqlite, origins.to_duckdb]
    for origin in (write(few(1.0), tmp_path)["origin"] for write in databases):
        for columns, said in {
            "1 AS k, 2 AS K": "'k' and 'K' differ in case alone",
            "1 AS K, 2 AS k": "'k' and 'K' differ in case alone",
            "1 AS k, 2 AS k": "two columns are named 'k'",
            "1 AS K": "there is no column 'k'",
        }.items():
            asked = replace(origin, table=None, query=f'SELECT {columns}, "at" FROM events')
            made = source(origin=asked, schema={"k": int}, timestamp_format="iso")
            assert said in refused(made)


@pytest.mark.parametrize("kind", DATABASES)
def test_a_table_that_is_not_there_is_an_error_of_the_source(write: Any, kind: str) -> None:
    origin = write(kind, pa.table({"k": [1], "at": [AT]}))["origin"]
    for wrong, hint in (("no_such_table", ""), ("event", "did you mean .events.")):
        said = refused(source(schema={"k": int}, origin=replace(origin, table=wrong)))
        assert "EventSource 'events'" in said
        assert wrong in said
        assert re.search(hint, said, re.IGNORECASE) or kind == "duckdb", said


@pytest.mark.parametrize(
    ("origin", "said"),
    [
        (SQLite("no.db", table="t"), "there is no file 'no.db'"),
        (DuckDB("no.duckdb", table="t"), "there is no file 'no.duckdb'"),
        (Delta("no_lake"), "there is no folder 'no_lake'"),
        (Delta("."), "it has no _delta_log"),
        (Postgres("postgresql://a@127.0.0.1:1/x", table="t"), "Connection refused"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_origin_that_is_not_there_is_named(origin: Any, said: str) -> None:
    assert said in refused(source(schema={"k": int}, origin=origin))


def test_no_error_and_no_name_holds_the_password(
    write: Any, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    options = write("postgres", pa.table({"k": [1], "at": [AT]}))
    made = source(schema={"k": int}, **options)
    assert len(read(made, tmp_path)) == 1
    kept = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert PASSWORD.encode() not in kept
    assert PASSWORD not in repr(made)
    monkeypatch.setenv("EVENTS_PASSWORD", "wr ong")
    said = refused(made)
    assert "authentication failed" in said
    assert "wr ong" not in said
    assert "wr%20ong" not in said
    url = f"postgresql://reader@/postgres?host=/{'${EVENTS_PASSWORD}'}"  # which the driver repeats
    said = refused(source(schema={"k": int}, origin=Postgres(url, table="events")))
    assert "/***/.s.PGSQL" in said
    monkeypatch.delenv("EVENTS_PASSWORD")
    assert "the environment has no variable 'EVENTS_PASSWORD'; set it" in refused(made)


@pytest.mark.parametrize(
    ("module", "origin", "extra"),
    [
        ("adbc_driver_postgresql", Postgres("postgresql://a@b/c", table="t"), "postgres"),
        ("deltalake", Delta("lake"), "delta"),
    ],
)
def test_a_library_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, module: str, origin: Any, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    said = refused(source(schema={"k": int}, origin=origin))
    assert f"pip install 'featurekit[{extra}]'" in said


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: SQLite("x.db"), 'SQLite: write table="orders"'),
        (lambda: SQLite("x.db", table="t", query="SELECT 1"), "one of them alone"),
        (lambda: DuckDB("", table="t"), "DuckDB: path is a text"),
        (lambda: DuckDB("x.duckdb", table=3), "table is a text, found 3"),
        (lambda: Postgres("host=b password=hunter2", table="t"), "begins with postgresql://"),
        (lambda: Postgres("postgresql://a:hunter2@b/c", table="t"), "write a variable of the env"),
        (lambda: Postgres("postgresql://a@b/c?password=hunter2", table="t"), "write a variable"),
        (lambda: Delta("gs://bucket/lake"), "gs://… is not read"),
        (lambda: Delta("lake", version=-1), "version is a number from 0 on, found -1"),
        (lambda: Delta("lake", version=1, as_of="2026-01-01T00:00:00Z"), "both say which version"),
        (lambda: Delta("lake", as_of="2026-01-01"), "as_of is an instant with its offset"),
        (lambda: source(schema={"k": int}, origin="x.db"), r"origin is SQLite\(…\), DuckDB"),
        (lambda: source(schema={"k": int}, origin=Delta("x"), path="y.csv"), "origin=, path= or"),
        (lambda: source(schema={"k": int}, origin=Delta("x"), format="csv"), "no format= beside"),
        (lambda: source(schema={"k": int}, origin=Delta("x"), delimiter=";"), "delimiter is abo"),
    ],
)
def test_what_is_no_origin_is_refused_without_a_password(make: Any, said: str) -> None:
    with pytest.raises(DefinitionError, match=said) as error:
        make()
    assert "hunter2" not in str(error.value)


# --- one reading ----------------------------------------------------------------------------------


def few(*values: float) -> pa.Table:
    return events(len(values)).set_column(1, "x", pa.array(values)).set_column(
        0, "k", pa.array([0] * len(values))
    )  # fmt: skip


@pytest.mark.parametrize("kind", slow_unless(lambda k: k != "duckdb", [*DATABASES, "delta"]))
def test_one_call_reads_one_snapshot(write: Any, kind: str) -> None:
    labels = [{"k": 0, "event_timestamp": AT + dt.timedelta(hours=9)}]
    with FeatureStore(definitions=[service(write(kind, few(1.0)))]) as store:
        store.apply()
        trained = store.get_historical_features(labels, "service")
        assert trained.to_pylist()[0]["rows"] == 1
        write(kind, few(2.0, 3.0))
        assert trained.to_pylist()[0]["rows"] == 1  # it was read, and is what it was
        with one_reading():
            store.materialize(AT + dt.timedelta(hours=9))
            write(kind, few(4.0, 5.0, 6.0))
            found = store.get_historical_features(labels, "service").to_pylist()
        at = [AT + dt.timedelta(hours=9)]
        served = store.get_online_features("service", [{"k": 0}], at[0]).to_pylist()
        assert (found[0]["rows"], served[0]["rows"]) == (2, 2)
        report = store.check_parity("service", budget=200)
        assert report.ok, report
        store.materialize_incremental(AT + dt.timedelta(hours=9))
        store.materialize(AT + dt.timedelta(hours=9))
        assert store.get_online_features("service", [{"k": 0}], at[0]).to_pylist()[0]["rows"] == 3
        assert store.check_parity("service", mode="sample", budget=200).ok


@pytest.mark.parametrize("kind", DATABASES)
def test_what_has_not_changed_is_not_copied_again(
    write: Any, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, copied = [], copies._write
    monkeypatch.setattr(copies, "_write", lambda *told: made.append(1) or copied(*told))
    options = {"schema": EVENTS, "timestamp_format": "iso"}
    first = source(**options, **write(kind, events(20)))
    rows = read(first, tmp_path / "state")
    assert bits(read(first, tmp_path / "state")) == bits(rows)
    assert made == [1]
    (copy,) = (tmp_path / "state" / "copies").glob("*.parquet")
    copy.write_bytes(copy.read_bytes()[:-1])  # it was damaged, and is made anew
    assert bits(read(first, tmp_path / "state")) == bits(rows)
    assert made == [1, 1]
    write(kind, events(30))
    assert len(read(first, tmp_path / "state")) == 30
    read(source(**{**options, "schema": {"k": int}}, origin=first.origin), tmp_path / "state")
    assert made == [1] * 4


def test_a_table_whose_server_works_on_others_has_one_copy(
    write: Any, postgres: PostgresServer, tmp_path: Path
) -> None:
    made = source(schema={"k": int}, **write("postgres", pa.table({"k": [1], "at": [AT]})))
    for n in range(3):
        assert len(read(made, tmp_path)) == 1
        postgres.do(f"CREATE TABLE other_{n} ()", f"DROP TABLE other_{n}")
    assert len([*(tmp_path / "copies").glob("*.parquet")]) == 1


@pytest.fixture
def handed_over(write: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each statement has brought from PostgreSQL."""
    del write  # it sets the reader's password
    counts: list[int] = []
    read_ = in_postgres._Snapshot._read

    def counted(*given: Any) -> Iterator[pa.RecordBatch]:
        counts.append(0)
        place = len(counts) - 1
        for batch in read_(*given):
            counts[place] += batch.num_rows
            yield batch

    monkeypatch.setattr(in_postgres._Snapshot, "_read", counted)
    return counts


GROWN = "INSERT INTO events (k, x, at) SELECT 10 + n, n, now() FROM generate_series(1, 3) n"


def read_whole(made: EventSource) -> list[Any]:
    """The rows by a reading that knows of no copy, in order."""
    with TemporaryDirectory() as folder:
        return sorted(map(bits, read(made, Path(folder))))


def grown(postgres: PostgresServer, state: Path) -> EventSource:
    """A source of a table with ten rows, which was read once."""
    table = pa.table({"k": [*range(10)], "x": [n / 8 for n in range(10)], "at": [AT] * 10})
    made = source(schema={"k": int, "x": float}, **postgres.write(table, state))
    assert len(read(made, state)) == 10
    return made


def test_a_table_that_has_grown_hands_over_its_new_rows_alone(
    postgres: PostgresServer, tmp_path: Path, handed_over: list[int]
) -> None:
    made = grown(postgres, tmp_path)
    for turn in range(1, 4):
        postgres.do(GROWN)
        found = read(made, tmp_path)
        assert len(found) == 10 + 3 * turn
        assert sorted(map(bits, found)) == read_whole(made)
    kept = [n for n in handed_over if n]
    assert kept == [10, 3, 13, 3, 16, 3, 19]  # each time a reading that keeps nothing reads it all
    postgres.do("VACUUM FREEZE events", GROWN)
    handed_over.clear()
    assert len(read(made, tmp_path)) == 22
    assert sum(handed_over) == 3


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE events SET x = 7 WHERE k = 1",
        "DELETE FROM events WHERE k = 1",
        "TRUNCATE events; INSERT INTO events SELECT n, n, now() FROM generate_series(1, 10) n",
        "ALTER TABLE events DROP x; ALTER TABLE events ADD x FLOAT8 DEFAULT 7",
        "ALTER TABLE events RENAME x TO y; ALTER TABLE events ADD x FLOAT8 DEFAULT 8",
        "VACUUM FULL events",
        "DELETE FROM events WHERE k = 1; INSERT INTO events VALUES (1, 7, now())",
        "ALTER TABLE events ADD new INT",
    ],
)
def test_a_table_whose_rows_were_changed_is_read_whole(
    postgres: PostgresServer, tmp_path: Path, handed_over: list[int], change: str
) -> None:
    made = grown(postgres, tmp_path)
    handed_over.clear()
    postgres.do(*change.split("; "), GROWN)
    found = read(made, tmp_path)
    assert sum(handed_over) == len(found)
    assert sorted(map(bits, found)) == read_whole(made)


def test_rows_of_transactions_that_end_later_are_not_missed(
    postgres: PostgresServer, tmp_path: Path, handed_over: list[int]
) -> None:
    """Nor are those of their savepoints, whose numbers no snapshot names."""
    made = grown(postgres, tmp_path)
    with postgres.owning() as late:
        late.execute("BEGIN")
        late.execute("INSERT INTO events VALUES (100, 1, now())")
        late.execute("SAVEPOINT one")
        late.execute("INSERT INTO events VALUES (101, 1, now())")
        late.execute("RELEASE SAVEPOINT one")
        postgres.do(GROWN, GROWN)
        handed_over.clear()
        assert len(read(made, tmp_path)) == 16
        assert sum(handed_over) == 6
        late.execute("COMMIT")
    handed_over.clear()
    postgres.do(GROWN)
    found = read(made, tmp_path)
    assert sum(handed_over) == 11  # those that were not settled, these, and the late ones
    assert sorted(map(bits, found)) == read_whole(made)


@pytest.mark.usefixtures("handed_over")
def test_a_row_that_goes_as_a_late_one_comes_is_seen(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    made = grown(postgres, tmp_path)
    with postgres.owning() as late:
        late.execute("BEGIN")
        late.execute("INSERT INTO events VALUES (100, 1, now())")
        postgres.do(GROWN)
        assert len(read(made, tmp_path)) == 13
        late.execute("COMMIT")
    postgres.do("DELETE FROM events WHERE k = 1")
    found = read(made, tmp_path)
    assert sorted(map(bits, found)) == read_whole(made)


def test_a_copy_that_is_damaged_or_gone_is_not_grown_from(
    postgres: PostgresServer, tmp_path: Path, handed_over: list[int]
) -> None:
    made = grown(postgres, tmp_path)
    for turn, harm in enumerate((lambda p: p.write_bytes(p.read_bytes()[:-1]), Path.unlink)):
        for copy in (tmp_path / "copies").glob("*.parquet"):
            harm(copy)
        handed_over.clear()
        postgres.do(GROWN)
        found = read(made, tmp_path)
        assert len(found) == sum(handed_over) == 13 + 3 * turn


def test_what_a_grown_table_gives_is_one_content(
    postgres: PostgresServer, tmp_path: Path, handed_over: list[int]
) -> None:
    """Values of every type, rows that are set aside among them, and a training set made again."""
    table, state = events(), tmp_path / "state"
    options = postgres.write(table.slice(0, 150), tmp_path)
    with FeatureStore(definitions=[service(options)], state_folder=state) as store:
        store.get_historical_features(LABELS, "service").to_arrow()
        with postgres.owning() as cursor:
            cursor.adbc_ingest("events", table.slice(150), mode="append")
        handed_over.clear()
        trained = store.get_historical_features(LABELS, "service")
        assert trained.manifest["content_hash"] == expected()[0]
        assert sum(handed_over) == 50


def test_a_view_of_postgres_is_read_each_time(write: Any, postgres: PostgresServer) -> None:
    write("postgres", pa.table({"k": [1], "at": [AT]}))
    postgres.do("CREATE VIEW ticking AS SELECT 1::int8 AS k, clock_timestamp() AS at")
    made = source(schema={"k": int}, origin=Postgres(postgres.url, table="ticking"))
    assert read(made)[0]["__ts"] < read(made)[0]["__ts"]
    postgres.do("DROP VIEW ticking")


def test_few_copies_are_kept_closed_and_collected(tmp_path: Path) -> None:
    for n in range(6):
        options = origins.to_sqlite(few(*range(n + 1)), tmp_path)
        with FeatureStore(definitions=[service(options)], state_folder=tmp_path / "state") as store:
            store.get_historical_features(LABELS, "service").to_arrow()
    folder = next((tmp_path / "state").rglob("copies"))
    assert len([*folder.glob("*.parquet")]) == 4
    modes = {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in (folder, *folder.iterdir())}
    assert modes == {0}
    with FeatureStore(definitions=[service(options)], state_folder=tmp_path / "state") as store:
        store.apply()
        store.materialize(AT + dt.timedelta(hours=9))
        store.gc()
        left = sorted(path.suffix for path in folder.iterdir())
        assert left == [".json", ".parquet"]
        origins.to_sqlite(few(7.0), tmp_path)
        store.get_historical_features(LABELS, "service").to_arrow()
        forgot = store.forget("customer", {"k": 0})
        assert forgot.files[0].path == f"SQLite {tmp_path / 'events.db'}, table events"
        assert len([*folder.glob("*.parquet")]) == 1  # the older one has the entity's rows, too
        with pytest.raises(SourceError, match="is not rewritten; take the rows out there"):
            store.forget("customer", {"k": 1}, rewrite_files=True)


def test_a_duckdb_that_somebody_writes_says_so(tmp_path: Path) -> None:
    options = origins.to_duckdb(few(1.0), tmp_path)
    with duckdb.connect(options["origin"].path):
        said = refused(source(schema={"k": int}, **options))
    assert "somebody has it open to write, so close it there first" in said


def test_rows_in_the_log_of_sqlite_are_read(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "x.db")) as con:
        con.execute("PRAGMA journal_mode = WAL")
        con.execute("CREATE TABLE t (k INTEGER, at TEXT)")
        origin = SQLite(str(tmp_path / "x.db"), table="t")
        made = source(schema={"k": int}, origin=origin, timestamp_format="iso")
        for n in range(1, 4):
            con.execute("INSERT INTO t VALUES (1, ?)", [AT.isoformat()])
            con.commit()
            assert len(read(made, tmp_path / "state")) == n


def test_a_check_of_a_repo_copies_no_whole_table(tmp_path: Path) -> None:
    options = origins.to_sqlite(events(3_000), tmp_path)
    with FeatureStore(definitions=[service(options)], state_folder=tmp_path / "state") as store:
        (checked,) = store.check_sources()
        assert (checked.files, checked.faults) == (1, ())
        assert not [*(tmp_path / "state").rglob("copies/*")]


# --- Delta Lake -----------------------------------------------------------------------------------


def lake(folder: Path, *tables_: pa.Table, **options: Any) -> Path:
    from deltalake import write_deltalake

    for table in tables_:
        write_deltalake(str(folder), table, mode="append", schema_mode="merge", **options)
    return folder


def values(origin: Delta, schema: dict[str, Any]) -> list[tuple[Any, ...]]:
    rows = read(source(origin=origin, schema=schema))
    return sorted((tuple(row[name] for name in schema) for row in rows), key=repr)


def test_partitions_are_read_from_the_log(tmp_path: Path) -> None:
    texts = ["a b", "ü/%20=", None, "NA", "1"]
    table = pa.table(
        {
            "r": pa.array(texts), "d": [dt.date(2026, 1, 1)] * 5, "n": [-(2**63)] * 5,
            "b": [True, False, None, True, False], "at": [AT] * 5,
        }
    )  # fmt: skip
    path = lake(tmp_path / "lake", table, partition_by=["r", "d", "n", "b"])
    schema = {"r": str | None, "d": dt.date, "n": int, "b": bool | None}
    found = values(Delta(str(path)), schema)
    rows = [tuple(row[name] for name in schema) for row in table.to_pylist()]
    assert found == sorted(rows, key=repr)


def test_a_partition_that_has_no_text_is_read_through_the_library(tmp_path: Path) -> None:
    at = [AT, AT + dt.timedelta(microseconds=1)]
    table = pa.table({"k": [1, 2], "at": pa.array(at, pa.timestamp("us", "UTC"))})
    path = lake(tmp_path / "lake", table, partition_by=["at"])
    made = source(origin=Delta(str(path)), schema={"k": int}, timezone="Asia/Kathmandu")
    us = [(one - dt.datetime(1970, 1, 1, tzinfo=UTC)) // dt.timedelta(microseconds=1) for one in at]
    assert sorted((row["k"], row["__ts"]) for row in read(made)) == [(1, us[0]), (2, us[1])]


def test_a_column_that_came_later_is_null_before(tmp_path: Path) -> None:
    first = pa.table({"k": [1], "at": [AT]})
    second = first.append_column("x", pa.array([0.5])).append_column(
        "items", pa.array([[1]], pa.list_(pa.int64()))
    )
    path = lake(tmp_path / "lake", first, second)
    schema = {"k": int, "x": float | None, "items": list[int] | None}
    assert values(Delta(str(path)), schema) == [(1, 0.5, [1]), (1, None, None)]
    assert values(Delta(str(path), version=0), {"k": int}) == [(1,)]
    said = refused(source(origin=Delta(str(path), version=0), schema=schema))
    assert "there is no column 'x'" in said


def test_a_version_is_pinned_by_number_or_instant(tmp_path: Path) -> None:
    path = lake(tmp_path / "lake", *(pa.table({"k": [n], "at": [AT]}) for n in range(3)))
    logs = sorted((path / "_delta_log").glob("*.json"))
    for n, log in enumerate(logs):
        os.utime(log, (1_900_000_000 + n, 1_900_000_000 + n))
    assert [len(values(Delta(str(path), version=n), {"k": int})) for n in range(3)] == [1, 2, 3]
    at = dt.datetime.fromtimestamp(1_900_000_001, UTC)
    assert len(values(Delta(str(path), as_of=at), {"k": int})) == 2
    assert len(values(Delta(str(path)), {"k": int})) == 3
    early = Delta(str(path), as_of="2020-01-01T00:00:00+00:00")
    assert "its first version that is kept is a later one" in refused(
        source(origin=early, schema={"k": int})
    )
    late = source(origin=Delta(str(path), version=9), schema={"k": int})
    assert "there is no such version; the newest one is 2" in refused(late)


def test_a_table_without_rows_is_read(tmp_path: Path) -> None:
    from deltalake import DeltaTable

    empty = pa.schema([("k", pa.int64()), ("at", pa.timestamp("us", "UTC"))])
    DeltaTable.create(str(tmp_path / "lake"), schema=empty)
    assert values(Delta(str(tmp_path / "lake")), {"k": int}) == []


def _vector(*rows: int) -> dict[str, Any]:
    """A deletion vector of some rows of a file, as it stands in the log: a roaring bitmap."""
    array = b"".join(row.to_bytes(2, "little") for row in rows)
    word = lambda n, size=4: n.to_bytes(size, "little")  # noqa: E731
    head = word(12346) + word(1) + word(0, 2) + word(len(rows) - 1, 2) + word(16)
    data = word(1681511377) + word(1, 8) + word(0) + head + array
    padded = data + b"\0" * (-len(data) % 4)
    text = base64.b85encode(padded).decode().translate(str.maketrans(B85, Z85))
    return {
        "storageType": "i", "pathOrInlineDv": text, "sizeInBytes": len(data),
        "cardinality": len(rows),
    }  # fmt: skip


B85 = "".join(chr(c) for c in base64._b85alphabet)
Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


def _commit(path: Path, *actions: dict[str, Any]) -> None:
    """Add a version to a table's log by hand."""
    log = path / "_delta_log"
    number = len([*log.glob("*.json")])
    text = "".join(json.dumps(action) + "\n" for action in actions)
    (log / f"{number:020}.json").write_text(text)


def _added(path: Path) -> dict[str, Any]:
    lines = (path / "_delta_log" / f"{0:020}.json").read_text().splitlines()
    (found,) = (json.loads(line)["add"] for line in lines if "add" in json.loads(line))
    return dict(found)


def _protocol(*features: str) -> dict[str, Any]:
    both = {"readerFeatures": [*features], "writerFeatures": [*features]}
    return {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, **both}}


def test_rows_that_a_vector_deletes_are_not_read(tmp_path: Path) -> None:
    path = lake(tmp_path / "lake", pa.table({"k": range(5), "at": [AT] * 5}))
    add = _added(path)
    removed = {"path": add["path"], "dataChange": True, "deletionTimestamp": 1}
    _commit(
        path,
        _protocol("deletionVectors"),
        {"remove": removed},
        {"add": {**add, "deletionVector": _vector(1, 3)}},
    )
    assert values(Delta(str(path)), {"k": int}) == [(0,), (2,), (4,)]
    assert len(values(Delta(str(path), version=0), {"k": int})) == 5
    with FeatureStore(definitions=[_counting(Delta(str(path)))]) as store:
        labels = [{"k": k, "event_timestamp": AT} for k in range(5)]
        trained = store.get_historical_features(labels, "service")
        assert [row["rows"] for row in trained.to_pylist()] == [1, 0, 1, 0, 1]
        about = trained.manifest["sources"]["events"]["files"][0]
        assert (about["version"], about["rows"]) == (1, 3)
        assert store.check_parity("service", budget=100).ok


def _counting(origin: Any) -> FeatureService:
    made = source(origin=origin, schema={"k": int})
    features = {"rows": Count(window="1d")}
    view = FeatureView("view", entities=[customer], source=made, features=features)
    return FeatureService("service", features=[view])


@pytest.mark.parametrize("protocol", ["features", "version 2"])
def test_a_renamed_column_is_read_by_its_name(tmp_path: Path, protocol: str) -> None:
    path = lake(tmp_path / "lake", pa.table({"k": [1, 2], "at": [AT] * 2}))
    log = path / "_delta_log" / f"{0:020}.json"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:
        if "metaData" in line:
            schema = json.loads(line["metaData"]["schemaString"])
            for number, field in enumerate(schema["fields"], 1):
                held = field["name"]
                field["name"] = {"k": "customer"}.get(held, held)
                field["metadata"] = {
                    "delta.columnMapping.id": number,
                    "delta.columnMapping.physicalName": held,
                }
            line["metaData"]["schemaString"] = json.dumps(schema)
            line["metaData"]["configuration"] = {"delta.columnMapping.mode": "name"}
        if "protocol" in line:
            line["protocol"] = {"minReaderVersion": 2, "minWriterVersion": 5}
            if protocol == "features":
                line["protocol"] = _protocol("columnMapping")["protocol"]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert values(Delta(str(path)), {"customer": int}) == [(1,), (2,)]
