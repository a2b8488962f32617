"""Turns times of the day into IR, as their microseconds since midnight.

`t.time()` is no value of a column. It is compared with others, its fields are read, and
`datetime.combine` takes it.
"""

from __future__ import annotations

import ast
import datetime as dt
from typing import NoReturn

from featurekit.core.types import DATE, DATETIME, INT, TIMEDELTA
from featurekit.language.ir import Const, Expr, Name
from featurekit.language.parse.context import Env, Parsing
from featurekit.language.parse.handlers import expression
from featurekit.language.parse.instants import of_zoned, zoned_of
from featurekit.language.parse.operators import call, named, no_none

_PARTS = {"hour": 3_600_000_000, "minute": 60_000_000, "second": 1_000_000, "microsecond": 1}


def clock_of(p: Parsing, node: ast.AST, env: Env) -> Expr | None:
    """The microseconds since midnight of the time of the day that `node` is; None for anything
    else."""
    match node:
        case ast.Name(id=name) if isinstance(local := env.get(name), Name):
            return p.clocks.get(local.name)
        case ast.Call(func=ast.Attribute(value=receiver, attr="time"), args=[], keywords=[]):
            if isinstance(p.static(receiver, env), type):
                return None
            if (zoned := zoned_of(p, receiver, env)) is not None:
                parts = [of_zoned(p, receiver, zoned, part, [], env) for part in _PARTS]
                return _added(p, receiver, parts)
            value = expression(p, receiver, env)
            no_none(p, receiver, value)
            if value.type != DATETIME:
                p.fail(node, f"{value.type} has no time of the day", "use a datetime")
            return named(p, value, lambda t: _of_instant(p, receiver, t))
    held = p.static(node, env) if isinstance(node, ast.expr) else None
    if isinstance(held, dt.time) and held.tzinfo is None:
        return Const(sum(getattr(held, part) * us for part, us in _PARTS.items()), INT)
    return None


def _of_instant(p: Parsing, node: ast.expr, instant: Expr) -> Expr:
    return _added(
        p, node, [call(p, node, f"datetime.{part}", [node], [instant]) for part in _PARTS]
    )


def _added(p: Parsing, node: ast.expr, parts: list[Expr]) -> Expr:
    made: Expr = Const(0, INT)
    for part, us in zip(parts, _PARTS.values(), strict=True):
        whole = call(p, node, "*", [node, node], [part, Const(us, INT)])
        made = call(p, node, "+", [node, node], [made, whole])
    return made


def compared_clocks(p: Parsing, node: ast.Compare, env: Env) -> list[Expr] | None:
    """Both sides of a comparison of times of the day; None for another comparison."""
    if len(node.ops) != 1 or not isinstance(
        node.ops[0], (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)
    ):
        return None
    sides = [clock_of(p, side, env) for side in (node.left, *node.comparators)]
    if all(side is None for side in sides):
        return None
    for at, side in zip((node.left, *node.comparators), sides, strict=True):
        if side is None:
            p.fail(at, "a time of the day beside something else", "compare it with time(9, 30)")
    return [side for side in sides if side is not None]


def field_of_clock(p: Parsing, node: ast.Attribute, env: Env) -> Expr | None:
    """`t.time().hour` and the like; None for anything else."""
    if node.attr not in _PARTS or (clock := clock_of(p, node.value, env)) is None:
        return None
    at = [node, node]
    whole = call(p, node, "//", at, [clock, Const(_PARTS[node.attr], INT)])
    most = {"hour": 24, "minute": 60, "second": 60, "microsecond": 1_000_000}[node.attr]
    return call(p, node, "%", at, [whole, Const(most, INT)])


def combined(p: Parsing, node: ast.Call, env: Env) -> Expr | None:
    """`datetime.combine(d, time(9, 30), tzinfo=timezone.utc)`; None for any other call."""
    match node.func:
        case ast.Attribute(value=receiver, attr="combine") if p.static(
            receiver, env
        ) is dt.datetime and len(node.args) in (2, 3):
            pass
        case _:
            return None
    day = expression(p, node.args[0], env)
    no_none(p, node.args[0], day)
    if day.type == DATETIME:
        day = call(p, node, "datetime.date", [node.args[0]], [day])
    held = p.static(node.args[1], env)
    zones = [*node.args[2:], *(k.value for k in node.keywords)]
    aware = isinstance(held, dt.time) and held.tzinfo is dt.UTC
    if aware and not zones and isinstance(held, dt.time):
        held = held.replace(tzinfo=None)
        clock = Const(sum(getattr(held, part) * us for part, us in _PARTS.items()), INT)
    elif len(zones) == 1 and p.static(zones[0], env) is dt.UTC:
        clock = clock_of(p, node.args[1], env)  # type: ignore[assignment]
    else:
        p.fail(node, "combine() without its zone is no instant", "write tzinfo=timezone.utc")
    if clock is None or day.type != DATE:
        p.fail(node, f"combine() of {day.type}", "write datetime.combine(d, time(9, 30), …)")
    return named(p, day, lambda d: _moment(p, node, d, clock))


def _moment(p: Parsing, node: ast.Call, day: Expr, clock: Expr) -> Expr:
    parts = [call(p, node, f"date.{part}", [node], [day]) for part in ("year", "month", "day")]
    zeros: list[Expr] = [Const(0, INT) for _ in range(4)]
    midnight = call(p, node, "datetime", [node] * 7, [*parts, *zeros])
    one = Const(dt.timedelta(microseconds=1), TIMEDELTA)
    span = call(p, node, "*", [node, node], [clock, one])
    return call(p, node, "+", [node, node], [midnight, span])


def no_clock(p: Parsing, node: ast.AST) -> NoReturn:
    p.fail(node, "a time of the day is no value", "compare it with time(9, 30), or read its .hour")
