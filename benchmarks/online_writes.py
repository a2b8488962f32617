"""Writes to Redis: filling it from files, and pushing events, beside the same bytes sent raw.

*Materialise*: rows of ten floats in a Parquet file, the latest row of each entity, into an empty
Redis. Peers: a stream of SETs of the very same keys and values, made beforehand, sent over a socket
while a thread reads the replies; the same by redis-py's pipelines; Feast, where it is installed.

*Push*: nine window aggregates (sum, count and maximum over an hour, a day, a week), with and
without an `event_id`. Peer: the round trips and the log's record that such a push needs, with their
bytes made beforehand, one after the other. They are: announce the push and read what is fed; with
an `event_id`, WATCH and read what is remembered, and note the rows there; WATCH and read the
states; append the rows to a file that is open, and sync it; write the states and end the push, in
one transaction.
"""

from __future__ import annotations

import datetime as dt
import itertools
import os
import random
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import feast_peer
from benchmarks.measure import OURS, Curve, Result
from featurekit.log.segments import segments
from featurekit.online.store.server import scratch_redis
from featurekit.store import FeatureStore

ROWS = {"smoke": 20_000, "medium": 200_000, "full": 1_000_000}
OF_FEAST = {"smoke": 2_000, "medium": 20_000, "full": 100_000}
PUSHES = {"smoke": 20, "medium": 60, "full": 200}
FLOATS = [f"f{i}" for i in range(10)]
RAW, PIPELINES, TRIPS = "the same SETs, prebuilt", "redis-py pipelines", "raw round trips"
ON_DISK = "/var/tmp" if os.access("/var/tmp", os.W_OK) else None
NOW = dt.datetime(2026, 9, 1, tzinfo=dt.UTC)
LATEST = """
from featurekit import Entity, EventSource, FeatureService, FeatureView

key = Entity("key", {"key": int})
floats = [f"f{i}" for i in range(10)]
rows = EventSource("rows", path="rows.parquet", timestamp_field="event_timestamp",
                   schema={"key": int, **dict.fromkeys(floats, float)})
view = FeatureView("view", entities=[key], source=rows, features={f: f for f in floats})
service = FeatureService("service", features=[view])
"""
WINDOWS = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count, Max, Sum

key = Entity("key", {{"key": int}})
orders = EventSource("orders", path="orders.parquet", timestamp_field="event_timestamp",
                     schema={{"id": int, "key": int, "amount": float}}, {ids})
view = FeatureView("view", entities=[key], source=orders, features={{
    f"{{name}}_{{w}}": made for w in ("1h", "1d", "7d") for name, made in (
        ("sum", Sum("amount", window=w)), ("orders", Count(window=w)),
        ("most", Max("amount", window=w)))}})
