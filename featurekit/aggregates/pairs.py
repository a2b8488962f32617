"""Covariance, Correlation and Ratio: aggregates of two inputs of each event (A5)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from featurekit.aggregates import exact
from featurekit.aggregates.listed import Listed, finishers_for
from featurekit.aggregates.sql import Finisher
from featurekit.core.roots import signed_root
from featurekit.core.types import FLOAT, INT, Type, list_of
from featurekit.errors import DefinitionError

HALF = 2**32
"""An int beside a float is two floats: it is the first times this, plus the second."""


class _Paired(Listed):
    __slots__ = ()

    paired: ClassVar[bool] = True
    finishers: ClassVar[tuple[Finisher, ...]] = finishers_for(
        list_of(INT), list_of(FLOAT), gives=FLOAT
    )

    def result(self, item: Type | None) -> Type:
        if item not in (list_of(INT), list_of(FLOAT)):
            raise self.refuse(item, "two inputs, each int, float or bool")
        return FLOAT.or_none()

    def __init__(
        self, input: Any = None, other: Any = None, window: Any = "", **options: Any
    ) -> None:
        both = input if other is None or input is None else (input, other)
        given = {"input": both, "window": window, **options}
        for one in fields(self):
            object.__setattr__(self, one.name, given.pop(one.name, one.default))
        if given:
            known = ", ".join(["input, other", *(f.name for f in fields(self)[1:] if f.init)])
            raise DefinitionError(
                f"{type(self).__name__} has no parameter {next(iter(given))!r}; it has {known}"
            )
        self.__post_init__()


def _sums(pairs: Sequence[Sequence[Any]], item: Type | None) -> tuple[int, list[int], int]:
    """n² times the covariance, n² times each variance, and the exponent of the power of two that
    multiplies the first."""
    n, exponent, sides = len(pairs), 0, []
    for side in _sides(pairs):
        low, wholes = exact.as_wholes(side) if isinstance(side[0], float) else (0, side)
        sides.append(wholes)
        exponent += low
    xs, ys = sides
    x, y = sum(xs), sum(ys)
    both = n * sum(a * b for a, b in zip(xs, ys, strict=True)) - x * y
    spreads = [n * sum(v * v for v in side) - sum(side) ** 2 for side in sides]
    return both, spreads, exponent


def _sides(pairs: Sequence[Sequence[Any]]) -> tuple[Sequence[Any], Sequence[Any]]:
    xs, *rest = zip(*pairs, strict=True)
    if len(rest) == 1:
        return xs, rest[0]
    ys = [int(high) * HALF + int(low) for high, low in zip(*rest[:2], strict=True)]
    return (ys, xs) if len(rest) == 3 else (xs, ys)


def _finite(pairs: Sequence[Sequence[Any]]) -> bool:
    return all(math.isfinite(x) for pair in pairs for x in pair)


@dataclass(frozen=True, slots=True, init=False)
class Covariance(_Paired):
    """The covariance of two inputs of each event, in the product of their units: an exact rational,
    rounded once.

    `ddof=1`: of a sample, None below two events; `ddof=0`: of a population, None when empty. An
    event of which one input is None is skipped. NaN with a NaN or an infinity; a finite covariance
    beyond the doubles is an error.
    """

    ddof: int = field(default=1, kw_only=True)

    raises: ClassVar[bool] = True

    def check(self) -> None:
        if type(self.ddof) is not int or self.ddof not in (0, 1):
            raise self.refuse_param("ddof", "1 (of a sample) or 0 (of a population)")

    def over(self, values: Sequence[Any], item: Type | None) -> float | None:
        n = len(values)
        if n <= self.ddof:
            return None
        if not _finite(values):
            return math.nan
        both, _, exponent = _sums(values, item)
        return exact.rounded(both, n * (n - self.ddof), exponent)


@dataclass(frozen=True, slots=True, init=False)
class Correlation(_Paired):
    """Pearson's correlation of two inputs of each event, from -1.0 to 1.0: the correctly rounded
    signed root of an exact rational. It is the same of a sample and of a population.

    An event of which one input is None is skipped. None below two events, and where one of the
    inputs has no variance; NaN with a NaN or an infinity.
    """

    def over(self, values: Sequence[Any], item: Type | None) -> float | None:
        if len(values) < 2:
            return None
        if not _finite(values):
            return math.nan
        both, (one, other), _ = _sums(values, item)
        if not one or not other:
            return None
        return signed_root(both, both * both, one * other)


@dataclass(frozen=True, slots=True, init=False)
class Ratio(_Paired):
    """The sum of one input over that of another, in the one's unit per the other's: an exact
    rational, rounded once.

    An event of which one input is None is skipped. None when empty, and where the sum of the other
    input is zero; NaN with a NaN or an infinity; a finite ratio beyond the doubles is an error.
    """

    raises: ClassVar[bool] = True
    directed: ClassVar[bool] = True

    def over(self, values: Sequence[Any], item: Type | None) -> float | None:
        if not values:
            return None
        if not _finite(values):
            return math.nan
        (low, x), (other_low, y) = (
            exact.as_wholes(side) if isinstance(side[0], float) else (0, side)
            for side in _sides(values)
        )
        above, below = sum(x), sum(y)
        if not below:
            return None
        above, below = (-above, -below) if below < 0 else (above, below)
        return exact.rounded(above, below, low - other_low)
