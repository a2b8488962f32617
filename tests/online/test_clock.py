"""A store's clock never runs below a stamp that it gave, and is not believed blindly (S3)."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
from typing import Any

import pytest

from featurekit.errors import ClocksApart
from featurekit.online.store import clock as clocks
from featurekit.online.store import connections
from featurekit.online.store import redis as redis_module
from featurekit.online.store.clock import APART_US
from featurekit.online.store.memory import MemoryStore
from featurekit.online.store.protocol import Closing, OnlineStore
from featurekit.online.store.redis import RedisStore
from featurekit.online.store.replies import NotPlain, values_at

CLOCK, PUSHES = b"fk:tests:clock", b"fk:tests:pushes:clicks"
HOUR = 3_600_000_000
NOW = 1_700_000_000_000_000


def clock_of(store: OnlineStore) -> int:
    return store.read_at((), CLOCK)[1]


def test_every_stamp_is_after_the_one_before_whatever_the_server_s_time_does(
    online: OnlineStore,
) -> None:
    now = NOW
    online.clock = lambda: now
    last = 0
    for now in (NOW, NOW, NOW - 1, NOW - 9 * HOUR, 0, NOW + 2, NOW + HOUR, NOW - HOUR, NOW):
        stamp = online.stamp(CLOCK)
        assert last < stamp
        assert stamp in (now, last + 1)
        token, pushed, _ = online.open_push(PUSHES, clock=CLOCK).result()
        assert pushed == stamp + 1
        assert online.settled_until(PUSHES, clock=CLOCK) < pushed
        online.close_push(PUSHES, token)
        assert online.settled_until(PUSHES, clock=CLOCK) == clock_of(online) - 1 == pushed - 1
        last = pushed


def test_threads_and_stores_are_given_stamps_of_their_own(redis_store: RedisStore) -> None:
    found: list[int] = []

    def ask() -> None:
        store = RedisStore(redis_store.url)
        own = [store.stamp(CLOCK) for _ in range(40)]
        assert own == sorted(own)
        found.extend(own)
        store.close()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(set(found)) == 160


def test_a_write_brings_its_stamp_to_a_server_that_never_saw_the_announcement(
    online: OnlineStore,
) -> None:
    """The announcement was lost at a failover, and the new server's clock is behind."""
    token, stamp, _ = online.open_push(PUSHES, clock=CLOCK).result()
    online.delete([CLOCK])
    online.update([b"a"], lambda _: [b"1"], closing=Closing(PUSHES, token, CLOCK, stamp))
    assert online.read([CLOCK]) == [b"%d" % stamp]
    online.clock = lambda: stamp - HOUR
    assert online.stamp(CLOCK) == stamp + 1
    token, late, _ = online.open_push(PUSHES, clock=CLOCK).result()
    online.update([b"a"], lambda _: [b"1"], closing=Closing(PUSHES, token, CLOCK, stamp))
    assert online.read([CLOCK]) == [b"%d" % late]


