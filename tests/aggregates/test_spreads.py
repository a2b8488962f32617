"""Many variances and roots at once, and squares in limbs: the bits of `spread`, row by row."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paths import connect

from featurekit.aggregates import StdDev, Variance, exact
from featurekit.aggregates.spread import _from_limbs, spread
from featurekit.aggregates.spreads import BITS, spreads
from featurekit.aggregates.sql import InputColumn
from featurekit.core.types import FLOAT, INT, Type

MASK = 2**BITS - 1
WHOLE = st.one_of(
    st.integers(-(2**90) + 1, 2**90 - 1),
    st.integers(-(2**31), 2**31),
    st.integers(-3, 3),
    st.builds(lambda n, by: n << by, st.integers(-(2**53), 2**53), st.integers(0, 36)),
)
NEAR = st.builds(
    lambda at, by: [at + one for one in by],
    st.integers(-(2**89), 2**89),
    st.lists(st.integers(-(2**8), 2**8), min_size=1, max_size=8),
)
WHOLES = st.one_of(st.lists(WHOLE, min_size=1, max_size=12), NEAR)


def limbs_of(wholes: list[int]) -> tuple[int, list[int], list[int]]:
    """The count, and the sums in limbs, as the Finisher has them."""
    tops, lows = [w >> BITS for w in wholes], [w & MASK for w in wholes]
    squares, (top, low) = sum(w * w for w in wholes), (sum(tops), sum(lows))
    total = [low & MASK, (low >> BITS) + (top & MASK), top >> BITS]
    return len(wholes), total, [(squares >> (BITS * k)) & MASK for k in range(9)]


def of_many(
    rows: list[list[int]], exponent: int, ddof: int, root: bool, times: int = 1
) -> tuple[Any, Any]:
    """The rows, each value so many times."""
    made = [
        (times * n, [times * t for t in total], [times * s for s in squares])
        for n, total, squares in map(limbs_of, rows)
    ]
    counts = np.array([n for n, _, _ in made])
    total = np.array([t for _, t, _ in made]).T
    squares = np.array([s for _, _, s in made]).T
    return spreads(counts, list(total), list(squares), exponent, ddof, root)


@given(
    st.lists(WHOLES, min_size=1, max_size=6),
    st.integers(-95, 8),
    st.integers(0, 1),
    st.booleans(),
    st.sampled_from([1, 1, 7, 2**26 - 5]),  # the product of great counts is no double
)
def test_what_is_sure_has_the_bits_of_one_at_a_time(rows, exponent, ddof, root, times):
    made, unsure = of_many(rows, exponent, ddof, root, times)
    for row, value, is_unsure in zip(rows, made, unsure, strict=True):
        if is_unsure:
            continue
        sums = times * len(row), times * sum(row), times * sum(w * w for w in row)
        assert spread(*sums, exponent=exponent, ddof=ddof, root=root) == value
        assert math.copysign(1.0, value) == 1.0


def test_nearly_every_row_is_sure():
    rng = np.random.default_rng(5)
    pence = [[int(p / 100 * 2**60) for p in rng.integers(1, 10**6, 8)] for _ in range(2_000)]
    for root in (False, True):
        assert not of_many(pence, -60, 1, root)[1].any()
    many = [[int(n) for n in rng.integers(0, 2**40, 11)] for _ in range(500)]
    made, unsure = of_many(many, 0, 1, False, 2**26 - 5)
    assert not unsure.any()
    for row, value in zip(many, made.tolist(), strict=True):
        sums = (n * (2**26 - 5) for n in (11, sum(row), sum(w * w for w in row)))
        assert spread(*sums, exponent=0, ddof=1, root=False) == value
    near = [[2**80 + int(n) for n in rng.integers(0, 1_000, 8)] for _ in range(500)]
    assert of_many(near, -60, 1, True)[1].mean() < 0.01  # nothing is lost where all but all cancels


def test_ties_and_what_is_no_normal_double_are_unsure():
    # The variance is n * n / 4, and this square has 54 bits, of which the last is 1.
    assert of_many([[0, 2**27 - 1]], 0, 0, False)[1].tolist() == [True]
    assert of_many([[0, 3]], -520, 0, False)[1].tolist() == [True]
    assert of_many([[0, 2**80]], 500, 0, False)[1].tolist() == [True]
    made, unsure = of_many([[7, 7], [7]], -520, 0, False)
    assert made.tolist() == [0.0, 0.0]
    assert not unsure[0]


EDGES: dict[Type, list[Any]] = {
    INT: [0, 1, -1, 2**30 - 1, 2**30, -(2**30), 2**60, -(2**60) - 1, 2**63 - 1, -(2**63), None],
    FLOAT: [
        0.0, -0.0, 2.0**-70, -(2.0**-70), 2.0**19 + 2.0**-33, -(2.0**19) - 2.0**-33, 0.1, -0.7,
        math.nextafter(2.0**20, 0), -math.nextafter(2.0**20, 0), 2.0**-10 - 2.0**-40, 1e-3,
        math.nan, math.inf, -math.inf, None,
    ],
}  # fmt: skip


@pytest.mark.parametrize("type_", [INT, FLOAT], ids=str)
def test_limbs_of_an_event_are_its_whole_number_and_its_square(type_):
    scale = 70
    floats = exact.FloatColumn(scale, (), True, short=True) if type_ == FLOAT else None
    made = Variance("x", window="1d").sql(InputColumn("e.x", type_, "e.__o", floats), "TRUE")
    helpers = ", ".join(f"{sql} AS {name}" for name, sql in made.helpers)
    with connect() as con:
        rows = ", ".join(f"({n}, ?::{type_.duckdb})" for n in range(len(EDGES[type_])))
        found = con.execute(
            f"SELECT x__low, x__top, x__square0, x__square1, x__square2 FROM "
            f"(SELECT n, {helpers} FROM (VALUES {rows}) t(n, x)) ORDER BY n",
            EDGES[type_],
        ).fetchall()
    for value, limbs in zip(EDGES[type_], found, strict=True):
        if value is None or not math.isfinite(value):
            assert limbs == (None,) * 5
            continue
        whole = value if type_ == INT else Fraction(value) * 2**scale
        low, top, *squares = limbs
        assert top * 2**BITS + low == whole
        assert sum(s << (2 * BITS * k) for k, s in enumerate(squares)) == whole * whole


@pytest.mark.parametrize("kind", [Variance, StdDev])
def test_the_finisher_gives_what_one_at_a_time_gives(kind):
    import pyarrow as pa

    rows = [[1], [3, 3], [0, 2**27 - 1], [2**89, -(2**89), 5], [0, 1, 2**60 + 1]]
    listed: list[list[int | None]] = [[0] + [None] * 10, [None] * 11]
    for row in rows:
        sums = sum(w & MASK for w in row), sum(w >> BITS for w in row)
        square = sum(w * w for w in row)
        squares = [(square >> (2 * BITS * k)) & (2 ** (2 * BITS) - 1) for k in range(2)]
        squares.append(square >> (4 * BITS))
        listed.append([len(row), *(n for s in (*sums, *squares) for n in (s & MASK, s >> BITS))])
    asked = pa.array([f"3,0,{int(kind.root)}"] * len(listed))
    made = _from_limbs(pa.array(listed, pa.list_(pa.int64())), asked)
    one = [
        spread(len(r), sum(r), sum(w * w for w in r), exponent=3, ddof=0, root=kind.root)
        for r in rows
    ]
    assert made.to_pylist() == [None, None, *one]
