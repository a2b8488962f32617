"""A: what each aggregate gives of a window, by hand."""

from __future__ import annotations

import importlib
import math
import random
from typing import Any

import pyarrow as pa
import pytest

from featurekit import FeatureStore
from featurekit.errors import DefinitionError
from rules.asking import ERRED, NULL, Answer, D, One, S, ask_all, empty, instant, present, table

MODULE = """
from datetime import timedelta
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import (
    All, Any, ApproxCountDistinct, ApproxQuantile, BitAnd, BitOr, Correlation, Count,
    CountDistinct, Covariance, Distinct, Entropy, ExponentialDecay, First, FirstN,
    GeometricMean, Histogram, Kurtosis, Lag, LargestN, Last, LastN, LinearTrend, Max, Mean, Min,
    Mode, Quantile, Rate, Ratio, Skew, SmallestN, StdDev, Sum, SumOfSquares, TimeSince, TopK,
    ValueCounts, Variance,
)

user = Entity("user", {"key": int})
events = EventSource(
    "events", path="events.parquet", timestamp_field="at", created_timestamp_column="arrived",
    schema={"key": int, "x": float | None, "n": int | None, "b": bool | None, "word": str | None},
)
D = {"window": "1d"}
features = {
    "rows": Count(**D), "xs": Count("x", **D), "sum": Sum("x", **D), "mean": Mean("x", **D),
    "total": Sum("n", **D), "trues": Sum("b", **D), "mean_n": Mean("n", **D),
    "variance": Variance("x", **D), "population": Variance("x", ddof=0, **D),
    "deviation": StdDev("x", **D), "least": Min("x", **D), "most": Max("x", **D),
    "first": First("x", **D), "last": Last("x", **D),
    "two": FirstN("x", n=2, **D), "last_two": LastN("x", n=2, **D),
    "distinct": CountDistinct("x", **D), "about": ApproxCountDistinct("x", **D),
    "median": Quantile("x", q=0.5, **D), "about_median": ApproxQuantile("x", q=0.5, **D),
    "counts": ValueCounts("word", **D), "top": TopK("word", k=2, **D),
    "any": Any("b", **D), "all": All("b", **D),
    "since": TimeSince(**D), "since_first": TimeSince(since="first", **D),
    "true_rows": Count(where="b", **D), "sum_or_seven": Sum("x", default=7.0, **D),
    "total_or_seven": Sum("n", default=7, **D),
    "squares": SumOfSquares("x", **D), "squares_n": SumOfSquares("n", **D),
    "common_bits": BitAnd("n", **D), "bits": BitOr("n", **D),
    "skew": Skew("x", **D), "skew_p": Skew("x", ddof=0, **D),
    "kurtosis": Kurtosis("x", **D), "kurtosis_p": Kurtosis("x", ddof=0, **D),
    "covariance": Covariance("x", "n", **D), "covariance_p": Covariance("x", "n", ddof=0, **D),
    "correlation": Correlation("x", "n", **D), "trend": LinearTrend("x", **D),
    "ratio": Ratio("x", "n", **D), "ratio_of_n": Ratio("n", "x", **D), "rate": Rate("b", **D),
    "before": Lag("x", **D), "mode": Mode("word", **D), "words": Distinct("word", **D),
    "largest": LargestN("x", n=2, **D), "smallest": SmallestN("x", n=2, **D),
    "bins": Histogram("x", edges=[0, 10], **D),
    "by_word": Sum("x", by="word", **D), "top_words": Count(by="word", top=1, **D),
    "decay": ExponentialDecay("x", half_life="1s", **D),
    "geometric": GeometricMean("x", **D), "entropy": Entropy("word", **D),
    "entropy_x": Entropy("x", **D),
}
view = FeatureView("view", entities=[user], source=events, features=features)
service = FeatureService("service", features=[view])
"""
TYPES = {"x": pa.float64(), "n": pa.int64(), "b": pa.bool_(), "word": pa.string()}
TABLES = {"events": table(**TYPES)}
NONE: dict[str, Any] = dict.fromkeys(TYPES)
NAN, INF = math.nan, math.inf
LARGE = 1.7976931348623157e308
T = 60 * S
Expected = dict[str, Any]


def of(column: str, *values: Any) -> list[dict[str, Any]]:
    """Rows, a second apart, with these values in one column and None in the others."""
    return [NONE | {column: value} for value in values]


