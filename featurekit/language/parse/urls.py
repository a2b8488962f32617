"""Turns the parts of a URL, as `urlparse(url).netloc`, into IR.

What `urlparse` gives is no value, but its parts can be read.
"""

from __future__ import annotations

import ast
import urllib.parse
from typing import NoReturn

from featurekit.core.types import NONE, STR
from featurekit.language import ops
from featurekit.language.ir import Const, Evaluate, Expr, Name, Statement
from featurekit.language.parse.context import Env, Parsing
from featurekit.language.parse.handlers import expression
from featurekit.language.parse.operators import call, choose, named, no_none

_PARTS = "urllib.parse.urlparse."


def url_of(p: Parsing, node: ast.AST, env: Env) -> Expr | None:
    """The text of the URL that `node` has taken apart, as a call or as a name; None for anything
    else."""
    match node:
        case ast.Name(id=name) if isinstance(local := env.get(name), Name):
            return p.urls.get(local.name)
        case ast.Call(func=ast.Name() | ast.Attribute() as function, args=[given], keywords=[]) if (
            p.static(function, env) is urllib.parse.urlparse
        ):
            text = expression(p, given, env)
            no_none(p, given, text)
            if text.type != STR:
                p.fail(given, f"a URL of {text.type}", "pass a str")
            return text
    return None


def in_parts(p: Parsing, node: ast.expr, text: Expr) -> Statement:
    """A check that the text is a URL, since `urlparse` itself raises where it is none."""
    return Evaluate(call(p, node, f"{_PARTS}netloc", [node], [text]))


def part_of(p: Parsing, node: ast.Attribute, text: Expr) -> Expr:
    """`urlparse(url).netloc` and the like; `hostname`, `port`, `username` and `password` may be
    None."""
    name = f"{_PARTS}{node.attr}"
    if name not in ops.BY_NAME:
        known = [n.removeprefix(_PARTS) for n in ops.BY_NAME if n.startswith(_PARTS)]
        shown = ", ".join(n for n in known if not n.endswith("?"))
        p.fail(node, f"{node.attr} of a URL", f"it has {shown}")
    if f"{name}?" not in ops.BY_NAME:
        return call(p, node, name, [node.value], [text])

    def chosen(url: Name | Const) -> Expr:
        there = call(p, node, f"{name}?", [node.value], [url])
        part = call(p, node, name, [node.value], [url])
        return choose(p, node, there, part, Const(None, NONE), None)

    return named(p, text, chosen)


def no_url(p: Parsing, node: ast.AST) -> NoReturn:
    p.fail(node, "a URL in parts is no value", "take one of its parts, as in .netloc")
