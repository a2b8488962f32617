"""Answers from Redis beside raw redis-py, which reads the same values and knows nothing else.

One redis-server on a unix socket answers all contenders. The raw peer keeps the floats of an entity
and view packed in one string, reads it with the client's own GET or MGET, and unpacks it into the
Python values that we give (one dict a row) or into a NumPy matrix. It knows no statuses, instants,
nulls, types or versions: it is the floor. Windows are answered from the bytes that their peer gets
and leaves unread. Throughput is of lookups of one entity, each one round trip, in one process.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import random
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import redis
import redis.asyncio

from benchmarks import feast_peer
from benchmarks.measure import OURS, Curve, Result, interleaved, latencies
from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import Count, Max, Sum
from featurekit.define.compile_service import compile_service
from featurekit.define.plan import Service
from featurekit.feed.events import prepare
from featurekit.feed.settle import write
from featurekit.online.lookup.service import OnlineService
from featurekit.online.store.redis import RedisStore
from featurekit.online.store.server import scratch_redis
from featurekit.project.deployment import promote, publish, set_materialized

RAW = "raw redis-py"
KEY = Entity("key", {"key": int})
SECOND = 1_000_000
TASKS = 16
THREADS = 4


@dataclass(frozen=True, slots=True)
class Size:
    """Entities in the store, calls of a stretch, events of the longest window of the curve."""

    entities: int
    calls: int
    events: int


SIZES = {
    "smoke": Size(200, 150, 1_000),
    "medium": Size(2_000, 1_000, 10_000),
    "full": Size(20_000, 5_000, 100_000),
}


def results(size: str, runs: int) -> Iterator[Result | Curve]:
    """Every kind of lookup beside its peer."""
    with scratch_redis() as url:
        bench = Bench(url, SIZES[size], runs)
        try:
            for part in (one_view, five_views, many, windows, request_time, throughput, memory):
                yield from part(bench)
            for curve in (by_features, by_views, by_entities, by_events):
                yield curve(bench)
        finally:
            bench.close()


# --- what is asked --------------------------------------------------------------------------------


class Bench:
    """The server, and what all parts share."""

    def __init__(self, url: str, size: Size, runs: int) -> None:
        self.url, self.size, self.runs = url, size, runs
        self.store, self.raw = RedisStore(url), redis.Redis.from_url(url)
        self.number = itertools.count()

    def close(self) -> None:
        """Let go of connections."""
        self.store.close()
        self.raw.close()

    def serve(self, service: Service) -> OnlineService:
        """The service, published and live."""
        publish(self.store, "bench", service)
        for view in service.views:
            set_materialized(self.store, "bench", view, time.time_ns() // 1000)
        promote(self.store, "bench")
        return OnlineService(self.store, "bench", service.name)

    def calls(self, many: int = 1) -> int:
        """Calls of a stretch, of lookups of so many rows."""
        return max(20, self.size.calls // (1 if many < 20 else many // 10))


class Wide:
    """A service of views of floats with one row an entity, and the peer's copy of its values."""

    def __init__(
        self, bench: Bench, widths: Sequence[int], entities: int, more: Sequence[Any] = ()
    ) -> None:
        self.bench, self.number, self.entities = bench, next(bench.number), entities
        self.columns = [[f"v{v}_f{i}" for i in range(w)] for v, w in enumerate(widths)]
        self.names = [column for columns in self.columns for column in columns]
        self.packs = [struct.Struct(f"<{width}d") for width in widths]
        views = [self._view(v, columns) for v, columns in enumerate(self.columns)]
        request = {"asked": float} if more else {}
        service = FeatureService(f"s{self.number}", features=[*views, *more], request=request)
        self.service = compile_service(service)
        chance, self.now = random.Random(self.number), time.time_ns() // 1000
        self.values = [
            [tuple(chance.random() for _ in range(w)) for w in widths] for _ in range(entities)
        ]
        for v, view in enumerate(self.service.views):
            rows = [
                {"key": key, "__ts": self.now, "__created": self.now}
                | dict(zip(self.columns[v], values[v], strict=True))
                for key, values in enumerate(self.values)
            ]
            write(bench.store, prepare("bench", [view], rows))
        packed = {
            self.raw_key(v, key): pack.pack(*values[v])
            for key, values in enumerate(self.values)
            for v, pack in enumerate(self.packs)
        }
        bench.raw.mset(packed)
        self.online = bench.serve(self.service)

    def _view(self, v: int, columns: Sequence[str]) -> FeatureView:
        schema = {"key": int, **dict.fromkeys(columns, float)}
        name = f"view{self.number}_{v}"
        source = EventSource(
            f"{name}_source", path="none.parquet", schema=schema, timestamp_field="at"
        )
        features = {column: column for column in columns}
        return FeatureView(name, entities=[KEY], source=source, features=features)

    def raw_key(self, v: int, key: int) -> bytes:
        """The key of the peer's string."""
        return b"raw%d_%d:%d" % (self.number, v, key)

    def draws(self, many: int) -> Iterator[list[int]]:
        """Which entities to ask about, others at each call and the same for each contender."""
        chance = random.Random(many)
        return itertools.cycle(
            [[chance.randrange(self.entities) for _ in range(many)] for _ in range(64)]
        )

    def by_turns(
        self, contenders: dict[str, Callable[[list[int]], Any]], many: int
    ) -> dict[str, Callable[[], object]]:
        """Each contender as a call that asks about its next entities."""

        def call(contender: Callable[[list[int]], Any]) -> Callable[[], object]:
            draws = self.draws(many)
            return lambda: contender(next(draws))

        return {name: call(contender) for name, contender in contenders.items()}

    def ours(self, keys: list[int]) -> list[dict[str, Any]]:
        """The features of some entities, one dict each, by featurekit."""
        return self.online.get([{"key": key} for key in keys]).to_pylist()

    def peer(self, keys: list[int]) -> list[dict[str, Any]]:
        """The same by GET or MGET."""
        names = self.names
        if len(self.packs) == 1:
            unpack = self.packs[0].unpack
            if len(keys) == 1:
                found = [self.bench.raw.get(self.raw_key(0, keys[0]))]
            else:
                found = self.bench.raw.mget([self.raw_key(0, key) for key in keys])
            return [dict(zip(names, unpack(one), strict=True)) for one in found]
        views = range(len(self.packs))
        found = self.bench.raw.mget([self.raw_key(v, key) for key in keys for v in views])
        each = iter(found)
        return [
            dict(zip(names, [x for p in self.packs for x in p.unpack(next(each))], strict=True))
            for _ in keys
        ]

    def matrix(self, keys: list[int]) -> np.ndarray[Any, Any]:
        """The values of one view as a matrix, a row for each entity, by MGET."""
        found = self.bench.raw.mget([self.raw_key(0, key) for key in keys])
        return np.frombuffer(b"".join(found), dtype="<f8").reshape(len(keys), -1)

    def check(self, keys: list[int]) -> None:
        """Both give these values."""
        wanted = [
            dict(zip(self.names, itertools.chain(*self.values[key]), strict=True)) for key in keys
        ]
        assert self.peer(keys) == wanted
        assert self.ours(keys) == [{"key": k, **row} for k, row in zip(keys, wanted, strict=True)]

    def feast(self, folder: Path, keys: list[int]) -> Callable[[], object]:
        """A call of Feast's for these entities; its answer is ours."""
        at = dt.datetime.fromtimestamp(self.now / 1e6, dt.UTC)
        files = {}
        for v, columns in enumerate(self.columns):
            by_column = zip(*(values[v] for values in self.values), strict=True)
            table = {"key": list(range(self.entities)), "event_timestamp": [at] * self.entities}
            table |= dict(zip(columns, map(list, by_column), strict=True))
            files[f"view{v}"] = folder / f"{v}.parquet", columns
            pq.write_table(pa.table(table), files[f"view{v}"][0])
        feast = feast_peer.Feast(folder, files, redis_url=self.bench.url)
        feast.materialize(at - dt.timedelta(days=1), at + dt.timedelta(seconds=1))
        call = feast.online(keys)
        found, wanted = call(), self.online.get([{"key": key} for key in keys]).to_dict()
        assert {name: found[name] for name in wanted} == wanted
        return call