EMPTY: Expected = {
    **dict.fromkeys(["rows", "xs", "distinct", "about", "true_rows"], 0),
    **dict.fromkeys(["sum", "mean", "total", "trues", "mean_n", "variance", "population"]),
    **dict.fromkeys(["deviation", "least", "most", "first", "last", "median", "about_median"]),
    **dict.fromkeys(["any", "all", "since", "since_first"]),
    **dict.fromkeys(["squares", "squares_n", "common_bits", "bits", "skew", "skew_p", "kurtosis"]),
    **dict.fromkeys(["kurtosis_p", "covariance", "covariance_p", "correlation", "trend", "decay"]),
    **dict.fromkeys(["geometric", "entropy", "entropy_x", "ratio", "ratio_of_n", "rate"]),
    **dict.fromkeys(["before", "mode"]),
    "words": [], "largest": [], "smallest": [], "bins": [0, 0, 0], "by_word": {}, "top_words": {},
    "two": [], "last_two": [], "top": [], "counts": {}, "sum_or_seven": 7.0, "total_or_seven": 7,
}  # fmt: skip

CASES: dict[str, tuple[list[dict[str, Any]], Expected]] = {
    "none inputs are skipped": (
        of("x", None, 3.0, None),
        {"rows": 3, "xs": 1, "sum": 3.0, "mean": 3.0, "first": 3.0, "last": 3.0, "two": [3.0]},
    ),
    "a where that is none is false": (of("b", True, None, False), {"true_rows": 1}),
    "a sum of floats is exact and rounded once": (
        of("x", 1e16, 1.0, 1.0),
        {"sum": 1.0000000000000002e16},
    ),
    "a ratio of sums is a fraction rounded once": (
        [NONE | {"x": 0.1, "n": 1}, NONE | {"x": 0.2, "n": 2}, NONE | {"n": 5}],
        {"ratio": 0.1, "ratio_of_n": 10.0},
    ),
    "a ratio to zero is none": (
        [NONE | {"x": 1.0, "n": 1}, NONE | {"x": 2.0, "n": -1}],
        {"ratio": None, "ratio_of_n": 0.0},
    ),
    "a rate is of the inputs that are not none": (
        of("b", True, None, False, True),
        {"rate": 2 / 3},
    ),
    "a lag is the input before the last": (of("x", 1.0, None, 2.0, None), {"before": 1.0}),
    "of several the mode is the least": (
        of("word", "b", "a", "a", "b", "c"),
        {"mode": "a", "words": ["a", "b", "c"]},
    ),
    "the largest and the smallest are by value": (
        of("x", 0.0, -0.0, NAN, -1.0),
        {"largest": [NAN, 0.0], "smallest": [-1.0, -0.0]},
    ),
    "bins are half open and have no nan": (
        of("x", -0.0, 10.0, 9.0, -INF, NAN),
        {"bins": [1, 2, 1]},
    ),
    "a dict of categories": (
        [NONE | {"word": w, "x": x} for w, x in zip("baab", (1.0, 2.0, None, 4.0), strict=True)]
        + [NONE | {"x": 9.0}],
        {"by_word": {"b": 5.0, "a": 2.0}, "top_words": {"a": 2}},
    ),
    "ten tenths are one": (of("x", *[0.1] * 10), {"sum": 1.0, "mean": 0.1}),
    "a sum that is zero is plus zero": (of("x", -0.0, -0.0), {"sum": 0.0, "least": -0.0}),
    "a mean is the rounded sum divided": (of("x", 1.0, 1.0, 2.0), {"mean": 4.0 / 3}),
    "ints and bools are added exactly": (
        of("n", 2**62, 2**62 - 1) + of("b", True, True),
        {"total": 2**63 - 1, "trues": 2},
    ),
    "a sum of ints outside int64 is an error": (
        of("n", 2**62, 2**62),
        {"total": ERRED, "total_or_seven": ERRED, "mean_n": float(2**62)},
    ),
    "a finite sum beyond the doubles is an error": (
        of("x", LARGE, LARGE),
        {"sum": ERRED, "sum_or_seven": ERRED},
    ),
    "the spread is that of fractions rounded once": (
        of("x", 1.0, 2.0, 4.0),
        {"variance": 7 / 3, "population": 14 / 9, "deviation": 1.5275252316519468},
    ),
    "a spread of one is none of a sample": (
        of("x", 1.0),
        {"variance": None, "deviation": None, "population": 0.0},
    ),
    "a spread with nan is nan": (
        of("x", 1.0, NAN),
        {"variance": NAN, "deviation": NAN, "population": NAN},
    ),
    "zeros are told apart by extremes and not by counts": (
        of("x", 0.0, -0.0),
        {"least": -0.0, "most": 0.0, "distinct": 1, "about": 1},
    ),
    "nan is a value": (
        of("x", NAN, 1.0, NAN),
        {"sum": NAN, "mean": NAN, "least": NAN, "most": NAN, "median": NAN, "about_median": NAN,
         "distinct": 2, "xs": 3},
    ),
    "one infinity is the sum": (of("x", INF, 1.0), {"sum": INF, "mean": INF, "most": INF}),
    "both infinities are nan": (of("x", INF, -INF), {"sum": NAN, "mean": NAN}),
    "lists have the oldest first": (
        of("x", 1.0, 2.0, 3.0),
        {"first": 1.0, "last": 3.0, "two": [1.0, 2.0], "last_two": [2.0, 3.0]},
    ),
    "a quantile lies between its neighbours": (of("x", 1.0, 2.0, 4.0, 9.0), {"median": 3.0}),
    "an approximate quantile is the middle of a bucket": (
        of("x", 1.0, 1.0, 4.0),
        {"about_median": 1.00390625},
    ),
    "counts are by count and then by value": (
        of("word", "b", "a", "c", "b", "c"),
        {"counts": {"b": 2, "c": 2, "a": 1}, "top": ["b", "c"]},
    ),
    "any and all are of bools": (of("b", True, False, None), {"any": True, "all": False}),
    "squares are added exactly": (
        of("x", 1e8, 1.0, 1.0) + of("n", 3, -4),
        {"squares": 1.0000000000000002e16, "squares_n": 25},
    ),
    "squares outside int64 are an error": (of("n", 2**32), {"squares_n": ERRED}),
    "squares with an infinity are it": (of("x", INF, -INF), {"squares": INF}),
    "squares with nan are nan": (of("x", INF, NAN), {"squares": NAN}),
    "squares beyond the doubles are an error": (of("x", LARGE), {"squares": ERRED}),
    "bits are those of python": (of("n", 12, 10, -1), {"common_bits": 8, "bits": -1}),
    "a skew is the root of fractions": (
        of("x", 1.0, 2.0, 6.0),
        {"skew": 1.457862967321305, "skew_p": 0.5951700641394974},
    ),
    "a skew of two is none of a sample": (of("x", 1.0, 2.0), {"skew": None, "skew_p": 0.0}),
    "a kurtosis is that of fractions": (
        of("x", 1.0, 2.0, 3.0, 10.0),
        {"kurtosis": 3.228, "kurtosis_p": -0.7696},
    ),
    "without variance there is no shape": (
        of("x", 2.0, 2.0, 2.0, 2.0),
        {"skew": None, "kurtosis": None, "correlation": None, "trend": 0.0},
    ),
    "one event has no correlation and no trend": (
        [NONE | {"x": 1.0, "n": 2}],
        {"correlation": None, "trend": None, "covariance": None, "covariance_p": 0.0},
    ),
    "an event counts for two inputs if it has both": (
        [NONE | {"x": x, "n": n} for x, n in ((1.0, 2), (None, 7), (9.0, None), (3.0, 8))],
        {"covariance": 6.0, "covariance_p": 3.0, "correlation": 1.0},
    ),
    "an int beside a float keeps its bits": (
        [NONE | {"x": x, "n": n} for x, n in ((0.0, 2**53), (1.0, 2**53 + 1))],
        {"covariance": 0.5, "correlation": 1.0},
    ),
    "a trend is per day": (of("x", 1.0, 3.0, 5.0), {"trend": 172_800.0}),
    "what is not finite has no shape": (
        of("x", 1.0, INF, 2.0, 3.0),
        {"skew": NAN, "kurtosis": NAN, "trend": NAN, "decay": NAN, "geometric": NAN},
    ),
    "a geometric mean is a power of two": (of("x", 2.0, 8.0), {"geometric": 4.0}),
    "a geometric mean of equals is each": (of("x", 0.1, 0.1, 0.1), {"geometric": 0.1}),
    "a geometric mean with a zero is zero": (of("x", -0.0, 3.0), {"geometric": 0.0}),
    "a geometric mean of a negative is nan": (of("x", 0.0, -3.0), {"geometric": NAN}),
    "an entropy is in bits": (of("word", "a", "b", "a", "c"), {"entropy": 1.5}),
    "an entropy of one value is zero": (of("word", "a", "a", "a"), {"entropy": 0.0}),
    "an entropy counts nan and the zeros once": (of("x", NAN, NAN, 0.0, -0.0), {"entropy_x": 1.0}),
    "time is counted in seconds": (of("x", 1.0, 1.0), {"since": 59.0, "since_first": 60.0}),
}  # fmt: skip


