"""Views and frames of many columns take steps that grow with the number of columns, not its
square."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from featurekit import Entity, EventSource, FeatureService, FeatureStore, FeatureView
from featurekit.aggregates import Sum
from featurekit.core import frames
from featurekit.define.compile_service import compile_service
from featurekit.define.compile_view import compile_view
from featurekit.language import wire

FINGERPRINTS = [
    "4dae39b6c4af6712228cbc5c8849c50c",
    "16b2a9bab878b2ef9e3b66d80231c936",
    "c632d039170ca6520ccc033a9857d280",
]
CUSTOMER = Entity("customer", join_keys={"customer_id": int})


def wide(n: int, kind: str) -> FeatureView:
    """A view of `n` columns, as they are or summed."""
    names = [f"c{i}" for i in range(n)]
    source = EventSource(
        "lines",
        path="data/lines.parquet",
        schema={"customer_id": int, **dict.fromkeys(names, float)},
        timestamp_field="at",
    )
    features: dict[str, Any] = {name: name for name in names}
    if kind == "window":
        features = {name: Sum(name, window="7d") for name in names}
    return FeatureView("wide", entities=[CUSTOMER], source=source, features=features)


@pytest.mark.parametrize("kind", ["latest", "window"])
def test_twice_the_columns_are_twice_the_work(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    steps: Counter[int] = Counter()
    width, written = 0, wire.to_json

    def counted(value: Any) -> Any:
        steps[width] += 1
        return written(value)

    monkeypatch.setattr(wire, "to_json", counted)
    for width in (200, 400):
        compile_service(FeatureService("model", features=[wide(width, kind)]))
    assert steps[400] < 2.1 * steps[200]


def test_two_thousand_columns_compile_and_each_keeps_its_slot() -> None:
    compiled = compile_view(wide(2000, "latest"))
    columns = [compiled.slots[f.slot or 0].column for f in compiled.features]
    assert columns == [f.name for f in compiled.features]
    assert len(compiled.slots) == 2000


def test_a_feature_of_a_wide_view_has_the_fingerprint_of_its_definition() -> None:
    """The text is put together from parts; it is that of the whole, as it was before (F1)."""
    compiled = compile_view(wide(3, "window"))
    assert [f.fingerprint for f in compiled.features] == FINGERPRINTS


# --- frames ---------------------------------------------------------------------------------------

NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


class Name(str):
    """The name of a column, which counts how often it is compared."""

    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Name.compared += 1
        return str.__eq__(self, other)


def test_names_of_a_frame_are_not_compared_each_with_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Name, "compared", 0)
    frames.refuse_doubles([Name(f"c{i}") for i in range(5_000)], AssertionError)
    assert Name.compared < 5_000


@pytest.mark.parametrize("make", [lambda t: t, lambda t: t.to_pandas()], ids=["arrow", "pandas"])
def test_labels_of_five_thousand_columns_come_back(make: Callable[[pa.Table], Any]) -> None:
    names = [f"c{i}" for i in range(5_000)]
    row = {"customer_id": 1, "event_timestamp": NOON, **{n: i / 2 for i, n in enumerate(names)}}
    events = pa.table({"customer_id": [1], "x": [0.5], "at": [NOON]})
    source = EventSource(
        "lines", frame=events, schema={"customer_id": int, "x": float}, timestamp_field="at"
    )
    features: dict[str, Any] = {"x": Sum("x", window="1d")}
    view = FeatureView("view", entities=[CUSTOMER], source=source, features=features)
    with FeatureStore(definitions=[FeatureService("service", features=[view])]) as store:
        labels = make(pa.Table.from_pylist([row]))
        (found,) = store.get_historical_features(labels, "service").to_arrow().to_pylist()
    assert found == {**row, "x": 0.5}
