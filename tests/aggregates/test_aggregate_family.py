"""Every aggregate of the table in docs/rules.md: its laws, its hand-worked values, and that the
oracle, DuckDB and online states agree on hostile values, bit for bit."""

from __future__ import annotations

import datetime as dt
import inspect
import itertools
import math
import random
import statistics
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import awkward
import duckdb
import oracle
import pyarrow as pa
import pytest
from agreeing import (
    EXAMPLES,
    PAIR,
    agree,
    late,
    numbered,
    offline_agrees,
    online_agrees,
    prompt,
    quotient,
    ratio,
    rich,
    view,
)
from family import FAMILY, HINTS, PLAIN, W, each, inputs, lists, shown
from hypothesis import example, given, settings
from hypothesis import strategies as st
from oracle import bits
from paths import Paths, Question, column, connect, service_of

from featurekit import aggregates
from featurekit.aggregates import (
    BY_NAME,
    Aggregate,
    All,
    ApproxCountDistinct,
    ApproxQuantile,
    BitAnd,
    BitOr,
    Correlation,
    Count,
    Covariance,
    Entropy,
    ExponentialDecay,
    First,
    FirstN,
    GeometricMean,
    Kurtosis,
    LastN,
    LinearTrend,
    Max,
    Mean,
    Min,
    Quantile,
    Rate,
    Ratio,
    Skew,
    StdDev,
    Sum,
    SumOfSquares,
    TimeSince,
    TopK,
    ValueCounts,
    Variance,
    exact,
    hyperloglog,
    quantiles,
)
from featurekit.aggregates import Any as AnyOf
from featurekit.aggregates.hyperloglog import HyperLogLog
from featurekit.aggregates.listed import Listed
from featurekit.aggregates.quantiles import BucketCounts
from featurekit.aggregates.sql import InputColumn
from featurekit.aggregates.sums import sums_of
from featurekit.aggregates.tallies import Form
from featurekit.core import roots
from featurekit.core.types import (
    BOOL,
    FLOAT,
    INT,
    STR,
    instant,
)
from featurekit.define.compile_service import compile_service
from featurekit.define.compile_view import compile_view
from featurekit.define.definitions import EventSource, FeatureView
from featurekit.define.published import plan_bytes, read_plan
from featurekit.errors import DefinitionError
from featurekit.language import wire as ir
from featurekit.language.transform import feature
from featurekit.online.state.codec import encode_column, raw_column

NAN, INF, MAX_DOUBLE, TINY = math.nan, math.inf, 1.7976931348623157e308, 5e-324
ERRED = "an error"


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        yield connection


def told(compute: Any) -> Any:
    try:
        return bits(compute())
    except (ArithmeticError, oracle.Erred):
        return ERRED


# --- laws -----------------------------------------------------------------------------------------


