"""Files, tables of lakes, objects of S3 and databases as sources, beside reading by hand.

DuckDB then computes something of every column.

Of a database and of CSV, the columns are read by hand with the library itself and written to
Parquet first, and no row is checked. Our first reading also checks every row, hashes the copy and
keeps both. The second one is of what was kept, where nothing has changed. Of files and of tables of
lakes it is the one to compare, since the first hashes every file and checks every row (S4). Delta
Lake, Iceberg, S3 and PostgreSQL, on servers of this machine, are measured where their libraries and
the server of PostgreSQL are installed.
"""

from __future__ import annotations

import gzip
import logging
import os
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.parquet as pq

from benchmarks.measure import OURS, Result, interleaved
from featurekit import Delta, DuckDB, EventSource, Iceberg, Postgres, SQLite
from featurekit.sources import read_events

PEER = "by hand"
SETTLED_S = 2.5
SIZES = {"smoke": 20_000, "medium": 1_000_000, "full": 5_000_000}
COLUMNS = '"k", "q", "p", "s", "at"'
TYPES = [("k", pa.int64()), ("q", pa.int64()), ("p", pa.float64()), ("s", pa.string()),
         ("at", pa.int64())]  # fmt: skip
SUMS = (
    'SELECT sum(q), sum(k), count(*) FILTER (p > 0.5), sum(length(s)), sum("{at}" % 1000) '
    "FROM {rows}"
)
"""Of each column something that no statistics of a file tell."""
COPIED = ("SQLite", "DuckDB", "PostgreSQL", "CSV.gz")
MOST = 1.3
"""The most time beside reading by hand."""


def results(size: str, runs: int) -> Iterator[Result]:
    """Each origin, first read and read again."""
    rows = SIZES[size]
    with tempfile.TemporaryDirectory() as name, ExitStack() as servers:
        folder = Path(name)
        table = _table(rows)
        for what, (options, by_hand) in _origins(table, folder, servers).items():
            first, again = Ours(options, folder), Ours(options, folder, keeps=True)
            assert first() == by_hand() == again()
            time.sleep(SETTLED_S)  # until then a file that was just written is hashed each time
            again()
            works = {OURS: first, PEER: by_hand, "again": again}
            taken = interleaved(works, runs)
            kept = {OURS: taken.pop("again"), PEER: taken[PEER]}
            shown, copied = f"{rows:,} × 5 columns", what in COPIED
            goals = (MOST, None) if copied else (None, MOST)
            yield Result(f"{what}: read and checked", shown, "s", taken, PEER, goals[0])
            yield Result(f"{what}: read again, unchanged", shown, "s", kept, PEER, goals[1])


class Ours:
    """A source that is read into a state folder of its own each time, or into one that `keeps`."""

    def __init__(self, options: Any, folder: Path, *, keeps: bool = False) -> None:
        schema = {"k": int, "q": int, "p": float, "s": str}
        how: dict[str, Any] = {"timestamp_field": "at", "timestamp_format": "epoch_us"}
        self.source = EventSource("events", schema=schema, **how, **options)
        self.folder = folder
        self.kept = Path(tempfile.mkdtemp(dir=folder)) if keeps else None

    def __call__(self) -> Any:
        state = self.kept or Path(tempfile.mkdtemp(dir=self.folder))
        with duckdb.connect() as con:
            con.execute("SET TimeZone = 'UTC'").fetchall()
            relation = read_events(con, self.source, base=Path(), state_dir=state).relation
            return con.execute(SUMS.format(at="__ts", rows=relation)).fetchall()


def _table(rows: int) -> pa.Table:
    rng = np.random.default_rng(rows)
    names = rng.choice(["red mug", "white lamp", "card"], rows)
    values = [rng.integers(0, 50_000, rows), rng.integers(-5, 100, rows), rng.random(rows), names,
              1_700_000_000_000_000 + rng.integers(0, 10**13, rows)]  # fmt: skip
    given = [pa.array(v, t) for v, (_, t) in zip(values, TYPES, strict=True)]
    return pa.Table.from_arrays(given, schema=pa.schema(TYPES))