def compared(
    work: str, wide: Wide, contenders: dict[str, Callable[[list[int]], Any]], *, rows: int,
    p50: float, p99: float | None = None, note: str = "",
) -> Iterator[Result]:  # fmt: skip
    """The latency of contenders who ask about so many entities a call."""
    bench = wide.bench
    works = wide.by_turns(contenders, rows)
    size = f"{rows:,} × {len(wide.names)}"
    with tempfile.TemporaryDirectory() as folder:
        if feast_peer.installed():
            works[feast_peer.NAME] = wide.feast(Path(folder), next(wide.draws(rows)))
        found = latencies(works, bench.calls(rows), stretches=bench.runs)
    for at, goal in (("p50", p50), ("p99", p99)):
        if goal is not None:
            taken = {name: getattr(latency, at) for name, latency in found.items()}
            yield Result(f"{work}, {at}", size, "s", taken, RAW, goal, note)


# --- latency --------------------------------------------------------------------------------------


def one_view(bench: Bench) -> Iterator[Result]:
    """One entity, 50 floats of one view: one GET."""
    wide = Wide(bench, [50], bench.size.entities)
    wide.check([0, 1])
    wide.check([2])
    contenders = {OURS: wide.ours, RAW: wide.peer}
    yield from compared("lookup, one view", wide, contenders, rows=1, p50=1.25, p99=1.5)


