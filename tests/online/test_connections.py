"""Replies are read as they come, in whatever pieces; what is no reply harms nothing, and a call in
two halves changes nothing before its second one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, OutOfMemoryError

from featurekit.errors import StoreUnavailable
from featurekit.online.store.connections import AsyncConnections, asked
from featurekit.online.store.protocol import Closing, OnlineStore
from featurekit.online.store.redis import RedisStore
from featurekit.online.store.server import scratch_redis

CLOCK = b"clock"

REPLIES = (
    b"+OK\r\n*3\r\n$3\r\nabc\r\n$-1\r\n$4\r\n\r\n\r\n\r\n$5\r\n1-234\r\n"
    b"*2\r\n+OK\r\n:1\r\n*-1\r\n_\r\n"
)
READ = [b"OK", [b"abc", None, b"\r\n\r\n"], b"1-234", [b"OK", 1], None, None]


class Connection:
    """A connection whose replies come in pieces."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self.pieces, self._sock, self.again = pieces, self, False

    def send_packed_command(self, *_: Any, **__: Any) -> None: ...

    def mark_for_reconnect(self) -> None:
        self.again = True

    def recv(self, _: int) -> bytes:
        return next(self.pieces, b"")


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[i : i + size] for i in range(0, len(data), size))


@pytest.mark.parametrize("size", [*range(1, 12), 1000])
def test_replies_in_pieces(size: int) -> None:
    connection = Connection(pieces(REPLIES, size))
    assert asked(connection, [b""] * len(READ)) == READ
    assert not connection.again


def test_a_long_value_in_pieces() -> None:
    value = bytes(range(256)) * 2000
    data = b"*2\r\n$%d\r\n%b\r\n$1\r\nx\r\n:3\r\n" % (len(value), value)
    assert asked(Connection(pieces(data, 65_536)), [b"", b""]) == [[value, b"x"], 3]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_message_that_nobody_asked_for_is_passed_by_and_its_connection_renewed(size: int) -> None:
    message = b">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n"
    for data in (message + b"+OK\r\n:1\r\n", b"+OK\r\n" + message + b":1\r\n"):
        connection = Connection(pieces(data, size))
        assert asked(connection, [b"", b""]) == [b"OK", 1]
        assert connection.again


def test_errors_are_redis_py_s() -> None:
    with pytest.raises(OutOfMemoryError):
        asked(Connection(pieces(b"-OOM command not allowed\r\n", 5)), [b""])
    (found,) = asked(Connection(pieces(b"*1\r\n-OOM no\r\n", 5)), [b""])
    assert isinstance(found[0], OutOfMemoryError)
    with pytest.raises(InvalidResponse):
        asked(Connection(pieces(b"?\r\n", 5)), [b""])
    with pytest.raises(RedisConnectionError):
        asked(Connection(pieces(b"*2\r\n+OK\r\n", 5)), [b""])


def test_a_connection_that_was_closed_while_it_was_idle_is_made_anew(
    redis_store: RedisStore,
) -> None:
    redis_store.update([b"a"], lambda _: [b"1"])
    redis_store.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    redis_store.update([b"a"], lambda values: [(values[0] or b"") + b"2"])
    assert redis_store.read([b"a"]) == [b"12"]


# --- calls in two halves --------------------------------------------------------------------------


class Full(OSError):
    """What the caller's own work raises: a kind of error that Redis has too."""


def idle(store: RedisStore, *, reading: bool = False) -> list[Any]:
    """The connections that are kept for writers, or for lookups."""
    connections = store._reading if reading else store._writing
    kept = list(connections.idle)
    for connection in reversed(kept):
        connections.idle.keep(connection)
    return kept


def test_nothing_is_changed_before_the_result_is_asked_for(online: OnlineStore) -> None:
    online.write({b"a": b"1", b"b": b"2"})
    token, *_ = online.open_push(b"pushes", clock=CLOCK).result()
    seen: list[Any] = []

    def change(values: list[bytes | None]) -> dict[bytes, bytes]:
        seen.append(values)
        return {b"a": b"3", b"b": b"", b"c": b"4"}

    with online.open_update([b"a", b"b"], change, closing=Closing(b"pushes", token)) as pending:
        assert (seen, online.read([b"a", b"b", b"c"])) == ([], [b"1", b"2", None])
        assert online.settled_until(b"pushes", clock=CLOCK) < online.now_us() - 1
        assert pending.result() is None
        assert pending.result() is None
    assert seen == [[b"1", b"2"]]
    assert online.read([b"a", b"b", b"c"]) == [b"3", None, b"4"]
    again = online.open_push(b"pushes", clock=CLOCK).result()[0]
    assert again != token


