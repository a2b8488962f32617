"""Turns local sets into IR, as lists of their elements, each once.

A set has no order, so it is only asked for its size, for its elements in order of their values, and
whether it has one. Where its text asks anything else of it, it is refused.
"""

from __future__ import annotations

import ast
from typing import NoReturn

from featurekit.core.types import FLOAT
from featurekit.language.ir import Expr
from featurekit.language.parse.context import Env, Parsing, bound_to
from featurekit.language.parse.flow import assign
from featurekit.language.parse.guesses import Wrong, empties
from featurekit.language.parse.handlers import BUILTINS, EXPRESSIONS, Made, expression, handles
from featurekit.language.parse.operators import call
from featurekit.language.parse.sequences import list_display, sequence

_OPERATORS: dict[type[ast.operator], str] = {
    ast.BitAnd: "set.&",
    ast.BitOr: "set.|",
    ast.Sub: "set.-",
    ast.BitXor: "set.^",
}
_METHODS = {
    "union": "set.|",
    "intersection": "set.&",
    "difference": "set.-",
    "symmetric_difference": "set.^",
}
_CHANGES = ("add", "discard", "update")
_READERS = ("len", "sorted", "min", "max", "any", "all", "sum", "bool", "set", "frozenset")
_HINT = "ask for len(s), sorted(s), or x in s"


def is_set(p: Parsing, node: ast.expr, env: Env) -> bool:
    """Whether a text makes a set of what the data tells."""
    match node:
        case ast.Name(id=name):
            return name in p.sets and name in env
        case ast.Call(func=ast.Name(id="set" | "frozenset" as name)):
            return p.is_builtin(name, env)
        case ast.SetComp() | ast.Set():
            return True
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return is_set(p, left, env) or is_set(p, right, env)
        case ast.Call(func=ast.Attribute(value=value, attr=attribute)) if attribute in _METHODS:
            return is_set(p, value, env)
    return False


def set_of(p: Parsing, node: ast.expr, env: Env) -> Expr:
    """The elements of a set, each once."""
    match node:
        case ast.Call(func=ast.Name(id="set" | "frozenset"), args=[], keywords=[]):
            return list_display(p, node, [])
        case ast.Call(func=ast.Name(id="set" | "frozenset"), args=[values], keywords=[]):
            made = set_of(p, values, env) if is_set(p, values, env) else sequence(p, values, env)
        case ast.SetComp(elt=element, generators=generators):
            listed = ast.copy_location(ast.ListComp(element, generators), node)
            made = sequence(p, listed, env)
        case ast.Set(elts=elements):
            made = list_display(p, node, [expression(p, e, env) for e in elements])
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _together(p, node, _OPERATORS[type(op)], left, right, env)
        case ast.Call(
            func=ast.Attribute(value=left, attr=attribute), args=[right], keywords=[]
        ) if attribute in _METHODS:
            return _together(p, node, _METHODS[attribute], left, right, env)
        case ast.Name():
            return expression(p, node, env)
        case _:
            p.fail(node, "a set of this", "write set(values)")
    if made.type.item == FLOAT:
        reason = "a set of floats, in which Python finds a NaN by its identity"
        p.fail(node, reason, "make them ints, as in round(100 * v)")
    return call(p, node, "set.of", [node], [made])


def _together(
    p: Parsing, node: ast.expr, name: str, left: ast.expr, right: ast.expr, env: Env
) -> Expr:
    sides = [_side(p, side, env) for side in (left, right)]
    return call(p, node, name, [left, right], sides)


def _side(p: Parsing, node: ast.expr, env: Env) -> Expr:
    held = p.static(node, env)
    if isinstance(held, (set, frozenset)):
        return list_display(p, node, [p.constant(node, v) for v in sorted(held, key=repr)])
    return set_of(p, node, env) if is_set(p, node, env) else sequence(p, node, env)


@handles(BUILTINS, "set", "frozenset")
def _set(p: Parsing, node: ast.Call, env: Env, expect: object) -> Expr | None:
    return _in_place(p, node, env)


@handles(EXPRESSIONS, ast.SetComp, ast.Set)
def _displayed(p: Parsing, node: ast.expr, env: Env, expect: object) -> Expr:
    return _in_place(p, node, env)