@each
def test_neither_order_nor_grouping_leaves_a_trace(one, type_):
    """Of inputs, of sums of some beside others, and of values over some in the place of these."""

    @settings(max_examples=max(10, EXAMPLES // 4))
    @given(inputs(one, type_), st.randoms(use_true_random=False))
    def check(values, shuffler):
        expected = told(lambda: oracle._finish(one, values))
        assert told(lambda: one.as_of(one.over(values, type_), 0)) == expected
        first, last = sorted(shuffler.randint(0, len(values)) for _ in range(2))
        groups = [values[:first], values[first:last], values[last:]]
        if one.chooses:
            chosen = [one.over(group, type_) for group in groups if group]
            assert told(lambda: one.over(chosen, type_)) == expected
        if one.ordered:
            return
        shuffler.shuffle(groups)
        if one.adds:
            beside, *summed = groups
            early, late = (sums_of(group, type_, one.adds) for group in summed)
            assert told(lambda: one.over_sums(early + late, beside, type_)) == expected
        if one.tallies:
            form = Form(one.tallies, type_)
            parts = [form.of(stored(type_, group)) for group in groups]
            kept = [form.decode(memoryview(form.encode(form.merged([part])))) for part in parts]
            once = form.of(stored(type_, values))
            bytes_ = form.encode(form.merged([once]))
            for some in ([once], parts, kept, [kept[0], form.merged([parts[1], kept[2]])]):
                for tally in (form.together(some), form.merged(some)):
                    assert told(lambda t=tally: one.over_tally(t, type_)) == expected
                assert form.encode(form.merged(some)) == bytes_
        shuffler.shuffle(values)
        assert told(lambda: one.as_of(one.over(values, type_), 0)) == expected

    check()


def stored(type_: Any, values: list[Any]) -> Any:
    """The values as a state holds them, which is where tallies read them."""
    data = memoryview(encode_column(type_, values))
    return raw_column(type_, data, 0, len(values))[0]


@pytest.mark.parametrize("type_", PLAIN, ids=str)
def test_a_sketch_of_distinct_values_may_be_made_of_parts(type_):
    @given(lists(type_), st.randoms(use_true_random=False), st.integers(1, 5))
    def check(values, shuffler, groups):
        expected = oracle._hyperloglog(values)
        shuffler.shuffle(values)
        sketch = merged(HyperLogLog, values, groups)
        assert sketch.estimate() == expected
        assert sketch.ranks == HyperLogLog(values).ranks

    check()


def test_a_sketch_of_values_that_share_registers_may_be_made_of_parts():
    values = list(range(20_000))
    whole = HyperLogLog(values)
    for groups in (1, 2, 7):
        for order in (values, values[::-1]):
            assert merged(HyperLogLog, order, groups).ranks == whole.ranks
    assert whole.estimate() == oracle._hyperloglog(values)


@given(lists(FLOAT), st.randoms(use_true_random=False), st.integers(1, 5))
def test_a_sketch_of_quantiles_may_be_made_of_parts(values, shuffler, groups):
    expected = [told(lambda q=q: oracle._finish(about(q), values)) for q in (0.0, 0.5, 0.99, 1.0)]
    shuffler.shuffle(values)
    sketch = merged(BucketCounts, values, groups)
    assert [told(lambda q=q: sketch.quantile(q)) for q in (0.0, 0.5, 0.99, 1.0)] == expected
    assert sketch.counts == BucketCounts(values).counts


def about(q: float) -> ApproxQuantile:
    return ApproxQuantile(**W, q=q)


def merged(kind: Any, values: list[Any], groups: int) -> Any:
    """A sketch of the values, by way of one for each of the groups."""
    sketch = kind()
    for i in range(groups):
        sketch.merge(kind(values[i::groups]))
    return sketch


def test_the_table_says_how_each_aggregate_is_computed():
    """That of the package's docstring."""
    documented = costs_in_the_docs()
    rows = [line.strip("|").split("|") for line in inspect.getdoc(aggregates).splitlines()
            if line.startswith("|")][2:]  # fmt: skip
    said = {name.strip(): [cell.strip() for cell in cells] for name, *cells in rows}
    assert list(said) == [name for name in aggregates.__all__ if name != "Aggregate"]
    for one in (*(one for one, _ in FAMILY), TimeSince(**W)):
        types = {type(o): types for o, types in FAMILY}
        type_ = types.get(type(one), (INT,))[-1]
        made = one.sql(InputColumn("e.x", type_, "e.__o"), "TRUE")
        crowded = "tiled join"
        if made.terms:
            crowded = "running sums" if made.terms[0].adds else "running extremes"
        python = ("sums" if isinstance(one, (Sum, Mean)) else "value") if one.finishers else ""
        block = "sums" if one.adds else "value" if one.chooses else "inputs"
        block = block if one.suffice is None else "ends"
        block = "ends" if getattr(one, "distinct", False) else block  # the table says that aside
        block = "tally" if one.tallies else block
        assert said[type(one).__name__] == [crowded, python, block, one.of_run or ""]
        stands, reads, training, crowded_key = documented[type(one).__name__]
        assert (stands, crowded_key) == (block, crowded)
        assert reads.startswith(READ[block])
        assert ("Python" in training) == bool(one.finishers)
        assert (training == "Python over lists") == one.listed == isinstance(one, Listed)
    assert set(documented) == set(said)


READ = {
    "sums": "two blocks",
    "value": "two blocks",
    "ends": "the blocks at one end",
    "tally": "groups",
    "inputs": "all blocks",
}
"""How docs/windows.md begins to say what a lookup reads, by what stands for a block."""


def costs_in_the_docs() -> dict[str, tuple[str, str, str, str]]:
    """By aggregate, of the table of docs/windows.md: what stands for a block, what a lookup reads,
    and how a training set is made, also of a crowded key."""
    page = (Path(__file__).parents[2] / "docs" / "windows.md").read_text(encoding="utf-8")
    _, _, section = page.partition("\n## What each aggregate costs\n")
    found: dict[str, tuple[str, str, str, str]] = {}
    for line in section.partition("\n## ")[0].splitlines():
        if line.startswith("| ") and not line.startswith(("| aggregates", "| ---")):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            names, stands, reads, _, _, training, crowded = cells
            found |= dict.fromkeys(names.split(", "), (stands, reads, training, crowded))
    return found


def test_every_aggregate_of_the_table_is_in_the_family():
    kinds = {type(one) for one, _ in FAMILY} | {TimeSince}
    assert set(BY_NAME.values()) == kinds
    assert {getattr(aggregates, name) for name in aggregates.__all__} == {*kinds, Aggregate}


@pytest.mark.parametrize("since", ["last", "first"])
@given(ts=st.lists(st.integers(-(2**58), 2**58)), shuffler=st.randoms(use_true_random=False))
def test_the_instant_of_a_time_since_needs_no_order(since, ts, shuffler):
    one = TimeSince(window="1d", since=since)
    expected = one.over(ts, None)
    shuffler.shuffle(ts)
    assert one.over(ts, None) == expected
    t = 2**58 + 7
    assert bits(one.as_of(expected, t)) == bits(oracle._seconds(one, ts, t))


# --- variance -------------------------------------------------------------------------------------

HOSTILE = {
    "far apart": [1e308, 1e-308, 0.0],
    "beyond the doubles": [MAX_DOUBLE, -MAX_DOUBLE],
    "cancelling": [1e16, 1e16 + 2, 1e16 + 4],
    "pennies": [0.1, 0.2, 0.3],
    "equal pennies": [0.1] * 10,
    "subnormal": [TINY, 0.0, TINY],
    "a subnormal root": [TINY, 0.0],
    "a little at the end": [1.0, 1.0, 1.0 + 2**-52],
    "too few": [1e308],
}


@pytest.mark.parametrize("values", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("ddof", [0, 1])
def test_a_spread_is_what_fractions_and_statistics_say(values, ddof):
    assert_spread(values, ddof)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)), st.sampled_from([0, 1]))
