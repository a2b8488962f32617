"""Turns two inputs of an aggregate into one: a function of a row that gives a list of both."""

from __future__ import annotations

from featurekit.aggregates.pairs import HALF
from featurekit.core.types import BOOL, FLOAT, INT, Type, list_of
from featurekit.language import ir


def pair_function(name: str, one: Type, other: Type, *, directed: bool = False) -> ir.Function:
    """The function `[x, y]` of parameters x and y of these types; None where one of them is None.

    Two floats are a list of floats, and ints and bools are a list of ints. An int beside a float
    is two floats, which hold it exactly, and comes after the float; where they are `directed`, a
    fourth float says that it is the first input.
    """
    params = (ir.Param("x", one.plain), ir.Param("y", other.plain))
    x, y = (_number(ir.Name(param.name, param.type.base)) for param in params)
    items: tuple[ir.Expr, ...] = (x, y)
    if {x.type, y.type} == {INT, FLOAT}:
        real, whole = (x, y) if x.type == FLOAT else (y, x)
        items = (real, _half("//(int,int)", whole), _half("%(int,int)", whole))
        if directed and whole is x:
            items += (ir.Const(1.0, FLOAT),)
    type_ = list_of(INT if (x.type, y.type) == (INT, INT) else FLOAT)
    body: list[ir.Statement] = []
    for param in params:
        if param.type.optional:
            test = ir.IsNone(ir.Name(param.name, param.type), BOOL)
            body.append(ir.If(test, (ir.Return(ir.Const(None, type_.or_none())),), ()))
    body.append(ir.Return(ir.ListOf(items, type_)))
    returns = type_.or_none() if len(body) > 1 else type_
    return ir.Function(name, params, tuple(body), returns)


def _number(x: ir.Expr) -> ir.Expr:
    return ir.Call("int(bool)", (x,), INT) if x.type == BOOL else x


def _half(operator: str, whole: ir.Expr) -> ir.Expr:
    part = ir.Call(operator, (whole, ir.Const(HALF, INT)), INT)
    return ir.Call("float(int)", (part,), FLOAT)