def five_views(bench: Bench) -> Iterator[Result]:
    """One entity, ten floats of each of five views: one MGET of five strings."""
    wide = Wide(bench, [10] * 5, bench.size.entities)
    wide.check([0, 1])
    contenders = {OURS: wide.ours, RAW: wide.peer}
    yield from compared("lookup, five views", wide, contenders, rows=1, p50=1.3)


def many(bench: Bench) -> Iterator[Result]:
    """A hundred entities, 50 floats: as dicts, as an Arrow table, as NumPy arrays."""
    wide = Wide(bench, [50], bench.size.entities)
    some = next(wide.draws(100))
    wide.check(some)
    contenders = {OURS: wide.ours, RAW: wide.peer}
    yield from compared("lookup, many entities, as dicts", wide, contenders, rows=100, p50=1.5)

    def get(keys: list[int]) -> Any:
        return wide.online.get([{"key": key} for key in keys])

    matrix = wide.matrix(some)
    table, arrays = get(some).to_arrow(), get(some).to_numpy()
    for i, name in enumerate(wide.names):
        assert table[name].to_numpy().tolist() == matrix[:, i].tolist()
        assert arrays[name].tolist() == matrix[:, i].tolist()
    kinds = {"Arrow": lambda keys: get(keys).to_arrow(), "NumPy": lambda keys: get(keys).to_numpy()}
    for kind, ours in kinds.items():
        works = wide.by_turns({OURS: ours, RAW: wide.matrix}, 100)
        found = latencies(works, bench.calls(100), stretches=bench.runs)
        taken = {name: latency.p50 for name, latency in found.items()}
        note = "the peer gives one matrix, by rows; ours has an array for each feature"
        yield Result(
            f"lookup, many entities, to {kind}, p50", "100 × 50", "s", taken, RAW, 1.3, note
        )


