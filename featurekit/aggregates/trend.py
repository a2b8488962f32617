"""LinearTrend: how fast an input grows over time (A5)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from featurekit.aggregates import exact
from featurekit.aggregates.listed import NUMBERS, Listed, Timed, finishers_for, number
from featurekit.aggregates.sql import Finisher
from featurekit.core.types import FLOAT, Type

_DAY_US = 86_400_000_000


class LinearTrend(Listed):
    """The slope of the least-squares line of the inputs over the events' instants, in the input's
    unit per day of 24 hours: an exact rational, rounded once.

    None below two inputs, and where all are of one instant. NaN with a NaN or an infinity; a finite
    slope beyond the doubles is an error.
    """

    __slots__ = ()
    timed: ClassVar[bool] = True
    raises: ClassVar[bool] = True
    finishers: ClassVar[tuple[Finisher, ...]] = finishers_for(*NUMBERS, gives=FLOAT, timed=True)

    def result(self, item: Type | None) -> Type:
        number(self, item)
        return FLOAT.or_none()

    def over(self, values: Sequence[Timed], item: Type | None) -> float | None:
        n = len(values)
        if n < 2:
            return None
        instants, inputs = zip(*values, strict=True)
        if not all(map(math.isfinite, inputs)):
            return math.nan
        exponent, wholes = exact.as_wholes(inputs) if item == FLOAT else (0, inputs)
        since = [t - instants[0] for t in instants]  # shorter numbers, and the same slope
        spread = n * sum(t * t for t in since) - sum(since) ** 2
        if not spread:
            return None
        both = n * sum(t * x for t, x in zip(since, wholes, strict=True)) - sum(since) * sum(wholes)
        return exact.rounded(_DAY_US * both, spread, exponent)
