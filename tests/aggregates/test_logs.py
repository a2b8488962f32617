"""Logarithms, powers of two and weights by whole numbers alone: each is the nearest number."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from oracle import bits

from featurekit.aggregates import logs
from featurekit.aggregates.decay import STEPS, table

MOST = 1.7976931348623157e308


@pytest.mark.parametrize("i", range(STEPS))
def test_a_weight_is_the_nearest_double(i: int) -> None:
    """By the 1024th power of what lies half-way to its neighbours, exactly."""
    weight = table()[i]
    assert 2**52 < weight <= 2**53
    power = 2 ** (53 * STEPS - i)
    assert (2 * weight - 1) ** STEPS < power * 2**STEPS < (2 * weight + 1) ** STEPS


@given(st.integers(1, 2**64) | st.integers(1, 2**2000))
@example(1)
@example(2**63 - 1)
@example(2**600 + 1)
@example(2**600 - 1)
def test_a_logarithm_is_the_nearest_of_its_unit(x: int) -> None:
    with localcontext() as context:
        context.prec = 700
        units = Decimal(x).ln() / Decimal(2).ln() * 2**logs.UNIT_BITS
        assert abs(units - logs.log2(x)) < Decimal("0.5") or x & (x - 1) == 0
    if x & (x - 1) == 0:
        assert logs.log2(x) == (x.bit_length() - 1) << logs.UNIT_BITS


@given(st.floats(5e-324, MOST))
@example(5e-324)
@example(MOST)
@example(math.nextafter(1.0, 0.0))
@example(math.nextafter(1.0, 2.0))
def test_a_logarithm_of_a_double_is_that_of_its_exact_value(x: float) -> None:
    with localcontext() as context:
        context.prec = 100
        units = Decimal(x).ln() / Decimal(2).ln() * 2**logs.UNIT_BITS
        assert logs.log2_of(x) == int(units.to_integral_value())


@given(st.integers(-1075 * 2**60, 1024 * 2**60 - 2**8), st.integers(1, 2**40))
@example(-1074 * 2**60, 1)
@example(2**59, 1)
@example(-1074 * 2**60 + 2**59, 1)
@example(1024 * 2**60 - 2**8, 1)
@example(3 * 2**60 * 7, 7)
@example(1, 2**40)
def test_a_power_of_two_is_the_nearest_double(units: int, n: int) -> None:
    with localcontext() as context:
        context.prec = 120
        power = Decimal(units) / (Decimal(n) * 2**logs.UNIT_BITS)
        expected = float(Decimal(2) ** power)
    assert bits(logs.exp2(units, n << logs.UNIT_BITS)) == bits(expected)


def test_a_power_beyond_the_doubles_is_an_error() -> None:
    for numerator, denominator in ((1024, 1), (2049, 2)):
        with pytest.raises(OverflowError):
            logs.exp2(numerator, denominator)


@given(st.integers(1, 2**200), st.integers(0, 60))
def test_where_few_bits_do_not_decide_more_are_taken(x: int, few: int) -> None:
    """With fewer bits to begin with, the result is the same."""
    expected = logs.log2(x)
    patched = pytest.MonkeyPatch()
    patched.setattr(logs, "_PRECISE", 61 + few)
    try:
        assert logs.log2.__wrapped__(x) == expected
        assert logs.exp2(expected, 3 << 60) == logs.exp2(expected * 2, 6 << 60)
    finally:
        patched.undo()


@given(st.lists(st.floats(1e-300, 1e300), min_size=1, max_size=5))
def test_two_to_the_power_of_a_logarithm_is_the_number(values: list[float]) -> None:
    for x in values:
        assert logs.exp2(logs.log2_of(x), 1 << logs.UNIT_BITS) == x
