"""Turns local dicts of counts into IR: displays, comprehensions, Counter, and changes of an entry.

A dict of a transform has ints for values. A change makes a new dict, which nothing else can see.
"""

from __future__ import annotations

import ast
import collections
from typing import Any

from featurekit.core.types import INT, Type
from featurekit.language.ir import Const, Expr, Name
from featurekit.language.parse.context import Env, Parsing, bound_to
from featurekit.language.parse.flow import assign, kept
from featurekit.language.parse.guesses import Wrong, empties
from featurekit.language.parse.handlers import EXPRESSIONS, Made, expression, handles
from featurekit.language.parse.operators import call, no_none
from featurekit.language.parse.sequences import list_display, sequence

_READERS = ("len", "sorted", "sum", "min", "max", "any", "all", "list", "bool", "enumerate", "zip")
_READ = ("get", "items", "keys", "values", "most_common", "total")


@handles(EXPRESSIONS, ast.Dict)
def _display(p: Parsing, node: ast.Dict, env: Env, expect: Type | None) -> Expr:
    """`{}`, and `{"a": n, "b": m}` of ints."""
    item = expect.item if expect is not None and expect.name == "dict" else None
    if not node.keys:
        return _empty(p, node, item)
    keys = [k for k in node.keys if k is not None]
    if len(keys) < len(node.keys):
        p.fail(node, "a dict in a dict", "name each key")
    values = [_count(p, v, env) for v in node.values]
    listed = list_display(p, node, [expression(p, k, env) for k in keys])
    return call(p, node, "counts.of", [node, node], [listed, list_display(p, node, values, INT)])


def _count(p: Parsing, node: ast.expr, env: Env) -> Expr:
    value = expression(p, node, env)
    if value.type != INT:
        hint = "a dict's values are ints: use a TypedDict for fields of other types"
        p.fail(node, f"a dict with {value.type} in it", hint)
    return value


@handles(EXPRESSIONS, ast.DictComp)
def _comprehended(p: Parsing, node: ast.DictComp, env: Env, expect: Type | None) -> Expr:
    """`{k: n for k in values}`: the keys and the values, each by a comprehension of its own."""
    parts = []
    for element in (node.key, node.value):
        listed = ast.copy_location(ast.ListComp(element, node.generators), node)
        parts.append(sequence(p, listed, env))
    return call(p, node, "counts.of", [node.key, node.value], parts)


def _empty(p: Parsing, node: ast.expr, item: Type | None) -> Expr:
    if item is None:
        what = "a dict without entries has no type"
        error = p.place.error(node, what, "declare it, as in counts: dict[str, int] = {}")
        item = p.guessed(node, error)
    nothing = list_display(p, node, [], INT)
    return call(p, node, "counts.of", [node, node], [list_display(p, node, [], item), nothing])


def counts_of(p: Parsing, node: ast.Call, env: Env) -> Expr | None:
    """`dict()`, `Counter(values)` and `defaultdict(int)`; None for any other call."""
    maker = _maker(p, node, env)
    if maker is None or node.keywords:
        return None
    match node.args:
        case []:
            return _empty(p, node, None)
        case [ast.Name(id="int")] if maker is collections.defaultdict:
            return _empty(p, node, None)
        case [values] if maker is collections.Counter:
            made = sequence(p, values, env)
            return call(p, node, "counts.counted", [values], [made])
    p.fail(node, f"{ast.unparse(node)} here", "write {}, Counter(values) or defaultdict(int)")


def _maker(p: Parsing, node: ast.AST, env: Env) -> Any:
    match node:
        case ast.Call(func=ast.Name(id="dict")) if p.is_builtin("dict", env):
            return dict
        case ast.Call(func=ast.Name() | ast.Attribute() as function):
            held = p.static(function, env)
            return held if held in (collections.Counter, collections.defaultdict) else None
    return None


def missing_is_zero(p: Parsing, node: ast.expr, env: Env) -> bool:
    """Whether an absent key of this dict counts as 0: it is a Counter."""
    return collections.Counter in _makers(p, node, env)


def _makers(p: Parsing, node: ast.expr, env: Env) -> list[Any]:
    if isinstance(node, ast.Name) and node.id in env:
        made = [v for v in bound_to(p.node, node.id) if v is not None]
        return [_maker(p, v, {}) for v in made]
    return [_maker(p, node, env)]


def read_entry(p: Parsing, node: ast.Subscript, made: Expr, env: Env) -> Expr | None:
    """`counts[key]` of a Counter, which is 0 where the key is absent; None for another dict."""
    makers = _makers(p, node.value, env)
    if collections.defaultdict in makers and node not in p.augmented:
        p.fail(node, "reading an entry of a defaultdict makes it", "write .get(key, 0)")
    if not {collections.Counter, collections.defaultdict} & set(makers):
        return None
    key = expression(p, node.slice, env)
    nodes = [node.value, node.slice, node]
    return call(p, node, "dict.get", nodes, [made, key, Const(0, INT)])