service = FeatureService("service", features=[view])
"""


def results(size: str, runs: int) -> Iterator[Result | Curve]:
    """Both, at this size, then how each grows."""
    rows = ROWS[size]
    runs = runs if size != "full" else min(runs, 5)
    # Of few rows the connections and plans that any run needs are most of it.
    goal = None if size == "smoke" else 0.6
    yield materialised(rows, rows, runs, feast=OF_FEAST[size], goal=goal)
    yield materialised(rows, rows // 10, runs, goal=goal)
    curve = [(rows, max(rows // part, 1)) for part in (1_000, 100, 10, 1)]
    found = [materialised(*of, min(runs, 3)) for of in curve]
    yield Curve(
        f"materialise {rows:,} rows of ten floats", "entities", [n for _, n in curve], "s",
        {name: [rows / f.taken[name] for f in found] for name in (OURS, RAW)},
        note="the prebuilt stream has one SET an entity, and no rows to read",
    )  # fmt: skip
    for with_ids in (False, True):
        of = "with an event_id" if with_ids else "without ids"
        with Pushing(with_ids=with_ids) as pushing:
            taken = pushing.rates(100, PUSHES[size])
            yield Result(
                f"push batches of 100, {of}", f"{PUSHES[size]} pushes", "1/s",
                {**taken, "wanted": 30_000.0}, "wanted", 1.0, "the log is in memory: on disk "
                "an fsync comes on top, once a push",
            )  # fmt: skip
            taken = pushing.rates(1, 2 * PUSHES[size])
            yield Result(
                f"push single events, {of}", f"{2 * PUSHES[size]} pushes", "1/s", taken, TRIPS,
                0.6, f"{5 if with_ids else 3} round trips; the log is in memory",
            )  # fmt: skip
    with Pushing(with_ids=True, folder=ON_DISK) as pushing:
        yield Result(
            "push single events, the log on disk", f"{PUSHES[size]} pushes", "1/s",
            pushing.rates(1, PUSHES[size]), TRIPS, 0.6, "one fsync a push",
        )  # fmt: skip
    sizes = [1, 10, 100, 1_000]
    with Pushing(with_ids=True) as pushing:
        rates = [pushing.rates(n, max(5, PUSHES[size] // n)) for n in sizes]
    yield Curve(
        "push, events a second by batch", "events a push", sizes, "1/s",
        {name: [r[name] for r in rates] for name in (OURS, TRIPS)},
    )  # fmt: skip
    held = [10, 100, 1_000, 10_000]
    long: dict[str, list[float]] = {OURS: [], TRIPS: []}
    for n in held:
        with Pushing(with_ids=False, entities=1) as pushing:
            pushing.fill(n)
            for name, rate in pushing.rates(1, PUSHES[size]).items():
                long[name].append(1 / rate)
    yield Curve(
        "push one event to an entity that has many", "events in its longest window", held, "s",
        long,
    )  # fmt: skip


# --- materialise ----------------------------------------------------------------------------------


def materialised(
    rows: int, entities: int, runs: int, *, feast: int = 0, goal: float | None = None
) -> Result:
    """Rows a second from the file to Redis, by turns with the peers, each into an empty one."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory())))
        url = stack.enter_context(scratch_redis())
        keys = write_rows(folder, rows, entities)
        store = stack.enter_context(FeatureStore(folder, redis_url=url))
        client: Any = store.online.client  # type: ignore[attr-defined]

        def empty() -> None:
            client.flushdb()

        def applied() -> None:
            client.flushdb()
            store.apply()

        applied()
        store.materialize()
        names = state_names(client, keys)
        values = in_parts(names, client.mget)
        assert None not in values
        assert len(names) == len(client.keys("fk:bench:state:*"))
        stream = b"".join(
            b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(k), k, len(v), v)
            for k, v in zip(names, values, strict=True)
        )

        def piped() -> None:
            pairs = list(zip(names, values, strict=True))
            for part in parts(pairs, 1_000):
                pipe = client.pipeline(transaction=False)
                for key, value in part:
                    pipe.set(key, value)
                pipe.execute()

        works: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            OURS: (applied, store.materialize),
            RAW: (empty, lambda: send(url, stream, 5 * len(names))),
            PIPELINES: (empty, piped),
        }
        for before, work in works.values():
            before()
            work()
            assert in_parts(names, client.mget) == values
        taken = {name: rows / s for name, s in by_turns(works, runs).items()}
        note = "the file's rows are in the order of none of its columns"
        if feast and feast_peer.installed():
            taken[feast_peer.NAME] = of_feast(folder, store, feast)
            note += f"; Feast's rate is of one run over {feast:,} of the rows, in its own encoding"
        elif feast:
            note += "; Feast is not installed"
    return Result(
        "materialise the latest row of ten floats",
        f"{rows:,} rows of {entities:,} entities", "1/s", taken, RAW, goal, note,
    )  # fmt: skip


