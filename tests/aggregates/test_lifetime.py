"""Lifetime windows: every event up to t, on both paths what the oracle says, bit for bit (T4)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import duckdb
import pytest
from agreeing import (
    EXAMPLES,
    PAIR,
    divides,
    late,
    numbered,
    offline_agrees,
    online_agrees,
    positive,
    prompt,
    ratio,
    view,
)
from paths import Paths, Question, connect, service_of

from featurekit import aggregates
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
    TimeSince,
    TopK,
    ValueCounts,
    Variance,
)
from featurekit.aggregates import Any as AnyOf
from featurekit.core.durations import LIFETIME_US
from featurekit.core.types import INSTANT_MAX, INSTANT_MIN
from featurekit.define.compile_view import compile_view
from featurekit.errors import DefinitionError

EVER: dict[str, Any] = {"window": "lifetime"}
FEATURES: dict[str, Aggregate] = {
    "rows": Count(**EVER),
    "names": Count("name", **EVER, where="flag"),
    "amount": Sum("amount", **EVER, default=-0.0),
    "amount_before": Sum("amount", **EVER, offset="1d"),
    "qty": Sum("qty", **EVER),
    "ratio": Sum(ratio, **EVER, where=positive),
    "mean": Mean("amount", **EVER, where=divides),
    "variance": Variance("qty", **EVER),
    "stddev": StdDev("amount", **EVER, ddof=0),
    "least": Min("amount", **EVER),
    "most": Max("name", **EVER, offset="1h", default="?"),
    "distinct": CountDistinct("amount", **EVER),
    "about": ApproxCountDistinct("name", **EVER),
    "median": Quantile("amount", **EVER, q=0.5),
    "about_median": ApproxQuantile("amount", **EVER, q=0.5),
    "first": First("name", **EVER),
    "firsts": FirstN("amount", **EVER, n=2, offset="1h"),
    "last": Last(ratio, **EVER),
    "lasts": LastN("qty", **EVER, n=2, where="flag"),
    "any": AnyOf("flag", **EVER),
    "all": All("flag", **EVER, default=True),
    "since": TimeSince(**EVER),
    "since_first": TimeSince("name", **EVER, since="first"),
    "counts": ValueCounts("name", **EVER),
    "top": TopK("qty", **EVER, k=2),
    "squares": SumOfSquares("amount", **EVER),
    "skew": Skew("amount", **EVER, where=positive),
    "kurtosis": Kurtosis("qty", **EVER, ddof=0),
    "covariance": Covariance("amount", "qty", **EVER, offset="1h"),
    "correlation": Correlation(ratio, "amount", **EVER, default=0.0),
    "of_sums": Ratio("amount", "qty", **EVER),
    "share": Rate("flag", **EVER),
    "before": Lag("amount", n=2, **EVER, keep_none=True),
    "largest": LargestN("amount", n=3, **EVER),
    "smallest": SmallestN("qty", n=3, **EVER),
    "words": Distinct("name", **EVER),
    "mode": Mode("name", **EVER),
    "bins": Histogram("amount", edges=[0, 1.5], **EVER),
    "trend": LinearTrend("amount", **EVER),
    "geometric": GeometricMean("amount", **EVER, where=positive),
    "entropy": Entropy("name", **EVER),
    "decay": ExponentialDecay("amount", **EVER, half_life="3h"),
    "common": BitAnd("qty", **EVER),
    "bits": BitOr("qty", **EVER, where="flag"),
}
MIXED: dict[str, Aggregate] = {
    "amount": Sum("amount", windows=["1h", "8d", "lifetime"]),
    "n": Count(windows=["1h", "lifetime"], where="flag"),
    "last": Last("name", windows=["1d", "lifetime"], offset="1h"),
    "hop": Mean("qty", window="1d", hop="7h"),
}
COMPACT: dict[str, Aggregate] = {
    name: one
    for name, one in FEATURES.items()
    if not isinstance(one, (Quantile, First, FirstN, Last, LastN))
}
SERVICES = {
    "late events": service_of(view("ever", PAIR, late, FEATURES)),
    "prompt events": service_of(view("ever", PAIR, prompt, FEATURES)),
    "numbered events": service_of(view("ever", PAIR, numbered, FEATURES)),
    "without an order": service_of(view("compact", PAIR, late, COMPACT)),
    "beside windows": service_of(view("mixed", PAIR, late, MIXED)),
}


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        yield connection


def test_every_aggregate_has_a_lifetime_here():
    assert {type(one) for one in FEATURES.values()} == {*aggregates.BY_NAME.values()}


@pytest.mark.thorough
@pytest.mark.parametrize("name", SERVICES)
def test_offline_is_what_the_oracle_says(con, name):
    offline_agrees(con, SERVICES[name], examples=max(5, EXAMPLES // 10))


@pytest.mark.parametrize("name", SERVICES)
def test_online_is_what_the_oracle_says_however_states_were_filled(con, name):
    online_agrees(con, SERVICES[name], examples=max(5, EXAMPLES // 10))


@pytest.mark.parametrize("history", [None, "8d"])
def test_the_first_event_counts_to_the_last_instant(con, history):
    features = {"n": Count(windows=["36000d", "lifetime"]), "sum": Sum("qty", window="lifetime")}
    service = service_of(view("ever", PAIR, late, features, history=history))
    row = {"key": 1, "key2": "a", "amount": 0.5, "qty": 3, "flag": None, "name": None}
    rows = [row | {"__ts": t, "__created": t} for t in (INSTANT_MIN, INSTANT_MIN + 1)]
    paths = Paths(con, service, {"late": rows})
    asked = [Question({"key": 1, "key2": "a"}, t) for t in (INSTANT_MIN + 1, INSTANT_MAX)]
    expected = [[2, 2, 6], [0, 2, 6]]
    for answers in (paths.offline(asked), paths.by_pushes(asked), paths.by_materialising(asked)):
        assert [[value for value, _ in answer] for answer in answers] == expected
    paths.close()


def test_no_window_of_two_instants_is_as_long_as_a_lifetime():
    assert LIFETIME_US > INSTANT_MAX - INSTANT_MIN + 2**60  # the longest offset


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sum("x", window="lifetime", hop="1h"), r"hop= moves the open end .* has none"),
        (lambda: Sum("x", windows=["1h", "lifetime"], hop="1h"), "has none; leave hop= out"),
        (lambda: Sum("x", window="forever"), 'not a duration.*may also be "lifetime"'),
        (lambda: Sum("x", window="1d", offset="lifetime"), "'lifetime' is not a duration"),
        (lambda: Count(windows=["lifetime", "lifetime"]).each_window("n"), "'lifetime' twice"),
    ],
)
def test_a_wrong_definition_says_what_to_write(make, message):
    with pytest.raises(DefinitionError, match=message):
        make()


def test_a_lifetime_has_a_name_and_a_fingerprint_of_its_own():
    made = compile_view(view("v", PAIR, late, {"n": Count(windows=["1h", "lifetime"])}))
    assert [f.name for f in made.features] == ["n_1h", "n_lifetime"]
    assert [f.lifetime for f in made.features] == [False, True]
    assert made.features[0].fingerprint != made.features[1].fingerprint
