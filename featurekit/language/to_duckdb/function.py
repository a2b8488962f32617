"""Turns a transform's IR into DuckDB's SQL, one column for each assignment.

Three facts keep it small. Operators are total: they give NULL where Python raises (R3), and NULL
where an argument is NULL. Arguments are never None (R2), so NULL *is* the error in a column whose
type has no None. And the ways out of a function, returns and errors alike, are the branches of one
ordered CASE, so the SQL grows linearly with the function. What SQL does not express exactly, such
as loops over lists, runs as one call of Python (R5).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, assert_never

from featurekit.core.sql import literal, quote
from featurekit.core.types import FLOAT, Type
from featurekit.language import ops
from featurekit.language.ir import (
    Apply,
    Assign,
    Bind,
    Both,
    Break,
    Call,
    Choose,
    Const,
    Continue,
    Each,
    Either,
    Evaluate,
    Expr,
    Fail,
    For,
    Function,
    If,
    IsNone,
    Let,
    ListOf,
    Lookup,
    Name,
    Param,
    Return,
    Statement,
    Try,
    Unrolled,
    Verbatim,
    While,
    Zip,
)
from featurekit.language.to_duckdb.lowering import (
    Lowering,
    Sql,
    Value,
    any_of,
    at,
    cases_sql,
    chosen_sql,
    missing,
)
from featurekit.language.to_duckdb.operators import entry_sql, row_of, sum_of
from featurekit.language.walk import children, free


def lower(lowering: Lowering, function: Function, arguments: Sequence[Value]) -> Value:
    """The function's value over `arguments`, one for each parameter (R1). `lowering` is given its
    columns.

    The value is NULL where the function errs or gives None: `error` tells these apart. `error` is
    None where the function cannot err.
    """
    if _in_python(function.body):
        errors = [a.error or missing(a.sql) for a in arguments if a.errs]
        return lowering.python_call(function, [a.sql for a in arguments], errors)
    return _Function(lowering, function).run(arguments)


def python_parts(function: Function) -> list[str]:
    """The parts of this function for which DuckDB calls Python (R5); empty where all of it is SQL.

    They are keys of operators, comprehensions, and "the whole of f" for a function that runs as
    one.
    """
    lowering = Lowering()
    lower(lowering, function, [Value(Sql(quote(p.name))) for p in function.params])
    return sorted({call.what for call in lowering.python_ops.values()})


def may_err(function: Function) -> bool:
    """Whether some call of the function is an error (R3), as far as its operators tell."""
    arguments = [Value(Sql(quote(p.name))) for p in function.params]
    return lower(Lowering(), function, arguments).error is not None


def _both(guard: Value, test: Value) -> Value:
    """A condition that is true only where both are."""
    made = at(lambda g, t: f"({g} AND {t})", guard.sql, test.sql)
    return Value(made, nulls=guard.nulls | test.nulls)


def _reached(exits: list[_Exit]) -> list[_Exit]:
    """The ways out that a call can take: up to the first that every call takes which gets there."""
    for i, way in enumerate(exits):
        if way.when is None:
            return exits[: i + 1]
    return exits or [_Exit(None, None)]


def _read_once(body: tuple[Statement, ...]) -> frozenset[str]:
    """Locals that are bound once and read once; none where there is a loop."""
    bound: dict[str, int] = {}
    read: dict[str, int] = {}

    def walk(node: Any) -> bool:
        match node:
            case Assign(name, _) | Bind(name, _, _) | Let(name, _, _, _):
                bound[name] = bound.get(name, 0) + 1
            case Name(name, _):
                read[name] = read.get(name, 0) + 1
            case For() | Each() | While() | Try():
                return False
        return all(walk(child) for child in children(node))

    if not walk(body):
        return frozenset()
    return frozenset(n for n, times in bound.items() if times == 1 and read.get(n) == 1)


def _in_python(body: tuple[Statement, ...]) -> bool:
    """Whether statements run as a whole in Python: loops over lists, loops while a test holds,
    handlers of errors, and long loops, which would have too many layers for DuckDB's planner."""
    return any(isinstance(s, Verbatim) for s in body) or _weight(body) > _MOST_STATEMENTS


_MOST_STATEMENTS = 150


def _weight(body: tuple[Statement, ...]) -> float:
    """The number of statements after loops are unrolled; infinite with a loop over lists."""
    total = 0.0
    for statement in body:
        match statement:
            case If(_, then, orelse):
                total += 1 + _weight(then) + _weight(orelse)
            case For(_, over, inner):
                if isinstance(over, Zip):
                    return math.inf
                total += len(over.rows) * _weight(inner) if over.rows else 0
            case While() | Try():
                return math.inf
            case Assign() | Return() | Evaluate() | Break() | Continue() | Fail() | Verbatim():
                total += 1
            case _:
                assert_never(statement)
    return total


