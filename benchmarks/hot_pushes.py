"""Pushes to one entity that has many events, and lookups of it, with and without an `event_id`.

One view of sums, counts and maxima over two windows, one of which every push moves on. Rows come
singly. What is measured is the processor time of the client (the writing of states; without the log
and the announcement, which `online_writes` has). Peer: the round trips that such a call sends, with
their bytes made beforehand.
"""

from __future__ import annotations

import itertools
import random
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from benchmarks.measure import OURS, Curve, Result
from featurekit.aggregates import Aggregate, Count, Last, Max, StdDev, Sum
from featurekit.define.compile_service import compile_service
from featurekit.define.definitions import Entity, EventSource, FeatureService, FeatureView
from featurekit.feed.events import prepare
from featurekit.feed.settle import write
from featurekit.online.lookup.evaluator import Evaluator
from featurekit.online.store import connections
from featurekit.online.store import redis as redis_store
from featurekit.online.store.redis import RedisStore
from featurekit.online.store.replies import mget
from featurekit.online.store.server import scratch_redis

EVENTS = {
    "smoke": (100, 2_000),
    "medium": (1_000, 10_000),
    "full": (1_000, 10_000, 100_000),
}
S = 1_000_000
FIRST = 1_700_000_000 * S
SCHEMA = {"id": int, "op": str, "key": int, "amount": float, "kind": str}
TRIPS = "raw round trips"


@dataclass(frozen=True, slots=True)
class Kind:
    """A view that is pushed to: the options of its source, the columns that its aggregates read,
    and the processor time in which a push to 100,000 events is to be done, in seconds."""

    name: str
    source: dict[str, Any]
    of: Callable[[list[str]], dict[str, Aggregate]]
    wanted: float


def numbers(windows: list[str]) -> dict[str, Any]:
    return {
        "sum": Sum("amount", windows=windows),
        "rows": Count(windows=windows),
        "most": Max("amount", windows=windows),
    }


def texts(windows: list[str]) -> dict[str, Any]:
    return {
        "sum": Sum("amount", windows=windows),
        "most": Max("kind", windows=windows),
        "spread": StdDev("amount", windows=windows),
    }


def ordered(windows: list[str]) -> dict[str, Any]:
    return {"last": Last("kind", windows=windows), "sum": Sum("amount", windows=windows)}


IDS: dict[str, Any] = {"event_id": "id"}
OPS: dict[str, Any] = {"event_id": "id", "op": "op"}
KINDS = (
    Kind("without ids", {}, numbers, 0.003),
    Kind("numeric id", IDS, numbers, 0.004),
    Kind("id with text", IDS, texts, 0.005),
    Kind("id with ordered slots", IDS, ordered, 0.005),
    Kind("id with an op", OPS, texts, 0.005),
)


def results(size: str, runs: int) -> Iterator[Result | Curve]:
    """A push and a lookup of each kind by the number of events, then those of the most events
    beside what they may take."""
    events = EVENTS[size]
    found: dict[tuple[str, int], dict[str, float]] = {}
    with scratch_redis() as url:
        for kind, n in itertools.product(KINDS, events):
            with Hot(url, kind, n) as hot:
                found[kind.name, n] = hot.measured(4 * runs)
    for what in ("push", "lookup"):
        taken = {kind.name: [found[kind.name, n][what] for n in events] for kind in KINDS}
        taken[TRIPS] = [found[KINDS[1].name, n][f"raw {what}"] for n in events]
        yield Curve(
            f"{what} of one row, processor time", "events of the entity", events, "s", taken,
            note="the round trips are those of a numeric id",
        )  # fmt: skip
    most = events[-1]
    for kind in KINDS:
        of = found[kind.name, most]
        yield Result(
            f"push one row, {kind.name}", f"{most:,} events", "s",
            {OURS: of["push"], TRIPS: of["raw push"], "wanted": kind.wanted}, "wanted",
            1.0 if most >= 100_000 else None, "processor time of the client, without the log",
        )  # fmt: skip
    plain = found[KINDS[0].name, most]["lookup"]
    with_ids = found[KINDS[1].name, most]
    yield Result(
        "lookup, numeric id", f"{most:,} events", "s",
        {OURS: with_ids["lookup"], "without ids": plain, TRIPS: with_ids["raw lookup"]},
        "without ids", 1.5 if most >= 100_000 else None, "processor time of the client",
    )  # fmt: skip


