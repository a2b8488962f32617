"""Min and Max."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from featurekit.aggregates import runs
from featurekit.aggregates.base import Aggregate, plain
from featurekit.aggregates.sql import AggregateSql, InputColumn, Term, of_terms
from featurekit.core.types import FLOAT, Type


def _better(sign: int, best: float, value: float) -> float:
    """The more extreme of two doubles: NaN beats all (A1), and -0.0 < 0.0."""
    if best != best or value != value:
        return best if best != best else value
    if value == best:
        wins = math.copysign(1.0, value) * sign > math.copysign(1.0, best) * sign
        return value if wins else best
    return (max if sign > 0 else min)(best, value)


class _Extreme(Aggregate):
    __slots__ = ()
    sign: ClassVar[int]
    function: ClassVar[Literal["min", "max"]]
    chooses: ClassVar[bool] = True

    def result(self, item: Type | None) -> Type:
        return plain(self, item).or_none()

    def over(self, values: Sequence[Any], item: Type | None) -> Any:
        if not values:
            return None
        best = max(values) if self.sign > 0 else min(values)
        # Python's max and min ignore the sign of zeros and mishandle NaN. A plain sum is NaN if an
        # input is NaN (or if both infinities occur); this is the fastest test.
        if item == FLOAT and (best == 0.0 or math.isnan(sum(values))):
            return functools.reduce(functools.partial(_better, self.sign), values)
        return best

    def sql(self, column: InputColumn | None, keep: str) -> AggregateSql:
        assert column is not None
        x = column.sql
        terms, value = [Term(self.function, x)], "{0}"
        if column.floats and column.floats.minus_zero:
            sign = "NOT signbit" if self.sign > 0 else "signbit"
            zero = "0.0" if self.sign > 0 else "-0.0"
            terms.append(Term("bool_or", f"({x} = 0 AND {sign}({x}))"))
            other = "-0.0" if self.sign > 0 else "0.0"
            value = (
                f"CASE WHEN {value} = 0 THEN "
                f"CASE WHEN {{1}} THEN '{zero}'::DOUBLE ELSE '{other}'::DOUBLE END "
                f"ELSE {value} END"
            )
        if column.floats and column.floats.specials:
            nan = f"{{{len(terms)}}}"
            terms.append(Term("bool_or", f"isnan({x})"))
            value = f"CASE WHEN {nan} THEN 'nan'::DOUBLE ELSE {value} END"
        return of_terms(terms, keep, value)


class Min(_Extreme):
    """The least input by value, -0.0 < 0.0, NaN if one occurs; None when empty."""

    __slots__ = ()
    sign: ClassVar[int] = -1
    function: ClassVar[Literal["min", "max"]] = "min"
    of_run: ClassVar[runs.RunField | None] = "low"


class Max(_Extreme):
    """The greatest input by value, -0.0 < 0.0, NaN if one occurs; None when empty."""

    __slots__ = ()
    sign: ClassVar[int] = 1
    function: ClassVar[Literal["min", "max"]] = "max"
    of_run: ClassVar[runs.RunField | None] = "high"
