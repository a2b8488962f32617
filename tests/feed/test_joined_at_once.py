"""Processes that push to both sides at once: what rows take is what a training set says (T11)."""

from __future__ import annotations

import datetime as dt
import random
import time
from pathlib import Path
from typing import Any

import pytest
from oracle import bits

from featurekit import FeatureStore
from tests import forks

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count, LastN

person = Entity("person", {"person": int})
item = Entity("item", {"item": int})
stamps = {"timestamp_field": "at", "created_timestamp_column": "arrived"}
prices = EventSource("prices", path="p/*.parquet", schema={"item": int, "price": float}, **stamps)
orders = EventSource("orders", path="o/*.parquet", schema={"id": int, "person": int, "item": int},
                     event_id="id", dedupe_within="30d", **stamps)
products = FeatureView("products", entities=[item], source=prices, features={"price": "price"})
spent = FeatureView("spent", entities=[person], source=orders.join(products, on="item"), features={
    "prices": LastN("price", n=1000, window="30d"), "rows": Count(window="30d")})
service = FeatureService("service", features=[spent])
"""
PUSHES = 25


def push_part(repo: str, url: str, source: str, number: int, start: Any) -> None:
    """The work of a process: pushes of now, and of what comes a little late."""
    store, chance = FeatureStore(repo, redis_url=url), random.Random(f"{source}{number}")
    start.wait(60)
    for n in range(PUSHES):
        late = dt.timedelta(milliseconds=chance.choice((0, 0, 0, 5, 50)))
        row = {"item": chance.choice((1, 2)), "at": dt.datetime.now(dt.UTC) - late}
        if source == "prices":
            row["price"] = float(number * PUSHES + n)
        else:
            row |= {"id": number * PUSHES + n, "person": chance.choice((1, 2))}
        store.push(source, [row])
        if source == "prices" or chance.random() < 0.2:  # a push there takes longer
            time.sleep(0.01)
    store.close()


@pytest.mark.slow
def test_pushes_to_both_sides_at_once_agree_with_a_training_set(
    tmp_path: Path, redis_url: str
) -> None:
    (tmp_path / "feature_store.yaml").write_text("project: p\n")
    (tmp_path / "features.py").write_text(MODULE)
    store = FeatureStore(tmp_path, redis_url=redis_url)
    store.apply()
    at = dt.datetime.now(dt.UTC)
    store.push("prices", [{"item": 1, "price": 0.5, "at": at}])
    store.push("orders", [{"id": 999, "person": 1, "item": 1, "at": at}])
    store.materialize()
    context = forks.context()
    start = context.Barrier(4)
    processes = [
        context.Process(target=push_part, args=(str(tmp_path), redis_url, source, number, start))
        for source in ("prices", "orders")
        for number in (0, 1)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * 4
    online = store.get_online_features("service", [{"person": p} for p in (1, 2)])
    labels = [{"person": p, "event_timestamp": online.as_of} for p in (1, 2)]
    offline = store.get_historical_features(labels, "service").to_pylist()
    for one, other in zip(online.to_pylist(), offline, strict=True):
        assert {n: bits(v) for n, v in one.items()} == {
            n: bits(v) for n, v in other.items() if n != "event_timestamp"
        }
    assert sum(row["rows"] for row in offline) == 2 * PUSHES + 1
    assert len({price for row in offline for price in row["prices"]}) > 1
    report = store.check_parity("service", mode="sample", values=200)
    assert report.compared > 0
    assert report.ok
    before = dict(online.to_pylist()[0])
    store.materialize()
    assert store.get_online_features("service", [{"person": 1}]).to_pylist()[0] == before
    store.close()
