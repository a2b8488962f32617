"""Turns try with its handlers into IR.

A handler sees of each local what holds wherever the body stopped. It catches what Python raises, by
its class. What is an error by a rule alone, as an int outside int64 is, stays one (R3).
"""

from __future__ import annotations

import ast
import builtins
from typing import Any

from featurekit.language.ir import CATCHABLE, Name, Statement, Try
from featurekit.language.parse.context import CLOCK, HELD, MATCH, PARTED, ZONED, Env, Parsing
from featurekit.language.parse.flow import meet
from featurekit.language.parse.handlers import STATEMENTS, Flow, Made, block, handles

_ALL = ("ArithmeticError", "AttributeError", "LookupError", "TypeError", "ValueError")
_NO_VALUES = (CLOCK, HELD, MATCH, PARTED, ZONED)


@handles(STATEMENTS, ast.Try)
def _try(p: Parsing, node: ast.Try, env: Env) -> Made:
    if node.finalbody:
        p.fail(node.finalbody[0], "finally", "write it after the try, and in each handler")
    if node.orelse:
        p.fail(node.orelse[0], "else after a try", "write it at the end of the body")
    known = {name: len(values) for name, values in p.assigned.items()}
    raised = len(p.raising)
    body, flow = block(p, node.body, env)
    if len(p.raising) > raised:
        p.fail(
            p.raising[raised],
            "a raise or assert inside a try",
            "return what its handler gives there",
        )
    after = flow.env
    caught: list[tuple[str, ...]] = []
    handlers: list[tuple[Statement, ...]] = []
    start = _interrupted(p, node, env, known)
    for handler in node.handlers:
        caught.append(_classes(p, handler))
        made, flow = block(p, handler.body, dict(start))
        handlers.append(made)
        if after is None or flow.env is None:
            after = flow.env if after is None else after
        else:
            after = meet(p, handler, after, flow.env, "the body", "the handler")
    return [Try(body, tuple(caught), tuple(handlers))], Flow(after)


def _interrupted(p: Parsing, node: ast.Try, env: Env, known: dict[str, int]) -> Env:
    """What is known of the locals wherever the body stopped."""
    out: Env = {}
    stored = {
        n.id
        for s in node.body
        for n in ast.walk(s)
        if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)
    }
    for name, local in env.items():
        if name not in stored:
            out[name] = local
            continue
        values = p.assigned.get(name, [])[known.get(name, 0) :]
        alike = values and all(v.type.base == local.type.base for v in values)
        if alike and isinstance(local, Name) and local.type not in _NO_VALUES:
            optional = any(v.type.optional for v in values)
            out[name] = Name(local.name, local.type.or_none()) if optional else local
    return out


def _classes(p: Parsing, handler: ast.ExceptHandler) -> tuple[str, ...]:
    """The names of what a handler catches, of errors that a transform can raise."""
    match handler.type:
        case None:
            return _ALL
        case ast.Tuple(elts=elements):
            given = elements
        case one:
            given = [one]
    found: list[str] = []
    for at in given:
        held = _class(p, at)
        if held in (Exception, BaseException):
            return _ALL
        found += [held.__name__] if held.__name__ in CATCHABLE else []
        # A class of a library, as statistics.StatisticsError, is caught by its own base.
        others = [_class(p, other) for other in given if other is not at]
        covered = any(issubclass(held, other) for other in others)
        if held.__name__ not in CATCHABLE and not covered and held is not ImportError:
            p.fail(
                at, f"a handler of {ast.unparse(at)}", "catch ValueError, or what it derives from"
            )
    return tuple(dict.fromkeys(found))


def _class(p: Parsing, at: ast.expr) -> Any:
    if isinstance(at, ast.Name) and p.is_builtin(at.id, {}):
        held = getattr(builtins, at.id, None)
    else:
        held = p.static(at, {})
    if not isinstance(held, type) or not issubclass(held, BaseException):
        p.fail(at, f"{ast.unparse(at)} is no class of errors", "write except ValueError:")
    return held
