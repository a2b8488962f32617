"""A small shop whose orders have a contract, and what tells whether anything was written."""

from __future__ import annotations

import datetime as dt
import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import redis

MODULE = """
from featurekit import *
from featurekit.aggregates import Count, Sum

user = Entity("user", {{"key": int}})
users = EventSource("users", path="data/users.parquet", schema={{"key": int}}, timestamp_field="at")

@feature
def cheap(price: float, n: int) -> bool:
    return price / n < 100

orders = EventSource("orders", path="data/orders.parquet", timestamp_field="at",
                     schema={{"key": int, "n": int, "price": float, "sku": str | None}},
                     expect=[{rules}])
view = FeatureView("view", entities=[user], source=orders, features={{
    "rows": Count(window="30d"), "sum": Sum("n", window="30d")}})
latest = FeatureView("latest", entities=[user], source=orders, features={{"sku": "sku", "n": "n"}})
shop = FeatureService("shop", features=[view, latest])
"""
NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
AT = NOW - dt.timedelta(hours=1)
INSTANT = pa.timestamp("us", "UTC")


def order(place: int, **given: Any) -> dict[str, Any]:
    """A good order, but for what is given."""
    good = {"key": place % 3, "n": 1 + place, "price": 5.0, "sku": f"P{place}"}
    return {**good, "at": AT + dt.timedelta(seconds=place), **given}


def orders(*rows: dict[str, Any]) -> pa.Table:
    schema = pa.schema(
        [
            ("key", pa.int64()), ("n", pa.int64()), ("price", pa.float64()), ("sku", pa.string()),
            ("at", INSTANT),
        ]
    )  # fmt: skip
    return pa.Table.from_pylist(list(rows), schema=schema)


GOOD = [order(place) for place in range(6)]
USERS = pa.table({"key": pa.array([0, 1, 2]), "at": pa.array([AT] * 3, INSTANT)})


def files(folder: Path) -> dict[str, str]:
    """Every file of a repo by the hash of its bytes, but for what is known of files and can be made
    again, and for the journals of SQLite."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.parent.name not in ("verdicts", "__pycache__")
        and not path.name.endswith(("-wal", "-shm"))
    }


def keys(url: str) -> dict[bytes, bytes | None]:
    """Every key of a Redis and its bytes."""
    client = redis.Redis.from_url(url)
    return {key: client.dump(key) for key in sorted(client.keys())}
