"""Count and CountDistinct."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from featurekit.aggregates.base import Aggregate, AggregateSql, Column, State
from featurekit.types import INT, Type


class _CountState(State):
    def __init__(self) -> None:
        self.count = 0

    def add(self, value: Any) -> None:
        self.count += 1

    def merge(self, other: _CountState) -> None:
        self.count += other.count

    def finish(self) -> int:
        return self.count


class Count(Aggregate):
    """Rows in the window, or its non-None inputs; 0 when empty."""

    __slots__ = ()
    counts_rows: ClassVar[bool] = True

    def result(self, item: Type | None) -> Type:
        return INT

    def state(self, item: Type | None) -> State:
        return _CountState()

    def over(self, values: Sequence[Any], item: Type | None) -> int:
        return len(values)

    def sql(self, column: Column | None, keep: str) -> AggregateSql:
        counted = "*" if column is None else column.sql
        return AggregateSql((f"count({counted}) FILTER ({keep})",), "coalesce({0}, 0)")


class _DistinctState(State):
    def __init__(self) -> None:
        self.seen: set[Any] = set()
        self.nan = False

    def add(self, value: Any) -> None:
        if value != value:
            self.nan = True
        else:
            self.seen.add(value)  # -0.0 and 0.0 are equal and hash alike

    def merge(self, other: _DistinctState) -> None:
        self.seen |= other.seen
        self.nan = self.nan or other.nan

    def finish(self) -> int:
        return len(self.seen) + self.nan


class CountDistinct(Aggregate):
    """Distinct non-None inputs; -0.0 and 0.0 are one value, all NaNs are one; 0 when empty."""

    __slots__ = ()

    def result(self, item: Type | None) -> Type:
        if item is None or item.name == "list":
            raise self.refuse(item, "a column or transform of plain values")
        return INT

    def state(self, item: Type | None) -> State:
        return _DistinctState()

    def sql(self, column: Column | None, keep: str) -> AggregateSql:
        assert column is not None
        # DuckDB, too, counts -0.0 and 0.0 as one and all NaNs as one.
        part = f"count(DISTINCT {column.sql}) FILTER ({keep})"
        return AggregateSql((part,), "coalesce({0}, 0)")
