"""What tasks ask in one turn of the event loop goes as one command; each gets its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from featurekit.errors import StoreUnavailable
from featurekit.online.store.redis import RedisStore
from featurekit.online.store.server import scratch_redis

CLOCK, OTHER_CLOCK = b"fk:tests:clock", b"fk:other:clock"


def run(store: RedisStore, asked: Coroutine[Any, Any, Any]) -> Any:
    async def closing() -> Any:
        try:
            return await asked
        finally:
            await store.close_async()

    return asyncio.run(closing())


def commands(store: RedisStore) -> int:
    """The number of MGETs that the server has seen."""
    return int(store.client.info("commandstats").get("cmdstat_mget", {"calls": 0})["calls"])


@pytest.fixture
def filled(redis_store: RedisStore) -> RedisStore:
    redis_store.write({b"k%d" % i: b"value %d" % i for i in range(0, 200, 2)})
    return redis_store


def keys_of(i: int) -> list[bytes]:
    """Keys of which every second one has a value; none for every fifth task."""
    return [b"k%d" % (i + k) for k in range(i % 5)]


def values_of(i: int) -> list[bytes | None]:
    return [None if (i + k) % 2 else b"value %d" % (i + k) for k in range(i % 5)]


def test_each_task_gets_its_own_values_and_the_clock(filled: RedisStore) -> None:
    async def ask() -> Any:
        return await asyncio.gather(*(filled.read_at_async(keys_of(i), CLOCK) for i in range(60)))

    before, begun = commands(filled), filled.now_us()
    found = run(filled, ask())
    assert [list(values) for values, _ in found] == [values_of(i) for i in range(60)]
    assert all(begun <= now <= filled.now_us() for _, now in found)
    assert commands(filled) - before <= 2, "the first one alone, the others together"


def test_tasks_of_two_clocks_are_told_each_its_own(filled: RedisStore) -> None:
    later = filled.now_us() + 60_000_000
    filled.write({OTHER_CLOCK: b"%d" % later})

    async def ask() -> Any:
        clocks = [CLOCK, OTHER_CLOCK] * 10
        return await asyncio.gather(*(filled.read_at_async([b"k2"], clock) for clock in clocks))

    found = run(filled, ask())
    assert [now == later for _, now in found] == [False, True] * 10
    assert [list(values) for values, _ in found] == [[b"value 2"]] * 20


def test_a_task_that_is_cancelled_takes_no_other_along(filled: RedisStore) -> None:
    async def ask() -> Any:
        tasks = [asyncio.create_task(filled.read_at_async(keys_of(i), CLOCK)) for i in range(12)]
        await asyncio.sleep(0)
        tasks[3].cancel()
        tasks[7].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = run(filled, ask())
    for i, one in enumerate(found):
        if i in (3, 7):
            assert isinstance(one, asyncio.CancelledError)
        else:
            assert list(one[0]) == values_of(i)


def test_keys_that_one_may_not_read_are_refused_to_it_alone(filled: RedisStore) -> None:
    filled.client.execute_command(
        "ACL", "SETUSER", "some", "on", ">p", "~k*", "~fk:*", "+@all", "resetchannels"
    )
    store = RedisStore(filled.url.replace("unix://", "unix://some:p@"))

    async def ask() -> Any:
        asked = [[b"k2"], [b"k4"], [b"secret"], [b"k6"]]
        tasks = (store.read_at_async(keys, CLOCK) for keys in asked)
        return await asyncio.gather(*tasks, return_exceptions=True)

    one, other, refused, last = run(store, ask())
    assert [list(v) for v, _ in (one, other, last)] == [[b"value 2"], [b"value 4"], [b"value 6"]]
    assert isinstance(refused, StoreUnavailable)
    store.close()
    filled.client.execute_command("ACL", "DELUSER", "some")


def test_a_server_that_is_lost_is_told_to_each() -> None:
    async def ask(store: RedisStore) -> Any:
        tasks = (store.read_at_async([b"k%d" % i], CLOCK) for i in range(5))
        return await asyncio.gather(*tasks, return_exceptions=True)

    with asyncio.Runner() as runner:
        with scratch_redis() as url:
            store = RedisStore(url)
            assert [list(values) for values, _ in runner.run(ask(store))] == [[None]] * 5
        assert {type(error) for error in runner.run(ask(store))} == {StoreUnavailable}
        runner.run(store.close_async())
