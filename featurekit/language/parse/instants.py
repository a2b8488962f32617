"""Turns calls of `datetime` that name their zone into IR.

A datetime is an instant here, and never naive (T1). A local time is not a value, but its fields can
be read.
"""

from __future__ import annotations

import ast
import datetime as dt
import re
from types import ModuleType
from typing import NoReturn
from zoneinfo import ZoneInfo

from featurekit.core.types import BOOL, DATETIME, STR
from featurekit.language import ops
from featurekit.language.ir import Both, Const, Evaluate, Expr, If, Name, Statement
from featurekit.language.parse.arguments import operator
from featurekit.language.parse.context import MISSING, Env, Parsing, Zoned
from featurekit.language.parse.handlers import expression
from featurekit.language.parse.operators import call, is_method, no_list, no_none

_FIRST, _LAST = (
    t.replace(tzinfo=dt.UTC) + d * dt.timedelta(days=1)
    for t, d in ((dt.datetime.min, 1), (dt.datetime.max, -1))
)
"""Between them every zone has local time: offsets are less than a day."""


def zoned_of(p: Parsing, node: ast.AST, env: Env) -> Zoned | None:
    """The local time that `node` stands for, as a call or as a name; None for any other."""
    match node:
        case ast.Name(id=name) if isinstance(local := env.get(name), Name):
            return p.zoned.get(local.name)
        case ast.Call(
            func=ast.Attribute(value=receiver, attr="astimezone"),
            args=arguments,
            keywords=named,
        ):
            given = [*arguments, *(k.value for k in named)]
            zone = p.static(given[0], env) if len(given) == 1 else MISSING
            if zone is dt.UTC:
                return None
            if not isinstance(zone, ZoneInfo) or zone.key is None:
                p.fail(
                    given[0] if given else node,
                    "a zone that is no constant" if given else "the zone of this machine",
                    'write .astimezone(ZoneInfo("Europe/London"))',
                )
            return Zoned(_instant_of(p, receiver, env), zone.key)
    return None


def in_years(p: Parsing, node: ast.expr, instant: Expr, zone: str) -> Statement:
    """A check that the local time is in the years 1 to 9999: near their ends `astimezone` may
    raise."""
    nodes = [node, node]
    after = call(p, node, ">", nodes, [instant, Const(_FIRST, DATETIME)])
    before = call(p, node, "<", nodes, [instant, Const(_LAST, DATETIME)])
    read = call(p, node, "zoned.utcoffset", nodes, [instant, Const(zone, STR)])
    return If(Both(after, before, BOOL), (), (Evaluate(read),))


def _instant_of(p: Parsing, node: ast.expr, env: Env) -> Expr:
    """The instant before `.astimezone(…)`. If it is a text, its own offset does not matter."""
    read = _class_method(p, node, env) if isinstance(node, ast.Call) else None
    if isinstance(node, ast.Call) and f"{read}.instant" in ops.BY_NAME:
        return operator(p, node, f"{read}.instant", [], node.args, env)
    made = expression(p, node, env)
    no_none(p, node, made)
    if made.type != DATETIME:
        p.fail(node, f"{made.type} has no zone", "use a datetime")
    return made


def of_zoned(
    p: Parsing, node: ast.expr, held: Zoned, name: str, rest: list[ast.expr], env: Env
) -> Expr:
    """A field or a method of a local time."""
    if f"zoned.{name}" not in ops.BY_NAME:
        known = ", ".join(n[6:] for n in ops.BY_NAME if n.startswith("zoned."))
        p.fail(node, f"{name} of local time", f"it has {known}; else use the instant itself")
    given = [held.instant, Const(held.zone, STR), *(expression(p, r, env) for r in rest)]
    return call(p, node, f"zoned.{name}", [node, node, *rest], given)


def no_zoned(p: Parsing, node: ast.AST) -> NoReturn:
    p.fail(
        node,
        "local time is no value: between two of one zone Python forgets their offsets",
        "take its fields, as in local.hour, and compare and subtract the instants themselves",
    )


