"""Every aggregate with the types of input that it takes, and lists of such inputs."""

from __future__ import annotations

import datetime as dt
from typing import Any

import awkward
import pytest
from hypothesis import strategies as st

from featurekit.aggregates import (
    Aggregate,
    All,
    ApproxCountDistinct,
    ApproxQuantile,
    BitAnd,
    BitOr,
    Correlation,
    Count,
    CountDistinct,
    Covariance,
    Distinct,
    Entropy,
    ExponentialDecay,
    First,
    FirstN,
    GeometricMean,
    Histogram,
    Kurtosis,
    Lag,
    LargestN,
    Last,
    LastN,
    LinearTrend,
    Max,
    Mean,
    Min,
    Mode,
    Quantile,
    Rate,
    Ratio,
    Skew,
    SmallestN,
    StdDev,
    Sum,
    SumOfSquares,
    TopK,
    ValueCounts,
    Variance,
)
from featurekit.aggregates import Any as AnyOf
from featurekit.core.types import (
    BOOL,
    BYTES,
    DATE,
    DATETIME,
    FLOAT,
    INT,
    STR,
    TIMEDELTA,
    Type,
    list_of,
)

PLAIN = (BOOL, INT, FLOAT, STR, BYTES, DATETIME, DATE, TIMEDELTA)
_HINTS = (bool, int, float, str, bytes, dt.datetime, dt.date, dt.timedelta)
HINTS: dict[Type, Any] = dict(zip(PLAIN, _HINTS, strict=True))
NUMBERS = (BOOL, INT, FLOAT)
PAIRS = (list_of(INT), list_of(FLOAT))
W = {"input": "x", "window": "1d"}

FAMILY: list[tuple[Aggregate, tuple[Type, ...]]] = [
    (First(**W), PLAIN),
    (FirstN(**W, n=3), PLAIN),
    (Last(**W), PLAIN),
    (LastN(**W, n=1), PLAIN),
    (LastN(**W, n=3), PLAIN),
    (LastN(**W, n=2, keep_none=True), PLAIN),
    (FirstN(**W, n=2, distinct=True), PLAIN),
    (LastN(**W, n=2, distinct=True), PLAIN),
    (Lag(**W), PLAIN),
    (Lag(**W, n=2, keep_none=True), (FLOAT, STR)),
    (LargestN(**W, n=2), PLAIN),
    (SmallestN(**W, n=2), PLAIN),
    (Distinct(**W), PLAIN),
    (Distinct(**W, top=2), PLAIN),
    (Mode(**W), PLAIN),
    (Histogram(**W, edges=[0, 0.1, 2, 2**53 + 1, 1e300]), (INT, FLOAT)),
    (Histogram(**W, edges=[-0.0]), (FLOAT,)),
    (Variance(**W), (BOOL, INT, FLOAT)),
    (Variance(**W, ddof=0), (INT, FLOAT)),
    (StdDev(**W), (BOOL, INT, FLOAT)),
    (StdDev(**W, ddof=0), (INT, FLOAT)),
    (ApproxCountDistinct(**W), PLAIN),
    (Quantile(**W, q=0.5), (INT, FLOAT)),
    (Quantile(**W, q=0.9), (INT, FLOAT)),
    (Quantile(**W, q=0), (FLOAT,)),
    (Quantile(**W, q=1), (FLOAT,)),
    (ApproxQuantile(**W, q=0.5), (INT, FLOAT)),
    (ApproxQuantile(**W, q=0.99), (FLOAT,)),
    (ValueCounts(**W), PLAIN),
    (TopK(**W, k=2), PLAIN),
    (AnyOf(**W), (BOOL,)),
    (All(**W), (BOOL,)),
    (Sum(**W), (BOOL, INT, FLOAT)),
    (Mean(**W), (BOOL, INT, FLOAT)),
    (Min(**W), PLAIN),
    (Max(**W), PLAIN),
    (Count(**W), PLAIN),
    (CountDistinct(**W), PLAIN),
    (SumOfSquares(**W), NUMBERS),
    (BitAnd(**W), (INT,)),
    (BitOr(**W), (INT,)),
    (Skew(**W), NUMBERS),
    (Skew(**W, ddof=0), (INT, FLOAT)),
    (Kurtosis(**W), NUMBERS),
    (Kurtosis(**W, ddof=0), (INT, FLOAT)),
    (GeometricMean(**W), NUMBERS),
    (Entropy(**W), PLAIN),
    (LinearTrend(**W), NUMBERS),
    (ExponentialDecay(**W, half_life="10s"), NUMBERS),
    (ExponentialDecay(**W, half_life="7us"), (FLOAT,)),
    (Covariance(**W, other="y"), PAIRS),
    (Covariance(**W, other="y", ddof=0), PAIRS),
    (Correlation(**W, other="y"), PAIRS),
    (Ratio(**W, other="y"), PAIRS),
    (Rate(**W), (BOOL,)),
]
EACH = [(one, type_) for one, types in FAMILY for type_ in types]


def shown(one: Aggregate) -> str:
    return type(one).__name__ + "".join(f" {name}={value}" for name, value in one.params)


each = pytest.mark.parametrize(
    ("one", "type_"), EACH, ids=[f"{shown(one)} of {type_}" for one, type_ in EACH]
)


def lists(type_: Type, most: int = 12) -> st.SearchStrategy[list[Any]]:
    """Lists of one flavour of values: tame ones, or cancelling ones, or any."""
    flavours = awkward._flavours(HINTS[type_])
    return st.sampled_from(flavours).flatmap(lambda f: st.lists(f, max_size=most))


def inputs(one: Aggregate, type_: Type) -> st.SearchStrategy[list[Any]]:
    """Lists of what the aggregate takes: of a pair both, and where it asks for them, each with an
    instant up to 0."""
    if one.paired:
        assert type_.item is not None
        flavours = awkward._flavours(HINTS[type_.item])
        flavour = st.sampled_from(flavours)
        pairs = st.tuples(flavour, flavour).flatmap(lambda both: st.lists(st.tuples(*both)))
        return pairs | pairs.map(lambda every: [(x, x) for x, _ in every])
    if not one.timed:
        return lists(type_)
    spans = (3, 10**9, 2**58)
    instants = st.sampled_from(spans).flatmap(lambda most: st.integers(-most, 0))
    return lists(type_).flatmap(
        lambda values: st.tuples(*(st.tuples(instants, st.just(v)) for v in values)).map(list)
    )
