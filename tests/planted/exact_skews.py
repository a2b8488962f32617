"""Skews of the exact aggregates (A5): what other libraries and stores compute in their place. They
join the catalogue of `skews`."""

from __future__ import annotations

import functools
import math
import operator
from typing import Any

from featurekit.aggregates import (
    BitAnd,
    BitOr,
    Correlation,
    Covariance,
    Entropy,
    ExponentialDecay,
    GeometricMean,
    Kurtosis,
    LinearTrend,
    Skew,
    SumOfSquares,
)
from featurekit.aggregates.sql import AggregateSql, present
from featurekit.core.status import PRESENT
from featurekit.online.lookup import answer
from featurekit.online.state import inputs
from tests.planted.skews import SKEWS, Patch, skew, wrapped

__all__ = ["SKEWS"]


def in_sql(patch: Patch, kind: Any, parts: tuple[str, ...], value: str) -> None:
    """Have the join compute an aggregate by `parts`, in which {x} is the input and {keep} what an
    event must be, and a `value` of them."""

    def sql(self: Any, column: Any, keep: str) -> AggregateSql:
        kept = present(column, keep)
        return AggregateSql(tuple(p.format(x=column.sql, keep=kept) for p in parts), value)

    patch.setattr(kind, "sql", sql)


def otherwise(patch: Patch, kind: Any, change: Any) -> None:
    """Have a lookup change the value of an aggregate that is there."""

    def finished(made: Any, feature: Any, aggregate: Any, *about: Any) -> Any:
        value, status = made(feature, aggregate, *about)
        if isinstance(aggregate, kind) and status == PRESENT:
            return change(value, about), status
        return value, status

    wrapped(patch, answer, "finished", finished)


def taken(patch: Patch, kind: Any, change: Any) -> None:
    """Have a lookup change the inputs of an aggregate."""

    def changed(take: Any, feature: Any, aggregate: Any, *about: Any, **how: Any) -> Any:
        found = take(feature, aggregate, *about, **how)
        return change(found) if isinstance(aggregate, kind) else found

    wrapped(patch, inputs, "inputs", changed)


# --- squares and bits -----------------------------------------------------------------------------


@skew("offline", "float order", "shapes")
def plain_squares_offline(patch):
    in_sql(patch, SumOfSquares, ("sum({x} * {x}) FILTER ({keep})",), "{0}")


@skew("online", "rounding", "shapes")
def squares_by_the_root_mean_square_online(patch):
    otherwise(patch, SumOfSquares, lambda value, _: math.sqrt(value) ** 2)


@skew("offline", "null fill", "shapes")
def all_bits_of_an_empty_window_offline(patch):
    in_sql(patch, BitAnd, ("bit_and({x}) FILTER ({keep})",), "coalesce({0}, -1)")


@skew("online", "aggregate", "shapes")
def bits_added_online(patch):
    patch.setattr(BitOr, "together", operator.add)


@skew("offline", "condition", "shapes")
def bits_of_all_rows_offline(patch):
    in_sql(patch, BitOr, ("bit_or({x})",), "{0}")


# --- shapes ---------------------------------------------------------------------------------------


@skew("offline", "float order", "shapes")
def a_skew_by_plain_powers_offline(patch):
    parts = tuple(f"sum({{x}} ** {k}) FILTER ({{keep}})" for k in (0, 1, 2, 3))
    spread = "({2} / {0} - ({1} / {0}) ** 2)"
    third = "({3} / {0} - 3 * {1} * {2} / {0} ** 2 + 2 * ({1} / {0}) ** 3)"
    value = f"{third} / {spread} ** 1.5 * sqrt({{0}} * ({{0}} - 1)) / ({{0}} - 2)"
    in_sql(patch, Skew, parts, f"CASE WHEN {{0}} > 2 AND {spread} > 0 THEN {value} END")


@skew("online", "float order", "shapes")
def a_skew_of_the_population_online(patch):
    def shown(value: float, about: Any) -> float:
        n = len(about[2])
        return value * (n - 2) / math.sqrt(n * (n - 1))

    otherwise(patch, Skew, shown)


@skew("online", "aggregate", "shapes")
def a_kurtosis_that_is_not_the_excess_online(patch):
    otherwise(patch, Kurtosis, lambda value, about: value + 3.0)