def call_of_instant(p: Parsing, node: ast.Call, env: Env) -> Expr | None:
    """A call that makes an instant, or reads a local time; None for any other."""
    if (made := _of_receiver(p, node, env)) is not None:
        return made
    if zoned_of(p, node, env) is not None:
        no_zoned(p, node)
    if p.static(node.func, env) is dt.datetime:
        return _in_utc(p, node, "datetime", 7, env)
    method = _class_method(p, node, env)
    if method == "datetime.strptime" and len(node.args) == 2:
        text = p.static(node.args[1], env)
        if isinstance(text, str) and "z" not in re.findall(r"%(.)", text, re.DOTALL):
            p.fail(
                node,
                "strptime() without %z gives a local time, which is no instant",
                "write datetime.strptime(…).replace(tzinfo=timezone.utc)",
            )
    if method == "datetime.fromtimestamp":
        return _in_utc(p, node, "datetime.fromtimestamp", 1, env)
    return None


def _of_receiver(p: Parsing, node: ast.Call, env: Env) -> Expr | None:
    """A call of a method of a local time, or a call that names UTC; None for any other."""
    match node.func:
        case ast.Attribute(value=receiver, attr="astimezone") if (
            len(node.args) == 1 and p.static(node.args[0], env) is dt.UTC
        ):
            return _instant_of(p, receiver, env)
        case ast.Attribute(value=receiver, attr=name) if (
            held := zoned_of(p, receiver, env)
        ) is not None:
            if not is_method(DATETIME, name):
                p.fail(node, f"{name} is no method", f"write .{name} without ()")
            no_list(p, node, f"zoned.{name}")
            return of_zoned(p, node, held, name, node.args, env)
        case ast.Attribute(value=ast.Call() as inner, attr="replace") if (
            _is_utc(p, node, env) and f"{(made := _class_method(p, inner, env))}.utc" in ops.BY_NAME
        ):
            return operator(p, inner, f"{made}.utc", [], inner.args, env)
    return None


def _class_method(p: Parsing, node: ast.Call, env: Env) -> str | None:
    """The name of `datetime.fromisoformat` and the like; None for any other call."""
    match node.func:
        case ast.Attribute(value=receiver, attr=name):
            held = p.static(receiver, env)
            if isinstance(held, type):
                return f"{held.__name__}.{name}"
    return None


def _is_utc(p: Parsing, node: ast.Call, env: Env) -> bool:
    """Whether the call's one argument is tzinfo=timezone.utc."""
    match node:
        case ast.Call(args=[], keywords=[ast.keyword(arg="tzinfo", value=value)]):
            return p.static(value, env) is dt.UTC
    return False


def _in_utc(p: Parsing, node: ast.Call, name: str, fields: int, env: Env) -> Expr:
    """A call whose zone must be UTC, without that argument."""
    zones = [k.value for k in node.keywords if k.arg in ("tzinfo", "tz")]
    zones += node.args[fields : fields + 1]
    if len(zones) != 1 or p.static(zones[0], env) is not dt.UTC:
        word = "tz" if fields == 1 else "tzinfo"
        p.fail(
            zones[0] if zones else node,
            f"{name}() without its zone is no instant" if not zones else "a zone besides UTC",
            f"write {word}=timezone.utc",
        )
    bare = ast.Call(
        node.func,
        node.args[:fields],
        [k for k in node.keywords if k.arg not in ("tzinfo", "tz")],
    )
    return operator(p, ast.copy_location(bare, node), name, [], bare.args, env)


def chained(p: Parsing, node: ast.Attribute, env: Env) -> Expr | None:
    """`t.isocalendar().week` and the like, where a row has it."""
    match node.value:
        case ast.Call(func=ast.Attribute(value=receiver, attr=method), args=[], keywords=[]):
            if not any(n.endswith(f".{method}.{node.attr}") for n in ops.BY_NAME):
                return None
            if isinstance(p.static(receiver, env), (type, ModuleType)):
                return None
            if (held := zoned_of(p, receiver, env)) is not None:
                return of_zoned(p, node, held, f"{method}.{node.attr}", [], env)
            value = expression(p, receiver, env)
            no_none(p, receiver, value)
            name = f"{value.type.name}.{method}.{node.attr}"
            return call(p, node, name, [receiver], [value])
    return None
