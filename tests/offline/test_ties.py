"""Events of one instant are in the order of T6 for ordered aggregates, wherever they stand."""

from __future__ import annotations

import datetime as dt
import math
import random
from typing import Any

import pyarrow as pa
import pytest

from featurekit.store import FeatureStore

REPO = """
    from featurekit import Entity, EventSource, FeatureService, FeatureView
    from featurekit.aggregates import First, FirstN, Last, LastN

    key = Entity("key", {"key": int})
    events = EventSource("events", path="data/events.parquet", timestamp_field="at",
                         created_timestamp_column="made", schema={"key": int, "x": float})
    view = FeatureView("view", entities=[key], source=events, features={
        "last": Last("x", window="1d"), "first": First("x", window="1d"),
        "lasts": LastN("x", n=4, window="1d"), "firsts": FirstN("x", n=4, window="1d")})
    service = FeatureService("service", features=[view])
"""
NOON = dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC)
# Of the entity 1 in the order of T6; the entity 2 has no ties.
TIED = [
    (0, 0, 9.0), (1, 1, 5.0), (1, 2, -0.0), (1, 2, 0.0), (1, 2, 3.0), (1, 2, math.nan),
    (1, 3, -1.0), (1, 3, 2.0),
]  # fmt: skip
APART = [(3, 9, 7.0), (4, 4, 1.0), (5, 5, 4.0), (6, 6, -2.0), (7, 7, 6.0)]


@pytest.mark.parametrize("seed", range(3))
def test_events_of_one_instant_are_in_the_order_of_their_values(seed: int, make_repo: Any) -> None:
    rows = [(1, *row) for row in TIED] + [(2, *row) for row in APART]
    random.Random(seed).shuffle(rows)

    def instants(column: int) -> list[dt.datetime]:
        return [NOON + dt.timedelta(minutes=row[column]) for row in rows]

    table = pa.table(
        {"key": [row[0] for row in rows], "x": [row[3] for row in rows],
         "at": instants(1), "made": instants(2)}
    )  # fmt: skip
    store = FeatureStore(make_repo(REPO, {"events": table}))
    asked = pa.table({"key": [1, 2], "event_timestamp": [NOON + dt.timedelta(hours=1)] * 2})
    found = store.get_historical_features(asked, "service").to_pylist()
    for row, events in zip(found, (TIED, APART), strict=True):
        values = [repr(x) for *_, x in events]
        assert [repr(x) for x in row["lasts"]] == values[-4:]
        assert [repr(x) for x in row["firsts"]] == values[:4]
        assert (repr(row["last"]), repr(row["first"])) == (values[-1], values[0])
