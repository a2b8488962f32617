"""States of orders, filled in several ways."""

from __future__ import annotations

import math
import random
from typing import Any

from agreeing import ONE, PAIR, late, positive, ratio, source, view
from awkward import DAY, HOUR, SCHEMA
from paths import Row, service_of

from featurekit.aggregates import (
    Count,
    CountDistinct,
    Last,
    LastN,
    Max,
    Mean,
    Quantile,
    StdDev,
    Sum,
    TimeSince,
    ValueCounts,
)
from featurekit.core.status import NEVER
from featurekit.online.store.memory import MemoryStore

HISTORY = "40d"  # longer than the events' days and their lateness: every instant can be asked
STATES, BLOCKS = b"fk:tests:state:", b"fk:tests:block:"

WINDOWS: dict[str, Any] = {
    "rows": Count(windows=["1h", "1d"], hop="7h"),
    "sum": Sum("amount", windows=["1h", "1d", "8d"]),
    "sum_where": Sum("amount", window="1d", where=positive, offset="1h"),
    "ratios": Sum(ratio, window="7d"),
    "mean": Mean("amount", window="1d", hop="1h", default=-0.0),
    "spread": StdDev("amount", window="1d"),
    "most": Max("amount", window="1d", offset="1d"),
    "median": Quantile("amount", q=0.5, window="1d"),
    "distinct": CountDistinct("amount", window="7d", where="flag"),
    "last": Last("name", window="1d"),
    "three": LastN("qty", n=3, window="7d", hop="1h"),
    "names": ValueCounts("name", window="1d"),
    "since": TimeSince(window="7d", where="flag"),
}
ROW: dict[str, Any] = {"amount": "amount", "name": "name", "flag": "flag", "ratio": ratio}

corrected = source(
    "corrected", {"id": int, "op": str, **SCHEMA}, created_timestamp_column="arrived",
    event_id="id", op="op", dedupe_within="60d",
)  # fmt: skip
copied = source(
    "copied", {"id": int, **SCHEMA}, created_timestamp_column="arrived", event_id="id",
    dedupe_within="60d",
)  # fmt: skip

LATE = service_of(
    view("windows", ONE, late, WINDOWS, history=HISTORY),
    view("latest", PAIR, late, ROW, ttl="1d", history=HISTORY),
)
SERVICES = {
    "every instant": LATE,
    "now only": service_of(
        view("windows", ONE, late, WINDOWS),
        view("latest", PAIR, late, ROW, ttl="1d"),
    ),
    "for a lifetime": service_of(
        view("windows", PAIR, late, {"sum": Sum("amount", window="lifetime"), **WINDOWS}),
        view("latest", ONE, late, ROW),
    ),
    "copies": service_of(
        view("windows", ONE, copied, WINDOWS), view("latest", PAIR, copied, ROW, ttl="1d")
    ),
    "corrections": service_of(
        view("windows", PAIR, corrected, WINDOWS), view("latest", ONE, corrected, ROW, ttl="1d")
    ),
}
AMOUNTS = (0.1, -0.1, 1 / 3, 1e16, -1e16, 1.0, 12.75, 1e-308, 5e-324, -0.0)
LARGE = (*AMOUNTS, 1e308, -1e308, 1.7976931348623157e308)
SPECIAL = (*LARGE, math.inf, -math.inf, math.nan)


def hostile(seed: int, events: int = 240) -> list[Row]:
    """Events of four entities over ten days, most of one of them, in any order: ties, whole copies,
    an hour to eight days late or known beforehand, erring (qty 0), null keys and values."""
    chance = random.Random(seed)
    rows: list[Row] = []
    for _ in range(events):
        if rows and chance.random() < 0.05:
            rows.append(dict(chance.choice(rows)))
            continue
        key = chance.choice((1, 1, 1, 1, 2, 3, 4, None))
        # NaN and the like everywhere would leave no other sums.
        amounts = {1: AMOUNTS, 2: LARGE}.get(key or 0, SPECIAL)
        ts = chance.choice((0, 1, HOUR, chance.randrange(HOUR))) + HOUR * chance.randrange(240)
        delay = chance.choice((0, 0, 0, 1, HOUR, DAY, 8 * DAY, -HOUR))
        row = {"key": key, "key2": chance.choice("ab"), "amount": chance.choice(amounts),
               "qty": chance.choice((0, 1, 2, -7)), "flag": chance.choice((True, False, None)),
               "name": chance.choice(("a", "", "ß", None)), "__ts": ts, "__created": ts + delay,
               "id": chance.randrange(events // 2),
               "op": chance.choice(("upsert", "upsert", "delete"))}  # fmt: skip
        rows.append(row)
    for key, newest in newest_arrivals(rows).items():
        # On the edge of the longest window as of the newest arrival, and 1 µs inside it.
        edges = [{"__ts": t, "__created": t} for t in (newest - 8 * DAY, newest - 8 * DAY + 1)]
        common = {"key": key, "key2": "a", "amount": 0.5, "qty": 1, "op": "upsert"}
        rows += [
            {**rows[0], **common, **edge, "id": -len(rows) - n} for n, edge in enumerate(edges)
        ]
    chance.shuffle(rows)
    return rows


def newest_arrivals(rows: list[Row]) -> dict[Any, int]:
    """Of each entity that is one: the oldest instant that its states answer without a history."""
    found: dict[Any, int] = {}
    for row in rows:
        if row["key"] is not None:
            found[row["key"]] = max(row["__created"], found.get(row["key"], NEVER))
    return found


def states(store: MemoryStore) -> dict[bytes, bytes]:
    """What lookups read: memories of ids are another matter, since a backfill lets go of some."""
    return {k: v for k, v in store.values.items() if k.startswith((STATES, BLOCKS))}