def joined_sets(p: Parsing, node: ast.expr, env: Env) -> Expr | None:
    """`a & b` and the like of sets; None for anything else."""
    return _in_place(p, node, env) if is_set(p, node, env) else None


def _in_place(p: Parsing, node: ast.expr, env: Env) -> Expr:
    if not _may_stand(node, _parents(p.node)):
        _no_set(p, node)
    return set_of(p, node, env)


def _no_set(p: Parsing, node: ast.AST) -> NoReturn:
    p.fail(node, "a set, which has no order, is no value by itself", _HINT)


# --- locals that hold sets ------------------------------------------------------------------------


def begin_set(p: Parsing, name: str, value: ast.expr, env: Env) -> None:
    """Note a local that is given a set. CompileError where its text asks more of it than a set
    tells."""
    if not is_set(p, value, env):
        return
    if isinstance(value, ast.Name):
        p.fail(value, f"{value.id} gets a second name", "write set(…) for a copy")
    augmented = sum(
        isinstance(n, ast.AugAssign) and isinstance(n.target, ast.Name) and n.target.id == name
        for n in ast.walk(p.node)
    )
    bound = bound_to(p.node, name)
    others = bound.count(None) - augmented
    for given in [*(g for g in bound if g is not None), *[None] * others]:
        if given is None or not is_set(p, given, {**env, name: env.get(name)}):  # type: ignore[dict-item]
            p.fail(value, f"{name} is a set here and something else elsewhere", "rename one")
    parents = _parents(p.node)
    for node in ast.walk(p.node):
        read = isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id == name
        if read and not _may_stand(node, parents):
            _no_set(p, node)
    p.sets.add(name)


def _parents(function: ast.AST) -> dict[ast.AST, ast.AST]:
    return {c: n for n in ast.walk(function) for c in ast.iter_child_nodes(n)}


def _may_stand(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Whether what stands around a set asks only what a set tells."""
    parent = parents.get(node)
    match parent:
        case ast.Call(func=ast.Name(id=reader)):
            return reader in _READERS
        case ast.Call(func=ast.Attribute(attr=attribute)):
            return attribute in (*_METHODS, "update")
        case ast.Attribute(attr=attribute):
            return attribute in (*_METHODS, *_CHANGES)
        case ast.Compare(ops=[ast.In() | ast.NotIn()], comparators=[container]):
            return container is node
        case ast.BinOp(op=op):
            return type(op) in _OPERATORS and _may_stand(parent, parents)
        case ast.Assign(targets=[ast.Name()]) | ast.AugAssign():
            return True
        case ast.UnaryOp(op=ast.Not()):
            return True
        case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test):
            return test is node
        case ast.comprehension(iter=source):
            within = parents[parent]
            if isinstance(within, ast.SetComp):
                return source is node
            return source is node and _may_stand(within, parents)
        case ast.ListComp() | ast.GeneratorExp():
            return False
    return False


def changed_set(p: Parsing, node: ast.stmt, env: Env) -> Made | None:
    """`s.add(x)`, `s.discard(x)`, `s.update(values)`, `s |= other`; None for anything else."""
    match node:
        case ast.Expr(
            value=ast.Call(
                func=ast.Attribute(value=ast.Name(id=name) as at, attr=how),
                args=[given],
                keywords=[],
            )
        ) if name in p.sets and name in env and how in _CHANGES:
            pass
        case ast.AugAssign(target=ast.Name(id=name) as at, op=op, value=given) if (
            name in p.sets and name in env and type(op) in _OPERATORS
        ):
            made = call(p, at, _OPERATORS[type(op)], [at, given], [env[name], _side(p, given, env)])
            return assign(p, node, name, made, env)
        case _:
            return None
    held = env[name]
    if how == "update":
        made = call(p, at, "set.|", [at, given], [held, _side(p, given, env)])
        return assign(p, node, name, made, env)
    element = expression(p, given, env)
    if element.type.base != held.type.item:
        error = p.place.error(
            given, f"{name} has {held.type.item}, and this is {element.type}", "keep one type"
        )
        places = [e for e in empties(p.node, name) if e in p.guesses.elements]
        if places and not element.type.optional:
            raise Wrong(places, element.type, error)
        raise error
    made = call(p, at, f"set.{how}", [at, given], [held, element])
    return assign(p, node, name, made, env)
