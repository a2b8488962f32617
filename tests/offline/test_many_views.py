"""Views that are joined in groups give what they give when they are joined at once."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pyarrow as pa
import pytest

from featurekit.offline import join
from featurekit.store import FeatureStore

VIEWS = 4
REPO = f"""
    from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
    from featurekit.aggregates import Last, Sum

    key = Entity("key", {{"key": int}})
    events = EventSource("events", path="data/events.parquet", timestamp_field="at",
                         created_timestamp_column="made", schema={{"key": int, "x": float}})

    @feature
    def inverse(x: float) -> float:
        return 1.0 / x

    latest = [FeatureView(f"latest_{{i}}", entities=[key], source=events, ttl=f"{{i + 1}}h",
                          features={{f"x_{{i}}": "x", f"inverse_{{i}}": inverse}})
              for i in range({VIEWS})]
    windows = [FeatureView(f"windows_{{i}}", entities=[key], source=events, features={{
                   f"sum_{{i}}": Sum(inverse, window=f"{{i + 1}}h"),
                   f"last_{{i}}": Last("x", window=f"{{i + 1}}h")}})
               for i in range({VIEWS})]

    @feature
    def both(x_0: float | None, sum_{VIEWS - 1}: float | None, asked: float) -> float | None:
        if x_0 is None or sum_{VIEWS - 1} is None:
            return None
        return (x_0 - sum_{VIEWS - 1}) / asked

    plain = FeatureService("plain", features=[*latest, *windows])
    after = FeatureService("after", features=[*windows, *latest, both], request={{"asked": float}})
"""
NOON = dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC)
AT = [NOON - dt.timedelta(minutes=7 * i) for i in range(90)]
EVENTS = {
    "key": [i % 4 for i in range(90)],
    "x": [0.0 if i % 11 == 0 else float(i % 5) - 1.5 * (i % 3) for i in range(90)],
    "at": AT,
    "made": [at + dt.timedelta(minutes=40 * (i % 2)) for i, at in enumerate(AT)],
}
LABELS = pa.table(
    {"key": [0, 1, 2, 3, None, 9] * 4,
     "event_timestamp": [NOON - dt.timedelta(hours=i // 6) for i in range(24)],
     "asked": [0.0, 1.0, 2.0] * 8}
)  # fmt: skip


@pytest.mark.parametrize("service", ["plain", "after"])
def test_views_joined_in_groups_give_the_same(
    service: str, make_repo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FeatureStore(make_repo(REPO, {"events": pa.table(EVENTS)}))

    def made(at_once: int) -> tuple[pa.Table, dict[str, Any]]:
        monkeypatch.setattr(join, "_JOINED_AT_ONCE", at_once)
        labels = LABELS if service == "after" else LABELS.drop_columns(["asked"])
        found = store.get_historical_features(labels, service, statuses=True)
        return found.to_arrow(), found.statistics

    at_once, statistics = made(100)
    assert statistics["features"]
    for few in (2, 3):
        in_groups, also = made(few)
        assert in_groups.equals(at_once)
        assert also == statistics
