"""Turns names, literals, operators, attributes, elements and formatted texts into IR."""

from __future__ import annotations

import ast
import enum
import types as pytypes
from typing import Any, NoReturn

from featurekit.core.types import DATETIME, INT, NONE, STR, Type
from featurekit.language import ops
from featurekit.language.ir import Bind, Const, Expr, Name
from featurekit.language.parse.calls import no_attribute
from featurekit.language.parse.clocks import field_of_clock, no_clock
from featurekit.language.parse.conditions import test_of
from featurekit.language.parse.context import HELD, MISSING, Env, Parsing, is_function
from featurekit.language.parse.counts import most_common, read_entry
from featurekit.language.parse.handlers import EXPRESSIONS, expression, handles
from featurekit.language.parse.instants import chained, no_zoned, of_zoned, zoned_of
from featurekit.language.parse.kinds import known
from featurekit.language.parse.operators import call, choose, element, is_method, named, no_none
from featurekit.language.parse.patterns import group_of, match_of, no_match
from featurekit.language.parse.sequences import sequence
from featurekit.language.parse.sets import joined_sets
from featurekit.language.parse.tables import subscript_table
from featurekit.language.parse.urls import no_url, part_of, url_of

_BINARY = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Pow: "**",
    ast.BitAnd: "&",
    ast.BitOr: "|",
    ast.BitXor: "^",
    ast.LShift: "<<",
    ast.RShift: ">>",
    ast.MatMult: "@",
}
_UNARY = {ast.USub: "negative", ast.UAdd: "positive", ast.Invert: "invert"}


@handles(EXPRESSIONS, ast.Constant)
def _constant(p: Parsing, node: ast.Constant, env: Env, expect: Type | None) -> Expr:
    value = node.value
    if value is Ellipsis or isinstance(value, complex):
        p.fail(node, f"a {type(value).__name__} is no feature value", "use float")
    return p.constant(node, value, expect)


@handles(EXPRESSIONS, ast.BinOp)
def _binary(p: Parsing, node: ast.BinOp, env: Env, expect: Type | None) -> Expr:
    if isinstance(node.op, ast.Mod) and isinstance(p.static(node.left, env), str):
        p.fail(node, "% of a text", 'write an f-string, as in f"{a}-{b:.2f}"')
    if (joined := joined_sets(p, node, env)) is not None:
        return joined
    sides = [node.left, node.right]
    values = [expression(p, s, env) for s in sides]
    _exact_sides(p, node, values)
    return call(p, node, _BINARY[type(node.op)], sides, values)


def _exact_sides(p: Parsing, node: ast.BinOp, values: list[Expr]) -> None:
    """CompileError for a sum of an int and a local that is only supposed to be a float: Python may
    give an int."""
    if not p.guesses.floats or isinstance(node.op, ast.Div):
        return
    for side, other in (values, values[::-1]):
        if isinstance(side, Name) and side.name in p.guesses.floats and other.type == INT:
            what = f"{side.name} is an int at first and a float later"
            p.fail(node, what, f"begin with {side.name} = 0.0")


@handles(EXPRESSIONS, ast.UnaryOp)
def _unary(p: Parsing, node: ast.UnaryOp, env: Env, expect: Type | None) -> Expr:
    if isinstance(node.op, ast.Not):
        made = test_of(p, node, env)[0]
        p.forget(node, env)
        return made
    match node:
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)) if (
            not isinstance(number, bool)
        ):
            # The least int64 is written as the negation of an int outside int64.
            return p.constant(node, -number, expect)
    # Without `expect`: -(0 if c else x) is the int 0, and never -0.0.
    made = expression(p, node.operand, env)
    return call(p, node, _UNARY[type(node.op)], [node.operand], [made])


