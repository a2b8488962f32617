"""Turns branches into one statement, and joins what is known at their ends."""

from __future__ import annotations

import ast
from collections.abc import Callable

from featurekit.core.types import FLOAT, INT, NONE
from featurekit.language.ir import Assign, Const, Expr, If, Name, Statement
from featurekit.language.parse.context import Env, Parsing, join
from featurekit.language.parse.guesses import Mixed, may_be_float
from featurekit.language.parse.handlers import Flow, Made


def fork(
    p: Parsing,
    at: ast.AST,
    test: Expr,
    then: Callable[[], tuple[tuple[Statement, ...], Flow]],
    orelse: Callable[[], tuple[tuple[Statement, ...], Flow]],
) -> Made:
    """An `if` with two branches, and what is known after it."""
    then_made, then_flow = then()
    other_made, other_flow = orelse()
    made: list[Statement] = [If(test, then_made, other_made)]
    if then_flow.env is None or other_flow.env is None:
        return made, Flow(other_flow.env if then_flow.env is None else then_flow.env)
    return made, Flow(meet(p, at, then_flow.env, other_flow.env, "one path", "the other"))


def meet(p: Parsing, at: ast.AST, a: Env, b: Env, here: str, there: str) -> Env:
    """As `join`, with a CompileError for a name that has two types."""
    for name, local in a.items():
        other = b.get(name)
        if other is None or local.type.base == other.type.base:
            continue
        numbers = {local.type.base, other.type.base} == {INT, FLOAT}
        if numbers and _may_mix(p, name):
            raise Mixed(name)
        p.fail(
            at,
            f"{name} is {local.type} on {here} and {other.type} on {there}",
            "give it one type on both paths" + (", as in 0.0 for 0" if numbers else ""),
        )
    return join(a, b)


def _may_mix(p: Parsing, name: str) -> bool:
    """Whether a local that is an int at first and a float later may be a float throughout: its ints
    are constants, and nothing can tell them from floats."""
    if name in p.guesses.floats or not may_be_float(p.node, name, top=p.top):
        return False
    return all(v.type == FLOAT or isinstance(v, Const) for v in p.assigned.get(name, ()))


def assign(p: Parsing, node: ast.stmt, name: str, made: Expr, env: Env) -> Made:
    if made.type == NONE and name in env:
        made = Const(None, env[name].type.or_none())
    if made.type == NONE:
        p.fail(
            node,
            f"{name} would be None and nothing else",
            f"declare what it may become, as in {name}: float | None = None",
        )
    if name in p.guesses.floats and made.type == INT:
        if not isinstance(made, Const) or abs(made.value) > 2**53:
            what = f"{name} is an int here and a float elsewhere"
            p.fail(node, what, f"give it one type, as in {name} = float(…)")
        made = Const(float(made.value), FLOAT)
    p.assigned.setdefault(name, []).append(made)
    return [Assign(name, made)], Flow({**env, name: Name(name, made.type)})


def kept(p: Parsing, value: Expr, out: list[Statement]) -> Name | Const:
    """A name for `value`, which is evaluated here; a constant stays as it is."""
    if isinstance(value, Const):
        return value
    name = p.new_name(value.type)
    p.assigned.setdefault(name.name, []).append(value)
    out.append(Assign(name.name, value))
    return name
