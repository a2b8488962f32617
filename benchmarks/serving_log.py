"""What the serving log costs lookups: p50 and p99 with it off, and with each sink at 1 and at 0.1.

Lookups of one row go to a real Redis in a closed loop. All modes run by turns in one process, a
stretch each, so that a busy minute falls on all; each stretch of a mode stands beside one without a
log, and what counts is the median of the ratios. `off again`, a second service without a log, shows
how much of a difference is chance.

    python -m benchmarks.serving_log [--size full] [--runs 15] [--json]
"""

from __future__ import annotations

import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.measure import OURS, Result, arguments
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count, Last, Max, Mean, Sum
from featurekit.define.compile_service import compile_service
from featurekit.feed.events import prepare
from featurekit.feed.settle import write
from featurekit.log.served.log import ServingLog
from featurekit.online.lookup.service import OnlineService
from featurekit.online.store.redis import RedisStore
from featurekit.online.store.server import scratch_redis
from featurekit.project.config import ServingLogConfig
from featurekit.project.deployment import promote, publish, set_materialized
from featurekit.project.served_log import open_log

CUSTOMERS = 2_000
LOGS = {
    "parquet 1": ("parquet", 1.0),
    "parquet 0.1": ("parquet", 0.1),
    "stream 1": ("stream", 1.0),
    "stream 0.1": ("stream", 0.1),
}
GOAL = 1.05


def service() -> FeatureService:
    """Twenty features of two views."""
    customer = Entity("customer", {"customer_id": int})
    schema = {"customer_id": int, "amount": float, "pieces": int, "country": str}
    orders = EventSource("orders", path="orders.parquet", schema=schema, timestamp_field="at")
    windows: dict[str, Any] = {}
    for days in (1, 7, 30):
        windows |= {
            f"spend_{days}d": Sum("amount", window=f"{days}d"),
            f"mean_{days}d": Mean("amount", window=f"{days}d"),
            f"most_{days}d": Max("amount", window=f"{days}d"),
            f"orders_{days}d": Count(window=f"{days}d"),
            f"pieces_{days}d": Sum("pieces", window=f"{days}d"),
        }
    windows["country"] = Last("country", window="30d")
    last = {"last_amount": "amount", "last_pieces": "pieces", "last_country": "country"}
    views = [
        FeatureView("windows", entities=[customer], source=orders, features=windows),
        FeatureView("last", entities=[customer], source=orders, features=last),
    ]
    return FeatureService("bench", features=views)


def fill(store: RedisStore) -> None:
    """Publish the service, with about ten orders of each customer."""
    compiled = compile_service(service())
    publish(store, "bench", compiled)
    rng = random.Random(1)
    now = time.time_ns() // 1000
    day = 86_400_000_000
    rows = []
    for _ in range(CUSTOMERS * 10):
        at = now - rng.randrange(30 * day)
        rows.append(
            {
                "customer_id": rng.randrange(CUSTOMERS),
                "amount": rng.random() * 100,
                "pieces": rng.randrange(20),
                "country": rng.choice(("United Kingdom", "France", "EIRE")),
                "__ts": at,
                "__created": at,
            }
        )
    write(store, prepare("bench", compiled.views, rows))
    for view in compiled.views:
        set_materialized(store, "bench", view, now)
    promote(store, "bench")


def stretch(online: OnlineService, lookups: int, rng: random.Random) -> list[float]:
    """The seconds that each of some lookups takes."""
    taken = []
    clock = time.perf_counter
    for _ in range(lookups):
        rows = [{"customer_id": rng.randrange(CUSTOMERS)}]
        began = clock()
        online.get(rows)
        taken.append(clock() - began)
    return taken


LOOKUPS = {"smoke": 300, "medium": 1_000, "full": 5_000}


def results(size: str, runs: int) -> Iterator[Result]:
    """A lookup with each sink, by p50, beside one without a log; both at the median ratio."""
    taken, _ = measured(LOOKUPS[size], runs if size == "smoke" else 3 * runs)
    for name, stretches in taken.items():
        if name in LOGS:
            ratio, off = _times(stretches, taken["off"], statistics.median)
            found = {OURS: ratio * off, "without a log": off}
            work = f"lookup with a serving log, {name} of requests, p50"
            yield Result(work, "20 features", "s", found, "without a log", GOAL)


def measured(lookups: int, runs: int) -> tuple[dict[str, list[list[float]]], dict[str, ServingLog]]:
    """By mode, the seconds of each lookup of each stretch, and the logs, closed."""
    with scratch_redis() as url, tempfile.TemporaryDirectory() as folder:
        store = RedisStore(url)
        fill(store)
        modes: dict[str, OnlineService] = {
            "off": OnlineService(store, "bench", "bench"),
            "off again": OnlineService(store, "bench", "bench"),
        }
        logs: dict[str, ServingLog] = {}
        for name, (to, sample) in LOGS.items():
            config = ServingLogConfig.model_validate(
                {"to": to, "sample": sample, "rotate_seconds": 2.0}
            )
            logs[name] = open_log(config, store, "bench", state_dir=Path(folder) / name)
            modes[name] = OnlineService(store, "bench", "bench", log=logs[name])
        rng = random.Random(2)
        for online in modes.values():
            stretch(online, 200, rng)
        time.sleep(1.0)  # the thread of a Parquet log imports pyarrow once
        taken: dict[str, list[list[float]]] = {name: [] for name in modes}
        for _ in range(runs):
            for name, online in modes.items():
                taken[name].append(stretch(online, lookups, rng))
                time.sleep(0.6)  # what this log still writes does not fall on the next mode
        for log in logs.values():
            log.close()
        store.close()
    return taken, logs


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "", LOOKUPS)
    taken, logs = measured(options.rows, options.runs)
    shown = [_row(name, runs, taken["off"], logs.get(name)) for name, runs in taken.items()]
    if options.json:
        lookups = options.rows * options.runs
        print(json.dumps({"lookups": lookups, "goal": GOAL, "modes": shown}, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*shown[0])
    for row in shown:
        table.add_row(*(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()))
    Console().print(table)


def _row(
    name: str, runs: list[list[float]], off: list[list[float]], log: ServingLog | None
) -> dict[str, Any]:
    row: dict[str, Any] = {"log": name}
    for of, at in (("p50", statistics.median), ("p99", _p99), ("mean", statistics.fmean)):
        row[f"{of} µs"] = round(statistics.median(at(run) for run in runs) * 1e6)
        row[f"{of} ×"] = _times(runs, off, at)[0]
    return row | {"dropped": 0 if log is None else log.done.dropped}


def _times(
    runs: list[list[float]], off: list[list[float]], at: Callable[[list[float]], float]
) -> tuple[float, float]:
    """The median ratio of stretches that stand beside each other, and the median without a log."""
    ratios = (at(r) / at(o) for o, r in zip(off, runs, strict=True))
    return statistics.median(ratios), statistics.median(map(at, off))


def _p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98]


if __name__ == "__main__":
    main()
