"""Online states of exact windows by events per window: bytes, time of a lookup, time of a push."""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable

from featurekit.aggregates import Aggregate, Count, CountDistinct, Last, Max, Mean, StdDev, Sum
from featurekit.compiled import View, compile_view
from featurekit.define import Entity, EventSource, FeatureView
from featurekit.online.lookup import ViewLookup
from featurekit.online.state import State, decode_state

SOURCE = EventSource(
    "events", path="events.parquet", schema={"key": int, "money": float}, timestamp_field="at"
)
KINDS: dict[str, dict[str, Aggregate]] = {
    "Count": {"f": Count(window="lifetime")},
    "Sum": {"f": Sum("money", window="lifetime")},
    "Mean": {"f": Mean("money", window="lifetime")},
    "StdDev": {"f": StdDev("money", window="lifetime")},
    "Max": {"f": Max("money", window="lifetime")},
    "Last": {"f": Last("money", window="lifetime")},
    "CountDistinct": {"f": CountDistinct("money", window="lifetime")},
}
S = 1_000_000


def view(features: dict[str, Aggregate]) -> View:
    entity = Entity("key", {"key": int})
    return compile_view(FeatureView("view", entities=[entity], source=SOURCE, features=features))


def median_us(work: Callable[[], object], runs: int) -> float:
    taken = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return round(1e6 * statistics.median(taken), 1)


def one(plan: View, events: int, runs: int) -> dict[str, float]:
    """A state of `events` events a second apart, asked as of the newest one, and given one more."""
    chance = random.Random(events)
    state = State(plan)
    slots = len(plan.slots)
    state.add((i * S, i * S, (chance.randrange(10**6) / 100,) * slots) for i in range(events))
    blob = state.encode()
    lookup = ViewLookup(plan)
    new = (events * S, events * S, (0.5,) * slots)

    def push() -> None:
        taken = decode_state(plan, blob)
        taken.add([new])
        taken.encode()

    return {
        "bytes": len(blob),
        "bytes_per_event": round(len(blob) / events, 1),
        "lookup_us": median_us(lambda: lookup.answer(blob, events * S), runs),
        "push_us": median_us(push, max(1, runs // 5)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, nargs="*", default=[10, 100, 1_000, 10_000, 100_000])
    parser.add_argument("--runs", type=int, default=25)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = [
        {"of": name, "events": events, **one(view(features), events, given.runs)}
        for name, features in KINDS.items()
        for events in given.events
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
