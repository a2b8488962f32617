"""Turns loops into IR, over lists in step or over rows that are unrolled."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from featurekit.core.types import INT, NONE, Type
from featurekit.language.ir import (
    Break,
    Const,
    Continue,
    Expr,
    For,
    Name,
    Statement,
    Unrolled,
    While,
    Zip,
)
from featurekit.language.parse.conditions import test_of
from featurekit.language.parse.context import MISSING, Env, Exits, Parsing
from featurekit.language.parse.counts import most_common
from featurekit.language.parse.flow import meet
from featurekit.language.parse.handlers import STATEMENTS, Flow, Made, block, expression, handles
from featurekit.language.parse.operators import call, no_none
from featurekit.language.parse.sequences import list_display, range_of, sequence

MOST_ROWS = 1000
"""The most steps of a loop over constants; more belongs into data."""


@dataclass(frozen=True, slots=True)
class _Column:
    """One thing that a loop steps through: a list, constants, or the number of the step."""

    values: Expr | None = None
    constants: tuple[Expr, ...] | None = None
    start: int | None = None


_Shape = _Column | list[Any]  # a list of shapes stands for zip and enumerate


Names = tuple[tuple[str, Type], ...]


@dataclass(frozen=True, slots=True)
class Loop:
    """What a loop binds and runs over: a type for each name of the target, and the rows or
    lists."""

    names: Names
    over: Zip | Unrolled


def loop_over(p: Parsing, target: ast.expr, source: ast.expr, env: Env) -> Loop:
    """The names of a `for`, and what they run over."""
    pairs = _matched(p, target, _shape_of(p, source, env))
    lists = [c.values for _, c in pairs if c.values is not None]
    if not lists:
        return _constant_loop(p, source, pairs)
    names: list[tuple[str, Type]] = []
    sources: list[Expr] = []
    starts = [(n, c.start) for n, c in pairs if c.start is not None]
    if len(starts) > 1:
        p.fail(source, "two enumerate() in one loop", "number the steps once")
    for name, column in pairs:
        values = column.values
        if column.start is not None:
            if values is not None:  # range(len(values)), which does not read the values
                assert values.type.item is not None
                names.append((p.new_name(INT).name, values.type.item))
                sources.append(values)
            continue
        if values is None:
            assert column.constants is not None
            values = list_display(p, source, list(column.constants))
        assert values.type.item is not None
        names.append((name, values.type.item))
        sources.append(values)
    if starts:
        names.insert(0, (starts[0][0], INT))
    return Loop(tuple(names), Zip(tuple(sources), starts[0][1] if starts else None))


def _constant_loop(p: Parsing, source: ast.expr, pairs: list[tuple[str, _Column]]) -> Loop:
    columns = [c.constants for _, c in pairs if c.constants is not None]
    count = min(map(len, columns))
    if count > MOST_ROWS:
        p.fail(source, f"a loop of {count} constant steps", f"at most {MOST_ROWS}")
    rows: list[tuple[Expr, ...]] = []
    for i in range(count):
        row: list[Expr] = []
        for _, column in pairs:
            if column.constants is None:
                assert column.start is not None
                row.append(Const(column.start + i, INT))
            else:
                row.append(column.constants[i])
        rows.append(tuple(row))
    names = []
    for i, (name, _) in enumerate(pairs):
        types = list(dict.fromkeys(row[i].type.base for row in rows if row[i].type != NONE))
        if len(types) > 1:
            shown = " and ".join(map(str, types))
            p.fail(source, f"{name} is {shown} in turn", "give the constants one type")
        if not types and rows:
            p.fail(source, f"{name} is always None", "use values")
        type_ = types[0] if types else INT
        if any(row[i].type.optional for row in rows):
            type_ = type_.or_none()
            rows = [
                (*r[:i], Const(None, type_) if r[i].type == NONE else r[i], *r[i + 1 :])
                for r in rows
            ]
        names.append((name, type_))
    return Loop(tuple(names), Unrolled(tuple(rows)))


def _matched(p: Parsing, target: ast.expr, shape: _Shape) -> list[tuple[str, _Column]]:
    """Each name of a target, with its column."""
    match target:
        case ast.Name(id=name):
            if isinstance(shape, list):
                p.fail(
                    target,
                    f"{name} would be a tuple",
                    f"name its {len(shape)} parts, as in `for {_letters(len(shape))} in …`",
                )
            return [(name, shape)]
        case ast.Tuple(elts=targets) | ast.List(elts=targets):
            if not isinstance(shape, list) or len(shape) != len(targets):
                found = len(shape) if isinstance(shape, list) else "one"
                p.fail(target, f"{len(targets)} names for {found}", "name each part")
            pairs: list[tuple[str, _Column]] = []
            for inner, part in zip(targets, shape, strict=True):
                pairs += _matched(p, inner, part)
            names = [n for n, _ in pairs]
            # A name that stands twice, as `_`, holds the last value; the others get new names.
            for i, (name, column) in enumerate(pairs):
                if name in names[i + 1 :]:
                    pairs[i] = (p.new_name(INT).name, column)
            return pairs
        case _:
            p.fail(target, "a loop binds names", "write `for x in …`")


def _shape_of(p: Parsing, source: ast.expr, env: Env) -> _Shape:
    """What a loop over `source` gives at each step."""
    for reading in (_of_builtin, _of_pairwise, _of_items, _of_names):
        found = reading(p, source, env)
        if found is not None:
            return found
    held = p.static(source, env)
    if isinstance(held, (tuple, list, dict)):
        return _constant_shape(p, source, list(held))
    if isinstance(held, (set, frozenset)):
        p.fail(source, "a set has no order", "use a tuple")
    return _Column(values=sequence(p, source, env))


def _of_builtin(p: Parsing, source: ast.expr, env: Env) -> _Shape | None:
    """`range(…)`, `zip(…)`, `enumerate(…)` and `reversed(…)`; None for anything else."""
    match source:
        case ast.Call(func=ast.Name(id=name)) if name in _LOOPED and p.is_builtin(name, env):
            pass
        case _:
            return None
    keywords = source.keywords
    if keywords and name != "enumerate":
        loose = name == "zip" and p.static(keywords[0].value, env) is False
        if not loose or keywords[0].arg != "strict":
            p.fail(keywords[0], f"a keyword argument of {name}()", "leave it out")
    found = _LOOPED[name](p, source, env)
    if found is None:
        p.fail(source, f"{name}() of nothing", "pass what it runs over")
    return found


def _zip(p: Parsing, source: ast.Call, env: Env) -> _Shape | None:
    return [_shape_of(p, a, env) for a in source.args] or None


def _enumerate(p: Parsing, source: ast.Call, env: Env) -> _Shape | None:
    if not source.args:
        return None
    given = [*source.args[1:], *(k.value for k in source.keywords)]
    start = p.static(given[0], env) if given else 0
    if type(start) is not int:
        p.fail(given[0], "enumerate() from a computed start", "add it later")
    return [_Column(start=start), _shape_of(p, source.args[0], env)]


def _reversed(p: Parsing, source: ast.Call, env: Env) -> _Shape | None:
    if len(source.args) != 1:
        return None
    inner = _shape_of(p, source.args[0], env)
    if isinstance(inner, _Column) and inner.constants is not None:
        return _Column(constants=inner.constants[::-1])
    if isinstance(inner, _Column) and inner.values is not None and inner.start is None:
        return _Column(values=call(p, source, "reversed", source.args, [inner.values]))
    p.fail(source, "reversed() of pairs", "reverse each list: zip(a[::-1])")


def _of_pairwise(p: Parsing, source: ast.expr, env: Env) -> _Shape | None:
    """`itertools.pairwise(values)`; None for anything else."""
    match source:
        case ast.Call(func=ast.Name() | ast.Attribute() as function, args=[inner], keywords=[]) if (
            p.static(function, env) is itertools.pairwise
        ):
            pass
        case _:
            return None
    whole = _shape_of(p, inner, env)
    if not isinstance(whole, _Column) or whole.start is not None:
        p.fail(source, "pairwise() of tuples", "zip the lists that you need")
    if whole.constants is not None:
        return [whole, _Column(constants=whole.constants[1:])]
    assert whole.values is not None
    later = call(p, source, "slice.from", [source] * 2, [whole.values, Const(1, INT)])
    return [whole, _Column(values=later)]


def _of_items(p: Parsing, source: ast.expr, env: Env) -> _Shape | None:
    """`TABLE.items()` and the like of a constant dict, `counts.items()` and
    `counts.most_common(n)`; None for anything else."""
    if (common := most_common(p, source, env)) is not None:
        return [_Column(values=part) for part in common]
    match source:
        case ast.Call(
            func=ast.Attribute(value=receiver, attr="items" | "keys" | "values" as part), args=[]
        ):
            held = p.static(receiver, env)
        case _:
            return None
    if isinstance(held, dict):
        if part == "items":
            return _constant_shape(p, source, [tuple(item) for item in held.items()])
        return _constant_shape(p, source, list(held if part == "keys" else held.values()))
    if part != "items" or source.keywords or held is not MISSING:
        return None
    counts = expression(p, receiver, env)
    no_none(p, receiver, counts)
    if counts.type.name != "dict":
        p.fail(source, f"{counts.type} has no items()", "loop over the list itself")
    return [
        _Column(values=call(p, source, f"dict.{part}", [receiver], [counts]))
        for part in ("keys", "values")
    ]


def _of_names(p: Parsing, source: ast.expr, env: Env) -> _Shape | None:
    """`(a, b)` where some element is not constant; None for anything else."""
    match source:
        case ast.Tuple(elts=[_, *_] as elements) | ast.List(elts=[_, *_] as elements) if (
            p.static(source, env) is MISSING
        ):
            made = [expression(p, e, env) for e in elements]
            if all(isinstance(v, (Const, Name)) for v in made):
                return _Column(constants=tuple(made))
            return _Column(values=list_display(p, source, made))
    return None


def _constant_shape(p: Parsing, node: ast.expr, held: list[Any]) -> _Shape:
    if held and all(isinstance(h, tuple) for h in held):
        width = len(held[0])
        if any(len(h) != width for h in held):
            p.fail(node, "tuples of different lengths", "give each the same parts")
        return [_constant_shape(p, node, [h[i] for h in held]) for i in range(width)]
    return _Column(constants=tuple(p.constant(node, h) for h in held))


def _range(p: Parsing, node: ast.Call, env: Env) -> _Shape:
    """A range of constants, or the indices of a list."""
    arguments = node.args
    match arguments:
        case [ast.Call(func=ast.Name(id="len"), args=[inner], keywords=[])] if (
            p.is_builtin("len", env) and p.static(inner, env) is MISSING
        ):
            column = _shape_of(p, inner, env)
            if isinstance(column, _Column) and column.values is not None:
                return _Column(values=column.values, start=0)  # the number of the step
    values = [p.static(a, env) for a in arguments]
    if any(v is MISSING for v in values):
        return _Column(values=range_of(p, node, env))
    if not 0 < len(values) < 4 or any(type(v) is not int for v in values) or values[2:] == [0]:
        p.fail(node, "range() takes a start, a stop and a step that is not 0", "correct it")
    whole = range(*values)
    if len(whole) > MOST_ROWS:
        p.fail(node, f"a loop of {len(whole)} constant steps", f"at most {MOST_ROWS}")
    return _Column(constants=tuple(Const(i, INT) for i in whole))


def _letters(count: int) -> str:
    return ", ".join("abcdefghij"[:count])


_LOOPED: dict[str, Callable[[Parsing, ast.Call, Env], _Shape | None]] = {
    "range": _range,
    "zip": _zip,
    "enumerate": _enumerate,
    "reversed": _reversed,
}


@handles(STATEMENTS, ast.For)
def _for(p: Parsing, node: ast.For, env: Env) -> Made:
    if node.orelse:
        p.fail(node.orelse[0], "else after a for", "set a flag in the loop and test it")
    loop = loop_over(p, node.target, node.iter, env)
    rows = loop.over.rows if isinstance(loop.over, Unrolled) else None
    bound: Env = {n: Name(n, t) for n, t in loop.names}
    for name, type_ in loop.names:
        known = env.get(name)
        if known is not None and known.type.base != type_.base:
            p.fail(
                node.target,
                f"{name} is {known.type} before the loop and {type_} in it",
                "rename one of the two",
            )
    head = dict(env)
    while True:  # until what is known at the head is true for every turn
        p.exits.append(Exits())
        body, flow = block(p, node.body, {**head, **bound})
        exits = p.exits.pop()
        again = [*exits.continues, *([flow.env] if flow.env is not None else [])]
        known_head = head
        for end in again:
            known_head = meet(p, node, known_head, end, "the way in", "the next turn")
        if known_head == head:
            break
        head = known_head
    after = list(exits.breaks)
    if rows:
        after += again  # there is at least one turn
    else:
        after.append(head)
    made: list[Statement] = [For(tuple(n for n, _ in loop.names), loop.over, body)]
    if not after:
        return made, Flow(None)
    out = after[0]
    for end in after[1:]:
        out = meet(p, node, out, end, "one way out of the loop", "another")
    return made, Flow(out)


@handles(STATEMENTS, ast.While)
def _while(p: Parsing, node: ast.While, env: Env) -> Made:
    """`while test: body`, as often as it turns: a call with too many turns errs."""
    if node.orelse:
        p.fail(node.orelse[0], "else after a while", "set a flag in the loop and test it")
    head = dict(env)
    while True:  # until what is known at the head is true for every turn
        test, if_true, if_false = test_of(p, node.test, dict(head))
        p.exits.append(Exits())
        body, flow = block(p, node.body, if_true)
        exits = p.exits.pop()
        again = [*exits.continues, *([flow.env] if flow.env is not None else [])]
        known_head = head
        for end in again:
            known_head = meet(p, node, known_head, end, "the way in", "the next turn")
        if known_head == head:
            break
        head = known_head
    made: list[Statement] = [While(test, body)]
    after = list(exits.breaks)
    endless = isinstance(test, Const) and test.value is True
    if not endless:
        after.append(if_false)
    if not after:
        return made, Flow(None)
    out = after[0]
    for end in after[1:]:
        out = meet(p, node, out, end, "one way out of the loop", "another")
    return made, Flow(out)


@handles(STATEMENTS, ast.Break)
def _break(p: Parsing, node: ast.Break, env: Env) -> Made:
    p.exits[-1].breaks.append(dict(env))
    return [Break()], Flow(None)


@handles(STATEMENTS, ast.Continue)
def _continue(p: Parsing, node: ast.Continue, env: Env) -> Made:
    p.exits[-1].continues.append(dict(env))
    return [Continue()], Flow(None)