class Windows:
    """A service of exact windows over events an instant apart, and the key of its one state."""

    def __init__(self, bench: Bench, events: int) -> None:
        number = next(bench.number)
        schema = {"key": int, "money": float}
        source = EventSource(
            f"events{number}", path="none.parquet", schema=schema, timestamp_field="at"
        )
        features: dict[str, Any] = {}
        for share in (10, 3, 1):
            window = f"{2 * events // share}s"
            features |= {
                f"sum_{share}": Sum("money", window=window),
                f"count_{share}": Count(window=window),
                f"max_{share}": Max("money", window=window),
            }
        view = FeatureView(f"w{number}", entities=[KEY], source=source, features=features)
        service = compile_service(FeatureService(f"s{number}", features=[view]))
        chance, now = random.Random(events), time.time_ns() // 1000
        self.rows = [
            {"key": 1, "money": chance.randrange(10**6) / 100, "__ts": at, "__created": at}
            for at in (now - (2 * i + 1) * SECOND for i in range(events))
        ]
        self.online = bench.serve(service)
        write(bench.store, prepare("bench", service.views, self.rows))
        (state,) = bench.store.keys(b"fk:bench:state:%b:" % view.name.encode())
        self.bench, self.state = bench, state
        # The newest arrival: the windows hold all, a third and a tenth of the events.
        self.as_of = dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(
            microseconds=self.rows[0]["__ts"]
        )
        (found,) = self.ours()
        for share in (10, 3, 1):
            low = self.rows[0]["__ts"] - 2 * events // share * SECOND
            inside = [row["money"] for row in self.rows if row["__ts"] > low]
            assert found[f"count_{share}"] == len(inside)
            assert found[f"max_{share}"] == max(inside)
            assert abs(found[f"sum_{share}"] - sum(inside)) <= 1e-9 * sum(inside)

    def ours(self) -> list[dict[str, Any]]:
        """Nine features."""
        return self.online.get([{"key": 1}], self.as_of).to_pylist()

    def peer(self) -> Any:
        """The bytes of the state."""
        return self.bench.raw.get(self.state)


def windows(bench: Bench) -> Iterator[Result]:
    """Nine aggregates over a thousand events, which one string holds."""
    asked = Windows(bench, 1_000)
    works = {OURS: asked.ours, RAW: asked.peer}
    found = latencies(works, bench.calls(), stretches=bench.runs)
    taken = {name: latency.p50 for name, latency in found.items()}
    note = "the peer only gets the bytes; sums are exact"
    yield Result("lookup, 9 windows, p50", "1,000 events", "s", taken, RAW, 2.0, note)


def request_time(bench: Bench) -> Iterator[Result]:
    """Ten features that are computed of a request's field and a stored feature."""

    def of(i: int) -> Any:
        def made(asked: float, v0_f0: float | None) -> float:
            return asked if v0_f0 is None else asked * 2.0 + v0_f0

        made.__name__ = f"made_{i}"
        return feature(made)

    plain = Wide(bench, [2], bench.size.entities)
    wide = Wide(bench, [2], bench.size.entities, more=[of(i) for i in range(10)])
    keys = next(plain.draws(100))
    rows = [{"key": key, "asked": 0.5} for key in keys]
    found = wide.online.get(rows).columns["made_3"]
    assert found == [1.0 + wide.values[key][0][0] for key in keys]

    works = {
        "with": lambda: wide.online.get(rows).to_dict(),
        "without": lambda: plain.online.get([{"key": key} for key in keys]).to_dict(),
    }
    taking = latencies(works, bench.calls(100), stretches=bench.runs)
    each = (taking["with"].p50 - taking["without"].p50) / (10 * len(rows))
    taken = {OURS: max(each, 1e-9), "two microseconds": 2e-6}
    yield Result(
        "request-time feature, each", "100 × 10", "s", taken, "two microseconds", 1.0,
        "what a lookup takes longer with ten of them, by rows and features",
    )  # fmt: skip


# --- throughput and memory ------------------------------------------------------------------------


