"""Pushes over HTTP by the client, each under a key, beside the same pushes in this process.

One view of two aggregates over a source without an `event_id`, one worker and one process that
pushes. Batches go by turns, since a shared disk and a shared machine have slow moments; each push
is synced to the disk. What both have counted in the end is compared with what was sent.
"""

from __future__ import annotations

import datetime as dt
import itertools
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.measure import OURS, Curve, Result
from benchmarks.serving import started
from featurekit import FeatureStore
from featurekit.client import Client
from featurekit.online.store.server import scratch_redis

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count, Sum

user = Entity("user", {"key": int})
clicks = EventSource("clicks", path="none.parquet", timestamp_field="at",
                     schema={"key": int, "amount": float})
view = FeatureView("view", entities=[user], source=clicks,
                   features={"n": Count(window="7d"), "sum": Sum("amount", window="7d")})
service = FeatureService("service", features=[view])
"""
CONFIG = "project: bench\nfeaturekit:\n  redis_url: {url}\n"
BATCHES = {
    "smoke": {1: 20, 1_000: 2},
    "medium": {1: 200, 100: 50, 10_000: 5},
    "full": {1: 1_000, 10: 500, 100: 200, 1_000: 50, 10_000: 20},
}
"""Rows of a push, and how many pushes."""
GOALS = {1: 2.5, 10: 2.5, 100: 2.0, 1_000: 1.5, 10_000: 1.5}
ENTITIES = 2_000
HERE = "store.push"


def results(size: str, runs: int) -> Iterator[Result | Curve]:
    """Seconds of a push of so many rows, and events a second, by turns."""
    at = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
    numbers = itertools.count()
    with scratch_redis() as url, tempfile.TemporaryDirectory() as folder:
        repo = Path(folder)
        (repo / "feature_store.yaml").write_text(CONFIG.format(url=url))
        (repo / "definitions.py").write_text(MODULE)
        with FeatureStore(repo) as store:
            store.apply()
            with _server(repo) as port, Client(f"http://127.0.0.1:{port}", timeout_s=30) as client:
                sent = 0
                for rows, pushes in BATCHES[size].items():
                    taken: dict[str, list[float]] = {OURS: [], HERE: []}
                    for _ in range(runs * pushes):
                        for name in taken:
                            batch = _batch(rows, at, numbers)
                            given: Any = batch.to_pylist() if rows <= 100 else batch
                            began = time.perf_counter()
                            if name == OURS:
                                client.push("clicks", given, timeout_s=60.0)
                            else:
                                store.push("clicks", given)
                            taken[name].append(time.perf_counter() - began)
                            sent += rows
                    yield from _figures(rows, taken)
                found = store.get_online_features("service", [{"key": k} for k in range(ENTITIES)])
                assert sum(n or 0 for n in found.columns["n"]) == sent


def _batch(rows: int, at: dt.datetime, numbers: Iterator[int]) -> pa.Table:
    some = [next(numbers) for _ in range(rows)]
    columns = {"key": [n % ENTITIES for n in some], "amount": [n / 7 for n in some]}
    return pa.table({**columns, "at": pa.array([at] * rows, pa.timestamp("us", "UTC"))})


def _figures(rows: int, taken: dict[str, list[float]]) -> Iterator[Result]:
    p50 = {name: sorted(times)[len(times) // 2] for name, times in taken.items()}
    shown = f"{rows:,} {'row' if rows == 1 else 'rows'}"
    yield Result("a push by the client, p50", shown, "s", p50, HERE, GOALS[rows])
    rates = {name: rows / seconds for name, seconds in p50.items()}
    yield Result("events pushed by the client", shown, "1/s", rates, HERE, 1 / GOALS[rows])


@contextmanager
def _server(repo: Path) -> Iterator[int]:
    """The repo's server, once it takes pushes; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["-m", "featurekit.cli", "serve", "--repo", str(repo), "--log", "--drain", "10ms"]
    with started([*words, "--port", str(port)], port, path="/ready"):
        with Client(f"http://127.0.0.1:{port}", retries=100) as client:
            client.push("clicks", [], timeout_s=30.0)
        yield port