def test_a_spread_of_any_doubles_is_what_fractions_and_statistics_say(values, ddof):
    assert_spread(values, ddof)


@given(st.lists(st.integers(-(2**63), 2**63 - 1)), st.sampled_from([0, 1]))
def test_a_spread_of_any_ints_is_what_fractions_and_statistics_say(values, ddof):
    assert_spread(values, ddof)


def assert_spread(values: list[Any], ddof: int) -> None:
    def variance() -> float:
        mean = sum(map(Fraction, values)) / len(values)
        return float(sum((Fraction(v) - mean) ** 2 for v in values) / (len(values) - ddof))

    def deviation() -> float:
        return float((statistics.stdev if ddof else statistics.pstdev)(values))

    few = len(values) <= ddof
    type_ = INT if values and isinstance(values[0], int) else FLOAT
    for kind, expected in ((Variance, variance), (StdDev, deviation)):
        one = kind("x", window="1d", ddof=ddof)
        wanted = bits(None) if few else told(expected)
        assert told(lambda one=one: one.over(values, type_)) == wanted


@given(n=st.integers(0, 2**200), m=st.integers(1, 2**200))
@example(n=2**2040, m=3)
@example(n=3, m=2**2200)
@example(n=(2**53 + 1) ** 2, m=4)  # a tie
@example(n=(2**53 + 1) ** 2 + 1, m=4)
@example(n=(2**53 + 1) ** 2 - 1, m=4)
def test_a_root_is_rounded_to_the_nearest_double(n, m):
    root = roots.root(n, m)
    if root == 0.0:
        assert Fraction(n, m) <= Fraction(TINY) ** 2 / 4
        return
    low, high = math.nextafter(root, 0.0), math.nextafter(root, INF)
    exact_root = Fraction(n, m)
    assert ((Fraction(low) + Fraction(root)) / 2) ** 2 <= exact_root
    assert exact_root <= ((Fraction(root) + Fraction(high)) / 2) ** 2
    if exact_root in (((Fraction(root) + Fraction(end)) / 2) ** 2 for end in (low, high)):
        assert math.frexp(root)[0] * 2**53 % 2 == 0


@pytest.mark.parametrize(
    ("values", "value"), [([NAN], None), ([NAN, 1.0], NAN), ([INF, INF], NAN), ([1.0, -INF], NAN)]
)
def test_too_few_are_none_before_a_nan_is_nan(values, value):
    assert bits(Variance(**W).over(values, FLOAT)) == bits(value)
    assert bits(StdDev(**W).over(values, FLOAT)) == bits(value)
    expected = NAN if values else None
    assert bits(Variance(**W, ddof=0).over(values, FLOAT)) == bits(expected)


# --- worked by hand -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "values", "value"),
    [
        (First(**W), [3, 1, 2], 3),
        (FirstN(**W, n=2), [3, 1, 2], [3, 1]),
        (LastN(**W, n=2), [3, 1, 2], [1, 2]),
        (LastN(**W, n=9), [3, 1], [3, 1]),
        (Variance(**W), [2, 4, 4, 4, 5, 5, 7, 9], 32 / 7),
        (StdDev(**W, ddof=0), [2, 4, 4, 4, 5, 5, 7, 9], 2.0),
        (Quantile(**W, q=0.5), [1, 3, 2, 4], 2.5),
        (Quantile(**W, q=0.25), [10, 20, 30], 15.0),
        (Quantile(**W, q=0.9), [2**63 - 1, -(2**63)], -(2.0**63) + 2.0**64 * 0.9),
        (Quantile(**W, q=0.5), [INF], INF),
        (Quantile(**W, q=0.5), [INF, INF], INF),
        (Quantile(**W, q=0.5), [-INF, INF], NAN),
        (Quantile(**W, q=0.0), [0.0, -0.0], -0.0),
        (Quantile(**W, q=0.1), [1.0, NAN, 2.0], NAN),
        (ApproxQuantile(**W, q=0.5), [0.0, -0.0], 0.0),
        (ApproxQuantile(**W, q=0.5), [1.0], 1.00390625),
        (ApproxQuantile(**W, q=0.5), [-1.0], -1.00390625),
        (ApproxQuantile(**W, q=1.0), [1.0, INF], INF),
        (ApproxQuantile(**W, q=0.0), [1.0, NAN], NAN),
        (ValueCounts(**W), ["b", "a", "c", "c"], {"c": 2, "a": 1, "b": 1}),
        (ValueCounts(**W), [-0.0, NAN, 0.0, 1.0, -NAN], {0.0: 2, NAN: 2, 1.0: 1}),
        (TopK(**W, k=2), ["b", "a", "c", "c"], ["c", "a"]),
        (AnyOf(**W), [False, True], True),
        (All(**W), [False, True], False),
        (ApproxCountDistinct(**W), [0.0, -0.0, NAN, -NAN, 1.0, 1.0], 3),
    ],
    ids=lambda x: shown(x) if isinstance(x, Aggregate) else None,
)
def test_worked_by_hand(one, values, value):
    type_ = {bool: BOOL, int: INT, float: FLOAT, str: STR}[type(values[0])]
    assert bits(one.over(values, type_)) == bits(value)