def throughput(bench: Bench) -> Iterator[Result]:
    """Lookups a second of one entity and 50 floats in one process, three ways."""
    wide = Wide(bench, [50], bench.size.entities)
    calls = 4 * bench.size.calls
    keys = [key for (key,) in itertools.islice(wide.draws(1), 64)] * (calls // 64 + 1)
    keys = keys[:calls]

    def plain(one: Callable[[list[int]], Any]) -> None:
        for key in keys:
            one([key])

    def threads(one: Callable[[list[int]], Any]) -> None:
        def run(first: int) -> None:
            for key in keys[first::THREADS]:
                one([key])

        started = [threading.Thread(target=run, args=(i,)) for i in range(THREADS)]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()

    for way, run in (("one thread", plain), (f"{THREADS} threads", threads)):
        works = {OURS: lambda run=run: run(wide.ours), RAW: lambda run=run: run(wide.peer)}
        yield rates(f"lookups, {way}", calls, interleaved(works, bench.runs))

    with asyncio.Runner() as runner:
        client = redis.asyncio.Redis.from_url(bench.url)
        names, unpack = wide.names, wide.packs[0].unpack

        async def ours(key: int) -> Any:
            return (await wide.online.get_async([{"key": key}])).to_pylist()

        async def peer(key: int) -> Any:
            found = await client.get(wide.raw_key(0, key))
            return [dict(zip(names, unpack(found), strict=True))]

        async def tasks(one: Callable[[int], Any]) -> None:
            async def run_some(first: int) -> None:
                for key in keys[first::TASKS]:
                    await one(key)

            await asyncio.gather(*(run_some(i) for i in range(TASKS)))

        assert runner.run(ours(1)) == [{"key": 1} | runner.run(peer(1))[0]]
        works = {
            OURS: lambda: runner.run(tasks(ours)),
            RAW: lambda: runner.run(tasks(peer)),
        }
        yield rates(f"lookups, asyncio, {TASKS} tasks", calls, interleaved(works, bench.runs))
        runner.run(bench.store.close_async())
        runner.run(client.aclose())


def rates(work: str, calls: int, taken: dict[str, float]) -> Result:
    """Calls a second."""
    per_second = {name: calls / seconds for name, seconds in taken.items()}
    return Result(work, f"{calls:,} × 50", "1/s", per_second, RAW, 0.8)


def memory(bench: Bench) -> Iterator[Result]:
    """What Redis counts for an entity's key and value."""
    wide = Wide(bench, [50], bench.size.entities)
    states = bench.store.keys(b"fk:bench:state:%b:" % wide.service.views[0].name.encode())
    held = {
        OURS: sum(bench.store.sizes(list(states))) / wide.entities,
        RAW: sum(bench.store.sizes([wide.raw_key(0, k) for k in range(wide.entities)]))
        / wide.entities,
    }
    yield Result("memory of an entity", "1 × 50", "B", held, RAW, 1.15)


# --- growth ---------------------------------------------------------------------------------------


def _curve(
    bench: Bench, work: str, x: str, asked: Sequence[tuple[int, Wide, int]], note: str = ""
) -> Curve:
    """Lookups of one Wide after the other, of so many entities a call, by what grows."""
    taken: dict[str, list[float]] = {OURS: [], RAW: []}
    for _, wide, rows in asked:
        wide.check(next(wide.draws(rows)))
        works = wide.by_turns({OURS: wide.ours, RAW: wide.peer}, rows)
        found = latencies(works, max(10, bench.calls(rows) // 4), stretches=3)
        for name in taken:
            taken[name].append(found[name].p50)
    return Curve(work, x, [at for at, _, _ in asked], "s", taken, note)


def by_features(bench: Bench) -> Curve:
    """More features of one view."""
    asked = [(n, Wide(bench, [n], 100), 1) for n in (1, 10, 50, 100, 200)]
    return _curve(bench, "lookup of one entity", "features of one view", asked)


def by_views(bench: Bench) -> Curve:
    """More views of ten features."""
    asked = [(n, Wide(bench, [10] * n, 100), 1) for n in (1, 2, 5, 10, 20)]
    return _curve(bench, "lookup of one entity, ten features a view", "views", asked)


def by_entities(bench: Bench) -> Curve:
    """More entities a request."""
    wide = Wide(bench, [50], bench.size.entities)
    asked = [(n, wide, n) for n in (1, 10, 30, 100, 300, 1_000)]
    return _curve(bench, "lookup of 50 features, as dicts", "entities of a request", asked)


def by_events(bench: Bench) -> Curve:
    """More events in the longest window."""
    xs = [n for n in (10, 100, 1_000, 10_000, 100_000) if n <= bench.size.events]
    taken: dict[str, list[float]] = {OURS: [], RAW: []}
    for n in xs:
        asked = Windows(bench, n)
        works = {OURS: asked.ours, RAW: asked.peer}
        found = latencies(works, bench.calls() // 4, stretches=3)
        for name in taken:
            taken[name].append(found[name].p50)
    note = "from 1,025 events on the peer gets the head, we the blocks at the ends of windows too"
    return Curve("lookup of 9 windows", "events in the window", xs, "s", taken, note)
