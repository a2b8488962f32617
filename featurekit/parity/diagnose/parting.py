"""Turns the steps of a call into the first at which DuckDB gives another value."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from featurekit.core.sql import quote
from featurekit.core.tables import temp_table
from featurekit.core.types import INT
from featurekit.core.values import ERROR
from featurekit.language.ir import Expr, Function, Param, Return
from featurekit.language.python_calls import register_python_ops
from featurekit.language.to_duckdb import Lowering, Sql, Value, lower
from featurekit.language.trace import Step, Trace
from featurekit.language.walk import free
from featurekit.parity.compare import bits


def first_parting(con: Any, found: Trace) -> tuple[Step, Any] | None:
    """The first step whose node DuckDB gives another value, with that value; None where all of them
    agree. DuckDB is given the locals that Python had."""
    for step in found.steps:
        value = sql_value(con, step.node, step.names)
        if bits(value) != bits(step.value):
            return step, value
    return None


def sql_value(con: Any, node: Expr, names: Mapping[str, Any]) -> Any:
    """What DuckDB makes of a node over locals of these values; `ERROR` where it errs."""
    params = tuple(Param(name, type_) for name, type_ in free(node).items())
    function = Function("", params, (Return(node),), node.type)
    # What the node binds itself has no value before it, and is not read before it.
    return sql_call(con, function, [names.get(p.name) for p in params])


_numbers = itertools.count()


def sql_call(con: Any, function: Function, arguments: Sequence[Any]) -> Any:
    """What DuckDB makes of a call; `ERROR` where it errs."""
    types = {"__one": INT} | {p.name: p.type for p in function.params}
    table = temp_table(con, f"__traced_{next(_numbers)}", types, [[1, *arguments]])
    lowering = Lowering()
    value = lower(lowering, function, [Value(Sql(quote(p.name))) for p in function.params])
    register_python_ops(con, lowering.python_ops)
    error = "FALSE" if value.error is None else value.error.text
    made = con.sql(
        f"SELECT {value.sql.text} AS v, {error} AS e FROM {lowering.wrap(table)}"
    ).to_arrow_table()
    con.execute(f"DROP TABLE {table}")
    column = made.column("v")
    if function.returns.name != "None":
        column = column.cast(function.returns.arrow)
    result = column.to_pylist(maps_as_pydicts="strict")[0]
    if made.column("e").to_pylist()[0] or (result is None and not function.returns.optional):
        return ERROR
    return result
