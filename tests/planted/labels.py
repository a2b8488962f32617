"""Asks for labels of drawn rows, at the borders of their windows and arrivals, and compares them
with the oracle (T10): no other path of featurekit computes labels."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from agreeing import ONE, late, source
from ahead import Ahead, ahead_of
from awkward import DAY, HOUR
from paths import connect

from featurekit import Delay, FeatureView, feature
from featurekit.aggregates import Count, LastN, Sum

AHEAD = {"window": "1d", "ahead": True}
FAR = 20 * DAY


@feature
def left(rows: int) -> bool:
    return rows == 0


LABELS = {
    "rows": Count(**AHEAD),
    "left": left,
    "amount": Sum("amount", window="1h", ahead=True),
    "settled": Count(**AHEAD, settle="1h"),
    "lasts": LastN("amount", n=4, window="1d", ahead=True),
}
STAMPED = {"created_timestamp_column": "arrived"}
VERSIONS = {"key": int, "amount": float, "id": int, "op": str}
delayed = source("delayed", arrives=Delay("1h"))
changed = source("changed", VERSIONS, **STAMPED, event_id="id", op="op")
app = source("app", {"key": int | None, "price": float}, **STAMPED)
VIEWS: dict[str, FeatureView] = {
    "late": ahead_of(ONE, late, LABELS),
    "delayed": ahead_of(ONE, delayed, LABELS),
    "changed": ahead_of(ONE, changed, LABELS),
    "united": ahead_of(ONE, [{app: {"amount": "price"}}, late], LABELS),
}


@dataclass(frozen=True)
class Compared:
    """How many labels were compared, and the view and the label that differed first, if any did."""

    values: int
    differing: str = ""


def _rows(of: Any, rng: random.Random) -> list[dict[str, Any]]:
    """Rows of a source, some of which lie a window apart, or a microsecond less or more."""
    rows = []
    for number in range(rng.randint(0, 9)):
        stamp = rng.choice((0, HOUR, DAY, 2 * DAY)) + rng.choice((-1, 0, 1))
        wait = HOUR if of.arrives else rng.choice((0, 0, 1, HOUR, DAY, 8 * DAY))
        row: dict[str, Any] = dict.fromkeys(of.schema)
        row |= {"key": rng.choice((1, 1, 2)), "__ts": stamp, "__created": stamp + wait}
        row |= {n: float(2**number) for n in ("amount", "price") if n in of.schema}
        row |= {"key2": ""} if "key2" in of.schema else {}
        if "op" in of.schema:
            row |= {"id": rng.randint(1, 3), "op": rng.choice(("upsert", "upsert", "delete"))}
        rows.append(row)
    return rows


def _settling(of: Any) -> dict[str, Any]:
    """A row of nobody who is asked for that arrives long after all others."""
    row: dict[str, Any] = dict.fromkeys(of.schema)
    row |= {n: v for n, v in {"key2": "", "id": 99, "op": "upsert"}.items() if n in of.schema}
    return row | {"key": 9, "__ts": FAR, "__created": FAR + (HOUR if of.arrives else 0)}


def worlds(view: FeatureView, rng: random.Random) -> Iterator[tuple[Any, Any, int]]:
    """Rows by source, questions, and the instant until which rows are known."""
    while True:
        rows = {of.name: _rows(of, rng) for of in view.event_sources}
        for of in view.event_sources:
            rows[of.name] += [_settling(of)] * rng.choice((0, 1, 1, 1))
        stamps = sorted({0, *(r[n] for some in rows.values() for r in some
                              for n in ("__ts", "__created"))})  # fmt: skip
        borders = [s - w - h for s in stamps for w in (0, HOUR, DAY) for h in (0, HOUR)]
        around = sorted({border + us for border in borders for us in (-1, 0, 1)})
        asked = [({"key": rng.choice((1, 2))}, t) for t in rng.sample(around, rng.choice((2, 12)))]
        known_at = rng.choice([2 * FAR, 2 * FAR, *(s + us for s in stamps for us in (-1, 0, 1))])
        yield rows, asked, known_at


def compare(*, seed: int, most: int) -> Compared:
    """Compare up to `most` labels, or up to the first world with one that differs."""
    compared = 0
    with connect() as con:
        drawn = {name: worlds(view, random.Random(seed)) for name, view in VIEWS.items()}
        for name in itertools.cycle(VIEWS):
            rows, asked, known_at = next(drawn[name])
            ahead = Ahead(con, VIEWS[name], rows)
            found, expected = ahead.offline(asked, known_at), ahead.expected(asked, known_at)
            ahead.close()
            compared += sum(map(len, expected))
            for ours, theirs in zip(found, expected, strict=True):
                for label in theirs:
                    if ours[label] != theirs[label]:
                        return Compared(compared, f"{name}__{label}")
            if compared >= most:
                break
    return Compared(compared)