def _sums(rows: str) -> Any:
    with duckdb.connect() as con:
        return con.execute(SUMS.format(at="at", rows=rows)).fetchall()


def _origins(
    table: pa.Table, folder: Path, servers: ExitStack
) -> dict[str, tuple[dict[str, Any], Callable[[], Any]]]:
    """Each origin with the rows of the table, as the options of a source, and how it is read by
    hand."""
    made = _files(table, folder) | _databases(table, folder)
    made |= {"frame of Arrow": ({"frame": table}, partial(_of_frame, table))}
    for more in (
        _delta,
        _iceberg,
        partial(_s3, servers=servers),
        partial(_postgres, servers=servers),
    ):
        with suppress(ModuleNotFoundError):
            made |= more(table, folder)
    return made


def _files(table: pa.Table, folder: Path) -> dict[str, Any]:
    pq.write_table(table, folder / "x.parquet")
    parts = pa.dataset.partitioning(pa.schema([("s", pa.string())]), flavor="hive")
    pa.dataset.write_dataset(table, folder / "hive", format="parquet", partitioning=parts)
    one, hive = str(folder / "x.parquet"), str(folder / "hive" / "*" / "*.parquet")
    with gzip.open(folder / "x.csv.gz", "wb", compresslevel=1) as file:
        pyarrow.csv.write_csv(table, file)
    packed = folder / "x.csv.gz"
    return {
        "CSV.gz": ({"path": str(packed)}, partial(_of_csv, packed)),
        "Parquet": ({"path": one}, partial(_sums, f"read_parquet('{one}')")),
        "Hive": ({"path": hive}, partial(_sums, f"read_parquet('{hive}', hive_partitioning=true)")),
    }


def _databases(table: pa.Table, folder: Path) -> dict[str, Any]:
    in_sqlite, in_duckdb = folder / "x.db", folder / "x.duckdb"
    with closing(sqlite3.connect(in_sqlite)) as con:
        con.execute('CREATE TABLE t (k INT, q INT, p REAL, s TEXT, "at" INT)')
        rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
        con.executemany("INSERT INTO t VALUES (?, ?, ?, ?, ?)", rows)
        con.commit()
    with duckdb.connect(str(in_duckdb)) as database:
        database.register("given", table)
        database.execute("CREATE TABLE t AS SELECT * FROM given").fetchall()
    return {
        "SQLite": ({"origin": SQLite(str(in_sqlite), table="t")}, partial(_of_sqlite, in_sqlite)),
        "DuckDB": ({"origin": DuckDB(str(in_duckdb), table="t")}, partial(_of_duckdb, in_duckdb)),
    }


def _delta(table: pa.Table, folder: Path) -> dict[str, Any]:
    from deltalake import DeltaTable, write_deltalake

    path = str(folder / "lake")
    write_deltalake(path, table)

    def by_hand() -> Any:
        return _sums(f"read_parquet({DeltaTable(path).file_uris()})")

    return {"Delta Lake": ({"origin": Delta(path)}, by_hand)}


def _iceberg(table: pa.Table, folder: Path) -> dict[str, Any]:
    from pyiceberg.catalog import load_catalog

    how = {"name": "lake", "type": "sql", "uri": f"sqlite:///{folder}/catalog.db"}
    catalog = how | {"warehouse": f"file://{folder}/iceberg"}
    load_catalog(**catalog).create_namespace("shop")
    load_catalog(**catalog).create_table("shop.events", schema=table.schema).append(table)

    def by_hand() -> Any:
        tasks = load_catalog(**catalog).load_table("shop.events").scan().plan_files()
        return _sums(f"read_parquet({[task.file.file_path for task in tasks]})")

    return {"Iceberg": ({"origin": Iceberg("shop.events", catalog=catalog)}, by_hand)}


def _s3(table: pa.Table, folder: Path, *, servers: ExitStack) -> dict[str, Any]:
    import boto3
    import fsspec
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    servers.callback(server.stop)
    host, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "reader", "AWS_SECRET_ACCESS_KEY": "of the shop"}
    where = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
    servers.enter_context(patch.dict(os.environ, keys | where))
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    client = boto3.client("s3")
    client.create_bucket(Bucket="shop")
    client.upload_file(str(folder / "x.parquet"), "shop", "x.parquet")

    def by_hand() -> Any:
        events = pq.read_table("shop/x.parquet", filesystem=fsspec.filesystem("s3"))
        with duckdb.connect() as con:
            con.register("events", events)
            return con.execute(SUMS.format(at="at", rows="events")).fetchall()

    return {"S3": ({"path": "s3://shop/x.parquet"}, by_hand)}


