"""Views and frames of many columns take steps that grow with the number of columns, not its
square."""

from __future__ import annotations

import datetime as dt
import math
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
from featurekit.offline import windows

FINGERPRINTS = [
    "4dae39b6c4af6712228cbc5c8849c50c",
    "16b2a9bab878b2ef9e3b66d80231c936",
    "c632d039170ca6520ccc033a9857d280",
]
CUSTOMER = Entity("customer", join_keys={"customer_id": int})
NOON, DAY = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC), dt.timedelta(days=1)


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


# --- values ---------------------------------------------------------------------------------------


def filled(n: int, kind: str) -> tuple[FeatureView, list[dict[str, Any]]]:
    """A view as `wide` makes it, and its rows. Entity 1 has several rows at the last instant, and
    the row that arrived last happened first."""
    names, came = [f"c{i}" for i in range(n)], NOON + dt.timedelta(minutes=5)
    rows = [
        {"customer_id": key, "at": at, "came": created}
        | {name: (i * 7 + r * r) / 10 for i, name in enumerate(names)}
        for r, (key, at, created) in enumerate(
            [(1, NOON, NOON), (1, NOON, NOON), (2, NOON, NOON), (1, NOON - DAY, came)]
        )
    ]
    source = EventSource(
        "lines",
        frame=pa.Table.from_pylist(rows),
        schema={"customer_id": int, **dict.fromkeys(names, float)},
        timestamp_field="at",
        created_timestamp_column="came",
    )
    made: dict[str, Any] = {name: name for name in names}
    if kind == "window":
        # As many windows as columns, of different lengths.
        made = {name: Sum(name, window=f"{i % 3 + 1}h") for i, name in enumerate(names)}
        made["every"] = Sum("c1", window="lifetime")
    view = FeatureView("wide", entities=[CUSTOMER], source=source, features=made)
    return view, rows


@pytest.mark.parametrize(("kind", "n"), [("latest", 500), ("window", 45)])
def test_every_column_of_a_wide_view_has_its_own_value_offline_and_online(
    monkeypatch: pytest.MonkeyPatch, kind: str, n: int
) -> None:
    """DuckDB's optimizer took a quarter of an hour for such a latest view: its time grew with the
    fourth power of the number of columns."""
    monkeypatch.setattr(windows, "_PLANNED_AT_ONCE", 20)
    view, rows = filled(n, kind)
    at = NOON + dt.timedelta(minutes=30)
    keys = [{"customer_id": key} for key in (1, 2, 3)]
    with FeatureStore(definitions=[FeatureService("service", features=[view])]) as store:
        store.apply()
        labels = [{**key, "event_timestamp": at} for key in keys]
        offline = store.get_historical_features(labels, "service", statuses=True).to_pylist()
        store.materialize(at)
        online = store.get_online_features("service", keys, at).to_pylist()
    names = [*view.features]
    assert [[row[n] for n in names] for row in offline] == [
        [row[n] for n in names] for row in online
    ]
    assert [row["c0__status"] for row in offline] == ["PRESENT", "PRESENT", "NOT_FOUND"]
    for key, found in zip((1, 2, 3), offline, strict=True):
        mine = [row for row in rows if row["customer_id"] == key]
        recent = [row for row in mine if row["at"] == NOON]
        for name in names:
            if kind == "latest":
                expected = max((row[name] for row in recent), default=None)
            else:
                column, counted = ("c1", mine) if name == "every" else (name, recent)
                expected = math.fsum(row[column] for row in counted) if counted else None
            assert found[name] == expected, name


def test_a_window_view_is_asked_for_a_bounded_number_of_columns_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DuckDB's time for a statement grows faster than its columns; so does no statement of sums."""
    monkeypatch.setattr(windows, "_PLANNED_AT_ONCE", 20)
    longest: dict[int, int] = {}
    grouped = windows.group_windows

    def counted(con: Any, view: Any, asked: Any, **how: Any) -> Any:
        longest[width] = max(longest.get(width, 0), len(asked))
        return grouped(con, view, asked, **how)

    monkeypatch.setattr(windows, "group_windows", counted)
    for width in (25, 45):
        view, _ = filled(width, "window")
        labels = [{"customer_id": 1, "event_timestamp": NOON}]
        with FeatureStore(definitions=[FeatureService("service", features=[view])]) as store:
            store.get_historical_features(labels, "service").to_arrow()
    assert longest == {25: 20, 45: 20}


# --- frames ---------------------------------------------------------------------------------------


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
