"""Databases and Delta Lake as sources, beside reading the same rows by hand.

By hand, the columns are read with the library itself, written to Parquet, and summed by DuckDB; no
row is checked. Ours also checks every row, hashes the copy and keeps both. The second reading is of
what was kept, where nothing has changed. Delta Lake is measured where its library is installed.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.measure import OURS, Result, interleaved
from featurekit import Delta, DuckDB, EventSource, SQLite
from featurekit.sources import read_events

PEER = "by hand"
SIZES = {"smoke": 20_000, "medium": 1_000_000, "full": 5_000_000}
COLUMNS = '"k", "q", "p", "s", "at"'
TYPES = [("k", pa.int64()), ("q", pa.int64()), ("p", pa.float64()), ("s", pa.string()),
         ("at", pa.int64())]  # fmt: skip
SUMS = "SELECT count(*), sum(q) FROM {}"


def results(size: str, runs: int) -> Iterator[Result]:
    """Each origin, first read and read again."""
    rows = SIZES[size]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = _table(rows)
        for what, (origin, by_hand) in _origins(table, folder).items():
            first, again = Ours(origin, folder), Ours(origin, folder, keeps=True)
            assert first() == by_hand() == again()
            works = {OURS: first, PEER: by_hand, "again": again}
            taken = interleaved(works, runs)
            kept = {OURS: taken.pop("again"), PEER: taken[PEER]}
            shown = f"{rows:,} × 5 columns"
            yield Result(f"{what}: read and checked", shown, "s", taken, PEER)
            yield Result(f"{what}: read again, unchanged", shown, "s", kept, PEER)


class Ours:
    """A source that is read into a state folder of its own each time, or into one that `keeps`."""

    def __init__(self, origin: Any, folder: Path, *, keeps: bool = False) -> None:
        schema = {"k": int, "q": int, "p": float, "s": str}
        how: dict[str, Any] = {"timestamp_field": "at", "timestamp_format": "epoch_us"}
        self.source = EventSource("events", origin=origin, schema=schema, **how)
        self.folder = folder
        self.kept = Path(tempfile.mkdtemp(dir=folder)) if keeps else None

    def __call__(self) -> Any:
        state = self.kept or Path(tempfile.mkdtemp(dir=self.folder))
        with duckdb.connect() as con:
            con.execute("SET TimeZone = 'UTC'").fetchall()
            relation = read_events(con, self.source, base=Path(), state_dir=state).relation
            return con.execute(SUMS.format(relation)).fetchall()


def _table(rows: int) -> pa.Table:
    rng = np.random.default_rng(rows)
    names = rng.choice(["red mug", "white lamp", "card"], rows)
    values = [rng.integers(0, 50_000, rows), rng.integers(-5, 100, rows), rng.random(rows), names,
              1_700_000_000_000_000 + rng.integers(0, 10**13, rows)]  # fmt: skip
    given = [pa.array(v, t) for v, (_, t) in zip(values, TYPES, strict=True)]
    return pa.Table.from_arrays(given, schema=pa.schema(TYPES))


def _origins(table: pa.Table, folder: Path) -> dict[str, tuple[Any, Callable[[], Any]]]:
    """Each origin with the rows of the table, and how it is read by hand."""
    in_sqlite, in_duckdb = folder / "x.db", folder / "x.duckdb"
    with closing(sqlite3.connect(in_sqlite)) as con:
        con.execute('CREATE TABLE t (k INT, q INT, p REAL, s TEXT, "at" INT)')
        rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
        con.executemany("INSERT INTO t VALUES (?, ?, ?, ?, ?)", rows)
        con.commit()
    with duckdb.connect(str(in_duckdb)) as database:
        database.register("given", table)
        database.execute("CREATE TABLE t AS SELECT * FROM given").fetchall()
    made: dict[str, tuple[Any, Callable[[], Any]]] = {
        "SQLite": (SQLite(str(in_sqlite), table="t"), partial(_of_sqlite, in_sqlite)),
        "DuckDB": (DuckDB(str(in_duckdb), table="t"), partial(_of_duckdb, in_duckdb)),
    }
    with suppress(ModuleNotFoundError):
        from deltalake import write_deltalake

        write_deltalake(str(folder / "lake"), table)
        made["Delta Lake"] = Delta(str(folder / "lake")), partial(_of_delta, folder / "lake")
    return made


def _of_delta(path: Path) -> Any:
    from deltalake import DeltaTable

    files = DeltaTable(str(path)).file_uris()
    return duckdb.sql(SUMS.format(f"read_parquet({files})")).fetchall()


def _of_sqlite(path: Path) -> Any:
    schema, copy = pa.schema(TYPES), path.with_suffix(".parquet")
    with closing(sqlite3.connect(path)) as con, pq.ParquetWriter(copy, schema) as writer:
        cursor = con.execute(f"SELECT {COLUMNS} FROM t")
        while rows := cursor.fetchmany(1 << 16):
            columns = zip(zip(*rows, strict=True), schema, strict=True)
            arrays = [pa.array(values, field.type) for values, field in columns]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
    return duckdb.sql(SUMS.format(f"read_parquet('{copy}')")).fetchall()


def _of_duckdb(path: Path) -> Any:
    copy = path.with_suffix(".parquet")
    with duckdb.connect(str(path), read_only=True) as con:
        reader = con.sql(f"SELECT {COLUMNS} FROM t").to_arrow_reader(1 << 16)
        with pq.ParquetWriter(copy, reader.schema) as writer:
            for batch in reader:
                writer.write_batch(batch)
    return duckdb.sql(SUMS.format(f"read_parquet('{copy}')")).fetchall()
