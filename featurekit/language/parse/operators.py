"""Turns typed arguments into calls of operator rows, and joins two types where values meet."""

from __future__ import annotations

import ast
import difflib
import enum
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from featurekit.core.types import BOOL, FLOAT, INT, NONE, Type, list_of
from featurekit.language import ops
from featurekit.language.ir import Call, Choose, Const, Expr, Let, Name
from featurekit.language.parse.context import Env, Parsing, column_type
from featurekit.language.parse.handlers import expression
from featurekit.language.parse.promises import Promise
from featurekit.language.parse.usage import why_not_listed

_CONVERTS = ("int", "float", "str")
_BY_IDENTITY = ("==", "!=", "list.count", "list.index")


def no_none(p: Parsing, node: ast.expr, value: Expr) -> None:
    """CompileError where `value` may be None: None never reaches an operator untested (R2)."""
    if value.type.optional:
        shown = ast.unparse(node)
        p.fail(
            node,
            f"{shown} may be None here ({value.type})",
            f"test it first: `if {shown} is None: return None`"
            if isinstance(node, ast.Name)
            else "assign it to a name and test that for None first",
        )


def call(
    p: Parsing, node: ast.expr, name: str, nodes: Sequence[ast.expr], arguments: Sequence[Expr]
) -> Call:
    """A call of the row of that name for arguments of these types. CompileError where there is
    none."""
    for argument_node, argument in zip(nodes, arguments, strict=True):
        no_none(p, argument_node, argument)
    found = ops.find(name, tuple(a.type for a in arguments))
    if found is None:
        no_row(p, node, name, arguments)
    op, conversions = found
    check_literals(p, node, op, nodes, arguments)
    args = tuple(
        Call(key, (a,), ops.TABLE[key].result) if key else a
        for a, key in zip(arguments, conversions, strict=True)
    )
    return Call(op.key, args, op.result)


def check_literals(
    p: Parsing, node: ast.AST, op: ops.Op, nodes: Sequence[ast.AST], arguments: Sequence[Expr]
) -> None:
    """CompileError where arguments that must be literals are not, or have values that the row
    refuses."""
    for i in op.literals:
        if not isinstance(arguments[i], Const):
            shown = f"argument {i + 1} of {op.name} is computed"
            hint = "write a literal or a module constant there"
            p.fail(nodes[i], shown, hint)
    if op.check is not None:
        reason = op.check(*(a.value if isinstance(a, Const) else None for a in arguments))
        if reason is not None:
            what, _, hint = reason.partition(": ")
            p.fail(node, what, hint or "write it otherwise")


def no_row(p: Parsing, node: ast.expr, name: str, arguments: Sequence[Expr]) -> NoReturn:
    shown = ", ".join(str(a.type) for a in arguments)
    rows = ops.BY_NAME.get(name)
    if rows is None:
        p.fail(node, f"{name} is not in the language of features", nearest(name))
    if name in _BY_IDENTITY and any(a.type.base == list_of(FLOAT) for a in arguments):
        p.fail(
            node,
            f"{name} of a list of floats, where Python finds a NaN by its identity",
            "compare elements, as in sum(v == x for v in values)",
        )
    if name in ("==", "!=") and len(arguments) == 2:
        types = {a.type.base for a in arguments}
        if len(types) == 2:
            p.fail(node, f"{shown} are never equal", "compare values of one type, or convert one")
    if name == "+" and {a.type.name for a in arguments} >= {"str"}:
        p.fail(node, f"{name} does not take ({shown})", "write str(…), or an f-string")
    declared = _declared_otherwise(p, rows, arguments)
    if declared:
        p.fail(node, f"{name} does not take ({shown})", declared)
    types = {a.type.base for a in arguments}
    alike = [r for r in rows if types & set(r.params)] or rows
    known = "; ".join(dict.fromkeys(", ".join(map(str, r.params)) for r in alike[:6]))
    p.fail(node, f"{name} does not take ({shown})", f"it takes ({known})")


def _declared_otherwise(p: Parsing, rows: Sequence[ops.Op], arguments: Sequence[Expr]) -> str:
    """What to write where one of the arguments is a parameter, and of another type the operator
    would take it beside the others; nothing where none is."""
    types = [a.type.plain.base for a in arguments]
    given = p.node.args
    listed = [*given.posonlyargs, *given.args, *given.kwonlyargs] if p.top else []
    declared = {a.arg: ast.unparse(a.annotation) for a in listed if a.annotation is not None}
    for i, one in enumerate(arguments):
        if not isinstance(one, Name) or declared.get(one.name) != str(one.type):
            continue
        others = [*types[:i], *types[i + 1 :]]
        for row in rows:
            fits = len(row.params) == len(types) and [*row.params[:i], *row.params[i + 1 :]]
            if fits == others and row.params[i].name in _CONVERTS:
                wanted = row.params[i]
                column = column_type(one.name)
                if column is not None and column != one.type:
                    return (
                        f"{one.name} is declared {one.type}, and its column is {column}: write "
                        f"{one.name}: {column}"
                    )
                return (
                    f"{one.name} is declared {one.type}: declare it as its column is, as in "
                    f"{one.name}: {wanted}, or convert it, as in {wanted}({one.name})"
                )
    return ""


def negate(value: Expr) -> Expr:
    return Call("not(bool)", (value,), BOOL)


def named(p: Parsing, value: Expr, body: Callable[[Name | Const], Expr]) -> Expr:
    """`body` of a name for `value`, so that `value` is evaluated once."""
    if isinstance(value, (Name, Const)):
        return body(value)
    name = p.new_name(value.type)
    inner = body(name)
    return Let(name.name, value, inner, inner.type)


