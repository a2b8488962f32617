"""What reads bytes that come from elsewhere: bytes that it reads well, and a rule that must hold of
what it makes of others."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import random
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(_TESTS), str(_TESTS / "online"), str(_TESTS / "server")]

import forged_plans  # noqa: E402
import pushing  # noqa: E402
import serving  # noqa: E402
import test_damage  # noqa: E402
import test_requests  # noqa: E402

from featurekit import FeatureStore  # noqa: E402
from featurekit.core.status import DAMAGED  # noqa: E402
from featurekit.core.types import INT, instant  # noqa: E402
from featurekit.define.definitions import EventSource  # noqa: E402
from featurekit.errors import DataError, FeaturekitError  # noqa: E402
from featurekit.log.served.block import ServedBlock, ServedHead, decode, encode  # noqa: E402
from featurekit.online.state import seal  # noqa: E402
from featurekit.online.store.server import scratch_redis  # noqa: E402
from featurekit.online.wire import arrow, msgpack  # noqa: E402
from featurekit.online.wire.http import Broken, Reader  # noqa: E402
from featurekit.parity.compare import bits  # noqa: E402
from featurekit.server.bodies import source_and_rows  # noqa: E402
from featurekit.server.callers import ANYONE  # noqa: E402
from featurekit.server.orders import (  # noqa: E402
    ARROW,
    FEAST,
    JSON,
    MSGPACK,
    OWN,
    PARQUET,
    Order,
)
from featurekit.server.tables import Tables  # noqa: E402
from featurekit.sources.rows import read_rows  # noqa: E402
from tests.mangling.mangled import mangled  # noqa: E402

Try = Callable[[random.Random], str]
"""Reads one mangled input and returns what became of it; raises where a rule is broken."""


def states() -> Try:
    """A state in the store: it is the one that was written, or DAMAGED, and its neighbour is as it
    was. Of one that says it has no checksum it is only asked that it raises no raw error."""
    worlds = []
    for name in test_damage.KINDS:
        world = test_damage.World(test_damage.VIEWS[name])
        every = world.store.keys(b"")
        kept = dict(zip(every, world.store.read(every), strict=True))
        seeds = [v for k, v in kept.items() if v and k in (world.first, world.second)]
        worlds.append((world, kept[world.first], seeds, world.ask(1), world.ask(2)))

    def one(rng: random.Random) -> str:
        world, kept, seeds, first, second = rng.choice(worlds)
        data = mangled(seeds, rng)
        world.store.write({world.first: data})
        try:
            try:
                found, beside = world.ask(1, 2)
            except FeaturekitError:
                assert not seal.is_sealed(data), data
                return "of a release without checksums"
            assert beside == second[0], (data, beside)
            if DAMAGED in found[1]:
                assert all(v == bits(None) for v in found[0][1:]), (data, found)
                return "damaged"
            if not seal.is_sealed(data):
                return "of a release without checksums"
            assert (found, data) == (first[0], kept)
            return "read"
        finally:
            world.store.write({world.first: kept})

    return one


def plans() -> Try:
    """A plan: it is refused by name, or read, compiled and called without a trace of its own."""
    folder = Path(tempfile.mkdtemp())

    def one(rng: random.Random) -> str:
        (found,) = forged_plans.fuzz(1, rng.getrandbits(64), folder / "canary")
        return "read" if found == "read" else "refused"

    return one


def packed() -> Try:
    """MessagePack: no value, or one that packs into bytes which are this value again."""
    values = [
        *test_requests.GOOD,
        [dt.datetime.max.replace(tzinfo=dt.UTC), dt.date.min, dt.timedelta(days=-1), 2**63 - 1],
        [[[1, 0.1], [2, float("nan")]], b"\x00\xff", "\U0001f600", None, True, -0.0, 5e-324],
    ]
    seeds = [msgpack.pack(value) for value in values]

    def one(rng: random.Random) -> str:
        try:
            value = msgpack.unpack(mangled(seeds, rng))
        except ValueError:
            return "refused"
        try:
            again = msgpack.pack(value)
        except TypeError:
            return "read"  # a key that is no text is a list of pairs when it is packed
        assert msgpack.pack(msgpack.unpack(again)) == again, value
        return "read"

    return one


def replies() -> Try:
    """Replies of HTTP, in pieces: one that is whole, a connection that is broken, or more to
    come."""
    seeds = [
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx: y\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\na;x=y\r\n0123456789"
        b"\r\n0\r\ntrailer: 1\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n"
        b"connection: close\r\n\r\nrest",
        b"HTTP/1.1 204 No Content\r\n\r\n",
    ]

    def one(rng: random.Random) -> str:
        data, reader, at = mangled(seeds, rng), Reader(), 0
        try:
            while at < len(data):
                size = rng.choice((1, 7, 1000))
                if reader.feed(data[at : at + size]) is not None:
                    return "read"
                at += size
            return "waits" if reader.feed(b"") is None else "read"
        except Broken:
            return "broken"

    return one


def blocks() -> Try:
    """Blocks of a serving log, whose bytes their file checks: none, or columns of values."""
    head = ServedHead("p", "s", "f", {}, ("v",), {"k": INT}, {}, {"o": INT.or_none()})
    block = ServedBlock(head, [1] * 3, [2] * 3, [3] * 3, [[4, None, 5]], [[1, 2, None]], [],
                        [[1, None, -3]], [["PRESENT", "NULL_VALUE", "PRESENT"]], [None], "p",
                        7)  # fmt: skip
    seeds = [b"".join(encode(block))]

    def one(rng: random.Random) -> str:
        try:
            found = decode(head, mangled(seeds, rng), block.about())
        except DataError:
            return "refused"
        return "read" if len(found.values) == 1 else "empty"

    return one


@contextmanager
def _served() -> Iterator[tuple[FeatureStore, str]]:
    with tempfile.TemporaryDirectory() as name, scratch_redis() as url:
        serving.write(Path(name), url)
        serving.fill(Path(name))
        with FeatureStore(name) as store:
            yield store, url


def answers(store: FeatureStore) -> Try:
    """An answer in Arrow, as a client gets it: no result, or one whose columns can be had."""
    seeds = []
    for service, rows in (("every", serving.asked_rows()), ("plain", [{"key": 1}] * 3)):
        result = store.get_online_features(service, rows)
        seeds.append(arrow.stream(result, service, "v"))
    at = dt.datetime.now(dt.UTC)

    def one(rng: random.Random) -> str:
        try:
            result, _ = arrow.read(mangled(seeds, rng), at)
            result.to_pylist()
            result.statuses()
        except (ValueError, FeaturekitError):
            return "refused"
        return "read"

    return one


@contextmanager
def bodies(url: str) -> Iterator[Try]:
    """Requests to a server: no answer says that the server failed."""
    from featurekit.server.app import App
    from featurekit.server.settings import Settings

    app = App(Settings("tests", url=url))
    app.lookups.load()
    loop = asyncio.new_event_loop()
    json_seeds = [json.dumps(body).encode() for body in test_requests.GOOD]
    seeds = [*json_seeds, *(msgpack.pack(body) for body in test_requests.GOOD)]

    async def ask(path: str, headers: list[tuple[bytes, bytes]], body: bytes) -> int:
        sent: list[Mapping[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(),
                 "query_string": b"", "headers": headers, "http_version": "1.1",
                 "scheme": "http", "root_path": "", "client": ("127.0.0.1", 1),
                 "server": ("127.0.0.1", 2)}  # fmt: skip
        await app(scope, receive, send)
        return int(sent[0]["status"])

    def one(rng: random.Random) -> str:
        path = rng.choice(
            ("/get-online-features", "/v1/features", "/v1/services/plain/features",
             "/v1/services/every/features")
        )  # fmt: skip
        if rng.random() < 0.5:
            body = json.dumps(test_requests.mangled(rng.choice(test_requests.GOOD), rng)).encode()
        else:
            body = mangled(seeds, rng)
        kind = b"application/json" if rng.random() < 0.6 else b"application/msgpack"
        headers = [(b"content-type", kind)]
        if rng.random() < 0.3:
            headers.append((b"accept", b"application/vnd.apache.arrow.stream"))
        status = loop.run_until_complete(ask(path, headers, body))
        assert status < 500, (path, headers, body, status)
        return str(status)

    try:
        yield one
    finally:
        loop.run_until_complete(app.lookups.close())
        loop.close()


@contextmanager
def pushes(source: EventSource) -> Iterator[Try]:
    """Bodies of pushes to a source: refused by an error of ours, or rows that are the same ones
    when they are read again."""
    table = serving.events().slice(0, 3)
    kinds = {"json": JSON, "msgpack": MSGPACK, "arrow": ARROW, "parquet": PARQUET, "feast": JSON}
    seeds: dict[tuple[str, str], list[bytes]] = defaultdict(list)
    values: dict[str, list[Any]] = defaultdict(list)
    written = pushing.bodies(source.name, table.to_pylist(), table.schema)
    for name, (_, body, _) in written.items():
        form, kind = FEAST if name == "feast" else OWN, kinds[name.partition(" ")[0]]
        seeds[form, kind].append(body)
        if kind == JSON:
            values[form].append(json.loads(body))
    assert source.created_timestamp_column is not None
    own = [source.timestamp_field, source.created_timestamp_column]

    def given(row: Mapping[str, Any]) -> dict[str, Any]:
        instants = [None if row[c] is None else instant(row[c]) for c in ("__ts", "__created")]
        return {name: row[name] for name in source.schema} | dict(zip(own, instants, strict=True))

    def one(rng: random.Random) -> str:
        form, kind = rng.choice([*seeds])
        if kind == JSON and rng.random() < 0.5:
            value = test_requests.mangled(rng.choice(values[form]), rng)
            body = json.dumps(value).encode()
        else:
            body = mangled(seeds[form, kind], rng)
        order = Order(form, kind, source.name, None, "id", 1.0, ANYONE)
        try:
            definition, asked = source_and_rows(order, body, lambda _: source, tables)
            found = read_rows(definition, asked, state_dir=None).pushed
        except FeaturekitError:
            return f"{kind} refused"
        again = read_rows(source, [given(row) for row in found], state_dir=None).pushed
        assert [bits([*r.values()]) for r in again] == [bits([*r.values()]) for r in found], body
        return f"{kind} read"

    limits = {"most_bytes": 2**22, "most_unpacked": 2**26, "most_rows": 1_000}
    with Tables(**limits, limit_s=10.0) as tables:
        yield one


SHARES = {"states": 8, "plans": 2, "packed": 28, "replies": 20, "blocks": 20, "answers": 8,
          "bodies": 11, "pushes": 3}  # fmt: skip
"""How many of a hundred inputs each gets: those that take longer get fewer."""


@contextmanager
def targets() -> Iterator[dict[str, Try]]:
    """Every target by its name."""
    with (
        _served() as (store, url),
        bodies(url) as of_bodies,
        pushes(store.parts.source("events")) as of_pushes,
    ):
        yield {
            "states": states(), "plans": plans(), "packed": packed(),
            "replies": replies(), "blocks": blocks(), "answers": answers(store),
            "bodies": of_bodies,
            "pushes": of_pushes,
        }  # fmt: skip
