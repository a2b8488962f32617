"""Turns regular expressions into IR.

A match is not a value, but it can be tested, and it gives its groups.
"""

from __future__ import annotations

import ast
import re
from typing import Any, NoReturn

from featurekit.core.types import INT, STR
from featurekit.language.ir import Const, Expr, Name
from featurekit.language.parse.arguments import operator
from featurekit.language.parse.context import MISSING, Env, Match, Parsing
from featurekit.language.parse.handlers import expression
from featurekit.language.parse.operators import call, no_none
from featurekit.language.parse.slow_patterns import inline, note_slow

_METHODS = ("search", "match", "fullmatch")


def match_of(p: Parsing, node: ast.AST, env: Env) -> Match | None:
    """The match that `node` stands for, as a call or as a name; None for any other."""
    match node:
        case ast.Name(id=name) if isinstance(local := env.get(name), Name):
            return p.matches.get(local.name)
        case ast.Call(func=ast.Attribute(value=receiver, attr=method)) if method in _METHODS:
            held = p.static(receiver, env)
            if held is re or isinstance(held, re.Pattern):
                return _searched(p, node, held, method, env)
    return None


def _searched(p: Parsing, node: ast.Call, held: Any, method: str, env: Env) -> Match:
    """The match of a call of `re`, or of a pattern that the module compiled."""
    given: Any
    if isinstance(held, re.Pattern):
        given, rest = held, node.args
        if len(rest) > 1 or node.keywords:
            at = [*rest[1:], *(k.value for k in node.keywords)][0]
            what = f"a place in the text to {method} from"
            p.fail(at, what, f"write {method}(text) of the part, as in text[2:]")
    else:
        given = p.settled(node.args[0], env) if node.args else MISSING
        rest = node.args[1:]
    flags = [*rest[1:], *(k.value for k in node.keywords)]
    if isinstance(given, re.Pattern):
        if flags:
            p.fail(flags[0], "flags of a compiled pattern", "give re.compile() them")
        given = inline(given.pattern, given.flags & ~re.U)
    if not isinstance(given, str) or not rest:
        p.fail(node, "a pattern that is computed", "write it as a literal")
    if flags:
        value = p.static(flags[0], env)
        if len(flags) > 1 or not isinstance(value, int):
            p.fail(flags[0], "computed flags", "write re.IGNORECASE, or (?i)")
        given = inline(given, value)
    note_slow(p, node.args[0] if held is re else node, method, given)
    text = expression(p, rest[0], env)
    no_none(p, rest[0], text)
    if text.type != STR:
        p.fail(rest[0], f"re.{method} of {text.type}", "pass a str")
    return Match(method, given, text)


def match_test(p: Parsing, node: ast.expr, env: Env) -> Expr | None:
    """Whether there is a match, where `node` is one; None for anything else."""
    match = match_of(p, node, env)
    if match is None:
        return None
    arguments = [Const(match.pattern, STR), match.text]
    return call(p, node, f"re.{match.method}", [node, node], arguments)


def group_of(p: Parsing, node: ast.expr, match: Match, arguments: list[ast.expr], env: Env) -> Expr:
    """`match.group(1)`: an error where there is no match, or the group took no part in it."""
    if len(arguments) > 1:
        p.fail(node, "several groups at once", "take them one by one")
    held = p.static(arguments[0], env) if arguments else 0
    if isinstance(held, str):
        named = re.compile(match.pattern).groupindex
        if held not in named:
            p.fail(node, f"the pattern has no group {held!r}", "name it as (?P<name>…)")
        held = named[held]
    if type(held) is not int:
        p.fail(node, "a computed group", "write its number")
    given = [Const(match.pattern, STR), match.text, Const(held, INT)]
    return call(p, node, f"re.{match.method}.group", [node] * 3, given)