def _postgres(table: pa.Table, folder: Path, *, servers: ExitStack) -> dict[str, Any]:
    """A server of its own; none where PostgreSQL is not installed here."""
    from adbc_driver_postgresql import dbapi

    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not binaries:
        return {}
    home = Path(servers.enter_context(tempfile.TemporaryDirectory(prefix="pg-")))
    who: dict[str, Any] = {}
    if os.geteuid() == 0:  # it refuses to run as root
        who = {"user": "nobody", "group": "nogroup"}
        shutil.chown(home, "nobody")

    def run(program: str, *arguments: object) -> None:
        told = [str(binaries[-1].parent / program), "-D", str(home / "data"), *map(str, arguments)]
        subprocess.run(told, cwd=home, stdout=subprocess.DEVNULL, check=True, **who)

    run("initdb", "-U", "owner", "-A", "trust", "-N", "-E", "UTF8")
    options = f"-k {home} -c listen_addresses= -c fsync=off"
    run("pg_ctl", "-o", options, "-l", home / "log", "-w", "start")
    servers.callback(run, "pg_ctl", "-m", "immediate", "-w", "stop")
    url = f"postgresql://owner@/postgres?host={home}"
    with dbapi.connect(url) as con, con.cursor() as cursor:
        cursor.adbc_ingest("t", table, mode="create")
        con.commit()
    return {
        "PostgreSQL": ({"origin": Postgres(url, table="t")}, partial(_of_postgres, url, folder))
    }


def _of_postgres(url: str, folder: Path) -> Any:
    from adbc_driver_postgresql import dbapi

    copy = folder / "of_postgres.parquet"
    with dbapi.connect(url) as con, con.cursor() as cursor:
        cursor.execute(f"SELECT {COLUMNS} FROM t")
        reader = cursor.fetch_record_batch()
        with pq.ParquetWriter(copy, reader.schema) as writer:
            for batch in reader:
                writer.write_batch(batch)
    return _sums(f"read_parquet('{copy}')")


def _of_csv(path: Path) -> Any:
    """By DuckDB, which is told the types."""
    copy = path.with_suffix(".parquet")
    types = "{'k': 'BIGINT', 'q': 'BIGINT', 'p': 'DOUBLE', 's': 'VARCHAR', 'at': 'BIGINT'}"
    read = f"read_csv('{path}', header=true, auto_detect=false, columns={types})"
    with duckdb.connect() as con:
        con.execute(f"COPY (FROM {read}) TO '{copy}' (FORMAT parquet)").fetchall()
    return _sums(f"read_parquet('{copy}')")


def _of_frame(table: pa.Table) -> Any:
    with duckdb.connect() as con:
        con.register("events", table)
        return con.execute(SUMS.format(at="at", rows="events")).fetchall()


def _of_sqlite(path: Path) -> Any:
    schema, copy = pa.schema(TYPES), path.with_suffix(".parquet")
    with closing(sqlite3.connect(path)) as con, pq.ParquetWriter(copy, schema) as writer:
        cursor = con.execute(f"SELECT {COLUMNS} FROM t")
        while rows := cursor.fetchmany(1 << 16):
            columns = zip(zip(*rows, strict=True), schema, strict=True)
            arrays = [pa.array(values, field.type) for values, field in columns]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
    return _sums(f"read_parquet('{copy}')")


def _of_duckdb(path: Path) -> Any:
    copy = path.with_suffix(".parquet")
    with duckdb.connect(str(path), read_only=True) as con:
        reader = con.sql(f"SELECT {COLUMNS} FROM t").to_arrow_reader(1 << 16)
        with pq.ParquetWriter(copy, reader.schema) as writer:
            for batch in reader:
                writer.write_batch(batch)
    return _sums(f"read_parquet('{copy}')")
