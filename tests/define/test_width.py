"""A view of many columns compiles in steps that grow with the number of columns, not its square."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Sum
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
