"""Replies are read as they come, in whatever pieces, and what is no reply harms nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, OutOfMemoryError

from featurekit.errors import StoreUnavailable
from featurekit.online.store import pipelines
from featurekit.online.store.pipelines import asked
from featurekit.online.store.redis import RedisStore

REPLIES = (
    b"+OK\r\n*3\r\n$3\r\nabc\r\n$-1\r\n$4\r\n\r\n\r\n\r\n$5\r\n1-234\r\n"
    b"*2\r\n+OK\r\n:1\r\n*-1\r\n_\r\n"
)
READ = [b"OK", [b"abc", None, b"\r\n\r\n"], b"1-234", [b"OK", 1], None, None]


@pytest.fixture(autouse=True, params=["hiredis", "plain"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who parses replies."""
    if request.param == "plain":
        monkeypatch.setattr(pipelines, "hiredis", None)
    elif pipelines.hiredis is None:
        pytest.skip("hiredis is not installed")


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


def test_what_goes_wrong_meanwhile_is_raised_as_it_is_and_nothing_is_written(
    redis_store: RedisStore,
) -> None:
    redis_store.write({b"a": b"1"})

    def full() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left") as caught:
        redis_store.update([b"a"], lambda _: [b"2"], meanwhile=full)
    assert not isinstance(caught.value, StoreUnavailable)
    redis_store.update([b"b"], lambda _: [b"3"])
    assert redis_store.read([b"a", b"b"]) == [b"1", b"3"]


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
    store._kept.pool = Pool(store._kept.pool)
    store._reader.pool = Pool(store._reader.pool)
    yield store
    store.close()


def test_without_the_socket_replies_are_those_that_redis_py_reads(sockless: RedisStore) -> None:
    sockless.write({b"a": b"1", b"b": b"\r\n" * 40_000})
    for _ in range(3):
        assert list(sockless.read([b"a", b"b", b"c"])) == [b"1", b"\r\n" * 40_000, None]
    sockless.update([b"a", b"c"], lambda values: [(values[0] or b"") + b"2", b"3"])
    sockless.update([b"b", b"c"], lambda values: [None, b""])
    assert list(sockless.read([b"a", b"c"])) == [b"12", None]
    token, now, also = sockless.open_push(b"pushes", [b"a", b"c"])
    assert (token.count(b"-"), also) == (1, [b"12", None])
    assert 0 <= sockless.now_us() - now < 60_000_000
    sockless.update([b"a"], lambda _: [b"4"], closing=(b"pushes", token))
    assert sockless.client.xlen(b"pushes") == 0
    assert sockless._reader.pool.handed == 1  # its connection is kept


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
        sockless.open_push(b"a list")
    sockless.write({b"a": b"1"})
    sockless.update([b"a"], lambda _: [b"2"])
    assert list(sockless.read([b"a"])) == [b"2"]
    sockless.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    sockless.update([b"a"], lambda values: [(values[0] or b"") + b"3"])
    assert list(sockless.read([b"a"])) == [b"23"]
