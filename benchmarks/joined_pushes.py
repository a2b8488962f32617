"""Pushes to a view whose rows take a price from another view, beside pushes of rows that bring it.

Both views have the same windows over the same values, and are asked before anything is timed: they
answer the same bits. A push is one of `store.push`, with its announcement and the log. *Late* rows
happened before the newest price of their item, which the state of the item does not reach any more:
the files and the log are read for them.
"""

from __future__ import annotations

import datetime as dt
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.measure import OURS, Curve, Result, interleaved
from featurekit.online.store.server import scratch_redis
from featurekit.store import FeatureStore

PRICES = {"smoke": 500, "medium": 20_000, "full": 200_000}
BATCHES = (1, 100)
PUSHES = 20
PLAIN = "rows with the price in them"
NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import Count, LastN, Sum

person, item = Entity("person", {"person": int}), Entity("item", {"item": int})
stamps = {"timestamp_field": "at", "created_timestamp_column": "arrived"}
prices = EventSource("prices", path="prices.parquet", schema={"item": int, "price": float},
                     **stamps)
orders = EventSource("orders", path="orders/*.parquet", schema={"person": int, "item": int},
                     **stamps)
plain = EventSource("plain", path="plain/*.parquet",
                    schema={"person": int, "item": int, "price": float | None}, **stamps)
products = FeatureView("products", entities=[item], source=prices, features={"price": "price"})
FEATURES = {"sum": Sum("price", window="7d"), "rows": Count(window="1d"),
            "last": LastN("price", n=3, window="7d")}
services = [FeatureService(name, features=[FeatureView(
                f"of_{name}", entities=[person], source=source, features=FEATURES)])
            for name, source in (("joined", orders.join(products, on="item")), ("given", plain))]
"""


def results(size: str, runs: int) -> Iterator[Result | Curve]:
    """A push of one row and of many, and one of a late row."""
    number = PRICES[size]
    with (
        scratch_redis() as url,
        tempfile.TemporaryDirectory() as folder,
        _store(Path(folder), url, number) as store,
    ):
        _same(store, number)
        for batch in BATCHES:
            taken = interleaved(
                {
                    OURS: _pushes(store, "orders", batch, number),
                    PLAIN: _pushes(store, "plain", batch, number),
                },
                runs,
            )
            shown = {name: value / PUSHES for name, value in taken.items()}
            work = f"push {batch} row{'s' * (batch > 1)}, each takes a price"
            yield Result(work, f"{number:,} prices", "s", shown, PLAIN)
        store.push("prices", [{"item": 0, "price": 3.0, "at": NOW}])
        late = NOW - dt.timedelta(minutes=1)

        def ours() -> None:
            store.push("orders", [{"person": 1, "item": 0, "at": late}])

        def given() -> None:
            store.push("plain", [{"person": 1, "item": 0, "price": 0.0, "at": late}])

        taken = interleaved({OURS: ours, PLAIN: given}, runs)
        note = "files and log are read for the row"
        yield Result("push a late row", f"{number:,} prices", "s", taken, PLAIN, note=note)


def _store(folder: Path, url: str, number: int) -> FeatureStore:
    """A store with so many prices, one for each item, and no order."""
    (folder / "feature_store.yaml").write_text("project: joined\n")
    (folder / "features.py").write_text(MODULE)
    at = pa.array([NOW - dt.timedelta(hours=1)] * number, pa.timestamp("us", "UTC"))
    prices = [float(i) for i in range(number)]
    table = pa.table({"item": range(number), "price": prices, "at": at, "arrived": at})
    pq.write_table(table, folder / "prices.parquet")
    store = FeatureStore(folder, redis_url=url)
    store.apply()
    store.push("orders", [{"person": 0, "item": 0, "at": NOW}])
    store.push("plain", [{"person": 0, "item": 0, "price": 0.0, "at": NOW}])
    store.materialize()
    return store


def _rows(source: str, batch: int, number: int, chance: random.Random) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for _ in range(batch):
        item = chance.randrange(number)
        row = {"person": chance.randrange(1000), "item": item, "at": NOW}
        made.append(row | ({"price": float(item)} if source == "plain" else {}))
    return made


def _pushes(store: FeatureStore, source: str, batch: int, number: int) -> Callable[[], None]:
    """Pushes of random orders, which are the same for either source."""
    chance = random.Random(batch)

    def push() -> None:
        for _ in range(PUSHES):
            store.push(source, _rows(source, batch, number, chance))

    return push


def _same(store: FeatureStore, number: int) -> None:
    """Push the same orders both ways, and hold the answers to the same bits."""
    for source in ("orders", "plain"):
        _pushes(store, source, 50, number)()
    people = [{"person": n} for n in range(50)]
    one, other = (store.get_online_features(name, people).to_pylist() for name in SERVICES)
    if repr(one) != repr(other):
        raise AssertionError("rows that take their price answer otherwise than rows that bring it")


SERVICES = ("joined", "given")
