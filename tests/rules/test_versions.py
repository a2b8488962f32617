"""F: versions of definitions, and what a training set says of itself."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import redis

from featurekit import FeatureStore
from featurekit.errors import OnlineError, PlanRefused
from rules.asking import NOON, S, ask, instant, opened, present, table

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Sum

user = Entity("user", {"key": int})
events = EventSource(
    "events", path="events.parquet", timestamp_field="at", created_timestamp_column="arrived",
    schema={"key": int, "n": int},
)
view = FeatureView("view", entities=[user], source=events, description="DESCRIPTION",
                   features={"sum": Sum("n", window="WINDOW")})
service = FeatureService("service", features=[view])
"""
_numbers = itertools.count(1)
FRAME = [{"key": 1, "event_timestamp": instant(15 * S)}]


def written(*, window: str = "10s", description: str = "") -> str:
    return MODULE.replace("WINDOW", window).replace("DESCRIPTION", description)


def rows(*values: int) -> pa.Table:
    """Events of entity 1, ten seconds apart."""
    made = [
        {"key": 1, "at": instant(i * 10 * S), "arrived": instant(i * 10 * S), "n": n}
        for i, n in enumerate(values)
    ]
    return table(*made, n=pa.int64())


@pytest.fixture
def filled(tmp_path: Path, rules_url: str) -> Iterator[FeatureStore]:
    """A store whose only version serves: 1 at the beginning, 2 ten seconds later."""
    folder = tmp_path / f"versions_{next(_numbers)}"
    with opened(folder, rules_url, written(), {"events": rows(1, 2)}) as store:
        store.materialize()
        yield store


def defined(store: FeatureStore, url: str, **changes: str) -> FeatureStore:
    """Another process's store, after the definitions changed."""
    (store.path / "definitions.py").write_text(written(**changes), encoding="utf-8")
    return FeatureStore(store.path, redis_url=url)


def served(store: FeatureStore) -> Any:
    found = store.get_online_features("service", [{"key": 1}], as_of=instant(15 * S))
    return found.columns["sum"][0]


def manifest(store: FeatureStore) -> dict[str, Any]:
    made: dict[str, Any] = store.get_historical_features(FRAME, "service").manifest
    return made


# --- F0 -------------------------------------------------------------------------------------------


def test_a_plan_of_another_format_is_refused(filled: FeatureStore, rules_url: str) -> None:
    with redis.Redis.from_url(rules_url) as server:
        (key,) = server.keys(f"fk:{filled.project}:plan:*")
        server.set(key, server.get(key).replace(b'"format":1', b'"format":99'))
    with (
        FeatureStore(filled.path, redis_url=rules_url) as store,
        pytest.raises(OnlineError, match="format 99"),
    ):
        served(store)


def test_a_plan_that_is_not_its_fingerprint_s_is_not_served(
    filled: FeatureStore, rules_url: str
) -> None:
    """A shorter window under the same fingerprint: nobody is answered by it."""
    assert served(filled) == 2
    with redis.Redis.from_url(rules_url) as server:
        (key,) = server.keys(f"fk:{filled.project}:plan:*")
        plan = server.get(key)
        server.set(key, plan.replace(b'"window_us":10000000', b'"window_us":5000000'))
        assert server.get(key) != plan
    with FeatureStore(filled.path, redis_url=rules_url) as store:
        with pytest.raises(PlanRefused, match="was changed after it was published"):
            served(store)
        store.apply()  # publishes it again, as it was
        assert served(store) == 2


# --- F1 -------------------------------------------------------------------------------------------


def test_a_changed_definition_serves_once_it_is_filled(
    filled: FeatureStore, rules_url: str
) -> None:
    with defined(filled, rules_url, window="20s") as store:
        store.apply()
        assert (served(store), len(store.versions("service"))) == (2, 2)
        store.materialize()
        assert served(store) == 3
        assert ask(store, "service", {"key": 1}, instant(15 * S))["sum"] == present(3)


def test_a_reader_that_is_open_never_mixes_two_versions(
    filled: FeatureStore, rules_url: str
) -> None:
    assert served(filled) == 2
    with defined(filled, rules_url, window="20s") as store:
        store.apply()
        assert served(filled) == 2
        store.materialize()
    assert served(filled) == 3


def test_both_versions_are_fed_while_one_waits(filled: FeatureStore, rules_url: str) -> None:
    with defined(filled, rules_url, window="20s") as store:
        store.apply()
        at = instant(12 * S)
        store.push("events", [{"key": 1, "at": at, "arrived": at, "n": 4}])
        assert served(store) == 6
        store.materialize()
        assert served(store) == 7


def test_a_fingerprint_is_of_what_is_computed_alone(filled: FeatureStore, rules_url: str) -> None:
    first = manifest(filled)["fingerprint"]
    with defined(filled, rules_url, description="of another owner") as store:
        assert manifest(store)["fingerprint"] == first
    with defined(filled, rules_url, window="20s") as store:
        assert manifest(store)["fingerprint"] != first


# --- F2 -------------------------------------------------------------------------------------------


def test_the_same_inputs_give_the_same_content_hash(
    filled: FeatureStore, tmp_path: Path, rules_url: str
) -> None:
    first = manifest(filled)["content_hash"]
    folders = [tmp_path / f"{name}_{filled.project}" for name in ("again", "other")]
    found = []
    for folder, values in zip(folders, ((1, 2), (1, 3)), strict=True):
        with opened(folder, rules_url, written(), {"events": rows(*values)}) as store:
            found.append(manifest(store)["content_hash"])
    assert found[0] == first
    assert found[1] != first


def test_a_manifest_says_what_a_training_set_was_made_of(filled: FeatureStore) -> None:
    made = manifest(filled)
    assert made["rows"] == 1
    assert made["features"].keys() == {"sum"}
    assert len(made["features"]["sum"]["fingerprint"]) == 32
    (file,) = made["sources"]["events"]["files"]
    assert file["path"] == str(filled.path / "events.parquet")
    assert {"content_hash", "numeric_fingerprint", "featurekit", "known_at"} <= made.keys()


def test_known_at_is_part_of_what_a_manifest_says(filled: FeatureStore) -> None:
    made = filled.get_historical_features(FRAME, "service", known_at=NOON).manifest
    assert made["known_at"] == NOON.isoformat()
    assert made["content_hash"] != manifest(filled)["content_hash"]
