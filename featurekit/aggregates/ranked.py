"""LargestN, SmallestN, Distinct and Mode: inputs by their values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from featurekit.aggregates.base import Aggregate, plain
from featurekit.aggregates.counting import counts, entries_sql, ranked
from featurekit.aggregates.ordered import N_MAX
from featurekit.aggregates.quantiles import by_value, rank_sql, unrank_sql
from featurekit.aggregates.sql import AggregateSql, InputColumn, present
from featurekit.aggregates.tally import Tally, TallyKind
from featurekit.core.types import FLOAT, Type, list_of


@dataclass(frozen=True, slots=True)
class _Utmost(Aggregate):
    n: int = field(kw_only=True)

    tallies: ClassVar[TallyKind | None] = "counts"
    function: ClassVar[Literal["min", "max"]]

    def check(self) -> None:
        if type(self.n) is not int or not 1 <= self.n <= N_MAX:
            raise self.refuse_param("n", f"a whole number from 1 to {N_MAX}")

    def result(self, item: Type | None) -> Type:
        return list_of(plain(self, item))

    def over(self, values: Sequence[Any], item: Type | None) -> list[Any]:
        key, largest = by_value if item == FLOAT else None, self.function == "max"
        return sorted(values, key=key, reverse=largest)[: self.n]

    def over_tally(self, tally: Tally, item: Type | None) -> list[Any]:
        largest = self.function == "max"
        found = tally.counted(-self.n if largest else self.n)
        made: list[Any] = []
        for value, count in reversed(found) if largest else found:
            made += [value] * min(count, self.n - len(made))
        return made

    def sql(self, column: InputColumn | None, keep: str) -> AggregateSql:
        assert column is not None
        kept, read, helpers = column.sql, "{0}", []
        if column.floats is not None and (column.floats.minus_zero or column.floats.specials):
            # DuckDB does not order -0.0 and 0.0: it takes ints that are ordered like doubles.
            kept, helper = column.helper("rank", rank_sql(column.name))
            helpers, read = [helper], f"list_transform({{0}}, lambda __y: {unrank_sql('__y')})"
        part = f"{self.function}({kept}, {self.n}) FILTER ({present(column, keep)})"
        empty = f"[]::{column.type.duckdb}[]"
        return AggregateSql((part,), f"coalesce({read}, {empty})", None, tuple(helpers))


class LargestN(_Utmost):
    """The `n` greatest non-None inputs by value, the greatest first, one as often as it occurs; []
    when empty. NaN is greater than all others, and 0.0 is greater than -0.0."""

    __slots__ = ()
    function: ClassVar[Literal["min", "max"]] = "max"


class SmallestN(_Utmost):
    """The `n` least non-None inputs by value, the least first, one as often as it occurs; [] when
    empty. -0.0 is less than 0.0, and NaN is greater than all others."""

    __slots__ = ()
    function: ClassVar[Literal["min", "max"]] = "min"


@dataclass(frozen=True, slots=True)
class Distinct(Aggregate):
    """The distinct non-None inputs, by value, as a list; [] when empty. -0.0 and 0.0 are one value,
    all NaNs are one, which is last.

    With `top` they are the `top` most frequent of them, as TopK chooses them.
    """

    top: int | None = field(default=None, kw_only=True)

    tallies: ClassVar[TallyKind | None] = "counts"

    def check(self) -> None:
        if self.top is not None and (type(self.top) is not int or not 1 <= self.top < 2**31):
            raise self.refuse_param("top", "a whole number, at least 1, or None for all")

    def result(self, item: Type | None) -> Type:
        return list_of(plain(self, item))

    def over(self, values: Sequence[Any], item: Type | None) -> list[Any]:
        return self._sorted(list(ranked(counts(values, item)))[: self.top], item)

    def over_tally(self, tally: Tally, item: Type | None) -> list[Any]:
        return self._sorted(tally.ranked(self.top), item)

    def _sorted(self, values: Iterable[Any], item: Type | None) -> list[Any]:
        return sorted(values, key=by_value if item == FLOAT else None)

    def sql(self, column: InputColumn | None, keep: str) -> AggregateSql:
        assert column is not None
        sql = entries_sql(column, keep)
        chosen = "{0}" if self.top is None else f"{{0}}[1:{self.top}]"
        values = f"list_sort(list_transform({chosen}, lambda __y: __y.v))"
        empty = f"[]::{column.type.duckdb}[]"
        return AggregateSql(sql.parts, f"coalesce({values}, {empty})", None, sql.helpers)


class Mode(Aggregate):
    """The most frequent non-None input, the least by value among several; None when empty. -0.0 and
    0.0 are one value, all NaNs are one, and greater than all others."""

    __slots__ = ()
    tallies: ClassVar[TallyKind | None] = "counts"

    def result(self, item: Type | None) -> Type:
        return plain(self, item).or_none()

    def over(self, values: Sequence[Any], item: Type | None) -> Any:
        return next(iter(ranked(counts(values, item))), None)

    def over_tally(self, tally: Tally, item: Type | None) -> Any:
        return next(iter(tally.ranked(1)), None)

    def sql(self, column: InputColumn | None, keep: str) -> AggregateSql:
        assert column is not None
        sql = entries_sql(column, keep)
        return AggregateSql(sql.parts, "{0}[1].v", None, sql.helpers)
