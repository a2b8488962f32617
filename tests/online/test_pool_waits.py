"""How lookups wait for connections is counted, and no lookup that finds one free."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from featurekit.errors import StoreUnavailable
from featurekit.online.store.limits import DEFAULT
from featurekit.online.store.redis import RedisStore
from featurekit.server.metrics import Metrics


def asked_at_once(url: str, connections: int, number: int, timeout_s: float = 5.0) -> RedisStore:
    """A store that was asked so often at once, over so many connections."""
    store = RedisStore(url, replace(DEFAULT, connections=connections, timeout_s=timeout_s))

    async def ask() -> None:
        found = await asyncio.gather(*(store.read_async([b"k"]) for _ in range(number)))
        assert found == [[None]] * number
        await store.close_async()

    asyncio.run(ask())
    store.close()
    return store


def test_who_finds_all_connections_in_use_is_counted(redis_url: str) -> None:
    waits = asked_at_once(redis_url, 2, 6).pool_waits
    assert waits.number == 4
    assert 0 < waits.seconds < 20
    assert asked_at_once(redis_url, 6, 6).pool_waits.number == 0


def test_the_metrics_have_what_was_waited_since_the_last_time(redis_url: str) -> None:
    waits = asked_at_once(redis_url, 1, 3).pool_waits
    metrics = Metrics(waits=waits)
    assert b"featurekit_pool_waits_total 2.0" in metrics.text()
    assert b"featurekit_pool_waits_total 2.0" in metrics.text()
    waits.number, waits.seconds = waits.number + 5, waits.seconds + 1.0
    metrics.took("/ready", "", 0.1)  # also without a scrape of this worker
    assert metrics.registry.get_sample_value("featurekit_pool_waits_total") == 7.0


def test_who_waits_in_vain_is_counted_too(redis_url: str) -> None:
    store = RedisStore(redis_url, replace(DEFAULT, connections=1, timeout_s=0.2))

    async def ask() -> None:
        await store._of_loop()._free.acquire()
        with pytest.raises(StoreUnavailable, match="all 1 connections were in use"):
            await store.read_async([b"k"])
        await store.close_async()

    asyncio.run(ask())
    store.close()
    assert store.pool_waits.number == 1
    assert 0.15 < store.pool_waits.seconds < 10
