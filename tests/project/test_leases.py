"""Leases of a source end by the store's clock unless they are renewed, and who has lost one writes
nothing, whatever it was in the middle of (T3)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest

from featurekit.core.keys import clock_key, project_key
from featurekit.errors import LeaseLost, OnlineError
from featurekit.online.store.fenced import Fenced
from featurekit.online.store.limits import Limits
from featurekit.online.store.memory import MemoryStore
from featurekit.online.store.protocol import Closing, OnlineStore
from featurekit.online.store.redis import RedisStore
from featurekit.project import leases
from featurekit.project.leases import alone, fence_key, held_by, holder, let_go, pushing, unlock

HOUR_S = 3_600
SHORT_S = 0.6
"""A lease in these tests; it is renewed six times as often."""
LOCK, PUSHES = b"fk:tests:lock:clicks", b"fk:tests:pushes:clicks"


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LEASE_S", SHORT_S)
    monkeypatch.setattr(leases, "RENEW_S", SHORT_S / 6)
    monkeypatch.setattr(leases, "_POLL_S", 0.01)


class Clocked(MemoryStore):
    """A store whose clock is set by hand."""

    now = 1_700_000_000_000_000

    def now_us(self) -> int:
        return self.now


def set_own_clock(monkeypatch: pytest.MonkeyPatch, off_s: float) -> None:
    """Let this client's clock be so many seconds off."""
    monkeypatch.setattr(time, "time", lambda: time.time_ns() / 1e9 + off_s)


def left_by_the_dead(store: OnlineStore, *, long_ago: bool = False) -> bytes:
    """A lease that nobody renews any more; what stands in the store for it."""
    with alone(store, "tests", "clicks", "materialize"):
        value = store.read([LOCK])[0] or b""
    if long_ago:
        first, _, since = value.rpartition(b" ")
        value = b"%s %d" % (first, int(since) - 3_600_000_000)
    store.write({LOCK: value})
    return value


def announce(store: OnlineStore) -> tuple[bytes, bytes | None]:
    """The token of a push, and the fence that it saw."""
    token, _, (fence,) = store.open_push(
        PUSHES, [fence_key("tests", "clicks")], clock=clock_key("tests"), holder=holder("push")
    ).result()
    return token, fence


# --- who holds it ---------------------------------------------------------------------------------


@pytest.mark.parametrize("off_s", [-5 * HOUR_S, 0, 5 * HOUR_S])
def test_what_a_living_process_holds_is_not_taken_whatever_a_client_s_clock_says(
    redis_store: RedisStore, monkeypatch: pytest.MonkeyPatch, off_s: float
) -> None:
    other = RedisStore(redis_store.url)
    with alone(redis_store, "tests", "clicks", "materialize"):
        set_own_clock(monkeypatch, off_s)
        with (
            pytest.raises(OnlineError, match=r"'clicks' is held by materialize by process \d+ on "),
            alone(other, "tests", "clicks", "forget"),
        ):
            raise AssertionError("two hold one lease")
        with alone(other, "tests", "orders", "forget"):
            assert len(list(redis_store.keys(b"fk:tests:lock:"))) == 2
    with alone(other, "tests", "clicks", "forget"):
        assert list(redis_store.keys(b"fk:tests:lock:")) == [LOCK]
    other.close()
    assert list(redis_store.keys(b"fk:tests:")) == []


