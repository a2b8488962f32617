"""Lowers a transform's IR to Python source that the online path runs.

The source is the function that was written, with its ints held to int64: each operator is its
row's Python meaning, inlined, so that a call costs little more than the plain function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from featurekit import ops
from featurekit.ir import (
    Assign,
    Both,
    Call,
    Choose,
    Const,
    Either,
    Evaluate,
    Expr,
    Function,
    If,
    IsNone,
    Let,
    Name,
    Return,
    Statement,
)
from featurekit.types import INT, INT_MAX, INT_MIN


class Err:
    """The third state of R3, where values travel: one object, `ERROR`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "ERROR"


ERROR = Err()


def to_python(function: Function) -> Callable[..., Any]:
    """A callable of the parameters in their order; its value, or `ERROR` where it errs (R3)."""
    source, constants = python_source(function)
    namespace = {**ops.NAMESPACE, **constants, "_overflow": _overflow}
    exec(compile(source, f"<feature {function.name}>", "exec"), namespace)
    plain: Callable[..., Any] = namespace["_feature"]

    def evaluate(*args: Any) -> Any:
        try:
            return plain(*args)
        except ops.ERRORS:
            return ERROR

    return evaluate


def _overflow() -> Any:
    raise OverflowError("an int outside int64")


def python_source(function: Function) -> tuple[str, dict[str, Any]]:
    """The source of `def _feature(…)`, and the constants it names."""
    printer = _Printer()
    parameters = ", ".join(f"v_{p.name}" for p in function.params)
    body = printer.block(function.body, "    ")
    return "\n".join([f"def _feature({parameters}):", *body]), printer.constants


class _Printer:
    """Prints nodes; user names get a prefix, so that none meets a builtin or a helper."""

    def __init__(self) -> None:
        self.constants: dict[str, Any] = {}
        self.temporaries = 0

    def block(self, statements: tuple[Statement, ...], indent: str) -> list[str]:
        lines = []
        for statement in statements:
            match statement:
                case Assign(name, value):
                    lines.append(f"{indent}v_{name} = {self.expr(value)}")
                case Evaluate(value):
                    lines.append(f"{indent}{self.expr(value)}")
                case Return(value):
                    lines.append(f"{indent}return {self.expr(value)}")
                case If(test, then, orelse):
                    lines.append(f"{indent}if {self.expr(test)}:")
                    lines += self.block(then, indent + "    ")
                    if orelse:
                        lines.append(f"{indent}else:")
                        lines += self.block(orelse, indent + "    ")
        return lines or [f"{indent}pass"]

    def expr(self, node: Expr) -> str:
        match node:
            case Const(value, _):
                return self.constant(value)
            case Name(name, _):
                return f"v_{name}"
            case Call(key, args, _):
                return self.call(ops.TABLE[key], [self.expr(a) for a in args])
            case Choose(test, then, orelse, _):
                return f"({self.expr(then)} if {self.expr(test)} else {self.expr(orelse)})"
            case Both(left, right, _):
                return f"({self.expr(left)} and {self.expr(right)})"
            case Either(left, right, _):
                return f"({self.expr(left)} or {self.expr(right)})"
            case IsNone(value, _):
                return f"({self.expr(value)} is None)"
            case Let(name, value, body, _):
                # A tuple evaluates the binding first, whatever the body's own order.
                return f"((v_{name} := {self.expr(value)}), {self.expr(body)})[1]"

    def constant(self, value: Any) -> str:
        if value is None or isinstance(value, (bool, int)):
            return f"({value!r})"
        name = f"_c{len(self.constants)}"
        self.constants[name] = value
        return name

    def call(self, op: ops.Op, args: list[str]) -> str:
        text = f"({op.python.format(*args)})"
        if op.result != INT or not op.raises:
            return text
        self.temporaries += 1
        name = f"_i{self.temporaries}"
        return f"({name} if {INT_MIN} <= ({name} := {text}) <= {INT_MAX} else _overflow())"
