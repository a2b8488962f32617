"""Walks an IR by the fields of its classes: which nodes a node has, and which names it binds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

from featurekit.core.types import Type
from featurekit.language.ir import Apply, Function, Name, Param

MOST_DEEP = 160
"""The most levels of nodes in nodes. More could overflow Python's own stack."""

_Shape = tuple[tuple[str, ...], str, tuple[str, ...]]
_SHAPES: dict[type, _Shape] = {}


def _shape(node: Any) -> _Shape:
    """For the class of a node: the fields that may hold nodes, the field that has the names which
    the node binds ("" where there is none), and the fields in which these names are valid."""
    found = _SHAPES.get(type(node))
    if found is None:
        held, bound, within = [], "", ()
        for one in fields(node):
            if "within" in one.metadata:
                bound, within = one.name, one.metadata["within"]
            elif not one.metadata.get("data"):
                held.append(one.name)
        found = _SHAPES[type(node)] = tuple(held), bound, within
    return found


def _names(node: Any, field: str) -> tuple[str, ...]:
    found = getattr(node, field)
    return found if isinstance(found, tuple) else (found,)


def children(node: Any) -> list[Any]:
    """The nodes directly below a node or a tuple of nodes, without plain values and types."""
    if isinstance(node, tuple):
        return [n for n in node if isinstance(n, tuple) or is_dataclass(n)]
    if isinstance(node, (Type, Param)):
        return []
    below = [getattr(node, name) for name in _shape(node)[0]]
    return [
        n for n in below if isinstance(n, tuple) or (is_dataclass(n) and not isinstance(n, Type))
    ]


def nodes(node: Any) -> Iterator[Any]:
    """The node and all nodes below it, also in the functions that it calls, each of which counts
    once."""
    todo, called = [node], set()
    while todo:
        one = todo.pop()
        if isinstance(one, Function):
            if id(one) in called:
                continue
            called.add(id(one))
        if not isinstance(one, tuple):
            yield one
        todo += children(one)


def depth(node: Any) -> int:
    """How deep the nodes nest, in `node` or in a function that it calls."""
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
    """The names that `node` reads and does not bind; a type is optional where one of the reads may
    be None."""
    found: dict[str, Type] = {}

    def read(node: Any, bound: frozenset[str]) -> None:
        if isinstance(node, Name):
            if node.name not in bound:
                known = found.get(node.name, node.type)
                found[node.name] = known if known.optional else node.type
            return
        if isinstance(node, Apply):
            read(node.args, bound)
            return
        within: tuple[str, ...] = ()
        if not isinstance(node, tuple):
            _, field, within = _shape(node)
        if not within:
            for child in children(node):
                read(child, bound)
            return
        inner = bound | set(_names(node, field))
        for name in _shape(node)[0]:
            child = getattr(node, name)
            if isinstance(child, tuple) or (is_dataclass(child) and not isinstance(child, Type)):
                read(child, inner if name in within else bound)

    read(node, frozenset())
    return found


def rename(function: Function) -> Function:
    """The function without its own name and the names of its locals, for its fingerprint.

    Parameters keep their names, which say what columns and features are read.
    """
    return Function("", function.params, _anonymous(function, keep=True), function.returns)


def _anonymous(function: Function, *, keep: bool) -> Any:
    """The body with its locals numbered, and its parameters too unless `keep` is set."""
    known: dict[str, str] = {}
    for param in function.params:
        known[param.name] = param.name if keep else f"_{len(known)}"

    def new(name: str) -> str:
        return known.setdefault(name, f"_{len(known)}")

    def walk(node: Any) -> Any:
        if isinstance(node, tuple):
            return tuple(walk(n) for n in node)
        if isinstance(node, Name):
            return Name(new(node.name), node.type)
        if isinstance(node, Apply):
            callee = node.function
            # A helper's parameters have names of their own.
            params = tuple(Param(f"_{i}", p.type) for i, p in enumerate(callee.params))
            inner = Function("", params, _anonymous(callee, keep=False), callee.returns)
            return Apply(inner, walk(node.args), node.type)
        if not is_dataclass(node) or isinstance(node, (type, Type, Param)):
            return node
        held, field, within = _shape(node)
        # A name counts from where it is bound, so the fields where it is not valid come first.
        changed = {n: walk(getattr(node, n)) for n in held if n not in within}
        if field:
            bound = tuple(new(n) for n in _names(node, field))
            changed[field] = bound if isinstance(getattr(node, field), tuple) else bound[0]
            changed |= {n: walk(getattr(node, n)) for n in within}
        return replace(node, **changed)

    return walk(function.body)
