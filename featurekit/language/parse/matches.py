"""Turns loops over the matches of a pattern into loops over what they give, in the text's tree.

`for m in re.finditer(pattern, text)` becomes a loop over as many lists as the loop's body reads
parts of `m`: groups, starts and ends.
"""

from __future__ import annotations

import ast
import copy
from typing import Any

_ENDS = ("start", "end")


def in_parts(function: ast.stmt) -> ast.stmt:
    """The function, in which no loop runs over matches."""
    if not any(isinstance(n, ast.Attribute) and n.attr == "finditer" for n in ast.walk(function)):
        return function
    made: ast.stmt = _Loops().visit(copy.deepcopy(function))
    return made


class _Loops(ast.NodeTransformer):
    """Loops, and what is bound by them."""

    def visit_For(self, node: ast.For) -> Any:
        found = _over_matches(node.target, node.iter)
        if found is not None:
            name, source = found
            parts = _Parts(name)
            node.body = [parts.visit(s) for s in node.body]
            node.target, node.iter = _target(parts, node.target), _source(parts, source)
        self.generic_visit(node)
        return node

    def visit_ListComp(self, node: Any) -> Any:
        for i, loop in enumerate(node.generators):
            found = _over_matches(loop.target, loop.iter)
            if found is None:
                continue
            name, source = found
            parts = _Parts(name)
            node.elt = parts.visit(node.elt)
            loop.ifs = [parts.visit(t) for t in loop.ifs]
            for later in node.generators[i + 1 :]:
                later.iter = parts.visit(later.iter)
                later.ifs = [parts.visit(t) for t in later.ifs]
            loop.target, loop.iter = _target(parts, loop.target), _source(parts, source)
        self.generic_visit(node)
        return node

    visit_GeneratorExp = visit_ListComp


def _over_matches(target: ast.expr, source: ast.expr) -> tuple[str, ast.Call] | None:
    match target, source:
        case ast.Name(id=name), ast.Call(func=ast.Attribute(attr="finditer")):
            return name, source
    return None


class _Parts(ast.NodeTransformer):
    """Puts a name in the place of each part of a match that is read."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.read: dict[str, tuple[str, ast.expr | None]] = {}

    def named(self, node: ast.expr, part: str, group: ast.expr | None) -> ast.expr:
        at = "0" if group is None else ast.unparse(group)
        name = f".{self.name}_{part}_{''.join(c for c in at if c.isalnum())}"
        self.read[name] = part, group
        return ast.copy_location(ast.Name(name, ast.Load()), node)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=name), attr="group"), args=[], keywords=[]
            ) if name == self.name:
                return self.named(node, "group", None)
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=name), attr="group"), args=[at], keywords=[]
            ) if name == self.name and isinstance(at, ast.Constant):
                return self.named(node, "group", at)
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=name), attr=part), args=[], keywords=[]
            ) if name == self.name and part in _ENDS:
                return self.named(node, part, None)
        self.generic_visit(node)
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        match node:
            case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant() as at) if (
                name == self.name
            ):
                return self.named(node, "group", at)
        self.generic_visit(node)
        return node


def _target(parts: _Parts, node: ast.expr) -> ast.expr:
    if not parts.read:  # the loop reads nothing of its matches
        parts.named(node, "start", None)
    names: list[ast.expr] = [
        ast.copy_location(ast.Name(name, ast.Store()), node) for name in parts.read
    ]
    return names[0] if len(names) == 1 else ast.copy_location(ast.Tuple(names, ast.Store()), node)


def _source(parts: _Parts, source: ast.Call) -> ast.expr:
    assert isinstance(source.func, ast.Attribute)
    lists: list[ast.expr] = []
    for part, group in parts.read.values():
        function = ast.Attribute(source.func.value, f"finditer.{part}", ast.Load())
        more = [] if part != "group" else [group or ast.Constant(0)]
        for new in (function, *more):
            ast.copy_location(new, source)
        made = ast.Call(function, [*source.args, *more], source.keywords)
        lists.append(ast.copy_location(made, source))
    if len(lists) == 1:
        return lists[0]
    together = ast.copy_location(ast.Name("zip", ast.Load()), source)
    return ast.copy_location(ast.Call(together, lists, []), source)
