"""Turns tests into bools, and into what they tell about a name (R2), as mypy narrows it."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from featurekit.core.types import BOOL, DATE, DATETIME, FLOAT, INT, NONE, STR, Type
from featurekit.language import ops
from featurekit.language.ir import (
    Bind,
    Both,
    Call,
    Choose,
    Const,
    Either,
    Expr,
    IsNone,
    Lookup,
    Name,
)
from featurekit.language.parse.clocks import compared_clocks
from featurekit.language.parse.context import MATCH, Env, Parsing, join, narrowed
from featurekit.language.parse.handlers import (
    BUILTINS,
    EXPRESSIONS,
    TESTS,
    expression,
    handles,
    unconverted,
)
from featurekit.language.parse.kinds import ALWAYS, NEVER, kind_test, known, turned
from featurekit.language.parse.operators import call, choose, comparand, named, negate, no_none
from featurekit.language.parse.patterns import match_of, match_test

_COMPARE = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}

Tested = tuple[Expr, Env, Env]
"""A bool, the locals where it is true, and those where it is false."""


def test_of(p: Parsing, node: ast.expr, env: Env) -> Tested:
    """A bool for a test by its truth, the locals where it is true, and the locals where it is
    false.

    `env` itself is given what a walrus binds in both cases.
    """
    handler = TESTS.get(type(node))
    if handler is not None and (found := handler(p, node, env)) is not None:
        return found
    made = expression(p, node, env)
    if_true = narrowed(env, name) if (name := _tested(node, env)) else dict(env)
    return truth(p, node, made), if_true, dict(env)


@handles(TESTS, ast.UnaryOp)
def _not(p: Parsing, node: ast.UnaryOp, env: Env) -> Tested | None:
    if not isinstance(node.op, ast.Not):
        return None
    return turned(test_of(p, node.operand, env))


@handles(TESTS, ast.BoolOp)
def _joined(p: Parsing, node: ast.BoolOp, env: Env) -> Tested:
    decisive = NEVER if isinstance(node.op, ast.And) else ALWAYS
    made, if_true, if_false = test_of(p, node.values[0], env)
    tests = [made]
    for value in node.values[1:]:
        if tests[-1] is decisive:
            break  # no row gets further
        if isinstance(node.op, ast.And):
            right, if_true, right_false = test_of(p, value, dict(if_true))
            if_false = join(if_false, right_false)
        else:
            right, right_true, if_false = test_of(p, value, dict(if_false))
            if_true = join(if_true, right_true)
        tests.append(right)
    asked = [t for t in tests if known(t) is None]
    if tests[-1] is decisive and not asked:
        return decisive, if_true, if_false
    asked += [decisive] if tests[-1] is decisive else []
    if not asked:
        return (ALWAYS if decisive is NEVER else NEVER), if_true, if_false
    return balanced(Both if isinstance(node.op, ast.And) else Either, asked), if_true, if_false


@handles(TESTS, ast.Compare)
def _is_none(p: Parsing, node: ast.Compare, env: Env) -> Tested | None:
    """`x is None` and `x is not None`, also of a match, and `type(x) is str`."""
    if (found := kind_test(p, node, env)) is not None:
        return found
    match node:
        case ast.Compare(left=left, ops=[ast.Is() | ast.IsNot() as op], comparators=[to]) if (
            isinstance(to, ast.Constant) and to.value is None
        ):
            is_not = isinstance(op, ast.IsNot)
        case _:
            return None
    if (tested := match_test(p, left, env)) is not None:
        return tested if is_not else negate(tested), dict(env), dict(env)
    about = expression(p, left, env)
    if about.type == NONE:
        p.fail(left, "None is always None", "test a parameter or a local")
    made = IsNone(about, BOOL)
    without = narrowed(env, name) if (name := _tested(left, env)) else dict(env)
    if is_not:
        return negate(made), without, dict(env)
    return made, dict(env), without


@handles(TESTS, ast.NamedExpr)
def _found(p: Parsing, node: ast.NamedExpr, env: Env) -> Tested | None:
    """`if m := re.match(…)`: the text is bound, and the match is a name for it."""
    if p.in_comprehension or (match := match_of(p, node.value, env)) is None:
        return None
    at = f".{node.lineno}_{node.col_offset}"
    text = Bind(f"{at}_text", match.text, match.text.type)
    local = Name(f"{at}_match", MATCH)
    p.matches[local.name] = replace(match, text=Name(text.name, text.type))
    env[node.target.id] = local
    test = call(p, node, f"re.{match.method}", [node, node], [Const(match.pattern, STR), text])
    return test, dict(env), dict(env)


@handles(TESTS, ast.Name)
def _matched(p: Parsing, node: ast.expr, env: Env) -> Tested | None:
    found = match_test(p, node, env)
    return None if found is None else (found, dict(env), dict(env))


@handles(TESTS, ast.Call)
def _bool(p: Parsing, node: ast.Call, env: Env) -> Tested | None:
    """`bool(…)`, also of a match: whether there is one."""
    if (matched := _matched(p, node, env)) is not None:
        return matched
    if (found := kind_test(p, node, env)) is not None:
        return found
    match node:
        case ast.Call(func=ast.Name(id="bool"), args=[argument], keywords=[]) if p.is_builtin(
            "bool", env
        ):
            return test_of(p, argument, env)
    return None


@handles(BUILTINS, "isinstance")
def _instance(p: Parsing, node: ast.Call, env: Env, expect: Type | None) -> Expr | None:
    found = kind_test(p, node, env)
    return None if found is None else found[0]


@handles(BUILTINS, "bool")
def _truth(p: Parsing, node: ast.Call, env: Env, expect: Type | None) -> Expr | None:
    if len(node.args) != 1 or node.keywords:
        return None
    made = test_of(p, node.args[0], env)[0]
    p.forget(node, env)
    return made


def truth(p: Parsing, node: ast.expr, value: Expr) -> Expr:
    """`bool(value)`, where None is false."""
    if value.type == BOOL:
        return value
    if value.type == NONE:
        return Const(False, BOOL)
    if value.type.optional:
        return named(
            p,
            value,
            lambda name: Choose(
                IsNone(name, BOOL),
                Const(False, BOOL),
                truth(p, node, _present(name)),
                BOOL,
            ),
        )
    if value.type in (DATETIME, DATE):
        return negate(IsNone(value, BOOL))  # always true, unless it errs
    found = ops.find("bool", (value.type,))
    if found is None:
        p.fail(node, f"{value.type} has no truth", "compare it with something")
    return Call(found[0].key, (value,), BOOL)


@handles(EXPRESSIONS, ast.BoolOp)
def _bool_op(p: Parsing, node: ast.BoolOp, env: Env, expect: Type | None) -> Expr:
    """`a and b`, `a or b`, as values."""
    made = _decided(p, node, env, expect)
    p.forget(node, env)
    return made


def _decided(p: Parsing, node: ast.BoolOp, env: Env, expect: Type | None) -> Expr:
    """`a and b`, `a or b`, as the operand that decides."""
    first, rest = node.values[0], node.values[1:]
    value = expression(p, first, env, expect)
    following: ast.expr = rest[0]
    if len(rest) > 1:
        following = ast.copy_location(ast.BoolOp(node.op, rest), rest[0])
    _, if_true, if_false = test_of(p, first, dict(env))
    is_and = isinstance(node.op, ast.And)
    locals_ = dict(if_true if is_and else if_false)
    if value.type.item is not None:
        right = unconverted(p, following, locals_, value.type.base)
    else:
        right = expression(p, following, locals_, expect)
    if value.type == BOOL and right.type == BOOL:
        return (Both if is_and else Either)(value, right, BOOL)

    def decide(name: Name | Const) -> Expr:
        test = truth(p, first, name)
        if is_and:
            return choose(p, node, test, right, name, expect)
        return choose(p, node, test, _present(name), right, expect)

    return named(p, value, decide)


# --- comparisons ----------------------------------------------------------------------------------


@handles(EXPRESSIONS, ast.Compare)
def _compare(p: Parsing, node: ast.Compare, env: Env, expect: Type | None) -> Expr:
    made = _compared(p, node, env)
    p.forget(node, env)
    return made


def _compared(p: Parsing, node: ast.Compare, env: Env) -> Expr:
    """A chain `a < b < c`: each operand is evaluated once, and a later one only while all is
    true."""
    if any(isinstance(op, (ast.Is, ast.IsNot)) for op in node.ops):
        match node.comparators:
            case [ast.Constant(value=None)]:
                return test_of(p, node, env)[0]
        p.fail(node, "`is` compares identities", "write ==, or is None")
    for op, operand in zip(node.ops, node.comparators, strict=True):
        if isinstance(operand, ast.Constant) and operand.value is None:
            equal = isinstance(op, ast.Eq)
            hint = f"write `is {'' if equal else 'not '}None`"
            p.fail(operand, "None is not compared by its value", hint)
    if (clocks := compared_clocks(p, node, env)) is not None:
        sides = [node.left, *node.comparators]
        return call(p, node, _COMPARE[type(node.ops[0])], sides, clocks)
    return _chain(p, node, comparand(p, node.left, env), node.left, 0, env)


def _chain(
    p: Parsing, node: ast.Compare, left: Expr, left_node: ast.expr, i: int, env: Env
) -> Expr:
    op, right_node = node.ops[i], node.comparators[i]
    last = i + 1 == len(node.ops)
    if isinstance(op, (ast.In, ast.NotIn)):
        if not last:
            p.fail(right_node, "a chain after `in`", "join two comparisons with and")
        made = _contains(p, node, left, left_node, right_node, env)
        return negate(made) if isinstance(op, ast.NotIn) else made
    name = _COMPARE[type(op)]
    right = comparand(p, right_node, env if i == 0 else dict(env))

    def both(right: Expr) -> Expr:
        made = call(p, node, name, [left_node, right_node], [left, right])
        if last:
            return made
        return Both(made, _chain(p, node, right, right_node, i + 1, dict(env)), BOOL)

    return both(right) if last else named(p, right, both)


def _contains(
    p: Parsing, node: ast.expr, left: Expr, left_node: ast.expr, right_node: ast.expr, env: Env
) -> Expr:
    """`left in right`."""
    no_none(p, left_node, left)
    if (limits := _range_of(p, right_node, env)) is not None and left.type == INT:
        return named(p, left, lambda n: _within(p, node, left_node, n, limits))
    held = p.static(right_node, env)
    if isinstance(right_node, ast.Set) and isinstance(held, frozenset):
        held = [p.static(e, env) for e in right_node.elts]  # in the order of the text
    if isinstance(held, (dict, set)) or type(held) in (list, tuple, frozenset):
        elements = held if isinstance(held, (list, tuple)) else sorted(held, key=repr)
        return _among(p, node, left, left_node, [(right_node, e) for e in elements])
    if isinstance(right_node, (ast.Tuple, ast.List, ast.Set)):
        values: list[tuple[ast.expr, Expr]] = []
        for element in right_node.elts:
            value = comparand(p, element, env)
            # Python evaluates all elements first, and finds a NaN by identity.
            if not isinstance(value, Const) and (
                value.type == FLOAT or not isinstance(value, Name)
            ):
                p.fail(element, "an element that is computed", "write x == a or x == b")
            values.append((element, value))
        return _one_of(p, node, left, left_node, values)
    right = expression(p, right_node, env)
    if left.type == FLOAT and right.type.item is not None:
        # `in` a list finds a NaN by identity, which no column keeps.
        p.fail(node, "`in` a list of floats", "write any(v == x for v in values)")
    return call(p, node, "in", [left_node, right_node], [left, right])


def _range_of(p: Parsing, node: ast.expr, env: Env) -> range | None:
    """The range of constants, with step 1, that `node` writes; None for anything else."""
    match node:
        case ast.Call(func=ast.Name(id="range"), args=[_] | [_, _] as given, keywords=[]) if (
            p.is_builtin("range", env)
        ):
            limits = [p.static(a, env) for a in given]
            return range(*limits) if all(type(v) is int for v in limits) else None
    return None


def _within(
    p: Parsing, node: ast.expr, left_node: ast.expr, n: Name | Const, limits: range
) -> Expr:
    """`n in range(start, stop)`."""
    ends = [p.constant(node, end) for end in (limits.start, limits.stop)]
    low, high = (
        call(p, node, name, [left_node, node], [n, end])
        for name, end in zip((">=", "<"), ends, strict=True)
    )
    return Both(low, high, BOOL)


def _among(
    p: Parsing,
    node: ast.expr,
    left: Expr,
    left_node: ast.expr,
    elements: list[tuple[ast.expr, Any]],
) -> Expr:
    """`left in CONSTANTS`."""
    values: list[tuple[ast.expr, Expr]] = []
    for at, element in elements:
        if isinstance(element, (tuple, frozenset, list, dict)):
            p.fail(at, "a container inside a container", "use plain values")
        if element != element:
            p.fail(at, "a NaN among constants", "write math.isnan(x)")
        values.append((at, p.constant(at, element)))
    return _one_of(p, node, left, left_node, values)


def _one_of(
    p: Parsing, node: ast.expr, left: Expr, left_node: ast.expr, values: list[tuple[ast.expr, Expr]]
) -> Expr:
    if len(values) > 3 and all(isinstance(v, Const) and v.type == left.type for _, v in values):
        table = tuple((v.value, True) for _, v in values if isinstance(v, Const))
        return Lookup(left, table, Const(False, BOOL), BOOL)

    def tests(name: Expr) -> Expr:
        if not values:
            return Const(False, BOOL)
        return balanced(
            Either, [call(p, node, "==", [left_node, at], [name, v]) for at, v in values]
        )

    return named(p, left, tests)


def balanced(joined: type[Both] | type[Either], tests: Sequence[Expr]) -> Expr:
    """`a and b and c …`, or the same with or, nested no deeper than it has to be. The grouping does
    not change the result."""
    if len(tests) == 1:
        return tests[0]
    middle = len(tests) // 2
    left, right = balanced(joined, tests[:middle]), balanced(joined, tests[middle:])
    return joined(left, right, BOOL)


def _tested(node: ast.expr, env: Env) -> str | None:
    """The local that a test is about: `x`, or `(x := …)`; None for another test."""
    if isinstance(node, ast.NamedExpr):
        node = node.target
    return node.id if isinstance(node, ast.Name) and node.id in env else None


def _present(name: Name | Const) -> Name | Const:
    """The same value, with a type that excludes None."""
    return Name(name.name, name.type.base) if isinstance(name, Name) else name
