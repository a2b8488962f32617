"""The repo that is served under load, in two versions, and the events that come in meanwhile."""

from __future__ import annotations

import datetime as dt
import random
import textwrap
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ENTITIES, HOT = 300, 0
"""The keys are below this number; one of them has as many events as a tenth of all."""
SERVICE = "served"
_MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import (
    ApproxCountDistinct, Count, CountDistinct, LastN, Max, Mean, Quantile, StdDev, Sum, TopK,
)

key = Entity("key", {"key": int})
SCHEMA = {"key": int, "i": int, "f": float | None, "s": str | None}
clicks = EventSource("clicks", path="data/clicks.parquet", timestamp_field="at",
                     created_timestamp_column="known", schema=SCHEMA)
orders = EventSource("orders", path="data/orders.parquet", timestamp_field="at",
                     created_timestamp_column="known", event_id="order",
                     dedupe_within="40d", schema={**SCHEMA, "order": str})
last = FeatureView("last", entities=[key], source=clicks, history="1h",
                   features={"last_i": "i", "last_f": "f", "last_s": "s"})
windows = FeatureView("windows", entities=[key], source=clicks, history="1h", features={
    "n": Count(window="WINDOW"), "sum": Sum("f", window="WINDOW"),
    "mean": Mean("f", window="1d"), "dev": StdDev("f", window="WINDOW"),
    "most": Max("s", window="1d"), "median": Quantile("f", q=0.5, window="WINDOW"),
    "distinct": CountDistinct("s", window="WINDOW"), "about": ApproxCountDistinct("i", window="1d"),
    "some": LastN("i", n=5, window="1d"), "top": TopK("s", k=3, window="WINDOW")})
bought = FeatureView("bought", entities=[key], source=orders, history="1h", features={
    "orders": Count(window="WINDOW"), "spent": Sum("f", window="WINDOW"),
    "kinds": CountDistinct("s", window="WINDOW")})

@feature
def asked(sum: float | None, basket: float) -> float:
    return basket if sum is None else sum * basket + 0.1

served = FeatureService("served", features=[last, windows, bought, asked],
                        request={"basket": float})
"""
_CONFIG = """
project: load
online_store:
  type: redis
featurekit:
  redis_url: {url}
"""
VERSIONS = ("30d", "20d")
"""What the two versions of the service differ in: how long their windows are."""


def write(folder: Path, url: str) -> None:
    """The repo's settings and files; its definitions are those of the first version."""
    now = dt.datetime.now(dt.UTC).replace(microsecond=0) - dt.timedelta(minutes=5)
    (folder / "data").mkdir()
    (folder / "feature_store.yaml").write_text(_CONFIG.format(url=url))
    define(folder, VERSIONS[0])
    rng = random.Random(1)
    for name, n in (("clicks", 60_000), ("orders", 20_000)):
        rows = []
        for i in range(n):
            at = now - dt.timedelta(seconds=rng.uniform(0, 45 * 86_400))
            rows.append({**_event(rng), "at": at, "known": at, "order": f"file-{i}"})
        table = pa.Table.from_pylist(rows)
        if name == "clicks":
            table = table.drop_columns(["order"])
        pq.write_table(table, folder / "data" / f"{name}.parquet")


def define(folder: Path, window: str) -> None:
    """Write the definitions of a version."""
    (folder / "definitions.py").write_text(textwrap.dedent(_MODULE.replace("WINDOW", window)))


def pushed(rng: random.Random, source: str, number: int) -> dict[str, Any]:
    """An event of now; some come late."""
    late = rng.expovariate(1.0) if rng.random() < 0.9 else rng.uniform(0, 30 * 86_400)
    row = {**_event(rng), "at": dt.datetime.now(dt.UTC) - dt.timedelta(seconds=late)}
    # One in ten orders is told twice.
    told = number if rng.random() < 0.9 else max(0, number - 1)
    return row if source == "clicks" else {**row, "order": f"push-{told}"}


def _event(rng: random.Random) -> dict[str, Any]:
    key = HOT if rng.random() < 0.1 else rng.randrange(ENTITIES)
    return {
        "key": key,
        "i": rng.randrange(-1000, 1000),
        "f": rng.choice((None, -0.0, float("nan"), rng.gauss(0, 1e6), rng.random())),
        "s": rng.choice((None, "", *"abcdefgh", "é" * 3)),
    }
