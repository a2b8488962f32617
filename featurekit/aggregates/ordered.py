"""First, Last, FirstN and LastN: inputs by the order of T6."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from featurekit.aggregates.base import Aggregate
from featurekit.aggregates.sql import AggregateSql, InputColumn, present
from featurekit.core.types import FLOAT, Type, list_of

N_MAX = 999_999  # DuckDB's arg_max takes no more


class _End(Aggregate):
    __slots__ = ()
    ordered: ClassVar[bool] = True
    chooses: ClassVar[bool] = True
    sign: ClassVar[int]

    def result(self, item: Type | None) -> Type:
        if item is None:
            raise self.refuse(item, "a column or transform")
        return item.or_none()

    def over(self, values: Sequence[Any], item: Type | None) -> Any:
        if not values:
            return None
        return values[-1] if self.sign > 0 else values[0]

    def sql(self, column: InputColumn | None, keep: str) -> AggregateSql:
        assert column is not None
        kept, read = column.sql, "{0}"
        if column.type.item is not None:
            kept, read = _through_bits(column.sql, column.type)
        function = "arg_max" if self.sign > 0 else "arg_min"
        part = f"{function}({kept}, {column.order}) FILTER ({present(column, keep)})"
        return AggregateSql((part,), read)


class First(_End):
    """The first non-None input by T6; None when empty."""

    __slots__ = ()
    sign: ClassVar[int] = -1


class Last(_End):
    """The last non-None input by T6; None when empty."""

    __slots__ = ()
    sign: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class _Ends(Aggregate):
    n: int = field(kw_only=True)

    ordered: ClassVar[bool] = True
    sign: ClassVar[int]

    def check(self) -> None:
        if type(self.n) is not int or not 1 <= self.n <= N_MAX:
            raise self.refuse_param("n", f"a whole number from 1 to {N_MAX}")

    @property
    def suffice(self) -> int:
        return self.sign * self.n

    def result(self, item: Type | None) -> Type:
        if item is None:
            raise self.refuse(item, "a column or transform")
        return list_of(item)

    def over(self, values: Sequence[Any], item: Type | None) -> list[Any]:
        return list(values[-self.n :] if self.sign > 0 else values[: self.n])

    def sql(self, column: InputColumn | None, keep: str) -> AggregateSql:
        assert column is not None
        kept, read = column.sql, "{0}"
        if column.type.item is not None:
            kept, inner = _through_bits(column.sql, column.type)
            if kept != column.sql:
                read = f"list_transform({{0}}, lambda __y: {inner.replace('{0}', '__y')})"
        function = "arg_max" if self.sign > 0 else "arg_min"
        part = f"{function}({kept}, {column.order}, {self.n}) FILTER ({present(column, keep)})"
        if self.sign > 0:
            part = f"list_reverse({part})"  # arg_max gives the greatest first
        return AggregateSql((part,), f"coalesce({read}, []::{list_of(column.type).duckdb})")


@dataclass(frozen=True, slots=True)
class FirstN(_Ends):
    """The first `n` non-None inputs by T6, oldest first; [] when empty."""

    sign: ClassVar[int] = -1


@dataclass(frozen=True, slots=True)
class LastN(_Ends):
    """The last `n` non-None inputs by T6, oldest first; [] when empty."""

    sign: ClassVar[int] = 1


def _through_bits(x: str, type_: Type, depth: int = 0) -> tuple[str, str]:
    """`x` in a form in which arg_max keeps every bit, and SQL that turns "{0}", that form, back.

    DuckDB's arg_max turns a -0.0 inside a list into 0.0.
    """
    if not _holds_floats(type_):
        return x, "{0}"
    if type_.item is None:
        return f"({x}::BIT)::BIGINT", "({0}::BIT)::DOUBLE"
    item = f"__x{depth}"
    kept, read = _through_bits(item, type_.item, depth + 1)
    back = read.replace("{0}", item)
    return (
        f"CASE WHEN {x} IS NOT NULL THEN list_transform({x}, lambda {item}: {kept}) END",
        f"CASE WHEN {{0}} IS NOT NULL THEN list_transform({{0}}, lambda {item}: {back}) END",
    )


def _holds_floats(type_: Type) -> bool:
    return _holds_floats(type_.item) if type_.item else type_.base == FLOAT
