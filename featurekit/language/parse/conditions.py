"""Truth, comparisons, and what a test lets us know of a name (R2)."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from featurekit.core.types import BOOL, DATE, DATETIME, FLOAT, INT, NONE, Type
from featurekit.language import ops
from featurekit.language.ir import Both, Call, Choose, Const, Either, Expr, IsNone, Lookup, Name
from featurekit.language.parse.operators import Operators
from featurekit.language.parse.places import Env, join, narrowed

_COMPARE = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}


class Conditions(Operators):
    """Tests, as mypy narrows them."""

    def condition(self, node: ast.expr, env: Env) -> tuple[Expr, Env, Env]:
        """A bool for a test by its truth, and what is known where it is true and where false.

        `env` itself gains what a walrus binds whatever the outcome.
        """
        match node:
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                made, if_true, if_false = self.condition(operand, env)
                return self.negate(made), if_false, if_true
            case ast.BoolOp(op=op, values=values):
                made, if_true, if_false = self.condition(values[0], env)
                tests = [made]
                for value in values[1:]:
                    if isinstance(op, ast.And):
                        right, if_true, right_false = self.condition(value, dict(if_true))
                        if_false = join(if_false, right_false)
                    else:
                        right, right_true, if_false = self.condition(value, dict(if_false))
                        if_true = join(if_true, right_true)
                    tests.append(right)
                made = balanced(Both if isinstance(op, ast.And) else Either, tests)
                return made, if_true, if_false
            case ast.Compare(
                left=left, ops=[ast.Is() | ast.IsNot() as op], comparators=[ast.Constant(None)]
            ) if (found := self.match_test(left, env)) is not None:
                made = found if isinstance(op, ast.IsNot) else self.negate(found)
                return made, dict(env), dict(env)
            case ast.Name() | ast.Call() if (found := self.match_test(node, env)) is not None:
                return found, dict(env), dict(env)
            case ast.Compare(
                left=left, ops=[ast.Is() | ast.IsNot() as op], comparators=[ast.Constant(None)]
            ):
                about = self.expression(left, env)
                if about.type == NONE:
                    self.fail(left, "None is always None", "test a parameter or a local")
                made = IsNone(about, BOOL)
                without = narrowed(env, name) if (name := tested(left, env)) else dict(env)
                if isinstance(op, ast.IsNot):
                    return self.negate(made), without, dict(env)
                return made, dict(env), without
            case ast.Call(func=ast.Name(id="bool"), args=[argument], keywords=[]) if (
                "bool" not in env and "bool" not in self.globals
            ):
                return self.condition(argument, env)
            case _:
                made = self.expression(node, env)
                if_true = narrowed(env, name) if (name := tested(node, env)) else dict(env)
                return self.truth(node, made), if_true, dict(env)

    def unconverted(self, node: ast.expr, env: Env, wanted: Type) -> Expr:
        """The value of `node` for a name of a declared type, of which no int becomes a float."""
        raise NotImplementedError

    def match_test(self, node: ast.expr, env: Env) -> Expr | None:
        """Whether there is a match, where `node` is one of a regular expression."""
        raise NotImplementedError

    def truth(self, node: ast.expr, value: Expr) -> Expr:
        """`bool(value)`, None being false."""
        if value.type == BOOL:
            return value
        if value.type == NONE:
            return Const(False, BOOL)
        if value.type.optional:
            return self.named(
                value,
                lambda name: Choose(
                    IsNone(name, BOOL),
                    Const(False, BOOL),
                    self.truth(node, _present(name)),
                    BOOL,
                ),
            )
        if value.type in (DATETIME, DATE):
            return self.negate(IsNone(value, BOOL))  # always true, if it can be computed
        found = ops.find("bool", (value.type,))
        if found is None:
            self.fail(node, f"{value.type} has no truth", "compare it with something")
        return Call(found[0].key, (value,), BOOL)

    def bool_op(self, node: ast.BoolOp, env: Env, expect: Type | None) -> Expr:
        """`a and b`, `a or b` as values: the operand that decides."""
        first, rest = node.values[0], node.values[1:]
        value = self.expression(first, env, expect)
        following: ast.expr = rest[0]
        if len(rest) > 1:
            following = ast.copy_location(ast.BoolOp(node.op, rest), rest[0])
        _, if_true, if_false = self.condition(first, dict(env))
        is_and = isinstance(node.op, ast.And)
        locals_ = dict(if_true if is_and else if_false)
        if value.type.item is not None:
            right = self.unconverted(following, locals_, value.type.base)
        else:
            right = self.expression(following, locals_, expect)
        if value.type == BOOL and right.type == BOOL:
            return (Both if is_and else Either)(value, right, BOOL)

        def decide(name: Name | Const) -> Expr:
            test = self.truth(first, name)
            if is_and:
                return self.choose(node, test, right, name, expect)
            return self.choose(node, test, _present(name), right, expect)

        return self.named(value, decide)

    # --- comparisons ------------------------------------------------------------------------------

    def compare(self, node: ast.Compare, env: Env) -> Expr:
        """A chain `a < b < c`: each operand once, later ones only while true."""
        if any(isinstance(op, (ast.Is, ast.IsNot)) for op in node.ops):
            match node.comparators:
                case [ast.Constant(value=None)]:
                    return self.condition(node, env)[0]
            self.fail(node, "`is` compares identities", "write ==, or is None")
        for op, operand in zip(node.ops, node.comparators, strict=True):
            if isinstance(operand, ast.Constant) and operand.value is None:
                equal = isinstance(op, ast.Eq)
                hint = f"write `is {'' if equal else 'not '}None`"
                self.fail(operand, "None is not compared by its value", hint)
        return self.chain(node, self.operand(node.left, env), node.left, 0, env)

    def operand(self, node: ast.expr, env: Env) -> Expr:
        """A side of a comparison, where a member of an enumeration is the str or int it is."""
        return self.expression(node, env)

    def chain(self, node: ast.Compare, left: Expr, left_node: ast.expr, i: int, env: Env) -> Expr:
        op, right_node = node.ops[i], node.comparators[i]
        last = i + 1 == len(node.ops)
        if isinstance(op, (ast.In, ast.NotIn)):
            if not last:
                self.fail(right_node, "a chain after `in`", "join two comparisons with and")
            made = self.contains(node, left, left_node, right_node, env)
            return self.negate(made) if isinstance(op, ast.NotIn) else made
        name = _COMPARE[type(op)]
        right = self.operand(right_node, env if i == 0 else dict(env))

        def both(right: Expr) -> Expr:
            made = self.call(node, name, [left_node, right_node], [left, right])
            if last:
                return made
            return Both(made, self.chain(node, right, right_node, i + 1, dict(env)), BOOL)

        return both(right) if last else self.named(right, both)

    def contains(
        self, node: ast.expr, left: Expr, left_node: ast.expr, right_node: ast.expr, env: Env
    ) -> Expr:
        """`left in right`."""
        self.no_none(left_node, left)
        if (limits := self.range_of(right_node, env)) is not None and left.type == INT:
            return self.named(left, lambda n: self.within(node, left_node, n, limits))
        held = self.static(right_node, env)
        if isinstance(held, (dict, set)) or type(held) in (list, tuple, frozenset):
            elements = held if isinstance(held, (list, tuple)) else sorted(held, key=repr)
            return self.among(node, left, left_node, [(right_node, e) for e in elements])
        if isinstance(right_node, (ast.Tuple, ast.List, ast.Set)):
            values: list[tuple[ast.expr, Expr]] = []
            for element in right_node.elts:
                value = self.operand(element, env)
                # Python evaluates all elements first, and finds a NaN by its identity.
                if not isinstance(value, Const) and (
                    value.type == FLOAT or not isinstance(value, Name)
                ):
                    self.fail(element, "an element that is computed", "write x == a or x == b")
                values.append((element, value))
            return self.one_of(node, left, left_node, values)
        right = self.expression(right_node, env)
        if left.type == FLOAT and right.type.item is not None:
            # The list's `in` finds a NaN by its identity, which no column keeps.
            self.fail(node, "`in` a list of floats", "write any(v == x for v in values)")
        return self.call(node, "in", [left_node, right_node], [left, right])

    def range_of(self, node: ast.expr, env: Env) -> range | None:
        """The range of constants that `node` writes, of step 1."""
        match node:
            case ast.Call(func=ast.Name(id="range"), args=[_] | [_, _] as given, keywords=[]) if (
                "range" not in env and "range" not in self.globals
            ):
                limits = [self.static(a, env) for a in given]
                return range(*limits) if all(type(v) is int for v in limits) else None
        return None

    def within(self, node: ast.expr, left_node: ast.expr, n: Name | Const, limits: range) -> Expr:
        """`n in range(start, stop)`."""
        ends = [self.constant(node, end) for end in (limits.start, limits.stop)]
        low, high = (
            self.call(node, name, [left_node, node], [n, end])
            for name, end in zip((">=", "<"), ends, strict=True)
        )
        return Both(low, high, BOOL)

    def among(
        self, node: ast.expr, left: Expr, left_node: ast.expr, elements: list[tuple[ast.expr, Any]]
    ) -> Expr:
        """`left in CONSTANTS`."""
        values: list[tuple[ast.expr, Expr]] = []
        for at, element in elements:
            if isinstance(element, (tuple, frozenset, list, dict)):
                self.fail(at, "a container inside a container", "use plain values")
            if element != element:
                self.fail(at, "a NaN among constants", "write math.isnan(x)")
            values.append((at, self.constant(at, element)))
        return self.one_of(node, left, left_node, values)

    def one_of(
        self, node: ast.expr, left: Expr, left_node: ast.expr, values: list[tuple[ast.expr, Expr]]
    ) -> Expr:
        if len(values) > 3 and all(isinstance(v, Const) and v.type == left.type for _, v in values):
            table = tuple((v.value, True) for _, v in values if isinstance(v, Const))
            return Lookup(left, table, Const(False, BOOL), BOOL)

        def tests(name: Expr) -> Expr:
            if not values:
                return Const(False, BOOL)
            return balanced(
                Either, [self.call(node, "==", [left_node, at], [name, v]) for at, v in values]
            )

        return self.named(left, tests)


def balanced(joined: type[Both] | type[Either], tests: Sequence[Expr]) -> Expr:
    """`a and b and c …`, or with or, no deeper than it must be: how they group changes nothing."""
    if len(tests) == 1:
        return tests[0]
    middle = len(tests) // 2
    left, right = balanced(joined, tests[:middle]), balanced(joined, tests[middle:])
    return joined(left, right, BOOL)


def tested(node: ast.expr, env: Env) -> str | None:
    """The local that a test is about: `x`, or `(x := …)`."""
    if isinstance(node, ast.NamedExpr):
        node = node.target
    return node.id if isinstance(node, ast.Name) and node.id in env else None


def _present(name: Name | Const) -> Name | Const:
    """The same value, known not to be None."""
    return Name(name.name, name.type.base) if isinstance(name, Name) else name