@pytest.mark.parametrize("keys", [[b"a"], []])
def test_what_own_work_raises_is_raised_as_it_is_and_nothing_is_changed(
    online: OnlineStore, keys: list[bytes]
) -> None:
    online.write({b"a": b"1"})
    token, now, _ = online.open_push(b"pushes", clock=CLOCK).result()

    def late() -> None:
        with online.open_update(
            keys, lambda _: [b"2"] * len(keys), closing=Closing(b"pushes", token)
        ) as p:
            pending.append(p)
            raise Full(28, "No space left on device")

    pending: list[Any] = []
    with pytest.raises(Full, match="No space left") as caught:
        late()
    assert not isinstance(caught.value, StoreUnavailable)
    with pytest.raises(RuntimeError, match="after its context was left"):
        pending[0].result()
    online.update([b"b"], lambda _: [b"3"])
    assert online.read([b"a", b"b"]) == [b"1", b"3"]
    assert online.settled_until(b"pushes", clock=CLOCK) < now
    online.update(keys, lambda _: [b"2"] * len(keys), closing=Closing(b"pushes", token))
    assert online.settled_until(b"pushes", clock=CLOCK) >= now - 1


def test_a_connection_whose_reply_was_not_read_is_closed(redis_store: RedisStore) -> None:
    redis_store.update([b"a"], lambda _: [b"1"])
    (used,) = idle(redis_store)
    opened = []
    for call in (
        lambda: redis_store.open_update([b"a"], lambda _: [b"2"]),
        lambda: redis_store.open_push(b"pushes", clock=CLOCK),
    ):
        opened.append(call())  # and it stays
        with opened[-1]:
            assert idle(redis_store) == []
        assert idle(redis_store) == []
        assert used._sock is None
        redis_store.update([b"a"], lambda values: values)
        (used,) = idle(redis_store)
        assert used._sock is not None