def groups_of(p: Parsing, node: ast.AST, env: Env) -> list[Expr] | None:
    """The values of `m.groups()` and of `m.group(1, 2)`; None for anything else."""
    match node:
        case ast.Call(
            func=ast.Attribute(value=receiver, attr="groups" | "group" as attribute),
            args=given,
            keywords=[],
        ) if (match := match_of(p, receiver, env)) is not None:
            if attribute == "groups" and not given:
                count = re.compile(match.pattern).groups
                given = [ast.copy_location(ast.Constant(i + 1), node) for i in range(count)]
            elif len(given) < 2:
                return None
            return [group_of(p, node, match, [at], env) for at in given]
    return None


def no_match(p: Parsing, node: ast.AST) -> NoReturn:
    p.fail(
        node,
        "a match is no value",
        "write `re.search(…) is not None`, or take its .group(1)",
    )


def call_of_match(p: Parsing, node: ast.Call, env: Env) -> Expr | None:
    """A call of `re`, of a pattern, of a match or of a hash; None for any other."""
    match node.func:
        case ast.Attribute(value=receiver, attr="group") if (
            match := match_of(p, receiver, env)
        ) is not None:
            return group_of(p, node, match, node.args, env)
        case ast.Attribute(value=receiver, attr="start" | "end" | "span" as end) if (
            match := match_of(p, receiver, env)
        ) is not None:
            if end == "span" or node.args or node.keywords:
                p.fail(node, f"{end}() of a match here", "take start() or end() of the whole")
            given = [Const(match.pattern, STR), match.text]
            return call(p, node, f"re.{match.method}.{end}", [node] * 2, given)
        case ast.Attribute(value=receiver, attr=method) if method in _PLACES:
            held = p.static(receiver, env)
            if isinstance(held, re.Pattern):
                return _of_pattern(p, node, method, held, node.args, env)
            if held is re and node.args:
                pattern = p.settled(node.args[0], env)
                return _of_pattern(p, node, method, pattern, node.args[1:], env)
        case ast.Attribute(
            value=ast.Call(func=maker, args=arguments, keywords=given), attr="hexdigest"
        ) if (
            [k.arg for k in given] in ([], ["usedforsecurity"])
            and (digest := p.static(maker, env)) is not MISSING
            and callable(digest)
        ):
            name = getattr(digest, "__name__", "").removeprefix("openssl_")
            return operator(p, node, f"hashlib.{name}.hexdigest", [], arguments, env)
    if match_of(p, node, env) is not None:
        no_match(p, node)
    return None


def _of_pattern(
    p: Parsing,
    node: ast.Call,
    method: str,
    pattern: Any,
    given: list[ast.expr],
    env: Env,
) -> Expr:
    """`re.sub` and the like, with their flags written into the pattern."""
    keywords = node.keywords
    compiled = isinstance(pattern, re.Pattern)
    if compiled:
        pattern = inline(pattern.pattern, pattern.flags & ~re.U)
    if not isinstance(pattern, str):
        p.fail(node.args[0], "a pattern that is computed", "write it as a literal")
    flags = [k.value for k in keywords if k.arg == "flags"]
    most = _PLACES[method]
    if len(given) == most + 1:
        flags, given = [*flags, given[most]], given[:most]
    if flags:
        value = p.static(flags[0], env)
        if compiled or len(flags) > 1 or not isinstance(value, int):
            p.fail(flags[0], "flags that are computed", "write re.IGNORECASE, or (?i)")
        pattern = inline(pattern, value)
    note_slow(p, node if compiled else node.args[0], method.partition(".")[0], pattern)
    first: ast.expr = ast.copy_location(ast.Constant(pattern), node)
    others = [k for k in keywords if k.arg != "flags"]
    bare = ast.copy_location(ast.Call(node.func, [first, *given], others), node)
    return operator(p, bare, f"re.{method}", [], bare.args, env)


_PLACES = {
    "sub": 3,
    "split": 2,
    "findall": 1,
    "finditer.group": 2,
    "finditer.start": 1,
    "finditer.end": 1,
}
"""The number of arguments between the pattern and the flags."""
