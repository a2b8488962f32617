"""Calls of `datetime` that say their zone: here a datetime is an instant, and never naive (T1)."""

from __future__ import annotations

import ast
import datetime as dt
import re
from dataclasses import dataclass
from types import ModuleType
from typing import NoReturn
from zoneinfo import ZoneInfo

from featurekit.core.types import BOOL, DATETIME, STR, Type
from featurekit.language import ops
from featurekit.language.ir import Both, Const, Evaluate, Expr, If, Name, Statement
from featurekit.language.parse.patterns import Patterns
from featurekit.language.parse.places import MISSING, Env, is_method

ZONED = Type("zoned")
_FIRST, _LAST = (
    t.replace(tzinfo=dt.UTC) + d * dt.timedelta(days=1)
    for t, d in ((dt.datetime.min, 1), (dt.datetime.max, -1))
)
"""Between them every zone has local time: offsets are less than a day."""


@dataclass(frozen=True, slots=True)
class Zoned:
    """What `t.astimezone(ZoneInfo(name))` gives: local time, whose fields are asked for."""

    instant: Expr
    zone: str


class Instants(Patterns):
    """What needs `tzinfo=timezone.utc`, and loses it on the way to an operator; and local time."""

    zoned: dict[str, Zoned]

    def zoned_of(self, node: ast.AST, env: Env) -> Zoned | None:
        """The local time that `node` stands for: a call, or a name that holds one."""
        match node:
            case ast.Name(id=name) if isinstance(local := env.get(name), Name):
                return self.zoned.get(local.name)
            case ast.Call(
                func=ast.Attribute(value=receiver, attr="astimezone"),
                args=arguments,
                keywords=named,
            ):
                given = [*arguments, *(k.value for k in named)]
                zone = self.static(given[0], env) if len(given) == 1 else MISSING
                if zone is dt.UTC:
                    return None
                if not isinstance(zone, ZoneInfo) or zone.key is None:
                    self.fail(
                        given[0] if given else node,
                        "a zone that is no constant" if given else "the zone of this machine",
                        'write .astimezone(ZoneInfo("Europe/London"))',
                    )
                return Zoned(self.instant(receiver, env), zone.key)
        return None

    def in_years(self, node: ast.expr, instant: Expr, zone: str) -> Statement:
        """Local time exists from the year 1 to 9999: at their ends `astimezone` may raise."""
        nodes = [node, node]
        after = self.call(node, ">", nodes, [instant, Const(_FIRST, DATETIME)])
        before = self.call(node, "<", nodes, [instant, Const(_LAST, DATETIME)])
        read = self.call(node, "zoned.utcoffset", nodes, [instant, Const(zone, STR)])
        return If(Both(after, before, BOOL), (), (Evaluate(read),))

    def instant(self, node: ast.expr, env: Env) -> Expr:
        """What `.astimezone(…)` is called of: a text's own offset is no matter then."""
        read = self.class_method(node, env) if isinstance(node, ast.Call) else None
        if isinstance(node, ast.Call) and f"{read}.instant" in ops.BY_NAME:
            return self.operator(node, f"{read}.instant", [], node.args, env)
        made = self.expression(node, env)
        self.no_none(node, made)
        if made.type != DATETIME:
            self.fail(node, f"{made.type} has no zone", "use a datetime")
        return made

    def of_zoned(
        self, node: ast.expr, held: Zoned, name: str, rest: list[ast.expr], env: Env
    ) -> Expr:
        """A field or a method of local time."""
        if f"zoned.{name}" not in ops.BY_NAME:
            known = ", ".join(n[6:] for n in ops.BY_NAME if n.startswith("zoned."))
            self.fail(node, f"{name} of local time", f"it has {known}; else use the instant itself")
        given = [held.instant, Const(held.zone, STR), *(self.expression(r, env) for r in rest)]
        return self.call(node, f"zoned.{name}", [node, node, *rest], given)

    def no_zoned(self, node: ast.AST) -> NoReturn:
        self.fail(
            node,
            "local time is no value: between two of one zone Python forgets their offsets",
            "take its fields, as in local.hour, and compare and subtract the instants themselves",
        )

    def call_node(self, node: ast.Call, env: Env, expect: Type | None) -> Expr:
        match node.func:
            case ast.Attribute(value=receiver, attr="astimezone") if (
                len(node.args) == 1 and self.static(node.args[0], env) is dt.UTC
            ):
                return self.instant(receiver, env)
            case ast.Attribute(value=receiver, attr=name) if (
                held := self.zoned_of(receiver, env)
            ) is not None:
                if not is_method(DATETIME, name):
                    self.fail(node, f"{name} is no method", f"write .{name} without ()")
                self.no_list(node, f"zoned.{name}")
                return self.of_zoned(node, held, name, node.args, env)
            case ast.Attribute(value=ast.Call() as inner, attr="replace") if (
                self.is_utc(node, env)
                and f"{(made := self.class_method(inner, env))}.utc" in ops.BY_NAME
            ):
                return self.operator(inner, f"{made}.utc", [], inner.args, env)
        if self.zoned_of(node, env) is not None:
            self.no_zoned(node)
        if self.static(node.func, env) is dt.datetime:
            return self.in_utc(node, "datetime", 7, env)
        method = self.class_method(node, env)
        if method == "datetime.strptime" and len(node.args) == 2:
            text = self.static(node.args[1], env)
            if isinstance(text, str) and "z" not in re.findall(r"%(.)", text, re.DOTALL):
                self.fail(
                    node,
                    "strptime() without %z gives a local time, which is no instant",
                    "write datetime.strptime(…).replace(tzinfo=timezone.utc)",
                )
        if method == "datetime.fromtimestamp":
            return self.in_utc(node, "datetime.fromtimestamp", 1, env)
        return super().call_node(node, env, expect)

    def class_method(self, node: ast.Call, env: Env) -> str | None:
        """The name of `datetime.fromisoformat` and the like."""
        match node.func:
            case ast.Attribute(value=receiver, attr=name):
                held = self.static(receiver, env)
                if isinstance(held, type):
                    return f"{held.__name__}.{name}"
        return None

    def is_utc(self, node: ast.Call, env: Env) -> bool:
        """Whether the call's one argument is tzinfo=timezone.utc."""
        match node:
            case ast.Call(args=[], keywords=[ast.keyword(arg="tzinfo", value=value)]):
                return self.static(value, env) is dt.UTC
        return False

    def in_utc(self, node: ast.Call, name: str, fields: int, env: Env) -> Expr:
        """A call whose zone must be UTC, without it."""
        zones = [k.value for k in node.keywords if k.arg in ("tzinfo", "tz")]
        zones += node.args[fields : fields + 1]
        if len(zones) != 1 or self.static(zones[0], env) is not dt.UTC:
            word = "tz" if fields == 1 else "tzinfo"
            self.fail(
                zones[0] if zones else node,
                f"{name}() without its zone is no instant" if not zones else "a zone besides UTC",
                f"write {word}=timezone.utc",
            )
        bare = ast.Call(
            node.func,
            node.args[:fields],
            [k for k in node.keywords if k.arg not in ("tzinfo", "tz")],
        )
        return self.operator(ast.copy_location(bare, node), name, [], bare.args, env)

    def chained(self, node: ast.Attribute, env: Env) -> Expr | None:
        """`t.isocalendar().week`, where a row says so."""
        match node.value:
            case ast.Call(func=ast.Attribute(value=receiver, attr=method), args=[], keywords=[]):
                if not any(n.endswith(f".{method}.{node.attr}") for n in ops.BY_NAME):
                    return None
                if isinstance(self.static(receiver, env), (type, ModuleType)):
                    return None
                if (held := self.zoned_of(receiver, env)) is not None:
                    return self.of_zoned(node, held, f"{method}.{node.attr}", [], env)
                value = self.expression(receiver, env)
                self.no_none(receiver, value)
                name = f"{value.type.name}.{method}.{node.attr}"
                return self.call(node, name, [receiver], [value])
        return None
