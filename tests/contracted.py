"""A small repo of a model: features of several types, a request-time feature that may err, and a
label; and its variants, which differ from it in one thing each."""

from __future__ import annotations

import datetime as dt
import math
import textwrap
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from featurekit import FeatureStore

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import Count, Sum

user = Entity("user", join_keys={"k": int})
events = EventSource(
    "events", path="events.parquet", schema={"k": int, "x": float | None, "n": int, "s": str},
    timestamp_field="ts", created_timestamp_column="arrived",
)

@feature
def worth(n: int, x: float | None) -> float:
    return n * (x if x is not None else 0.0)

latest = FeatureView("latest", entities=[user], source=events, features={"x": "x", "s": "s"},
                     history="1000d")
totals = FeatureView("totals", entities=[user], source=events, features={
    "total": Sum(worth, window="30d", default=0.0),
    "orders": Sum("n", window="30d", default=0),
    "events_7d": Count(window="7d"),
}, history="1000d")

@feature
def share(budget: int, orders: int) -> int:
    return budget // orders

future = FeatureView("future", entities=[user], source=events, features={
    "next": Sum("n", window="1d", ahead=True, default=0),
})
churn = FeatureService(
    "churn", features=[latest, totals, share], request={"budget": int},
)
"""
SETTINGS = "project: models\nprovider: local\nonline_store:\n  type: redis\n"
VARIANTS = {
    "order": ("features=[latest, totals, share]", "features=[totals, latest, share]"),
    "type": (
        '"orders": Sum("n", window="30d", default=0)',
        '"orders": Sum(as_float, window="30d", default=0.0)',
    ),
    "null rule": (
        '"total": Sum(worth, window="30d", default=0.0)',
        '"total": Sum(worth, window="30d")',
    ),
    "transform": ("return n * (x if", "return 2 * n * (x if"),
    "version": (', "s": "s"}', ', "s": "s", "n": "n"}'),
    "gone": (', "s": "s"}', "}"),
    "new": ('Count(window="7d"),', 'Count(window="7d"), "c": Count(window="1d"),'),
    "request field": ("budget: int", "budget: float"),
}  # fmt: skip
AS_FLOAT = """
@feature
def as_float(n: int) -> float:
    return float(n)

"""


def at(hours: float) -> dt.datetime:
    return dt.datetime(2024, 1, 1, tzinfo=dt.UTC) + dt.timedelta(hours=hours)


def write_repo(folder: Path, variant: str | None = None) -> Path:
    """The repo, or a variant of it; its events are there after the first time."""
    text = MODULE
    if variant is not None:
        old, new = VARIANTS[variant]
        assert text.count(old) == 1, variant
        text = text.replace(old, new)
        if variant == "type":
            text = text.replace("latest = ", AS_FLOAT.lstrip() + "latest = ", 1)
            text = text.replace("orders: int", "orders: float").replace(
                "budget // orders", "int(budget // orders)"
            )
        if variant == "request field":
            text = text.replace('{"budget": int}', '{"budget": float}')
            text = text.replace("budget // orders", "int(budget // orders)")
    folder.mkdir(exist_ok=True)
    (folder / "models.py").write_text(textwrap.dedent(text), encoding="utf-8")
    (folder / "feature_store.yaml").write_text(SETTINGS, encoding="utf-8")
    if not (folder / "events.parquet").exists():
        pq.write_table(events(), folder / "events.parquet")
    return folder


def events() -> pa.Table:
    xs = [1.5, None, math.nan, -0.0, 0.0, math.inf, 2.5, 1e300, -3.25, 7.0]
    rows: list[dict[str, Any]] = [
        {"k": i % 5, "x": xs[i % len(xs)], "n": i % 4 - 1, "s": "abc"[i % 3], "ts": at(i)}
        for i in range(60)
    ]
    times = pa.timestamp("us", tz="UTC")
    schema = pa.schema([("k", pa.int64()), ("x", pa.float64()), ("n", pa.int64()),
                        ("s", pa.string()), ("ts", times), ("arrived", times)])  # fmt: skip
    return pa.Table.from_pylist([{**row, "arrived": row["ts"]} for row in rows], schema=schema)


def frame() -> list[dict[str, Any]]:
    """Rows of known and unknown users."""
    return [
        {"k": k, "event_timestamp": at(hour), "budget": 10 * k + hour}
        for hour in range(1, 60, 3)
        for k in range(7)
    ]


def training(store: FeatureStore, rows: Any = None, **options: Any) -> Any:
    options = {"labels": ["future"], "known_at": at(100), **options}
    return store.get_historical_features(frame() if rows is None else rows, "churn", **options)
