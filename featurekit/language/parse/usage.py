"""Tells from a function's text how a list is used: grown in place, kept under a name, or only read.

A local list may grow in place where nothing else can see it: then `out.append(x)` means `out = out
+ [x]`. A tuple or a view of a dict has elements but is not a list: it cannot be joined to a list,
and it equals none. So it compiles only where it is read and not kept.
"""

from __future__ import annotations

import ast

_SHARE_NOT = (
    "len",
    "sum",
    "min",
    "max",
    "sorted",
    "any",
    "all",
    "list",
    "enumerate",
    "zip",
    "bool",
    "set",
    "frozenset",
    "Counter",
)
_FRESH = (ast.List, ast.ListComp, ast.BinOp)


def grown(node: ast.stmt) -> tuple[str, ast.expr] | None:
    """For `name.append(x)`, `name.extend(values)` and `name += values`: the list's name, and the
    list that is added. None for another statement."""
    match node:
        case ast.Expr(
            value=ast.Call(
                func=ast.Attribute(value=ast.Name(id=name), attr="append" | "extend" as how),
                args=[given],
                keywords=[],
            )
        ):
            if how == "extend":
                return name, given
            return name, ast.copy_location(ast.List([given], ast.Load()), given)
        case ast.AugAssign(target=ast.Name(id=name), op=ast.Add(), value=value):
            return name, value
    return None


def why_not_grown(function: ast.AST, name: str, params: set[str]) -> tuple[str, str] | None:
    """Why the list `name` may not grow in `function`, and what to write; None where it may."""
    if name in params:
        return f"{name} is a parameter, which would change for its caller", f"write {name} + [x]"
    parents = {
        child: parent for parent in ast.walk(function) for child in ast.iter_child_nodes(parent)
    }
    for node in ast.walk(function):
        if isinstance(node, ast.For) and any(
            made is not None and made[0] == name
            for made in (grown(s) for s in ast.walk(node) if isinstance(s, ast.stmt))
        ):
            looped = [n for n in ast.walk(node.iter) if isinstance(n, ast.Name) and n.id == name]
            if looped:
                return f"{name} grows while a loop runs over it", "collect into another list"
        if not isinstance(node, ast.Name) or node.id != name:
            continue
        parent = parents[node]
        if isinstance(node.ctx, ast.Store):
            if isinstance(parent, ast.Tuple):  # `n, xs = 0, []`
                parent = _part_of(parents[parent], parent, node)
            if not _fresh(parent, node):
                return f"{name} may be another's list, too", f"begin with {name}: list[…] = []"
        elif not _unshared(parent, node):
            return f"{name} grows, and has another name", "build it by a comprehension"
    return None


def _part_of(assigned: ast.AST, targets: ast.Tuple, name: ast.Name) -> ast.AST:
    """The assignment of one name, of an assignment of a tuple to a tuple."""
    match assigned:
        case ast.Assign(value=ast.Tuple(elts=values)) if len(values) == len(targets.elts):
            return ast.Assign([name], values[targets.elts.index(name)])
    return assigned


def _fresh(parent: ast.AST, name: ast.Name) -> bool:
    match parent:
        case ast.Assign(value=value) | ast.AnnAssign(value=value):
            if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
                return value.func.id in ("list", "sorted")
            if isinstance(value, ast.Subscript):
                return isinstance(value.slice, ast.Slice)
            return isinstance(value, _FRESH)
        case ast.AugAssign():
            return True
    return False


def _unshared(parent: ast.AST, name: ast.Name) -> bool:
    """Whether the list has no second name after it is read here."""
    match parent:
        case ast.Call(func=ast.Name(id=function)):
            return function in _SHARE_NOT
        case ast.Call(func=ast.Attribute(attr="join" | "extend")) | ast.AugAssign():
            return True  # both copy its elements
        case ast.Attribute() | ast.Compare() | ast.BinOp() | ast.Return() | ast.If():
            return True
        case ast.Subscript(value=value) | ast.For(iter=value) | ast.comprehension(iter=value):
            return value is name
        case ast.UnaryOp(op=ast.Not()):
            return True
        case ast.IfExp(test=test):
            return test is name
    return False


_TUPLES = ("str.partition", "str.rpartition", "isocalendar", "tuple")
_VIEWS = ("dict.keys", "dict.values")
_READERS = (
    *("list", "tuple", "sorted", "sum", "min", "max", "any", "all", "len"),
    *("enumerate", "zip", "reversed", "pairwise", "join"),
)


def why_not_listed(function: ast.AST, node: ast.AST, name: str) -> tuple[str, str] | None:
    """Why the result of the operator `name` may not stand at `node`, and what to write. None where
    it is a list, or is only read."""
    if not name.endswith((*_TUPLES, *_VIEWS)):
        return None
    kind = "tuple" if name.endswith(_TUPLES) else "view of a dict"
    for parent in ast.walk(function):
        if node in ast.iter_child_nodes(parent):
            if _only_read(parent, node, kind):
                return None
            break
    shown = name.split(".")[-1]
    return f"{shown}() gives a {kind}, which is no list", f"write list({ast.unparse(node)})"


def _only_read(parent: ast.AST, node: ast.AST, kind: str) -> bool:
    match parent:
        case ast.Call(func=ast.Name(id=reader) | ast.Attribute(attr=reader)):
            return reader in _READERS
        case ast.Assign(targets=[ast.Tuple() | ast.List()]) | ast.Expr():
            return True
        case ast.For(iter=source) | ast.comprehension(iter=source):
            return source is node
        case ast.Subscript(value=value, slice=index):
            return value is node and kind == "tuple" and not isinstance(index, ast.Slice)
        case ast.Compare(ops=[ast.In() | ast.NotIn()], comparators=[container]):
            return container is node
    return False
