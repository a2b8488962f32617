"""A URL's scheme chooses the online store, from one table for all who open one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from featurekit import FeatureStore, OnlineService
from featurekit.errors import StoreUnavailable
from featurekit.online.store.limits import DEFAULT, Limits
from featurekit.online.store.login import NO_LOGIN, Login
from featurekit.online.store.memory import MemoryStore
from featurekit.online.store.open import STORES, open_store
from featurekit.online.store.redis import RedisStore

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView

user = Entity("user", join_keys={"key": int})
clicks = EventSource("clicks", path="data/x.parquet", schema={"key": int}, timestamp_field="ts")
view = FeatureView("view", entities=[user], source=clicks, features={"k": "key"})
service = FeatureService("service", features=[view])
"""


@pytest.mark.parametrize("url", ["redis://host:1/0", "rediss://host:1", "unix:///redis.sock"])
def test_a_redis_is_opened(url: str) -> None:
    store = open_store(url)
    assert isinstance(store, RedisStore)
    assert store.url == url
    store.close()


@pytest.mark.parametrize("url", ["localhost:6379", "redis", "", "REDIS://host", "sql://me:pw@host"])
def test_a_url_of_no_store_is_refused(url: str) -> None:
    with pytest.raises(
        StoreUnavailable,
        match=r"is no URL of an online store, .* one of redis://, rediss://, unix://; write redis:",
    ) as caught:
        open_store(url)
    assert "pw" not in str(caught.value)


def test_the_rest_of_a_url_is_the_store_s_to_judge() -> None:
    with pytest.raises(StoreUnavailable, match="is no Redis URL"):
        open_store("redis://host:port/0")


def test_another_store_is_a_line_of_the_table(
    make_repo: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    def memory(url: str, limits: Limits, *, login: Login) -> MemoryStore:
        opened.append(url)
        assert (limits, login) == (DEFAULT, NO_LOGIN)
        return MemoryStore()

    monkeypatch.setitem(STORES, "memory", memory)
    with FeatureStore(make_repo(MODULE, {}), redis_url="memory://one") as store:
        assert isinstance(store.parts.online, MemoryStore)
    with OnlineService.connect("memory://two", "tests", "service") as service:
        assert isinstance(service.store, MemoryStore)
    assert opened == ["memory://one", "memory://two"]
