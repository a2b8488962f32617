"""Lowers a transform's IR to DuckDB: layers of projections, one column per assignment.

Three facts make it small. Operators are total: NULL where Python raises (R3), NULL where an
argument is. Arguments are never None (R2), so in a column of a type without None, NULL *is* the
error. And a function's ways out, returns and errors alike, are the branches of one ordered CASE, so
that SQL grows linearly with the function. What SQL does not say exactly, loops over lists above
all, runs as one Python call (R5).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from featurekit.core.sql import literal, quote
from featurekit.core.types import FLOAT, INT_MAX, Type
from featurekit.core.values import ERROR
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
    Unrolled,
    Verbatim,
    Zip,
)
from featurekit.language.ops.number import wide_sql
from featurekit.language.python_calls import PythonCall, call_of_function, call_of_op
from featurekit.language.walk import children, free


@dataclass(frozen=True, slots=True)
class Sql:
    """A piece of SQL that may stand in the projection numbered `layer` or later."""

    text: str
    layer: int = 0

    @property
    def simple(self) -> bool:
        """Whether it costs nothing to write it twice."""
        return len(self.text) <= 40 and " " not in self.text


@dataclass(frozen=True, slots=True)
class Value:
    """An expression in SQL, and whether it may err.

    Where its type has no None, NULL is the error and `error` is not needed; where it has one,
    `error` is a predicate that is never NULL. Where one of the columns `nulls` is NULL, so is the
    value: an error of theirs needs no test of its own.
    """

    sql: Sql
    errs: bool = False
    error: Sql | None = None
    nulls: frozenset[str] = frozenset()


@dataclass(slots=True)
class Lowering:
    """Projections that several transforms share: `layers[i]` is computed from those before it."""

    prefix: str = "__f"
    layers: list[list[tuple[str, str]]] = field(default_factory=list)
    python_ops: dict[str, PythonCall] = field(default_factory=dict)
    bound: dict[Sql, Sql] = field(default_factory=dict)

    def bind(self, sql: Sql) -> Sql:
        """A column that holds `sql`, for layers above it."""
        if sql.simple:
            return sql
        if sql not in self.bound:
            while len(self.layers) <= sql.layer:
                self.layers.append([])
            name = quote(f"{self.prefix}{len(self.bound)}")
            self.layers[sql.layer].append((name, sql.text))
            self.bound[sql] = Sql(name, sql.layer + 1)
        return self.bound[sql]

    def hold(self, value: Value) -> Value:
        """The value as a column, which may be written twice."""
        bound = self.bind(value.sql)
        return replace(value, sql=bound, nulls=value.nulls | {bound.text})

    def wrap(self, relation: str) -> str:
        """`SELECT`s around `relation` that add every bound column to its own."""
        for layer in self.layers:
            shown = ", ".join(f"{text} AS {name}" for name, text in layer)
            relation = f"(SELECT *, {shown} FROM {relation})"
        return relation

    def lower(self, function: Function, arguments: Sequence[Value]) -> Value:
        """The function's value over `arguments`, one for each parameter (R1).

        The value is NULL where the function errs, and so is a None: `error` tells them apart, and
        is None where the function cannot err.
        """
        if _in_python(function.body):
            errors = [a.error or _missing(a.sql) for a in arguments if a.errs]
            return self.python_call(function, [a.sql for a in arguments], errors)
        return _Function(self, function).run(arguments)

    def python_call(self, function: Function, values: list[Sql], errors: list[Sql]) -> Value:
        """The function as one vectorised Python call, for what SQL does not say exactly (R5)."""
        call = call_of_function(function)
        if not values and not errors:
            # A constant, which has no row to be called for.
            constant = call.evaluate()
            erred = constant is ERROR
            shown = literal(None if erred else constant, function.returns)
            return Value(Sql(shown), erred, Sql("TRUE" if erred else "FALSE"))
        self.python_ops[call.name] = call
        made = self.bind(_at(lambda *v: f"{quote(call.name)}({', '.join(v)})", *values))
        if not function.returns.optional:
            errors = [*errors, _at(lambda v: f"({v} IS NULL)", made)]
        else:
            errors = [*errors, _at(lambda v: f"({v}).e", made)]
            made = _at(lambda v: f"({v}).v", made)
        error = self.bind(_or(errors))
        return Value(
            self.bind(_at(lambda e, v: f"CASE WHEN NOT {e} THEN {v} END", error, made)), True, error
        )


def python_parts(function: Function) -> list[str]:
    """What DuckDB calls Python for where it computes this function (R5): keys of operators, "the
    whole of f" for a function that runs as one, and comprehensions; empty where all is SQL."""
    lowering = Lowering()
    lowering.lower(function, [Value(Sql(quote(p.name))) for p in function.params])
    return sorted({call.what for call in lowering.python_ops.values()})