@pytest.fixture(scope="module")
def answers(store: FeatureStore) -> dict[str, dict[str, Answer]]:
    """What both paths say of each case, whose rows are of an entity of its own."""
    entities = [One(store) for _ in CASES]
    for entity, (rows, _) in zip(entities, CASES.values(), strict=True):
        store.push("events", [entity.event(i * S, **row) for i, row in enumerate(rows)])
    found = ask_all(store, "service", [{"key": e.key} for e in entities], instant(T))
    return dict(zip(CASES, found, strict=True))


def answer(value: Any) -> Answer:
    """The answer of a window that has events."""
    return value if value == ERRED else NULL if value is None else present(value)


@pytest.mark.parametrize("name", CASES)
def test_an_aggregate_is_what_the_table_says(
    answers: dict[str, dict[str, Answer]], name: str
) -> None:
    expected = {feature: answer(value) for feature, value in CASES[name][1].items()}
    assert {feature: answers[name][feature] for feature in expected} == expected


def test_an_empty_window_is_what_the_table_says(one: One) -> None:
    """Of an entity that is known, whose only event has left the window."""
    one.push("events", -D, **NONE)
    assert one.ask("service") == {name: answer(value) for name, value in EMPTY.items()}


def test_an_unknown_entity_has_its_empty_windows(one: One) -> None:
    assert one.ask("service") == {name: empty(value) for name, value in EMPTY.items()}


