"""What exactness costs: each aggregate's window plan, beside what one writes by hand in DuckDB.

    python -m benchmarks.aggregates [--size full|smoke] [--runs N] [--json]

One million labels and ten million events of 100,000 keys over 90 days (smoke: a fiftieth); each row
is a view of that one feature, over 7 days (8 events a window) and over all 90 (50). Times hold the
statistics of the column, too. What is written by hand stands in the same plan: sums and variances
that are inexact, last events by their instants alone, and a histogram in no order; an aggregate
without a like there is held against the sum. Goals are of the money-like column. The columns "wide"
(twelve decades) and "bits" (any finite doubles) are hostile; they are reported.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any, ClassVar

import duckdb

from benchmarks.measure import OURS, Result, arguments, seconds
from benchmarks.report import show
from featurekit import aggregates
from featurekit.aggregates import (
    Aggregate,
    ApproxCountDistinct,
    ApproxQuantile,
    Correlation,
    Count,
    CountDistinct,
    Covariance,
    Entropy,
    ExponentialDecay,
    GeometricMean,
    Kurtosis,
    Last,
    LastN,
    LinearTrend,
    Max,
    Mean,
    Quantile,
    Skew,
    StdDev,
    Sum,
    SumOfSquares,
    TimeSince,
    TopK,
    ValueCounts,
    Variance,
)
from featurekit.aggregates.sql import AggregateSql, InputColumn
from featurekit.core.types import FLOAT, Type, dict_of, list_of
from featurekit.define.compile_view import compile_view
from featurekit.define.definitions import Entity, EventSource, FeatureView
from featurekit.define.plan import View
from featurekit.offline.events import EventRows
from featurekit.offline.session import prepare
from featurekit.offline.windows import make_windows

DAY_US = 86_400_000_000
SPAN_US = 90 * DAY_US

ENTITY = Entity("key", {"key": int})
# money: whole pence. wide: twelve decades. bits: any finite double, by random bits.
COLUMNS = {
    "money": "(hash(i, 2) % 1000000)::DOUBLE / 100",
    "wide": "(hash(i, 2) % 1000000)::DOUBLE / 7 * power(10.0, (hash(i, 3) % 12)::DOUBLE - 6)",
    "bits": "CASE WHEN isfinite(b) THEN b ELSE 1.0 END",
}
BITS = "((hash(i, 2) >> 1)::BIGINT::BIT)::DOUBLE * CASE WHEN hash(i, 3) % 2 = 0 THEN 1 ELSE -1 END"


class ByHand(Aggregate):
    """What one writes by hand in DuckDB, where neither ties nor bits count: what ours are held
    against."""

    __slots__ = ()
    written: ClassVar[str]
    type: ClassVar[Type] = FLOAT.or_none()

    def result(self, item: Type | None) -> Type:
        return self.type

    def over(self, values: Any, item: Type | None) -> None:
        return None

    def sql(self, column: InputColumn | None, keep: str) -> AggregateSql:
        assert column is not None
        return AggregateSql((f"{self.written.format(column.sql)} FILTER ({keep})",), "{0}")


def by_hand(name: str, written: str, type_: Type = FLOAT) -> type[ByHand]:
    """The aggregate that computes `written`, in which "{0}" is the input."""
    return type(name, (ByHand,), {"__slots__": (), "written": written, "type": type_.or_none()})


HAND = {
    kind.__name__: kind
    for kind in (
        by_hand("HandSum", "sum({0})"),
        by_hand("HandVariance", "var_samp({0})"),
        by_hand("HandLast", "arg_max({0}, e.__ts)"),
        by_hand("HandLastN", "arg_max({0}, e.__ts, 3)", list_of(FLOAT)),
        by_hand("HandCounts", "histogram({0})", dict_of(FLOAT)),
        by_hand("HandSkew", "skewness({0})"),
        by_hand("HandKurtosis", "kurtosis({0})"),
        by_hand("HandTrend", "regr_slope({0}, e.__ts)"),
        by_hand("HandDecay", "sum({0} * pow(2.0, (e.__ts - l.__t) / 604800e6))"),
        by_hand("HandGeometric", "avg(ln({0}))"),
        by_hand("HandEntropy", "entropy({0})"),
    )
}
_known = aggregates.by_name
aggregates.by_name = lambda name: HAND[name] if name in HAND else _known(name)


def view(features: dict[str, Aggregate]) -> View:
    source = EventSource(
        "events",
        path="events.parquet",
        schema={"key": int, "money": float, "wide": float, "bits": float},
        timestamp_field="at",
    )
    return compile_view(FeatureView("view", entities=[ENTITY], source=source, features=features))


def fill(con: Any, labels: int, events: int) -> None:
    """Events of 1 % as many keys, and labels, evenly over 90 days."""
    keys = max(1, events // 100)
    con.execute(
        f"CREATE TABLE events AS SELECT key, __ts, __ts AS __created, money, wide, "
        f"{COLUMNS['bits']} AS bits FROM (SELECT (hash(i) % {keys})::BIGINT AS key, "
        f"(hash(i, 1) % {SPAN_US})::BIGINT AS __ts, {COLUMNS['money']} AS money, "
        f"{COLUMNS['wide']} AS wide, {BITS} AS b FROM range({events}) t(i))"
    )
    con.execute(
        f"CREATE TABLE labels AS SELECT i AS __rid, (hash(i, 7) % {keys})::BIGINT AS key, "
        f"(hash(i, 8) % {SPAN_US})::BIGINT AS __t FROM range({labels}) t(i)"
    )


def answer(con: Any, plan: View) -> None:
    """One plan, from the statistics of its columns to the last row."""
    events = EventRows("events", True)
    made = make_windows(con, plan, events, "labels", statuses=False, name="chosen")
    con.execute(f"CREATE TABLE answers AS SELECT * FROM {made.sql}")


def rows(window: str) -> dict[str, tuple[Aggregate, str]]:
    """Each aggregate, and what it is held against."""
    w: dict[str, Any] = {"window": window}
    made: dict[str, tuple[Aggregate, str]] = {}
    for name, kind in HAND.items():
        made[name] = kind("money", **w), name
    for column in COLUMNS:
        made |= {
            f"Sum of {column}": (Sum(column, **w), "HandSum"),
            f"Mean of {column}": (Mean(column, **w), "HandSum"),
            f"Variance of {column}": (Variance(column, **w), "HandVariance"),
        }
    return made | {
        "StdDev of money": (StdDev("money", **w), "HandVariance"),
        "Quantile of money": (Quantile("money", q=0.5, **w), "HandSum"),
        "ApproxQuantile of money": (ApproxQuantile("money", q=0.5, **w), "HandSum"),
        "CountDistinct of money": (CountDistinct("money", **w), "HandSum"),
        "ApproxCountDistinct of money": (ApproxCountDistinct("money", **w), "HandSum"),
        "ValueCounts of money": (ValueCounts("money", **w), "HandCounts"),
        "TopK of money": (TopK("money", k=3, **w), "HandCounts"),
        "Count": (Count(**w), "HandSum"),
        "Max of money": (Max("money", **w), "HandSum"),
        "Last of money": (Last("money", **w), "HandLast"),
        "LastN of money": (LastN("money", n=3, **w), "HandLastN"),
        "TimeSince": (TimeSince(**w), "HandSum"),
        "SumOfSquares of money": (SumOfSquares("money", **w), "HandVariance"),
        "Skew of money": (Skew("money", **w), "HandSkew"),
        "Kurtosis of money": (Kurtosis("money", **w), "HandKurtosis"),
        "Covariance of money, wide": (Covariance("money", "wide", **w), "HandVariance"),
        "Correlation of money, wide": (Correlation("money", "wide", **w), "HandVariance"),
        "LinearTrend of money": (LinearTrend("money", **w), "HandTrend"),
        "ExponentialDecay of money": (
            ExponentialDecay("money", half_life="7d", **w),
            "HandDecay",
        ),
        "GeometricMean of money": (GeometricMean("money", **w), "HandGeometric"),
        "Entropy of money": (Entropy("money", **w), "HandEntropy"),
    }


GOALS = {"Sum of money": 1.25, "Mean of money": 1.25} | {
    f"{kind} of money": 1.5 for kind in ("Variance", "StdDev", "Last", "LastN", "ValueCounts")
}


def measured(con: Any, window: str, runs: int) -> list[tuple[str, float, str, float]]:
    """Each aggregate's median seconds, and the name and the seconds of what it is held against; all
    by turns, after one run that warms up, so that a busy minute falls on all alike."""
    asked = rows(window)
    plans = {name: view({"f": one}) for name, (one, _) in asked.items()}
    taken: dict[str, list[float]] = {name: [] for name in plans}
    for run in range(runs + 1):
        for name, plan in plans.items():
            took = seconds(lambda plan=plan: answer(con, plan))  # type: ignore[misc]
            con.execute("DROP TABLE answers; DROP TABLE chosen")
            if run:
                taken[name].append(took)
    medians = {name: statistics.median(found) for name, found in taken.items()}
    return [(name, medians[name], hand, medians[hand]) for name, (_, hand) in asked.items()]


LABELS = {"smoke": 5_000, "medium": 100_000, "full": 1_000_000}


def results(size: str, runs: int) -> Iterator[Result]:
    """Each aggregate over two windows, beside what one writes by hand."""
    con = duckdb.connect()
    prepare(con)
    labels = LABELS[size]
    fill(con, labels, 10 * labels)
    for window in ("7d", "90d"):
        for name, ours_s, hand, hand_s in measured(con, window, runs):
            if name in HAND:
                continue
            against = HAND[hand].written.format("x")
            taken = {OURS: ours_s, against: hand_s}
            size_ = f"{labels:,} × {10 * labels:,}"
            yield Result(f"{name}, {window}", size_, "s", taken, against, GOALS.get(name))


def main() -> None:
    assert __doc__
    given = arguments(__doc__.splitlines()[0], LABELS)
    show(list(results(given.size, given.runs)), as_json=given.json)


if __name__ == "__main__":
    main()
