"""Turns a call of another function into its body, over arguments that are evaluated once."""

from __future__ import annotations

import ast
import inspect
import sys
import types as pytypes
import typing
from typing import Any

from featurekit.core.types import BOOL, FLOAT, INT, NONE, Type
from featurekit.language.ir import Apply, Expr, Fail, Function, Statement
from featurekit.language.parse.context import Env, Parsing, begin
from featurekit.language.parse.flow import kept
from featurekit.language.parse.functions import whole_function
from featurekit.language.parse.handlers import unconverted
from featurekit.language.parse.operators import coerce
from featurekit.language.results import in_order, result_fields
from featurekit.language.transform import Transform
from featurekit.language.walk import nodes


def inline(p: Parsing, node: ast.Call, function: Any, name: str, env: Env) -> Expr:
    """A call of another function: its body, over arguments that are evaluated once."""
    declared = _helper(p, node, function, name)
    args, given = _bound_arguments(p, node, function, declared, name, env)
    callee = _helper(p, node, function, name, given=given) if given else declared
    return Apply(callee, args, callee.returns.plain)


# --- functions with several results ---------------------------------------------------------------


def several(p: Parsing, node: ast.Call, env: Env) -> Any:
    called = p.static(node.func, env) if isinstance(node.func, (ast.Name, ast.Attribute)) else 0
    function = called.function if isinstance(called, Transform) else called
    if not isinstance(function, pytypes.FunctionType):
        return None
    try:
        hint = typing.get_type_hints(function).get("return")
    except (NameError, TypeError, AttributeError):
        return None
    fields = result_fields(hint)
    if fields is None:
        return None
    if not in_order(hint):
        what = f"{ast.unparse(node.func)}() gives a {getattr(hint, '__name__', hint)}"
        p.fail(node, f"{what}, which is not unpacked", "let it return a NamedTuple, or a tuple")
    return function, list(fields)


def fields_of(
    p: Parsing, node: ast.Call, called: Any, env: Env, out: list[Statement]
) -> list[Expr]:
    function, fields = called
    name = ast.unparse(node.func)
    made: list[Expr] = []
    held: tuple[Expr, ...] | None = None
    given: tuple[tuple[str, Type], ...] = ()
    for field in fields:
        callee = _helper(p, node, function, name, field)
        if held is None:
            args, given = _bound_arguments(p, node, function, callee, name, env)
            held = tuple(kept(p, v, out) for v in args)
        if given:
            callee = _helper(p, node, function, name, field, given)
        made.append(Apply(callee, held, callee.returns.plain))
    return made


def _helper(
    p: Parsing,
    node: ast.AST,
    function: Any,
    name: str,
    field: str | None = None,
    given: tuple[tuple[str, Type], ...] = (),
) -> Function:
    """The IR of a function that is called here. `given` has the parameters that are given an int
    for a declared float, which stay ints in it, as they do in Python."""
    if function in p.stack:
        chain = " -> ".join(f.__name__ for f in (*p.stack, function))
        p.fail(node, f"{name} calls itself ({chain})", "write the steps out")
    key = (function, field, given)
    if key not in p.inlined:
        inner = begin(
            function,
            function.__name__,
            field=field,
            stack=p.stack,
            inlined=p.inlined,
            given=dict(given),
        )
        p.inlined[key] = whole_function(inner)
    if any(isinstance(n, Fail) for n in nodes(p.inlined[key])):
        p.raising.append(node)
    return p.inlined[key]


def _bound_arguments(
    p: Parsing, node: ast.Call, function: Any, callee: Function, name: str, env: Env
) -> tuple[tuple[Expr, ...], tuple[tuple[str, Type], ...]]:
    """The arguments of a call in the order of the parameters, with the defaults; and the parameters
    that are given another kind of number than they declare."""
    try:
        bound = inspect.signature(function).bind(*node.args, **{
            k.arg: k.value for k in node.keywords if k.arg
        })  # fmt: skip
    except TypeError as error:
        p.fail(node, f"{name}(): {error}", f"its parameters are {_parameters(callee)}")
    out: list[Expr] = []
    given: list[tuple[str, Type]] = []
    for param in callee.params:
        what = f"{name}'s parameter {param.name}"
        if param.name in bound.arguments:
            at = bound.arguments[param.name]
            value = unconverted(p, at, env, param.type)
            if value.type == NONE and not param.type.optional:
                p.fail(at, f"None, and {what} is {param.type}", "pass a value")
        else:
            at = node
            default = inspect.signature(function).parameters[param.name].default
            value = p.constant(node, default)
        numbers = (value.type.base, param.type.base)
        if numbers in _NUMBERS and param.type.optional >= value.type.optional:
            given.append((param.name, value.type))
            out.append(value)
        else:
            out.append(coerce(p, at, value, param.type, what, convert=False))
    return tuple(out), tuple(given)


_NUMBERS = ((INT, FLOAT), (BOOL, FLOAT), (BOOL, INT))
"""Types that Python's type checkers accept where another type is declared."""


def of_user(function: pytypes.FunctionType) -> bool:
    """Whether a function is the user's own, and not a library's."""
    top = (function.__module__ or "").split(".")[0]
    if top in sys.stdlib_module_names and top != "__main__":
        return False
    filename = function.__code__.co_filename
    return "site-packages" not in filename and "dist-packages" not in filename


def _parameters(function: Function) -> str:
    return ", ".join(f"{p.name}: {p.type}" for p in function.params) or "none"
