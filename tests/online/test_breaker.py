"""An outage is not made worse by lookups: they fail at once after a few failures, one in a while is
tried, and retries have a budget."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from featurekit.errors import StoreUnavailable
from featurekit.online.store import breaker as module
from featurekit.online.store.breaker import Breaker, NotTried
from featurekit.online.store.limits import DEFAULT, Limits
from featurekit.online.store.redis import RedisStore

KEY, CLOCK = b"fk:tests:k", b"fk:tests:clock"


class Time:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr(module, "time", made)
    return made


def lookup(breaker: Breaker, *, fails: bool) -> str:
    """A lookup as connections do it."""
    breaker.asked += 1
    try:
        if breaker.tripped:
            breaker.enter()
    except NotTried:
        return "not tried"
    if fails:
        breaker.failed(RedisConnectionError("lost"))
        return "failed"
    if breaker.tripped:
        breaker.answered()
    return "answered"


def test_a_share_of_failures_below_half_does_not_trip(time: Time) -> None:
    chance, breaker = random.Random(7), Breaker(DEFAULT)
    for _ in range(2000):
        time.now += 0.001
        assert lookup(breaker, fails=chance.random() < 0.1) != "not tried"


def test_failures_far_apart_do_not_trip(time: Time) -> None:
    breaker = Breaker(DEFAULT)
    for _ in range(100):
        time.now += module.WINDOW_S / (DEFAULT.breaker_failures - 1.1)
        assert lookup(breaker, fails=True) == "failed"
        assert not breaker.tripped


def test_as_many_failures_as_the_limit_says_trip(time: Time) -> None:
    for limit in (1, 2, 20):
        breaker = Breaker(Limits(breaker_failures=limit))
        found = [lookup(breaker, fails=True) for _ in range(limit + 2)]
        assert found == ["failed"] * limit + ["not tried"] * 2
    never = Breaker(Limits(breaker_failures=0))
    assert {lookup(never, fails=True) for _ in range(100)} == {"failed"}


def test_one_lookup_in_a_while_is_tried(time: Time) -> None:
    limits = Limits(breaker_failures=3, breaker_s=2.0, timeout_s=4.0, connect_timeout_s=1.0)
    breaker = Breaker(limits)
    for _ in range(3):
        lookup(breaker, fails=True)
    time.now += 1.9
    assert lookup(breaker, fails=True) == "not tried"
    time.now += 0.2
    assert [lookup(breaker, fails=True) for _ in range(3)] == ["failed", *["not tried"] * 2]
    time.now += 2.1
    breaker.enter()  # whoever is tried now waits for an answer; the others do not
    time.now += 6.9
    with pytest.raises(NotTried):
        breaker.enter()
    time.now += 0.2
    breaker.enter()  # it was given up
    breaker.answered()
    assert [lookup(breaker, fails=False) for _ in range(3)] == ["answered"] * 3
    assert [lookup(breaker, fails=True) for _ in range(2)] == ["failed"] * 2


def test_an_outage_is_told_at_once_and_its_end_noticed(
    redis_url: str, tmp_path: Path, time: Time
) -> None:
    link, real = tmp_path / "redis.sock", urlsplit(redis_url).path
    store = RedisStore(f"unix://{link}", Limits(breaker_failures=4))
    store.named = "redis_url"

    async def in_loop() -> None:
        try:
            await store.read_at_async([KEY], CLOCK)
        finally:
            await store.close_async()

    ways = (lambda: store.read([KEY]), lambda: store.read_at([KEY], CLOCK),
            lambda: asyncio.run(in_loop()))  # fmt: skip
    for n in range(4):
        with pytest.raises(StoreUnavailable, match=r"cannot be reached: .*; start it") as error:
            ways[n % 3]()
        assert error.value.retry_after_s is None
    for ask in ways:
        with pytest.raises(
            StoreUnavailable,
            match=r"cannot be reached: .* correct redis_url\. Lookups are not tried for 1\.0 s yet",
        ) as error:
            ask()
        assert error.value.retry_after_s == 1.0
    with pytest.raises(StoreUnavailable) as error:  # what feeds is tried, whatever lookups are
        store.update([KEY], lambda values: [b"1"])
    assert error.value.retry_after_s is None
    link.symlink_to(real)
    with pytest.raises(StoreUnavailable, match="not tried"):
        store.read([KEY])
    time.now += 1.1
    for ask in ways[::-1]:
        ask()
    store.close()


def test_lookups_that_are_sent_together_fail_one_by_one(tmp_path: Path) -> None:
    """In an event loop many of them are one command, and as many have failed."""
    limits = Limits(breaker_failures=8, breaker_s=60.0, timeout_s=0.1)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(f"{tmp_path}/silent.sock")
        silent.listen()
        store = RedisStore(f"unix://{tmp_path}/silent.sock", limits)

        async def ask() -> list[Any]:
            lookups = (store.read_at_async([KEY], CLOCK) for _ in range(limits.breaker_failures))
            return await asyncio.gather(*lookups, return_exceptions=True)

        found = asyncio.run(ask())
        assert [type(error) for error in found] == [StoreUnavailable] * limits.breaker_failures
        assert store.breaker.tripped
        store.close()


@contextmanager
def flapping() -> Iterator[tuple[int, list[int]]]:
    """The port of a server that greets each client, answers its first command and hangs up at the
    second one; and the number of commands that it got."""
    got, server = [0], socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                one, _ = server.accept()
            except OSError:
                return
            with one:
                while data := one.recv(4096):
                    if b"MGET" not in data:
                        one.sendall(b"+OK\r\n" * data.count(b"*"))
                        continue
                    got[0] += 1
                    if one in answered:
                        break
                    answered.add(one)
                    one.sendall(b"*1\r\n$1\r\n1\r\n")

    answered: set[socket.socket] = set()
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield server.getsockname()[1], got
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


def test_a_server_that_hangs_up_is_not_asked_twice_as_much() -> None:
    with flapping() as (port, got):
        limits = Limits(connections=3, breaker_failures=0)
        store, failed = RedisStore(f"redis://127.0.0.1:{port}/0?protocol=2", limits), 0
        for _ in range(300):
            try:
                assert store.read([KEY]) == [b"1"]
            except StoreUnavailable:
                failed += 1
        store.close()
    retries = got[0] - 300
    assert failed > 0
    assert 40 <= retries <= 3 + 300 * limits.retry_share
