"""Turns an aggregate by categories into SQL: DuckDB collects the categories and inputs of a window
in a list, and the function that answers online finds the dict of it."""

from __future__ import annotations

import functools
import json
from operator import itemgetter
from typing import Any

from featurekit.aggregates.by_category import ByCategory
from featurekit.aggregates.sql import AggregateSql, InputColumn, sound
from featurekit.core.sql import text_literal
from featurekit.core.types import INT, Type
from featurekit.define.plan import Feature, View, implementation_of
from featurekit.language.python_calls import arrow_of, create_function, reader, writer


def by_category_sql(
    con: Any, view: View, feature: Feature, column: InputColumn | None, keep: str
) -> AggregateSql:
    """The aggregate in DuckDB, over the rows for which the predicate `keep` holds; the function
    that it calls is made there."""
    assert feature.by is not None
    aggregate = feature.implementation()
    assert isinstance(aggregate, ByCategory)
    inner, key = aggregate.inner, view.slots[feature.by].type.base
    kept, item = f"{keep} AND e.s{feature.by} IS NOT NULL", INT
    if column is not None:
        kept = sound(column, kept)
        kept += "" if inner.keeps_none else f" AND {column.sql} IS NOT NULL"
        item = column.type
    taken = "e.__ts" if column is None or inner.of_instants else column.sql
    item = INT if inner.of_instants else item
    order = "e.__o" if inner.ordered else "0::BIGINT"
    entry = f"struct_pack(o := {order}, k := e.s{feature.by}, t := e.__ts, x := {taken})"
    name = _function(con, key, item, feature.type.base)
    params = [[name, value] for name, value in feature.params]
    asked = text_literal(json.dumps([feature.aggregate, params, aggregate.most]))
    # The value is made a template by `AggregateSql`, in which a brace is doubled.
    asked = asked.replace("{", "{{").replace("}", "}}")
    call = f"{name}({{0}}, {asked}, l.__t)"
    error = f"coalesce({call}.e, FALSE)" if aggregate.raises else None
    return AggregateSql((f"list({entry}) FILTER ({kept})",), f"{call}.v", error)


def _function(con: Any, key: Type, item: Type, given: Type) -> str:
    """Make the function of inputs and categories of these types in DuckDB, unless it is there; its
    name."""
    name = f"fk_by_{_named(key)}_{_named(item)}_{_named(given)}"
    entry = f"STRUCT(o BIGINT, k {key.duckdb}, t BIGINT, x {item.duckdb})"
    function = functools.partial(_values, key, item, given)
    takes = [f"{entry}[]", "VARCHAR", "BIGINT"]
    gives = f"STRUCT(v {given.duckdb}, e BOOLEAN)"
    create_function(con, name, function, takes, gives, type="arrow", null_handling="special")
    return name


def _named(type_: Type) -> str:
    inner = [_named(one) for one in (type_.item, type_.value) if one is not None]
    return "_".join([type_.name, *inner])


def _values(key: Type, item: Type, given: Type, lists: Any, asked: Any, instants: Any) -> Any:
    """The dicts over lists of entries, of the aggregates as JSON, as of some instants, and whether
    they err."""
    import pyarrow as pa

    read_key, read, write = (reader(key) or _same), (reader(item) or _same), writer(given)
    assert write is not None
    over: list[Any] = []
    erred: list[bool] = []
    columns = (column.to_pylist() for column in (lists, asked, instants))
    for entries, text, t in zip(*columns, strict=True):
        aggregate = _aggregate(text)
        inner, pairs = aggregate.inner, []
        for entry in sorted(entries or (), key=itemgetter("o")):
            x = None if entry["x"] is None else read(entry["x"])
            pairs.append((read_key(entry["k"]), (entry["t"], x) if inner.timed else x))
        try:
            over.append(write(aggregate.as_of(aggregate.over(pairs, item), t)))
            erred.append(False)
        except ArithmeticError:
            over.append(None)
            erred.append(True)
    made = [pa.array(over, type=arrow_of(given)), pa.array(erred, type=pa.bool_())]
    return pa.StructArray.from_arrays(made, ["v", "e"])


def _same(value: Any) -> Any:
    return value


@functools.lru_cache(maxsize=256)
def _aggregate(text: str) -> ByCategory:
    name, params, most = json.loads(text)
    found = implementation_of(name, tuple((k, v) for k, v in params))
    return ByCategory(inner=found, most=most, window="1s")
