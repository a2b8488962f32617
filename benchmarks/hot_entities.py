"""Lookups of one busy entity: CPU by aggregate and events in the window, beside the raw MGET.

Each aggregate has a view of its own with one window that begins amidst a block. The raw MGET reads
the same keys with the same client in the same run. What is compared is CPU of this process, so a
server that is slow to wake counts for nothing.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.measure import OURS, Curve, Result
from featurekit import aggregates as fk
from featurekit.aggregates import Aggregate
from featurekit.core.keys import state_key, state_prefix
from featurekit.define.compile_view import compile_view
from featurekit.define.definitions import Entity, EventSource, FeatureView
from featurekit.define.plan import View
from featurekit.online.lookup.blocks import needed
from featurekit.online.lookup.view import ViewLookup
from featurekit.online.state.blocks import block_key, is_head
from featurekit.online.state.seal import opened_state
from featurekit.online.state.state import Event
from featurekit.online.state.update import add_events
from featurekit.online.store.redis import RedisStore
from featurekit.online.store.server import scratch_redis

SOURCE = EventSource(
    "events",
    path="events.parquet",
    schema={"key": int, "whole": int, "real": float, "text": str, "good": bool},
    timestamp_field="at",
)
DISTINCT = 20_000
S = 1_000_000
KINDS: dict[str, Callable[[str], Aggregate]] = {
    "Sum": lambda window: fk.Sum("real", window=window),
    "LastN": lambda window: fk.LastN("text", n=10, window=window),
    "FirstN": lambda window: fk.FirstN("real", n=10, window=window),
    "Any": lambda window: fk.Any("good", window=window),
    "All": lambda window: fk.All("good", window=window),
    "TimeSince": lambda window: fk.TimeSince(window=window, where="good"),
    "CountDistinct int": lambda window: fk.CountDistinct("whole", window=window),
    "CountDistinct float": lambda window: fk.CountDistinct("real", window=window),
    "CountDistinct str": lambda window: fk.CountDistinct("text", window=window),
    "ApproxCountDistinct": lambda window: fk.ApproxCountDistinct("text", window=window),
    "ApproxQuantile": lambda window: fk.ApproxQuantile("real", q=0.9, window=window),
    "Quantile int": lambda window: fk.Quantile("whole", q=0.9, window=window),
    "Quantile float": lambda window: fk.Quantile("real", q=0.9, window=window),
    "TopK str": lambda window: fk.TopK("text", k=10, window=window),
    "ValueCounts str": lambda window: fk.ValueCounts("text", window=window),
}
GOALS_MS = dict.fromkeys(("LastN", "FirstN", "Any", "All", "TimeSince"), 0.6)
GOALS_MS |= dict.fromkeys(("CountDistinct int", "CountDistinct float", "CountDistinct str"), 3.0)
GOALS_MS |= {"ApproxCountDistinct": 1.5, "ApproxQuantile": 1.5}
GOALS_MS |= {"Quantile int": 5.0, "Quantile float": 5.0, "TopK str": 5.0}


def view_of(kind: Callable[[str], Aggregate], events: int) -> View:
    """A view of one aggregate over nearly all of `events` events, which are a second apart."""
    entity = Entity("key", {"key": int})
    features = {"value": kind(f"{events - 60}s")}
    return compile_view(FeatureView("view", entities=[entity], source=SOURCE, features=features))


def events_of(plan: View, events: int) -> list[Event]:
    """Events a second apart, whose values are `DISTINCT` ones."""
    chance = random.Random(events)
    made = []
    for i in range(events):
        value = chance.randrange(DISTINCT)
        row = {"whole": value, "real": value / 7, "text": f"item-{value}", "good": i % 3 == 0}
        slots = tuple(row[slot.column] for slot in plan.slots if slot.column is not None)
        made.append((i * S, i * S, slots))
    return made


def cpu(work: Callable[[], object], runs: int) -> float:
    """The median CPU of this process, in seconds."""
    taken = []
    for _ in range(runs):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return statistics.median(taken)


class Hot:
    """The state of one entity in a store, and a lookup of it step by step."""

    def __init__(self, store: RedisStore, kind: Callable[[str], Aggregate], events: int) -> None:
        self.store, self.plan = store, view_of(kind, events)
        self.key = state_key(state_prefix("bench", self.plan), b"2:i1")
        self.t = (events - 1) * S
        self.lookup = ViewLookup(self.plan)
        store.client.flushdb()
        made = events_of(self.plan, events)
        add_events(store, [(self.plan, self.key, made[:-1])])
        add_events(store, [(self.plan, self.key, made[-1:])])
        self.keys: list[bytes] = []
        self.look_up()

    def look_up(self) -> Any:
        """One answer, as a lookup makes it; the keys of its blocks are kept."""
        (value,) = self.store.read([self.key])
        blob = opened_state(self.plan, self.key, value)
        if not is_head(blob):
            return self.lookup.answer(blob, self.t)
        state = self.lookup.open(self.key, blob)
        wanted = sorted(needed(state.head, self.t, range(1)))
        self.keys = [block_key(self.key, state.head.name(k)) for k in wanted]
        for k, block in zip(wanted, self.store.read(self.keys) if wanted else [], strict=True):
            state.take(k, block)
        return self.lookup.answer(state, self.t)

    def raw(self) -> Any:
        """The same keys, read and left as they are."""
        read = self.store.read([self.key])
        return read, self.store.read(self.keys) if self.keys else []


EVENTS = {"smoke": (1_000, 10_000), "medium": (1_000, 10_000, 100_000)}
EVENTS["full"] = EVENTS["medium"]


def results(size: str, runs: int) -> Iterator[Result | Curve]:
    """CPU of a lookup by aggregate and events, and of the raw MGET of the same keys."""
    counts = EVENTS[size]
    ours: dict[str, list[float]] = {name: [] for name in KINDS}
    raws: dict[str, list[float]] = {name: [] for name in KINDS}
    with scratch_redis() as url:
        store = RedisStore(url)
        for name, kind in KINDS.items():
            for n in counts:
                hot = Hot(store, kind, n)
                ours[name].append(cpu(hot.look_up, 5 * runs))
                raws[name].append(cpu(hot.raw, 5 * runs))
    for name in KINDS:
        goal = GOALS_MS.get(name)
        yield Result(
            f"{name} over one busy entity, CPU",
            f"{counts[-1]:,} events",
            "s",
            {OURS: ours[name][-1], "raw MGET": raws[name][-1]},
            "raw MGET",
            note="" if goal is None else f"goal at 100,000 events: {goal} ms",
        )
    works = (("a lookup, CPU", ours), ("the raw MGET of its keys, CPU", raws))
    for what, taken in works:
        yield Curve(f"{what}, one busy entity", "events in the window", counts, "s", taken)