@skew("online", "rounding", "shapes")
def a_kurtosis_rounded_twice_online(patch):
    otherwise(patch, Kurtosis, lambda value, about: (value + 3.0) - 3.0)


# --- pairs ----------------------------------------------------------------------------------------


@skew("online", "float order", "shapes")
def a_covariance_by_means_online(patch):
    def over(right: Any, self: Any, values: Any, item: Any) -> Any:
        found = right(self, values, item)
        if found is None or not math.isfinite(found):
            return found
        n = len(values)
        x, y = (sum(pair[i] for pair in values) / n for i in (0, 1))
        return sum((a - x) * (b - y) for a, b in values) / (n - self.ddof)

    def finished(made: Any, feature: Any, aggregate: Any, t: int, *about: Any) -> Any:
        if isinstance(aggregate, Covariance):
            about = (functools.partial(over, type(aggregate).over, aggregate), *about[1:])
        return made(feature, aggregate, t, *about)

    wrapped(patch, answer, "finished", finished)


@skew("online", "float order", "shapes")
def a_pair_s_last_event_left_out_online(patch):
    taken(patch, Correlation, lambda found: found[:-1])


@skew("offline", "float order", "shapes")
def a_correlation_of_doubles_offline(patch):
    # An int beside a float is two floats, which hold it exactly.
    y = "({x}[2] * 4294967296.0 + {x}[3])"
    part = f"corr({{x}}[1], {y}) FILTER ({{keep}})"
    in_sql(patch, Correlation, (part,), "CASE WHEN {0} <> 'nan'::DOUBLE THEN {0} END")


# --- time -----------------------------------------------------------------------------------------


@skew("online", "unit", "shapes")
def a_trend_per_hour_online(patch):
    otherwise(patch, LinearTrend, lambda value, about: value / 24)


@skew("online", "unit", "shapes")
def a_trend_over_whole_seconds_online(patch):
    taken(patch, LinearTrend, lambda found: [(t // 10**6 * 10**6, x) for t, x in found])


@skew("offline", "float order", "shapes")
def a_trend_by_plain_sums_offline(patch):
    part = "regr_slope({x}::DOUBLE, e.__ts / 86400000000.0::DOUBLE) FILTER ({keep})"
    in_sql(patch, LinearTrend, (part,), "CASE WHEN {0} <> 'nan'::DOUBLE THEN {0} END")


@skew("offline", "float order", "shapes")
def a_decay_without_steps_offline(patch):
    age = "((l.__t - e.__ts) / 86400000000.0::DOUBLE)"
    part = f"sum({{x}} * pow(2.0::DOUBLE, -{age})) FILTER ({{keep}})"
    in_sql(patch, ExponentialDecay, (part,), "{0}")


@skew("online", "unit", "shapes")
def a_decay_to_the_last_event_online(patch):
    def finished(made: Any, feature: Any, aggregate: Any, t: int, *about: Any) -> Any:
        if isinstance(aggregate, ExponentialDecay) and about[1]:
            t = max(at for at, _ in about[1])
        return made(feature, aggregate, t, *about)

    wrapped(patch, answer, "finished", finished)


# --- logarithms -----------------------------------------------------------------------------------


@skew("offline", "rounding", "shapes")
def a_geometric_mean_of_the_c_library_offline(patch):
    parts = (
        "avg(CASE WHEN {x} > 0 THEN ln({x}) END) FILTER ({keep})",
        "min({x}) FILTER ({keep})",
    )
    value = "CASE WHEN {1} < 0 THEN 'nan'::DOUBLE WHEN {1} = 0 THEN 0.0 ELSE exp({0}) END"
    in_sql(patch, GeometricMean, parts, value)


@skew("online", "aggregate", "shapes")
def a_geometric_mean_without_zeros_online(patch):
    taken(patch, GeometricMean, lambda found: [x for x in found if x != 0])


@skew("offline", "rounding", "shapes")
def an_entropy_of_the_c_library_offline(patch):
    in_sql(patch, Entropy, ("entropy({x}) FILTER ({keep})",), "{0}")


@skew("online", "unit", "shapes")
def an_entropy_in_nats_online(patch):
    otherwise(patch, Entropy, lambda value, about: value * math.log(2))
