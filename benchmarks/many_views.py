"""What many views cost: batches over views of several kinds, and plan and apply of large repos.

A batch asks for a thousand entities of two views of one row each and of a view of windows. The raw
peer reads the same bytes by MGET and leaves them unread. A repo of many views has a service for
every five of them, and is planned and applied to a Redis that has nothing; its limit is what the
same takes for each view where there are fewer.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import OURS, Curve, Result, interleaved
from benchmarks.online_lookups import KEY, RAW, SIZES, Bench
from featurekit import Entity, EventSource, FeatureService, FeatureStore, FeatureView
from featurekit.aggregates import Count, Max, Sum
from featurekit.core.keys import entity_key, state_key, state_prefix
from featurekit.core.types import INT
from featurekit.define.compile_service import compile_service
from featurekit.feed.events import prepare
from featurekit.feed.settle import write
from featurekit.online.lookup.service import OnlineService
from featurekit.online.store.server import scratch_redis

BATCH, EVENTS, COLUMNS, OF_A_SERVICE = 1_000, 20, 10, 5
SECOND = 1_000_000
VIEWS = {
    "smoke": (10, 50, 100),
    "medium": (10, 50, 100, 500),
    "full": (10, 50, 100, 500, 1_000),
}
WIDTHS = {"smoke": (100, 500), "medium": (100, 500, 2_000), "full": (100, 500, 2_000, 5_000)}


def results(size: str, runs: int) -> Iterator[Result | Curve]:
    """Each beside its peer or its limit."""
    with scratch_redis() as url:
        bench = Bench(url, SIZES[size], runs)
        try:
            yield from mixed(bench)
        finally:
            bench.close()
    yield from repos(VIEWS[size])
    yield columns(WIDTHS[size])


# --- a batch over views of several kinds ----------------------------------------------------------


class Mixed:
    """Two views of a row of floats and one of windows, of the same entities."""

    def __init__(self, bench: Bench) -> None:
        self.bench, number = bench, next(bench.number)
        self.chance, self.now = random.Random(number), time.time_ns() // 1000
        plain = [self._plain(number, v) for v in range(2)]
        windows = self._windows(number)
        self.online = {
            name: self._served(f"{name}{number}", views)
            for name, views in (("plain", plain), ("windows", [windows]),
                                ("mixed", [*plain, windows]))
        }  # fmt: skip
        keys = list(range(BATCH))
        self.chance.shuffle(keys)
        self.rows = [{"key": key} for key in keys]
        self.keys = [
            state_key(state_prefix("bench", view), entity_key([(INT, key)]))
            for view in self.online["mixed"].current().service.views
            for key in keys
        ]

    def _plain(self, number: int, v: int) -> FeatureView:
        names = [f"v{v}_f{i}" for i in range(COLUMNS)]
        source = EventSource(
            f"plain{number}_{v}", path="none.parquet", timestamp_field="at",
            schema={"key": int, **dict.fromkeys(names, float)},
        )  # fmt: skip
        features = {name: name for name in names}
        return FeatureView(f"plain{number}_{v}", entities=[KEY], source=source, features=features)

    def _windows(self, number: int) -> FeatureView:
        source = EventSource(
            f"windows{number}", path="none.parquet", schema={"key": int, "money": float},
            timestamp_field="at",
        )  # fmt: skip
        features: dict[str, Any] = {}
        for window in ("10s", "100s", "1000s"):
            features |= {
                f"sum_{window}": Sum("money", window=window),
                f"count_{window}": Count(window=window),
                f"max_{window}": Max("money", window=window),
            }
        return FeatureView(f"windows{number}", entities=[KEY], source=source, features=features)

    def _served(self, name: str, views: Sequence[FeatureView]) -> OnlineService:
        service = compile_service(FeatureService(name, features=list(views)))
        if len(views) == 1 or name.startswith("plain"):
            for view in service.views:
                many = EVENTS if view.kind == "window" else 1
                slots = [slot.column or "" for slot in view.slots]
                rows = [
                    {"key": key, "__ts": at, "__created": at}
                    | {slot: self.chance.random() for slot in slots}
                    for key in range(BATCH)
                    for at in (self.now - (i + 1) * 1000 * SECOND // many for i in range(many))
                ]
                write(self.bench.store, prepare("bench", [view], rows))
        return self.bench.serve(service)

    def ours(self, name: str) -> Callable[[], object]:
        """The features of all entities, by column."""
        online, rows = self.online[name], self.rows
        return lambda: online.get(rows).to_dict()

    def peer(self) -> object:
        """The bytes of the states."""
        return self.bench.raw.mget(self.keys)


def mixed(bench: Bench) -> Iterator[Result]:
    """A view of windows in a batch leaves the others to be read as columns."""
    asked = Mixed(bench)
    apart = asked.ours("plain")() | asked.ours("windows")()  # type: ignore[operator]
    assert asked.ours("mixed")() == apart
    works: dict[str, Callable[[], object]] = {
        OURS: asked.ours("mixed"),
        RAW: asked.peer,
        "plain views alone": asked.ours("plain"),
        "windows alone": asked.ours("windows"),
    }
    size = f"{BATCH:,} × (2 plain + 1 of windows)"
    taken = {name: of / BATCH for name, of in interleaved(works, bench.runs).items()}
    yield Result("lookup of a batch, each entity", size, "s", taken, RAW, None,
                 "the peer only gets the bytes")  # fmt: skip
    spent = {name: of / BATCH for name, of in _cpu(works, 3 * bench.runs).items()}
    note = "CPU, with a share of what MGET takes"
    for what, ours, share, most in (
        ("what two plain views add to it", spent[OURS] - spent["windows alone"], 2 / 3, 4e-6),
        ("what the view of windows adds", spent[OURS] - spent["plain views alone"], 1 / 3, 25e-6),
    ):
        limit = f"{most * 1e6:.0f} µs beyond MGET"
        beside = {OURS: max(ours, 1e-9), limit: most + share * spent[RAW]}
        yield Result(what, size, "s", beside, limit, 1.0, note)


def _cpu(works: dict[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """The least CPU of each, run by turns."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(runs):
        for name, work in works.items():
            begun = time.process_time()
            work()
            taken[name].append(time.process_time() - begun)
    return {name: min(of) for name, of in taken.items()}


