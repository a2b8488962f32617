"""The client gives what the store gives, and stands what happens to connections."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from serving import NOW, Served, asked_rows, same

from featurekit import errors
from featurekit.client import Client
from featurekit.core.types import instant
from featurekit.errors import ConfigError, FeaturekitError, OnlineError, StoreUnavailable
from featurekit.online.lookup.result import OnlineResult
from featurekit.online.wire.http import Broken, Reader, Reply

AS_OF = NOW + dt.timedelta(minutes=10)


@pytest.fixture
def client(server: Served) -> Iterator[Client]:
    with Client(server.url, timeout_s=20) as made:
        yield made


def frames(rows: list[dict[str, Any]]) -> list[Any]:
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    keys = {"key": [row["key"] for row in rows]}
    return [rows, columns, pl.DataFrame(keys), pa.table(keys), pa.table(keys).to_pandas()]


def test_the_client_s_results_are_those_of_the_store(world: Any, client: Client):
    for service in ("every", "plain"):
        for some in (slice(None), slice(1, 3), slice(0, 1), slice(7, 8), slice(0, 3)):
            rows = asked_rows()[some]
            for given in frames(rows)[:2] if service == "every" else frames(rows)[2:]:
                for full_names, request in ((False, False), (True, True)):
                    shown = {"full_feature_names": full_names, "request_fields": request}
                    wanted = world.store.get_online_features(service, given, AS_OF, **shown)
                    found = client.get_online_features(service, given, AS_OF, **shown)
                    assert isinstance(found, OnlineResult)
                    same(found, wanted)
    listed = ["latest:f", "numbers"]
    wanted = world.store.get_online_features(listed, [{"key": 1}, {"key": 2}], AS_OF)
    same(client.get_online_features(listed, [{"key": 1}, {"key": 2}], AS_OF), wanted)


def test_event_loops_ask_at_once_and_one_after_the_other(world: Any, server: Served):
    wanted = world.store.get_online_features("plain", [{"key": 1}, {"key": 2}], AS_OF)

    async def ask(client: Client) -> None:
        asked = (
            client.get_online_features_async("plain", [{"key": 1}, {"key": 2}], AS_OF)
            for _ in range(20)
        )
        for found in await asyncio.gather(*asked):
            same(found, wanted)
        await client.close_async()

    client = Client(server.url, timeout_s=20)
    for _ in range(2):
        asyncio.run(ask(client))


WRONG: list[tuple[Any, Any, Any]] = [
    ("plain", [{"key": "1"}], AS_OF),
    ("plain", [{"key": 2**63}], AS_OF),
    ("plain", [{"key": 2**70}], AS_OF),
    ("plain", [{"key": 1.0}], AS_OF),
    ("plain", [{"key": dt.date(2024, 1, 1)}], AS_OF),
    ("plain", [{"kay": 1}], AS_OF),
    ("plain", {"key": [1], "more": [1]}, AS_OF),
    ("plain", [{"key": 1}], instant(0)),
    ("plain", [{"key": 1}], "9000-01-01"),
    ("plain", [{"key": 1}], "tomorrow"),
    ("plane", [{"key": 1}], AS_OF),
    (["latest:g"], [{"key": 1}], AS_OF),
]


@pytest.mark.parametrize("case", WRONG, ids=lambda case: str(case[1]))
def test_an_error_is_that_of_the_store(world: Any, client: Client, case: Any):
    with pytest.raises(FeaturekitError) as wanted:
        world.store.get_online_features(*case)
    with pytest.raises(FeaturekitError) as found:
        client.get_online_features(*case)
    assert type(found.value) is type(wanted.value)
    if case != WRONG[2]:  # beyond 64 bits a number is sent as its text
        clock = re.compile(r"T[0-9:.]+\+00:00")
        assert clock.sub("", str(found.value)) == clock.sub("", str(wanted.value))


def test_values_that_cannot_be_sent_are_errors_of_rows(client: Client):
    for rows in ([{"key": object()}], [{"key": {1}}], [{1: 2}], [5]):
        with pytest.raises(errors.EntityFrameError):
            client.get_online_features("plain", rows)


# --- connections that break -----------------------------------------------------------------------


def http(status: int, body: bytes, *more: bytes) -> bytes:
    head = b"HTTP/1.1 %d Said\r\ncontent-length: %d\r\n" % (status, len(body))
    return head + b"".join(line + b"\r\n" for line in more) + b"\r\n" + body


def error(kind: str) -> bytes:
    told = {"type": kind, "where": "rows", "what": "it is", "write": "another", "request_id": None}
    return json.dumps({"error": told}).encode()


OVERLOADED = http(503, error("StoreUnavailable"), b"retry-after: 0")
REFUSED = http(422, error("EntityFrameError"))
HTML = http(502, b"<html>")


class Script(threading.Thread):
    """A server that plays a list: the bytes of an answer, a tuple of them after which it hangs up,
    None to hang up at once, or seconds to wait."""

    def __init__(self, play: list[Any]) -> None:
        super().__init__(daemon=True)
        self.play, self.heads = play, list[bytes]()
        self.door = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.door.getsockname()[1]}"

    def run(self) -> None:
        while self.play:
            try:
                connection, _ = self.door.accept()
            except OSError:
                return
            with connection:
                while self.play and self.answer(connection):
                    pass

    def answer(self, connection: socket.socket) -> bool:
        data = b""
        while b"\r\n\r\n" not in data:
            piece = connection.recv(65536)
            if not piece:
                return False
            data += piece
        self.heads.append(data)
        part = self.play.pop(0)
        if isinstance(part, float):
            time.sleep(part)
        elif isinstance(part, tuple):
            connection.sendall(part[0])
        elif part is not None:
            connection.sendall(part)
            return True
        return False


@contextmanager
def playing(*play: Any) -> Iterator[Script]:
    script = Script(list(play))
    script.start()
    yield script
    script.door.close()


@pytest.fixture(scope="module")
def answer(server: Served) -> bytes:
    """A whole answer of the server, as it came."""
    with playing_through(server) as kept, Client(kept.url, timeout_s=20) as client:
        client.get_online_features("plain", [{"key": 1}, {"key": 2}], AS_OF)
    return bytes(kept.taken)


class Through(threading.Thread):
    """Passes one request on, and keeps its answer."""

    def __init__(self, server: Served) -> None:
        super().__init__(daemon=True)
        self.server, self.taken = server, bytearray()
        self.door = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.door.getsockname()[1]}"

    def run(self) -> None:
        near, _ = self.door.accept()
        with near, socket.create_connection((self.server.host, self.server.port)) as far:
            far.sendall(near.recv(65536))
            reader, reply = Reader(), None
            while reply is None:
                piece = far.recv(65536)
                self.taken += piece
                reply = reader.feed(piece)
            near.sendall(self.taken)


@contextmanager
def playing_through(server: Served) -> Iterator[Through]:
    made = Through(server)
    made.start()
    yield made
    made.join(10)
    made.door.close()


def by_thread(client: Client) -> OnlineResult:
    return client.get_online_features("plain", [{"key": 1}], AS_OF)


def by_loop(client: Client) -> OnlineResult:
    async def ask() -> OnlineResult:
        try:
            return await client.get_online_features_async("plain", [{"key": 1}], AS_OF)
        finally:
            await client.close_async()

    return asyncio.run(ask())


WAYS: list[Callable[[Client], OnlineResult]] = [by_thread, by_loop]


@pytest.mark.parametrize("ask", WAYS)
def test_a_lookup_is_repeated_where_that_may_help(ask: Callable[..., Any], answer: bytes):
    for play in (
        [None, answer], [OVERLOADED, answer], [HTML, None, answer], [(answer[:40],), answer],
        [(answer[:-5],), (b"",), answer],
    ):  # fmt: skip
        with playing(*play) as script, Client(script.url, timeout_s=10) as client:
            assert ask(client).entities == {"key": [1, 2]}
            assert len(script.heads) == len(play)


@pytest.mark.parametrize("ask", WAYS)
def test_it_gives_up_after_its_retries_and_never_repeats_a_refusal(ask: Any, answer: bytes):
    for play, kind, asked in (
        ([OVERLOADED] * 9, StoreUnavailable, 3),
        ([None] * 9, StoreUnavailable, 3),
        ([HTML] * 9, StoreUnavailable, 3),
        ([REFUSED, answer], errors.EntityFrameError, 1),
        ([b"SSH-2.0\r\n\r\n"] * 9, StoreUnavailable, 3),
        ([answer.replace(b"featurekit-as-of", b"featurekit-nil"), answer], OnlineError, 1),
        ([answer[:-200] + b"\xff" * 200, answer], OnlineError, 1),
    ):
        with playing(*play) as script, Client(script.url, timeout_s=10) as client:
            with pytest.raises(kind) as raised:
                ask(client)
            assert type(raised.value) is kind
            assert len(script.heads) == asked


@pytest.mark.parametrize("ask", WAYS)
def test_the_time_is_kept_and_told_to_the_server(ask: Any):
    with playing(5.0) as script, Client(script.url, timeout_s=0.3) as client:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"within 0\.3 s"):
            ask(client)
        assert time.monotonic() - began < 4
        told = script.heads[0].partition(b"featurekit-timeout-ms: ")[2].partition(b"\r\n")[0]
        assert 0 < int(told) <= 300


def test_a_kept_connection_that_was_closed_is_no_failed_attempt(answer: bytes):
    play = [(answer,)] * 4  # each is whole, and nothing says that the connection ends
    with playing(*play) as script, Client(script.url, timeout_s=10, retries=0) as client:
        for _ in play:
            assert by_thread(client).entities == {"key": [1, 2]}


def test_a_server_that_is_not_there_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{port}"):
        Client(f"http://127.0.0.1:{port}").get_online_features("plain", [])


def test_a_token_is_sent_and_never_shown(answer: bytes):
    with playing(answer, None, None, None) as script:
        client = Client(script.url, "sEcReT")
        by_thread(client)
        assert b"authorization: Bearer sEcReT\r\n" in script.heads[0]
        with pytest.raises(StoreUnavailable) as raised:
            by_thread(client)
        assert "sEcReT" not in repr(client) + str(raised.value)
        client.close()


@pytest.mark.parametrize(
    "url", ["localhost:6566", "ftp://x", "http://", "http://u:sEcReT@x", "http://x:y"]
)
def test_a_text_that_is_no_address_is_refused_and_not_shown(url: str):
    with pytest.raises(ConfigError) as raised:
        Client(url)
    assert "sEcReT" not in str(raised.value)


# --- answers in pieces ----------------------------------------------------------------------------

WHOLE = [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello", True),
    (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", b"", True),
    (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=1\r\nlo\r\n0\r\n\r\n",
     b"hello", True),
    (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\na: b\r\n\r\n",
     b"hello", True),
    (b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello", b"hello", False),
    (b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello", b"hello", False),
    (b"HTTP/1.1 200 OK\r\n\r\nhello", b"hello", False),
]  # fmt: skip


def in_pieces(data: bytes, rng: random.Random) -> Reply | None:
    reader, at = Reader(), 0
    while at < len(data):
        size = rng.choice((1, 2, 7, len(data)))
        reply = reader.feed(data[at : at + size])
        at += size
        if reply is not None:
            assert at >= len(data)
            return reply
    return reader.feed(b"")


@pytest.mark.parametrize("seed", range(3))
def test_an_answer_is_the_same_in_whatever_pieces_it_comes(seed: int):
    rng = random.Random(seed)
    for data, body, keep in WHOLE * 20:
        reply = in_pieces(data, rng)
        assert reply is not None
        assert (reply.status, reply.body, reply.keep) == (200, body, keep)


@pytest.mark.parametrize("seed", range(3))
def test_other_bytes_are_broken_and_nothing_else(seed: int):
    rng = random.Random(seed)
    for _ in range(2000):
        data = bytearray(rng.choice(WHOLE)[0])
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(data) + 1)
            data[at : at + rng.randrange(3)] = rng.choice((b"", b"\r\n", b"-1", rng.randbytes(2)))
        try:
            assert in_pieces(bytes(data), rng) is not None
        except Broken:
            continue
        except AssertionError:
            continue  # it was whole before its last bytes
