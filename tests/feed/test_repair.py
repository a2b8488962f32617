"""A run that meets damaged values writes them again, with all that files and log have of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from featurekit.core.keys import project_key
from featurekit.errors import DamagedState
from featurekit.online.store.redis import RedisStore
from featurekit.store import FeatureStore

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count, Sum

key = Entity("key", {"key": int})
plain = EventSource("plain", path="data/orders.parquet", timestamp_field="at",
                    created_timestamp_column="known",
                    schema={"key": int, "id": int, "x": float})
named = EventSource("named", path="data/orders.parquet", timestamp_field="at",
                    created_timestamp_column="known",
                    schema={"key": int, "id": int, "x": float}, event_id="id",
                    dedupe_within="9000d")

def view(name, source, features):
    return FeatureView(name, entities=[key], source=source, features=features)

WINDOWS = {"count": Count(window="lifetime"), "sum": Sum("x", window="lifetime")}
views = [view("latest", plain, {"x": "x"}), view("windows", plain, WINDOWS),
         view("ids", named, WINDOWS)]
latest, windows, ids = views
service = FeatureService("service", features=views)
"""
DAY = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
def store(redis_store: RedisStore, make_repo: Any) -> Iterator[FeatureStore]:
    at = pa.array([DAY + dt.timedelta(hours=i) for i in range(4)], pa.timestamp("us", tz="UTC"))
    rows = {"key": [1, 2, 1, 2], "id": [1, 2, 3, 4], "x": [0.5, 1.5, 2.5, 3.5], "at": at}
    repo = make_repo(MODULE, {"orders": pa.table(rows | {"known": at})})
    with FeatureStore(repo, redis_url=redis_store.url) as made:
        made.apply()
        made.materialize()
        push(made, 5, 7)
        yield made


def push(store: FeatureStore, *numbers: int) -> None:
    rows = [{"key": 1, "id": i, "x": i + 0.1, "at": DAY + dt.timedelta(hours=i)} for i in numbers]
    for source in ("plain", "named"):
        store.push(source, rows)


def kept(store: FeatureStore, kinds: tuple[str, ...] = ("state", "ids")) -> dict[bytes, bytes]:
    """What the store has of the views."""
    keys = [k for kind in kinds for k in store.online.keys(project_key("tests", kind, ""))]
    return {k: v or b"" for k, v in zip(keys, store.online.read(keys), strict=True)}


def damage(store: FeatureStore, key: bytes) -> None:
    value = bytearray(store.online.read([key])[0] or b"")
    value[len(value) // 2] ^= 16
    store.online.write({key: bytes(value)})


def ask(store: FeatureStore) -> Any:
    return store.get_online_features("service", [{"key": 1}]).to_pylist()


@pytest.mark.parametrize("run", ["whole", "incremental", "entity"])
@pytest.mark.parametrize("view", ["latest", "windows", "ids"])
def test_a_damaged_state_is_written_again_pushes_included(
    store: FeatureStore, view: str, run: str
) -> None:
    right, answer = kept(store), ask(store)
    (key,) = [k for k in right if b":%b:" % view.encode() in k and k.endswith(b"{2:i1}")]
    damage(store, key)
    with pytest.raises(DamagedState, match=rf"'{view}'.*--view {view} --entity key=1"):
        ask(store)
    with pytest.raises(DamagedState, match="rows are in the offline log"):
        push(store, 9)
    if run == "incremental":
        done = store.materialize_incremental()
    else:
        done = store.materialize(entities=[{"key": 1}] if run == "entity" else None)
    assert {v.view: v.damaged for v in done.views}[view] == 1
    assert sum(v.damaged for v in done.views) == 1
    assert ask(store) != answer  # the push that was refused is there too
    fresh = kept(store, ("state",))
    store.online.delete(list(fresh))
    store.materialize()
    assert kept(store, ("state",)) == fresh


@pytest.mark.parametrize("what", ["memory", "floor"])
def test_a_damaged_memory_is_written_again(store: FeatureStore, what: str) -> None:
    right = kept(store, ("ids", "floor", "state"))
    keys = [k for k in right if k.endswith(b":i5") or b":floor:" in k]
    (key,) = [k for k in keys if (b":floor:" in k) == (what == "floor")]
    damage(store, key)
    with pytest.raises(DamagedState, match="view 'ids': the"):
        store.push("named", {"key": 1, "id": 5, "x": 5.1, "at": DAY + dt.timedelta(hours=5)})
    done = store.materialize()
    assert sum(v.damaged for v in done.views) == 1
    answer = ask(store)
    push(store, 5)  # a copy, of which the source without ids knows nothing
    assert ask(store)[0]["ids__count"] == answer[0]["ids__count"] == 4
