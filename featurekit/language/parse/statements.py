"""Statements: where control goes, and what is known of each local there."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from featurekit.core.types import BOOL, FLOAT, INT, NONE, Type, from_hint
from featurekit.errors import DefinitionError
from featurekit.language.ir import (
    Assign,
    Both,
    Break,
    Choose,
    Const,
    Continue,
    Either,
    Evaluate,
    Expr,
    Fail,
    For,
    If,
    IsNone,
    ListOf,
    Name,
    Rows,
    Statement,
)
from featurekit.language.parse.expressions import Expressions
from featurekit.language.parse.growing import grown, why_not
from featurekit.language.parse.instants import ZONED
from featurekit.language.parse.places import MISSING, Env, join, narrowed


@dataclass(slots=True)
class Flow:
    """Where control may be after statements: `env` is None where it never comes."""

    env: Env | None


@dataclass(slots=True)
class _Exits:
    """The locals at each break and continue of a loop's body."""

    breaks: list[Env] = field(default_factory=list)
    continues: list[Env] = field(default_factory=list)


Made = tuple[list[Statement], Flow]


class Statements(Expressions):
    """Blocks, from top to bottom."""

    exits: list[_Exits]
    assigned: dict[str, list[Expr]]

    def block(self, statements: list[ast.stmt], env: Env) -> tuple[tuple[Statement, ...], Flow]:
        out: list[Statement] = []
        flow = Flow(dict(env))
        for statement in statements:
            if flow.env is None:
                break  # Python never reaches it
            out += _settled(flow.env)
            made, flow = self.statement(statement, flow.env)
            out += made
        if flow.env is not None:
            out += _settled(flow.env)
        return tuple(out), flow

    def statement(self, node: ast.stmt, env: Env) -> Made:
        match node:
            case ast.Return(value=value):
                if value is None:
                    value = ast.copy_location(ast.Constant(None), node)
                return self.returned(value, env)
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if (
                match := self.match_of(value, env)
            ) is not None:
                out: list[Statement] = []
                text = self.kept(match.text, out)
                local = self.new_name(match.type)  # stands for the match, and is never read
                self.matches[local.name] = replace(match, text=text)
                return out, Flow({**env, name: local})
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if (
                zoned := self.zoned_of(value, env)
            ) is not None:
                out = []
                instant = self.kept(zoned.instant, out)
                out.append(self.in_years(value, instant, zoned.zone))
                local = self.new_name(ZONED)
                self.zoned[local.name] = replace(zoned, instant=instant)
                return out, Flow({**env, name: local})
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                return self.assign(node, name, self.expression(value, env), env)
            case ast.Assign(
                targets=[ast.Tuple(elts=targets) | ast.List(elts=targets)], value=value
            ):
                return self.unpack(node, targets, value, env)
            case ast.Assign(targets=[_, _, *_]):
                self.fail(node, "two targets in one assignment", "write two assignments")
            case ast.AnnAssign(target=ast.Name(id=name), value=value, annotation=annotation):
                if value is None:
                    self.fail(node, "a declaration without a value", "assign a value here")
                type_ = self.hinted(annotation, self.annotation(annotation))
                made = self.unconverted(value, env, type_)
                what = f"the declared type of {name}"
                made = self.coerce(value, made, type_, what, convert=False)
                return self.assign(node, name, made, env)
            case ast.Expr() | ast.AugAssign() if (more := self.grown(node, env)) is not None:
                return self.grow(node, *more, env)
            case ast.AugAssign(target=ast.Name(id=name) as target, op=op, value=value):
                read = ast.copy_location(ast.Name(name, ast.Load()), target)
                whole = ast.copy_location(ast.BinOp(read, op, value), node)
                if name in env and env[name].type.item is not None:
                    self.fail(node, f"{name} {_sign(op)}= changes a list", "assign a new list")
                return self.assign(node, name, self.expression(whole, env), env)
            case ast.Assign() | ast.AugAssign() | ast.AnnAssign():
                self.fail(node, "only a name can be assigned", "write name = value")
            case ast.If(test=test, body=body, orelse=orelse):
                condition, if_true, if_false = self.condition(test, env)
                return self.fork(
                    test,
                    condition,
                    lambda: self.block(body, if_true),
                    lambda: self.block(orelse, if_false),
                )
            case ast.Match(subject=subject, cases=cases):
                return self.match(subject, cases, env)
            case ast.For():
                return self.for_loop(node, env)
            case ast.Break() | ast.Continue():
                ends = isinstance(node, ast.Break)
                (self.exits[-1].breaks if ends else self.exits[-1].continues).append(dict(env))
                return [Break() if ends else Continue()], Flow(None)
            case ast.Assert(test=test):
                condition, if_true, _ = self.condition(test, env)
                return [If(condition, (), (Fail(),))], Flow(if_true)
            case ast.Raise():
                return [Fail()], Flow(None)  # whatever it raises, the call errs (R3)
            case ast.Expr(value=ast.Constant(value=str())) | ast.Pass():
                return [], Flow(env)
            case ast.Expr(value=value):
                return [Evaluate(self.expression(value, env))], Flow(env)
            case _:
                what, hint = _REFUSED.get(
                    type(node).__name__,
                    (type(node).__name__.lower(), "use assignments, if, for, match and return"),
                )
                self.fail(node, f"{what} is not in the language of features", hint)

    def grown(self, node: ast.stmt, env: Env) -> tuple[str, ast.expr] | None:
        """The local list that a statement adds to, and what it adds."""
        more = grown(node)
        if more is None or more[0] not in env or env[more[0]].type.name != "list":
            return None
        return more

    def grow(self, node: ast.stmt, name: str, more: ast.expr, env: Env) -> Made:
        """`name.append(x)` as `name = name + [x]`."""
        params = {a.arg for a in ast.walk(self.node.args) if isinstance(a, ast.arg)}
        reason = why_not(self.node, name, params)
        if reason is not None:
            self.fail(node, *reason)
        held = env[name]
        at = ast.copy_location(ast.Name(name, ast.Load()), node)
        added = self.unconverted_list(more, env, held.type)
        if added.type.base != held.type.base:
            item, wanted = added.type.item, held.type.item
            hint = f"add {wanted}, as in {wanted}(…), or begin with {name}: {added.type} = []"
            self.fail(more, f"{name} is {held.type}, and this adds {item}", hint)
        made = self.call(at, "+", [at, more], [held, added])
        return self.assign(node, name, made, env)

    def hinted(self, node: ast.AST, hint: Any) -> Type:
        try:
            return from_hint(hint)
        except DefinitionError as error:
            reason, _, advice = str(error).partition("; ")
            self.fail(node, reason, advice or "write float, int, str …")

    def annotation(self, node: ast.expr) -> Any:
        try:
            return eval(compile(ast.Expression(node), self.filename, "eval"), self.globals)
        except (NameError, TypeError, AttributeError) as error:
            self.fail(node, f"the annotation cannot be read: {error}", "write float, int, str …")

    def returned(self, node: ast.expr, env: Env) -> Made:
        raise NotImplementedError

    # --- assignment -------------------------------------------------------------------------------

    def assign(self, node: ast.stmt, name: str, made: Expr, env: Env) -> Made:
        if made.type == NONE and name in env:
            made = Const(None, env[name].type.or_none())
        if made.type == NONE:
            self.fail(
                node,
                f"{name} would be None and nothing else",
                f"declare what it may become, as in {name}: float | None = None",
            )
        self.assigned.setdefault(name, []).append(made)
        return [Assign(name, made)], Flow({**env, name: Name(name, made.type)})

    def kept(self, value: Expr, out: list[Statement]) -> Name | Const:
        """`value` under a name, evaluated here."""
        if isinstance(value, Const):
            return value
        name = self.new_name(value.type)
        self.assigned.setdefault(name.name, []).append(value)
        out.append(Assign(name.name, value))
        return name

    def unpack(self, node: ast.stmt, targets: list[ast.expr], value: ast.expr, env: Env) -> Made:
        """`a, b = x, y`, and of divmod, of a helper that returns several, or of a list."""
        names = []
        for target in targets:
            if not isinstance(target, ast.Name):
                starred = isinstance(target, ast.Starred)
                hint = "take values[0] and values[1:]" if starred else "write a, b = …"
                self.fail(target, "only plain names are unpacked into", hint)
            names.append(target.id)
        out: list[Statement] = []
        values = self.parts(value, len(names), env, out)
        if len(values) != len(names):
            self.fail(node, f"{len(names)} names for {len(values)} values", "name each one")
        held = [self.kept(v, out) for v in values]
        for name, part in zip(names, held, strict=True):
            made, flow = self.assign(node, name, part, env)
            out += made
            assert flow.env is not None
            env = flow.env
        return out, Flow(env)

    def parts(self, node: ast.expr, count: int, env: Env, out: list[Statement]) -> list[Expr]:
        """The values that unpacking `node` gives; what they share is evaluated in `out`."""
        match node:
            case ast.Tuple(elts=elements) | ast.List(elts=elements):
                return [self.expression(e, env) for e in elements]
            case ast.Call(func=ast.Name(id="divmod"), args=[a, b], keywords=[]) if self.is_builtin(
                "divmod", env
            ):
                left = self.kept(self.expression(a, env), out)
                right = self.kept(self.expression(b, env), out)
                return [self.call(node, op, [a, b], [left, right]) for op in ("//", "%")]
            case ast.Call() if (fields := self.several(node, env)) is not None:
                return self.fields_of(node, fields, env, out)
        held = self.static(node, env)
        if isinstance(held, tuple):
            return [self.constant(node, h) for h in held]
        node = self.spelled_out(node, env)
        generated = isinstance(node, ast.GeneratorExp)
        made = self.sequence(node, env) if generated else self.expression(node, env)
        if isinstance(made, ListOf) and len(made.items) == count:
            return list(made.items)
        whole = self.kept(made, out)
        self.no_none(node, whole)
        if whole.type.name != "list":
            self.fail(node, f"{whole.type} is not unpacked", "unpack a tuple or a list")
        length = self.call(node, "len", [node], [whole])
        fits = self.call(node, "==", [node, node], [length, Const(count, INT)])
        out.append(If(fits, (), (Fail(),)))
        return [
            self.call(node, "getitem", [node, node], [whole, Const(i, INT)]) for i in range(count)
        ]

    def several(self, node: ast.Call, env: Env) -> Any:
        """The function that `node` calls, if it returns several values."""
        raise NotImplementedError

    def fields_of(self, node: ast.Call, called: Any, env: Env, out: list[Statement]) -> list[Expr]:
        raise NotImplementedError

    # --- branches ---------------------------------------------------------------------------------

    def fork(
        self,
        at: ast.AST,
        test: Expr,
        then: Callable[[], tuple[tuple[Statement, ...], Flow]],
        orelse: Callable[[], tuple[tuple[Statement, ...], Flow]],
    ) -> Made:
        """Two ways, and what holds where they meet."""
        then_made, then_flow = then()
        other_made, other_flow = orelse()
        made: list[Statement] = [If(test, then_made, other_made)]
        if then_flow.env is None or other_flow.env is None:
            return made, Flow(other_flow.env if then_flow.env is None else then_flow.env)
        return made, Flow(self.meet(at, then_flow.env, other_flow.env, "one path", "the other"))

    def meet(self, at: ast.AST, a: Env, b: Env, here: str, there: str) -> Env:
        """`join`, refusing a name with two types."""
        for name, local in a.items():
            other = b.get(name)
            if other is None or local.type.base == other.type.base:
                continue
            numbers = {local.type.base, other.type.base} == {INT, FLOAT}
            self.fail(
                at,
                f"{name} is {local.type} on {here} and {other.type} on {there}",
                "give it one type on both paths" + (", as in 0.0 for 0" if numbers else ""),
            )
        return join(a, b)

    def match(self, node: ast.expr, cases: list[ast.match_case], env: Env) -> Made:
        """`match` on literals: tests in turn."""
        out: list[Statement] = []
        subject = self.operand(node, env)
        if subject.type == NONE:
            self.fail(node, "None is always None", "match a parameter or a local")
        name: str | None = None
        if isinstance(node, ast.Name) and isinstance(subject, Name) and env.get(node.id) == subject:
            name = node.id
        else:
            subject = self.kept(subject, out)
            if isinstance(subject, Name):
                name = subject.name  # a name that no source has: narrowing still goes by it
                env = {**env, name: subject}
        if not isinstance(subject, Name):
            self.fail(node, "a constant is matched", "write the branch that it takes")
        made, flow = self.cases(node, name or "", cases, env)
        return [*out, *made], flow

    def cases(self, node: ast.expr, name: str, cases: list[ast.match_case], env: Env) -> Made:
        if not cases:
            return [], Flow(env)
        case, *rest = cases
        subject = env[name]
        assert isinstance(subject, Name)
        test, if_true, if_false, binds = self.pattern(case.pattern, node, name, env)
        if binds is not None:
            if case.guard is not None and binds in env:
                self.fail(
                    case.guard, f"{binds} is bound even where the guard is false", "rename it"
                )
            if_true = {**if_true, binds: if_true[name]}
        if case.guard is not None:
            guard, if_true, guard_false = self.condition(case.guard, dict(if_true))
            guard_false.pop(binds or "", None)
            if test is None:
                test, if_false = guard, guard_false
            else:
                test, if_false = Both(test, guard, BOOL), join(if_false, guard_false)

        def then() -> tuple[tuple[Statement, ...], Flow]:
            if binds is None:
                return self.block(case.body, if_true)
            local = if_true[binds]
            bound: list[Statement] = [Assign(binds, local)]
            made, flow = self.block(case.body, {**if_true, binds: Name(binds, local.type)})
            return (*bound, *made), flow

        if test is None:
            if rest:
                self.fail(rest[0].pattern, "a case after one that takes everything", "leave it out")
            made, flow = then()
            return list(made), flow

        def other() -> tuple[tuple[Statement, ...], Flow]:
            made, flow = self.cases(node, name, rest, if_false)
            return tuple(made), flow

        return self.fork(case.pattern, test, then, other)

    def pattern(
        self, pattern: ast.pattern, node: ast.expr, name: str, env: Env
    ) -> tuple[Expr | None, Env, Env, str | None]:
        """A pattern's test (None: it takes everything), the locals where it holds and where not,
        and the name that it binds."""
        subject = env[name]
        assert isinstance(subject, Name)
        match pattern:
            case ast.MatchAs(pattern=None, name=None):
                return None, dict(env), dict(env), None
            case ast.MatchAs(pattern=None, name=str(bound)):
                return None, dict(env), dict(env), bound
            case ast.MatchSingleton(value=None):
                return IsNone(subject, BOOL), dict(env), narrowed(env, name), None
            case ast.MatchSingleton(value=bool(value)):
                if subject.type.base != BOOL:
                    self.fail(pattern, f"{value} is matched by identity", "match a bool, or use if")
                test = self.equals(pattern, node, subject, Const(value, BOOL))
                return test, narrowed(env, name), dict(env), None
            case ast.MatchValue(value=value):
                held = self.static(value, env)
                if held is MISSING:
                    self.fail(value, "a pattern that is no constant", "use if and ==")
                test = self.equals(value, node, subject, self.constant(value, held))
                return test, narrowed(env, name), dict(env), None
            case ast.MatchOr(patterns=patterns):
                either, if_true, if_false, _ = self.pattern(patterns[0], node, name, env)
                for one in patterns[1:]:
                    # Tried where the ones before did not match.
                    more, right_true, if_false, _ = self.pattern(one, node, name, if_false)
                    if more is None or either is None:
                        self.fail(one, "a name among alternatives", "write `case _` last")
                    if_true = join(if_true, right_true)
                    either = Either(either, more, BOOL)
                return either, if_true, if_false, None
            case _:
                self.fail(
                    pattern,
                    "a pattern that takes values apart",
                    "match literals, None and _; take values apart with if",
                )

    def equals(self, at: ast.AST, node: ast.expr, subject: Name, value: Const) -> Expr:
        """Whether the subject equals a literal; None equals none."""

        def test(name: Name) -> Expr:
            place = at if isinstance(at, ast.expr) else node
            return self.call(place, "==", [node, place], [name, value])

        if not subject.type.optional:
            return test(subject)
        base = Name(subject.name, subject.type.base)
        return Choose(IsNone(subject, BOOL), Const(False, BOOL), test(base), BOOL)

    # --- loops ------------------------------------------------------------------------------------

    def for_loop(self, node: ast.For, env: Env) -> Made:
        if node.orelse:
            self.fail(node.orelse[0], "else after a for", "set a flag in the loop and test it")
        loop = self.loop(node.target, node.iter, env)
        rows = loop.over.rows if isinstance(loop.over, Rows) else None
        bound: Env = {n: Name(n, t) for n, t in loop.names}
        for name, type_ in loop.names:
            known = env.get(name)
            if known is not None and known.type.base != type_.base:
                self.fail(
                    node.target,
                    f"{name} is {known.type} before the loop and {type_} in it",
                    "rename one of the two",
                )
        head = dict(env)
        while True:  # until what is known at the head holds for every turn
            self.exits.append(_Exits())
            body, flow = self.block(node.body, {**head, **bound})
            exits = self.exits.pop()
            again = [*exits.continues, *([flow.env] if flow.env is not None else [])]
            known_head = head
            for end in again:
                known_head = self.meet(node, known_head, end, "the way in", "the next turn")
            if known_head == head:
                break
            head = known_head
        after = list(exits.breaks)
        if rows:
            after += again  # it turns at least once
        else:
            after.append(head)
        made: list[Statement] = [For(tuple(n for n, _ in loop.names), loop.over, body)]
        if not after:
            return made, Flow(None)
        out = after[0]
        for end in after[1:]:
            out = self.meet(node, out, end, "one way out of the loop", "another")
        return made, Flow(out)


