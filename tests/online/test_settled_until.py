"""What has settled lies before the stamp of every push that is open, or that comes later (T3)."""

from __future__ import annotations

from featurekit.online.store.protocol import OnlineStore
from featurekit.online.store.redis import RedisStore

KEY, CLOCK = b"fk:tests:pushes:clicks", b"fk:tests:clock"


def test_an_open_push_holds_it_back_until_it_is_over(online: OnlineStore) -> None:
    token, stamped, _ = online.open_push(KEY, clock=CLOCK).result()
    for _ in range(20):
        assert online.settled_until(KEY, clock=CLOCK) < stamped
    online.close_push(KEY, token)
    assert online.settled_until(KEY, clock=CLOCK) >= stamped - 1


def test_a_push_of_the_same_microsecond_is_after_it(
    online: OnlineStore,
) -> None:
    now = online.now_us()
    online.clock = lambda: now
    assert online.settled_until(KEY, clock=CLOCK) == now - 1
    token, _, _ = online.open_push(KEY, clock=CLOCK).result()
    assert online.settled_until(KEY, clock=CLOCK) <= now - 1
    online.close_push(KEY, token)


def test_another_source_s_push_is_of_no_consequence(online: OnlineStore) -> None:
    token, stamped, _ = online.open_push(KEY, clock=CLOCK).result()
    assert online.settled_until(b"fk:tests:pushes:orders", clock=CLOCK) >= stamped - 1
    online.close_push(KEY, token)


def test_what_an_earlier_version_announced_has_the_instant_of_its_entry(
    redis_store: RedisStore,
) -> None:
    """It gave no stamp."""
    now, minute = redis_store.now_us(), 60_000_000
    old = redis_store.client.xadd(KEY, {"p": ""}, id=f"{(now - 9 * minute) // 1000}-0")
    new, _, _ = redis_store.open_push(KEY, clock=CLOCK).result()
    settled = redis_store.settled_until(KEY, clock=CLOCK)
    assert settled == (now - 9 * minute) // 1000 * 1000 - 1
    assert [of.token for of in redis_store.announced(KEY)] == [old, new]
    redis_store.close_push(KEY, old)
    assert now - minute < redis_store.settled_until(KEY, clock=CLOCK) < now + minute