def most_common(p: Parsing, node: ast.expr, env: Env) -> list[Expr] | None:
    """The keys and the counts of `counts.most_common(n)`; None for anything else."""
    match node:
        case ast.Call(
            func=ast.Attribute(value=receiver, attr="most_common"), args=given, keywords=[]
        ) if len(given) < 2 and missing_is_zero(p, receiver, env):
            pass
        case _:
            return None
    counts = expression(p, receiver, env)
    no_none(p, receiver, counts)
    n = expression(p, given[0], env) if given else call(p, node, "len", [receiver], [counts])
    return [
        call(p, node, f"counts.most.{part}", [receiver, node], [counts, n])
        for part in ("keys", "values")
    ]


def changed_entry(p: Parsing, node: ast.Assign | ast.AugAssign, env: Env) -> Made | None:
    """`counts[key] = n` and `counts[key] += n` of a local dict; None for anything else."""
    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
    match target:
        case ast.Subscript(value=ast.Name(id=name) as at, slice=index) if (
            name in env and env[name].type.name == "dict"
        ):
            pass
        case _:
            return None
    reason = _why_not_changed(p, name, env)
    if reason is not None:
        p.fail(target, *reason)
    out: list[Any] = []
    counts = env[name]
    key = kept(p, expression(p, index, env), out)
    _check_key(p, name, index, key, counts)
    if isinstance(node, ast.AugAssign):
        inner = dict(env)
        value = _augmented(p, node, at, key, inner)
    else:
        value = expression(p, node.value, env)
    if value.type != INT:
        p.fail(node.value, f"a dict with {value.type} in it", "a dict's values are ints")
    n = kept(p, value, out)
    made = call(p, at, "counts.put", [at, index, node.value], [counts, key, n])
    more, flow = assign(p, node, name, made, env)
    return [*out, *more], flow


def _augmented(p: Parsing, node: ast.AugAssign, at: ast.Name, key: Expr, env: Env) -> Expr:
    assert isinstance(key, (Name, Const))
    env[".key"] = key
    hidden = ast.copy_location(ast.Name(".key", ast.Load()), node.target)
    read = ast.copy_location(ast.Subscript(at, hidden, ast.Load()), node.target)
    p.augmented.append(read)
    whole = ast.copy_location(ast.BinOp(read, node.op, node.value), node)
    return expression(p, whole, env)


def _check_key(p: Parsing, name: str, at: ast.expr, key: Expr, counts: Expr) -> None:
    if key.type.base == counts.type.item and not key.type.optional:
        return
    no_none(p, at, key)
    error = p.place.error(
        at, f"{name} has keys of {counts.type.item}, and this is {key.type}", "keep one type"
    )
    places = [e for e in empties(p.node, name) if e in p.guesses.elements]
    if places and key.type.item is None:
        raise Wrong(places, key.type, error)
    raise error


def _why_not_changed(p: Parsing, name: str, env: Env) -> tuple[str, str] | None:
    """Why an entry of a dict may not change, and what to write; None where it may."""
    function = p.node
    if any(isinstance(a, ast.arg) and a.arg == name for a in ast.walk(function.args)):
        return f"{name} is a parameter, which would change for its caller", "count into a new dict"
    for given in bound_to(function, name):
        fresh = isinstance(given, (ast.Dict, ast.DictComp)) or _maker(p, given or function, {})
        if not fresh:
            return f"{name} may be another's dict, too", f"begin with {name} = {{}}"
    parents = {c: n for n in ast.walk(function) for c in ast.iter_child_nodes(n)}
    for node in ast.walk(function):
        match node:
            case ast.For(iter=source, body=body) if _names(source, name):
                if any(_changes(s, name) for part in body for s in ast.walk(part)):
                    return f"{name} changes while a loop runs over it", "count into another dict"
            case ast.Name(id=bound, ctx=ast.Load()) if bound == name:
                if not _only_read(node, parents):
                    return f"{name} changes, and has another name", "keep it under one name"
    return None


def _names(node: ast.AST, name: str) -> bool:
    return any(isinstance(n, ast.Name) and n.id == name for n in ast.walk(node))


def _changes(node: ast.AST, name: str) -> bool:
    match node:
        case ast.Subscript(value=ast.Name(id=bound), ctx=ast.Store()):
            return bound == name
    return False


def _only_read(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    match parents[node]:
        case ast.Subscript(value=value):
            return value is node
        case ast.Attribute(attr=attribute):
            return attribute in _READ
        case ast.Compare(ops=[ast.In() | ast.NotIn()], comparators=[container]):
            return container is node
        case ast.Call(func=ast.Name(id=reader)):
            return reader in _READERS
        case ast.For(iter=source) | ast.comprehension(iter=source):
            return source is node
        case ast.Return() | ast.UnaryOp() | ast.If() | ast.While():
            return True
        case ast.IfExp(test=test):
            return test is node
    return False
