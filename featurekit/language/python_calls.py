"""Turns Python functions of values into DuckDB functions of columns, over distinct inputs (R5).

It is used where no SQL is proven identical: slower, never different.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from featurekit.core.types import EPOCH, MICROSECOND, Type
from featurekit.core.values import ERROR
from featurekit.language import ir, ops, walk, wire
from featurekit.language.to_python import to_python


@dataclass(frozen=True, slots=True)
class PythonCall:
    """A Python function that a query calls.

    `evaluate` takes the values of a row and gives a value or ERROR. A value is None only where its
    parameter is optional. In SQL, the call is NULL where it errs. If its result may be None, it is
    a struct of `v`, the value, and `e`, whether it errs. `what` tells people what runs in Python.
    """

    name: str
    what: str
    params: tuple[Type, ...]
    result: Type
    evaluate: Callable[..., Any]


def call_of_op(op: ops.Op) -> PythonCall:
    """The call of an operator's Python meaning."""
    body = op.body()

    def evaluate(*args: Any) -> Any:
        try:
            return body(*args)
        except ops.ERRORS:
            return ERROR

    return PythonCall(f"fk_{op.key}", op.key, op.params, op.result, evaluate)


def call_of_function(function: ir.Function) -> PythonCall:
    """The call of a whole function, run as it runs online."""
    name = f"fk_fn_{wire.fingerprint(walk.rename(function))}"
    params = tuple(p.type for p in function.params)
    what = f"the whole of {function.name}" if function.name else "a comprehension"
    return PythonCall(name, what, params, function.returns, to_python(function))


def register_python_ops(con: Any, calls: Mapping[str, PythonCall]) -> None:
    """Make these calls available in DuckDB, by their names."""
    for name, call in sorted(calls.items()):
        register_python_op(con, name, call)


def create_function(con: Any, name: str, *about: Any, **options: Any) -> None:
    """Make a Python function callable in DuckDB, unless one of this name exists.

    It does not ask first which functions exist: that takes DuckDB longer than the rest of a
    session's start.
    """
    import duckdb

    try:
        con.create_function(name, *about, **options)
    except (duckdb.NotImplementedException, duckdb.CatalogException) as error:
        if "already" not in str(error):
            raise


def register_python_op(con: Any, name: str, call: PythonCall) -> None:
    """Make one call available in DuckDB, unless it is."""
    import duckdb

    result = call.result.duckdb
    if call.result.optional:
        result = f"STRUCT(v {result}, e BOOLEAN)"
    create_function(
        con,
        name,
        _vectorised(call),
        [duckdb.dtype(p.duckdb) for p in call.params],
        duckdb.dtype(result),
        type="arrow",
        null_handling="special",
        side_effects=False,
    )


def _vectorised(call: PythonCall) -> Callable[..., Any]:
    """The call as a function from Arrow columns to an Arrow column; each distinct input runs
    once."""
    import pyarrow as pa

    required = [i for i, p in enumerate(call.params) if not p.optional]
    readers = [(i, reader(p)) for i, p in enumerate(call.params)]
    inward = [(i, read) for i, read in readers if read is not None]
    write = writer(call.result)
    optional = call.result.optional
    type_ = arrow_of(call.result)
    if optional:
        type_ = pa.struct([("v", type_), ("e", pa.bool_())])
    evaluate = call.evaluate
    error = {"v": None, "e": True} if optional else None

    def one(key: tuple[Any, ...]) -> Any:
        if any(key[i] is None for i in required):
            return error  # an argument erred (R2)
        if inward:
            values = list(key)
            for i, read in inward:
                if values[i] is not None:
                    values[i] = read(values[i])
            made = evaluate(*values)
        else:
            made = evaluate(*key)
        if made is ERROR:
            return error
        if write is not None and made is not None:
            made = write(made)
        return {"v": made, "e": False} if optional else made

    def evaluate_columns(*columns: Any) -> Any:
        seen: dict[Any, Any] = {}
        out = []
        for key in zip(*(c.to_pylist() for c in columns), strict=True):
            distinct = tuple(_distinct(v) for v in key)
            if distinct not in seen:
                seen[distinct] = one(key)
            out.append(seen[distinct])
        return pa.array(out, type=type_)

    # DuckDB counts a function's parameters, and does not accept *args.
    names = ", ".join(f"a{i}" for i in range(len(call.params)))
    counted: Callable[..., Any] = eval(
        f"lambda {names}: evaluate({names})", {"evaluate": evaluate_columns}
    )
    return counted


def _distinct(value: Any) -> Any:
    """A key for an input value; inputs with equal keys share a result. Equality of the values would
    not do: -0.0 equals 0.0, and a NaN equals nothing."""
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, (list, tuple)):
        return tuple(_distinct(v) for v in value)
    return value


def arrow_of(type_: Type) -> Any:
    """The Arrow type in which DuckDB hands over columns of the type."""
    import pyarrow as pa

    if type_.item is not None:
        item = arrow_of(type_.item)
        return pa.map_(item, arrow_of(type_.held)) if type_.name == "dict" else pa.list_(item)
    if type_.name == "datetime":
        return pa.timestamp("us")
    return pa.int64() if type_.name == "timedelta" else type_.arrow


def reader(type_: Type) -> Callable[[Any], Any] | None:
    """A function from DuckDB's value to Python's; None where they are the same."""
    if type_.item is not None:
        inner = reader(type_.item)
        if type_.name == "dict":  # Arrow gives a dict as its pairs
            held = reader(type_.held)
            return lambda pairs: {
                inner(k) if inner else k: held(v) if held else v for k, v in pairs
            }
        if inner is None:
            return None
        return lambda values: [None if v is None else inner(v) for v in values]
    if type_.name == "datetime":
        return lambda value: value.replace(tzinfo=dt.UTC)
    return (lambda value: value * MICROSECOND) if type_.name == "timedelta" else None


def writer(type_: Type) -> Callable[[Any], Any] | None:
    """A function from Python's value to DuckDB's; None where they are the same."""
    if type_.item is not None:
        inner = writer(type_.item)
        if type_.name == "dict":
            held = writer(type_.held)
            return lambda found: [
                (inner(k) if inner else k, held(v) if held else v) for k, v in found.items()
            ]
        if inner is None:
            return None
        return lambda values: [None if v is None else inner(v) for v in values]
    if type_.name == "datetime":
        return lambda value: (value - EPOCH) // MICROSECOND
    return (lambda value: value // MICROSECOND) if type_.name == "timedelta" else None
