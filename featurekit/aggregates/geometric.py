"""GeometricMean: the mean of logarithms that are rounded alike everywhere (A5)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from featurekit.aggregates import logs
from featurekit.aggregates.listed import NUMBERS, Listed, finishers_for, number
from featurekit.aggregates.sql import Finisher
from featurekit.aggregates.sums import SumField, Sums, sums_of
from featurekit.core.types import FLOAT, Type


class GeometricMean(Listed):
    """2 to the power of the mean of the inputs' base-2 logarithms, in the input's unit: each
    logarithm is rounded to 2**-60, and the power once. None when empty.

    0.0 with a zero; NaN with a negative input, a NaN or an infinity.
    """

    __slots__ = ()
    adds: ClassVar[tuple[SumField, ...]] = (
        "count", "logs", "zeros", "negatives", "nans", "plus", "minus",
    )  # fmt: skip
    finishers: ClassVar[tuple[Finisher, ...]] = finishers_for(*NUMBERS, gives=FLOAT)

    def result(self, item: Type | None) -> Type:
        number(self, item)
        return FLOAT.or_none()

    def over(self, values: Sequence[Any], item: Type | None) -> float | None:
        return self.over_sums(Sums(), values, item)

    def over_sums(self, sums: Sums, values: Sequence[Any], item: Type | None) -> float | None:
        whole = sums + sums_of(values, item, self.adds)
        if not whole.number:
            return None
        if whole.specials or whole.negatives[0]:
            return math.nan
        if whole.zeros[0]:
            return 0.0
        total, exponent = whole.logs
        units = total << (exponent + logs.UNIT_BITS)
        return logs.exp2(units, whole.number << logs.UNIT_BITS)