@handles(EXPRESSIONS, ast.IfExp)
def _choice(p: Parsing, node: ast.IfExp, env: Env, expect: Type | None) -> Expr:
    condition, if_true, if_false = test_of(p, node.test, env)
    if (answer := known(condition)) is not None:
        taken = (node.body, if_true) if answer else (node.orelse, if_false)
        return expression(p, *taken, expect)
    then = expression(p, node.body, if_true, expect)
    other = expression(p, node.orelse, if_false, expect)
    p.forget(node, env)
    return choose(p, node, condition, then, other, expect)


@handles(EXPRESSIONS, ast.Name)
def _load(p: Parsing, node: ast.Name, env: Env, expect: Type | None) -> Expr:
    name = node.id
    if name in env:
        local = env[name]
        if isinstance(local, Name) and local.name in p.matches:
            no_match(p, node)
        if isinstance(local, Name) and local.name in p.zoned:
            no_zoned(p, node)
        if isinstance(local, Name) and local.name in p.clocks:
            no_clock(p, node)
        if isinstance(local, Name) and local.name in p.urls:
            no_url(p, node)
        if local.type == HELD:
            _no_value(p, node, name, local)
        return local
    value = p.captured.named(node, name)
    if value is MISSING:
        _unbound(p, node)
    if is_function(value):
        p.fail(node, f"{name} is no value", "call it, or use a constant")
    if isinstance(value, (list, set)):
        p.fail(
            node,
            f"{name} is a {type(value).__name__}, which may change behind a feature's version",
            f"make it a tuple, and use it in a loop, as {name}[i], or in `x in {name}`",
        )
    if isinstance(value, (tuple, dict, frozenset)):
        _no_value(p, node, name, value)
    _no_member(p, node, value)
    return p.constant(node, value)


def _no_value(p: Parsing, node: ast.Name, name: str, held: Any) -> NoReturn:
    shown = type(held.value if isinstance(held, Const) else held).__name__
    hint = f"use it as {name}[key], in `x in {name}`, or in a loop"
    p.fail(node, f"{name} is a {shown}, and no value by itself", hint)


def _unbound(p: Parsing, node: ast.Name) -> NoReturn:
    """CompileError for a name that has no value, or not on every path."""
    name = node.id
    nodes = list(ast.walk(p.node))
    stored = any(
        isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Store) for n in nodes
    )
    if not stored:
        p.fail(
            node,
            f"{name} is not defined",
            "make it a parameter, assign it, or define a module constant",
        )
    walrus = any(isinstance(n, ast.NamedExpr) and n.target.id == name for n in nodes)
    p.fail(
        node,
        f"{name} is not bound on every path to here",
        f"assign it in a statement before, in place of ({name} := …)"
        if walrus
        else f"give it a value first, on every path, as in {name} = …",
    )


def _no_member(p: Parsing, node: ast.expr, value: Any) -> None:
    """Refuse a member of an enumeration, which prints and hashes as `Color.RED`, unless it is of a
    StrEnum or IntEnum."""
    if isinstance(value, enum.Enum) and not isinstance(value, (enum.StrEnum, enum.IntEnum)):
        shown = f"{type(value).__name__}.{value.name}"
        p.fail(
            node,
            f"{shown} is a member of an enumeration, which prints and hashes as such",
            f"write {shown}.value, or derive {type(value).__name__} from StrEnum",
        )


