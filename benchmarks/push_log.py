"""The log of pushes beside SQLite in its place: pushing, by one and by several; reading; bytes.

Both make a push last through a power failure before it returns. SQLite has its write-ahead log
synced at each commit (`synchronous=FULL`) and holds a push as one BLOB, the Arrow batch that our
journal holds too. Joining our files is timed with the pushes, and so are SQLite's checkpoints.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import sqlite3
import statistics
import tempfile
import weakref
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from benchmarks.measure import OURS, Result, interleaved, seconds
from featurekit.define.definitions import EventSource
from featurekit.log.compaction import compact
from featurekit.log.relation import log_sql
from featurekit.log.segments import columns_of, segments
from featurekit.log.writer import PushLog

SOURCE = EventSource(
    "orders", path="orders.parquet", timestamp_field="at",
    schema={"customer": int, "pieces": int, "country": str, "product": str, "gift": bool,
            **{f"f{i}": float for i in range(5)}},
)  # fmt: skip
PUSHES = {"smoke": 20, "medium": 200, "full": 1_000}
ASKED = "SELECT count(*), sum(pieces), max(f0) FROM {} WHERE customer < 500 AND country = 'France'"
ON_DISK = "/var/tmp" if os.access("/var/tmp", os.W_OK) else None


class Ours:
    """The log as a push writes it and a training set reads it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, PushLog(folder)

    def keep(self, rows: list[dict[str, Any]]) -> None:
        """Take a push."""
        if self.log.keep(SOURCE, rows):
            compact(self.folder, SOURCE.name)

    def relation(self, con: duckdb.DuckDBPyConnection) -> str:
        """What a query reads."""
        return log_sql(con, segments(self.folder, SOURCE.name), SOURCE)


class Sqlite:
    """A table with a row a push."""

    def __init__(self, folder: Path) -> None:
        self.con = sqlite3.connect(folder / "log.sqlite", timeout=600, isolation_level=None)
        weakref.finalize(self, self.con.close)
        self.con.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL")
        self.con.execute("CREATE TABLE IF NOT EXISTS pushes(content BLOB NOT NULL)")

    def keep(self, rows: list[dict[str, Any]]) -> None:
        """Take a push."""
        batch = columns_of(SOURCE).batch(rows).serialize()
        self.con.execute("INSERT INTO pushes VALUES (?)", (memoryview(batch),))

    def relation(self, con: duckdb.DuckDBPyConnection) -> str:
        """What a query reads."""
        found = self.con.execute("SELECT content FROM pushes ORDER BY rowid")
        whole = b"".join((columns_of(SOURCE).schema.serialize(), *(c for (c,) in found)))
        con.register("kept", pa.ipc.open_stream(whole).read_all())
        return "kept"


PEER, SPAWN = "SQLite", multiprocessing.get_context("spawn")
LOGS: dict[str, Any] = {OURS: Ours, PEER: Sqlite}


def results(size: str, runs: int) -> Iterator[Result]:
    """By turns, pushes of some sizes, pushes by several processes, a query, and bytes on disk."""
    with tempfile.TemporaryDirectory(dir=ON_DISK) as base:
        folders = iter(lambda: Path(tempfile.mkdtemp(dir=base)), None)
        for rows in (1, 100, 1_000):
            logs = ((name, log(next(folders))) for name, log in LOGS.items())
            works = {name: partial(_push, log, events(rows), PUSHES[size]) for name, log in logs}
            each = {n: taken / PUSHES[size] for n, taken in interleaved(works, runs).items()}
            yield Result("push kept in the log", f"{rows:,} × 10 columns", "s", each, PEER)
        yield _by_several(4, 10 * PUSHES[size], folders, runs)
        yield from _read(1_000 * PUSHES[size], folders, runs)


def events(count: int) -> list[dict[str, Any]]:
    """Rows as `push` hands them to the log."""
    rng = random.Random(count)
    return [
        {"customer": rng.randrange(5_000), "pieces": rng.randrange(20),
         **{f"f{i}": rng.random() * 100 for i in range(5)}, "gift": rng.random() < 0.1,
         "country": rng.choice(("France", "EIRE")), "product": f"product {rng.randrange(1_000)}",
         "__ts": at, "__created": at}
        for at in range(1_790_000_000_000_000, 1_790_000_000_000_000 + count)
    ]  # fmt: skip


def _push(log: Any, rows: list[dict[str, Any]], pushes: int) -> None:
    for _ in range(pushes):
        log.keep(rows)


def _by_several(processes: int, pushes: int, folders: Iterator[Path], runs: int) -> Result:
    rates: dict[str, list[float]] = {name: [] for name in LOGS}
    for name in [*LOGS] * runs:
        meet, folder = SPAWN.Barrier(processes + 1, timeout=600), next(folders)
        LOGS[name](folder)  # of several that make a database at once SQLite refuses some
        work = partial(_one_of_several, name, folder, pushes, meet)
        workers = [SPAWN.Process(target=work) for _ in range(processes)]
        for worker in workers:
            worker.start()
        meet.wait()  # all have made their first push
        rates[name].append(processes * pushes / seconds(meet.wait))
        for worker in workers:
            worker.join()
    taken = {name: statistics.median(found) for name, found in rates.items()}
    return Result(f"pushes by {processes} processes at once", "1 × 10 columns", "1/s", taken, PEER)


def _one_of_several(name: str, folder: Path, pushes: int, meet: Any) -> None:
    log = LOGS[name](folder)
    for some in (1, pushes):
        _push(log, events(1), some)
        meet.wait()


def _read(rows: int, folders: Iterator[Path], runs: int) -> Iterator[Result]:
    given, works, kept = events(rows), {}, {}
    for name, log in LOGS.items():
        filled = log(folder := next(folders))
        for at in range(0, rows, 1_000):
            filled.keep(given[at : at + 1_000])
        kept[name] = float(sum(file.stat().st_size for file in folder.rglob("*")))
        works[name] = partial(_asked, filled)
    assert works[OURS]() == works[PEER](), "the logs answer otherwise"
    taken, size = interleaved(works, runs), f"{rows:,} × 10 columns"
    yield Result("log read with two filters", size, "s", taken, PEER)
    yield Result("the log on disk", size, "B", kept, PEER, note="with files that wait for removal")


def _asked(log: Any) -> tuple[Any, ...]:
    with duckdb.connect() as con:
        return con.execute(ASKED.format(log.relation(con))).fetchall()[0]
