"""What a store waits for ends in time, whatever a server does or does not do, and says so: which
server, what was waited for, and for how long. Many lookups at once share few connections."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from featurekit import FeatureStore, OnlineService
from featurekit.errors import ConfigError, StoreUnavailable
from featurekit.online.store.limits import Limits
from featurekit.online.store.redis import RedisStore
from featurekit.online.store.server import scratch_redis

SHORT = Limits(connect_timeout_s=0.3, timeout_s=0.4, feed_timeout_s=0.6, connections=4)
MOST_S = 20.0
"""No wait of these tests is longer; on a busy machine a short one may take a while."""


@contextmanager
def listening(serve: Callable[[socket.socket], None] | None) -> Iterator[str]:
    """The URL of a server that accepts connections and does with each as it is told; without
    `serve`, nothing."""
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    held.append(connection)
                    if serve is not None:
                        threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"redis://:secret@127.0.0.1:{server.getsockname()[1]}/0?protocol=2"
        server.shutdown(socket.SHUT_RDWR)
    for connection in held:
        connection.close()


def greeting(then: Callable[[socket.socket], None]) -> Callable[[socket.socket], None]:
    """A server that is a Redis until it is asked for values."""

    def serve(connection: socket.socket) -> None:
        with suppress(OSError):
            while data := connection.recv(65_536):
                if b"MGET" in data:
                    then(connection)
                    return
                connection.sendall(b"+OK\r\n" * data.count(b"*"))

    return serve


def dripping(connection: socket.socket) -> None:
    """A reply without an end, a byte at a time: each of them is in time."""
    connection.sendall(b"*1\r\n$1000000\r\n")
    while True:
        connection.sendall(b"x")
        time.sleep(0.02)


def drops(connection: socket.socket) -> None:
    """A greeting without an end, a byte at a time."""
    with suppress(OSError):
        connection.recv(65_536)
        dripping(connection)


HUNG = {
    "no greeting": (None, r"did not greet a connection within 0\.4 s"),
    "a greeting in drops": (drops, r"did not greet a connection within 0\.4 s"),
    "no reply": (greeting(lambda _: None), r"did not answer to MGET of 1 keys within 0\.4 s"),
    "a reply in drops": (greeting(dripping), r"did not answer to MGET of 1 keys within 0\.4 s"),
}


@pytest.mark.parametrize("way", ["threads", "tasks"])
@pytest.mark.parametrize(("serve", "said"), HUNG.values(), ids=HUNG)
def test_a_lookup_of_a_server_that_hangs_ends_in_time(serve: Any, said: str, way: str) -> None:
    with listening(serve) as url:
        store = RedisStore(url, SHORT)

        def ask() -> None:
            if way == "threads":
                store.read([b"a"])
            else:
                asyncio.run(store.read_async([b"a"]))

        begun = time.monotonic()
        with pytest.raises(StoreUnavailable, match=said) as caught:
            ask()
        assert time.monotonic() - begun < MOST_S
        port = urlsplit(url).port
        assert f":{port}/0 keeps its clients waiting" in str(caught.value)
        assert "secret" not in str(caught.value)
        store.close()


def test_a_server_that_accepts_nothing_is_waited_for_as_long_as_a_connection_may_take() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        port = server.getsockname()[1]
        held = [socket.socket() for _ in range(4)]
        for one in held:
            one.setblocking(False)
            with suppress(BlockingIOError):
                one.connect(("127.0.0.1", port))
        store = RedisStore(f"redis://127.0.0.1:{port}/0", SHORT)
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"accepted no connection within 0\.3 s"):
            store.read([b"a"])
        with pytest.raises(StoreUnavailable, match="accepted no connection"):
            asyncio.run(store.read_async([b"a"]))
        with pytest.raises(StoreUnavailable, match=r"accepted no connection within 0\.3 s"):
            store.update([b"a"], lambda _: [b"1"])
        assert time.monotonic() - begun < MOST_S
        store.close()
        for one in held:
            one.close()


def test_what_feeds_waits_longer_than_a_lookup() -> None:
    with listening(greeting(lambda _: None)) as url:
        store = RedisStore(url, SHORT)
        for write in (
            lambda: store.update([b"a"], lambda _: [b"1"]),
            lambda: store.open_push(b"p", [b"a"], clock=b"clock").result(),
        ):
            begun = time.monotonic()
            with pytest.raises(StoreUnavailable, match=r"did not answer in 0\.6 s"):
                write()
            assert 0.55 < time.monotonic() - begun < MOST_S
        store.close()


FEEDING: dict[str, Callable[[RedisStore], object]] = {
    "update": lambda store: store.update([b"a"], lambda _: [b"1"]),
    "push": lambda store: store.open_push(b"p", [b"a"], clock=b"clock").result(),
    "close_push": lambda store: store.close_push(b"p", b"1-1"),
    "write": lambda store: store.write({b"a": b"1"}),
    "health": lambda store: store.health(),
    "stamp": lambda store: store.stamp(b"clock"),
}


def replying_in_drops(connection: socket.socket) -> None:
    """A server that is a Redis until it was greeted."""
    with suppress(OSError):
        while data := connection.recv(65_536):
            if not any(word in data for word in (b"AUTH", b"HELLO", b"CLIENT")):
                connection.sendall(b"$1000000\r\n")
                while True:
                    connection.sendall(b"x")
                    time.sleep(0.02)
            connection.sendall(b"+OK\r\n" * data.count(b"*"))


@pytest.mark.parametrize("call", FEEDING)
@pytest.mark.parametrize("serve", [drops, replying_in_drops])
def test_what_feeds_has_a_deadline_for_the_whole_of_a_reply(serve: Any, call: str) -> None:
    with listening(serve) as url:
        store = RedisStore(url, SHORT)
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"(in|within) 0\.6 s"):
            FEEDING[call](store)
        assert time.monotonic() - begun < MOST_S
        store.close()


@pytest.mark.parametrize("way", ["threads", "tasks"])
@pytest.mark.parametrize("answer", [b"+OK\r\n", b"*0\r\n", b":1\r\n"])
def test_a_server_that_is_no_redis_is_told_by_its_greeting(answer: bytes, way: str) -> None:
    def serve(connection: socket.socket) -> None:
        with suppress(OSError):
            while data := connection.recv(65_536):
                connection.sendall(answer * data.count(b"*"))

    with listening(serve) as url:
        said = "not what a Redis answers|with an error|refuses the password"
        bare = url.replace("protocol=2", "protocol=3").replace(":secret@", "")
        for of in (url, bare):
            store = RedisStore(of, SHORT)

            async def ask(store: RedisStore = store) -> None:
                try:
                    await store.read_async([b"a"])
                finally:
                    await store.close_async()

            with pytest.raises(StoreUnavailable, match=said):
                store.read([b"a"]) if way == "threads" else asyncio.run(ask())
            store.close()


@pytest.mark.parametrize("way", ["threads", "tasks"])
def test_a_stopped_server_is_told_and_a_woken_one_answers_again(way: str) -> None:
    with scratch_redis() as url:
        store = RedisStore(url, SHORT)
        store.write({b"a": b"1"})
        process = store.client.info("server")["process_id"]

        async def ask(n: int) -> list[Any]:
            found = await asyncio.gather(
                *(store.read_async([b"a"]) for _ in range(n)), return_exceptions=True
            )
            await store.close_async()
            return found

        def asked(n: int) -> list[Any]:
            if way == "tasks":
                return asyncio.run(ask(n))

            def one(_: int) -> Any:
                try:
                    return store.read([b"a"])
                except StoreUnavailable as error:
                    return error

            with ThreadPoolExecutor(n) as pool:
                return list(pool.map(one, range(n)))

        def answers(n: int) -> None:
            """A busy machine may let a connection wait too long: it is asked until it answers."""
            until = time.monotonic() + 30.0
            while asked(n) != [[b"1"]] * n:
                assert time.monotonic() < until

        answers(3)
        begun = time.monotonic()
        os.kill(process, signal.SIGSTOP)
        try:
            found = asked(9)
        finally:
            os.kill(process, signal.SIGCONT)
        assert time.monotonic() - begun < MOST_S
        assert all(isinstance(error, StoreUnavailable) for error in found)
        assert any("keeps its clients waiting" in str(error) for error in found)
        answers(9)
        store.close()


@pytest.mark.parametrize("way", ["threads", "tasks"])
def test_a_lookup_that_gets_no_connection_is_told(redis_store: RedisStore, way: str) -> None:
    store = RedisStore(redis_store.url, Limits(timeout_s=0.05, connections=2))

    async def of_tasks() -> Any:
        connections = store._of_loop()
        for _ in range(2):
            await connections._enter()
        return await store.read_async([b"a"])

    def of_threads() -> Any:
        for _ in range(2):
            store._reading._enter()
        return store.read([b"a"])

    with pytest.raises(StoreUnavailable, match=r"all 2 connections were in use for 0\.05 s"):
        of_threads() if way == "threads" else asyncio.run(of_tasks())
    store.close()


@pytest.mark.parametrize("most", [4, 100])
def test_more_lookups_at_once_than_connections_are_all_answered(
    redis_store: RedisStore, most: int
) -> None:
    store = RedisStore(redis_store.url, Limits(connections=most))
    redis_store.write({b"a": b"1"})
    seen: set[int] = set()
    start = threading.Barrier(250)

    def ask(_: int) -> Any:
        start.wait(60)
        found = store.read([b"a"])
        seen.add(len(redis_store.client.client_list()))
        return found

    with ThreadPoolExecutor(250) as pool:
        assert list(pool.map(ask, range(250))) == [[b"1"]] * 250
    redis_store.client.connection_pool.disconnect()

    async def all_at_once() -> Any:
        found = await asyncio.gather(*(store.read_async([b"a"]) for _ in range(400)))
        open_now = len(store._of_loops[asyncio.get_running_loop()].pool._in_use_connections)
        await store.close_async()
        return found, open_now

    found, open_now = asyncio.run(all_at_once())
    assert found == [[b"1"]] * 400
    assert 1 <= open_now <= most
    assert len(store._reading.pool._in_use_connections) <= most
    store.close()


def test_a_url_may_ask_for_fewer_connections(redis_store: RedisStore) -> None:
    store = RedisStore(f"{redis_store.url}&max_connections=2&socket_timeout=0.25")
    assert (store._reading.most, store._writing.most) == (2, 2)
    with ThreadPoolExecutor(30) as pool:
        assert list(pool.map(lambda _: store.read([b"a"]), range(30))) == [[None]] * 30
    assert next(iter(store._reading.idle)).socket_timeout == 0.25
    store.close()


def test_writers_that_read_meanwhile_do_not_wait_for_each_other(redis_store: RedisStore) -> None:
    """Each holds a connection, and needs another one, while all are in use."""
    store = RedisStore(redis_store.url, Limits(connections=3, timeout_s=60.0, feed_timeout_s=60.0))
    inside = threading.Barrier(3)

    def change(values: list[bytes | None]) -> list[bytes | None]:
        with suppress(threading.BrokenBarrierError):
            inside.wait(5)
        return store.read([b"b"])

    redis_store.write({b"b": b"1"})
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda n: store.update([b"a%d" % n], change), range(3)))
    assert redis_store.read([b"a0", b"a1", b"a2"]) == [b"1"] * 3
    store.close()


def test_a_forked_process_has_all_connections_to_itself(redis_store: RedisStore) -> None:
    store = RedisStore(redis_store.url, Limits(connections=1, timeout_s=5.0))
    with store._reading.one(), store._writing.one():
        child = os.fork()
        if not child:
            store.update([b"a"], lambda _: [b"1"])
            os._exit(0 if store.read([b"a"]) == [b"1"] else 1)
        assert os.waitpid(child, 0)[1] == 0
    assert store.read([b"a"]) == [b"1"]
    store.close()


def test_a_cancelled_lookup_gives_its_place_to_the_next(redis_store: RedisStore) -> None:
    store = RedisStore(redis_store.url, Limits(connections=2))
    redis_store.write({b"a": b"1"})

    async def ask() -> Any:
        for round_ in range(20):
            tasks = [asyncio.create_task(store.read_async([b"a"])) for _ in range(8)]
            for _ in range(round_ % 5):
                await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        found = await asyncio.gather(*(store.read_async([b"a"]) for _ in range(8)))
        await store.close_async()
        return found

    assert asyncio.run(ask()) == [[b"1"]] * 8
    store.close()


@pytest.mark.parametrize("where", ["in its loop", "in a thread"])
def test_close_closes_the_connections_of_event_loops_too(
    redis_store: RedisStore, where: str
) -> None:
    store = RedisStore(redis_store.url)
    redis_store.write({b"a": b"1"})

    async def ask() -> None:
        before = len(redis_store.client.client_list())
        await asyncio.gather(*(store.read_async([b"a"]) for _ in range(5)))
        assert len(redis_store.client.client_list()) > before
        if where == "in its loop":
            store.close()
        else:
            await asyncio.to_thread(store.close)
        await store.close_async()
        end = time.monotonic() + MOST_S
        while len(redis_store.client.client_list()) > before:
            assert time.monotonic() < end, "connections were left open"
            await asyncio.sleep(0.01)

    asyncio.run(ask())


# --- settings -------------------------------------------------------------------------------------

CONFIG = """
project: tests
online_store: {type: redis}
featurekit: {connect_timeout_s: 1.5, timeout_s: 0.25, feed_timeout_s: 7, connections: 3}
"""


def test_the_limits_are_settings(make_repo: Callable[..., Path], redis_url: str) -> None:
    folder = make_repo("", {}, CONFIG)
    with FeatureStore(folder, redis_url=redis_url) as store:
        assert store.parts.config.limits() == Limits(1.5, 0.25, 7.0, 3)
        online = store.online
        assert isinstance(online, RedisStore)
        assert online.limits == store.parts.config.limits()
        assert (online._reading.wait_s, online._writing.wait_s) == (0.25, 7.0)
        options = online._reading.pool.connection_kwargs
        assert (options["socket_connect_timeout"], options["socket_timeout"]) == (1.5, 0.25)


@pytest.mark.parametrize("setting", ["timeout_s: 0", "connections: 0", "feed_timeout_s: soon"])
def test_a_limit_that_is_none_is_refused(make_repo: Callable[..., Path], setting: str) -> None:
    folder = make_repo("", {}, f"project: tests\nfeaturekit: {{{setting}}}\n")
    with pytest.raises(ConfigError, match=f"featurekit.{setting.split(':')[0]}"):
        FeatureStore(folder)


def test_a_serving_process_gives_the_limits_as_arguments() -> None:
    with (
        listening(None) as url,
        OnlineService.connect(
            url, "tests", "service", connect_timeout_s=0.3, timeout_s=0.2, connections=2
        ) as service,
        pytest.raises(StoreUnavailable, match=r"within 0\.2 s"),
    ):
        service.get([{"key": 1}])
