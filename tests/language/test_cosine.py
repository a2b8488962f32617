"""`cosine` is the exact rational's signed root, correctly rounded, whatever the numbers are."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from oracle import _signed_root, bits

from featurekit import cosine

numbers = st.floats(allow_nan=False, allow_infinity=False)
vectors = st.integers(1, 6).flatmap(
    lambda n: st.tuples(*(st.lists(numbers, min_size=n, max_size=n) for _ in range(2)))
)


@given(vectors)
@example(([1e308, 5e-324], [-1e308, 5e-324]))
@example(([0.1, 0.2, 0.3], [0.3, 0.2, 0.1]))
@example(([3.0, 4.0], [4.0, -3.0]))
def test_a_cosine_is_the_nearest_double(pair: tuple[list[float], list[float]]) -> None:
    a, b = ([Fraction(x) for x in side] for side in pair)
    both = sum(x * y for x, y in zip(a, b, strict=True))
    lengths = sum(x * x for x in a) * sum(y * y for y in b)
    if not lengths:
        with pytest.raises(ZeroDivisionError):
            cosine(*pair)
        return
    found = cosine(*pair)
    assert bits(found) == bits(_signed_root(Fraction(both), both * both / lengths))
    assert -1.0 <= found <= 1.0


def test_a_vector_has_the_direction_of_its_multiples() -> None:
    tenths = [0.1, 0.7, -0.3]
    assert cosine(tenths, [8 * x for x in tenths]) == 1.0
    assert cosine(tenths, [-x / 1024 for x in tenths]) == -1.0


def test_what_has_no_direction_is_an_error_or_nan() -> None:
    assert math.isnan(cosine([math.inf, 1.0], [1.0, 1.0]))
    assert math.isnan(cosine([0.0], [math.nan]))
    for a, b, error in (
        ([0.0, -0.0], [1.0, 2.0], ZeroDivisionError),
        ([], [], ZeroDivisionError),
        ([1.0], [1.0, 2.0], ValueError),
    ):
        with pytest.raises(error):
            cosine(a, b)
