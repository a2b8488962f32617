"""Turns a whole function into IR: its parameters, its body, and its result of one value or
several."""

from __future__ import annotations

import ast
import inspect
import typing
from typing import Any, NoReturn

from featurekit.core.types import NONE, Type, from_hint
from featurekit.errors import DefinitionError
from featurekit.language.ir import (
    Assign,
    Const,
    Evaluate,
    Expr,
    Function,
    Name,
    Param,
    Return,
    Statement,
)
from featurekit.language.parse.conditions import test_of
from featurekit.language.parse.context import Env, Parsing, typed_as_column
from featurekit.language.parse.flow import fork, kept
from featurekit.language.parse.guesses import settle
from featurekit.language.parse.handlers import (
    STATEMENTS,
    Flow,
    Made,
    block,
    expression,
    handles,
    unconverted,
)
from featurekit.language.parse.kinds import known
from featurekit.language.parse.operators import choose, coerce, comparand
from featurekit.language.parse.promises import UNSEEN
from featurekit.language.results import result_fields


def whole_function(p: Parsing) -> Function:
    """The function as IR. CompileError where it is outside the language."""
    if isinstance(p.node, ast.AsyncFunctionDef):
        p.fail(p.node, "an async function is no feature", "write a plain def")
    for inner in ast.walk(p.node):
        if isinstance(inner, (ast.Yield, ast.YieldFrom)):
            p.fail(inner, "a generator is no feature", "return a list")
    return settle(lambda guesses: _read(p.again(guesses)), p.guesses)


def _read(p: Parsing) -> Function:
    """The function as IR, with what is supposed of it."""
    hints = hints_of(p)
    for special, what in ((p.node.args.vararg, "*args"), (p.node.args.kwarg, "**kwargs")):
        if special is not None:
            p.fail(special, f"{what} names no column", "name each parameter")
    env: Env = {}
    params, defaults = _parameters(p, hints, env)
    read_result(p, hints)
    body, flow = block(p, p.node.body, env)
    if flow.env is not None:
        if not p.returns.optional:
            p.fail(
                p.node.body[-1],
                f"a path ends without return, which is None, not {p.returns}",
                f"return a value there, or declare -> {p.returns.or_none()}",
            )
        body = (*body, Return(Const(None, p.returns)))
    _keep_promises(p, {param.name: param.type for param in params})
    return Function(p.place.name, params, (*defaults, *body), p.returns)


def _parameters(
    p: Parsing, hints: dict[str, Any], env: Env
) -> tuple[tuple[Param, ...], tuple[Statement, ...]]:
    """The parameters, and an assignment for each default of a feature; `env` is given all of
    them."""
    params: list[Param] = []
    defaults: list[Statement] = []
    signature = inspect.signature(p.place.target).parameters
    arguments = p.node.args
    for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        name = argument.arg
        if name not in hints:
            p.fail(
                argument,
                f"the parameter {name} has no type",
                typed_as_column(name),
            )
        type_ = p.given.get(name) or hinted(p, argument, hints[name])
        if type_ == NONE:
            p.fail(argument, f"{name} is always None", "leave it out, or write T | None")
        default = signature[name].default
        if p.top and default is not inspect.Parameter.empty:
            # It is never read from data: a view refuses a default that has a column's name.
            value = p.constant(argument, default)
            made = coerce(p, argument, value, type_, f"the parameter {name}", convert=False)
            p.assigned[name] = [made]
            defaults.append(Assign(name, made))
        else:
            params.append(Param(name, type_))
        env[name] = Name(name, type_.plain)
    return tuple(params), tuple(defaults)


def too_deep(p: Parsing) -> NoReturn:
    """CompileError at the statement that nests deepest, in the text as it was written."""

    def depth(node: ast.AST) -> int:
        deepest, todo = 0, [(node, 0)]
        while todo:
            one, level = todo.pop()
            deepest = max(deepest, level)
            todo += [(c, level + 1 + i) for i, c in enumerate(ast.iter_child_nodes(one))]
        return deepest

    p.fail(
        max(p.node.body, key=depth),
        "this nests too deeply",
        "assign parts of it to names, return early, or look up a constant dict: TABLE[key]",
    )


def _keep_promises(p: Parsing, params: dict[str, Type]) -> None:
    for node in ast.walk(p.node):
        # A value from a loop or a walrus was not checked when the name was bound.
        bound = node.target if isinstance(node, (ast.For, ast.NamedExpr)) else None
        for name in ast.walk(bound) if bound is not None else ():
            if isinstance(name, ast.Name):
                p.assigned.setdefault(name.id, []).append(UNSEEN)
    for promise in p.promises:
        fault = promise.broken(params, p.assigned)
        if fault is not None:
            p.fail(promise.node, *fault)


def hints_of(p: Parsing) -> dict[str, Any]:
    """The annotations of the function, evaluated in the module where they are written."""
    try:
        return typing.get_type_hints(p.place.target)
    except Exception as error:  # an annotation may be any expression, and raise anything
        p.fail(p.node, f"an annotation cannot be read: {error}", "import or define it")


def hinted(p: Parsing, node: ast.AST, hint: Any) -> Type:
    """The type that an annotation declares."""
    try:
        return from_hint(hint)
    except DefinitionError as error:
        reason, _, advice = str(error).partition("; ")
        p.fail(node, reason, advice or "write float, int, str …")


