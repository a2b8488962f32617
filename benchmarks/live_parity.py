"""How many values a second `featurekit parity sample` compares.

Twenty features of two views over many customers, with about five orders each, are materialised into
a scratch Redis and compared with the files.

    python -m benchmarks.live_parity [--size full] [--runs 3] [--json]
"""

from __future__ import annotations

import datetime as dt
import json
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.measure import OURS, Result, arguments
from featurekit.online.store.server import scratch_redis
from featurekit.parity.budget import Budget
from featurekit.parity.modes.sample import LiveCheck
from featurekit.parity.report import Report
from featurekit.store import FeatureStore

GOAL = 200_000
MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count, Last, Max, Mean, Sum

customer = Entity("customer", {"customer_id": int})
orders = EventSource("orders", path="orders.parquet", timestamp_field="at",
    schema={"customer_id": int, "amount": float, "pieces": int, "country": str})
windows = FeatureView("windows", entities=[customer], source=orders, features={
    name: feature for d in (1, 7, 30) for name, feature in {
        f"spend_{d}d": Sum("amount", window=f"{d}d"), f"mean_{d}d": Mean("amount", window=f"{d}d"),
        f"most_{d}d": Max("amount", window=f"{d}d"), f"orders_{d}d": Count(window=f"{d}d"),
        f"pieces_{d}d": Sum("pieces", window=f"{d}d")}.items()
    } | {"country": Last("country", window="30d")})
last = FeatureView("last", entities=[customer], source=orders, features={
    "last_amount": "amount", "last_pieces": "pieces", "last_country": "country"})
shop = FeatureService("shop", features=[windows, last])
"""


def write_repo(folder: Path, customers: int) -> None:
    """A repo and its orders."""
    (folder / "feature_store.yaml").write_text("project: bench\n")
    (folder / "definitions.py").write_text(MODULE)
    rng = np.random.default_rng(1)
    n = customers * 5
    now = int(dt.datetime.now(dt.UTC).timestamp()) * 1_000_000
    at = now - rng.integers(1, 30 * 86_400, n) * 1_000_000
    table = {
        "customer_id": rng.integers(0, customers, n),
        "amount": np.round(rng.random(n) * 100, 2),
        "pieces": rng.integers(0, 20, n),
        "country": rng.choice(["United Kingdom", "France", "EIRE"], n),
        "at": pa.array(at).cast(pa.timestamp("us", "UTC")),
    }
    pq.write_table(pa.table(table), folder / "orders.parquet")


CUSTOMERS = {"smoke": 10_000, "medium": 40_000, "full": 400_000}


def results(size: str, runs: int) -> Iterator[Result]:
    """The sample mode's rate beside what is wanted of it."""
    found = checked(CUSTOMERS[size], runs)
    rate = statistics.median(report.compared / report.seconds for report in found)
    # Of a short run most is the start of the processes.
    goal = None if size == "smoke" else 1.0
    values = f"{found[-1].compared:,} values"
    taken = {OURS: rate, "wanted": float(GOAL)}
    yield Result("values compared by parity sample", values, "1/s", taken, "wanted", goal)


def checked(customers: int, runs: int) -> list[Report]:
    """The reports of some checks of every customer."""
    with scratch_redis() as url, tempfile.TemporaryDirectory() as scratch:
        write_repo(Path(scratch), customers)
        with FeatureStore(scratch, redis_url=url) as store:
            store.apply()
            store.materialize()
            budget = Budget(values=customers * 19)
            with closing(LiveCheck(store.parts, "shop", rate=10**9)) as check:
                reports = [check.run(budget) for _ in range(runs)]
    assert all(report.ok and not report.lagging for report in reports)
    return reports


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "", CUSTOMERS)
    reports = checked(options.rows, options.runs)
    speed = statistics.median(report.compared / report.seconds for report in reports)
    found = {"values": reports[-1].compared, "values a second": round(speed), "goal": GOAL}
    print(json.dumps(found) if options.json else found)


if __name__ == "__main__":
    main()