def _at(template: Callable[..., str], *parts: Sql) -> Sql:
    return Sql(template(*(p.text for p in parts)), max((p.layer for p in parts), default=0))


def _cases(*texts: str, other: str = "") -> str:
    pairs = zip(texts[::2], texts[1::2], strict=True)
    branches = " ".join(f"WHEN {g} THEN {v}" for g, v in pairs)
    return f"CASE {branches} ELSE {other} END" if other else f"CASE {branches} END"


def _chosen(test: str, then: str, other: str) -> str:
    return f"CASE WHEN {test} THEN {then} ELSE {other} END"


def _or(conditions: list[Sql]) -> Sql:
    return _at(lambda *c: "(" + " OR ".join(c) + ")" if len(c) > 1 else c[0], *conditions)


def _missing(column: Sql) -> Sql:
    """The error of a column whose type has no None."""
    return _at(lambda v: f"({v} IS NULL)", column)


def _both(guard: Value, test: Value) -> Value:
    """A condition that is not true where either is not."""
    made = _at(lambda g, t: f"({g} AND {t})", guard.sql, test.sql)
    return Value(made, nulls=guard.nulls | test.nulls)


def _reached(exits: list[_Exit]) -> list[_Exit]:
    """The ways out up to the first that all calls take which come so far."""
    for i, way in enumerate(exits):
        if way.when is None:
            return exits[: i + 1]
    return exits or [_Exit(None, None)]


def _read_once(body: tuple[Statement, ...]) -> frozenset[str]:
    """Locals that are bound once and read once, and in no loop."""
    bound: dict[str, int] = {}
    read: dict[str, int] = {}

    def walk(node: Any) -> bool:
        match node:
            case Assign(name, _) | Bind(name, _, _) | Let(name, _, _, _):
                bound[name] = bound.get(name, 0) + 1
            case Name(name, _):
                read[name] = read.get(name, 0) + 1
            case For() | Each():
                return False
        return all(walk(child) for child in children(node))

    if not walk(body):
        return frozenset()
    return frozenset(n for n, times in bound.items() if times == 1 and read.get(n) == 1)


def _in_python(body: tuple[Statement, ...]) -> bool:
    """Whether statements run as a whole in Python: loops over lists, and long loops, whose layers
    would be too many for DuckDB's planner."""
    return any(isinstance(s, Verbatim) for s in body) or _weight(body) > _MOST_STATEMENTS


_MOST_STATEMENTS = 150


def _weight(body: tuple[Statement, ...]) -> float:
    """How many statements there are once loops are unrolled; infinite with a loop over lists."""
    total = 0.0
    for statement in body:
        match statement:
            case If(_, then, orelse):
                total += 1 + _weight(then) + _weight(orelse)
            case For(_, Unrolled(rows), inner):
                total += len(rows) * _weight(inner) if rows else 0
            case For(_, Zip(), _):
                return math.inf
            case _:
                total += 1
    return total


@dataclass(frozen=True, slots=True)
class _Exit:
    """A way out of a function, for calls where `when` holds (None: for all) and no way out before
    it was taken: a value, or None for an error. Where that is the error of a local, `column` is it.
    """

    when: Value | None
    value: Value | None
    error: Sql | None = None
    column: str = ""

    def passes_on(self, column: str) -> bool:
        """Whether no value leaves here where the column is NULL."""
        never = self.when is not None and column in self.when.nulls
        return self.value is None or never or column in self.value.nulls


@dataclass(slots=True)
class _Loop:
    """The ways out of a loop's body so far: their conditions, and the locals there."""

    breaks: list[_Path] = field(default_factory=list)
    continues: list[_Path] = field(default_factory=list)


_Path = tuple[Value | None, dict[str, Value]]
_TRUE, _FALSE = Sql("TRUE"), Sql("FALSE")
_SHORT = 60  # characters of a condition that is rather written twice than made a column


@dataclass(frozen=True, slots=True)
class _End:
    """How a block of statements ends: whether control leaves it below, and then under which
    condition; and whether some of it leaves by a break or continue."""

    alive: bool
    guard: Value | None
    jumps: bool = False


