"""A store's lookups in event loops: the bits of its lookups in threads, over connections that each
loop has of its own and lets go of."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from oracle import bits

from featurekit.errors import StoreUnavailable
from featurekit.online.store.redis import RedisStore
from featurekit.store import FeatureStore

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import Count, Last, Mean, Sum

user = Entity("user", {"k": int})
clicks = EventSource("clicks", path="data/clicks.parquet", timestamp_field="at",
                     schema={"k": int, "x": float | None, "word": str | None})

@feature
def share(spend: float | None, basket: float) -> float | None:
    return None if spend is None else basket / spend

spending = FeatureView(
    "spending", entities=[user], source=clicks,
    features={"n": Count(window="lifetime"), "spend": Sum("x", window="lifetime"),
              "mean": Mean("x", window="2d"), "word": Last("word", window="lifetime")},
)
service = FeatureService("service", features=[spending, share], request={"basket": float})
"""
USERS = 40
BEGIN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
AT = BEGIN + dt.timedelta(days=3)
AMOUNTS = [0.1, 0.2, -0.0, 0.0, 1e16, -1e16, math.nan, math.inf, None, 5e-324]
ROWS = [{"k": k, "basket": (1.5, -0.0, math.nan)[k % 3]} for k in range(USERS + 2)]
"""Two of them have no events."""


def clicks() -> pa.Table:
    rows = [
        {"k": k, "x": AMOUNTS[(k + 3 * n) % len(AMOUNTS)], "word": ("a", None, "é")[(k * n) % 3],
         "at": BEGIN + dt.timedelta(hours=7 * n, microseconds=k)}
        for k in range(USERS) for n in range(k % 7 + 1)
    ]  # fmt: skip
    types = [("k", pa.int64()), ("x", pa.float64()), ("word", pa.string()),
             ("at", pa.timestamp("us", "UTC"))]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=pa.schema(types))


@pytest.fixture
def store(make_repo: Any, redis_url: str, redis_store: RedisStore) -> Iterator[FeatureStore]:
    folder: Path = make_repo(MODULE, {"clicks": clicks()})
    with FeatureStore(folder, redis_url=redis_url) as opened:
        opened.apply()
        opened.materialize()
        yield opened


def shown(found: Any) -> list[dict[str, Any]]:
    """Each row's values by their bits."""
    return [{name: bits(value) for name, value in row.items()} for row in found.to_pylist()]


async def each(store: FeatureStore) -> list[dict[str, Any]]:
    """A task for each row, all at once."""
    asked = (store.get_online_features_async("service", [row], AT) for row in ROWS)
    return [row for found in await asyncio.gather(*asked) for row in shown(found)]


async def each_and_close(store: FeatureStore) -> list[dict[str, Any]]:
    try:
        return await each(store)
    finally:
        await store.close_async()


def connections(redis_store: RedisStore) -> int:
    return len(redis_store.client.client_list())


async def until_there_are(number: int, redis_store: RedisStore) -> None:
    """Wait for Redis to see that connections were closed."""
    deadline = time.monotonic() + 10
    while connections(redis_store) != number:
        assert time.monotonic() < deadline, "connections were left open"
        await asyncio.sleep(0.005)


def test_tasks_at_once_are_given_the_bits_of_a_thread(store: FeatureStore) -> None:
    wanted = store.get_online_features("service", ROWS, AT)
    assert set(wanted.columns) == {
        "n", "spend", "mean", "word", "share"
    }  # fmt: skip
    assert {bits(v) for v in wanted.columns["share"]} >= {bits(None), bits(math.nan), bits(-0.0)}

    async def ask() -> tuple[list[dict[str, Any]], Any]:
        alone = await each(store)
        together = await store.get_online_features_async("service", ROWS, AT)
        await store.close_async()
        return alone, together

    alone, together = asyncio.run(ask())
    assert alone == shown(wanted) == shown(together)
    assert together.statuses() == wanted.statuses()