@handles(EXPRESSIONS, ast.Attribute)
def _attribute(p: Parsing, node: ast.Attribute, env: Env, expect: Type | None) -> Expr:
    inner, attribute = node.value, node.attr
    held = p.static(inner, env)
    if isinstance(held, pytypes.ModuleType) and not hasattr(held, attribute):
        no_attribute(p, node, held, attribute)
    value = p.static(node, env)
    if value is not MISSING:
        if is_function(value):
            p.fail(node, f"{ast.unparse(node)} is no value", "call it, or use a constant")
        _no_member(p, node, value)
        return p.constant(node, value, expect)
    if isinstance(held, type):
        p.fail(
            node,
            f"{ast.unparse(node)} is an attribute of a class",
            "bind it to a module constant, or use an Enum",
        )
    for reading in (field_of_clock, chained):
        if (made := reading(p, node, env)) is not None:
            return made
    if (url := url_of(p, inner, env)) is not None:
        return part_of(p, node, url)
    if (zoned := zoned_of(p, inner, env)) is not None:
        if is_method(DATETIME, attribute):
            p.fail(node, f"{attribute} is a method", f"write .{attribute}()")
        return of_zoned(p, node, zoned, attribute, [], env)
    made = expression(p, inner, env)
    no_none(p, inner, made)
    name = f"{made.type.name}.{attribute}"
    if is_method(made.type, attribute):
        p.fail(node, f"{name} is a method", f"write .{attribute}()")
    if name not in ops.BY_NAME and made.type.name in ("str", "int", "float"):
        p.fail(node, f"{made.type} has no {attribute} here", "use the value itself")
    return call(p, node, name, [inner], [made])


@handles(EXPRESSIONS, ast.NamedExpr)
def _walrus(p: Parsing, node: ast.NamedExpr, env: Env, expect: Type | None) -> Expr:
    target, value = node.target, node.value
    if match_of(p, value, env) is not None:
        p.fail(node, "a match bound by a walrus", "assign it in a statement before")
    if zoned_of(p, value, env) is not None:
        p.fail(node, "local time bound by a walrus", "assign it in a statement before")
    if p.in_comprehension:
        p.fail(node, "a walrus inside a comprehension", "assign before it")
    made = expression(p, value, env)
    if made.type == NONE:
        p.fail(node, f"{target.id} would be None and nothing else", "leave it out")
    # Each walrus binds a name of its own, which differs from others where ways meet.
    name = Name(f".{node.lineno}_{node.col_offset}_{target.id}", made.type)
    env[target.id] = name
    return Bind(name.name, made, made.type)


@handles(EXPRESSIONS, ast.JoinedStr)
def _f_string(p: Parsing, node: ast.JoinedStr, env: Env, expect: Type | None) -> Expr:
    pieces: list[Expr] = []
    for value in node.values:
        if isinstance(value, ast.Constant):
            pieces.append(p.constant(value, value.value))
        else:
            assert isinstance(value, ast.FormattedValue)
            pieces.append(_formatted(p, value, env))

    def joined(parts: list[Expr]) -> Expr:
        if len(parts) == 1:
            return parts[0]
        middle = (len(parts) + 1) // 2  # nested no deeper than it has to be
        halves = [joined(parts[:middle]), joined(parts[middle:])]
        return call(p, node, "+", [node, node], halves)

    return joined(pieces) if pieces else Const("", STR)


def _formatted(p: Parsing, node: ast.FormattedValue, env: Env) -> Expr:
    value = expression(p, node.value, env)
    no_none(p, node.value, value)
    if node.conversion not in (-1, ord("s")):
        p.fail(node.value, "!r in an f-string", "leave it out, or write !s")
    spec = node.format_spec
    if value.type.name == "str" and spec is None:
        return value
    if spec is None or (isinstance(spec, ast.JoinedStr) and not spec.values):
        return call(p, node.value, "str", [node.value], [value])
    assert isinstance(spec, ast.JoinedStr)
    texts = [str(v.value) for v in spec.values if isinstance(v, ast.Constant)]
    if len(texts) != len(spec.values):
        p.fail(node.value, "a computed format", "write it out, as in :.2f")
    if node.conversion == ord("s"):
        value = call(p, node.value, "str", [node.value], [value])
    return call(p, node.value, "format", [node.value] * 2, [value, Const("".join(texts), STR)])


