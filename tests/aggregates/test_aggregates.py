"""Aggregates are what the oracle says, and their DuckDB half rounds as their Python half does."""

from __future__ import annotations

import datetime as dt
import itertools
import math
import random
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import awkward
import duckdb
import oracle
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from oracle import bits
from paths import column, connect

from featurekit.aggregates import Aggregate, Count, CountDistinct, Last, Max, Mean, Min, Sum, exact
from featurekit.aggregates.sql import InputColumn
from featurekit.core.types import BOOL, BYTES, DATE, DATETIME, FLOAT, INT, STR, Type, list_of
from featurekit.errors import DefinitionError

MAX, TINY, INF, NAN = 1.7976931348623157e308, 5e-324, math.inf, math.nan
ERRED = "an error"

HINTS = {"bool": bool, "int": int, "float": float, "str": str, "bytes": bytes,
         "datetime": dt.datetime, "date": dt.date}  # fmt: skip
TAKES: dict[type[Aggregate], list[Type]] = {
    Count: [BOOL, INT, FLOAT, STR, BYTES, DATETIME, DATE],
    CountDistinct: [BOOL, INT, FLOAT, STR, BYTES, DATETIME, DATE],
    Min: [BOOL, INT, FLOAT, STR, BYTES, DATETIME, DATE],
    Max: [BOOL, INT, FLOAT, STR, BYTES, DATETIME, DATE],
    Last: [BOOL, INT, FLOAT, STR, BYTES, DATETIME, DATE],
    Sum: [BOOL, INT, FLOAT],
    Mean: [BOOL, INT, FLOAT],
}
EACH = [(kind, type_) for kind, types in TAKES.items() for type_ in types]
each = pytest.mark.parametrize(
    ("kind", "type_"), EACH, ids=[f"{kind.__name__} of {type_}" for kind, type_ in EACH]
)
each_unordered = pytest.mark.parametrize(
    ("kind", "type_"), [(k, t) for k, t in EACH if k is not Last]
)


def made(kind: type[Aggregate]) -> Aggregate:
    return kind("x", window="1d")


def over(kind: type[Aggregate], type_: Type, values: list[Any]) -> Any:
    try:
        return bits(made(kind).over(values, type_))
    except ArithmeticError:
        return ERRED


def by_oracle(kind: type[Aggregate], values: list[Any]) -> Any:
    try:
        return bits(oracle._finish(made(kind), values))
    except oracle.Erred:
        return ERRED


def lists(type_: Type, most: int = 12) -> st.SearchStrategy[list[Any]]:
    """Lists of one flavour of values: tame ones, or cancelling ones, or any."""
    flavours = awkward._flavours(HINTS[type_.name])
    return st.sampled_from(flavours).flatmap(lambda f: st.lists(f, max_size=most))


# --- values ---------------------------------------------------------------------------------------


@each
def test_an_aggregate_is_what_the_oracle_says(kind, type_):
    @given(lists(type_))
    def check(values):
        assert over(kind, type_, values) == by_oracle(kind, values)

    check()


@each_unordered
def test_the_order_of_values_is_of_no_consequence(kind, type_):
    @given(lists(type_), st.randoms(use_true_random=False))
    def check(values, shuffler):
        expected = over(kind, type_, values)
        shuffler.shuffle(values)
        assert over(kind, type_, values) == expected

    check()


@pytest.mark.parametrize(
    ("kind", "empty"),
    [
        (Count, 0),
        (CountDistinct, 0),
        (Sum, None),
        (Mean, None),
        (Min, None),
        (Max, None),
        (Last, None),
    ],
)
def test_an_empty_window(kind, empty):  # fmt: skip
    assert over(kind, INT, []) == bits(empty)


@pytest.mark.parametrize("kind", [Sum, Mean])
def test_texts_are_not_added(kind):
    with pytest.raises(DefinitionError, match="int, float or bool, found str"):
        made(kind).result(STR)


@pytest.mark.parametrize("kind", [Min, Max, CountDistinct])
def test_lists_are_neither_ordered_nor_counted_apart(kind):
    with pytest.raises(DefinitionError, match="found list"):
        made(kind).result(list_of(INT))


# --- the exact sum --------------------------------------------------------------------------------


def test_the_exact_sum_is_the_fractions_sum_rounded_once():
    @given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
    @example([1e16, 1.0, 1.0])
    @example([2.0**53, 1.0, TINY])
    @example([2.0**53, 1.0, -TINY])
    @example([MAX, MAX, -MAX])
    @example([MAX, 9.9792015476736e291])
    def check(values):
        try:
            expected: Any = bits(float(sum(map(Fraction, values), Fraction(0))))
        except OverflowError:
            expected = ERRED
        assert over(Sum, FLOAT, values) == (bits(None) if not values else expected)

    check()


