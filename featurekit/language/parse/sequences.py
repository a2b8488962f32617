"""Turns what is read as a list into a list's value.

Constants in a tuple serve as a list. A generator serves as the list of its elements.
"""

from __future__ import annotations

import ast

from featurekit.core.types import INT, NONE, Type, list_of
from featurekit.language.ir import Const, Expr, ListOf
from featurekit.language.parse.context import Env, Parsing
from featurekit.language.parse.handlers import EXPRESSIONS, LISTS, expression, handles
from featurekit.language.parse.operators import call, no_none


def spelled_out(p: Parsing, node: ast.expr, env: Env) -> ast.expr:
    """`map(f, values)` and `filter(f, values)`, as the generators that they stand for."""
    match node:
        case ast.Call(func=ast.Name(id="map" | "filter" as name), args=[f, *given]) if (
            p.is_builtin(name, env)
            and not node.keywords
            and (len(given) == 1 or (given and name == "map"))
        ):
            pass
        case _:
            return node
    names = [f"_each{i}" for i in range(len(given))]
    each: list[ast.expr] = [ast.Name(n, ast.Load()) for n in names]
    made: ast.expr
    match f:
        case ast.Constant(value=None) if name == "filter":
            made = each[0]
        case ast.Lambda(args=ast.arguments(args=params), body=body) if len(params) == len(each):
            names = [p.arg for p in params]
            each = [ast.Name(n, ast.Load()) for n in names]
            made = body
        case ast.Attribute(value=ast.Name(id="str"), attr=method) if p.is_builtin("str", env):
            made = ast.Call(ast.Attribute(each[0], method, ast.Load()), each[1:], [])
        case _:
            made = ast.Call(f, each, [])
    targets: list[ast.expr] = [ast.Name(n, ast.Store()) for n in names]
    target = targets[0] if len(targets) == 1 else ast.Tuple(targets, ast.Store())
    values = given[0]
    if len(given) > 1:
        values = ast.Call(ast.Name("zip", ast.Load()), given, [])
    element, tests = (each[0], [made]) if name == "filter" else (made, [])
    generator = ast.GeneratorExp(element, [ast.comprehension(target, values, tests, 0)])
    for part in ast.walk(generator):
        if not hasattr(part, "lineno"):
            ast.copy_location(part, node)
    return generator


def sequence(p: Parsing, node: ast.expr, env: Env, item: Type | None = None) -> Expr:
    """The value of `node` where a list is read. `item` is the type of its elements, where it is
    known."""
    node = spelled_out(p, node, env)
    held = p.static(node, env)
    if isinstance(held, (tuple, list)):
        return list_display(p, node, [p.constant(node, h, item) for h in held], item)
    handler = LISTS.get(type(node))
    if handler is not None and (made := handler(p, node, env, item)) is not None:
        return made
    value = expression(p, node, env)
    no_none(p, node, value)
    if value.type.name == "str":
        return call(p, node, "list", [node], [value])
    if value.type.item is None:
        p.fail(node, f"{value.type} is no list", "pass a list[T]")
    # A loop over a dict runs over its keys.
    return call(p, node, "dict.keys", [node], [value]) if value.type.name == "dict" else value


def unconverted_list(p: Parsing, node: ast.expr, env: Env, wanted: Type) -> Expr:
    """As `unconverted`, for what is read as a list."""
    held, p.converts = p.converts, False
    try:
        return sequence(p, node, env, wanted.item)
    finally:
        p.converts = held


@handles(LISTS, ast.Tuple, ast.List)
def _display(p: Parsing, node: ast.Tuple | ast.List, env: Env, item: Type | None) -> Expr:
    made = [expression(p, e, env, item) for e in node.elts]
    return list_display(p, node, made, item)


@handles(EXPRESSIONS, ast.List)
def _list(p: Parsing, node: ast.List, env: Env, expect: Type | None) -> Expr:
    return sequence(p, node, env, expect.item if expect is not None else None)


@handles(LISTS, ast.Call)
def _reversed(p: Parsing, node: ast.Call, env: Env, item: Type | None) -> Expr | None:
    if isinstance(node.func, ast.Name) and node.func.id == "range" and p.is_builtin("range", env):
        return range_of(p, node, env)
    if not _is_reversed(p, node, env):
        return None
    (inner,) = node.args
    return call(p, node, "reversed", [inner], [sequence(p, inner, env, item)])


def range_of(p: Parsing, node: ast.Call, env: Env) -> Expr:
    """`range(start, stop, step)` of what the data tells, as the list of its ints."""
    if not 0 < len(node.args) < 4 or node.keywords:
        p.fail(node, "range() takes a start, a stop and a step", "correct it")
    given = [expression(p, a, env) for a in node.args]
    first, last = Const(0, INT), Const(1, INT)
    values = [first, *given] if len(given) == 1 else given
    values = [*values, last] if len(values) == 2 else values
    nodes = [*node.args, *[node] * (3 - len(node.args))]
    return call(p, node, "range", nodes if len(given) > 1 else [node, *node.args, node], values)


def _is_reversed(p: Parsing, node: ast.expr, env: Env) -> bool:
    match node:
        case ast.Call(func=ast.Name(id="reversed"), args=[_], keywords=[]):
            return p.is_builtin("reversed", env)
    return False


def argument_value(p: Parsing, node: ast.expr, env: Env) -> Expr:
    """The value of an operator's argument, where a generator serves as a list."""
    node = spelled_out(p, node, env)
    generated = isinstance(node, ast.GeneratorExp) or _is_reversed(p, node, env)
    if generated or isinstance(p.static(node, env), tuple):
        return sequence(p, node, env)
    return expression(p, node, env)


def list_display(p: Parsing, node: ast.AST, items: list[Expr], item: Type | None = None) -> Expr:
    """`[a, b, c]`."""
    types = list(dict.fromkeys(i.type.base for i in items if i.type != NONE))
    if not types and item is None:
        if items:
            p.fail(node, "a list of None alone has no type", "declare it, as in list[float | None]")
        what = "a list without elements has no type"
        item = p.guessed(node, p.place.error(node, what, "declare it, as in xs: list[float] = []"))
    if len(types) > 1:
        shown = " and ".join(map(str, types))
        p.fail(node, f"a list of {shown}", "give its elements one type")
    base = types[0] if types else item
    assert base is not None
    if any(i.type.optional for i in items):
        base = base.or_none()
    made = tuple(Const(None, base) if i.type == NONE else i for i in items)
    return ListOf(made, list_of(base))
