"""A training set holds one NaN, whose bits are the same whatever a transform computed."""

from __future__ import annotations

import datetime as dt
import math

import numpy as np
import pyarrow as pa
import pytest

from featurekit import Entity, EventSource, FeatureService, FeatureStore, FeatureView, feature

AT = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
EVENTS = pa.table({"k": [1], "x": [math.nan], "at": [AT]})
events = EventSource("events", frame=EVENTS, schema={"k": int, "x": float}, timestamp_field="at")
customer = Entity("customer", {"k": int})


@feature
def opposite(x: float) -> float:
    return -x


@feature
def opposite_read(x: float | None) -> float | None:
    return None if x is None else -x


@feature
def opposite_asked(asked: float) -> float:
    return -asked


row = FeatureView("row", entities=[customer], source=events, features={"x": "x", "minus": opposite})
SERVICES = {
    "of an event": FeatureService("s", features=[row[["minus"]]]),
    "of a feature": FeatureService("s", features=[row[["x"]], opposite_read]),
    "of a request": FeatureService(
        "s", features=[row[["x"]], opposite_asked], request={"asked": float}
    ),
}


@pytest.mark.parametrize("name", SERVICES)
def test_a_nan_has_the_bits_of_the_one_nan(name: str) -> None:
    frame = pa.table({"k": [1], "event_timestamp": [AT], "asked": [math.nan]})
    with FeatureStore(definitions=[SERVICES[name]]) as store:
        made = store.get_historical_features(frame, "s").to_arrow()
    column = made[made.column_names[-1]].combine_chunks().to_numpy()
    assert column.view(np.uint64).tolist() == [0x7FF8_0000_0000_0000]
