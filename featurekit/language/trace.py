"""Turns one call of a transform into its steps: each node's text, inputs and value.

The steps come from the code that runs online: `to_python` prints it with a probe at every node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, assert_never

from featurekit.core.values import ERROR
from featurekit.language.ir import (
    Apply,
    Bind,
    Both,
    Call,
    Choose,
    Const,
    Each,
    Either,
    Expr,
    Function,
    IsNone,
    Let,
    ListOf,
    Lookup,
    Name,
    Verbatim,
    Zip,
)
from featurekit.language.to_python import inputs, to_python

MOST_STEPS = 400


@dataclass(frozen=True, slots=True)
class Step:
    """A node that was evaluated: its text, its inputs as pairs of text and value, and its value,
    which is `ERROR` where it erred. `names` has the locals and parameters at that moment."""

    text: str
    inputs: tuple[tuple[str, Any], ...]
    value: Any
    node: Expr = field(compare=False)
    names: Mapping[str, Any] = field(compare=False, default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trace:
    """The steps of one call, at most `MOST_STEPS` of them, and its value."""

    function: Function
    steps: tuple[Step, ...]
    value: Any
    whole: bool = True
    """Whether all steps are there."""


def trace(function: Function, arguments: Sequence[Any]) -> Trace:
    """The steps of a call of `function`, node by node, as the online path evaluates it."""
    match function.body:
        case (Verbatim(),):
            return Trace(function, (), to_python(function)(*arguments))
    recorder = _Recorder()
    value = to_python(function, recorder)(*arguments)
    recorder.end()
    return Trace(function, tuple(recorder.steps), value, recorder.whole)


class _Recorder:
    """A probe that keeps the steps."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.whole = True
        self.begun: tuple[Expr, tuple[Any, ...], Mapping[str, Any]] | None = None

    def began(self, node: Expr, given: tuple[Any, ...], names: dict[str, Any]) -> None:
        self.end()
        self.begun = node, given, names

    def ended(self, value: Any) -> Any:
        assert self.begun is not None
        self.keep(*self.begun, value)
        self.begun = None
        return value

    def gave(self, node: Expr, given: tuple[Any, ...], names: dict[str, Any], value: Any) -> Any:
        self.keep(node, given, names, value)
        return value

    def end(self) -> None:
        """End the call, or go on in a handler: a node that began and did not end has erred."""
        if self.begun is not None:
            self.keep(*self.begun, ERROR)
            self.begun = None

    def keep(
        self, node: Expr, given: tuple[Any, ...], names: Mapping[str, Any], value: Any
    ) -> None:
        if len(self.steps) == MOST_STEPS:
            self.whole = False
            return
        asked = [text(n) for n in inputs(node) if not isinstance(n, Const)]
        self.steps.append(
            Step(text(node), tuple(zip(asked, given, strict=True)), value, node, names)
        )


def text(node: Expr) -> str:
    """A node as Python would write it, closely enough for people."""
    match node:
        case Const(value, _):
            return repr(list(value) if isinstance(value, tuple) else value)
        case Name(name, _):
            return name.lstrip(".")
        case Call("float(int)", (Const(int(value), _),), _):
            return repr(float(value))
        case Call(key, args, _):
            return _call_text(key.partition("(")[0] or "(", [_inner(a) for a in args])
        case Choose(test, then, orelse, _):
            return f"{_inner(then)} if {_inner(test)} else {_inner(orelse)}"
        case Both(left, right, _):
            return f"{_inner(left)} and {_inner(right)}"
        case Either(left, right, _):
            return f"{_inner(left)} or {_inner(right)}"
        case IsNone(value, _):
            return f"{_inner(value)} is None"
        case Let(name, value, body, _):
            return f"{text(body)} with {name.lstrip('.')} = {text(value)}"
        case Bind(name, value, _):
            return f"({name} := {text(value)})"
        case Lookup(key, _, None, _):
            return f"{{…}}[{text(key)}]"
        case Lookup(key, _, default, _):
            assert default is not None
            return f"{{…}}.get({text(key)}, {text(default)})"
        case Apply(function, args, _):
            return f"{function.name}({', '.join(map(text, args))})"
        case ListOf(items, _):
            return f"[{', '.join(map(text, items))}]"
        case Each(kind, names, over, test, element, _):
            return _each_text(kind, names, over, test, element)
        case _:
            assert_never(node)


def _inner(node: Expr) -> str:
    shown = text(node)
    infix = isinstance(node, (Choose, Both, Either, IsNone)) or (
        isinstance(node, Call) and (not node.op[0].isalpha() or node.op.startswith("in("))
    )
    return f"({shown})" if infix else shown


_UNARY = {"negative": "-", "positive": "+", "invert": "~", "not": "not "}


def _call_text(name: str, args: list[str]) -> str:
    if name in _UNARY:
        return f"{_UNARY[name]}{args[0]}"
    if not name[0].isalpha() or name == "in":
        return f" {name} ".join(args)
    owner, dot, method = name.partition(".")
    if dot and owner in ("str", "bytes", "datetime", "date", "timedelta", "list", "dict") and args:
        return f"{args[0]}.{method}({', '.join(args[1:])})"
    return f"{name}({', '.join(args)})"


def _each_text(
    kind: str, names: tuple[str, ...], over: Zip, test: Expr | None, element: Expr
) -> str:
    sources = ", ".join(map(text, over.sources))
    run = sources if len(over.sources) == 1 else f"zip({sources})"
    made = f"{text(element)} for {', '.join(n.lstrip('.') for n in names)} in {run}"
    made += "" if test is None else f" if {text(test)}"
    return f"[{made}]" if kind in ("list", "flat") else f"{kind}({made})"
