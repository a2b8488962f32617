"""Sum and Mean: exact integers inside, rounded once (A1, A2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from featurekit.aggregates import exact
from featurekit.aggregates.base import Aggregate, AggregateSql, Column, State
from featurekit.types import BOOL, FLOAT, INT, INT_MAX, INT_MIN, Type


class _SumState(State):
    """An exact total: of ints as they are, of floats in units of 2**-1074, with A1's counters."""

    def __init__(self, item: Type) -> None:
        self.is_float = item == FLOAT
        self.count = self.total = 0
        self.nans = self.plus = self.minus = 0

    def add(self, value: Any) -> None:
        self.count += 1
        if not self.is_float:
            self.total += value
        elif value != value:
            self.nans += 1
        elif value == math.inf:
            self.plus += 1
        elif value == -math.inf:
            self.minus += 1
        else:
            self.total += exact.units(value)

    def merge(self, other: _SumState) -> None:
        self.count += other.count
        self.total += other.total
        self.nans += other.nans
        self.plus += other.plus
        self.minus += other.minus

    def real(self) -> float:
        """The sum as a float, rounded once; OverflowError for a finite sum beyond the doubles."""
        if self.nans or (self.plus and self.minus):
            return math.nan
        if self.plus or self.minus:
            return math.inf if self.plus else -math.inf
        return exact.from_units(self.total) if self.is_float else float(self.total)

    def finish(self) -> float | int | None:
        if not self.count:
            return None
        return self.real() if self.is_float else _int64(self.total)


class _MeanState(_SumState):
    def finish(self) -> float | None:
        return self.real() / self.count if self.count else None


def _int64(total: int) -> int:
    if not INT_MIN <= total <= INT_MAX:
        raise OverflowError("an integer sum outside int64")
    return total


def _total_sql(column: Column, keep: str) -> tuple[list[str], str, str | None]:
    """The parts, the value as a DOUBLE and the error predicate of an exact total; part 0 is the
    number of inputs."""
    parts = [f"count({column.sql}) FILTER ({keep})"]
    floats = column.floats
    if floats is None:
        parts.append(f"sum({column.sql}::BIGINT) FILTER ({keep})")
        return parts, exact.round_hugeint_sql("{1}"), None
    if floats.scale is not None:
        parts.append(f"sum({column.sql}__scaled) FILTER ({keep})")
        value = f"({exact.round_hugeint_sql('{1}')} * {exact.power_sql(-floats.scale)})"
    else:
        first = len(parts)
        parts += [f"sum({column.sql}__limb{i}) FILTER ({keep})" for i in floats.limbs]
        shown = ", ".join(f"coalesce({{{first + i}}}, 0)" for i in range(len(floats.limbs)))
        indices = ",".join(map(str, floats.limbs))
        value = f"fk_limbs(concat_ws(',', {shown}), '{indices}')"
    beyond = f"coalesce(isinf({value}), TRUE)"
    if not floats.specials:
        # Every input is finite, so an infinite total lies beyond the doubles.
        return parts, value, f"(coalesce({{0}}, 0) > 0 AND {beyond})"
    special = len(parts)
    parts += [
        f"count(*) FILTER ({keep} AND isnan({column.sql}))",
        f"count(*) FILTER ({keep} AND {column.sql} = 'inf'::DOUBLE)",
        f"count(*) FILTER ({keep} AND {column.sql} = '-inf'::DOUBLE)",
    ]
    nans, plus, minus = (f"{{{special + i}}}" for i in range(3))
    finite = f"coalesce({nans} + {plus} + {minus} = 0, TRUE)"
    error = f"(coalesce({{0}}, 0) > 0 AND {finite} AND {beyond})"
    value = (
        f"CASE WHEN {nans} > 0 OR ({plus} > 0 AND {minus} > 0) THEN 'nan'::DOUBLE "
        f"WHEN {plus} > 0 THEN 'inf'::DOUBLE WHEN {minus} > 0 THEN '-inf'::DOUBLE "
        f"WHEN {{0}} > 0 THEN coalesce({value}, 0.0::DOUBLE) END"
    )
    return parts, value, error


class Sum(Aggregate):
    """The exact sum over the window, in the input's unit; None when empty.

    Floats: the exact real sum rounded once, zero is +0.0, a finite sum beyond the doubles is an
    error. Ints and bools: exact, outside int64 an error.
    """

    __slots__ = ()

    def result(self, item: Type | None) -> Type:
        if item == FLOAT:
            return FLOAT.or_none()
        if item in (INT, BOOL):
            return INT.or_none()
        raise self.refuse(item, "int, float or bool")

    def state(self, item: Type | None) -> State:
        assert item is not None
        return _SumState(item)

    def over(self, values: Sequence[Any], item: Type | None) -> Any:
        if not values:
            return None
        return exact.exact_sum(values) if item == FLOAT else _int64(sum(values))

    def sql(self, column: Column | None, keep: str) -> AggregateSql:
        assert column is not None
        parts, value, error = _total_sql(column, keep)
        if column.type != FLOAT:
            outside = f"coalesce({{1}} NOT BETWEEN {INT_MIN} AND {INT_MAX}, FALSE)"
            return AggregateSql(tuple(parts), "TRY_CAST({1} AS BIGINT)", outside)
        return AggregateSql(tuple(parts), f"CASE WHEN {{0}} > 0 THEN {value} END", error)


class Mean(Aggregate):
    """float(exact sum) / n over the window; None when empty. NaN and infinities as in A1."""

    __slots__ = ()

    def result(self, item: Type | None) -> Type:
        if item in (INT, BOOL, FLOAT):
            return FLOAT.or_none()
        raise self.refuse(item, "int, float or bool")

    def state(self, item: Type | None) -> State:
        assert item is not None
        return _MeanState(item)

    def over(self, values: Sequence[Any], item: Type | None) -> float | None:
        if not values:
            return None
        total = exact.exact_sum(values) if item == FLOAT else float(sum(values))
        return total / len(values)

    def sql(self, column: Column | None, keep: str) -> AggregateSql:
        assert column is not None
        parts, value, error = _total_sql(column, keep)
        mean = f"CASE WHEN {{0}} > 0 THEN {value} / {{0}}::DOUBLE END"
        return AggregateSql(tuple(parts), mean, error)