def test_a_store_that_looked_up_nothing_before_opens_what_it_needs(store: FeatureStore) -> None:
    wanted = shown(store.get_online_features("service", ROWS, AT))
    store.close()
    assert asyncio.run(each_and_close(store)) == wanted


def test_without_an_instant_it_is_now(store: FeatureStore) -> None:
    async def ask() -> Any:
        found = await store.get_online_features_async("service", ROWS)
        await store.close_async()
        return found

    found = asyncio.run(ask())
    assert found.columns["n"] == [*(k % 7 + 1 for k in range(USERS)), 0, 0]
    assert set(found.columns["mean"]) == {None}  # of two days that are long over


def test_close_async_lets_go_of_connections_and_a_later_lookup_opens_others(
    store: FeatureStore, redis_store: RedisStore
) -> None:
    wanted = shown(store.get_online_features("service", ROWS, AT))

    async def ask() -> None:
        before = connections(redis_store)
        for _ in range(2):
            assert await each(store) == wanted
            assert connections(redis_store) > before
            await store.close_async()
            await until_there_are(before, redis_store)
        await store.close_async()  # of nothing that is open
        assert connections(redis_store) == before

    asyncio.run(ask())
    assert shown(store.get_online_features("service", ROWS, AT)) == wanted


def test_close_async_of_a_store_that_opened_nothing_opens_nothing(store: FeatureStore) -> None:
    store.close()
    asyncio.run(store.close_async())
    assert store.parts._online is None


def test_a_closed_store_opens_again_in_the_same_loop(store: FeatureStore) -> None:
    wanted = shown(store.get_online_features("service", ROWS, AT))

    async def ask() -> None:
        assert await each_and_close(store) == wanted
        store.close()
        assert await each_and_close(store) == wanted

    asyncio.run(ask())


def test_loops_in_several_threads_have_connections_of_their_own(store: FeatureStore) -> None:
    wanted = shown(store.get_online_features("service", ROWS, AT))
    together = threading.Barrier(3)

    def loop() -> list[dict[str, Any]]:
        together.wait(30)
        return asyncio.run(each_and_close(store))

    with ThreadPoolExecutor(3) as pool:
        found = [job.result() for job in [pool.submit(loop) for _ in range(3)]]
    assert found == [wanted] * 3


def test_the_loop_goes_on_while_redis_is_waited_for(
    store: FeatureStore, redis_store: RedisStore
) -> None:
    async def ask() -> int:
        await store.get_online_features_async("service", ROWS[:1], AT)
        redis_store.client.execute_command("CLIENT", "PAUSE", 300, "ALL")
        asked = asyncio.create_task(store.get_online_features_async("service", ROWS[:1], AT))
        turns = 0
        while not asked.done():
            await asyncio.sleep(0.01)
            turns += 1
        await asked
        await store.close_async()
        return turns

    assert asyncio.run(ask()) > 3


def test_a_task_that_is_cancelled_leaves_no_reply_to_another(
    store: FeatureStore, redis_store: RedisStore
) -> None:
    wanted = shown(store.get_online_features("service", ROWS, AT))

    async def ask() -> list[dict[str, Any]]:
        await store.get_online_features_async("service", ROWS[:1], AT)
        redis_store.client.execute_command("CLIENT", "PAUSE", 100, "ALL")
        asked = asyncio.create_task(store.get_online_features_async("service", ROWS[5:9], AT))
        await asyncio.sleep(0.02)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        return await each_and_close(store)

    assert asyncio.run(ask()) == wanted


def test_no_server_is_said_as_in_a_thread(store: FeatureStore) -> None:
    with FeatureStore(store.path, redis_url="unix:///nowhere/redis.sock") as nowhere:

        async def ask() -> None:
            try:
                await nowhere.get_online_features_async("service", ROWS, AT)
            finally:
                await nowhere.close_async()

        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            asyncio.run(ask())
