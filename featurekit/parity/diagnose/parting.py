"""Turns the steps of a call into the first at which DuckDB gives another value."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from featurekit.core.sql import quote
from featurekit.core.values import ERROR
from featurekit.language.ir import Expr, Function, Param, Return
from featurekit.language.python_calls import register_python_ops
from featurekit.language.to_duckdb import Lowering, Sql, Value, lower
from featurekit.language.trace import Step, Trace
from featurekit.language.walk import free
from featurekit.parity.bits import bits
from featurekit.parity.scenario import canonical


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
    import pyarrow as pa

    table = f"__traced_{next(_numbers)}"
    columns = {"__one": pa.array([1])}
    for param, argument in zip(function.params, arguments, strict=True):
        columns[param.name] = canonical(param.type, [argument])
    typed = "".join(
        f", {quote(p.name)}::{p.type.duckdb} AS {quote(p.name)}" for p in function.params
    )
    con.register(f"{table}_arrow", pa.table(columns))
    con.execute(f"CREATE TEMP TABLE {table} AS SELECT __one{typed} FROM {table}_arrow")
    con.unregister(f"{table}_arrow")
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
