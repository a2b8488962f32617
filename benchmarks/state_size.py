"""Online states of exact windows by events per window: bytes held, bytes that a lookup reads, time
of a lookup and of a push, each with its round trips to a Redis on this machine."""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import time
from collections.abc import Callable, Iterator

from benchmarks.measure import Curve
from featurekit.aggregates import Aggregate, Count, CountDistinct, Last, Max, Mean, StdDev, Sum
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
    "events", path="events.parquet", schema={"key": int, "money": float}, timestamp_field="at"
)
KINDS: dict[str, Callable[[str], Aggregate]] = {
    "Count": lambda window: Count(window=window),
    "Sum": lambda window: Sum("money", window=window),
    "Mean": lambda window: Mean("money", window=window),
    "StdDev": lambda window: StdDev("money", window=window),
    "Max": lambda window: Max("money", window=window),
    "Last": lambda window: Last("money", window=window),
    "CountDistinct": lambda window: CountDistinct("money", window=window),
}
S = 1_000_000


def view(kind: Callable[[str], Aggregate], events: int) -> View:
    """An aggregate over all events, a second apart, and one that begins amidst them."""
    features = {"all": kind(f"{2 * events}s"), "some": kind(f"{max(1, events * 2 // 3)}s")}
    entity = Entity("key", {"key": int})
    return compile_view(FeatureView("view", entities=[entity], source=SOURCE, features=features))


def median_us(work: Callable[[], object], runs: int) -> float:
    taken = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return round(1e6 * statistics.median(taken), 1)


def one(store: RedisStore, plan: View, events: int, runs: int) -> dict[str, float]:
    """A state of `events` events a second apart, asked as of the newest one, and given one more."""
    chance = random.Random(events)
    key = state_key(state_prefix("bench", plan), b"2:i1")
    slots = len(plan.slots)
    made: list[Event] = [
        (i * S, i * S, (chance.randrange(10**6) / 100,) * slots) for i in range(events)
    ]
    store.client.flushdb()
    add_events(store, [(plan, key, made)])
    lookup = ViewLookup(plan)
    now = itertools.count(events)
    read: list[int] = []

    def look_up() -> None:
        (value,) = store.read([key])
        blob = opened_state(plan, key, value)
        read.append(len(value or b""))
        t = (next(now) - 1) * S
        if not is_head(blob):
            lookup.answer(blob, t)
            return
        state = lookup.open(key, blob)
        wanted = sorted(needed(state.head, t, range(len(plan.features))))
        names = [block_key(key, state.head.name(k)) for k in wanted]
        for k, block in zip(wanted, store.read(names), strict=True):
            state.take(k, block)
            read[-1] += len(block or b"")
        lookup.answer(state, t)

    def push() -> None:
        i = next(now)
        add_events(store, [(plan, key, [(i * S, i * S, (0.5,) * slots)])])

    held = sum(len(store.read([k])[0] or b"") for k in store.keys(b""))
    return {
        "bytes": held,
        "bytes_per_event": round(held / events, 1),
        "lookup_us": median_us(look_up, runs),
        "bytes_read": statistics.median(read),
        "push_us": median_us(push, runs),
    }


EVENTS = {
    "smoke": (10, 1_000),
    "medium": (10, 100, 1_000, 10_000),
    "full": (10, 100, 1_000, 10_000, 100_000),
}


def results(size: str, runs: int) -> Iterator[Curve]:
    """What a lookup and a push of one aggregate take by events per window."""
    events = EVENTS[size]
    with scratch_redis() as url:
        store = RedisStore(url)
        found = {
            name: [one(store, view(kind, n), n, 5 * runs) for n in events]
            for name, kind in KINDS.items()
        }
    for what, field in (("a lookup", "lookup_us"), ("a push", "push_us")):
        taken = {name: [row[field] / 1e6 for row in rows] for name, rows in found.items()}
        yield Curve(
            f"{what}, two windows of one aggregate", "events per window", events, "s", taken
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, nargs="*", default=[10, 100, 1_000, 10_000, 100_000])
    parser.add_argument("--runs", type=int, default=25)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with scratch_redis() as url:
        store = RedisStore(url)
        found = [
            {"of": name, "events": n, **one(store, view(kind, n), n, given.runs)}
            for name, kind in KINDS.items()
            for n in given.events
        ]
    if given.json:
        print(json.dumps(found, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*found[0])
    for row in found:
        table.add_row(*(f"{v:,}" if isinstance(v, (int, float)) else v for v in row.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