def test_a_lease_that_is_given_back_meanwhile_is_taken(
    online: OnlineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = alone(online, "tests", "clicks", "materialize")
    first.__enter__()
    look, looked = leases.held_by, []

    def looking(*given: Any) -> list[leases.Lease]:
        found = look(*given)
        if not looked:
            looked.append(found)
            first.__exit__(None, None, None)
        return found

    monkeypatch.setattr(leases, "held_by", looking)
    with alone(online, "tests", "clicks", "forget"):
        assert [x.verb for x in looked[0]] == ["materialize"]
        assert [x.verb for x in look(online, "tests", "clicks")] == ["forget"]


@pytest.mark.parametrize("off_s", [-5 * HOUR_S, 0, 5 * HOUR_S])
def test_what_the_dead_held_ends_by_the_store_s_clock(
    monkeypatch: pytest.MonkeyPatch, off_s: float
) -> None:
    store = Clocked()
    with monkeypatch.context() as patch:
        set_own_clock(patch, off_s)
        value = left_by_the_dead(store)
    store.now += int(SHORT_S * 1e6) - 1
    assert [lease.ended for lease in held_by(store, "tests", "clicks")] == [False]
    store.now += 1
    assert [lease.ended for lease in held_by(store, "tests", "clicks")] == [True]
    with alone(store, "tests", "clicks", "forget"):
        assert store.values[LOCK] not in (b"", value)
    assert store.values == {}


def test_the_dead_are_waited_for_no_longer_than_a_lease(redis_store: RedisStore) -> None:
    left_by_the_dead(redis_store)
    with alone(redis_store, "tests", "clicks", "materialize"):
        pass
    assert list(redis_store.keys(b"fk:tests:")) == []


def test_a_lease_is_renewed_for_as_long_as_it_is_held(online: OnlineStore) -> None:
    with alone(online, "tests", "clicks", "materialize") as mine:
        (first,) = held_by(online, "tests", "clicks")
        deadline = time.monotonic() + 30
        while held_by(online, "tests", "clicks")[0].until < first.until + 2 * SHORT_S * 1e6:
            assert time.monotonic() < deadline, "the lease was not renewed"
            time.sleep(0.01)
        assert not held_by(online, "tests", "clicks")[0].ended
        mine.write({b"a": b"1"})
    assert list(online.keys(b"fk:tests:")) == []


def test_an_older_release_s_lock_is_kept_and_one_of_today_is_read_by_it() -> None:
    store = Clocked()
    store.write({LOCK: b"0123456789abcdef %.0f" % (store.now / 1e6 + 60)})
    (lease,) = held_by(store, "tests", "clicks")
    assert (lease.verb, lease.pid, lease.ended) == ("a lock", 0, False)
    assert "a process of an older release" in str(lease)
    store.now += 61_000_000
    assert held_by(store, "tests", "clicks")[0].ended
    with alone(store, "tests", "clicks", "forget"):
        # What the release before read: a token, and a second by the store's clock.
        until = float(store.values[LOCK].split(b" ")[1])
        assert 0 <= until * 1e6 - store.now <= 10_000_000


# --- who has lost it ------------------------------------------------------------------------------

WRITES: dict[str, Callable[[OnlineStore], Any]] = {
    "update": lambda s: s.update([b"a", b"b"], lambda _: [b"2", b"2"]),
    "update of keys by name": lambda s: s.update([b"a"], lambda _: {b"c": b"2"}),
    "open_update": lambda s: s.open_update([b"a"], lambda _: [b"2"]).result(),
    "write": lambda s: s.write({b"a": b"2"}),
    "delete": lambda s: s.delete([b"a"]),
    "delete_if": lambda s: s.delete_if([b"a"], [b"a"], [b"1"]),
    "create": lambda s: s.create(
        pa.array([b"k%d" % n for n in range(9_000)], pa.large_binary()),
        pa.array([b"v"] * 9_000, pa.large_binary()),
    ),
}


def everything(store: OnlineStore) -> dict[bytes, bytes | None]:
    aside = (b"fk:tests:pushes:", b"fk:tests:renewed:")
    keys = [key for key in store.keys(b"") if not key.startswith(aside)]
    return dict(zip(keys, store.read(keys), strict=True))


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_who_was_let_go_of_writes_nothing(
    online: OnlineStore, write: Callable[[OnlineStore], Any]
) -> None:
    online.write({b"a": b"1"})
    with alone(online, "tests", "clicks", "materialize") as late:
        ((_, gone),) = unlock(online, "tests", ["clicks"], force=True)
        assert gone
        for taken in (False, True):
            if taken:
                online.write({LOCK: b"another's 1"})
            before = everything(online)
            with pytest.raises(LeaseLost, match=r"materialize, source 'clicks'.* was not written"):
                write(late)
            assert everything(online) == before
    assert online.read([LOCK]) == [b"another's 1"], "it gave back what was not its own"


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_push_that_was_let_go_of_writes_nothing(
    online: OnlineStore, write: Callable[[OnlineStore], Any]
) -> None:
    online.write({b"a": b"1"})
    mine, others = announce(online), announce(online)
    with (
        pushing(online, "tests", "clicks", *mine) as late,
        pushing(online, "tests", "clicks", *others) as living,
    ):
        lease = next(x for x in held_by(online, "tests", "clicks") if x.token == mine[0])
        assert let_go(online, "tests", lease, force=True)
        before = everything(online)
        with pytest.raises(LeaseLost, match="push, source 'clicks'"):
            write(late)
        assert everything(online) == before
        write(living)  # it sees that another one was meant
        assert everything(online) != before
        living.update([b"z"], lambda _: [b"9"], closing=Closing(PUSHES, others[0]))
    assert online.announced(PUSHES) == []
    assert online.read([b"z"]) == [b"9"]


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_who_holds_it_writes_what_others_write(
    online: OnlineStore, write: Callable[[OnlineStore], Any]
) -> None:
    online.write({b"a": b"1"})
    wanted = MemoryStore()
    wanted.write({b"a": b"1"})
    with alone(online, "tests", "clicks", "materialize") as mine:
        assert write(mine) == write(wanted)
    assert everything(online) == wanted.values


def test_a_lease_that_is_lost_in_the_middle_of_a_write_ends_it(redis_store: RedisStore) -> None:
    """Between looking and writing: the store itself decides."""
    with alone(redis_store, "tests", "clicks", "materialize") as late:

        def change(values: list[bytes | None]) -> list[bytes | None]:
            seen.append(values)
            unlock(redis_store, "tests", ["clicks"], force=True)
            return [b"2"]

        seen: list[Any] = []
        with pytest.raises(LeaseLost):
            late.update([b"a"], change)
    assert (len(seen), redis_store.read([b"a"])) == (1, [None])


def test_groups_are_made_under_one_lease_and_what_was_there_is_told(
    redis_store: RedisStore,
) -> None:
    keys = pa.array([b"k%d" % n for n in range(5_000)], pa.large_binary())
    values = pa.array([b"v%d" % n for n in range(5_000)], pa.large_binary())
    redis_store.write({b"k260": b"there", b"k4999": b"there"})
    unguarded = MemoryStore()
    unguarded.write({b"k260": b"there", b"k4999": b"there"})
    with alone(redis_store, "tests", "clicks", "materialize") as mine:
        left = mine.create(keys, values)
    assert left == [*range(250, 500), *range(4_750, 5_000)]  # groups of 250 keys
    assert redis_store.read([b"k0", b"k260", b"k251", b"k4999"]) == [
        b"v0", b"there", None, b"there"
    ]  # fmt: skip


def many(n: int) -> tuple[pa.Array, pa.Array]:
    keys, values = ([b"%c%d" % (c, i) for i in range(n)] for c in b"kv")
    return pa.array(keys, pa.large_binary()), pa.array(values, pa.large_binary())


class Meddled:
    """A guard that does something else before it is asked a certain time."""

    def __init__(self, guard: Any, time: int, meddle: Callable[[], object]) -> None:
        self.guard, self.keys, self.left, self.meddle = guard, guard.keys, time, meddle

    def check(self, values: Any) -> None:
        self.left -= 1
        if not self.left:
            self.meddle()
        self.guard.check(values)


@pytest.fixture(params=[1, 2, 64], ids="{} connections".format)
def of_connections(redis_store: RedisStore, request: Any) -> Iterator[RedisStore]:
    store = RedisStore(redis_store.url, Limits(connections=request.param))
    yield store
    store.close()


@pytest.mark.parametrize("time", [1, 2, 3, 4, 7])
def test_groups_end_with_the_lease_and_each_is_there_or_not(
    of_connections: RedisStore, redis_store: RedisStore, time: int
) -> None:
    """Two connections take turns: what the other one has sent was sent under the lease."""
    keys, values = many(9_500)

    def take() -> object:
        return unlock(redis_store, "tests", ["clicks"], force=True)

    with alone(of_connections, "tests", "clicks", "materialize") as mine:
        mine = Fenced(of_connections, Meddled(mine.guard, time, take))
        with pytest.raises(LeaseLost):
            mine.create(keys, values)
    # Transactions of 1,000 keys; the one that was sent when the lease ended is not made, and the
    # one before it may have been under way then.
    there = [value is not None for value in redis_store.read(keys.to_pylist())]
    made = sum(there) // 1_000
    assert time - 2 <= made <= time - 1
    assert there == [True] * made * 1_000 + [False] * (9_500 - made * 1_000)
    assert of_connections.read([b"k0"]) == redis_store.read([b"k0"])


@pytest.mark.parametrize("time", [1, 2, 5])
def test_a_transaction_that_somebody_disturbed_is_made_again(
    of_connections: RedisStore, redis_store: RedisStore, time: int
) -> None:
    keys, values = many(5_250)
    redis_store.write({b"k4100": b"there"})

    def touch() -> None:
        redis_store.write({LOCK: redis_store.read([LOCK])[0] or b""})

    with alone(of_connections, "tests", "clicks", "materialize") as mine:
        mine = Fenced(of_connections, Meddled(mine.guard, time, touch))
        assert mine.create(keys, values) == [*range(4_000, 4_250)]
    found = redis_store.read(keys.to_pylist())
    wanted = values.to_pylist()
    wanted[4_000:4_250] = [None] * 100 + [b"there"] + [None] * 149
    assert list(found) == wanted


# --- pushes ---------------------------------------------------------------------------------------


def test_a_dead_push_is_let_go_of_when_its_lease_has_ended(online: OnlineStore) -> None:
    token, _ = announce(online)
    stamped = online.announced(PUSHES)[0][1]
    assert leases.settled_until(online, "tests", "clicks") < stamped + 1_000
    assert [t for t, *_ in online.announced(PUSHES)] == [token]
    deadline = time.monotonic() + 30
    while leases.settled_until(online, "tests", "clicks") < stamped + 1_000:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert online.announced(PUSHES) == []


def test_a_push_of_an_older_release_has_ten_minutes() -> None:
    """It renews nothing, and would write after it was let go of."""
    store = Clocked()
    token, stamped, _ = store.open_push(PUSHES, clock=clock_key("tests")).result()
    store.now += 600_000_000 - 1
    assert leases.settled_until(store, "tests", "clicks") < stamped
    assert [t for t, *_ in store.announced(PUSHES)] == [token]
    store.now += 1
    assert leases.settled_until(store, "tests", "clicks") == store.now - 1
    assert store.announced(PUSHES) == []


def test_a_push_that_takes_long_is_renewed(online: OnlineStore) -> None:
    mine = announce(online)
    with pushing(online, "tests", "clicks", *mine) as store:
        end = time.monotonic() + 3 * SHORT_S
        while time.monotonic() < end:
            leases.settled_until(online, "tests", "clicks")
            time.sleep(0.02)
        store.update([b"a"], lambda _: [b"1"], closing=Closing(PUSHES, mine[0]))
    assert online.read([b"a"]) == [b"1"]
    assert online.announced(PUSHES) == list(online.keys(b"fk:tests:renewed:")) == []


def test_the_lease_of_a_moment_is_not_renewed(
    online: OnlineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEW_S", 3_600.0)
    wrote: list[Any] = []
    monkeypatch.setattr(type(online), "write", lambda self, values: wrote.append(values))
    mine = announce(online)
    with pushing(online, "tests", "clicks", *mine) as store:
        store.update([b"a"], lambda _: [b"1"], closing=Closing(PUSHES, mine[0]))
    assert wrote == []


# --- a store's clock that is set back, and what is damaged ----------------------------------------


def test_what_the_dead_hold_ends_though_the_store_s_clock_was_set_back() -> None:
    store = Clocked()
    left_by_the_dead(store)
    announce(store)
    store.now -= 1_800_000_000
    assert [x.strays for x in held_by(store, "tests", "clicks")] == [True, True]
    shown = unlock(store, "tests", ["clicks"], force=False)
    assert [gone for _, gone in shown] == [True, True]
    left_by_the_dead(store)
    announce(store)
    store.now -= 1_800_000_000
    before = store.announced(PUSHES)[0].stamp
    with alone(store, "tests", "clicks", "materialize"):
        assert leases.settled_until(store, "tests", "clicks") >= before - 1
        assert store.announced(PUSHES) == []


@pytest.mark.parametrize("back_us", [1_800_000_000, 1_000])
def test_what_the_living_hold_does_not_end_where_the_store_s_clock_is_set_back(
    back_us: int,
) -> None:

    class Running(Clocked):
        def now_us(self) -> int:
            return self.now + time.monotonic_ns() // 1_000

    store = Running()
    mine = announce(store)
    with (
        alone(store, "tests", "clicks", "materialize") as held,
        pushing(store, "tests", "clicks", *mine) as pushed,
    ):
        store.now -= back_us
        assert [gone for _, gone in unlock(store, "tests", ["clicks"], force=False)] == [False] * 2
        with (
            pytest.raises(OnlineError, match="is held by materialize"),
            alone(store, "tests", "clicks", "forget"),
        ):
            raise AssertionError("two hold one lease")
        held.write({b"a": b"1"})
        pushed.update([b"b"], lambda _: [b"1"], closing=Closing(PUSHES, mine[0]))
    assert store.read([b"a", b"b"]) == [b"1", b"1"]


@pytest.mark.parametrize("at", [0, 5, 33, 40, -1])
def test_a_lease_that_is_damaged_ends(at: int) -> None:
    store = Clocked()
    value = bytearray(left_by_the_dead(store))
    value[at] ^= 0x80
    store.values[LOCK] = bytes(value)
    with alone(store, "tests", "clicks", "forget"):
        pass
    assert LOCK not in store.values


def test_a_renewal_and_a_fence_that_are_damaged_are_no_bare_errors() -> None:
    store = Clocked()
    token, _ = announce(store)
    store.values[b"fk:tests:renewed:clicks:" + token] = b"\xff17"
    store.values[fence_key("tests", "clicks")] = b"\xff"
    assert unlock(store, "tests", ["clicks"], force=False)[0][1]
    assert store.values[fence_key("tests", "clicks")].isdigit()


# --- who is shown ---------------------------------------------------------------------------------


@pytest.fixture
def three(online: OnlineStore) -> Iterator[OnlineStore]:
    """A dead push, a living one and a living materialisation."""
    announce(online)
    time.sleep(SHORT_S)
    mine = announce(online)
    with (
        alone(online, "tests", "clicks", "materialize"),
        pushing(online, "tests", "clicks", *mine),
    ):
        yield online


def test_unlock_lets_go_of_the_dead_alone(three: OnlineStore) -> None:
    shown = unlock(three, "tests", ["clicks", "orders"], force=False)
    assert [(x.verb, x.alone, x.ended, gone) for x, gone in shown] == [
        ("materialize", True, False, False),
        ("push", False, True, True),
        ("push", False, False, False),
    ]
    assert len(unlock(three, "tests", ["clicks"], force=False)) == 2


def test_unlock_by_force_lets_go_of_the_living(three: OnlineStore) -> None:
    assert all(gone for _, gone in unlock(three, "tests", ["clicks"], force=True))
    assert held_by(three, "tests", "clicks") == []


def test_a_fence_within_a_fence_asks_both(online: OnlineStore) -> None:
    with (
        alone(online, "tests", "clicks", "forget") as one,
        alone(one, "tests", "orders", "forget") as both,
    ):
        assert isinstance(both, Fenced)
        both.check()
        both.write({b"a": b"1"})
        unlock(online, "tests", ["clicks"], force=True)
        with pytest.raises(LeaseLost, match="'clicks'"):
            both.check()
        for write in WRITES.values():
            with pytest.raises(LeaseLost, match="'clicks'"):
                write(both)
    assert online.read([b"a"]) == [b"1"]
    assert online.read([project_key("tests", "lock", "orders")]) == [None]