def test_neither_order_nor_grouping_of_pushes_changes_a_bit(store: FeatureStore) -> None:
    """One set of events: in one push, one by one, and in any order."""
    values, rng = [1e16, 1.0, -1e16, 1e-300, 0.1, 0.2, LARGE, -LARGE, -0.0], random.Random(7)
    rows = [NONE | {"x": x, "n": i, "word": f"{i % 3}"} for i, x in enumerate(values)]
    entities = [One(store) for _ in range(4)]
    for number, one in enumerate(entities):
        made = [one.event(i * S, **row) for i, row in enumerate(rows)]
        if number > 1:
            rng.shuffle(made)
        for part in [made] if number in (0, 2) else [[row] for row in made]:
            store.push("events", part)
    found = ask_all(store, "service", [{"key": e.key} for e in entities], instant(T))
    assert found == [found[0]] * len(entities)


def test_an_int_with_nulls_is_an_int_and_a_bool_a_bool(one: One) -> None:
    one.push("events", 0, **NONE | {"n": 2**53 + 1, "b": True})
    frame = [{"key": key, "event_timestamp": instant(5)} for key in (-1, one.key)]
    made = one.store.get_historical_features(frame, "service")
    arrow, pandas = made.to_arrow(), made.to_pandas()
    types = {name: str(arrow.schema.field(name).type) for name in ("total", "any", "rows")}
    assert types == {"total": "int64", "any": "bool", "rows": "int64"}
    assert {name: str(pandas[name].dtype) for name in types} == {
        "total": "Int64", "any": "boolean", "rows": "int64",
    }  # fmt: skip
    assert pandas["total"][1] == 2**53 + 1


def test_a_default_replaces_none_and_is_there(one: One) -> None:
    one.push("events", 0, **NONE)
    found = one.ask("service", 5)
    assert (found["sum"], found["sum_or_seven"]) == (NULL, present(7.0))


T_1, T_512, T_1023 = 0.9993233275026507, 0.7071067811865476, 0.5003385653465332


@pytest.mark.parametrize(
    ("us", "weight"),
    [(0, 1.0), (977, T_1), (500_000, T_512), (999_999, T_1023), (S, 0.5), (3 * S, 0.125),
     (999 * S, 2.0**-999), (1000 * S, 0.0)],
)  # fmt: skip
def test_a_decay_s_weights_are_those_of_the_rule(one: One, us: int, weight: float) -> None:
    """Of one event, that long ago, with a half-life of a second."""
    one.push("events", 0, **NONE | {"x": 1.0})
    assert one.ask("service", us)["decay"] == present(weight)


def test_a_label_has_no_decay() -> None:
    decay = importlib.import_module("featurekit.aggregates").ExponentialDecay
    with pytest.raises(DefinitionError, match="a label looks ahead; leave ahead= out"):
        decay("x", window="7d", half_life="1d", ahead=True)


def test_a_dict_has_each_category_s_value_the_most_frequent_first(
    answers: dict[str, dict[str, Answer]],
) -> None:
    expected = answer({"b": 5.0, "a": 2.0})
    assert answers["a dict of categories"]["by_word"] == expected


def test_of_the_categories_top_keeps_the_first(answers: dict[str, dict[str, Answer]]) -> None:
    assert answers["a dict of categories"]["top_words"] == answer({"a": 2})
