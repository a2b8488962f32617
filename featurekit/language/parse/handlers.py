"""Turns a node of Python's syntax into IR by the handler that is registered for its class.

A new piece of syntax is one function with one decorator, as a new operator is one row. The modules
beside this one register their handlers when the package is imported. They reach each other's syntax
through this module, so that none imports another in a circle.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from featurekit.core.types import Type
from featurekit.language.ir import Assign, Expr, Name, Statement
from featurekit.language.parse.context import Env, Parsing


@dataclass(slots=True)
class Flow:
    """Where control may be after statements: `env` has the locals there, None where it never
    arrives."""

    env: Env | None


Made = tuple[list[Statement], Flow]
"""The statements of the IR for a statement, and what is known after them."""

Expressions = Callable[[Parsing, Any, Env, Type | None], Expr]
Tests = Callable[[Parsing, Any, Env], "tuple[Expr, Env, Env] | None"]
Lists = Callable[[Parsing, Any, Env, Type | None], "Expr | None"]
Statements = Callable[[Parsing, Any, Env], Made]
Builtins = Callable[[Parsing, ast.Call, Env, Type | None], "Expr | None"]

EXPRESSIONS: dict[type[ast.expr], Expressions] = {}
"""A node as a value. The last argument is the type that the declared result takes."""

TESTS: dict[type[ast.expr], Tests] = {}
"""A node as a test: a bool, the locals where it is true, and the locals where it is false. None
where the test is the truth of the node's value, as for a node without a handler."""

LISTS: dict[type[ast.expr], Lists] = {}
"""A node where a list is read; None where it is read as any value, as for a node without a handler.
The last argument is the type of the elements, where it is known."""

STATEMENTS: dict[type[ast.stmt], Statements] = {}
"""A node as statements, and what is known after them."""

BUILTINS: dict[str, Builtins] = {}
"""A call of a builtin, by its name. None where it is the operator of that name, as for a name
without a handler."""

_Handler = TypeVar("_Handler", bound=Callable[..., Any])


def handles(table: dict[Any, Any], *keys: Any) -> Callable[[_Handler], _Handler]:
    """Register a function in a table. ValueError where a key has a handler already."""

    def register(handler: _Handler) -> _Handler:
        for key in keys:
            if key in table:
                raise ValueError(f"two handlers for {key}")
            table[key] = handler
        return handler

    return register


def expression(p: Parsing, node: ast.expr, env: Env, expect: Type | None = None) -> Expr:
    """The typed value of `node`. `expect` is the type that the declared result takes, where this is
    one."""
    if not p.converts and expect is not None and expect.item is None:
        expect = None
    handler = EXPRESSIONS.get(type(node))
    if handler is None:
        refuse(p, node, f"a {type(node).__name__.lower()}", "write it otherwise")
    return handler(p, node, env, expect)


def unconverted(p: Parsing, node: ast.expr, env: Env, wanted: Type) -> Expr:
    """A value for a name with a declared type. Ints stay ints, as in Python; only an empty list is
    given the declared type."""
    held, p.converts = p.converts, False
    try:
        return expression(p, node, env, wanted if wanted.item is not None else None)
    finally:
        p.converts = held


def block(p: Parsing, statements: list[ast.stmt], env: Env) -> tuple[tuple[Statement, ...], Flow]:
    """Statements from top to bottom, and what is known after them."""
    out: list[Statement] = []
    flow = Flow(dict(env))
    for node in statements:
        if flow.env is None:
            break  # Python never reaches it
        out += _settled(flow.env)
        handler = STATEMENTS.get(type(node))
        if handler is None:
            what = type(node).__name__.lower()
            refuse(p, node, what, "use assignments, if, for, match and return")
        made, flow = handler(p, node, flow.env)
        out += made
    if flow.env is not None:
        out += _settled(flow.env)
    return tuple(out), flow


def _settled(env: Env) -> list[Statement]:
    """Assignments that copy what walruses bound to the names that were written, so that both sides
    agree on these names where ways meet."""
    out: list[Statement] = []
    for name, local in env.items():
        if not isinstance(local, Name) or local.type.name in ("match", "zoned", "parted", "clock"):
            continue
        if local.name.startswith(".") and not name.startswith("."):
            out.append(Assign(name, local))
            env[name] = Name(name, local.type)
    return out


def refuse(p: Parsing, node: ast.expr | ast.stmt, what: str, hint: str) -> NoReturn:
    """CompileError for a node without a handler; `what` and `hint` are used where it has no text of
    its own."""
    what, hint = _REFUSED.get(type(node), (what, hint))
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
        tops = [str(name).partition(".")[0] for name in names]
        hint = next((_INSTEAD_OF[n] for n in tops if n in _INSTEAD_OF), hint)
    p.fail(node, f"{what} is not in the language of features", hint)


_INSTEAD_OF: dict[str | None, str] = {
    "time": "a feature has no clock: take the instant as the parameter as_of: datetime, or as a "
    "column or request field",
    "datetime": "import datetime at the top of the module; for the present instant take the "
    "parameter as_of: datetime, or a column or request field",
    **dict.fromkeys(
        ("random", "secrets", "uuid"),
        "a feature gives the same for the same row: take the number as a column or request field",
    ),
}
_INSTEAD_OF |= dict.fromkeys(
    ("numpy", "pandas", "polars", "scipy", "torch", "sklearn"),
    "features compute with Python's own operators and with math, imported at the top of the "
    'module; for another library opt in with @feature(on_unsupported="python")',
)
"""What to write in the place of a module that no import at the top makes fit."""

_REFUSED: dict[type[ast.AST], tuple[str, str]] = {
    ast.Lambda: ("a lambda", "write a def at the top of the module, or the expression itself"),
    ast.Tuple: ("a tuple as a value", "unpack it into names, or return a list"),
    ast.Await: ("await", "a feature computes from its parameters alone"),
    ast.Yield: ("yield", "return a list"),
    ast.YieldFrom: ("yield", "return a list"),
    ast.Starred: ("a starred expression", "write the elements out"),
    ast.Slice: ("a slice by itself", "write values[a:b]"),
    ast.AsyncFor: ("async for", "write a plain for"),
    ast.TryStar: ("try", "test for the error first"),
    ast.With: ("with", "a feature computes from its parameters alone"),
    ast.FunctionDef: (
        "a def inside a feature",
        "write it at the top of the module; calls of it are inlined",
    ),
    ast.ClassDef: ("a class inside a feature", "write it at the top of the module"),
    ast.Import: ("import of this inside a feature", "import at the top of the module"),
    ast.ImportFrom: ("import of this inside a feature", "import at the top of the module"),
    ast.Global: ("global", "a feature computes from its parameters and constants alone"),
    ast.Nonlocal: ("nonlocal", "a feature computes from its parameters and constants alone"),
    ast.Delete: ("del", "leave it out"),
}
