"""Any and All."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from typing import ClassVar

from featurekit.aggregates.base import Aggregate
from featurekit.aggregates.sql import AggregateSql, InputColumn, Term, of_terms
from featurekit.aggregates.sums import SumField, Sums
from featurekit.core.types import BOOL, Type


class _OfBools(Aggregate):
    __slots__ = ()
    decisive: ClassVar[bool]
    adds: ClassVar[tuple[SumField, ...]] = ("count", "total")

    def result(self, item: Type | None) -> Type:
        if item != BOOL:
            raise self.refuse(item, "bool")
        return BOOL.or_none()

    def over(self, values: Sequence[typing.Any], item: Type | None) -> bool | None:
        if not values:
            return None
        return any(values) if self.decisive else all(values)

    def over_sums(self, sums: Sums, values: Sequence[typing.Any], item: Type | None) -> bool | None:
        count = sums.number + len(values)
        if not count:
            return None
        true = sums.whole(values)
        return true > 0 if self.decisive else true == count

    def sql(self, column: InputColumn | None, keep: str) -> AggregateSql:
        assert column is not None
        decided = column.sql if self.decisive else f"NOT {column.sql}"
        terms = [
            Term("count", column.sql),
            Term("count", f"CASE WHEN {decided} THEN 1 END"),
        ]
        found = "{1} > 0" if self.decisive else "{1} = 0"
        return of_terms(terms, keep, f"CASE WHEN {{0}} > 0 THEN {found} END")


class Any(_OfBools):
    """Whether some non-None input is true; None when empty."""

    __slots__ = ()
    decisive: ClassVar[bool] = True


class All(_OfBools):
    """Whether every non-None input is true; None when empty."""

    __slots__ = ()
    decisive: ClassVar[bool] = False
