"""Sum and Mean: exact integers inside, rounded once (A1, A2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

from featurekit.aggregates import exact, runs
from featurekit.aggregates.base import Aggregate
from featurekit.aggregates.sql import (
    NEVER,
    AggregateSql,
    Finisher,
    InputColumn,
    Term,
    each_list,
    of_terms,
    present,
)
from featurekit.aggregates.sums import SumField, Sums
from featurekit.core.types import BOOL, FLOAT, INT, INT_MAX, INT_MIN, Type


def int64(total: int) -> int:
    """The int; OverflowError if it is outside int64."""
    if not INT_MIN <= total <= INT_MAX:
        raise OverflowError("an integer sum outside int64")
    return total


# With more limbs than this it is faster to collect the values and to add them in Python
# (benchmarks/aggregates.py).
MOST_LIMBS = 4


def _from_limbs(parts: Any, limbs: Any) -> Any:
    """The Finisher over limb totals "t0,t1,…" and their indices; NULL beyond the doubles."""
    import pyarrow as pa

    chosen = [int(i) for i in limbs[0].as_py().split(",")]
    out = [exact.from_limbs(text, chosen) for text in parts.to_pylist()]
    return pa.array(out, type=pa.float64())


def _from_lists(lists: Any) -> Any:
    """The Finisher over lists of doubles; NULL for NULL and beyond the doubles."""
    import pyarrow as pa

    def one(values: list[Any] | None) -> float | None:
        try:
            return None if values is None else exact.exact_sum(values)
        except OverflowError:
            return None

    return pa.array([one(values) for values in each_list(lists)], type=pa.float64())


_FINISHERS = (
    Finisher("fk_limbs", ("VARCHAR", "VARCHAR"), "DOUBLE", _from_limbs),
    Finisher("fk_sum", ("DOUBLE[]",), "DOUBLE", _from_lists),
)


def _total_sql(column: InputColumn, keep: str) -> AggregateSql:
    """The exact total. Part 0 is the number of inputs. `value` is a DOUBLE (also for ints) if there
    are inputs; `error` is a predicate that is never NULL."""
    floats = column.floats
    counted = Term("count", column.sql)
    if floats is None:
        added = Term("sum", f"{column.sql}::BIGINT")
        return of_terms([counted, added], keep, exact.round_hugeint_sql("{1}"))
    terms = [counted]
    helpers: list[tuple[str, str]] = []
    listed: list[str] = []
    if floats.scale is not None:
        read, helper = column.helper(
            "scaled", exact.scaled_sql(column.name, floats.scale, specials=floats.specials)
        )
        terms.append(Term("sum", read))
        helpers.append(helper)
        rounded = exact.round_hugeint_sql("{1}", short=floats.short)
        value = f"({rounded} * {exact.power_sql(-floats.scale)})"
    elif not floats.limbs:
        value = "0.0::DOUBLE"  # zeros are the only finite inputs
    elif len(floats.limbs) > MOST_LIMBS:
        kept = present(column, keep)
        if floats.specials:
            kept += f" AND isfinite({column.sql})"
        listed.append(f"list({column.sql}) FILTER ({kept})")
        value = "fk_sum({1})"
    else:
        for index in floats.limbs:
            read, helper = column.helper(f"limb{index}", exact.limb_sql(column.name, index))
            terms.append(Term("sum", read))
            helpers.append(helper)
        shown = ", ".join(f"coalesce({{{i}}}, 0)" for i in range(1, len(terms)))
        value = f"fk_limbs(concat_ws(',', {shown}), '{','.join(map(str, floats.limbs))}')"
    beyond = f"coalesce(isinf({value}), TRUE)"
    some = "coalesce({0}, 0) > 0"
    error = f"({some} AND {beyond})"  # finite inputs: inf is an overflow
    if not floats.may_overflow:
        error = NEVER
    if floats.specials:
        nans, plus, minus = (f"{{{len(terms) + len(listed) + i}}}" for i in range(3))
        for special in (
            f"isnan({column.sql})",
            f"{column.sql} = 'inf'::DOUBLE",
            f"{column.sql} = '-inf'::DOUBLE",
        ):
            terms.append(Term("count", f"CASE WHEN {special} THEN 1 END"))
        finite = f"coalesce({nans} + {plus} + {minus} = 0, TRUE)"
        if floats.may_overflow:
            error = f"({some} AND {finite} AND {beyond})"
        value = (
            f"CASE WHEN {nans} > 0 OR ({plus} > 0 AND {minus} > 0) THEN 'nan'::DOUBLE "
            f"WHEN {plus} > 0 THEN 'inf'::DOUBLE WHEN {minus} > 0 THEN '-inf'::DOUBLE "
            f"WHEN {{0}} > 0 THEN coalesce({value}, 0.0::DOUBLE) END"
        )
    sums = of_terms(terms, keep, value, error, helpers)
    if not listed:
        return sums
    return replace(sums, parts=(sums.parts[0], *listed, *sums.parts[1:]), terms=())


_ADDS: tuple[SumField, ...] = ("count", "total", "nans", "plus", "minus")


class Sum(Aggregate):
    """The exact sum over the window, in the input's unit; None when empty.

    Floats: the exact real sum rounded once; zero is +0.0, and a finite sum beyond the doubles is an
    error. Ints and bools: the exact sum; outside int64 it is an error.
    """

    __slots__ = ()
    adds: ClassVar[tuple[SumField, ...]] = _ADDS
    of_run: ClassVar[runs.RunField | None] = "total"
    raises: ClassVar[bool] = True
    finishers: ClassVar[tuple[Finisher, ...]] = _FINISHERS

    def result(self, item: Type | None) -> Type:
        if item == FLOAT:
            return FLOAT.or_none()
        if item in (INT, BOOL):
            return INT.or_none()
        raise self.refuse(item, "int, float or bool")

    def over(self, values: Sequence[Any], item: Type | None) -> Any:
        if not values:
            return None
        return exact.exact_sum(values) if item == FLOAT else int64(sum(values))

    def over_sums(self, sums: Sums, values: Sequence[Any], item: Type | None) -> Any:
        if not sums.number + len(values):
            return None
        return sums.real(values) if item == FLOAT else int64(sums.whole(values))

    def sql(self, column: InputColumn | None, keep: str) -> AggregateSql:
        assert column is not None
        total = _total_sql(column, keep)
        if column.type != FLOAT:
            outside = f"coalesce({{1}} NOT BETWEEN {INT_MIN} AND {INT_MAX}, FALSE)"
            value = "CASE WHEN {0} > 0 THEN TRY_CAST({1} AS BIGINT) END"
            return replace(total, value=value, error=outside)
        return replace(total, value=f"CASE WHEN {{0}} > 0 THEN {total.value} END")


class Mean(Aggregate):
    """float(exact sum) / n over the window, in the input's unit; None when empty. NaN and
    infinities follow A1."""

    __slots__ = ()
    adds: ClassVar[tuple[SumField, ...]] = _ADDS
    of_run: ClassVar[runs.RunField | None] = "mean"
    raises: ClassVar[bool] = True
    finishers: ClassVar[tuple[Finisher, ...]] = _FINISHERS

    def result(self, item: Type | None) -> Type:
        if item in (INT, BOOL, FLOAT):
            return FLOAT.or_none()
        raise self.refuse(item, "int, float or bool")

    def over(self, values: Sequence[Any], item: Type | None) -> float | None:
        if not values:
            return None
        total = exact.exact_sum(values) if item == FLOAT else float(sum(values))
        return total / len(values)

    def over_sums(self, sums: Sums, values: Sequence[Any], item: Type | None) -> float | None:
        count = sums.number + len(values)
        if not count:
            return None
        total = sums.real(values) if item == FLOAT else float(sums.whole(values))
        return total / count

    def sql(self, column: InputColumn | None, keep: str) -> AggregateSql:
        assert column is not None
        total = _total_sql(column, keep)
        mean = f"CASE WHEN {{0}} > 0 THEN {total.value} / {{0}}::DOUBLE END"
        return replace(total, value=mean)


class Rate(Mean):
    """The share of the non-None inputs that are true, from 0.0 to 1.0; None when empty."""

    __slots__ = ()

    def result(self, item: Type | None) -> Type:
        if item != BOOL:
            raise self.refuse(item, "bool")
        return FLOAT.or_none()
