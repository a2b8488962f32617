"""What has settled lies before the stamp of every push that is open, or that comes later (T3)."""

from __future__ import annotations

import pytest

from featurekit.online.store.memory import MemoryStore
from featurekit.online.store.protocol import OnlineStore
from featurekit.online.store.redis import RedisStore

KEY = b"fk:tests:pushes:clicks"


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest, redis_store: RedisStore) -> OnlineStore:
    return redis_store if request.param == "redis" else MemoryStore()


def test_an_open_push_holds_it_back_until_it_is_over(store: OnlineStore) -> None:
    token, stamped, _ = store.open_push(KEY).result()
    for _ in range(20):
        assert store.settled_until(KEY) < stamped
    store.close_push(KEY, token)
    assert store.settled_until(KEY) >= stamped - 1


def test_a_push_of_the_same_microsecond_is_after_it(
    store: OnlineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = store.now_us()
    monkeypatch.setattr(store, "now_us", lambda: now)
    assert store.settled_until(KEY) == now - 1
    token, _, _ = store.open_push(KEY).result()
    assert store.settled_until(KEY) <= now - 1
    store.close_push(KEY, token)


def test_another_source_s_push_is_of_no_consequence(store: OnlineStore) -> None:
    token, stamped, _ = store.open_push(KEY).result()
    assert store.settled_until(b"fk:tests:pushes:orders") >= stamped - 1
    store.close_push(KEY, token)