def read_result(p: Parsing, hints: dict[str, Any]) -> None:
    """Read the declared result, or the chosen field of it, as the type that the function
    returns."""
    if "return" not in hints:
        p.fail(p.node, "the result has no type", "write -> float, or what it is")
    fields = result_fields(hints["return"])
    at = p.node.returns or p.node
    if fields is None:
        if p.chosen is not None:
            shown = f"{p.place.name}[{p.chosen!r}]"
            p.fail(at, f"{shown}: the result is one value", f"use {p.place.name} itself")
        p.returns = hinted(p, at, hints["return"])
        if p.returns == NONE:
            p.fail(p.node, "a feature that is always None", "declare the type it returns")
        return
    p.fields = {n: hinted(p, at, h) for n, h in fields.items()}
    if p.chosen is None:
        names = ", ".join(f'{p.place.name}["{n}"]' for n in p.fields)
        p.fail(
            at,
            f"{p.place.name} gives several values, and one is wanted here",
            f"name one: {names}" if p.top else "unpack it, as in a, b = f(x)",
        )
    if p.chosen not in p.fields:
        p.fail(at, f"the result has no {p.chosen}", f"it has {', '.join(p.fields)}")
    p.returns = p.fields[p.chosen]


# --- results --------------------------------------------------------------------------------------


@handles(STATEMENTS, ast.Return)
def _return(p: Parsing, statement: ast.Return, env: Env) -> Made:
    node = statement.value
    if node is None:
        node = ast.copy_location(ast.Constant(None), statement)
    if p.fields is not None:
        return _returned_fields(p, node, env)
    made = _returned_value(p, node, env, p.returns)
    return [Return(made)], Flow(None)


def _returned_value(p: Parsing, node: ast.expr, env: Env, wanted: Type) -> Expr:
    expect = wanted if p.top or wanted.item is not None else None
    if isinstance(node, ast.IfExp):
        condition, if_true, if_false = test_of(p, node.test, env)
        if (answer := known(condition)) is not None:
            taken = (node.body, if_true) if answer else (node.orelse, if_false)
            return _returned_value(p, *taken, wanted)
        then = _returned_value(p, node.body, if_true, wanted)
        other = _returned_value(p, node.orelse, if_false, wanted)
        p.forget(node, env)
        made = choose(p, node, condition, then, other, expect)
    elif isinstance(node, ast.Constant) and node.value is None:
        made = Const(None, NONE)
    elif isinstance(node, (ast.Attribute, ast.Name)):
        made = comparand(p, node, env)
    elif p.top:
        made = expression(p, node, env, wanted)
    else:
        made = unconverted(p, node, env, wanted)
    if isinstance(made, Const) and made.type != wanted:
        made = p.constant(node, made.value, expect)
    return coerce(p, node, made, wanted, "the declared result", convert=p.top)


def _returned_fields(p: Parsing, node: ast.expr, env: Env) -> Made:
    """A return of the wanted field; the others are evaluated for their errors (R3)."""
    assert p.fields is not None
    assert p.chosen is not None
    match node:
        case ast.IfExp(test=test, body=body, orelse=orelse):
            condition, if_true, if_false = test_of(p, test, env)

            def one(value: ast.expr, locals_: Env) -> tuple[tuple[Statement, ...], Flow]:
                made, flow = _returned_fields(p, value, locals_)
                return tuple(made), flow

            return fork(
                p, test, condition, lambda: one(body, if_true), lambda: one(orelse, if_false)
            )
        case ast.Constant(value=None) if all(t.optional for t in p.fields.values()):
            return [Return(Const(None, p.returns))], Flow(None)
        case ast.Call(func=ast.Name() | ast.Attribute() as maker) if isinstance(
            p.static(maker, env), type
        ):
            nodes = _field_nodes(p, node)
        case ast.Dict(keys=keys, values=values):
            nodes = {}
            for key, value in zip(keys, values, strict=True):
                if not isinstance(key, ast.Constant):
                    p.fail(key or node, "a field's name is a literal", 'write {"a": …}')
                nodes[str(key.value)] = value
        case ast.Tuple(elts=elements) if "0" in p.fields:
            nodes = {str(i): e for i, e in enumerate(elements)}
        case _:
            p.fail(
                node,
                "several values are returned together",
                f"write return Result({', '.join(f'{n}=…' for n in p.fields)}) right here",
            )
    if nodes.keys() != p.fields.keys():
        missing = ", ".join(sorted(p.fields.keys() ^ nodes.keys()))
        p.fail(node, f"the fields differ in {missing}", f"give {', '.join(p.fields)}")
    out: list[Statement] = []
    chosen: Expr | None = None
    for name, value_node in nodes.items():
        made = _returned_value(p, value_node, env, p.fields[name])
        if name == p.chosen:
            chosen = kept(p, made, out)
        elif not isinstance(made, (Const, Name)):
            out.append(Evaluate(made))
    assert chosen is not None
    return [*out, Return(chosen)], Flow(None)


def _field_nodes(p: Parsing, node: ast.Call) -> dict[str, ast.expr]:
    assert p.fields is not None
    names = list(p.fields)
    if len(node.args) > len(names):
        p.fail(node, f"{len(node.args)} values for {len(names)} fields", "name each")
    nodes = dict(zip(names, node.args, strict=False))
    for keyword in node.keywords:
        if keyword.arg is None or keyword.arg in nodes:
            p.fail(keyword, "a field twice, or **", "name each field once")
        nodes[keyword.arg] = keyword.value
    return nodes