def write_rows(folder: Path, rows: int, entities: int) -> list[int]:
    """A repo and its file; the keys in the order in which the file first has them."""
    (folder / "feature_store.yaml").write_text("project: bench\n")
    (folder / "definitions.py").write_text(LATEST)
    rng = np.random.default_rng(1)
    keys = rng.permutation(rows) if rows == entities else rng.integers(0, entities, rows)
    at = int(NOW.timestamp()) * 1_000_000 - rng.permutation(rows) * 1_000_000
    table = {
        "key": keys.astype(np.int64),
        "event_timestamp": pa.array(at).cast(pa.timestamp("us", "UTC")),
        **{name: rng.normal(size=rows) for name in FLOATS},
    }
    pq.write_table(pa.table(table), folder / "rows.parquet")
    return list(dict.fromkeys(keys.tolist()))


def state_names(client: Any, keys: list[int]) -> list[bytes]:
    """The keys of the entities' states."""
    prefix = next(client.scan_iter(match="fk:bench:state:*")).split(b"{")[0]
    entities = (b"i%d" % key for key in keys)
    return [prefix + b"{%d:%b}" % (len(e), e) for e in entities]


def in_parts(names: list[bytes], read: Callable[[list[bytes]], list[Any]]) -> list[Any]:
    """Some at a time."""
    return [value for part in parts(names, 5_000) for value in read(part)]


def parts(values: list[Any], size: int) -> Iterator[list[Any]]:
    """Some at a time."""
    for first in range(0, len(values), size):
        yield values[first : first + size]


def connected(url: str) -> socket.socket:
    """A socket to a scratch Redis."""
    made = socket.socket(socket.AF_UNIX)
    made.connect(unquote(urlsplit(url).path))
    return made


def send(url: str, stream: bytes, replies: int) -> None:
    """Send all, while a thread reads so many bytes of replies."""
    with connected(url) as made:

        def read() -> None:
            left = replies
            while left > 0:
                left -= len(made.recv(1 << 20))

        reader = threading.Thread(target=read)
        reader.start()
        made.sendall(stream)
        reader.join()


def by_turns(
    works: Mapping[str, tuple[Callable[[], object], Callable[[], object]]], runs: int
) -> dict[str, float]:
    """Median seconds of each second function, after its first, which is not timed."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(runs):
        for name, (before, work) in works.items():
            before()
            began = time.perf_counter()
            work()
            taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in taken.items()}


def of_feast(folder: Path, store: FeatureStore, rows: int) -> float:
    """Feast's rows a second, of the first rows of the file; it is to answer as we do."""
    some = pq.read_table(folder / "rows.parquet").slice(0, rows)
    path = folder / "some.parquet"
    pq.write_table(some, path)
    with scratch_redis() as url, tempfile.TemporaryDirectory() as scratch:
        peer = feast_peer.Feast(Path(scratch), {"view": (path, FLOATS)}, redis_url=url)
        began = time.perf_counter()
        peer.materialize(NOW - dt.timedelta(days=365), NOW + dt.timedelta(days=1))
        taken = time.perf_counter() - began
        keys = some["key"].to_pylist()[:50]
        theirs = peer.online(keys)()
        store.apply()  # the last contender has emptied the store
        store.materialize()
        ours = store.get_online_features("service", [{"key": key} for key in keys]).to_dict()
        assert all(theirs[name] == ours[name] for name in FLOATS)
    return rows / taken


# --- push -----------------------------------------------------------------------------------------