def test_a_sum_that_is_zero_is_plus_zero():
    assert bits(exact.exact_sum([-0.0, -0.0])) == bits(0.0)


def test_a_double_is_a_whole_number_of_units():
    assert exact.units(TINY) == 1
    assert exact.from_units(exact.units(-MAX)) == -MAX


# --- DuckDB's half --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        yield connection


def hugeints() -> Iterator[int]:
    """Totals at which rounding is hard: halfway between doubles, and one beside."""
    rng = random.Random(1)
    for width in range(1, 127):
        for low in (0, 1, -1):
            yield (1 << width) + low
        for _ in range(6):
            mantissa = rng.getrandbits(53) | 1 << 52 | 1
            if width > 54:
                shift = width - 54
                half = ((mantissa ^ rng.getrandbits(1)) << 1 | 1) << (shift - 1)
                far = 1 << rng.randrange(shift)
                yield from (half + d for d in (-far, -1, 0, 1, far))
            yield rng.getrandbits(width)


@pytest.mark.parametrize(("short", "end"), [(False, 2**127), (True, 2**105)])
def test_a_hugeint_rounds_to_the_nearest_double_ties_to_even(con, short, end):
    totals = [sign * n for n in hugeints() for sign in (1, -1) if n < end]
    rows = ", ".join(f"('{n}'::HUGEINT)" for n in totals)
    rounded = exact.round_hugeint_sql("n", short=short)
    sql = f"SELECT n::VARCHAR, {rounded} FROM (VALUES {rows}) t(n)"
    found = con.execute(sql).fetchall()
    assert [(int(n), bits(x)) for n, x in found] == [(n, bits(n / 1)) for n in totals]


@given(st.floats(5e-324, MAX), st.integers(1, 2**40), st.booleans())
@example(math.nextafter(1.0, 0), 2**20 - 1, True)
@example(MAX, 2**40, True)
def test_a_scaled_sum_stays_within_the_integers_that_are_rounded(largest, rows, short):
    scale = exact.scale_for(largest, rows, short=short)
    assert rows * Fraction(largest) * Fraction(2) ** scale < 2 ** (105 if short else 126)
    assert not short or Fraction(largest) * Fraction(2) ** scale < 2**90


def test_a_sum_beyond_the_doubles_is_looked_for_only_where_one_can_be():
    for largest, rows in ((1.0, 3), (1e290, 2**20), (1e300, 2**20), (1e302, 2**20), (MAX, 2)):
        for short in (True, False):
            scale = exact.scale_for(largest, rows, short=short)
            column = exact.FloatColumn(scale, short=short)
            assert column.may_overflow or exact.units(largest) * rows < exact.units(MAX)
    # Sums of up to 2**126 units of 2**897 are doubles, and those of twice that may be none.
    assert [exact.FloatColumn(scale).may_overflow for scale in (-897, -898)] == [False, True]


def by_duckdb(
    con: Any, kind: type[Aggregate], type_: Type, values: list[Any], *, path: str = "chosen"
) -> Any:
    """The aggregate's SQL over a table of the values; floats by the scale or limbs that its
    statistics choose, or by limbs wherever there is something to add."""
    con.register("given", pa.table({"x": column(type_, values), "o": range(len(values))}))
    con.execute(f"CREATE OR REPLACE TEMP TABLE t AS SELECT x::{type_.duckdb} AS x, o FROM given")
    con.unregister("given")
    floats, relation = None, "t"
    if type_ == FLOAT:
        facts = con.execute(f"SELECT {', '.join(exact.statistics_sql('x'))} FROM t").fetchall()[0]
        scale = exact.scale_for(*facts[:2])
        fits = con.execute(f"SELECT {exact.fits_sql('x', scale)} FROM t").fetchall()[0][0]
        if fits and (path == "chosen" or not facts[0]):
            floats = exact.FloatColumn(scale, (), *facts[2:])
            relation = f"(SELECT *, {exact.scaled_sql('x', scale)} AS x__scaled FROM t)"
        else:
            index = exact.limb_index_sql("x")
            asked = f"SELECT DISTINCT {index} FROM t WHERE isfinite(x) AND x <> 0 ORDER BY 1"
            limbs = tuple(r[0] for r in con.execute(asked).fetchall())
            floats = exact.FloatColumn(None, limbs, *facts[2:])
            extra = [f"{exact.limb_sql('x', k)} AS x__limb{k}" for k in limbs]
            relation = f"(SELECT {', '.join(['*', *extra])} FROM t)"
    sql = made(kind).sql(InputColumn("x", type_, "o", floats), "TRUE")
    names = [f"a{i}" for i in range(len(sql.parts))]
    parts = ", ".join(f"{p} AS {n}" for p, n in zip(sql.parts, names, strict=True))
    error = (sql.error or "FALSE").format(*names)
    value = sql.value.format(*names)
    query = f"SELECT {value}, {error} FROM (SELECT {parts} FROM {relation})"
    found, erred = con.execute(query).fetchall()[0]
    if isinstance(found, dt.datetime):
        found = found.replace(tzinfo=dt.UTC)
    return ERRED if erred else bits(found)


