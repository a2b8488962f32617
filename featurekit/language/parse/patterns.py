"""Regular expressions: a match is no value, but it is tested and asked for its groups."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import Any

from featurekit.core.types import INT, STR, Type
from featurekit.language.ir import Const, Expr, Name
from featurekit.language.parse.calls import Calls
from featurekit.language.parse.places import MISSING, Env

_MATCH = Type("match", optional=True)
_METHODS = ("search", "match", "fullmatch")
_FLAGS = {re.I: "i", re.M: "m", re.S: "s", re.X: "x", re.A: "a"}


@dataclass(frozen=True, slots=True)
class Match:
    """What `re.search(pattern, text)` gives: its method, its pattern and its text."""

    method: str
    pattern: str
    text: Expr
    type: Type = _MATCH


class Patterns(Calls):
    """Calls of `re`, and of a pattern that the module compiled."""

    matches: dict[str, Match]

    def match_of(self, node: ast.AST, env: Env) -> Match | None:
        """The match that `node` stands for: a call, or a name that holds one."""
        match node:
            case ast.Name(id=name) if isinstance(local := env.get(name), Name):
                return self.matches.get(local.name)
            case ast.Call(func=ast.Attribute(value=receiver, attr=method), args=arguments) if (
                method in _METHODS
            ):
                held = self.static(receiver, env)
                if held is re:
                    pattern, *rest = arguments or [node]
                    given = self.static(pattern, env) if arguments else MISSING
                elif isinstance(held, re.Pattern):
                    given, rest = held, arguments
                    if len(rest) > 1 or node.keywords:
                        at = [*rest[1:], *(k.value for k in node.keywords)][0]
                        what = f"a place in the text to {method} from"
                        self.fail(at, what, f"write {method}(text) of the part, as in text[2:]")
                else:
                    return None
                flags = [*rest[1:], *(k.value for k in node.keywords)]
                if isinstance(given, re.Pattern):
                    if flags:
                        self.fail(flags[0], "flags of a compiled pattern", "give re.compile() them")
                    given = _inline(given.pattern, given.flags & ~re.U)
                if not isinstance(given, str) or not rest:
                    self.fail(node, "a pattern that is computed", "write it as a literal")
                if flags:
                    value = self.static(flags[0], env)
                    if len(flags) > 1 or not isinstance(value, int):
                        self.fail(flags[0], "computed flags", "write re.IGNORECASE, or (?i)")
                    given = _inline(given, value)
                text = self.expression(rest[0], env)
                self.no_none(rest[0], text)
                if text.type != STR:
                    self.fail(rest[0], f"re.{method} of {text.type}", "pass a str")
                return Match(method, given, text)
            case _:
                return None

    def match_test(self, node: ast.expr, env: Env) -> Expr | None:
        found = self.match_of(node, env)
        return None if found is None else self.when_matched(node, found)

    def when_matched(self, node: ast.expr, match: Match) -> Expr:
        """Whether there is a match."""
        arguments = [Const(match.pattern, STR), match.text]
        return self.call(node, f"re.{match.method}", [node, node], arguments)

    def group_of(self, node: ast.expr, match: Match, arguments: list[ast.expr], env: Env) -> Expr:
        """`match.group(1)`: an error where there is no match, or the group took no part."""
        if len(arguments) > 1:
            self.fail(node, "several groups at once", "take them one by one")
        held = self.static(arguments[0], env) if arguments else 0
        if isinstance(held, str):
            named = re.compile(match.pattern).groupindex
            if held not in named:
                self.fail(node, f"the pattern has no group {held!r}", "name it as (?P<name>…)")
            held = named[held]
        if type(held) is not int:
            self.fail(node, "a computed group", "write its number")
        given = [Const(match.pattern, STR), match.text, Const(held, INT)]
        return self.call(node, f"re.{match.method}.group", [node] * 3, given)

    def no_match(self, node: ast.AST) -> Any:
        self.fail(
            node,
            "a match is no value",
            "write `re.search(…) is not None`, or take its .group(1)",
        )

    def call_node(self, node: ast.Call, env: Env, expect: Type | None) -> Expr:
        match node.func:
            case ast.Attribute(value=receiver, attr="group") if (
                match := self.match_of(receiver, env)
            ) is not None:
                return self.group_of(node, match, node.args, env)
            case ast.Attribute(value=receiver, attr="sub" | "split" | "findall" as method) if (
                isinstance(pattern := self.static(receiver, env), re.Pattern)
            ):
                return self.of_pattern(node, method, pattern, node.args, node.keywords, env)
            case ast.Attribute(value=receiver, attr="sub" | "split" | "findall" as method) if (
                self.static(receiver, env) is re and node.args
            ):
                return self.of_pattern(
                    node, method, self.static(node.args[0], env), node.args[1:], node.keywords, env
                )
            case ast.Attribute(
                value=ast.Call(func=maker, args=arguments, keywords=[]), attr="hexdigest"
            ) if (digest := self.static(maker, env)) is not MISSING and callable(digest):
                name = getattr(digest, "__name__", "").removeprefix("openssl_")
                return self.operator(node, f"hashlib.{name}.hexdigest", [], arguments, env)
        if self.match_of(node, env) is not None:
            self.no_match(node)
        return super().call_node(node, env, expect)

    def of_pattern(
        self,
        node: ast.Call,
        method: str,
        pattern: Any,
        given: list[ast.expr],
        keywords: list[ast.keyword],
        env: Env,
    ) -> Expr:
        """`re.sub` and the like, their flags written into the pattern."""
        compiled = isinstance(pattern, re.Pattern)
        if compiled:
            pattern = _inline(pattern.pattern, pattern.flags & ~re.U)
        if not isinstance(pattern, str):
            self.fail(node.args[0], "a pattern that is computed", "write it as a literal")
        flags = [k.value for k in keywords if k.arg == "flags"]
        most = _PLACES[method]
        if len(given) == most + 1:
            flags, given = [*flags, given[most]], given[:most]
        if flags:
            value = self.static(flags[0], env)
            if compiled or len(flags) > 1 or not isinstance(value, int):
                self.fail(flags[0], "flags that are computed", "write re.IGNORECASE, or (?i)")
            pattern = _inline(pattern, value)
        first: ast.expr = ast.copy_location(ast.Constant(pattern), node)
        others = [k for k in keywords if k.arg != "flags"]
        bare = ast.copy_location(ast.Call(node.func, [first, *given], others), node)
        return self.operator(bare, f"re.{method}", [], bare.args, env)


_PLACES = {"sub": 3, "split": 2, "findall": 1}
"""How many arguments stand between the pattern and the flags."""


def _inline(pattern: str, flags: int) -> str:
    letters = "".join(letter for flag, letter in _FLAGS.items() if flags & flag)
    return f"(?{letters}){pattern}" if letters else pattern