@dataclass(frozen=True, slots=True)
class _Exit:
    """A way out of a function: a value, or None for an error.

    A call takes it where `when` is true (None: always) and it took no way before this one. Where
    the error is that of a local, `column` is the local's column.
    """

    when: Value | None
    value: Value | None
    error: Sql | None = None
    column: str = ""

    def passes_on(self, column: str) -> bool:
        """Whether this way gives no value where the column is NULL."""
        never = self.when is not None and column in self.when.nulls
        return self.value is None or never or column in self.value.nulls


@dataclass(slots=True)
class _Loop:
    """The ways out of a loop's body so far, each with its condition and the locals there."""

    breaks: list[_Path] = field(default_factory=list)
    continues: list[_Path] = field(default_factory=list)


_Path = tuple[Value | None, dict[str, Value]]
_TRUE, _FALSE = Sql("TRUE"), Sql("FALSE")
_SHORT = 60  # a condition of fewer characters is written twice, not made a column


@dataclass(frozen=True, slots=True)
class _End:
    """How a block of statements ends: whether control goes on after it, under which condition, and
    whether it may end by a break or continue."""

    alive: bool
    guard: Value | None
    jumps: bool = False


class _Function:
    """One function on its way to SQL, where locals are columns.

    Every statement has a guard: the condition under which Python reaches it, *given that the call
    has not ended before*; None means always. So a test whose branch ends the call leaves no trace
    in the guards after it.
    """

    def __init__(self, lowering: Lowering, function: Function) -> None:
        self.lowering = lowering
        self.function = function
        self.env: dict[str, Value] = {}
        self.exits: list[_Exit] = []
        self.loops: list[_Loop] = []
        self.once = _read_once(function.body)

    def run(self, arguments: Sequence[Value]) -> Value:
        for param, value in zip(self.function.params, arguments, strict=True):
            held = Value(value.sql, nulls=value.nulls | {value.sql.text})
            self.env[param.name] = held
            if value.errs:  # reading one errs (R3)
                self.fails(None, held.sql, value.error)
        self.block(self.function.body, None)
        return self.optional() if self.function.returns.optional else self.plain()

    def fails(self, guard: Value | None, column: Sql, error: Sql | None) -> None:
        """Add the way out for the error of a local."""
        shown = error or missing(column)
        known = column.text if shown == missing(column) else ""
        when = Value(shown) if guard is None else _both(guard, Value(shown))
        self.exits.append(_Exit(when, None, column=known))

    def plain(self) -> Value:
        """The result, where its type has no None and NULL is the error."""
        ways = _reached(self.exits)
        errs = any(w.value is None or w.value.errs for w in ways) or ways[-1].when is not None
        needed = [
            way
            for i, way in enumerate(ways)
            if not (way.column and all(w.passes_on(way.column) for w in ways[i + 1 :]))
        ]
        first = needed[0].value if needed else None
        alone = first is not None and needed[0].when is None
        sql = self.bind(self.cases(needed))
        nulls = first.nulls if first is not None and alone else frozenset()
        return Value(sql, errs, missing(sql) if errs else None, nulls | {sql.text})

    def optional(self) -> Value:
        """The result, where NULL may be a None; its error is a column of its own."""
        ways = _reached(self.exits)
        sql = self.bind(self.cases(ways))
        error = _FALSE if ways[-1].when is None else _TRUE
        for way in reversed(ways):
            here = _TRUE if way.value is None else way.error or _FALSE
            if way.when is None:
                error = here
            elif here == _TRUE:
                error = way.when.sql if error == _FALSE else any_of([way.when.sql, error])
            elif here != error:
                error = at(chosen_sql, way.when.sql, here, error)
        if error == _FALSE:
            return Value(sql)
        return Value(sql, True, self.bind(error))

    def cases(self, ways: Sequence[_Exit]) -> Sql:
        null = Sql(literal(None, self.function.returns))
        if all(w.value is None for w in ways):
            return null
        parts: list[Sql] = []
        for way in ways:
            value = Sql("NULL") if way.value is None else way.value.sql
            if way.when is None:
                if not parts:
                    return value
                return at(lambda *texts: cases_sql(*texts[:-1], other=texts[-1]), *parts, value)
            parts += [way.when.sql, value]
        return at(cases_sql, *parts)

    def bind(self, sql: Sql) -> Sql:
        return self.lowering.bind(sql)

    # --- statements -------------------------------------------------------------------------------

    def block(self, statements: tuple[Statement, ...], guard: Value | None) -> _End:
        jumps = False
        for statement in statements:
            match statement:
                case Assign(name, value):
                    self.env[name] = self.local(name, value, guard)
                case Evaluate(value):
                    self.evaluate(value, guard)
                case Return(value):
                    self.leave(value, guard)
                    return _End(False, guard, jumps)
                case If():
                    end = self.branch(statement, guard)
                    jumps |= end.jumps
                    if not end.alive:
                        return _End(False, guard, jumps)
                    guard = end.guard
                case For(names, Unrolled(rows), body):
                    if not self.loop(names, rows, body, guard):
                        return _End(False, guard, jumps)
                case Break():
                    self.loops[-1].breaks.append((guard, dict(self.env)))
                    return _End(False, guard, True)
                case Continue():
                    self.loops[-1].continues.append((guard, dict(self.env)))
                    return _End(False, guard, True)
                case Fail():
                    self.exits.append(_Exit(guard, None))
                    return _End(False, guard, jumps)
                case For() | While() | Try() | Verbatim():
                    raise TypeError("lowered as a whole in Python")
                case _:
                    assert_never(statement)
        return _End(True, guard, jumps)

    def loop(
        self,
        names: tuple[str, ...],
        rows: tuple[tuple[Expr, ...], ...],
        body: tuple[Statement, ...],
        guard: Value | None,
    ) -> bool:
        """The body once for each row. It returns whether control goes on after the loop, which it
        does unless every call has ended."""
        ends: list[_Path] = []
        for row in rows:
            for name, value in zip(names, row, strict=True):
                self.env[name] = self.evaluate(value, guard)
            self.loops.append(_Loop())
            end = self.block(body, guard)
            here = self.loops.pop()
            paths = [*here.continues, *([(end.guard, self.env)] if end.alive else [])]
            met = self.join(paths) if paths else None
            if here.breaks:
                guard = met
                ends += here.breaks
            if not paths:
                break
        else:
            ends.append((guard, self.env))
        if not ends:
            return False
        self.join(ends)
        return True

    def join(self, paths: list[_Path]) -> Value | None:
        """Set the locals where several ways meet, of which at most one was taken; returns the guard
        there."""
        if len(paths) == 1:
            guard, self.env = paths[0]
            return guard
        conditions = [g.sql for g, _ in paths if g is not None]
        assert len(conditions) == len(paths), "a way that is always taken meets no other"
        merged = dict(paths[0][1])
        for name, first in paths[0][1].items():
            values = [env.get(name) for _, env in paths]
            if any(v is None for v in values) or all(v == first for v in values):
                continue
            pairs = zip(conditions, (v.sql for v in values if v), strict=True)
            parts = [p for pair in pairs for p in pair]
            merged[name] = Value(self.bind(at(cases_sql, *parts)))
        self.env = merged
        return Value(self.bind(any_of(conditions)))

    def local(self, name: str, value: Expr, guard: Value | None) -> Value:
        """A local's value: a column, or an expression where it cannot err and is read once."""
        if name in self.once:
            made = self.expr(value)
            return made if not made.errs else self.evaluated(value, made, guard)
        return self.evaluate(value, guard)

    def evaluate(self, value: Expr, guard: Value | None) -> Value:
        """The value as a column. Where it errs, the call ends."""
        return self.evaluated(value, self.expr(value), guard)

    def evaluated(self, node: Expr, made: Value, guard: Value | None) -> Value:
        held = self.lowering.hold(made)
        if made.errs:
            self.fails(guard, held.sql, made.error if node.type.optional else None)
        return Value(held.sql, nulls=held.nulls)

    def leave(self, node: Expr, guard: Value | None) -> None:
        """Add the way out for a `return`."""
        made = self.expr(node)
        error = None
        if self.function.returns.optional and made.errs:
            made = self.lowering.hold(made)
            error = self.error_of(node, made)
        self.exits.append(_Exit(guard, made, error))

    def branch(self, node: If, guard: Value | None) -> _End:
        made = self.expr(node.test)
        match node.then:
            case (Return() | Fail(),) if not made.errs:
                test = made  # read once
            case _:
                test = self.evaluated(node.test, made, guard)
        before = dict(self.env)
        then = self.block(node.then, self.guarded(guard, test))
        then_env, self.env = self.env, before
        else_guard = guard
        if then.alive or then.jumps:
            denied = Value(at(lambda t: f"(NOT {t})", test.sql), nulls=test.nulls)
            else_guard = self.guarded(guard, denied)
        orelse = self.block(node.orelse, else_guard)
        jumps = then.jumps or orelse.jumps
        if not then.alive:
            return replace(orelse, jumps=jumps)
        if not orelse.alive:
            self.env = then_env
            return _End(True, then.guard if jumps else guard, jumps)
        for name, value in then_env.items():
            other = self.env.get(name)
            if other is None:
                self.env[name] = value  # bound on one path, so never read after both
            elif other != value:
                met = at(chosen_sql, test.sql, value.sql, other.sql)
                self.env[name] = Value(self.bind(met), nulls=value.nulls & other.nulls)
        if not jumps:
            return _End(True, guard)
        ends = [e.guard.sql for e in (then, orelse) if e.guard is not None]
        return _End(True, Value(self.bind(any_of(ends))), True)

    def guarded(self, guard: Value | None, test: Value) -> Value:
        if guard is None:
            return test
        made = _both(guard, test)
        return made if len(made.sql.text) <= _SHORT else replace(made, sql=self.bind(made.sql))

    # --- expressions ------------------------------------------------------------------------------

    def error_of(self, node: Expr, value: Value) -> Sql | None:
        """The condition under which `node` errs, None where it cannot. It uses the value, so bind
        that first."""
        if not value.errs:
            return None
        return value.error if node.type.optional else missing(value.sql)

    def expr(self, node: Expr) -> Value:
        match node:
            case Const(value, type_):
                return Value(Sql(literal(value, type_)))
            case Name(name, _):
                return self.env[name]
            case Call(key, args, _):
                return self.call(ops.TABLE[key], args)
            case Choose(test, then, orelse, _):
                return self.choose(node, self.expr(test), self.expr(then), self.expr(orelse))
            case Both(left, right, _):
                return self.decide(node, "AND", self.expr(left), self.expr(right))
            case Either(left, right, _):
                return self.one_of(node) or self.decide(
                    node, "OR", self.expr(left), self.expr(right)
                )
            case IsNone(value, _):
                inner = self.expr(value)
                if not inner.errs:
                    return Value(missing(inner.sql))
                held = self.lowering.hold(inner)
                error = self.error_of(value, held)
                assert error is not None
                shown = at(lambda e, v: f"CASE WHEN NOT {e} THEN {v} IS NULL END", error, held.sql)
                return Value(shown, True)
            case Let(name, value, body, _):
                held = self.lowering.hold(self.expr(value))
                self.env[name] = Value(held.sql, nulls=held.nulls)
                inner = self.expr(body)
                error = self.error_of(value, held)
                if error is None:
                    return inner
                if not (value.type.optional or node.type.optional) and held.sql.text in inner.nulls:
                    return replace(inner, errs=True)
                return self.also(inner, self.bind(error))
            case Bind(name, value, _):
                held = self.lowering.hold(self.expr(value))
                self.env[name] = Value(held.sql, nulls=held.nulls)
                return held
            case Lookup():
                return self.lookup(node)
            case Apply(function, args, _):
                return self.apply(function, args)
            case ListOf(items, type_):
                return self.list_of(items, type_)
            case Each():
                params = tuple(Param(n, t) for n, t in free(node).items())
                function = Function("", params, (Return(node),), node.type)
                given = [self.env[p.name].sql for p in params]
                return self.lowering.python_call(function, given, [])
            case _:
                assert_never(node)

    def lookup(self, node: Lookup) -> Value:
        key = self.lowering.hold(self.expr(node.key))
        found = self.bind(at(lambda k: entry_sql(k, node.key.type, node.type, node.table), key.sql))
        if node.default is None:
            return Value(found, True, nulls=key.nulls)  # NULL, the error, where the key is absent
        other = self.expr(node.default)
        shown = at(
            lambda k, f, d: f"CASE WHEN {k} IS NOT NULL THEN coalesce({f}, {d}) END",
            key.sql,
            found,
            other.sql,
        )
        return Value(shown, key.errs, self.error_of(node.key, key), key.nulls)

    def apply(self, function: Function, args: tuple[Expr, ...]) -> Value:
        held = [self.lowering.hold(self.expr(node)) for node in args]
        return lower(
            self.lowering,
            function,
            [
                Value(v.sql, v.errs, self.error_of(n, v), v.nulls)
                for n, v in zip(args, held, strict=True)
            ],
        )

    def list_of(self, items: tuple[Expr, ...], type_: Type) -> Value:
        held = [self.lowering.hold(self.expr(node)) for node in items]
        errors = [e for n, v in zip(items, held, strict=True) if (e := self.error_of(n, v))]
        assert type_.item is not None
        # In a branch not taken a name may be NULL, and operators take no list with a NULL.
        given = [i for i, n in enumerate(items) if not isinstance(n, Const)]
        given = [] if type_.item.optional else given

        def display(*shown: str) -> str:
            made = f"CAST([{', '.join(shown)}] AS {type_.duckdb})"
            known = " AND ".join(f"{shown[i]} IS NOT NULL" for i in given)
            return f"CASE WHEN {known} THEN {made} END" if known else made

        shown = at(display, *(v.sql for v in held))
        if not errors:
            return Value(shown)
        return Value(
            at(lambda e, v: f"CASE WHEN NOT {e} THEN {v} END", any_of(errors), shown), True
        )

    def also(self, inner: Value, error: Sql) -> Value:
        """`inner`, which now also errs where `error` is true."""
        shown = at(lambda e, v: f"CASE WHEN NOT {e} THEN {v} END", error, inner.sql)
        if inner.error is None:
            return Value(shown, True, error)
        return Value(shown, True, at(lambda a, b: f"({a} OR {b})", error, inner.error))

    def call(self, op: ops.Op, nodes: tuple[Expr, ...]) -> Value:
        made = sum_of(op, nodes, lambda leaf: self.lowering.hold(self.expr(leaf)))
        return made or row_of(self.lowering, op, nodes, [self.expr(n) for n in nodes])

    def decide(self, node: Both | Either, word: str, left: Value, right: Value) -> Value:
        """`and`, `or`. SQL's operators agree with Python's unless left errs. But a CASE saves calls
        of Python where left decides."""
        if left.errs or _calls_python(right.sql):
            if word == "AND":
                return self.choose(node, left, right, Value(_FALSE))
            return self.choose(node, left, Value(_TRUE), right)
        shown = at(lambda a, b: f"({a} {word} {b})", left.sql, right.sql)
        return Value(shown, right.errs)

    def one_of(self, node: Either) -> Value | None:
        """`x == a or x == b …` of one name and constants, as `x IN (a, b)`; None for another
        test."""
        tests: list[Expr] = []
        rest: Expr = node
        while isinstance(rest, Either):
            tests.append(rest.left)
            rest = rest.right
        constants: list[Const] = []
        names = set()
        for test in (*tests, rest):
            match test:
                case Call(key, (Name(_, type_) as name, Const() as constant), _) if (
                    type_ != FLOAT and key == f"==({type_.plain},{type_.plain})"
                ):
                    names.add(name)
                    constants.append(constant)
                case _:
                    return None
        if len(names) > 1:
            return None
        value = self.expr(names.pop())
        shown = ", ".join(literal(c.value, c.type) for c in constants)
        return Value(at(lambda v: f"({v} IN ({shown}))", value.sql), value.errs, nulls=value.nulls)

    def choose(self, node: Expr, test: Value, then: Value, orelse: Value) -> Value:
        nulls = then.nulls & orelse.nulls
        if not test.errs:
            shown = at(chosen_sql, test.sql, then.sql, orelse.sql)
        else:
            test = self.lowering.hold(test)
            nulls |= test.nulls
            shown = at(
                lambda t, a, b: f"CASE WHEN {t} THEN {a} WHEN NOT {t} THEN {b} END",
                test.sql,
                then.sql,
                orelse.sql,
            )
        if not (test.errs or then.errs or orelse.errs):
            return Value(shown, nulls=nulls)
        if not node.type.optional:
            return Value(shown, True, nulls=nulls)
        bound_test = self.bind(test.sql)
        return Value(shown, True, self.chosen_error(node, bound_test, then, orelse), nulls)

    def chosen_error(self, node: Expr, test: Sql, then: Value, orelse: Value) -> Sql:
        """The error of a choice that may be None: that of its test, or of the branch taken."""
        assert isinstance(node, Choose)
        branches = []
        for branch_node, branch in ((node.then, then), (node.orelse, orelse)):
            held = self.lowering.hold(branch)
            branches.append(self.error_of(branch_node, held) or _FALSE)
        made = at(
            lambda t, a, b: f"CASE WHEN {t} THEN {a} WHEN NOT {t} THEN {b} ELSE TRUE END",
            test,
            *branches,
        )
        return self.bind(made)


def _calls_python(sql: Sql) -> bool:
    return '"fk_' in sql.text
