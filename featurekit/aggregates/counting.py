"""Count, CountDistinct, ValueCounts and TopK."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from featurekit.aggregates import runs
from featurekit.aggregates.base import Aggregate, plain
from featurekit.aggregates.sql import AggregateSql, InputColumn, Term, of_terms, present
from featurekit.aggregates.sums import SumField, Sums
from featurekit.aggregates.tally import Tally, TallyKind
from featurekit.core.types import FLOAT, INT, Type, dict_of, list_of


class Count(Aggregate):
    """Rows in the window, or its non-None inputs; 0 when empty."""

    __slots__ = ()
    counts_rows: ClassVar[bool] = True
    adds: ClassVar[tuple[SumField, ...]] = ("count",)
    of_run: ClassVar[runs.RunField | None] = "count"

    def result(self, item: Type | None) -> Type:
        return INT

    def over(self, values: Sequence[Any], item: Type | None) -> int:
        return len(values)

    def over_sums(self, sums: Sums, values: Sequence[Any], item: Type | None) -> int:
        return sums.number + len(values)

    def sql(self, column: InputColumn | None, keep: str) -> AggregateSql:
        counted = Term("count", "1" if column is None else column.sql)
        return of_terms([counted], keep, "coalesce({0}, 0)")


def one_value(value: Any) -> Any:
    """The one value that represents `value` among distinct ones: 0.0 for -0.0, and one NaN object
    for all. So a set or dict holds equal values once (it compares objects by identity first)."""
    if isinstance(value, float):
        return math.nan if value != value else value + 0.0
    return value


def one_value_sql(column: InputColumn) -> str:
    """`one_value` in SQL over the event's own column; a source has one NaN already (S1)."""
    x = column.name
    return f"CASE WHEN {x} = 0 THEN 0.0::DOUBLE ELSE {x} END" if column.type == FLOAT else x


class CountDistinct(Aggregate):
    """Distinct non-None inputs; -0.0 and 0.0 are one value, all NaNs are one; 0 when empty."""

    __slots__ = ()
    tallies: ClassVar[TallyKind | None] = "values"

    def result(self, item: Type | None) -> Type:
        plain(self, item)
        return INT

    def over(self, values: Sequence[Any], item: Type | None) -> int:
        return len(set(map(one_value, values) if item == FLOAT else values))

    def over_tally(self, tally: Tally, item: Type | None) -> int:
        return tally.distinct()

    def sql(self, column: InputColumn | None, keep: str) -> AggregateSql:
        assert column is not None
        # DuckDB also counts -0.0 and 0.0 as one and all NaNs as one.
        part = f"count(DISTINCT {column.sql}) FILTER ({keep})"
        return AggregateSql((part,), "coalesce({0}, 0)")


def ranked(counted: Counter[Any]) -> dict[Any, int]:
    """The counts by count descending, then by value; NaN comes last among equal counts."""

    def rank(pair: tuple[Any, int]) -> tuple[int, bool, Any]:
        value, count = pair
        nan = value != value
        return -count, nan, 0 if nan else value

    return dict(sorted(counted.items(), key=rank))


def counts(values: Iterable[Any], item: Type | None) -> Counter[Any]:
    """How often each distinct input occurs; -0.0 is counted as 0.0, and all NaNs as one."""
    return Counter(map(one_value, values) if item == FLOAT else values)


def entries_sql(column: InputColumn, keep: str) -> AggregateSql:
    """One part: the ranked list of {n: -count, v: value}; NULL if the window is empty."""
    one, helper = column.helper("one", one_value_sql(column))
    counted = f"map_entries(histogram({one}) FILTER ({present(column, keep)}))"
    entry = "struct_pack(n := -(__y.value::BIGINT), v := __y.key)"
    part = f"list_sort(list_transform({counted}, lambda __y: {entry}))"
    return AggregateSql((part,), "{0}", None, (helper,))


class ValueCounts(Aggregate):
    """How often each distinct non-None input occurs, as a dict by count descending, then value; {}
    when empty. -0.0 and 0.0 are one value, all NaNs are one."""

    __slots__ = ()
    tallies: ClassVar[TallyKind | None] = "counts"

    def result(self, item: Type | None) -> Type:
        return dict_of(plain(self, item))

    def over(self, values: Sequence[Any], item: Type | None) -> dict[Any, int]:
        return ranked(counts(values, item))

    def over_tally(self, tally: Tally, item: Type | None) -> dict[Any, int]:
        return tally.ranked()

    def sql(self, column: InputColumn | None, keep: str) -> AggregateSql:
        assert column is not None
        sql = entries_sql(column, keep)
        pairs = "list_transform({0}, lambda __y: struct_pack(k := __y.v, v := -__y.n))"
        empty = f"MAP([]::{column.type.duckdb}[], []::BIGINT[])"
        return AggregateSql(
            sql.parts, f"coalesce(map_from_entries({pairs}), {empty})", None, sql.helpers
        )


@dataclass(frozen=True, slots=True)
class TopK(Aggregate):
    """The `k` most frequent non-None inputs by count descending, then value, as a list; [] when
    empty. -0.0 and 0.0 are one value, all NaNs are one."""

    k: int = field(kw_only=True)

    tallies: ClassVar[TallyKind | None] = "counts"

    def check(self) -> None:
        if type(self.k) is not int or not 1 <= self.k < 2**31:
            raise self.refuse_param("k", "a whole number, at least 1")

    def result(self, item: Type | None) -> Type:
        return list_of(plain(self, item))

    def over(self, values: Sequence[Any], item: Type | None) -> list[Any]:
        return list(ranked(counts(values, item)))[: self.k]

    def over_tally(self, tally: Tally, item: Type | None) -> list[Any]:
        return list(tally.ranked(self.k))

    def sql(self, column: InputColumn | None, keep: str) -> AggregateSql:
        assert column is not None
        sql = entries_sql(column, keep)
        values = f"list_transform({{0}}[1:{self.k}], lambda __y: __y.v)"
        empty = f"[]::{column.type.duckdb}[]"
        return AggregateSql(sql.parts, f"coalesce({values}, {empty})", None, sql.helpers)
