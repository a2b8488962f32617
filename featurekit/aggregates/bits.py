"""BitAnd and BitOr: of ints, bit by bit."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from featurekit.aggregates.base import Aggregate
from featurekit.aggregates.sql import AggregateSql, InputColumn, present
from featurekit.core.types import INT, Type


class _Bits(Aggregate):
    __slots__ = ()
    chooses: ClassVar[bool] = True
    function: ClassVar[str]
    together: ClassVar[Callable[[int, int], int]]

    def result(self, item: Type | None) -> Type:
        if item != INT:
            raise self.refuse(item, "int")
        return INT.or_none()

    def over(self, values: Sequence[Any], item: Type | None) -> int | None:
        return functools.reduce(type(self).together, values) if values else None

    def sql(self, column: InputColumn | None, keep: str) -> AggregateSql:
        assert column is not None
        part = f"{self.function}({column.sql}) FILTER ({present(column, keep)})"
        return AggregateSql((part,), "{0}")


class BitAnd(_Bits):
    """The bits that all inputs have, as `&` of Python's ints, in which a negative one is its two's
    complement; None when empty."""

    __slots__ = ()
    function: ClassVar[str] = "bit_and"
    together: ClassVar[Callable[[int, int], int]] = operator.and_


class BitOr(_Bits):
    """The bits that some input has, as `|` of Python's ints, in which a negative one is its two's
    complement; None when empty."""

    __slots__ = ()
    function: ClassVar[str] = "bit_or"
    together: ClassVar[Callable[[int, int], int]] = operator.or_