@dataclass
class Hot:
    """An entity of `n` events a second apart, of a view of one kind, in an empty store."""

    url: str
    kind: Kind
    n: int
    chance: random.Random = field(default_factory=lambda: random.Random(1))

    def __enter__(self) -> Hot:
        memory = f"{self.n // 2}s"
        options = {**self.kind.source, **({"dedupe_within": memory} if self.kind.source else {})}
        source = EventSource(
            "events", path="events.parquet", timestamp_field="at", schema=SCHEMA, **options
        )
        features = self.kind.of([f"{self.n}s", f"{self.n * 2 // 3}s"])
        entity = Entity("key", {"key": int})
        view = FeatureView("view", entities=[entity], source=source, features=features)
        self.service = compile_service(FeatureService("service", features=[view]))
        self.plan = Evaluator("bench", self.service)
        self.store = RedisStore(self.url)
        self.store.client.flushdb()
        self.next = itertools.count()
        for first in range(0, self.n, 500):
            self.push(min(500, self.n - first))
        self.raw = socket.socket(socket.AF_UNIX)
        self.raw.connect(unquote(urlsplit(self.url).path))
        return self

    def __exit__(self, *_: object) -> None:
        self.raw.close()
        self.store.close()

    def push(self, rows: int = 1) -> None:
        """Write the next rows to the state, and to what is remembered of their ids."""
        made = []
        for i in itertools.islice(self.next, rows):
            at = FIRST + i * S
            made.append({"id": i, "op": "upsert", "key": 1, "kind": f"k{i * 7919 % 5000}",
                         "amount": self.chance.randrange(10**6) / 100, "__ts": at,
                         "__created": at})  # fmt: skip
        self.last = at
        write(self.store, prepare("bench", self.service.views, made))

    def look_up(self) -> None:
        """Answer as of the newest row."""
        (((key,),)) = self.plan.state_keys({"key": [1]}, 1)
        assert key is not None
        found = {key: self.store.read([key])[0]}
        self.plan.evaluate([[key]], found, [{}], [self.last], self.store.read)

    def measured(self, runs: int) -> dict[str, float]:
        """The least seconds of the processor for each call, and for the round trips of one."""
        works: dict[str, Callable[[], object]] = {"push": self.push, "lookup": self.look_up}
        for name, work in [*works.items()]:
            work()
            sent = watched(self.store, work)
            works[f"raw {name}"] = lambda sent=sent: self.again(sent)  # type: ignore[misc]
        taken: dict[str, list[float]] = {name: [] for name in works}
        # The trips sent again write a state that its blocks do not fit any more: they come last.
        for name in ("push", "lookup", "raw lookup", "raw push"):
            for _ in range(runs):
                began = time.process_time()
                works[name]()
                taken[name].append(time.process_time() - began)
        return {name: min(values) for name, values in taken.items()}

    def again(self, sent: Sequence[bytes]) -> None:
        """The same commands over a bare socket; the PING tells where the replies of a trip end."""
        for trip in sent:
            self.raw.sendall(trip + b"PING\r\n")
            tail = b""
            while not tail.endswith(b"+PONG\r\n"):
                tail = tail[-8:] + self.raw.recv(1 << 20)


def watched(store: RedisStore, work: Callable[[], object]) -> list[bytes]:
    """The bytes of each round trip that `work` makes."""
    send, read, trips = connections.send, store.read, list[bytes]()

    def noted(connection: Any, commands: Sequence[bytes]) -> None:
        trips.append(b"".join(commands))
        send(connection, commands)

    def noted_read(keys: Sequence[bytes]) -> Any:
        trips.append(mget(keys))
        return read(keys)

    modules: list[Any] = [connections, redis_store]
    for module in modules:
        module.send = noted
    store.read = noted_read  # type: ignore[method-assign]
    try:
        work()
    finally:
        del store.read
        for module in modules:
            module.send = send
    assert trips
    return trips
