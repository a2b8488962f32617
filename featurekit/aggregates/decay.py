"""ExponentialDecay: a sum in which an event weighs half as much after each half-life (A5)."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from featurekit.aggregates import exact
from featurekit.aggregates.listed import NUMBERS, Listed, Timed, finishers_for, number
from featurekit.aggregates.sql import Finisher
from featurekit.core.durations import Duration, duration_text, duration_us
from featurekit.core.types import FLOAT, Type
from featurekit.errors import DefinitionError

STEPS = 1024
"""In so many steps an event's weight halves."""
_GONE = 1000
"""An event weighs nothing from so many half-lives on."""

_Found = tuple[int, dict[int, int]] | float | None
"""The inputs of each step of time, added: an exponent, and whole numbers times that power of two.
NaN where an input is not finite, None without inputs."""


@dataclass(frozen=True, slots=True)
class ExponentialDecay(Listed):
    """The sum of the inputs, each weighted by 2^(-age / half_life), in the input's unit; None when
    empty.

    Age is counted in steps of half_life / 1024: of an event at e, as of t, j = floor(1024 * t /
    half_life) - floor(1024 * e / half_life). Its weight is the double nearest to
    2**(-(j % 1024) / 1024), times 2**-(j // 1024), which is within 0.07 % of the formula, and zero
    from 1,000 half-lives on. The exact sum of inputs times weights is rounded once. NaN with a NaN
    or an infinity; a finite sum beyond the doubles is an error.
    """

    half_life: Duration = field(kw_only=True)

    timed: ClassVar[bool] = True
    raises: ClassVar[bool] = True
    finishers: ClassVar[tuple[Finisher, ...]] = finishers_for(*NUMBERS, gives=FLOAT, timed=True)

    def check(self) -> None:
        us = duration_us(self.half_life, what="ExponentialDecay(half_life=…)")
        object.__setattr__(self, "half_life", duration_text(us))
        if self.ahead:
            raise DefinitionError(
                "ExponentialDecay weighs events by how long ago they were, and a label looks "
                "ahead; leave ahead= out"
            )

    def result(self, item: Type | None) -> Type:
        number(self, item)
        return FLOAT.or_none()

    def _step(self, us: int) -> int:
        return STEPS * us // duration_us(self.half_life, what="half_life")

    def over(self, values: Sequence[Timed], item: Type | None) -> _Found:
        if not values:
            return None
        if not all(math.isfinite(x) for _, x in values):
            return math.nan
        exponent, wholes = 0, [x for _, x in values]
        if item == FLOAT:
            exponent, wholes = exact.as_wholes(wholes)
        half_life = duration_us(self.half_life, what="half_life")
        sums: dict[int, int] = {}
        for (at, _), whole in zip(values, wholes, strict=True):
            step = STEPS * at // half_life
            sums[step] = sums.get(step, 0) + whole
        return exponent, sums

    def as_of(self, found: _Found, t: int) -> float | None:
        if not isinstance(found, tuple):
            return found
        exponent, sums = found
        weights, now, total = table(), self._step(t), 0
        for step, whole in sums.items():
            halvings, rest = divmod(now - step, STEPS)
            if halvings < _GONE:
                total += (whole * weights[rest]) << (_GONE - halvings)
        return exact.rounded(total, 1, exponent - _GONE - _BITS)


_BITS = 53


@functools.cache
def table() -> tuple[int, ...]:
    """The doubles nearest to 2**(-i / 1024) for i from 0 to 1023, as whole numbers of 2**-53."""
    precise = 256
    step = 1 << (precise - 1)  # a half, whose root is taken ten times
    for _ in range(10):
        step = math.isqrt(step << precise)
    made, power = [1 << _BITS], 1 << precise
    for _ in range(1, STEPS):
        power = (power * step) >> precise
        made.append((power + (1 << (precise - _BITS - 1))) >> (precise - _BITS))
    return tuple(made)