class _Function:
    """One function on its way to SQL: locals are columns.

    Every statement has a guard: the condition under which Python reaches it, *given that the call
    has not ended before*, None standing for always. So a test whose branch ends the call leaves no
    trace in the guards below it.
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
        """The way out by the error of a local."""
        missing = _missing(column)
        shown = error or missing
        known = column.text if shown == missing else ""
        when = Value(shown) if guard is None else _both(guard, Value(shown))
        self.exits.append(_Exit(when, None, column=known))

    def plain(self) -> Value:
        """The result where its type has no None: NULL is the error."""
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
        return Value(sql, errs, _missing(sql) if errs else None, nulls | {sql.text})

    def optional(self) -> Value:
        """The result where NULL may be a None: its error is a column of its own."""
        ways = _reached(self.exits)
        sql = self.bind(self.cases(ways))
        error = _FALSE if ways[-1].when is None else _TRUE
        for way in reversed(ways):
            here = _TRUE if way.value is None else way.error or _FALSE
            if way.when is None:
                error = here
            elif here == _TRUE:
                error = way.when.sql if error == _FALSE else _or([way.when.sql, error])
            elif here != error:
                error = _at(_chosen, way.when.sql, here, error)
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
                return _at(lambda *texts: _cases(*texts[:-1], other=texts[-1]), *parts, value)
            parts += [way.when.sql, value]
        return _at(_cases, *parts)

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
                case For() | Verbatim():
                    raise TypeError("lowered as a whole in Python")
        return _End(True, guard, jumps)

    def loop(
        self,
        names: tuple[str, ...],
        rows: tuple[tuple[Expr, ...], ...],
        body: tuple[Statement, ...],
        guard: Value | None,
    ) -> bool:
        """The body once for each row; whether control leaves the loop below, which it does wherever
        the call has not ended."""
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
        """Locals and condition where several ways meet, of which at most one was taken."""
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
            merged[name] = Value(self.bind(_at(_cases, *parts)))
        self.env = merged
        return Value(self.bind(_or(conditions)))

    def local(self, name: str, value: Expr, guard: Value | None) -> Value:
        """A local's value: a column, unless it cannot err and is read once."""
        if name in self.once:
            made = self.expr(value)
            return made if not made.errs else self.evaluated(value, made, guard)
        return self.evaluate(value, guard)

    def evaluate(self, value: Expr, guard: Value | None) -> Value:
        """The value as a column; where it errs, the call ends."""
        return self.evaluated(value, self.expr(value), guard)

    def evaluated(self, node: Expr, made: Value, guard: Value | None) -> Value:
        held = self.lowering.hold(made)
        if made.errs:
            self.fails(guard, held.sql, made.error if node.type.optional else None)
        return Value(held.sql, nulls=held.nulls)

    def leave(self, node: Expr, guard: Value | None) -> None:
        """The way out by `return`."""
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
            denied = Value(_at(lambda t: f"(NOT {t})", test.sql), nulls=test.nulls)
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
                self.env[name] = value  # bound on one path: read on none
            elif other != value:
                met = _at(_chosen, test.sql, value.sql, other.sql)
                self.env[name] = Value(self.bind(met), nulls=value.nulls & other.nulls)
        if not jumps:
            return _End(True, guard)
        ends = [e.guard.sql for e in (then, orelse) if e.guard is not None]
        return _End(True, Value(self.bind(_or(ends))), True)

    def guarded(self, guard: Value | None, test: Value) -> Value:
        if guard is None:
            return test
        made = _both(guard, test)
        return made if len(made.sql.text) <= _SHORT else replace(made, sql=self.bind(made.sql))

    # --- expressions ------------------------------------------------------------------------------

    def error_of(self, node: Expr, value: Value) -> Sql | None:
        """When `node` errs, None where it cannot; mentions the value, which should be bound."""
        if not value.errs:
            return None
        return value.error if node.type.optional else _missing(value.sql)

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
                    return Value(_missing(inner.sql))
                held = self.lowering.hold(inner)
                error = self.error_of(value, held)
                assert error is not None
                shown = _at(lambda e, v: f"CASE WHEN NOT {e} THEN {v} IS NULL END", error, held.sql)
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

    def lookup(self, node: Lookup) -> Value:
        key = self.lowering.hold(self.expr(node.key))
        found = self.bind(_at(lambda k: _entry(k, node.key.type, node.type, node.table), key.sql))
        if node.default is None:
            return Value(found, True, nulls=key.nulls)  # NULL where the key is absent: the error
        other = self.expr(node.default)
        shown = _at(
            lambda k, f, d: f"CASE WHEN {k} IS NOT NULL THEN coalesce({f}, {d}) END",
            key.sql,
            found,
            other.sql,
        )
        return Value(shown, key.errs, self.error_of(node.key, key), key.nulls)

    def apply(self, function: Function, args: tuple[Expr, ...]) -> Value:
        held = [self.lowering.hold(self.expr(node)) for node in args]
        return self.lowering.lower(
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
        # In a branch not taken a name may be NULL, and a list that holds it fits no operator.
        given = [i for i, n in enumerate(items) if not isinstance(n, Const)]
        given = [] if type_.item.optional else given

        def display(*shown: str) -> str:
            made = f"CAST([{', '.join(shown)}] AS {type_.duckdb})"
            known = " AND ".join(f"{shown[i]} IS NOT NULL" for i in given)
            return f"CASE WHEN {known} THEN {made} END" if known else made

        shown = _at(display, *(v.sql for v in held))
        if not errors:
            return Value(shown)
        return Value(_at(lambda e, v: f"CASE WHEN NOT {e} THEN {v} END", _or(errors), shown), True)

    def also(self, inner: Value, error: Sql) -> Value:
        """`inner`, which errs where `error` says so, too."""
        shown = _at(lambda e, v: f"CASE WHEN NOT {e} THEN {v} END", error, inner.sql)
        if inner.error is None:
            return Value(shown, True, error)
        return Value(shown, True, _at(lambda a, b: f"({a} OR {b})", error, inner.error))

    def call(self, op: ops.Op, nodes: tuple[Expr, ...]) -> Value:
        made = self.sum(op, nodes) if op.key in _SUMS else None
        return made or self.row(op, nodes, [self.expr(n) for n in nodes])

    def sum(self, op: ops.Op, nodes: tuple[Expr, ...]) -> Value | None:
        """A tree of +, - and * of ints, None where the operator's own row does better.

        Where the leaves lie within a limit nothing leaves int64, in whatever order DuckDB computes
        it; beyond, each operator is checked.
        """
        if any(isinstance(n, Const) for n in nodes) and not any(map(_is_sum, nodes)):
            return None
        whole = _limit(op, nodes, whole=True) >= _LEAST_LIMIT
        limit = _limit(op, nodes, whole=whole)
        if limit < _LEAST_LIMIT:
            return None
        leaves: dict[str, Value] = {}
        plain, checked = self.tree(op, nodes, leaves, whole=whole)
        if not leaves:
            return Value(checked, True)
        tests = [_at(lambda v: f"{v} BETWEEN -{limit} AND {limit}", v.sql) for v in leaves.values()]
        within = _at(lambda *t: " AND ".join(t), *tests)
        nulls = frozenset[str]().union(*(v.nulls for v in leaves.values()))
        return Value(_at(_chosen, within, plain, checked), True, nulls=nulls)

    def tree(
        self, op: ops.Op, nodes: tuple[Expr, ...], leaves: dict[str, Value], *, whole: bool
    ) -> tuple[Sql, Sql]:
        """The tree without and with checks, `leaves` gaining what it computes with; not `whole`:
        its outermost operator alone."""
        sides: list[tuple[Sql, Sql]] = []
        for node in nodes:
            if whole and isinstance(node, Call) and _is_sum(node):
                sides.append(self.tree(ops.TABLE[node.op], node.args, leaves, whole=True))
                continue
            held = self.lowering.hold(self.expr(node))
            if not isinstance(node, Const):
                leaves[held.sql.text] = held
            sides.append((held.sql, held.sql))
        plain = _at(lambda a, b: f"({a} {op.name} {b})", *(p for p, _ in sides))
        return plain, _at(wide_sql(op.name).format, *(c for _, c in sides))

    def row(self, op: ops.Op, nodes: tuple[Expr, ...], values: list[Value]) -> Value:
        """The operator over `values`, of which `nodes` tells the literals."""
        template = op.template([n.value if isinstance(n, Const) else None for n in nodes])
        # A NULL in one argument makes the row's SQL NULL, and so does an error of the operator.
        places = template + "".join(op.steps)
        arguments = [
            v.sql if places.count(f"{{{i}}}") <= 1 and "{python}" not in template
            else self.bind(v.sql)
            for i, v in enumerate(values)
        ]  # fmt: skip
        nulls = frozenset(a.text for a in arguments if a.simple).union(*(v.nulls for v in values))
        for i, step in enumerate(op.steps, len(values)):
            if f"{{{i}}}" in places:
                made = _at(lambda *texts, step=step: step.format(*texts), *arguments)
                arguments.append(self.bind(made))
        if "{python}" in template:
            call = call_of_op(op)
            self.lowering.python_ops[call.name] = call
        sql = _at(lambda *texts: op_sql(op, texts, template), *arguments)
        return Value(sql, op.raises or any(v.errs for v in values), nulls=nulls)

    def decide(self, node: Both | Either, word: str, left: Value, right: Value) -> Value:
        """`and`, `or`. SQL's own say what Python's do unless left errs; but a CASE spares calls of
        Python where left decides."""
        if left.errs or _calls_python(right.sql):
            if word == "AND":
                return self.choose(node, left, right, Value(_FALSE))
            return self.choose(node, left, Value(_TRUE), right)
        shown = _at(lambda a, b: f"({a} {word} {b})", left.sql, right.sql)
        return Value(shown, right.errs)

    def one_of(self, node: Either) -> Value | None:
        """`x == a or x == b …` of one name and constants, as `x in (a, b)` has it."""
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
        return Value(_at(lambda v: f"({v} IN ({shown}))", value.sql), value.errs, nulls=value.nulls)

    def choose(self, node: Expr, test: Value, then: Value, orelse: Value) -> Value:
        nulls = then.nulls & orelse.nulls
        if not test.errs:
            shown = _at(_chosen, test.sql, then.sql, orelse.sql)
        else:
            test = self.lowering.hold(test)
            nulls |= test.nulls
            shown = _at(
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
        """The error of a choice that may be None: of its test, or of the branch taken."""
        assert isinstance(node, Choose)
        branches = []
        for branch_node, branch in ((node.then, then), (node.orelse, orelse)):
            held = self.lowering.hold(branch)
            branches.append(self.error_of(branch_node, held) or _FALSE)
        made = _at(
            lambda t, a, b: f"CASE WHEN {t} THEN {a} WHEN NOT {t} THEN {b} ELSE TRUE END",
            test,
            *branches,
        )
        return self.bind(made)


_SUMS = ("+(int,int)", "-(int,int)", "*(int,int)")
_LEAST_LIMIT = 2**20


def _is_sum(node: Expr) -> bool:
    return isinstance(node, Call) and node.op in _SUMS


def _limit(op: ops.Op, nodes: tuple[Expr, ...], *, whole: bool) -> int:
    """The greatest power of two up to which leaves keep a tree, or its outermost operator, within
    int64, however it is rearranged; 0 where there is none."""

    def reach(name: str, nodes: tuple[Expr, ...], limit: int) -> int:
        sides = []
        for node in nodes:
            match node:
                case Const(value, _):
                    sides.append(max(abs(value), 1))
                case Call(key, args, _) if whole and key in _SUMS:
                    sides.append(reach(ops.TABLE[key].name, args, limit))
                case _:
                    sides.append(limit)
        return math.prod(sides) if name == "*" else sum(sides)

    limits = (2**bits for bits in range(62, -1, -1))
    return next((n for n in limits if reach(op.name, nodes, n) <= INT_MAX), 0)


def _calls_python(sql: Sql) -> bool:
    return '"fk_' in sql.text


def _entry(key: str, key_type: Type, value_type: Type, table: tuple[tuple[Any, Any], ...]) -> str:
    """The entry of a table that holds no None; NULL where the key is absent.

    A subquery becomes a hash join, whatever the entries; of a few, a CASE is quicker still.
    """
    keys = [literal(k, key_type) for k, _ in table]
    values = [literal(v, value_type.base) for _, v in table]
    if len(table) > _MOST_CASES and key_type.name != "float":
        rows = f"SELECT unnest([{', '.join(keys)}]) AS __k, unnest([{', '.join(values)}]) AS __v"
        return f"(SELECT __v FROM ({rows}) WHERE __k = {key})"
    entries = " ".join(f"WHEN {k} THEN {v}" for k, v in zip(keys, values, strict=True))
    return f"CASE {key} {entries} END"


_MOST_CASES = 16


def op_sql(op: ops.Op, arguments: Sequence[str], template: str) -> str:
    """The row's SQL over `arguments`, which stand in it as often as it likes."""
    if template == "{0}":
        return arguments[0]
    places = ", ".join(f"{{{i}}}" for i in range(len(op.params)))
    called = f"{quote(f'fk_{op.key}')}({places})"
    return "(" + template.replace("{python}", called).format(*arguments) + ")"