def test_what_is_not_written_leaves_a_later_stamp_alone(online: OnlineStore) -> None:
    token, stamp, _ = online.open_push(PUSHES, clock=CLOCK).result()
    with pytest.raises(ZeroDivisionError):
        online.update(
            [b"a"], lambda _: [b"%d" % (1 // 0)], closing=Closing(PUSHES, token, CLOCK, stamp)
        )
    assert online.read([b"a", CLOCK]) == [None, b"%d" % stamp]


@pytest.mark.parametrize("call", ["stamp", "open_push"])
def test_a_clock_that_has_run_ahead_gives_no_stamp(
    online: OnlineStore, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def stamp() -> int:
        if call == "stamp":
            return online.stamp(CLOCK)
        return online.open_push(PUSHES, clock=CLOCK).result()[1]

    real = clocks.own_clock()
    if isinstance(online, MemoryStore):  # its time is this machine's, which is set back below
        monkeypatch.setattr(online, "now_us", clocks.own_clock)
    monkeypatch.setattr(clocks, "own_clock", lambda: real - APART_US - 60_000_000)
    with pytest.raises(ClocksApart, match=r"more than an hour after this machine's"):
        stamp()
    assert online.read([CLOCK]) == [None]
    assert online.settled_until(PUSHES, clock=CLOCK) >= real - 2  # nothing was announced
    # Where others were given stamps of late, it is this machine's clock that is behind.
    online.write({CLOCK: b"%d" % (real - HOUR // 2)})
    assert stamp() >= real


def test_a_last_stamp_that_is_ahead_of_every_clock_is_not_believed(online: OnlineStore) -> None:
    ahead = online.now_us() + 1100 * 24 * HOUR
    online.write({CLOCK: b"%d" % ahead})
    assert clock_of(online) < ahead - HOUR
    with pytest.raises(ClocksApart, match=r"--restart-clock") as caught:
        online.stamp(CLOCK)
    shown = dt.datetime.fromtimestamp(ahead // 1_000_000, dt.UTC).isoformat()[:19]
    assert shown in str(caught.value)
    with pytest.raises(ClocksApart):
        online.open_push(PUSHES, clock=CLOCK).result()
    assert online.read([CLOCK]) == [b"%d" % ahead]
    stamp = online.stamp(CLOCK, restart=True)
    assert ahead - HOUR > stamp >= clock_of(online) - HOUR
    assert online.stamp(CLOCK) > stamp


def test_a_server_that_is_behind_this_machine_goes_on_from_its_last_stamp(
    online: OnlineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last stamp is believed, since this machine's clock agrees with it."""
    last = online.now_us() + 9 * HOUR
    if isinstance(online, MemoryStore):
        behind = online.now_us()
        monkeypatch.setattr(online, "now_us", lambda: behind)
    monkeypatch.setattr(clocks, "own_clock", lambda: last)
    online.write({CLOCK: b"%d" % last})
    assert clock_of(online) == last
    assert online.stamp(CLOCK) == last + 1


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("keys", [[], [b"a"], [b"a", b"b", b"none"]])
@pytest.mark.parametrize("last", [b"$-1", b"_", b"$16\r\n1764560000000001"])
def test_replies_come_in_any_pieces(keys: list[bytes], last: bytes, size: int) -> None:
    values = [None if key == b"none" else key * 3 for key in keys]
    data = b"*2\r\n$10\r\n1764560000\r\n$6\r\n000042\r\n" + last + b"\r\n"
    if keys:
        data += b"*%d\r\n" % len(keys)
        data += b"".join(
            b"$-1\r\n" if v is None else b"$%d\r\n%b\r\n" % (len(v), v) for v in values
        )
    receive = values_at(keys, CLOCK).receiver()
    found = None
    for first in range(0, len(data), size):
        assert found is None
        found = receive(data[first : first + size])
    stamp = 1764560000000001 if last.startswith(b"$16") else 0
    assert found == (values, 1764560000000042, stamp)


@pytest.mark.parametrize(
    "data", [b"-LOADING it\r\n", b"*3\r\n", b">1\r\n", b"*2\r\n$1\r\nx\r\n$1\r\ny\r\n$-1\r\n*1\r\n"]
)
def test_other_replies_are_left_to_redis_py(data: bytes) -> None:
    with pytest.raises(NotPlain):
        values_at([b"a"], CLOCK).receiver()(data)


def test_the_clock_is_read_where_redis_py_reads_the_replies(redis_store: RedisStore) -> None:
    redis_store.write({b"a": b"1"})
    stamp = redis_store.stamp(CLOCK)

    def not_plain(*_: object) -> Any:
        raise NotPlain

    async def awaited() -> Any:
        found = await redis_store.read_at_async([b"a"], CLOCK)
        alone = await redis_store.read_at_async([], CLOCK)
        await redis_store.close_async()
        return found, alone[0]

    (values, at), alone = asyncio.run(awaited())
    assert (list(values), list(alone), at > stamp) == ([b"1"], [], True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections.Connections, "_ask", not_plain)
        patch.setattr(connections.AsyncConnections, "_ask", not_plain)
        for found in (redis_store.read_at([b"a"], CLOCK), asyncio.run(awaited())[0]):
            assert (list(found[0]), found[1] > stamp) == ([b"1"], True)


def test_a_push_takes_three_round_trips_and_ten_commands(
    redis_store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    real = connections.send

    def counted(connection: Any, commands: Any) -> None:
        sent.append(len(commands))
        real(connection, commands)

    monkeypatch.setattr(connections, "send", counted)
    monkeypatch.setattr(redis_module, "send", counted)
    token, stamp, _ = redis_store.open_push(PUSHES, [b"told"], clock=CLOCK).result()
    redis_store.update([b"a"], lambda _: [b"1"], closing=Closing(PUSHES, token, CLOCK, stamp))
    # EVAL, MGET; then WATCH, MGET; then MULTI, MSET, XDEL, INCR, EVAL, EXEC.
    assert sent == [2, 2, 6]
    assert redis_store.read([b"a", CLOCK]) == [b"1", b"%d" % stamp]