@pytest.mark.parametrize("order", list(itertools.permutations([0.0, -0.0, 0.0])))
@pytest.mark.parametrize(("kind", "value"), [(Min, -0.0), (Max, 0.0)])
def test_extremes_tell_the_zeros_apart_in_any_order(kind, value, order):
    assert bits(kind(**W).over(order, FLOAT)) == bits(value)
    assert bits(kind(**W).over([*order, NAN], FLOAT)) == bits(NAN)


@pytest.mark.parametrize(
    ("one", "empty"),
    [(First, None), (Variance, None), (StdDev, None), (ApproxCountDistinct, 0),
     (ValueCounts, {}), (AnyOf, None), (All, None), (TimeSince, None)],
)  # fmt: skip
def test_an_empty_window(one, empty):
    assert bits(one(**W).over([], BOOL)) == bits(empty)


@pytest.mark.parametrize(
    ("one", "empty"),
    [(FirstN(**W, n=2), []), (LastN(**W, n=2), []), (TopK(**W, k=2), []),
     (Quantile(**W, q=0.5), None), (ApproxQuantile(**W, q=0.5), None)],
)  # fmt: skip
def test_an_empty_window_of_one_with_parameters(one, empty):
    assert bits(one.over([], FLOAT)) == bits(empty)


# --- sketches -------------------------------------------------------------------------------------


