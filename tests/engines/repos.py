"""A small repo with hostile floats, copies, late rows and errors, and questions about it."""

from __future__ import annotations

import datetime as dt
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
from feature_repos import MakeRepo

from featurekit.store import FeatureStore

DEFINITIONS = """
from featurekit import *
from featurekit.aggregates import *

user = Entity("user", join_keys={"user": str})
clicks = EventSource(
    "clicks", path="data/*.parquet", schema={"user": str, "x": float, "n": int, "id": str},
    timestamp_field="at", created_timestamp_column="created", event_id="id", dedupe_within="2d",
)

@feature
def inverse(x: float, n: int) -> float:
    return x / n

sums = FeatureView("sums", entities=[user], source=clicks, features={
    "total": Sum("x", window="3d"), "spread": StdDev("x", window="10d"),
    "last": LastN("x", window="5d", n=3), "inverse": Sum(inverse, window="3d"),
    "n": CountDistinct("n", window="3d"),
})
newest = FeatureView("newest", entities=[user], source=clicks, ttl="2d", features={"x": "x"})

@feature
def ratio(total: float | None, amount: float) -> float | None:
    return None if total is None or amount == 0 else total / amount

asked = FeatureService("asked", features=[sums, newest, ratio], request={"amount": float})
"""
START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


def write_repo(make_repo: MakeRepo) -> Path:
    """The repo's folder."""
    rng = random.Random(4)
    rows = []
    for _ in range(600):
        at = START + dt.timedelta(minutes=rng.randrange(20_000))
        late = dt.timedelta(minutes=rng.choice([0, 0, 5, 3_000]))
        x, n = rng.choice([0.1, -0.0, 1e300, rng.gauss(0, 1e9)]), rng.randrange(4)
        user, name = rng.choice("abcdefghij"), f"i{rng.randrange(500)}"
        rows.append({"user": user, "x": x, "n": n, "id": name, "at": at, "created": at + late})
    half = len(rows) // 2
    tables = {"a": rows[:half], "b": rows[half:]}
    return make_repo(DEFINITIONS, {n: pa.Table.from_pylist(some) for n, some in tables.items()})


def frame(rows: int = 400) -> pa.Table:
    rng = random.Random(5)
    users = [rng.choice([*"abcdefghij", "nobody", None]) for _ in range(rows)]
    return pa.table({
        "user": users,
        "event_timestamp": [START + dt.timedelta(minutes=rng.randrange(20_000)) for _ in users],
        "amount": [rng.choice([0.0, 2.5]) for _ in users],
    })  # fmt: skip


def made(store: FeatureStore, engine: Any, **options: Any) -> tuple[Any, dict[str, Any]]:
    training = store.get_historical_features(
        frame(), "asked", statuses=True, engine=engine, **options
    )
    table = training.to_arrow()
    return table, training.manifest