def memory() -> str | None:
    """A folder whose files are in memory, where there is one."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@dataclass
class Sent:
    """What a push sent, by round trip, before and after it appended its record to the log."""

    before: list[bytes]
    record: bytes
    after: list[bytes]


class Pushing:
    """A store that is pushed to, and what its pushes consist of."""

    def __init__(
        self,
        *,
        with_ids: bool,
        entities: int = 10_000,
        folder: str | None = memory(),
        module: str = WINDOWS,
    ) -> None:
        self.with_ids, self.entities, self.folder = with_ids, entities, folder
        self.module = module
        self.chance, self.ids = random.Random(1), itertools.count()
        self.stack = ExitStack()

    def __enter__(self) -> Pushing:
        enter = self.stack.enter_context
        self.path = Path(enter(tempfile.TemporaryDirectory(dir=self.folder)))
        url = enter(scratch_redis())
        ids = 'event_id="id", dedupe_within="1d"' if self.with_ids else ""
        (self.path / "feature_store.yaml").write_text("project: bench\n")
        (self.path / "definitions.py").write_text(self.module.format(ids=ids))
        types = {"id": pa.int64(), "key": pa.int64(), "amount": pa.float64(),
                 "event_timestamp": pa.timestamp("us", "UTC")}  # fmt: skip
        table = pa.table({name: pa.array([], type_) for name, type_ in types.items()})
        pq.write_table(table, self.path / "orders.parquet")
        self.store = enter(FeatureStore(self.path, redis_url=url))
        self.store.apply()
        self.store.materialize()
        self.raw = enter(connected(url))
        self.file = enter((self.path / "raw").open("ab", buffering=0))
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def batch(self, n: int) -> list[dict[str, Any]]:
        """New events of any entities, of the last hour."""
        now, chance = dt.datetime.now(dt.UTC), self.chance
        return [
            {"id": next(self.ids), "key": chance.randrange(self.entities),
             "amount": chance.randrange(10_000) / 100,
             "event_timestamp": now - dt.timedelta(seconds=chance.randrange(3_600))}
            for _ in range(n)
        ]  # fmt: skip

    def fill(self, n: int) -> None:
        """Push so many events."""
        for first in range(0, n, 1_000):
            self.store.push("orders", self.batch(min(1_000, n - first)))

    def rates(self, n: int, pushes: int) -> dict[str, float]:
        """Events a second of pushes of `n`, by turns with what they sent and kept, sent anew."""
        for _ in range(3):
            self.store.push("orders", self.batch(n))
        sent = self.watched(n)
        ours, raw = [], []

        def push() -> None:
            rows = self.batch(n)
            began = time.perf_counter()
            self.store.push("orders", rows)
            ours.append(time.perf_counter() - began)

        def again() -> None:
            began = time.perf_counter()
            self.again(sent)
            raw.append(time.perf_counter() - began)

        turns = [push, again] * pushes
        if self.entities == 1:
            # A state in blocks would not be whole any more after the first of them.
            turns = [push] * pushes + [again] * pushes
        for work in turns:
            work()
        # Not the median: of many pushes some join the log's small files, and all pay for it.
        return {OURS: n * pushes / sum(ours), TRIPS: n * pushes / sum(raw)}

    def watched(self, n: int) -> Sent:
        """What a push of `n` events sends."""
        from featurekit.online.store import connections
        from featurekit.online.store import redis as redis_store

        send = connections.send
        trips: list[bytes] = []

        before = self.log()
        first = 0

        def noted(connection: Any, commands: Sequence[bytes]) -> None:
            nonlocal first
            if before == self.log():
                first = len(trips) + 1
            trips.append(b"".join(commands))
            send(connection, commands)

        for module in (connections, redis_store):
            module.send = noted
        try:
            self.store.push("orders", self.batch(n))
        finally:
            for module in (connections, redis_store):
                module.send = send
        ((path, size),) = self.log().items() - before.items()
        record = path.read_bytes()[before.get(path, 0) : size]
        assert first == (4 if self.with_ids else 2) or n > 125 or self.module != WINDOWS
        return Sent(trips[:first], record, trips[first:])

    def log(self) -> dict[Path, int]:
        """The log's files and their sizes."""
        return {p: p.stat().st_size for p in segments(self.store.state_dir, "orders")}

    def again(self, sent: Sent) -> None:
        """The same bytes, over a socket of its own, and into a file that is kept as the log is."""
        for trip in sent.before:
            self.trip(trip)
        self.file.write(sent.record)
        os.fdatasync(self.file.fileno())
        for trip in sent.after:
            self.trip(trip)

    def trip(self, commands: bytes) -> None:
        """One round trip: the PING tells where its replies end."""
        self.raw.sendall(commands + b"PING\r\n")
        tail = b""
        while not tail.endswith(b"+PONG\r\n"):
            tail = tail[-8:] + self.raw.recv(1 << 20)
