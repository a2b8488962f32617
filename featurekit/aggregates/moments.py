"""SumOfSquares, Skew and Kurtosis: exact sums of powers inside, rounded once (A1, A2, A5)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from featurekit.aggregates import exact
from featurekit.aggregates.listed import NUMBERS, Listed, finishers_for, number
from featurekit.aggregates.sql import Finisher
from featurekit.aggregates.summing import int64
from featurekit.aggregates.sums import SumField, Sums
from featurekit.core.roots import signed_root
from featurekit.core.types import FLOAT, INT, Type


class SumOfSquares(Listed):
    """The exact sum of the squares of the inputs, in the square of their unit; None when empty.

    Floats: rounded once; NaN with a NaN, else inf with an infinity, and a finite sum beyond the
    doubles is an error. Ints and bools: exact; outside int64 it is an error.
    """

    __slots__ = ()
    adds: ClassVar[tuple[SumField, ...]] = ("count", "total", "squares", "nans", "plus", "minus")
    raises: ClassVar[bool] = True
    finishers: ClassVar[tuple[Finisher, ...]] = (
        *finishers_for(INT, FLOAT),
        *finishers_for(NUMBERS[0], gives=INT),
    )

    def result(self, item: Type | None) -> Type:
        return FLOAT.or_none() if number(self, item) == FLOAT else INT.or_none()

    def over(self, values: Sequence[Any], item: Type | None) -> Any:
        return self.over_sums(Sums(), values, item)

    def over_sums(self, sums: Sums, values: Sequence[Any], item: Type | None) -> Any:
        if not sums.number + len(values):
            return None
        special = exact.non_finite_sum(map(abs, [*sums.specials, *values]))
        if special is not None:
            return special
        exponent, (_, squares) = sums.powers(values, item, 2)
        if item == FLOAT:
            return exact.rounded(squares, 1, 2 * exponent)
        return int64(squares << (2 * exponent))


@dataclass(frozen=True, slots=True)
class _Shape(Listed):
    ddof: int = field(default=1, kw_only=True)

    fewest: ClassVar[int]
    adds: ClassVar[tuple[SumField, ...]] = (
        "count", "total", "squares", "cubes", "fourths", "nans", "plus", "minus",
    )  # fmt: skip
    finishers: ClassVar[tuple[Finisher, ...]] = finishers_for(*NUMBERS, gives=FLOAT)

    def check(self) -> None:
        if type(self.ddof) is not int or self.ddof not in (0, 1):
            raise self.refuse_param("ddof", "1 (of a sample) or 0 (of a population)")

    def result(self, item: Type | None) -> Type:
        number(self, item)
        return FLOAT.or_none()

    def over(self, values: Sequence[Any], item: Type | None) -> float | None:
        return self.over_sums(Sums(), values, item)

    def over_sums(self, sums: Sums, values: Sequence[Any], item: Type | None) -> float | None:
        n = sums.number + len(values)
        if n < (self.fewest if self.ddof else 2):
            return None
        if sums.specials or not all(map(math.isfinite, values)):
            return math.nan
        # What follows has no unit, so the exponent of the whole numbers does not matter.
        _, (one, two, three, four) = sums.powers(values, item, 4)
        spread = n * two - one * one  # n² times the variance
        if not spread:
            return None
        return self.of_sums(n, spread, one, two, three, four)

    def of_sums(self, n: int, spread: int, one: int, two: int, three: int, four: int) -> float:
        """The value for n inputs with these sums of powers; `spread` is not 0."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Skew(_Shape):
    """The skewness of the inputs, without a unit: the correctly rounded signed root of an exact
    rational.

    `ddof=1`: of a sample, G1 = g1·√(n(n − 1))/(n − 2), as pandas has it; None below three inputs.
    `ddof=0`: of a population, g1 = m3/m2^(3/2); None below two. None without variance; NaN with a
    NaN or an infinity.
    """

    fewest: ClassVar[int] = 3

    def of_sums(self, n: int, spread: int, one: int, two: int, three: int, four: int) -> float:
        third = n * n * three - 3 * n * one * two + 2 * one**3  # n³ times the third moment
        above, below = third * third, spread**3
        if self.ddof:
            above, below = above * n * (n - 1), below * (n - 2) ** 2
        return signed_root(third, above, below)


@dataclass(frozen=True, slots=True)
class Kurtosis(_Shape):
    """The excess kurtosis of the inputs, without a unit, which of a normal distribution is 0: an
    exact rational, rounded once.

    `ddof=1`: of a sample, G2, as pandas has it; None below four inputs. `ddof=0`: of a population,
    g2 = m4/m2² − 3; None below two. None without variance; NaN with a NaN or an infinity.
    """

    fewest: ClassVar[int] = 4

    def of_sums(self, n: int, spread: int, one: int, two: int, three: int, four: int) -> float:
        # n⁴ times the fourth moment
        fourth = n**3 * four - 4 * n * n * one * three + 6 * n * one * one * two - 3 * one**4
        squared = spread * spread
        if not self.ddof:
            return (fourth - 3 * squared) / squared
        above = (n - 1) * ((n + 1) * fourth - 3 * (n - 1) * squared)
        return above / ((n - 2) * (n - 3) * squared)