@handles(EXPRESSIONS, ast.Subscript)
def _subscript(p: Parsing, node: ast.Subscript, env: Env, expect: Type | None) -> Expr:
    value, index = node.value, node.slice
    if (match := match_of(p, value, env)) is not None:
        return group_of(p, node, match, [index], env)
    match value:
        case ast.Call(func=ast.Name(id="divmod"), args=[_, _] as parts, keywords=[]) if (
            p.is_builtin("divmod", env) and p.static(index, env) in (0, 1, -1, -2)
        ):
            return _divided(p, node, parts, bool(p.static(index, env) % 2), env)
    if (common := _common(p, node, env)) is not None:
        return common
    held = p.static(value, env)
    if isinstance(held, dict):
        return subscript_table(p, value, held, index, env)
    if isinstance(held, (tuple, list)) and isinstance(i := p.static(index, env), int):
        if not -len(held) <= i < len(held):
            p.fail(node, f"{ast.unparse(value)} has {len(held)} elements", "correct the index")
        return p.constant(node, held[i])
    made = sequence(p, value, env) if isinstance(held, (tuple, list)) else expression(p, value, env)
    no_none(p, value, made)
    if isinstance(index, ast.Slice):
        return _slice(p, node, value, made, index, env)
    if made.type.name == "dict" and (entry := read_entry(p, node, made, env)) is not None:
        return entry
    if made.type.item is None and made.type.name not in ("str", "bytes", "dict"):
        p.fail(node, f"{made.type} has no elements", "index a str or a list")
    at = expression(p, index, env)
    if made.type.item is not None and made.type.item.optional:
        return element(p, node, made, at)
    return call(p, node, "getitem", [value, index], [made, at])


def _common(p: Parsing, node: ast.Subscript, env: Env) -> Expr | None:
    """`counts.most_common(n)[i][0]` and `[1]`; None for anything else."""
    match node:
        case ast.Subscript(
            value=ast.Subscript(value=inner, slice=at), slice=ast.Constant(value=part)
        ):
            found = most_common(p, inner, env)
            if found is None or not isinstance(part, int) or part not in (0, 1):
                return None
            return call(p, node, "getitem", [inner, at], [found[part], expression(p, at, env)])
    return None


def _divided(p: Parsing, node: ast.expr, parts: list[ast.expr], rest: bool, env: Env) -> Expr:
    """`divmod(a, b)[0]` and `[1]`: both parts are computed, for their errors."""

    def whole(a: Name | Const, b: Name | Const) -> Expr:
        quotient, remainder = (call(p, node, op, parts, [a, b]) for op in ("//", "%"))
        kept, other = (remainder, quotient) if rest else (quotient, remainder)
        return named(p, other, lambda _: kept)

    left, right = (expression(p, part, env) for part in parts)
    return named(p, left, lambda a: named(p, right, lambda b: whole(a, b)))


def _slice(
    p: Parsing, node: ast.expr, value: ast.expr, made: Expr, index: ast.Slice, env: Env
) -> Expr:
    """`value[a:b]`, `[a:]`, `[:b]`, each with a step."""
    ends = [end for end in (index.lower, index.upper) if end is not None]
    given = [(end, expression(p, end, env)) for end in ends]
    name = {(True, False): "slice.from", (False, True): "slice.to"}.get(
        (index.lower is not None, index.upper is not None), "slice"
    )
    if index.step is not None:
        step = expression(p, index.step, env)
        if len(given) == 2:
            given.append((index.step, step))
        elif not given:
            return call(p, node, "slice.every", [value, index.step], [made, step])
        elif isinstance(step, Const) and isinstance(step.value, int) and step.value > 0:
            part = call(p, node, name, [value, given[0][0]], [made, given[0][1]])
            return call(p, node, "slice.every", [value, index.step], [part, step])
        else:
            p.fail(index.step, "a step back from an end", "write values[::-1] and slice that")
    elif not given:
        return made
    nodes = [value, *(n for n, _ in given)]
    return call(p, node, name, nodes, [made, *(v for _, v in given)])
