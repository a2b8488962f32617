"""What a project notes about itself in Redis, and a bit of it flips: no push is acknowledged that
views miss, no error is a bare one, and `apply` and `materialize` write the note anew."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest

from featurekit.errors import ClocksApart, DamagedNote, DamagedView, FeaturekitError, NotServed
from featurekit.online.lookup.service import OnlineService
from featurekit.online.store.notes import numbers, read_object, write_object
from featurekit.online.store.redis import RedisStore
from featurekit.store import FeatureStore

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count, Sum

orders = EventSource(
    "orders", path="data/orders.parquet", schema={"key": int, "x": float}, timestamp_field="at",
)
sums = FeatureView(
    "sums", entities=[Entity("key", {"key": int})], source=orders,
    features={"count": Count(window="3650d"), "sum": Sum("x", window="3650d")},
)
service = FeatureService("service", features=[sums])
other = FeatureService("other", features=[sums[["count"]]])
"""
DAY = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
JSON = ("services", "until", "filled")
"""Notes that are objects, and have a checksum."""
NUMBERS = ("clock", "published", "pushes:orders:ended")
POINTERS = ("live:service", "next:service")
Open = Callable[[], FeatureStore]


@pytest.fixture
def open_store(redis_url: str, make_repo: Any) -> Iterator[Open]:
    """Opens the repo anew, as another process does."""
    at = pa.array([DAY, DAY], pa.timestamp("us", tz="UTC"))
    repo = make_repo(MODULE, {"orders": pa.table({"key": [1, 2], "x": [1.5, 2.5], "at": at})})
    opened: list[FeatureStore] = []

    def made() -> FeatureStore:
        opened.append(FeatureStore(repo, redis_url=redis_url))
        return opened[-1]

    with made() as store:
        store.apply()
        store.materialize()
        push(store)
    yield made
    for store in opened:
        store.close()


def push(store: FeatureStore) -> Any:
    return store.push("orders", [{"key": 1, "x": 0.5, "at": dt.datetime.now(dt.UTC)}])


def online(store: FeatureStore) -> tuple[Any, ...]:
    found = store.get_online_features("service", [{"key": 1}])
    return tuple((found.columns[n][0], found.status[n][0]) for n in ("count", "sum"))


def offline(store: FeatureStore) -> tuple[Any, ...]:
    at = pa.array([dt.datetime.now(dt.UTC)], pa.timestamp("us", tz="UTC"))
    frame = pa.table({"key": [1], "event_timestamp": at})
    (row,) = store.get_historical_features(frame, "service").to_arrow().to_pylist()
    return row["count"], row["sum"]


def key_of(redis: RedisStore, name: str) -> bytes:
    (key,) = [k for k in redis.keys(b"fk:") if k.split(b":", 2)[2] == name.encode()]
    return key


def flipped(value: bytes) -> list[bytes]:
    """Some of the values that differ from this one in a bit."""
    places = {0: 7, len(value) // 3: 4, len(value) // 2: 0, len(value) - 1: 1}
    return [
        value[:at] + bytes([value[at] ^ 1 << bit]) + value[at + 1 :] for at, bit in places.items()
    ]


@pytest.mark.parametrize("name", [*JSON, *NUMBERS, *POINTERS])
def test_a_flipped_bit_of_a_note_is_told_by_name_and_mended(
    name: str, open_store: Open, redis_store: RedisStore
) -> None:
    key = key_of(redis_store, name)
    for bad in flipped(redis_store.read([key])[0] or b""):
        if name == "clock" and bad.isdigit():
            continue  # a clock that is wrong, which S3 has rules for
        redis_store.write({key: bad})
        with open_store() as store:
            before, told = offline(store), []
            for verb in (online, push, FeatureStore.materialize_incremental):
                try:
                    verb(store)
                except (DamagedNote, DamagedView, NotServed, ClocksApart) as error:
                    told.append(str(error))
            assert all("featurekit" in text for text in told), bad
            taken = offline(store)[0] - before[0]
            assert taken in (0, 1)
        with open_store() as store:
            try:
                store.apply()
            except (DamagedNote, ClocksApart) as error:
                told = [str(error)]
                store.materialize(restart_clock=True)
                store.apply()
                assert "--restart-clock" in told[0]
            store.materialize()
            push(store)
            values = online(store)
            assert values == tuple((v, "PRESENT") for v in offline(store)), bad
            assert values[0][0] == before[0] + taken + 1


@pytest.mark.parametrize("name", JSON)
def test_no_flipped_bit_of_an_object_is_another_object(
    name: str, open_store: Open, redis_store: RedisStore
) -> None:
    value = redis_store.read([key_of(redis_store, name)])[0] or b""
    for at in range(len(value)):
        for bit in range(8):
            bad = value[:at] + bytes([value[at] ^ 1 << bit]) + value[at + 1 :]
            with pytest.raises(DamagedNote, match=f"'{name}' in Redis is damaged.*`featurekit app"):
                read_object(name, bad, dict)
    with pytest.raises(DamagedNote):
        read_object("another", value, dict)


def test_an_object_of_an_earlier_release_is_read() -> None:
    assert read_object("services", json.dumps({"a": 1}).encode(), numbers) == {"a": 1}
    assert read_object("services", write_object("services", {"a": 1}), numbers) == {"a": 1}
    for bad in (b"", b"[]", b"\xff", b'{"a": "b"}', b"7"):
        with pytest.raises(DamagedNote):
            read_object("services", bad, numbers)


def test_a_push_is_not_acknowledged_where_a_service_has_lost_its_plan(
    open_store: Open, redis_store: RedisStore
) -> None:
    """Views that only its plan names would miss the rows."""
    plans = redis_store.keys(b"fk:tests:plan:service:")
    redis_store.delete(list(plans))
    with open_store() as store:
        before = offline(store)
        with pytest.raises(DamagedNote, match=r"'plan:service:.*`featurekit apply`"):
            push(store)
        assert offline(store) == before
        store.apply()
        store.materialize()
        push(store)
        assert online(store) == tuple((v, "PRESENT") for v in offline(store))


def test_a_lookup_of_a_damaged_pointer_says_which_key(
    open_store: Open, redis_store: RedisStore
) -> None:
    redis_store.write({key_of(redis_store, "live:service"): b"\xff" * 64})
    with OnlineService.connect(redis_store.url, "tests", "service") as service:
        with pytest.raises(DamagedNote, match="'live:service' in Redis is damaged") as told:
            service.get([{"key": 1}])
        assert told.value.name == "live:service"
    assert isinstance(told.value, FeaturekitError)
