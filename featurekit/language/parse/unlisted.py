"""What holds elements and is no list: a tuple, or a view of a dict.

It is read as a list is, but joined to a list it raises, and it equals none: so only reading it
compiles."""

from __future__ import annotations

import ast

_TUPLES = ("str.partition", "str.rpartition", "isocalendar", "tuple")
_VIEWS = ("dict.keys", "dict.values")
_READERS = (
    *("list", "tuple", "sorted", "sum", "min", "max", "any", "all", "len"),
    *("enumerate", "zip", "reversed", "pairwise", "join"),
)


def why_not(function: ast.AST, node: ast.AST, name: str) -> tuple[str, str] | None:
    """Why what the operator `name` gives at `node` may not stand there, and what to write; None
    where it is only read, or is a list."""
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
