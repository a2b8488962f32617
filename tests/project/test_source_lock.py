"""A source's lock has one holder, and ends by the store's clock, whatever clients' clocks say."""

from __future__ import annotations

import time

import pytest

from featurekit.errors import OnlineError
from featurekit.online.store.memory import MemoryStore
from featurekit.online.store.redis import RedisStore
from featurekit.project.deployment import locked

HOUR_S = 3_600
LOCK = b"fk:tests:lock:clicks"
LIFETIME_US = 60_000_000


class Clocked(MemoryStore):
    """A store whose clock is set by hand."""

    now = 1_700_000_000_000_000

    def now_us(self) -> int:
        return self.now


def set_own_clock(monkeypatch: pytest.MonkeyPatch, off_s: float) -> None:
    """Let this client's clock be so many seconds off."""
    monkeypatch.setattr(time, "time", lambda: time.time_ns() / 1e9 + off_s)


def left_by_a_dead_holder(store: MemoryStore) -> None:
    with locked(store, "tests", "clicks"):
        held = store.values[LOCK]
    store.values[LOCK] = held


@pytest.mark.parametrize("off_s", [-5 * HOUR_S, 0, 5 * HOUR_S])
def test_a_client_whose_clock_is_off_takes_no_lock_that_is_held(
    redis_store: RedisStore, monkeypatch: pytest.MonkeyPatch, off_s: float
) -> None:
    other = RedisStore(redis_store.url)
    with locked(redis_store, "tests", "clicks"):
        set_own_clock(monkeypatch, off_s)
        with (
            pytest.raises(OnlineError, match="'clicks' is being materialised"),
            locked(other, "tests", "clicks"),
        ):
            raise AssertionError("two hold one lock")
        with locked(other, "tests", "orders"):
            assert len(list(redis_store.keys(b"fk:tests:lock:"))) == 2
    with locked(other, "tests", "clicks"):
        assert list(redis_store.keys(b"fk:tests:lock:")) == [LOCK]
    other.close()
    assert list(redis_store.keys(b"fk:tests:lock:")) == []


@pytest.mark.parametrize("off_s", [-5 * HOUR_S, 0, 5 * HOUR_S])
def test_a_dead_holder_s_lock_ends_after_its_time_whatever_its_clock_said(
    monkeypatch: pytest.MonkeyPatch, off_s: float
) -> None:
    store = Clocked()
    with monkeypatch.context() as patch:
        set_own_clock(patch, off_s)
        left_by_a_dead_holder(store)
    store.now += LIFETIME_US - 1_000_000
    with (
        pytest.raises(OnlineError, match="ends by itself in 60 s"),
        locked(store, "tests", "clicks"),
    ):
        raise AssertionError("the lock of the dead holder had not ended")
    store.now += 2_000_000
    with locked(store, "tests", "clicks"):
        assert LOCK in store.values
    assert LOCK not in store.values


def test_a_holder_whose_lock_was_taken_over_leaves_it_alone() -> None:
    store = Clocked()
    slow = locked(store, "tests", "clicks")
    slow.__enter__()
    store.now += LIFETIME_US + 1_000_000
    with locked(store, "tests", "clicks"):
        taken = store.values[LOCK]
        slow.__exit__(None, None, None)
        assert store.values[LOCK] == taken


def test_a_lock_is_renewed_by_the_store_s_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featurekit.project.deployment._RENEW_S", 0.005)
    set_own_clock(monkeypatch, -5 * HOUR_S)
    store = Clocked()
    with locked(store, "tests", "clicks"):
        store.now += LIFETIME_US - 1_000_000
        deadline = time.monotonic() + 10
        while float(store.values[LOCK].split(b" ")[1]) * 1e6 < store.now + LIFETIME_US:
            assert time.monotonic() < deadline, "the lock was not renewed"
            time.sleep(0.005)