def test_a_change_that_fails_leaves_its_connection_as_it_was(redis_store: RedisStore) -> None:
    redis_store.update([b"a"], lambda _: [b"1"])
    kept = idle(redis_store)
    with pytest.raises(ZeroDivisionError):
        redis_store.update([b"a"], lambda _: [b"%d" % (1 // 0)])
    assert idle(redis_store) == kept
    redis_store.write({b"a": b"2"})
    seen: list[Any] = []
    redis_store.update([b"b"], lambda values: seen.append(values) or [b"3"])
    assert seen == [[None]]  # once: it watches `a` no more
    assert redis_store.read([b"a", b"b"]) == [b"2", b"3"]


def test_a_connection_that_is_to_be_made_anew_is_not_kept(redis_store: RedisStore) -> None:
    redis_store.update([b"a"], lambda _: [b"1"])
    (used,) = idle(redis_store)
    used.mark_for_reconnect()
    redis_store.update([b"a"], lambda values: values)
    assert (idle(redis_store), used._sock) == ([], None)
    assert redis_store.read([b"a"]) == [b"1"]
    (used,) = idle(redis_store, reading=True)
    used.mark_for_reconnect()
    assert redis_store.read([b"a"]) == [b"1"]
    assert (idle(redis_store, reading=True), used._sock) == ([], None)


def test_a_store_that_is_closed_has_closed_its_connections(redis_store: RedisStore) -> None:
    store = RedisStore(redis_store.url)
    with store.open_push(b"pushes", clock=CLOCK) as pending:
        store.write({b"a": b"1"})
        assert store.read([b"a"]) == [b"1"]
        pending.result()
    kept = idle(store) + idle(store, reading=True)
    store.close()
    assert [connection._sock for connection in kept] == [None, None]
    assert idle(store) == idle(store, reading=True) == []


@pytest.mark.parametrize("call", ["open_update", "open_push"])
def test_a_server_that_is_lost_between_the_halves_is_told_by_the_second(call: str) -> None:
    with scratch_redis() as url:
        store = RedisStore(url)
        store.write({b"a": b"1"})
        if call == "open_update":
            pending: Any = store.open_update([b"a"], lambda _: [b"2"])
        else:
            pending = store.open_push(b"pushes", clock=CLOCK)
        # Its reply may have come before it is lost: it is taken from the socket.
        pending._steps.gi_yieldfrom.gi_frame.f_locals["connection"]._sock.recv(65_536)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            pending.result()
    assert idle(store) == []
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        store.open_push(b"pushes", clock=CLOCK)
    store.close()


def test_an_error_of_the_first_half_comes_before_own_work() -> None:
    store = RedisStore("unix:///nowhere/redis.sock")
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        store.open_update([b"a"], lambda _: [b"2"])
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        store.open_push(b"pushes", clock=CLOCK)


def test_a_forked_process_leaves_the_connections_of_its_parent_alone(
    redis_store: RedisStore,
) -> None:
    pending = redis_store.open_push(b"pushes", clock=CLOCK)
    redis_store.update([b"a"], lambda _: [b"1"])
    (mine,) = idle(redis_store)
    child = os.fork()
    if not child:
        redis_store.update([b"b"], lambda _: [b"2"])
        others = mine not in idle(redis_store)
        redis_store.close()
        os._exit(0 if others else 1)
    assert os.waitpid(child, 0)[1] == 0
    token, *_ = pending.result()
    redis_store.update([b"a"], lambda values: [(values[0] or b"") + b"3"])
    assert redis_store.read([b"a", b"b"]) == [b"13", b"2"]
    redis_store.close_push(b"pushes", token)
    assert mine in idle(redis_store)


def test_connections_of_an_event_loop_are_kept_and_made_anew(redis_store: RedisStore) -> None:
    async def ask() -> None:
        connections = AsyncConnections(Redis.from_url(redis_store.url))
        for _ in range(3):
            assert await connections.mget([b"a"]) == [b"1"]
        (kept,) = list(connections.idle)
        connections.idle.keep(kept)
        redis_store.client.client_kill_filter(_type="normal", skipme=True)
        assert await connections.mget([b"a"]) == [b"1"]
        tasks = [connections.mget([b"a"]) for _ in range(4)]
        assert await asyncio.gather(*tasks) == [[b"1"]] * 4
        await connections.close()
        assert list(connections.idle) == []

    redis_store.write({b"a": b"1"})
    asyncio.run(ask())


# --- a redis-py that keeps its socket elsewhere ---------------------------------------------------


class Hidden:
    """A connection of redis-py whose socket is not to be found under its name of today."""

    def __init__(self, connection: Any) -> None:
        self.hidden = connection

    def __getattr__(self, name: str) -> Any:
        if name == "_sock":
            raise AttributeError(name)
        return getattr(self.hidden, name)


class Pool:
    """A pool that hands such connections out."""

    def __init__(self, pool: Any) -> None:
        self.pool, self.handed = pool, 0

    def get_connection(self) -> Hidden:
        self.handed += 1
        return Hidden(self.pool.get_connection())

    def release(self, connection: Hidden) -> None:
        self.pool.release(connection.hidden)


@pytest.fixture(params=["2", "3"])
def sockless(request: pytest.FixtureRequest, redis_store: RedisStore) -> Iterator[RedisStore]:
    store = RedisStore(f"{redis_store.url}&protocol={request.param}")
    store._reading.pool = Pool(store._reading.pool)
    store._writing.pool = Pool(store._writing.pool)
    yield store
    store.close()


def test_without_the_socket_replies_are_those_that_redis_py_reads(sockless: RedisStore) -> None:
    sockless.write({b"a": b"1", b"b": b"\r\n" * 40_000})
    for _ in range(3):
        assert list(sockless.read([b"a", b"b", b"c"])) == [b"1", b"\r\n" * 40_000, None]
    assert sockless._reading.pool.handed == 1  # its connection is kept
    sockless.update([b"a", b"c"], lambda values: [(values[0] or b"") + b"2", b"3"])
    sockless.update([b"b", b"c"], lambda values: [None, b""])
    assert list(sockless.read([b"a", b"c"])) == [b"12", None]
    token, now, also = sockless.open_push(b"pushes", [b"a", b"c"], clock=CLOCK).result()
    assert (token.count(b"-"), also) == (1, [b"12", None])
    assert 0 <= sockless.now_us() - now < 60_000_000
    sockless.update([b"a"], lambda _: [b"4"], closing=Closing(b"pushes", token))
    assert sockless.client.xlen(b"pushes") == 0


def test_without_the_socket_a_writer_that_was_slower_looks_again(sockless: RedisStore) -> None:
    sockless.write({b"a": b"1"})
    seen = []

    def change(values: list[bytes | None]) -> list[bytes | None]:
        seen.append(values[0])
        if len(seen) == 1:
            sockless.client.set(b"a", b"other")
        return [b"mine"]

    sockless.update([b"a"], change)
    assert (seen, sockless.read([b"a"])) == ([b"1", b"other"], [b"mine"])


def test_without_the_socket_errors_and_closed_connections_are_met_as_with_it(
    sockless: RedisStore,
) -> None:
    sockless.client.rpush(b"a list", b"1")
    with pytest.raises(StoreUnavailable, match="WRONGTYPE"):
        sockless.open_push(b"a list", clock=CLOCK).result()
    sockless.write({b"a": b"1"})
    sockless.update([b"a"], lambda _: [b"2"])
    assert list(sockless.read([b"a"])) == [b"2"]
    sockless.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    sockless.update([b"a"], lambda values: [(values[0] or b"") + b"3"])
    assert list(sockless.read([b"a"])) == [b"23"]
