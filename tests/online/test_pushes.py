"""A push that goes wrong half way: what went wrong first is told, and what was not is as it was."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from featurekit import FeatureStore
from featurekit.core.keys import project_key
from featurekit.errors import RegistryError, StoreUnavailable
from featurekit.log.segments import read_segment, segments
from featurekit.log.writer import PushLog
from featurekit.online.store import connections
from featurekit.online.store import redis as redis_module
from featurekit.online.store.connections import lives
from featurekit.online.store.redis import RedisStore
from featurekit.project.registry import Registry

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Sum

user = Entity("user", {"k": int})
times = {"timestamp_field": "at", "created_timestamp_column": "arrived"}
clicks = EventSource("clicks", path="data/clicks.parquet", schema={"k": int, "n": int}, **times)
orders = EventSource("orders", path="data/orders.parquet", schema={"k": int, "n": int}, **times,
                     event_id="n", dedupe_within="30d")
clicked = FeatureView("clicked", entities=[user], source=clicks,
                      features={"clicks": Sum("n", window="9d")})
bought = FeatureView("bought", entities=[user], source=orders,
                     features={"orders": Sum("n", window="9d")})
service = FeatureService("service", features=[clicked, bought])
"""
NOW = dt.datetime.now(dt.UTC)
SOURCES = ("clicks", "orders")


def rows(first: int, *, days: float) -> list[dict[str, Any]]:
    at = NOW - dt.timedelta(days=days)
    return [
        {"k": n % 2, "n": n, "at": at + dt.timedelta(seconds=n)} for n in range(first, first + 4)
    ]


@pytest.fixture
def store(
    make_repo: Callable[..., Path], redis_url: str, redis_store: RedisStore
) -> Iterator[FeatureStore]:
    stamp = pa.timestamp("us", tz="UTC")
    schema = pa.schema([("k", pa.int64()), ("n", pa.int64()), ("at", stamp), ("arrived", stamp)])
    old = [row | {"arrived": row["at"]} for row in rows(0, days=2)]
    files = {name: pa.Table.from_pylist(old, schema=schema) for name in SOURCES}
    with FeatureStore(make_repo(MODULE, files), redis_url=redis_url) as opened:
        opened.apply()
        opened.materialize()
        yield opened


def kept(redis: RedisStore) -> dict[bytes, bytes | None]:
    """What is kept of events and ids."""
    keys = sorted(k for kind in (b"state", b"ids") for k in redis.keys(b"fk:tests:" + kind))
    return dict(zip(keys, redis.read(keys), strict=True))


def logged(store: FeatureStore, source: str) -> int:
    return sum(read_segment(p).num_rows for p in segments(store.state_dir, source))


def settled(redis: RedisStore, source: str) -> bool:
    """Whether no push is under way."""
    return redis.client.xlen(project_key("tests", "pushes", source)) == 0