@pytest.mark.parametrize("type_", PLAIN, ids=str)
def test_registers_are_the_same_bits_in_duckdb(con, type_):
    @settings(max_examples=max(10, EXAMPLES // 4))
    @given(st.lists(awkward.values(HINTS[type_]), min_size=1, max_size=30))
    def check(values):
        con.register("given", pa.table({"x": column(type_, values), "o": range(len(values))}))
        code = hyperloglog.code_sql(InputColumn("x", type_, "o"))
        typed = f"(SELECT x::{type_.duckdb} AS x, o FROM given)"
        found = con.execute(f"SELECT {code} FROM {typed} ORDER BY o").fetchall()
        con.unregister("given")
        canonical = map(hyperloglog.canonical_bytes, values)
        assert [n for (n,) in found] == hyperloglog.codes(canonical).tolist()

    check()


@given(values=st.lists(st.floats() | st.sampled_from(awkward._FLOATS), min_size=1))
def test_buckets_are_the_same_bits_in_duckdb(con, values):
    con.register("given", pa.table({"x": column(FLOAT, values)}))
    bucket = quantiles.bucket_sql("x")
    sql = f"SELECT n, {quantiles.middle_sql('n')} FROM (SELECT {bucket} AS n FROM given)"
    found = con.execute(sql).fetchall()
    con.unregister("given")
    expected = [quantiles.bucket(v) for v in values]
    assert [n for n, _ in found] == expected
    assert [bits(x) for _, x in found] == [bits(quantiles.middle(n)) for n in expected]


@given(st.floats(allow_nan=False))
def test_a_bucket_is_off_by_one_part_in_256(x):
    found = quantiles.middle(quantiles.bucket(x))
    if abs(x) >= 2.0**-1022 and math.isfinite(x):
        assert abs(Fraction(found) - Fraction(x)) * 256 <= abs(Fraction(x))
    elif math.isfinite(x):
        assert abs(found - x) <= 2.0**-1029
    else:
        assert found == x


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_buckets_are_in_the_order_of_values(x, y):
    low, high = sorted((x, y))
    assert quantiles.bucket(low) <= quantiles.bucket(high)


@pytest.mark.parametrize("n", [0, 1, 10, 100, 1_000, 10_000, 100_000])
def test_a_distinct_estimate_is_near(n):
    found = ApproxCountDistinct(**W).over(range(n), INT)
    assert abs(found - n) <= max(1, 0.05 * n)


# --- three ways -----------------------------------------------------------------------------------


@feature
def size(amount: float) -> float:
    return abs(amount) + 1.0


def of(name: str, made: Any, *more: Any, **options: Any) -> dict[str, Aggregate]:
    """One aggregate of each of the columns, by turns with hops, offsets and conditions."""
    ways = ({}, {"hop": "7h"}, {"offset": "1h"}, {"where": "flag"})
    columns = (made, *more)
    return {
        f"{name}_{i}": options["kind"](
            x, window=("1d", "8d")[i % 2], **ways[i % 4], **options.get("params", {})
        )
        for i, x in enumerate(columns)
    }


numbers = ("amount", "qty", "amount", ratio, quotient)
everything = ("amount", "qty", "flag", "name", ratio)
NUMERIC = {
    **of("variance", *numbers, kind=Variance),
    **of("variance_p", *numbers[1:], kind=Variance, params={"ddof": 0}),
    **of("stddev", *numbers, "flag", kind=StdDev),
    **of("median", *numbers, kind=Quantile, params={"q": 0.5}),
    **of("upper", *numbers[::-1], kind=Quantile, params={"q": 0.9}),
    **of("about", *numbers, kind=ApproxQuantile, params={"q": 0.5}),
    **of("about_upper", *numbers[::-1], kind=ApproxQuantile, params={"q": 0.95}),
    "sum": Sum("amount", windows=["1h", "1d", dt.timedelta(days=8)]),
    "mean": Mean(ratio, windows=["1h", "1d"], default=0.0),
    "or_zero": Variance("amount", window="1h", default=0.0),
}
EXACT = {
    **of("squares", *numbers[1:], "flag", kind=SumOfSquares),
    **of("skew", *numbers, kind=Skew),
    **of("skew_p", *numbers[::-1], "flag", kind=Skew, params={"ddof": 0}),
    **of("kurtosis", *numbers[::-1], "flag", kind=Kurtosis),
    **of("kurtosis_p", *numbers, kind=Kurtosis, params={"ddof": 0}),
    **of("geometric", *numbers, "flag", kind=GeometricMean),
    **of("geometric_of_few", size, "qty", size, kind=GeometricMean),
    **of("entropy", *everything, kind=Entropy),
    **of("trend", *numbers, "flag", kind=LinearTrend),
    **of("decay", *numbers, "flag", kind=ExponentialDecay, params={"half_life": "90m"}),
    **of("decay_fast", *numbers[1:], kind=ExponentialDecay, params={"half_life": "13s"}),
    **of("common", "qty", quotient, "qty", "qty", kind=BitAnd),
    **of("bits", "qty", "qty", quotient, "qty", kind=BitOr),
    "covariance": Covariance("amount", "qty", window="8d"),
    "covariance_p": Covariance("qty", "amount", window="1d", ddof=0, hop="7h", default=-0.0),
    "covariance_n": Covariance("qty", quotient, window="8d", where="flag"),
    "covariance_x": Covariance("amount", ratio, window="8d", offset="1h"),
    "correlation": Correlation("amount", "qty", window="8d"),
    "correlation_b": Correlation("flag", "qty", windows=["1h", "8d"], default=0.0),
    "ratio": Ratio("amount", "qty", window="8d"),
    "ratio_n": Ratio("qty", "amount", windows=["1h", "8d"], default=0.0),
    "ratio_b": Ratio("flag", "qty", window="8d", where="flag"),
    "ratio_r": Ratio(ratio, "amount", window="1d"),
    "rate": Rate("flag", windows=["1h", "8d"]),
    "correlation_r": Correlation(ratio, "amount", window="8d", where="flag"),
}
VALUES = {
    **of("first", *everything, kind=First),
    **of("firsts", *everything, kind=FirstN, params={"n": 2}),
    **of("lasts", *everything, kind=LastN, params={"n": 3}),
    **of("distinct", *everything, kind=ApproxCountDistinct),
    **of("counts", *everything, kind=ValueCounts),
    **of("top", *everything, kind=TopK, params={"k": 2}),
    "any": AnyOf("flag", window="1d"),
    "all": All("flag", window="8d", default=True),
    "all_hop": All("flag", window="1d", hop="1h"),
    "since": TimeSince(window="8d"),
    "since_first": TimeSince(window="8d", since="first", hop="7h"),
    "since_name": TimeSince("name", window="8d", where="flag", default=-1.0),
    "since_ratio": TimeSince(ratio, window="7d", offset="1h"),
}
RICH_VALUES = {
    f"{kind.__name__.lower()}_{name}": kind(name, window="7d", **params)
    for kind, params in [
        (First, {}),
        (FirstN, {"n": 2}),
        (LastN, {"n": 2}),
        (ApproxCountDistinct, {}),
        (ValueCounts, {}),
        (TopK, {"k": 2}),
    ]
    for name in ("at_field", "day", "lasting", "raw", "items", "prices", "words")
    if name not in ("items", "prices", "words") or kind in (First, FirstN, LastN)
}
SERVICES = {
    "numbers of late events": service_of(view("numbers", PAIR, late, NUMERIC)),
    "numbers of prompt events": service_of(view("numbers", PAIR, prompt, NUMERIC)),
    "exact values of late events": service_of(view("exact", PAIR, late, EXACT)),
    "exact values of prompt events": service_of(view("exact", PAIR, prompt, EXACT)),
    "values of late events": service_of(view("values", PAIR, late, VALUES)),
    "values of numbered events": service_of(view("values", PAIR, numbered, VALUES)),
    "values of prompt events": service_of(view("values", PAIR, prompt, VALUES)),
    "values of other types": service_of(view("rich", PAIR, rich, RICH_VALUES)),
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", SERVICES)
def test_offline_is_what_the_oracle_says(con, name):
    offline_agrees(con, SERVICES[name], examples=max(5, EXAMPLES // 5))


@pytest.mark.thorough
@pytest.mark.parametrize("name", SERVICES)
def test_online_is_what_the_oracle_says_however_states_were_filled(con, name):
    online_agrees(con, SERVICES[name], examples=max(5, EXAMPLES // 10))


def of_amounts(con: Any, amounts: list[float], features: Any) -> tuple[Any, Any]:
    """What offline and the oracle say of one entity with these amounts."""
    rows = [
        {"key": 1, "key2": "a", "amount": x, "qty": 1, "flag": None, "name": None}
        | {"__ts": i, "__created": i}
        for i, x in enumerate(amounts)
    ]
    service = service_of(view("amounts", PAIR, prompt, features))
    paths = Paths(con, service, {"prompt": rows})
    questions = [Question({"key": 1, "key2": "a"}, len(amounts))]
    found = paths.offline(questions), paths.oracle(questions)
    paths.close()
    return found


@pytest.mark.parametrize("values", HOSTILE.values(), ids=HOSTILE)
def test_hostile_columns_have_exact_spreads_and_sums_offline(con, values):
    features = {
        "variance": Variance("amount", window="1d"),
        "stddev": StdDev("amount", window="1d", ddof=0),
        "sum": Sum("amount", window="1d"),
        "mean": Mean("amount", window="1d"),
    }
    found, expected = of_amounts(con, values, features)
    assert [(bits(v), s) for v, s in found[0]] == [(bits(v), s) for v, s in expected[0]]


@settings(max_examples=max(5, EXAMPLES // 5))
@given(seed=st.integers(0, 2**32), scale=st.sampled_from(["money", "wide", "bits"]))
def test_long_windows_are_exact_offline(con, seed, scale):
    chance = random.Random(seed)
    draw = {
        "money": lambda: chance.randint(-(10**7), 10**7) / 100,
        "wide": lambda: chance.uniform(-1, 1) * 10.0 ** chance.randint(-12, 12),
        "bits": lambda: math.ldexp(chance.uniform(-1, 1), chance.randint(-1070, 1000)),
    }[scale]
    features = {
        "variance": Variance("amount", window="1d"),
        "stddev": StdDev("amount", window="1d"),
        "sum": Sum("amount", window="1d"),
        "mean": Mean("amount", window="1d"),
        "median": Quantile("amount", window="1d", q=0.5),
        "about": ApproxQuantile("amount", window="1d", q=0.5),
        "distinct": ApproxCountDistinct("amount", window="1d"),
        "top": TopK("amount", window="1d", k=3),
    }
    found, expected = of_amounts(con, [draw() for _ in range(chance.randint(1, 400))], features)
    assert [(bits(v), s) for v, s in found[0]] == [(bits(v), s) for v, s in expected[0]]


@settings(max_examples=max(5, EXAMPLES // 5))
@given(
    pence=st.lists(st.integers(-(10**4), 10**4).map(lambda n: n / 100), min_size=2, max_size=20),
    pounds=st.lists(st.integers(-(2**53), 2**53).map(lambda n: n * 2.0**7), max_size=3),
)
def test_small_amounts_are_exact_beside_an_entity_of_large_ones(con, pence, pounds):
    # One column has one scale: the bits of small values lie far below those of large ones.
    rows = [
        {"key": key, "key2": "a", "amount": x, "qty": 1, "flag": None, "name": None}
        | {"__ts": i, "__created": i}
        for key, amounts in ((1, pence), (2, pounds), (3, [*pence, *pounds]))
        for i, x in enumerate(amounts)
    ]
    features = {
        "variance": Variance("amount", window="1d"),
        "stddev": StdDev("amount", window="1d", ddof=0),
        "sum": Sum("amount", window="1d"),
        "mean": Mean("amount", window="1d"),
    }
    paths = Paths(con, service_of(view("amounts", PAIR, prompt, features)), {"prompt": rows})
    questions = [Question({"key": key, "key2": "a"}, 100) for key in (1, 2, 3)]
    agree(paths, questions, "offline", paths.oracle(questions), paths.offline(questions))
    paths.close()


@pytest.mark.parametrize("amounts", [[0.0, -0.0, 0.0, -0.0, -1.0], [-0.0, 0.0, 1.0], [-0.0]])
def test_quantiles_offline_tell_the_zeros_apart(con, amounts):
    features = {
        f"q_{i}": Quantile("amount", window="1d", q=q)
        for i, q in enumerate((0.0, 0.25, 0.4, 0.5, 0.75, 1.0))
    }
    for order in (amounts, amounts[::-1]):
        found, expected = of_amounts(con, order, features)
        assert [bits(v) for v, _ in found[0]] == [bits(v) for v, _ in expected[0]]


@pytest.mark.parametrize(
    "us", [0, 1, 999_999, 10**6, 2**53 - 1, 2**53, 2**53 + 1, 2**57 + 3, 6 * 10**17 + 1]
)
def test_a_time_since_is_rounded_once(con, us):
    found = con.execute(f"SELECT fk_seconds({us}::BIGINT)").fetchall()[0][0]
    assert bits(found) == bits(float(Fraction(us, 1_000_000)))


@given(st.lists(st.integers(0, 6 * 10**17), min_size=1))
def test_any_time_since_is_rounded_once(con, many):
    rows = ", ".join(f"({us}::BIGINT)" for us in many)
    found = con.execute(f"SELECT fk_seconds(us) FROM (VALUES {rows}) t(us)").fetchall()
    assert [bits(x) for (x,) in found] == [bits(float(Fraction(us, 10**6))) for us in many]


def test_half_bits_hold_the_products_of_the_largest_values():
    for rows in (1, 2, 3, 1_000, 2**24, 2**40):
        largest = 2 ** (126 - rows.bit_length()) - 1  # |value| at the scale that scale_for chooses
        half = exact.half_bits(rows)
        high, low = largest >> half, 2**half - 1
        assert rows * max(high * high, high * low, low * low) < 2**127


# --- definitions ----------------------------------------------------------------------------------

shop = EventSource(
    "shop", path="shop.parquet", timestamp_field="at",
    schema={"key": int, "key2": str, "x": float, "s": str, "ok": bool, "xs": list[float],
            "a b": float},
)  # fmt: skip


def compiled(**features: Aggregate) -> Any:
    return compile_view(FeatureView("v", entities=[PAIR], source=shop, features=features))


def test_windows_name_a_feature_each():
    made = compiled(spend=Sum("x", windows=["1h", "7d", dt.timedelta(minutes=90)]))
    assert [(f.name, f.window_us) for f in made.features] == [
        ("spend_1h", awkward.HOUR),
        ("spend_7d", 7 * awkward.DAY),
        ("spend_90m", 90 * 60_000_000),
    ]
    assert made.features[0].fingerprint != made.features[1].fingerprint


def test_one_of_windows_is_the_feature_written_alone():
    several = compiled(n=Count(windows=["1h"])).features[0]
    alone = compiled(n_1h=Count(window="1h")).features[0]
    assert several == alone


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sum("x", window="1h", windows=["7d"]), "Sum takes one window, as in"),
        (lambda: Sum("x", windows="7d"), "Sum takes one window, as in"),
        (lambda: Sum("x", windows=["7d", "seven"]), "'seven' is not a duration"),
        (lambda: compiled(a=Sum("x", windows=["7d", "7d"])), "names '7d' twice"),
        (
            lambda: compiled(a_7d=Count(window="7d"), a=Sum("x", windows=["7d"])),
            "'a_7d' is named twice, once by the windows of 'a'",
        ),
        (lambda: LastN(**W, n=0), r"LastN\(n=…\) is a whole number from 1 to 999999, found 0"),
        (lambda: FirstN(**W, n=True), "found True"),
        (lambda: TopK(**W, k=2.0), r"TopK\(k=…\) is a whole number, at least 1, found 2.0"),
        (
            lambda: Quantile(**W, q=1.5),
            r"Quantile\(q=…\) is a number from 0 to 1, as in 0.95, found 1.5",
        ),
        (lambda: ApproxQuantile(**W, q=NAN), "found nan"),
        (lambda: Variance(**W, ddof=2), r"Variance\(ddof=…\) is 1 .* or 0 .*, found 2"),
        (lambda: Skew(**W, ddof=2), r"Skew\(ddof=…\) is 1 .* or 0 .*, found 2"),
        (lambda: Covariance("x", "key", window="1d", ddf=0), "no parameter 'ddf'; it has input, o"),
        (lambda: Covariance("x", "key", window="1d", ddof=True), "found True"),
        (
            lambda: Correlation(window="1d"),
            r"two inputs, each a column.*\(\"amount\", \"quantity\"",
        ),
        (lambda: Correlation("x", "1d"), "Correlation needs a window"),
        (lambda: compiled(a=Correlation("x", window="1d")), "Correlation takes two inputs, as in"),
        (lambda: compiled(a=Ratio(other="x", window="1d")), "Ratio needs two inputs, each"),
        (lambda: compiled(a=Covariance("x", "s", window="1d")), "bool, found str for 's'"),
        (lambda: compiled(a=Covariance("x", "y", window="1d")), "has no column 'y'"),
        (lambda: compiled(a=Covariance("xs", "x", window="1d")), r"found list\[float\] for 'xs'"),
        (lambda: compiled(a=Covariance("x", "a b", window="1d")), "'a b' is no name of Python"),
        (lambda: compiled(a=Sum("xs", window="1d")), "are Count, First, FirstN, Lag, Last, LastN$"),
        (lambda: compiled(a=BitOr("x", window="1d")), "BitOr takes int, found float"),
        (lambda: compiled(a=Entropy("xs", window="1d")), "plain values, found list"),
        (lambda: ExponentialDecay(**W, half_life=7), r"half_life=…\): 7 is not a duration"),
        (lambda: ExponentialDecay(**W, half_life="0s"), "must be positive"),
        (lambda: TimeSince(window="1d", since="then"), 'is "last" or "first", found \'then\''),
        (lambda: compiled(a=Variance("s", window="1d")), "takes int, float or bool, found str"),
        (lambda: compiled(a=Quantile("ok", q=0.5, window="1d")), "takes int or float, found bool"),
        (lambda: compiled(a=AnyOf("x", window="1d")), "Any takes bool, found float"),
        (lambda: compiled(a=ValueCounts("xs", window="1d")), "plain values, found list"),
        (lambda: compiled(a=TopK("xs", k=1, window="1d")), "plain values, found list"),
        (
            lambda: compiled(a=LastN("x", n=2, window="1d", default=[1.0])),
            r"gives list\[float\], which takes no default",
        ),
        (
            lambda: compiled(a=ValueCounts("s", window="1d", default={})),
            r"gives dict\[str, int\], which takes no default",
        ),
    ],
)
def test_a_wrong_definition_says_what_to_write(make, message):
    with pytest.raises(DefinitionError, match=message):
        make()


def test_parameters_are_part_of_a_feature_its_json_and_its_fingerprint():
    made = [
        compiled(f=one).features[0]
        for one in (
            LastN("x", n=2, window="1d"),
            LastN("x", n=3, window="1d"),
            Quantile("x", q=0.5, window="1d"),
            Quantile("x", q=0.25, window="1d"),
            Variance("x", window="1d"),
            Variance("x", ddof=0, window="1d"),
            TimeSince(window="1d"),
            TimeSince(window="1d", since="first"),
        )
    ]
    assert len({f.fingerprint for f in made}) == len(made)
    for one in made:
        again = ir.from_json(ir.to_json(one))
        assert again == one
        assert again.implementation().params == one.params
    assert made[0].params == (("n", 2),)


def test_a_half_life_is_one_however_it_is_written():
    ways = ("7d", "168h", dt.timedelta(days=7))
    made = [compiled(f=ExponentialDecay("x", half_life=w, window="9d")).features[0] for w in ways]
    assert made == [made[0]] * 3
    assert made[0].params == (("half_life", "1w"),)


def test_two_inputs_are_one_slot_for_all_that_take_them():
    made = compiled(
        a=Covariance("x", "key", windows=["1d", "2d"]),
        b=Correlation("x", "key", window="1d", where="ok"),
        c=Covariance("key", "ok", window="1d"),
    )
    assert [f.slot for f in made.features] == [0, 0, 0, 2]
    assert [str(made.slots[i].type) for i in (0, 2)] == ["list[float]", "list[int]"]


def test_a_q_of_1_is_1_0():
    assert Quantile(**W, q=1) == Quantile(**W, q=1.0)
    assert bits(Quantile(**W, q=-0.0).q) == bits(0.0)


@pytest.mark.parametrize(
    ("one", "type_"),
    [
        (LastN("s", n=2, window="1d"), "list[str]"),
        (ValueCounts("s", window="1d"), "dict[str, int]"),
        (ValueCounts("ok", window="1d"), "dict[bool, int]"),
        (TopK("x", k=2, window="1d"), "list[float]"),
        (TimeSince(window="1d"), "float | None"),
        (ApproxCountDistinct("x", window="1d"), "int"),
        (First("xs", window="1d"), "list[float] | None"),
        (StdDev("x", window="1d", default=0), "float"),
    ],
)
def test_results_have_declared_types(one, type_):
    assert str(compiled(f=one).features[0].type) == type_


def test_value_counts_keep_their_order_on_the_way_out(con):
    service = service_of(view("v", PAIR, prompt, {"n": ValueCounts("name", window="1d")}))
    rows = [
        {"key": 1, "key2": "a", "amount": 1.0, "qty": 1, "flag": None, "name": name}
        | {"__ts": i, "__created": i}
        for i, name in enumerate(["b", "a", "c", "c", None])
    ]
    paths = Paths(con, service, {"prompt": rows})
    questions = [Question({"key": 1, "key2": "a"}, 9), Question({"key": 2, "key2": "a"}, 9)]
    (one, _), (other, status) = (row[0] for row in paths.offline(questions))
    assert list(one.items()) == [("c", 2), ("a", 1), ("b", 1)]
    assert (other, status) == ({}, oracle.NOT_FOUND)
    plan = read_plan(plan_bytes(compile_service(service)))
    type_ = plan.outputs[0].type
    assert type_.arrow == pa.map_(pa.string(), pa.int64())
    made = pa.array([one, {}], type=type_.arrow)
    assert made.to_pylist(maps_as_pydicts="strict") == [one, {}]
    assert instant(9).tzinfo is not None
