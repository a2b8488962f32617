"""Turns a function's IR into lines that read like Python, for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from featurekit.language.ir import (
    Assign,
    Break,
    Continue,
    Evaluate,
    Fail,
    For,
    Function,
    If,
    Return,
    Statement,
    Try,
    Verbatim,
    While,
    Zip,
)
from featurekit.language.trace import text


def lines(function: Function) -> list[str]:
    """The lines of a function. One that runs as its author wrote it is shown so."""
    params = ", ".join(f"{p.name}: {p.type}" for p in function.params)
    head = f"def {function.name}({params}) -> {function.returns}:"
    return [head, *(f"    {line}" for line in _block(function.body))]


def _block(statements: tuple[Statement, ...]) -> Iterator[str]:
    for statement in statements:
        match statement:
            case Assign(name, value):
                yield f"{name.lstrip('.')} = {text(value)}"
            case Evaluate(value):
                yield text(value)
            case Return(value):
                yield f"return {text(value)}"
            case If(test, then, orelse):
                yield f"if {text(test)}:"
                yield from _indented(then)
                if orelse:
                    yield "else:"
                    yield from _indented(orelse)
            case For(names, over, body):
                if isinstance(over, Zip):
                    sources = ", ".join(map(text, over.sources))
                    run = sources if len(over.sources) == 1 else f"zip({sources})"
                else:
                    run = repr([tuple(map(text, row)) for row in over.rows])
                yield f"for {', '.join(n.lstrip('.') for n in names)} in {run}:"
                yield from _indented(body)
            case While(test, body):
                yield f"while {text(test)}:"
                yield from _indented(body)
            case Try(body, caught, handlers):
                yield "try:"
                yield from _indented(body)
                for classes, handler in zip(caught, handlers, strict=True):
                    yield f"except ({', '.join(classes)}):"
                    yield from _indented(handler)
            case Break():
                yield "break"
            case Continue():
                yield "continue"
            case Fail():
                yield "raise ValueError"
            case Verbatim(sources=sources):
                yield from (line for source in sources for line in source.splitlines())
            case _:
                assert_never(statement)


def _indented(statements: tuple[Statement, ...]) -> Iterator[str]:
    return (f"    {line}" for line in _block(statements))