class Lost:
    """A Redis that is lost at its n-th trip, as a command is sent or as its reply is waited for."""

    def __init__(self, patch: pytest.MonkeyPatch, n: int, at: str) -> None:
        self.left, self.at = n, at
        for name in ("send", "received"):
            changed = self.wrapped(name, getattr(connections, name))
            for module in (connections, redis_module):
                patch.setattr(module, name, changed)

    def wrapped(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            if name == self.at:
                self.left -= 1
                if self.left == -1:
                    raise RedisConnectionError("lost")
            return original(*given)

        return call


@pytest.mark.parametrize("at", ["send", "received"])
@pytest.mark.parametrize("source", SOURCES)
def test_a_redis_that_is_lost_at_any_trip_of_a_push(
    store: FeatureStore, redis_store: RedisStore, source: str, at: str
) -> None:
    online: Any = store.online
    pushed = 0
    for trip in range(9):
        before, count, batch = (
            kept(redis_store),
            logged(store, source),
            rows(10 * trip + 10, days=1),
        )
        with pytest.MonkeyPatch.context() as patch:
            lost = Lost(patch, trip, at)
            try:
                store.push(source, batch)
            except StoreUnavailable as error:
                message = str(error)
            else:
                break
        assert lost.left == -1  # no trip was tried after it
        assert all(lives(connection) for connection in list(online._writing.idle))
        if logged(store, source) == count:
            assert "offline log" not in message
            if trip < 2:  # the announcement, and the question what is known of the ids
                assert kept(redis_store) == before
            store.push(source, batch)
        else:
            assert "The 4 rows are in the offline log" in message
        pushed += 4
        assert logged(store, source) == pushed
        # One that was announced and never heard of would be waited for, until its lease ends.
        redis_store.delete([project_key("tests", "pushes", source)])
        store.materialize()
    else:
        raise AssertionError("a push has no more trips than these")
    assert trip == (3 if source == "clicks" else 5)
    found = kept(redis_store)
    redis_store.delete(list(found))
    redis_store.delete(list(redis_store.keys(b"fk:tests:floor")))
    store.materialize()
    assert {k: v for k, v in kept(redis_store).items() if b":state:" in k} == {
        k: v for k, v in found.items() if b":state:" in k
    }


@pytest.mark.parametrize("source", SOURCES)
def test_own_work_that_fails_is_told_and_leaves_nothing(
    store: FeatureStore, redis_store: RedisStore, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    """What is looked up as a push is announced or as its ids are asked for, and the log."""

    def torn(*_: Any) -> Any:
        raise RegistryError("torn")

    def full(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    before = kept(redis_store)
    with monkeypatch.context() as patch:
        patch.setattr(Registry, "tombstones", torn)
        with pytest.raises(RegistryError, match="torn"):
            store.push(source, rows(10, days=1))
    assert (kept(redis_store), logged(store, source)) == (before, 0)
    assert settled(redis_store, source)
    with monkeypatch.context() as patch:
        patch.setattr(PushLog, "keep", full)
        with pytest.raises(OSError, match="No space left") as caught:
            store.push(source, rows(10, days=1))
    assert not isinstance(caught.value, StoreUnavailable)
    states = {k: v for k, v in kept(redis_store).items() if b":state:" in k}
    assert states == {k: v for k, v in before.items() if b":state:" in k}
    assert settled(redis_store, source)
    assert store.push(source, rows(10, days=1)).rows == 4
    assert logged(store, source) == 4


def test_what_went_wrong_first_is_told_though_the_redis_is_lost_then(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def torn(*_: Any) -> Any:
        Lost(monkeypatch, 0, "received")
        raise RegistryError("torn")

    monkeypatch.setattr(Registry, "tombstones", torn)
    with pytest.raises(RegistryError, match="torn"):
        store.push("clicks", rows(10, days=1))


def test_a_push_looks_up_who_is_forgotten_and_writes_its_log_while_it_waits(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    trips: list[str] = []

    def noted(owner: Any, name: str, what: str) -> None:
        original = getattr(owner, name)

        def call(*given: Any, **options: Any) -> Any:
            trips.append(what)
            return original(*given, **options)

        monkeypatch.setattr(owner, name, call)

    noted(redis_module, "send", "sent")
    noted(redis_module, "received", "received")
    noted(redis_module, "asked", "committed")
    noted(Registry, "tombstones", "forgotten")
    noted(PushLog, "keep", "log")
    for source, known in (
        ("clicks", []),
        ("orders", ["sent", "forgotten", "received", "committed"]),
    ):
        trips.clear()
        store.push(source, rows(10, days=1))
        first = ["sent", *(["forgotten"] if source == "clicks" else []), "received"]
        assert trips == [*first, *known, "sent", "log", "received", "committed"]


@pytest.mark.parametrize(("source", "trips"), [("clicks", 3), ("orders", 5)])
def test_a_push_is_so_many_round_trips(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, source: str, trips: int
) -> None:
    """Its lease and its fence are read and written with what is read and written anyway."""
    store.push(source, rows(10, days=1))  # it learns what is fed
    sent: list[int] = []
    original = connections.send

    def counting(connection: Any, commands: Any) -> None:
        sent.append(len(commands))
        original(connection, commands)

    def none(*_: Any, **__: Any) -> Any:
        raise AssertionError("another round trip")

    for module in (connections, redis_module):
        monkeypatch.setattr(module, "send", counting)
    online: Any = store.online
    monkeypatch.setattr(online.client, "execute_command", none)
    monkeypatch.setattr(online._reading, "mget", none)
    assert store.push(source, rows(20, days=1)).rows == 4
    assert len(sent) == trips