def coerce(
    p: Parsing, node: ast.AST, value: Expr, wanted: Type, what: str, *, convert: bool
) -> Expr:
    """`value` as a declared type takes it.

    With `convert`, an int for a float is converted. Only a result allows this: a name or a
    parameter keeps the int in Python.
    """
    made = fitted(p, node, value, wanted, what, convert=convert)
    promise = Promise(node, made, wanted, what)
    if promise.narrow:
        p.promises.append(promise)
    return made


def fitted(
    p: Parsing, node: ast.AST, value: Expr, wanted: Type, what: str, *, convert: bool
) -> Expr:
    """As `coerce`; whether a Literal or Vector holds the value is checked at the function's end."""
    if value.type == NONE and wanted.optional:
        return Const(None, wanted)
    if value.type == wanted or value.type.or_none() == wanted:
        return value
    if value.type == NONE:
        p.fail(
            node,
            f"None, and {what} is {wanted}",
            f"give a value here, or declare {wanted.or_none()}",
        )
    if value.type.base == wanted.base:
        p.fail(
            node,
            f"{ast.unparse(node)} may be None, and {what} is {wanted}",
            f"test it for None first, or declare {wanted.or_none()}",
        )
    steps = {
        (INT, FLOAT): "float(int)",
        (BOOL, INT): "int(bool)",
        (BOOL, FLOAT): "float(bool)",
    }
    key = steps.get((value.type.base, wanted.base))
    if key is None:
        hint = f"give {wanted} here"
        if value.type.base == FLOAT and wanted.base == INT:
            hint = "write int(…), round(…) or math.floor(…), or declare float"
        if value.type.item == INT and wanted.item == FLOAT:
            hint = "write floats, as in 1.0 for 1, or [float(v) for v in values]"
        p.fail(node, f"this is {value.type}, and {what} is {wanted}", hint)
    if not convert:
        shown = ast.unparse(node)
        hint = f"write {wanted.base}({shown})"
        if isinstance(value, Const) and value.type == INT:
            hint = f"write {float(value.value)!r}"
        p.fail(node, f"this is {value.type}, and {what} is {wanted}; Python keeps it", hint)
    if value.type.optional:
        if not wanted.optional:
            p.fail(
                node,
                f"{ast.unparse(node)} may be None, and {what} is {wanted}",
                f"test it for None first, or declare {wanted.or_none()}",
            )
        p.fail(
            node,
            f"this is {value.type}, and {what} is {wanted}",
            f"test it for None first, and convert it with {wanted.base}(…)",
        )
    return Call(key, (value,), wanted.base)


def choose(
    p: Parsing,
    node: ast.AST,
    test: Expr,
    then: Expr,
    other: Expr,
    expect: Type | None,
) -> Expr:
    """`then if test else other`, in one type."""
    a, b = then, other
    if expect is not None and expect.base == FLOAT:
        a, b = (as_float(v) for v in (a, b))
    if a.type == NONE and b.type == NONE:
        return Const(None, NONE)
    base = b.type.base if a.type == NONE else a.type.base
    for value in (a, b):
        if value.type != NONE and value.type.base != base:
            hint = "give both branches one type"
            if {a.type.base, b.type.base} == {INT, FLOAT}:
                hint += ", as in 0.0 for 0 or float(n)"
            p.fail(node, f"the branches are {a.type} and {b.type}", hint)
    type_ = base.or_none() if a.type.optional or b.type.optional else base
    a, b = (Const(None, type_) if v.type == NONE else v for v in (a, b))
    return Choose(test, a, b, type_)


def element(p: Parsing, node: ast.expr, values: Expr, at: Expr) -> Expr:
    """`values[at]` of a list whose elements may be None."""

    def chosen(held: Name | Const, i: Name | Const) -> Expr:
        nodes = [node, node]
        absent = call(p, node, "getitem.none", nodes, [held, i])
        found = call(p, node, "getitem", nodes, [held, i])
        return choose(p, node, absent, Const(None, NONE), found, None)

    return named(p, values, lambda held: named(p, at, lambda i: chosen(held, i)))


def as_float(value: Expr) -> Expr:
    """An int as the float that the declared result makes of it."""
    if isinstance(value, Const) and value.type == INT and abs(value.value) <= 2**53:
        return Const(float(value.value), FLOAT)
    return Call("float(int)", (value,), FLOAT) if value.type == INT else value


def nearest(name: str) -> str:
    """A hint with the operators whose names are most similar."""
    family = name.split(".")[0]
    known = [n for n in ops.BY_NAME if n.split(".")[0] == family and n.isprintable()]
    found = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if found:
        return f"nearest: {', '.join(found)}"
    return 'write it otherwise, or opt in with @feature(on_unsupported="python")'


def is_method(type_: Type, name: str) -> bool | None:
    """Whether Python calls the attribute (True) or reads it; None where the type has no such
    name."""
    held: Any = getattr(type_.python, name, None)
    return None if held is None else callable(held)


def comparand(p: Parsing, node: ast.expr, env: Env) -> Expr:
    """A value where only equality matters: a member of a str enumeration becomes its str."""
    if isinstance(node, (ast.Attribute, ast.Name)):
        held = p.static(node, env)
        if isinstance(held, enum.Enum):
            return p.constant(node, held)
    return expression(p, node, env)


def no_list(p: Parsing, node: ast.AST, name: str) -> None:
    """CompileError unless the tuple or view of a dict at `node` is only read."""
    reason = why_not_listed(p.node, node, name)
    if reason is not None:
        p.fail(node, *reason)