@each
def test_duckdb_aggregates_as_python_does(con, kind, type_):
    @settings(max_examples=settings().max_examples // 5)
    @given(lists(type_))
    def check(values):
        assert by_duckdb(con, kind, type_, values) == over(kind, type_, values)

    check()


HOSTILE = {
    "far apart": [1e308, 1e-308, -1e308],
    "subnormal": [TINY, TINY, -2.2250738585072014e-308, 2.225073858507201e-308],
    "only subnormals": [TINY] * 3,
    "cancelling": [1e308, 1.0, -1e308, 1e-308, -1.0],
    "cancelling to nothing": [1e308, -1e308],
    "minus zeros": [-0.0, -0.0],
    "beyond the doubles": [MAX, MAX],
    "beyond and back": [MAX, MAX, -MAX],
    "just below the end": [MAX, 9.979201547673598e291],
    "at the end": [MAX, 9.9792015476735990582e291],
    "below the other end": [-MAX, -1e292],
    "a half to even": [2.0**53, 1.0],
    "a half and a little": [2.0**53, 1.0, TINY],
    "a half less a little": [2.0**53 + 2, 1.0, -TINY],
    "pennies": [0.1, 0.2, 0.3, -0.6],
    "NaN": [1.0, NAN],
    "an infinity": [INF, -MAX, -MAX],
    "both infinities": [INF, 1.0, -INF],
    "NaN and an infinity": [-INF, NAN],
    "one": [0.1],
    "ten limbs": [2.0 ** (100 * k - 1000) for k in range(20)],
    "wide": [1.0, 2.0**-60, 2.0**60],
}


@pytest.mark.parametrize("path", ["chosen", "limbs"])
@pytest.mark.parametrize("kind", [Sum, Mean, Min, Max])
@pytest.mark.parametrize("name", HOSTILE)
def test_duckdb_adds_hostile_doubles_exactly(con, name, kind, path):
    expected = by_oracle(kind, HOSTILE[name])
    assert by_duckdb(con, kind, FLOAT, HOSTILE[name], path=path) == expected
    assert over(kind, FLOAT, HOSTILE[name]) == expected


def test_scale_and_limbs_are_both_chosen(con):
    def chosen(values: list[float]) -> bool:
        rows = ", ".join(f"('{x!r}'::DOUBLE)" for x in values)
        con.execute(f"CREATE OR REPLACE TEMP TABLE t AS SELECT * FROM (VALUES {rows}) v(x)")
        facts = con.execute(f"SELECT {', '.join(exact.statistics_sql('x'))} FROM t").fetchall()[0]
        scale = exact.scale_for(*facts[:2])
        return con.execute(f"SELECT {exact.fits_sql('x', scale)} FROM t").fetchall()[0][0]

    assert chosen(HOSTILE["pennies"])
    assert not chosen(HOSTILE["far apart"])


@pytest.mark.parametrize("path", ["chosen", "limbs"])
def test_both_ways_of_duckdb_s_sum_are_the_oracle_s(con, path):
    @settings(max_examples=settings().max_examples // 2)
    @given(lists(FLOAT, most=20))
    def check(values):
        for kind in (Sum, Mean):
            assert by_duckdb(con, kind, FLOAT, values, path=path) == by_oracle(kind, values)

    check()


@pytest.mark.parametrize("order", list(itertools.permutations([1e16, 1.0, 1.0, -1e16])))
def test_no_order_changes_a_sum(con, order):
    assert by_duckdb(con, Sum, FLOAT, list(order)) == over(Sum, FLOAT, list(order)) == bits(2.0)


@pytest.mark.parametrize(("values", "expected"), [
    ([2**63 - 1], 2**63 - 1),
    ([2**63 - 1, 1], ERRED),
    ([2**63 - 1, 1, -1], 2**63 - 1),
    ([-(2**63)], -(2**63)),
    ([-(2**63), -1], ERRED),
])  # fmt: skip
def test_a_sum_of_ints_outside_int64_is_an_error(con, values, expected):
    wanted = expected if expected == ERRED else bits(expected)
    assert by_duckdb(con, Sum, INT, values) == over(Sum, INT, values) == wanted


def test_a_mean_of_ints_whose_sum_leaves_int64_is_no_error(con):
    values = [2**63 - 1] * 3
    expected = bits(float(3 * (2**63 - 1)) / 3)
    assert by_duckdb(con, Mean, INT, values) == over(Mean, INT, values) == expected