# --- repos of many views --------------------------------------------------------------------------


def definitions(views: int) -> list[FeatureService]:
    """Services of five views each; each view has two features and a source of its own."""
    made = []
    for v in range(views):
        source = EventSource(
            f"source{v}", path="none.parquet", schema={"key": int, "a": float, "b": float},
            timestamp_field="at",
        )  # fmt: skip
        features = {f"a{v}": "a", f"b{v}": "b"}
        made.append(FeatureView(f"view{v}", entities=[KEY], source=source, features=features))
    return [
        FeatureService(f"service{i}", features=made[i : i + OF_A_SERVICE])
        for i in range(0, views, OF_A_SERVICE)
    ]


def _applied(made: list[FeatureService], ask: dict[str, Any]) -> tuple[float, float, float]:
    """Seconds of CPU that plan, apply and the first lookup of each service take."""
    with scratch_redis() as url, tempfile.TemporaryDirectory() as folder:
        begun = time.process_time()
        with FeatureStore(
            definitions=made, redis_url=url, state_folder=Path(folder), project="many"
        ) as store:
            store.plan()
            planned = time.process_time()
            store.apply()
            applied = time.process_time()
            for service in made:
                store.get_online_features(service.name, [ask])
            return planned - begun, applied - planned, time.process_time() - applied


def repos(xs: Sequence[int]) -> Iterator[Result | Curve]:
    """Plan, apply and first lookups of repos of more and more views."""
    found = [_applied(definitions(n), {"key": 1}) for n in xs]
    for i, (work, most) in enumerate((("plan", 3.0), ("apply", 8.0), ("first lookups", None))):
        taken = [of[i] for of in found]
        note = f"CPU; a service for every {OF_A_SERVICE} views"
        yield Curve(f"{work} of many views", "views", xs, "s", {OURS: taken}, note)
        if most is not None and xs[-1] >= 500:
            at, limit = xs.index(500), f"{most:.0f} s"
            size = "500 views, 100 services"
            yield Result(
                f"{work} of many views", size, "s", {OURS: taken[at], limit: most}, limit, 1.0, note
            )


def columns(xs: Sequence[int]) -> Curve:
    """Compiling and applying one view of more and more columns."""
    taken: list[float] = []
    for n in xs:
        names = [f"c{i}" for i in range(n)]
        source = EventSource(
            "wide", path="none.parquet", schema={"key": int, **dict.fromkeys(names, float)},
            timestamp_field="at",
        )  # fmt: skip
        features = {name: name for name in names}
        entity = Entity("key", {"key": int})
        view = FeatureView("wide", entities=[entity], source=source, features=features)
        taken.append(sum(_applied([FeatureService("wide", features=[view])], {"key": 1})))
    note = "CPU of plan, apply and a first lookup"
    return Curve("compile and apply of a view", "columns", xs, "s", {OURS: taken}, note)
