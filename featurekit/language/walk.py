"""Walks an IR: children, depth, free names, and names taken out."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

from featurekit.core.types import Type
from featurekit.language.ir import (
    Apply,
    Assign,
    Bind,
    Const,
    Each,
    For,
    Function,
    Let,
    Name,
    Param,
    Verbatim,
)


def rename(function: Function) -> Function:
    """The function with its own name and its locals' names taken out, for its fingerprint.

    Parameters keep theirs: they say which columns and features are read.
    """
    return Function("", function.params, _anonymous(function, keep=True), function.returns)


def _anonymous(function: Function, *, keep: bool) -> Any:
    """The body with its locals numbered, and its parameters too unless they are kept."""
    names: dict[str, str] = {}
    for param in function.params:
        names[param.name] = param.name if keep else f"_{len(names)}"

    def new(name: str) -> str:
        return names.setdefault(name, f"_{len(names)}")

    def walk(node: Any) -> Any:
        match node:
            case Name(name, type_):
                return Name(new(name), type_)
            case Let(name, value, body, type_):
                value = walk(value)
                return Let(new(name), value, walk(body), type_)
            case Assign(name, value):
                value = walk(value)
                return Assign(new(name), value)
            case Bind(name, value, type_):
                value = walk(value)
                return Bind(new(name), value, type_)
            case For(loop_names, over, body):
                over = walk(over)
                return For(tuple(new(n) for n in loop_names), over, walk(body))
            case Each(kind, loop_names, over, test, element, type_):
                over = walk(over)
                renamed = tuple(new(n) for n in loop_names)
                return Each(kind, renamed, over, walk(test), walk(element), type_)
            case Apply(callee, args, type_):
                # A helper's parameters are names of its own.
                params = tuple(Param(f"_{i}", p.type) for i, p in enumerate(callee.params))
                inner = Function("", params, _anonymous(callee, keep=False), callee.returns)
                return Apply(inner, walk(args), type_)
            case tuple():
                return tuple(walk(n) for n in node)
            case _ if is_dataclass(node) and not isinstance(node, (type, Type, Const, Param, Verbatim)):
                changed = {f.name: walk(getattr(node, f.name)) for f in fields(node)}
                return replace(node, **changed)
            case _:
                return node

    return walk(function.body)


def children(node: Any) -> list[Any]:
    """The nodes right below a node or a tuple of them, constants and types left out."""
    if isinstance(node, tuple):
        return [n for n in node if isinstance(n, tuple) or is_dataclass(n)]
    if isinstance(node, (Const, Type, Param, Verbatim)):
        return []
    below = [getattr(node, f.name) for f in fields(node) if f.name != "table"]
    return [
        n for n in below if isinstance(n, tuple) or (is_dataclass(n) and not isinstance(n, Type))
    ]


def depth(node: Any) -> int:
    """How many nodes stand in one another at most, in it or in a function that it calls."""
    deepest, todo = 0, [(node, 0)]
    called = set()
    while todo:
        one, above = todo.pop()
        level = above + (not isinstance(one, tuple))
        deepest = max(deepest, level)
        if isinstance(one, Apply):
            todo.append((one.args, level))
            if id(one.function) not in called:
                called.add(id(one.function))
                todo.append((one.function.body, 0))
        else:
            todo += [(child, level) for child in children(one)]
    return deepest


def free(node: Any) -> dict[str, Type]:
    """The names that `node` reads and does not bind itself, with None wherever some read has it."""
    found: dict[str, Type] = {}

    def read(node: Any, bound: frozenset[str]) -> None:
        match node:
            case Name(name, type_):
                if name not in bound:
                    known = found.get(name, type_)
                    found[name] = known if known.optional else type_
            case Let(name, value, body, _):
                read(value, bound)
                read(body, bound | {name})
            case Each(_, names, over, test, element, _):
                read(over, bound)
                for inner in (test, element):
                    read(inner, bound | set(names))
            case Apply(_, args, _):
                read(args, bound)
            case _ if isinstance(node, tuple) or is_dataclass(node):
                for child in children(node):
                    read(child, bound)

    read(node, frozenset())
    return found
