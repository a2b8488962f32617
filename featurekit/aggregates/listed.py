"""Turns an aggregate that Python alone computes into SQL: DuckDB collects a window's inputs in a
list, and the function that answers online, `over`, finds the value of it."""

from __future__ import annotations

import functools
import json
from typing import Any, ClassVar

from featurekit.aggregates.base import Aggregate
from featurekit.aggregates.sql import AggregateSql, Finisher, InputColumn, each_list, present
from featurekit.core.sql import text_literal
from featurekit.core.types import BOOL, FLOAT, INT, Type

Timed = tuple[int, Any]
"""The microseconds of an event and its input, as a `timed` aggregate takes them."""

NUMBERS = (BOOL, INT, FLOAT)


_KINDS: dict[str, type[Listed]] = {}
"""The listed aggregates by name. DuckDB calls no other, and a session loads them all."""


class Listed(Aggregate):
    """An aggregate of which `over` is the only code, on both paths.

    A lookup costs time for each event of the window, and a training set holds the list of each
    label's inputs.
    """

    __slots__ = ()
    listed: ClassVar[bool] = True

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        _KINDS[cls.__name__] = cls

    def sql(self, column: InputColumn | None, keep: str) -> AggregateSql:
        assert column is not None
        taken = column.sql
        if self.timed:
            taken = f"struct_pack(t := e.__ts, x := {column.sql})"
        part = f"list({taken}) FILTER ({present(column, keep)})"
        params = [[name, value] for name, value in self.params]
        asked = text_literal(json.dumps([type(self).__name__, params]))
        # The value is made a template by `AggregateSql`, in which a brace is doubled.
        asked = asked.replace("{", "{{").replace("}", "}}")
        given = self.result(column.type).base
        call = f"{_name(column.type, given, timed=self.timed)}({{0}}, {asked}, l.__t)"
        error = f"coalesce({call}.e, FALSE)" if self.raises else None
        return AggregateSql((part,), f"{call}.v", error)


def finishers_for(
    *takes: Type, gives: Type | None = None, timed: bool = False
) -> tuple[Finisher, ...]:
    """The functions that DuckDB calls for inputs of the types `takes`; `gives` is the type of the
    values, by default that of the inputs. All aggregates of these types share them."""
    return tuple(_finisher(one, one if gives is None else gives, timed) for one in takes)


@functools.cache
def _finisher(item: Type, given: Type, timed: bool) -> Finisher:
    taken = f"STRUCT(t BIGINT, x {item.duckdb})" if timed else item.duckdb
    return Finisher(
        _name(item, given, timed=timed),
        (f"{taken}[]", "VARCHAR", "BIGINT"),
        f"STRUCT(v {given.duckdb}, e BOOLEAN)",
        functools.partial(_values, item, given),
    )


def _name(item: Type, given: Type, *, timed: bool) -> str:
    def plain(type_: Type) -> str:
        return type_.name if type_.item is None else f"{type_.name}_{plain(type_.item)}"

    return f"fk_over{'_timed' if timed else ''}_{plain(item)}_{plain(given)}"


def _values(item: Type, given: Type, lists: Any, asked: Any, instants: Any) -> Any:
    """The Finisher over lists of inputs of type `item`, the aggregate as JSON, and the instants
    asked about: values and whether they err."""
    import pyarrow as pa

    over: list[Any] = []
    erred: list[bool] = []
    texts = asked.to_pylist()
    for text, values, t in zip(texts, each_list(lists), instants.to_pylist(), strict=True):
        aggregate = _aggregate(text)
        try:
            over.append(aggregate.as_of(aggregate.over(values or [], item), t))
            erred.append(False)
        except ArithmeticError:
            over.append(None)
            erred.append(True)
    columns = [pa.array(over, type=given.stored), pa.array(erred, type=pa.bool_())]
    return pa.StructArray.from_arrays(columns, ["v", "e"])


@functools.lru_cache(maxsize=256)
def _aggregate(text: str) -> Aggregate:
    name, params = json.loads(text)
    return _KINDS[name](input="", window="1s", **dict(params))


def number(kind: Aggregate, item: Type | None) -> Type:
    """`item`, if it is bool, int or float; DefinitionError otherwise."""
    if item is None or item not in NUMBERS:
        raise kind.refuse(item, "int, float or bool")
    return item
