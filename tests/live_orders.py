"""A store of orders that is served while tests look at it."""

from __future__ import annotations

import datetime as dt
import random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit.core.keys import state_prefix
from featurekit.online.state.seal import opened_state, sealed
from featurekit.online.state.state import decode_state
from featurekit.online.store.redis import RedisStore
from featurekit.store import FeatureStore

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import Count, Last, Mean, Sum, ValueCounts

customer = Entity("customer", {"customer": int})
shop = Entity("shop", {"shop": str})
orders = EventSource(
    "orders", path="data/orders.parquet", timestamp_field="at",
    created_timestamp_column="known",
    schema={"customer": int, "shop": str, "amount": float, "word": str | None},
)
refunds = EventSource(
    "refunds", path="data/refunds.parquet", timestamp_field="at", event_id="refund", op="op",
    created_timestamp_column="known", dedupe_within="30d",
    schema={"refund": str, "op": str, "customer": int, "amount": float},
)

of_customer = FeatureView("of_customer", entities=[customer], source=orders, features={
    "spend": Sum("amount", window="7d"), "orders": Count(window="7d"),
    "words": ValueCounts("word", window="7d")})
of_shop = FeatureView("of_shop", entities=[shop], source=orders, features={
    "revenue": Sum("amount", window="30d"), "mean": Mean("amount", window="1d")})
of_both = FeatureView("of_both", entities=[customer, shop], source=orders, ttl="3d",
                      features={"last": "amount", "word": "word"})
refunded = FeatureView("refunded", entities=[customer], source=refunds, features={
    "back": Sum("amount", window="7d")})

@feature
def left(spend: float | None, back: float | None, basket: float) -> float:
    a = 0.0 if spend is None else spend
    return a - (0.0 if back is None else back) + basket

service = FeatureService("service", features=[of_customer, of_shop, of_both, refunded, left],
                         request={"basket": float})
"""
CONFIG = """
project: tests
online_store:
  type: redis
featurekit:
  redis_url: {url}
  serving_log: {log}
"""
NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
HOUR = dt.timedelta(hours=1)
SCHEMA = pa.schema(
    [("customer", pa.int64()), ("shop", pa.string()), ("amount", pa.float64()),
     ("word", pa.string()), ("at", pa.timestamp("us", "UTC")), ("known", pa.timestamp("us", "UTC"))]
)  # fmt: skip
REFUNDS = pa.schema(
    [("refund", pa.string()), ("op", pa.string()), ("customer", pa.int64()),
     ("amount", pa.float64()), ("at", pa.timestamp("us", "UTC")),
     ("known", pa.timestamp("us", "UTC"))]
)  # fmt: skip


def orders(rows: int = 300, *, seed: int = 1, newest: dt.timedelta = HOUR) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    made = []
    for _ in range(rows):
        at = NOW - newest - dt.timedelta(seconds=rng.randrange(8 * 86400))
        late = dt.timedelta(seconds=rng.choice((0, 0, 60)))
        made.append({
            "customer": rng.randrange(12), "shop": rng.choice("abcd"),
            "amount": rng.choice((0.1, 0.2, -0.3, 1e16, 7.5)), "word": rng.choice((None, "x", "é")),
            "at": at, "known": at + late,
        })  # fmt: skip
    return made


def refunds() -> list[dict[str, Any]]:
    made = []
    for i in range(40):
        at = NOW - dt.timedelta(hours=3 + i)
        row = {"refund": f"r{i % 30}", "customer": i % 12, "amount": i / 10, "at": at, "known": at}
        made.append({"op": "delete" if i >= 35 else "upsert", **row})
    return made


def write_orders(store: FeatureStore, rows: list[dict[str, Any]], name: str = "orders") -> None:
    path = store.path / "data" / f"{name}.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path)


@pytest.fixture
def open_store(make_repo, redis_store: RedisStore):
    opened = []

    def made(log: str = "{to: parquet}", rows: list[dict[str, Any]] | None = None) -> FeatureStore:
        config = CONFIG.format(url=redis_store.url, log=log)
        tables = {
            "orders": pa.Table.from_pylist(orders() if rows is None else rows, schema=SCHEMA),
            "refunds": pa.Table.from_pylist(refunds(), schema=REFUNDS),
        }
        store = FeatureStore(make_repo(MODULE, tables, config=config))
        store.apply()
        store.materialize()
        opened.append(store)
        return store

    yield made
    for store in opened:
        store.close()


def serve_all(store: FeatureStore, as_of: dt.datetime | None = None) -> None:
    rows = [{"customer": c, "shop": s, "basket": 0.5} for c in (*range(13), None) for s in "abz"]
    store.get_online_features("service", rows, as_of)


def late_orders(shop: str = "a") -> list[dict[str, Any]]:
    """What is in the files, and arrived, and was not there when the views were materialised."""
    at = NOW - dt.timedelta(seconds=1)
    return [
        {"customer": c, "shop": shop, "amount": 100.0, "word": "x", "at": at - HOUR,
         "known": dt.datetime.now(dt.UTC)} for c in (1, 2)
    ]  # fmt: skip


def lose_an_event(store: FeatureStore, view: str = "of_customer") -> None:
    """A skew of one path: states that have lost their newest event of some age."""
    (found,) = [v for v in store.live()["service"].views if v.name == view]
    for key in store.online.keys(state_prefix("tests", found)):
        old = decode_state(found, opened_state(found, key, store.online.read([key])[0]) or b"")
        old.events = old.events[:-1]
        store.online.write({key: sealed(key, old.encode())})
