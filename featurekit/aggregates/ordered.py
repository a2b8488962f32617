"""First, Last, FirstN, LastN and Lag: inputs by the order of T6."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from featurekit.aggregates.base import Aggregate, plain
from featurekit.aggregates.counting import one_value, one_value_sql
from featurekit.aggregates.sql import AggregateSql, InputColumn, present, sound
from featurekit.core.types import FLOAT, OPTIONAL, Type, list_of

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
    keep_none: bool = field(default=False, kw_only=True, metadata=OPTIONAL)
    distinct: bool = field(default=False, kw_only=True, metadata=OPTIONAL)

    ordered: ClassVar[bool] = True
    sign: ClassVar[int]

    def check(self) -> None:
        if type(self.n) is not int or not 1 <= self.n <= N_MAX:
            raise self.refuse_param("n", f"a whole number from 1 to {N_MAX}")
        for name in ("keep_none", "distinct"):
            if not isinstance(getattr(self, name), bool):
                raise self.refuse_param(name, "True or False")

    @property
    def keeps_none(self) -> bool:
        return self.keep_none

    @property
    def suffice(self) -> int | None:
        return None if self.distinct else self.sign * self.n

    def result(self, item: Type | None) -> Type:
        if item is None:
            raise self.refuse(item, "a column or transform")
        if self.distinct:
            plain(self, item)
        return list_of(item.or_none() if self.keep_none else item)

    def over(self, values: Sequence[Any], item: Type | None) -> list[Any]:
        if self.distinct:
            return self._distinct(values)
        return list(values[-self.n :] if self.sign > 0 else values[: self.n])

    def _distinct(self, values: Sequence[Any]) -> list[Any]:
        found: dict[Any, None] = {}
        for value in reversed(values) if self.sign > 0 else values:
            found[one_value(value)] = None
            if len(found) == self.n:
                break
        return list(found)[:: -self.sign]

    def sql(self, column: InputColumn | None, keep: str) -> AggregateSql:
        assert column is not None
        empty = f"[]::{list_of(column.type).duckdb}"
        kept = sound(column, keep) if self.keep_none else present(column, keep)
        if self.distinct:
            sql = _last_distinct_sql(column, kept, self.sign, self.n)
            return AggregateSql(sql.parts, f"coalesce({sql.value}, {empty})", None, sql.helpers)
        value, inner = column.sql, "__y"
        if column.type.item is not None or self.keep_none:
            value, inner = _through_bits(column.sql, column.type)
            inner = inner.replace("{0}", "__y")
        if self.keep_none:  # arg_max leaves out what is NULL itself
            value, inner = f"struct_pack(v := {value})", inner.replace("__y", "__y.v")
        read = "{0}" if inner == "__y" else f"list_transform({{0}}, lambda __y: {inner})"
        function = "arg_max" if self.sign > 0 else "arg_min"
        part = f"{function}({value}, {column.order}, {self.n}) FILTER ({kept})"
        if self.sign > 0:
            part = f"list_reverse({part})"  # arg_max gives the greatest first
        return AggregateSql((part,), f"coalesce({read}, {empty})")


@dataclass(frozen=True, slots=True)
class FirstN(_Ends):
    """The first `n` non-None inputs by T6, oldest first; [] when empty.

    With `keep_none=True` inputs that are None are among them. With `distinct=True` they are the `n`
    distinct inputs that occur first, each where it occurs first; -0.0 and 0.0 are one value, all
    NaNs are one.
    """

    sign: ClassVar[int] = -1


@dataclass(frozen=True, slots=True)
class LastN(_Ends):
    """The last `n` non-None inputs by T6, oldest first; [] when empty.

    With `keep_none=True` inputs that are None are among them. With `distinct=True` they are the `n`
    distinct inputs that occur last, each where it occurs last; -0.0 and 0.0 are one value, all NaNs
    are one.
    """

    sign: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class Lag(Aggregate):
    """The `n`-th non-None input before the last one by T6; None when there are not so many.

    `n=0` is what Last gives. With `keep_none=True` inputs that are None are counted too, and the
    value may be one.
    """

    n: int = field(default=1, kw_only=True)
    keep_none: bool = field(default=False, kw_only=True)

    ordered: ClassVar[bool] = True

    def check(self) -> None:
        if type(self.n) is not int or not 0 <= self.n < N_MAX:
            raise self.refuse_param("n", f"a whole number from 0 to {N_MAX - 1}")
        if not isinstance(self.keep_none, bool):
            raise self.refuse_param("keep_none", "True or False")

    @property
    def keeps_none(self) -> bool:
        return self.keep_none

    @property
    def suffice(self) -> int:
        return self.n + 1

    def result(self, item: Type | None) -> Type:
        if item is None:
            raise self.refuse(item, "a column or transform")
        return item.or_none()

    def over(self, values: Sequence[Any], item: Type | None) -> Any:
        return values[-1 - self.n] if len(values) > self.n else None

    def sql(self, column: InputColumn | None, keep: str) -> AggregateSql:
        assert column is not None
        kept = sound(column, keep) if self.keep_none else present(column, keep)
        value, read = _through_bits(column.sql, column.type)
        nth = f"{{0}}[{self.n + 1}]"
        if self.keep_none:  # arg_max leaves out what is NULL itself
            value, nth = f"struct_pack(v := {value})", f"{nth}.v"
        part = f"arg_max({value}, {column.order}, {self.n + 1}) FILTER ({kept})"
        return AggregateSql((part,), read.replace("{0}", nth))


def _last_distinct_sql(column: InputColumn, kept: str, sign: int, n: int) -> AggregateSql:
    """The last `n` distinct inputs that the predicate `kept` keeps, or the first for a negative
    `sign`, oldest first; NULL if there are none.

    By value and then by place, the entry before another value has the place that counts.
    """
    one, helper = column.helper("one", one_value_sql(column))
    place = column.order if sign > 0 else f"-{column.order}"
    entries = f"list_sort(list(struct_pack(v := {one}, o := {place})) FILTER ({kept}))"
    ends = "list_filter(list_zip(__y, __y[2:]), lambda __z: " + (
        "__z[2] IS NULL OR __z[1].v IS DISTINCT FROM __z[2].v)"
    )
    swapped = f"list_transform({ends}, lambda __z: struct_pack(o := __z[1].o, v := __z[1].v))"
    last = f"list_transform(list_reverse_sort({swapped})[1:{n}], lambda __z: __z.v)"
    last = f"list_reverse({last})" if sign > 0 else last
    part = f"list_transform([{entries}], lambda __y: {last})[1]"
    return AggregateSql((part,), "{0}", None, (helper,))


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
