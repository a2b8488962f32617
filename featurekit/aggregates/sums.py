"""Turns many inputs into exact, invertible sums, so that running sums give a window's sums.

A sum of doubles is a whole number times a power of two, so adding and subtracting lose nothing
(A2): the sums of a run of events are those up to its end minus those up to its beginning.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from featurekit.aggregates import exact, logs
from featurekit.core.types import FLOAT, Type

SumField = Literal[
    "count", "total", "squares", "nans", "plus", "minus",
    "cubes", "fourths", "logs", "zeros", "negatives",
]  # fmt: skip
FIELDS: tuple[SumField, ...] = get_args(SumField)
"""In the order in which states hold them, which newer ones must follow."""
POWERS: tuple[SumField, ...] = ("total", "squares", "cubes", "fourths")
"""The sums of the first, second, third and fourth powers."""

Scaled = tuple[int, int]
"""A whole number, odd or zero, and the exponent of the power of two that multiplies it."""

ZERO: Scaled = (0, 0)


@dataclass(frozen=True, slots=True)
class Sums:
    """The number of inputs; the sums of the first four powers of the finite ones, and of the base-2
    logarithms (`logs.log2`) of those above 0; and how many are 0, below 0, NaN, +inf and -inf. A
    field that was not asked for is 0."""

    count: Scaled = ZERO
    total: Scaled = ZERO
    squares: Scaled = ZERO
    nans: Scaled = ZERO
    plus: Scaled = ZERO
    minus: Scaled = ZERO
    cubes: Scaled = ZERO
    fourths: Scaled = ZERO
    logs: Scaled = ZERO
    zeros: Scaled = ZERO
    negatives: Scaled = ZERO

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

    def powers(self, values: Sequence[Any], item: Type | None, most: int) -> tuple[int, list[int]]:
        """The exact sums of the powers up to the `most`th of the finite inputs and of `values`,
        which are finite. They are those of whole numbers, to be multiplied by two to the power of
        the exponent that comes before them."""
        exponent, wholes = exact.as_wholes(values) if item == FLOAT else (0, values)
        known: list[Scaled] = [getattr(self, field) for field in POWERS[:most]]
        low = min([exponent, *(e // k for k, (whole, e) in enumerate(known, 1) if whole)])
        found = []
        for k, (whole, own) in enumerate(known, 1):
            total = whole << (own - k * low) if whole else 0
            found.append(total + (sum(v**k for v in wholes) << (k * (exponent - low))))
        return low, found

    def whole(self, values: Sequence[int]) -> int:
        """The sum of the ints and of `values`."""
        return sum(values) + (self.total[0] << self.total[1])


def sums_of(values: Sequence[Any], item: Type | None, fields: Sequence[SumField]) -> Sums:
    """The sums of inputs that are not None; only those in `fields` are computed."""
    found: dict[str, Scaled] = {"count": reduced(len(values), 0)}
    if values and any(f in fields for f in (*POWERS, "logs")):
        finite = values
        if item == FLOAT and not all(map(math.isfinite, values)):
            finite = [v for v in values if math.isfinite(v)]
            found["nans"] = reduced(sum(v != v for v in values), 0)
            found["plus"] = reduced(sum(v == math.inf for v in values), 0)
            found["minus"] = reduced(sum(v == -math.inf for v in values), 0)
        if "logs" in fields:
            found |= _logs(finite, item)
        if "total" in fields:
            low, wholes = exact.as_wholes(finite) if item == FLOAT else (0, finite)
            found["total"] = reduced(sum(wholes), low)
            for power, field in enumerate(POWERS[1:], 2):
                if field in fields:
                    found[field] = reduced(sum(v**power for v in wholes), power * low)
    return Sums(**{f: found[f] for f in fields if f in found})


def _logs(finite: Sequence[Any], item: Type | None) -> dict[str, Scaled]:
    log2 = logs.log2_of if item == FLOAT else logs.log2
    return {
        "logs": reduced(sum(log2(v) for v in finite if v > 0), -logs.UNIT_BITS),
        "zeros": reduced(sum(v == 0 for v in finite), 0),
        "negatives": reduced(sum(v < 0 for v in finite), 0),
    }


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
