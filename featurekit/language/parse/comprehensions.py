"""Turns comprehensions, and functions that take a whole list, into IR."""

from __future__ import annotations

import ast
import math
from collections.abc import Sequence
from dataclasses import dataclass

from featurekit.core.types import BOOL, FLOAT, INT, NONE, Type, list_of
from featurekit.language import ops
from featurekit.language.ir import Both, Choose, Const, Each, Either, Expr, Name, Unrolled, Zip
from featurekit.language.parse.conditions import balanced, test_of, truth
from featurekit.language.parse.context import Env, Local, Parsing
from featurekit.language.parse.handlers import BUILTINS, EXPRESSIONS, LISTS, expression, handles
from featurekit.language.parse.loops import Names, loop_over
from featurekit.language.parse.operators import as_float, call, choose, named, no_list, no_none
from featurekit.language.parse.sequences import list_display, sequence, spelled_out


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a comprehension gives: the element, in the kind of `ir.Each`, and its type where it is
    known."""

    node: ast.expr
    element: ast.expr
    kind: str
    item: Type | None = None


@handles(EXPRESSIONS, ast.ListComp)
def _list(p: Parsing, node: ast.ListComp, env: Env, expect: Type | None) -> Expr:
    return _comprehension(p, node, env, expect.item if expect is not None else None)


@handles(EXPRESSIONS, ast.GeneratorExp)
def _generator(p: Parsing, node: ast.GeneratorExp, env: Env, expect: Type | None) -> Expr:
    p.fail(node, "a generator by itself", "write a list, or pass it to sum, any, all")


@handles(LISTS, ast.GeneratorExp)
def _comprehension(
    p: Parsing, node: ast.ListComp | ast.GeneratorExp, env: Env, item: Type | None
) -> Expr:
    """`[element for x in values if test]`, as a list."""
    return _each(p, _Wanted(node, node.elt, "list", item), node.generators, env)


def _each(p: Parsing, wanted: _Wanted, generators: list[ast.comprehension], env: Env) -> Expr:
    first, *more = generators
    if first.is_async:
        p.fail(wanted.node, "an async comprehension", "write a plain one")
    loop = loop_over(p, first.target, first.iter, env)
    p.in_comprehension += 1
    try:
        over = loop.over
        if isinstance(over, Zip):
            return _looped(p, wanted, loop.names, over, first, more, env)
        return _unrolled(p, wanted, loop.names, over, first, more, env)
    finally:
        p.in_comprehension -= 1


def _step(
    p: Parsing,
    wanted: _Wanted,
    loop: ast.comprehension,
    more: list[ast.comprehension],
    env: Env,
) -> tuple[Expr | None, Expr]:
    """The test and the element of one step; `env` has the names that the loop binds."""
    test: Expr | None = None
    for condition in loop.ifs:
        made, env, _ = test_of(p, condition, dict(env))
        test = made if test is None else Both(test, made, BOOL)
    if more:
        return test, _each(p, wanted, more, env)
    if wanted.kind in ("any", "all"):
        return test, test_of(p, wanted.element, dict(env))[0]
    value = expression(p, wanted.element, dict(env), wanted.item)
    if value.type == NONE:
        p.fail(wanted.element, "a list of None alone", "give it values")
    return test, value


def _looped(
    p: Parsing,
    wanted: _Wanted,
    names: Names,
    over: Zip,
    first: ast.comprehension,
    more: list[ast.comprehension],
    env: Env,
) -> Expr:
    """A comprehension over lists."""
    renamed = {name: p.new_name(type_) for name, type_ in names}
    test, value = _step(p, wanted, first, more, {**env, **renamed})
    bound = tuple(renamed[n].name for n, _ in names)
    if wanted.kind in ("any", "all"):
        return Each(wanted.kind, bound, over, test, value, BOOL)
    if more:
        return Each("flat", bound, over, test, value, value.type)
    return Each("list", bound, over, test, value, list_of(value.type))


def _unrolled(
    p: Parsing,
    wanted: _Wanted,
    names: Names,
    over: Unrolled,
    first: ast.comprehension,
    more: list[ast.comprehension],
    env: Env,
) -> Expr:
    """A comprehension over constants. Each step is written out, so no list has to grow."""
    steps: list[tuple[Expr | None, Expr]] = []
    for row in over.rows:
        bound: dict[str, Local] = {}
        for (name, _), value in zip(names, row, strict=True):
            assert isinstance(value, (Const, Name))
            bound[name] = value
        steps.append(_step(p, wanted, first, more, {**env, **bound}))
    if wanted.kind in ("any", "all"):
        return _folded(wanted.kind, steps)
    if all(test is None for test, _ in steps) and not more:
        return list_display(p, wanted.node, [v for _, v in steps], wanted.item)
    lists = tuple(
        list_display(p, first.iter, [row[i] for row in over.rows], type_)
        for i, (_, type_) in enumerate(names)
    )
    if not lists:
        p.fail(first.iter, "a loop over nothing", "leave it out")
    return _looped(p, wanted, names, Zip(lists), first, more, env)


# --- functions of lists ---------------------------------------------------------------------------


@handles(BUILTINS, "any", "all")
def _any_or_all(p: Parsing, node: ast.Call, env: Env, expect: Type | None) -> Expr | None:
    if len(node.args) != 1:
        return None
    assert isinstance(node.func, ast.Name)
    kind = node.func.id
    argument = spelled_out(p, node.args[0], env)
    # any() gets a list when it is whole; a generator stops as soon as it is decided.
    if isinstance(argument, ast.GeneratorExp):
        return _each(p, _Wanted(argument, argument.elt, kind), argument.generators, env)
    target = ast.copy_location(ast.Name("each", ast.Store()), argument)
    loop = loop_over(p, target, argument, env)
    if isinstance(loop.over, Unrolled):
        return _folded(kind, [(None, truth(p, argument, r[0])) for r in loop.over.rows])
    each = p.new_name(loop.names[0][1])
    return Each(kind, (each.name,), loop.over, None, truth(p, argument, each), BOOL)


@handles(BUILTINS, "len")
def _len(p: Parsing, node: ast.Call, env: Env, expect: Type | None) -> Expr | None:
    if len(node.args) != 1:
        return None
    held = p.static(node.args[0], env)
    if isinstance(held, (tuple, list, dict)):
        return Const(len(held), INT)
    return _of_set(p, node, "len", env)


@handles(BUILTINS, "sorted")
def _sorted(p: Parsing, node: ast.Call, env: Env, expect: Type | None) -> Expr | None:
    match node:
        case ast.Call(args=[ast.SetComp() | ast.Call(func=ast.Name(id="set"))], keywords=[]):
            return _of_set(p, node, "sorted", env)
        case ast.Call(args=[_]):
            item = expect.item if expect is not None else None
            return _of_list(p, node, "sorted", env, item)
    return None


@handles(BUILTINS, "list", "tuple")
def _listed(p: Parsing, node: ast.Call, env: Env, expect: Type | None) -> Expr | None:
    if len(node.args) != 1:
        return None
    assert isinstance(node.func, ast.Name)
    argument = spelled_out(p, node.args[0], env)
    values = sequence(p, argument, env, expect.item if expect is not None else None)
    no_list(p, node, node.func.id)
    return values


@handles(BUILTINS, "sum")
def _sum(p: Parsing, node: ast.Call, env: Env, expect: Type | None) -> Expr | None:
    match node.args:
        case [_]:
            pass
        # With a start of 0.0 the sum of no floats is a float, as in Python.
        case [_, start] if p.static(start, env) in (0, 0.0):
            pass
        case _:
            return None
    return _of_list(p, node, "sum", env, expect.base if expect is not None else None)


@handles(BUILTINS, "min", "max")
def _extreme(p: Parsing, node: ast.Call, env: Env, expect: Type | None) -> Expr | None:
    assert isinstance(node.func, ast.Name)
    if len(node.args) == 1:
        if (most := _most_counted(p, node, env)) is not None:
            return most
        return _of_list(p, node, node.func.id, env, None)
    if node.args and not node.keywords:
        return _extreme_of_several(p, node, node.func.id, env, expect)
    return None


def _most_counted(p: Parsing, node: ast.Call, env: Env) -> Expr | None:
    """`max(counts, key=counts.get)`; None for anything else."""
    match node:
        case ast.Call(
            func=ast.Name(id=name),
            args=[ast.Name(id=held) as counts],
            keywords=[ast.keyword(arg="key", value=ast.Attribute(ast.Name(id=same), "get"))],
        ) if held == same and held in env and env[held].type.name == "dict":
            return call(p, node, f"counts.{name}", [counts], [expression(p, counts, env)])
    return None


@handles(BUILTINS, "range", "zip", "enumerate", "reversed")
def _outside(p: Parsing, node: ast.Call, env: Env, expect: Type | None) -> Expr:
    assert isinstance(node.func, ast.Name)
    name = node.func.id
    p.fail(node, f"{name}() outside a loop", f"write `for x in {name}(…)`")


def _of_set(p: Parsing, node: ast.Call, name: str, env: Env) -> Expr | None:
    """`len` or `sorted` of `set(values)` or of a set comprehension; None for anything else."""
    if node.keywords:
        return None
    match node.args[0]:
        case ast.Call(func=ast.Name(id="set"), args=[values], keywords=[]) if p.is_builtin(
            "set", env
        ):
            made = sequence(p, values, env)
        case ast.SetComp(generators=generators, elt=element) as whole:
            made = _each(p, _Wanted(whole, element, "list"), generators, env)
        case _:
            return None
    if made.type.item == FLOAT:
        reason = "a set of floats, in which Python finds a NaN by its identity"
        p.fail(node.args[0], reason, "make them ints, as in round(100 * v)")
    return call(p, node, f"set.{name}", node.args, [made])


def _of_list(p: Parsing, node: ast.Call, name: str, env: Env, item: Type | None) -> Expr:
    argument = spelled_out(p, node.args[0], env)
    values = sequence(p, argument, env, item)
    if any(k.arg == "key" for k in node.keywords):
        return _by_key(p, node, name, argument, values, env)
    if node.keywords:
        return _of_list_with(p, node, name, argument, values, env)
    return call(p, node, name, [argument], [values])


def _by_key(
    p: Parsing, node: ast.Call, name: str, argument: ast.expr, values: Expr, env: Env
) -> Expr:
    """`sorted(values, key=f)`, `max(values, key=f)`: the keys once, then the elements by them."""
    given = {k.arg: k.value for k in node.keywords}
    reverse = p.static(given.pop("reverse"), env) if "reverse" in given else False
    key = given.pop("key")
    if given or not isinstance(reverse, bool) or (name != "sorted" and reverse):
        what = next(iter(given), "reverse")
        p.fail(node, f"{what}= of {name}() beside key=", "leave it out")

    def ordered(held: Name | Const) -> Expr:
        hidden = ast.copy_location(ast.Name(f".{node.lineno}_{node.col_offset}", ast.Load()), node)
        mapped = ast.copy_location(ast.Name("map", ast.Load()), node)
        keys = ast.copy_location(ast.Call(mapped, [key, hidden], []), node)
        made = sequence(p, keys, {**env, hidden.id: held})
        if made.type.item is not None and made.type.item.optional:
            p.fail(key, "a key that may be None", "give each element a key")
        if name == "sorted":
            places = call(p, node, "order.reverse" if reverse else "order", [key], [made])
            return call(p, node, "take", [argument, key], [held, places])
        place = call(p, node, f"place.{name}", [key], [made])
        return call(p, node, "getitem", [argument, key], [held, place])

    return named(p, values, ordered)


def _of_list_with(
    p: Parsing, node: ast.Call, name: str, argument: ast.expr, values: Expr, env: Env
) -> Expr:
    """`min(values, default=…)` and `sorted(values, reverse=True)`."""
    (keyword, *others) = node.keywords
    if not others and name in ("min", "max") and keyword.arg == "default":
        default = expression(p, keyword.value, env)

        def least(held: Local) -> Expr:
            empty = call(p, node, "==", [node, node], [
                call(p, node, "len", [node], [held]), Const(0, INT)
            ])  # fmt: skip
            return named(
                p,
                default,
                lambda d: choose(p, node, empty, d, call(p, node, name, [argument], [held]), None),
            )

        return named(p, values, least)
    if not others and name == "sorted" and keyword.arg == "reverse":
        reverse = p.static(keyword.value, env)
        if reverse is False:
            return call(p, node, name, [argument], [values])
        if reverse is True and "sorted_reverse" in ops.BY_NAME:
            return call(p, node, "sorted_reverse", [argument], [values])
    p.fail(keyword, f"{keyword.arg}= of {name}()", f"write {name}(values)")


def _folded(kind: str, rows: Sequence[tuple[Expr | None, Expr]]) -> Expr:
    """`any` or `all` over a fixed number of elements, each with its test."""
    if not rows:
        return Const(kind == "all", BOOL)
    if kind == "any":
        return balanced(Either, [v if t is None else Both(t, v, BOOL) for t, v in rows])
    true = Const(True, BOOL)
    return balanced(Both, [v if t is None else Choose(t, v, true, BOOL) for t, v in rows])


def _extreme_of_several(
    p: Parsing, node: ast.Call, name: str, env: Env, expect: Type | None
) -> Expr:
    """min and max of several arguments, compared from the left, as Python does."""
    arguments = [expression(p, a, env) for a in node.args]
    types = {a.type.base for a in arguments}
    if types == {INT, FLOAT}:
        # In Python the winner keeps its type: only a declared float makes floats of both.
        if expect is None or expect.base != FLOAT:
            at = next(i for i, a in enumerate(arguments) if a.type.base == INT)
            p.fail(
                node.args[at],
                f"{name}() of int and float may be either",
                "make both float, as in 0.0 for 0 or float(n)",
            )
        # Compared exactly, so that a large int is not rounded before the comparison.
        for i, a in enumerate(arguments):
            if a.type == INT:
                if not (isinstance(a, Const) and abs(a.value) <= 2**53):
                    p.fail(
                        node.args[i],
                        f"{name}() of int and float may be either",
                        "write float(n)",
                    )
                arguments[i] = Const(float(a.value), FLOAT)
    made = arguments[0]
    for i, argument in enumerate(arguments[1:], 1):
        made = call(p, node, name, [node.args[i - 1], node.args[i]], [made, argument])
    return made


def hypot(p: Parsing, node: ast.Call, env: Env) -> Expr | None:
    """`math.hypot` of a starred list, or of a number of arguments other than two; None for any
    other call."""
    if p.static(node.func, env) is not math.hypot or node.keywords:
        return None
    match node.args:
        case [ast.Starred(value=starred)]:
            made = sequence(p, starred, env, FLOAT)
            return call(p, node, "math.hypot*", [starred], [made])
        case [_] | [_, _, _, *_] if not any(isinstance(a, ast.Starred) for a in node.args):
            parts = [as_float(expression(p, a, env)) for a in node.args]
            for at, part in zip(node.args, parts, strict=True):
                no_none(p, at, part)
            whole = list_display(p, node, parts, FLOAT)
            return call(p, node, "math.hypot*", [node], [whole])
    return None
