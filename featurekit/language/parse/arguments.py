"""Turns a call's arguments, given by position and by name, into those of an operator's row."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from featurekit.language import ops
from featurekit.language.ir import Expr
from featurekit.language.ops.table import Own
from featurekit.language.parse.context import Env, Parsing
from featurekit.language.parse.handlers import expression
from featurekit.language.parse.operators import call
from featurekit.language.parse.sequences import argument_value


def operator(
    p: Parsing,
    node: ast.Call,
    name: str,
    before: list[tuple[ast.expr, Expr]],
    rest: Sequence[ast.expr],
    env: Env,
) -> Expr:
    """The call of the operator of that name. Keyword arguments have the names that Python gives
    them."""
    given = [*before, *((a, argument_value(p, a, env)) for a in rest)]
    named = {k.arg or "": (k.value, expression(p, k.value, env)) for k in node.keywords}
    rows = ops.BY_NAME.get(name, ())
    shapes = {
        (r.names, repr(r.defaults), len(r.params)): (r.names, r.defaults, len(r.params))
        for r in rows
    }
    # A row without defaults comes first: the others add something that was not written.
    for names, defaults, count in sorted(shapes.values(), key=lambda s: len(s[1])):
        filled = _filled(p, node, given, named, names, defaults, count)
        if filled is None:
            continue
        found = ops.find(name, tuple(v.type for _, v in filled))
        if found is None or (found[0].names, repr(found[0].defaults)) != (
            names,
            repr(defaults),
        ):
            continue
        return call(p, node, name, [n for n, _ in filled], [v for _, v in filled])
    if named:
        known = {n for names, *_ in shapes for n in names if n}
        hint = f"it takes {', '.join(sorted(known))}" if known else "pass arguments by position"
        p.fail(node.keywords[0], f"{name}() with these keyword arguments", hint)
    return call(p, node, name, [n for n, _ in given], [v for _, v in given])


def _filled(
    p: Parsing,
    node: ast.Call,
    given: list[tuple[ast.expr, Expr]],
    named: dict[str, tuple[ast.expr, Expr]],
    names: tuple[str, ...],
    defaults: tuple[Any, ...],
    count: int,
) -> list[tuple[ast.expr, Expr]] | None:
    """The arguments of a row in its order; None where the row does not take these."""
    left = dict(named)
    out = list(given)
    for i in range(len(given), count):
        name = names[i] if i < len(names) else ""
        default_at = i - (count - len(defaults))
        if name in left:
            out.append(left.pop(name))
        elif default_at < 0:
            return None
        elif isinstance(default := defaults[default_at], Own):
            first_node, first = out[0]
            # The first argument is read a second time, with the same value and the same errors.
            attribute = f"{first.type.name}.{default.attribute}"
            out.append((node, call(p, node, attribute, [first_node], [first])))
        else:
            out.append((node, p.constant(node, default)))
    return None if left or len(out) != count else out