def _settled(env: Env) -> list[Statement]:
    """Assignments after which what walruses bound goes by the names that were written, so that one
    way and another agree on them where they meet."""
    out: list[Statement] = []
    for name, local in env.items():
        if not isinstance(local, Name) or local.type.name in ("match", "zoned"):
            continue
        if local.name.startswith(".") and not name.startswith("."):
            out.append(Assign(name, local))
            env[name] = Name(name, local.type)
    return out


def _sign(op: ast.operator) -> str:
    return {"Add": "+", "Mult": "*"}.get(type(op).__name__, "")


_REFUSED = {
    "While": ("while", "a while may never end: write `for _ in range(12):` with a break"),
    "AsyncFor": ("async for", "write a plain for"),
    "Try": (
        "try",
        "an error is a state of its own (R3): test first, as in `if d == 0: return None`",
    ),
    "TryStar": ("try", "test for the error first"),
    "With": ("with", "a feature computes from its parameters alone"),
    "FunctionDef": (
        "a def inside a feature",
        "write it at the top of the module; calls of it are inlined",
    ),
    "ClassDef": ("a class inside a feature", "write it at the top of the module"),
    "Import": ("import inside a feature", "import at the top of the module"),
    "ImportFrom": ("import inside a feature", "import at the top of the module"),
    "Global": ("global", "a feature computes from its parameters and constants alone"),
    "Nonlocal": ("nonlocal", "a feature computes from its parameters and constants alone"),
    "Delete": ("del", "leave it out"),
}
