"""Whether a local list may grow in place: `out.append(x)` means `out = out + [x]` where nothing
else can see the list that grows."""

from __future__ import annotations

import ast

_READERS = ("len", "sum", "min", "max", "sorted", "any", "all", "list", "enumerate", "zip", "bool")
_FRESH = (ast.List, ast.ListComp, ast.BinOp)


def grown(node: ast.stmt) -> tuple[str, ast.expr] | None:
    """The list's name, and the list that is added, of `name.append(x)`, `name.extend(values)` and
    `name += values`."""
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


def why_not(function: ast.AST, name: str, params: set[str]) -> tuple[str, str] | None:
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
            if not _fresh(parent, node):
                return f"{name} may be another's list, too", f"begin with {name}: list[…] = []"
        elif not _only_read(parent, node):
            return f"{name} grows, and has another name", "build it by a comprehension"
    return None


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


def _only_read(parent: ast.AST, name: ast.Name) -> bool:
    """Whether reading the list here leaves it without a second name."""
    match parent:
        case ast.Call(func=ast.Name(id=function)):
            return function in _READERS
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
