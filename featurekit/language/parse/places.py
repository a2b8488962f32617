"""Where a function's text stands, and errors that point into it."""

from __future__ import annotations

import ast
import datetime as dt
import inspect
import textwrap
from typing import Any, NoReturn

from featurekit.core.types import Type
from featurekit.errors import CompileError, DefinitionError
from featurekit.language.ir import Const, Expr, Name

MISSING: Any = object()

Local = Name | Const
"""What a local is just here: an IR name with what narrowing knows of its type, or a constant."""

Env = dict[str, Local]
"""The locals at one point, in the branch where a test is true or false."""


class Places:
    """The source of one function."""

    def __init__(self, function: Any, name: str, what: str = "@feature") -> None:
        self.target = function
        self.name = name
        try:
            lines, self.first_line = inspect.getsourcelines(function)
        except (OSError, TypeError):
            raise DefinitionError(
                f"{what} {name}: its source text cannot be read; write it in a file, "
                "not at a prompt"
            ) from None
        self.filename = inspect.getsourcefile(function) or "<unknown>"
        self.indent = len(lines[0]) - len(lines[0].lstrip())
        self.lines = lines
        node = ast.parse(textwrap.dedent("".join(lines))).body[0]
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            self.fail(node, f"{name} is no def", "write it as a def with typed parameters")
        self.node = node
        self.fresh = 0
        self.walruses = any(isinstance(n, ast.NamedExpr) for n in ast.walk(node))

    def fail(self, node: ast.AST, reason: str, hint: str) -> NoReturn:
        """CompileError at `node`, with what is wrong and the nearest thing that works."""
        line = getattr(node, "lineno", 1)
        shown = self.lines[line - 1]
        # ast counts bytes of UTF-8; a caret counts characters.
        dedented = shown[self.indent :].encode()
        before = dedented[: getattr(node, "col_offset", 0)].decode(errors="ignore")
        raise CompileError(
            reason,
            filename=self.filename,
            line=self.first_line + line - 1,
            column=self.indent + len(before) + 1,
            source=shown,
            hint=hint,
        )

    def new_name(self, type_: Type) -> Name:
        """A name that no user's can be."""
        self.fresh += 1
        return Name(f".{self.fresh}", type_)

    def forget(self, node: ast.AST, env: Env) -> None:
        """Take out of `env` what a walrus in `node` binds only where a test says so: Python may
        read what the name held before, or what it was bound to."""
        for part in ast.walk(node) if self.walruses else ():
            match part:
                case ast.IfExp(body=body, orelse=orelse):
                    seldom = [body, orelse]
                case ast.BoolOp(values=[_, *seldom]) | ast.Compare(comparators=[_, *seldom]):
                    pass
                case _:
                    continue
            for inner in (n for one in seldom for n in ast.walk(one)):
                if isinstance(inner, ast.NamedExpr):
                    env.pop(inner.target.id, None)

    def expression(self, node: ast.expr, env: Env, expect: Type | None = None) -> Expr:
        """The typed value of `node`; `expect`, where the declared result receives it."""
        raise NotImplementedError


def join(a: Env, b: Env) -> Env:
    """What holds whichever of two ways was taken."""
    out: Env = {}
    for name, local in a.items():
        other = b.get(name)
        if other is None:
            continue
        if isinstance(local, Name) and isinstance(other, Name) and local.name == other.name:
            if local.type.base == other.type.base:
                out[name] = local if local.type.optional else Name(local.name, other.type)
        elif local is other:
            out[name] = local
    return out


def narrowed(env: Env, name: str) -> Env:
    """The locals where `name` is not None."""
    local = env[name]
    if isinstance(local, Const):
        return dict(env)
    return {**env, name: Name(local.name, local.type.base)}


_CLASSES: dict[str, type] = {
    "bool": bool,
    "int": int,
    "float": float,
    "str": str,
    "bytes": bytes,
    "datetime": dt.datetime,
    "date": dt.date,
    "timedelta": dt.timedelta,
    "list": list,
    "dict": dict,
}


def is_method(type_: Type, name: str) -> bool | None:
    """Whether Python calls it or reads it; None where it has no such name."""
    held: Any = getattr(_CLASSES.get(type_.name, object), name, None)
    return None if held is None else callable(held)
