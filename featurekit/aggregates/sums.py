"""Turns many inputs into exact, invertible sums, so that running sums give a window's sums.

A sum of doubles is a whole number times a power of two, so adding and subtracting lose nothing
(A2): the sums of a run of events are those up to its end minus those up to its beginning.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from featurekit.aggregates import exact
from featurekit.core.types import FLOAT, Type

SumField = Literal["count", "total", "squares", "nans", "plus", "minus"]

Scaled = tuple[int, int]
"""A whole number, odd or zero, and the exponent of the power of two that multiplies it."""

ZERO: Scaled = (0, 0)


@dataclass(frozen=True, slots=True)
class Sums:
    """The number of inputs; the sum and the sum of squares of the finite ones; and how many are
    NaN, +inf and -inf. A field that was not asked for is 0."""

    count: Scaled = ZERO
    total: Scaled = ZERO
    squares: Scaled = ZERO
    nans: Scaled = ZERO
    plus: Scaled = ZERO
    minus: Scaled = ZERO

    def __add__(self, other: Sums) -> Sums:
        """The sums over the inputs of both."""
        return Sums(*(_plus(getattr(self, f), getattr(other, f)) for f in Sums.__slots__))

    @property
    def number(self) -> int:
        """How many inputs."""
        return self.count[0] << self.count[1]

    @property
    def specials(self) -> list[float]:
        """One NaN, one +inf and one -inf, for each kind that occurs."""
        kinds = ((self.nans, math.nan), (self.plus, math.inf), (self.minus, -math.inf))
        return [value for (many, _), value in kinds if many]

    def real(self, values: Sequence[float]) -> float:
        """The exact sum of the doubles and of `values`, rounded once, like `exact.exact_sum` over
        all of them."""
        whole, exponent = self.total
        inputs = exact.as_doubles(whole, exponent)
        if inputs is not None:
            return exact.exact_sum([*values, *inputs, *self.specials])
        special = exact.non_finite_sum([*values, *self.specials])
        if special is not None:
            return special
        total = whole << (exponent + exact.UNIT_EXPONENT)
        return exact.from_units(total + sum(map(exact.units, values)))

    def whole(self, values: Sequence[int]) -> int:
        """The sum of the ints and of `values`."""
        return sum(values) + (self.total[0] << self.total[1])


def sums_of(values: Sequence[Any], item: Type | None, fields: Sequence[SumField]) -> Sums:
    """The sums of inputs that are not None; only those in `fields` are computed."""
    found: dict[str, Scaled] = {"count": reduced(len(values), 0)}
    if "total" in fields and values:
        low, wholes = 0, values
        if item == FLOAT:
            finite = values
            if not all(map(math.isfinite, values)):
                finite = [v for v in values if math.isfinite(v)]
                found["nans"] = reduced(sum(v != v for v in values), 0)
                found["plus"] = reduced(sum(v == math.inf for v in values), 0)
                found["minus"] = reduced(sum(v == -math.inf for v in values), 0)
            low, wholes = exact.as_wholes(finite)
        found["total"] = reduced(sum(wholes), low)
        if "squares" in fields:
            found["squares"] = reduced(sum(v * v for v in wholes), 2 * low)
    return Sums(**{f: found[f] for f in fields if f in found})


def _plus(one: Scaled, other: Scaled) -> Scaled:
    if not one[0] or not other[0]:
        return one if one[0] else other
    low = min(one[1], other[1])
    return reduced((one[0] << (one[1] - low)) + (other[0] << (other[1] - low)), low)


def reduced(whole: int, exponent: int) -> Scaled:
    """whole * 2**exponent in its unique form."""
    if not whole:
        return ZERO
    zeros = (whole & -whole).bit_length() - 1
    return whole >> zeros, exponent + zeros
