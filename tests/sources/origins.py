"""The same events as files, in databases and in a table of a lake, for tests of them."""

from __future__ import annotations

import datetime as dt
import gzip
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from featurekit import Delta, DuckDB, Iceberg, Postgres, SQLite

PASSWORD = "p w'%/1"
Write = Callable[[pa.Table, Path], dict[str, Any]]
"""Writes a table of events into a folder; gives the options of an EventSource that read it."""


def to_parquet(table: pa.Table, folder: Path) -> dict[str, Any]:
    pq.write_table(table, folder / "events.parquet")
    return {"path": str(folder / "events.parquet")}


def to_csv(table: pa.Table, folder: Path) -> dict[str, Any]:
    with gzip.open(folder / "events.csv.gz", "wb") as file:
        pyarrow.csv.write_csv(table, file)
    return {"path": str(folder / "events.csv.gz")}


def to_sqlite(table: pa.Table, folder: Path) -> dict[str, Any]:
    path = folder / "events.db"
    with closing(sqlite3.connect(path)) as con:
        names = ", ".join(f'"{name}"' for name in table.column_names)
        con.execute("DROP TABLE IF EXISTS events")
        con.execute(f"CREATE TABLE events ({names})")  # no types: a value is kept as it is given
        rows = [[_of_sqlite(value) for value in row.values()] for row in table.to_pylist()]
        marks = ", ".join("?" * table.num_columns)
        con.executemany(f"INSERT INTO events VALUES ({marks})", rows)
        con.commit()
    return {"origin": SQLite(str(path), table="events")}


def _of_sqlite(value: Any) -> Any:
    return value.isoformat() if isinstance(value, (dt.date, dt.datetime)) else value


def to_duckdb(table: pa.Table, folder: Path) -> dict[str, Any]:
    path = folder / "events.duckdb"
    with duckdb.connect(str(path)) as con:
        con.register("given", table)
        con.execute("CREATE OR REPLACE TABLE events AS SELECT * FROM given").fetchall()
    return {"origin": DuckDB(str(path), table="events")}


def to_delta(table: pa.Table, folder: Path) -> dict[str, Any]:
    from deltalake import write_deltalake

    write_deltalake(str(folder / "lake"), table, mode="overwrite", schema_mode="overwrite")
    return {"origin": Delta(str(folder / "lake"))}


def to_iceberg(table: pa.Table, folder: Path) -> dict[str, Any]:
    """Overwrites the table of a catalogue beside it."""
    made = iceberg_table(folder, table.schema)
    (made.append if made.current_snapshot() is None else made.overwrite)(table)
    return {"origin": Iceberg("shop.events", catalog=iceberg_catalog(folder))}


def iceberg_catalog(folder: Path) -> dict[str, str]:
    """The properties of a catalogue in a folder."""
    place = {"uri": f"sqlite:///{folder}/catalog.db", "warehouse": f"file://{folder}/iceberg"}
    return {"name": "lake", "type": "sql", **place}


def iceberg_table(folder: Path, schema: pa.Schema, **how: Any) -> Any:
    """The table `shop.events` of a catalogue in a folder, which is made where it is absent."""
    why = "pyiceberg is not installed (locks/lakes.txt): nothing reads Iceberg"
    catalogs = pytest.importorskip("pyiceberg.catalog", reason=why)
    catalog = catalogs.load_catalog(**iceberg_catalog(folder))
    catalog.create_namespace_if_not_exists("shop")
    return catalog.create_table_if_not_exists("shop.events", schema=schema, **how)


def to_hive(table: pa.Table, folder: Path) -> dict[str, Any]:
    """Writes the keys, the first column, as the names of folders."""
    import pyarrow.dataset as ds

    shutil.rmtree(folder / "hive", ignore_errors=True)
    key = table.schema.field(0)
    parts = ds.partitioning(pa.schema([key]), flavor="hive")
    ds.write_dataset(table, folder / "hive", format="parquet", partitioning=parts)
    return {"path": str(folder / "hive" / "*" / "*.parquet")}


FILES: dict[str, Write] = {
    "parquet": to_parquet,
    "hive": to_hive,
    "csv": to_csv,
    "sqlite": to_sqlite,
    "duckdb": to_duckdb,
    "delta": to_delta,
    "iceberg": to_iceberg,
}


# --- PostgreSQL -----------------------------------------------------------------------------------


def server_binaries() -> Path | None:
    """The folder of PostgreSQL's server, if this machine has one and may run it."""
    known = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    there = shutil.which("initdb")
    return known[-1].parent if known else Path(there).parent if there else None


class PostgresServer:
    """A PostgreSQL of its own on a unix socket; everybody but its owner needs a password."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        self.folder, self.binaries = folder, binaries
        self.owner = "nobody" if os.geteuid() == 0 else None  # it refuses to run as root

    def __enter__(self) -> PostgresServer:
        if self.owner is not None:
            shutil.chown(self.folder, self.owner)
        data = self.folder / "data"
        self._run("initdb", "-D", data, "-U", "owner", "-A", "trust", "-N", "-E", "UTF8")
        hba = "local all owner trust\nlocal all all scram-sha-256\n"
        (data / "pg_hba.conf").write_text(hba)
        options = f"-k {self.folder} -c listen_addresses= -c fsync=off"
        log = self.folder / "log"
        self._run("pg_ctl", "-D", data, "-o", options, "-l", log, "-w", "start")
        self.do(f"CREATE ROLE reader LOGIN PASSWORD '{PASSWORD.replace(chr(39), chr(39) * 2)}'")
        self.do("GRANT pg_read_all_data TO reader")
        return self

    def __exit__(self, *_: object) -> None:
        self._run("pg_ctl", "-D", self.folder / "data", "-m", "immediate", "-w", "stop")

    def _run(self, program: str, *arguments: object) -> None:
        told = [str(self.binaries / program), *map(str, arguments)]
        how: dict[str, Any] = {} if self.owner is None else {"user": self.owner, "group": "nogroup"}
        done = subprocess.run(
            told, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=sys.stderr, **how
        )
        assert done.returncode == 0, told

    @property
    def url(self) -> str:
        """The URL of a user who may read, with a variable for the password."""
        return f"postgresql://reader:${{EVENTS_PASSWORD}}@/postgres?host={self.folder}"

    @contextmanager
    def owning(self) -> Iterator[Any]:
        """A cursor of the owner, who may write."""
        from adbc_driver_postgresql import dbapi

        url = f"postgresql://owner@/postgres?host={self.folder}"
        with dbapi.connect(url, autocommit=True) as con, con.cursor() as cursor:
            yield cursor

    def do(self, *statements: str) -> None:
        """Run statements as the owner."""
        with self.owning() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def write(self, table: pa.Table, folder: Path) -> dict[str, Any]:
        """As `Write`; a folder has a table of its own."""
        del folder
        with self.owning() as cursor:
            cursor.execute("DROP TABLE IF EXISTS events")
            cursor.adbc_ingest("events", table, mode="create")
        return {"origin": Postgres(self.url, table="events")}


def environment() -> Mapping[str, str]:
    """What a reader of `PostgresServer.url` needs."""
    return {"EVENTS_PASSWORD": PASSWORD}
