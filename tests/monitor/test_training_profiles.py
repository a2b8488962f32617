"""A profile of a training set is what its rows are, in whatever order and by whomever computed."""

from __future__ import annotations

import datetime as dt
import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit.cli import main
from featurekit.errors import DefinitionError
from featurekit.store import FeatureStore

UTC = dt.UTC
FEATURES = """
from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import Count, Last, Sum

user = Entity("user", join_keys={"uid": int})
clicks = EventSource(
    "clicks", path="clicks.parquet", schema={"uid": int, "x": float, "page": str},
    timestamp_field="ts",
)

@feature
def inverse(x: float) -> float:
    return 1.0 / x

view = FeatureView("v", entities=[user], source=clicks, features={
    "x": Sum("x", window="2d"), "n": Count(window="2d"), "page": Last("page", window="2d"),
    "inverse": Last(inverse, window="2d"),
})

@feature
def share(x: float | None, n: int) -> float | None:
    if x is None:
        return None
    return x / (n - 1)

service = FeatureService("s", features=[view, share])
"""


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    (tmp_path / "feature_store.yaml").write_text("project: shop\n")
    (tmp_path / "features.py").write_text(FEATURES)
    start = dt.datetime(2026, 3, 1, tzinfo=UTC)
    rows = [
        {"uid": i % 40, "x": (-1) ** i * (i / 7), "page": "ab"[i % 2], "ts": start + i * HOUR / 4}
        for i in range(400)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "clicks.parquet")
    pq.write_table(frame(), tmp_path / "frame.parquet")
    return tmp_path


HOUR = dt.timedelta(hours=1)


def frame() -> pa.Table:
    start = dt.datetime(2026, 3, 1, 5, tzinfo=UTC)
    rows = [{"uid": i % 43, "event_timestamp": start + i * HOUR / 3} for i in range(300)]
    return pa.Table.from_pylist(rows)


def test_a_profile_is_what_the_rows_are(repo: Path) -> None:
    with FeatureStore(repo) as store:
        training = store.get_historical_features(frame(), "s", statuses=True)
        rows = training.to_arrow()
        told = {one["feature"]: one for one in store.profile_training_set(training)}
    assert [*told] == ["x", "n", "page", "inverse", "share"]
    x = [value for value in rows["x"].to_pylist() if value is not None]
    assert 0 < len(x) < 300
    assert told["x"]["present"] == len(x)
    assert told["x"]["null"] == 300 - len(x)
    assert (told["x"]["least"], told["x"]["greatest"]) == (min(x), max(x))
    assert told["x"]["mean"] == float(sum(map(Fraction, x)) / len(x))
    assert abs(told["x"]["q50"] / sorted(x)[(len(x) - 1) // 2] - 1) <= 1 / 128
    errors = rows["share__status"].to_pylist().count("ERROR")
    assert told["share"]["errors"] == errors > 0
    assert told["n"]["distinct"] == len(set(rows["n"].to_pylist()))
    pages = rows["page"].to_pylist()
    assert dict(told["page"]["top"]) == {page: pages.count(page) for page in "ab"}


def test_parts_of_time_are_those_of_the_instants(repo: Path) -> None:
    with FeatureStore(repo) as store:
        training = store.get_historical_features(frame(), "s")
        parts = store.profile_training_set(training, every="1d")
        rows = store.get_historical_features(frame(), "s").to_pylist()
        whole = {one["feature"]: one for one in store.profile_training_set(training)}
    starts = sorted({row["event_timestamp"].date().isoformat() for row in rows})
    assert [one["start"][:10] for one in parts if one["feature"] == "x"] == starts
    for one in parts:
        of_day = [
            row[one["feature"]]
            for row in rows
            if row["event_timestamp"].date().isoformat() == one["start"][:10]
        ]
        assert one["present"] + one["null"] == len(of_day)
        assert one["null"] == of_day.count(None)
    for name, one in whole.items():
        of_name = [part for part in parts if part["feature"] == name]
        assert sum(part["present"] for part in of_name) == one["present"]
        least = [part["least"] for part in of_name if part["least"] is not None]
        assert one["least"] == (min(least) if least else None)


def test_neither_the_order_nor_the_parts_of_the_work_leave_a_trace(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from featurekit.offline import training_set

    with FeatureStore(repo) as store:
        first = store.profile_training_set(store.get_historical_features(frame(), "s"), every="1d")
        backwards = frame().take(list(range(299, -1, -1)))
        monkeypatch.setattr(training_set, "_BATCH", 7)
        again = store.get_historical_features(backwards, "s", buckets=5)
        assert json.dumps(store.profile_training_set(again, every="1d")) == json.dumps(first)


def test_naive_instants_lie_in_the_parts_of_their_zone(repo: Path) -> None:
    at = [dt.datetime(2026, 3, 2, 23, 30), dt.datetime(2026, 7, 2, 0, 30)]
    asked = pa.table({"uid": [1, 2], "event_timestamp": at})
    with FeatureStore(repo) as store:
        training = store.get_historical_features(asked, "s", timezone="Europe/London")
        told = store.profile_training_set(training, every="1d")
    assert sorted({one["start"][:10] for one in told}) == ["2026-03-02", "2026-07-01"]


def test_the_verb_writes_it_beside_the_rows(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, profile = repo / "out.parquet", repo / "profile.json"
    asked = ["--repo", str(repo), "get-historical", "s", str(repo / "frame.parquet")]
    assert main([*asked, "-o", str(out), "--profile", str(profile)]) == 0
    assert "Wrote what the rows are to" in capsys.readouterr().out
    with FeatureStore(repo) as store:
        training = store.get_historical_features(frame(), "s")
        assert json.loads(profile.read_text()) == _plain(store.profile_training_set(training))
    assert pq.read_metadata(out).num_rows == 300
    assert main([*asked, "--profile", str(profile), "--profile-every", "1d"]) == 0
    assert {"start", "feature"} <= {*json.loads(profile.read_text())[0]}


def _plain(told: list[dict[str, Any]]) -> Any:
    assert not any(isinstance(v, float) and math.isnan(v) for one in told for v in one.values())
    return json.loads(json.dumps(told))


def test_what_cannot_be_profiled_is_told(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--repo", str(repo), "get-historical", "s", str(repo / "frame.parquet")]
    assert main([*asked, "--profile-every", "1d"]) == 64
    assert "write --profile FILE, too" in capsys.readouterr().err
    assert main([*asked, "--profile", str(repo / "nowhere" / "profile.json")]) == 2
    assert "--profile" in capsys.readouterr().err
    with FeatureStore(repo) as store:
        training = store.get_historical_features(frame(), "s")
        with pytest.raises(DefinitionError, match="every"):
            store.profile_training_set(training, every="soon")
