"""Lowers a transform's IR to DuckDB: layers of projections, one column per assignment.

Three facts make it small. Operators are total: NULL where Python raises (R3), NULL where an
argument is. Arguments are never None (R2), so in a column of a type without None, NULL *is* the
error. And branches become columns that a CASE chooses from, so that SQL grows linearly with the
function. What SQL does not say exactly, loops over lists above all, runs as one Python call (R5).
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from featurekit import ops
from featurekit.ir import (
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
    Rows,
    Statement,
    Verbatim,
    Zip,
    free,
)
from featurekit.to_python import ERROR
from featurekit.types import Type
from featurekit.vectorise import PythonCall, call_of_function, call_of_op
from featurekit.vectorise import register_python_ops as register_python_ops


def quote(identifier: str) -> str:
    """A quoted SQL identifier."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(value: Any, type_: Type) -> str:
    """A typed SQL literal, exact to the bit."""
    if value is None:
        return f"NULL::{type_.duckdb}" if type_.name != "None" else "NULL"
    match value:
        case bool():
            return "TRUE" if value else "FALSE"
        case int():
            return f"'{value}'::BIGINT" if value < 0 else f"{value}::BIGINT"
        case float():
            text = "nan" if math.isnan(value) else repr(value)
            return f"'{text}'::DOUBLE"
        case str():
            return text_literal(value)
        case bytes():
            return "'" + "".join(f"\\x{b:02X}" for b in value) + "'::BLOB"
        case dt.datetime():
            return f"'{value.astimezone(dt.UTC).replace(tzinfo=None)}'::TIMESTAMP"
        case dt.date():
            return f"'{value}'::DATE"
        case dt.timedelta():
            return f"'{value // dt.timedelta(microseconds=1)}'::BIGINT"
        case list() | tuple():
            assert type_.item is not None
            items = ", ".join(literal(v, type_.item) for v in value)
            return f"CAST([{items}] AS {type_.duckdb})"  # x::T[][1] is a type, and no element
        case _:
            raise TypeError(f"{value!r} has no SQL literal")


def text_literal(value: str) -> str:
    """A VARCHAR literal; a NUL character cannot stand in the text of a query."""
    pieces = ["'" + piece.replace("'", "''") + "'" for piece in value.split("\0")]
    return pieces[0] if len(pieces) == 1 else "(" + " || chr(0) || ".join(pieces) + ")"


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
    `error` is a predicate that is never NULL.
    """

    sql: Sql
    errs: bool = False
    error: Sql | None = None


@dataclass(slots=True)
class Lowering:
    """Projections that several transforms share: `layers[i]` is computed from those before it."""

    prefix: str = "__f"
    layers: list[list[tuple[str, str]]] = field(default_factory=list)
    python_ops: dict[str, PythonCall] = field(default_factory=dict)
    columns: int = 0

    def bind(self, sql: Sql) -> Sql:
        """A column that holds `sql`, for layers above it."""
        if sql.simple:
            return sql
        while len(self.layers) <= sql.layer:
            self.layers.append([])
        name = quote(f"{self.prefix}{self.columns}")
        self.columns += 1
        self.layers[sql.layer].append((name, sql.text))
        return Sql(name, sql.layer + 1)

    def wrap(self, relation: str) -> str:
        """`SELECT`s around `relation` that add every bound column to its own."""
        for layer in self.layers:
            shown = ", ".join(f"{text} AS {name}" for name, text in layer)
            relation = f"(SELECT *, {shown} FROM {relation})"
        return relation

    def lower(self, function: Function, arguments: Sequence[Value]) -> Value:
        """The function's value over `arguments`, one for each parameter (R1).

        The value is NULL where the function errs, and so is a None: `error` tells them apart.
        """
        errors = [a.error for a in arguments if a.error is not None]  # reading one errs (R3)
        values = [a.sql for a in arguments]
        if _in_python(function.body):
            return self.python_call(function, values, errors)
        lowering = _Function(self, function)
        lowering.errors = errors
        for param, value in zip(function.params, values, strict=True):
            lowering.env[param.name] = value
        return lowering.run()

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
        error = _or(errors)
        assert error is not None
        error = self.bind(error)
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


def _cases(*texts: str) -> str:
    pairs = zip(texts[::2], texts[1::2], strict=True)
    return "CASE " + " ".join(f"WHEN {g} THEN {v}" for g, v in pairs) + " END"


def _or(conditions: list[Sql]) -> Sql | None:
    if not conditions:
        return None
    return _at(lambda *c: "(" + " OR ".join(c) + ")" if len(c) > 1 else c[0], *conditions)


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
            case For(_, Rows(rows), inner):
                total += len(rows) * _weight(inner) if rows else 0
            case For(_, Zip(), _):
                return math.inf
            case _:
                total += 1
    return total


@dataclass(slots=True)
class _Loop:
    """The ways out of a loop's body so far: their conditions, and the locals there."""

    breaks: list[_Path] = field(default_factory=list)
    continues: list[_Path] = field(default_factory=list)


_Path = tuple[Sql | None, dict[str, Sql]]


class _Function:
    """One function on its way to SQL: locals are columns, and every statement has the condition
    under which Python reaches it, None standing for always."""

    def __init__(self, lowering: Lowering, function: Function) -> None:
        self.lowering = lowering
        self.function = function
        self.env: dict[str, Sql] = {}
        self.errors: list[Sql] = []
        self.returns: list[tuple[Sql | None, Sql]] = []
        self.loops: list[_Loop] = []

    def run(self) -> Value:
        self.block(self.function.body, None)
        value = self.result()
        error = _or(self.errors)
        if error is None:
            return Value(self.lowering.bind(value), False)
        # A guard is NULL only below a test that erred, which is an error of its own.
        error = self.lowering.bind(_at(lambda e: f"coalesce({e}, TRUE)", error))
        value = _at(lambda e, v: f"CASE WHEN NOT {e} THEN {v} END", error, value)
        return Value(self.lowering.bind(value), True, error)

    def result(self) -> Sql:
        if not self.returns:
            return Sql(literal(None, self.function.returns))  # every path raises
        first_guard, first = self.returns[0]
        if first_guard is None:
            return first
        parts = [p for guard, value in self.returns for p in (guard or Sql("TRUE"), value)]

        return _at(_cases, *parts)

    # --- statements -------------------------------------------------------------------------------

    def block(
        self, statements: tuple[Statement, ...], guard: Sql | None
    ) -> tuple[bool, Sql | None]:
        """Whether control leaves the block below, and under which condition."""
        for statement in statements:
            match statement:
                case Assign(name, value):
                    self.env[name] = self.evaluate(value, guard)
                case Evaluate(value):
                    self.evaluate(value, guard)
                case Return(value):
                    self.returns.append((guard, self.evaluate(value, guard)))
                    return False, guard
                case If():
                    alive, guard = self.branch(statement, guard)
                    if not alive:
                        return False, guard
                case For(names, Rows(rows), body):
                    alive, guard = self.loop(names, rows, body, guard)
                    if not alive:
                        return False, guard
                case Break():
                    self.loops[-1].breaks.append((guard, dict(self.env)))
                    return False, guard
                case Continue():
                    self.loops[-1].continues.append((guard, dict(self.env)))
                    return False, guard
                case Fail():
                    self.errors.append(guard or Sql("TRUE"))
                    return False, guard
                case For() | Verbatim():
                    raise TypeError("lowered as a whole in Python")
        return True, guard

    def loop(
        self,
        names: tuple[str, ...],
        rows: tuple[tuple[Expr, ...], ...],
        body: tuple[Statement, ...],
        guard: Sql | None,
    ) -> tuple[bool, Sql | None]:
        """The body once for each row."""
        ends: list[_Path] = []
        alive = True
        for row in rows:
            for name, value in zip(names, row, strict=True):
                self.env[name] = self.evaluate(value, guard)
            self.loops.append(_Loop())
            going, end = self.block(body, guard)
            here = self.loops.pop()
            ends += here.breaks
            paths = [*here.continues, *([(end, self.env)] if going else [])]
            if not paths:
                alive = False
                break
            if len(paths) > 1 or here.breaks or here.continues:
                guard = self.join(paths)
            elif end is not guard:
                guard = end
        if alive:
            ends.append((guard, self.env))
        if not ends:
            return False, guard
        return True, self.join(ends)

    def join(self, paths: list[_Path]) -> Sql | None:
        """Locals and condition where several ways meet, of which at most one was taken."""
        if len(paths) == 1:
            guard, self.env = paths[0]
            return guard
        conditions = [g for g, _ in paths if g is not None]
        assert len(conditions) == len(paths), "a way that is always taken meets no other"
        merged = dict(paths[0][1])
        for name, first in paths[0][1].items():
            values = [env.get(name) for _, env in paths]
            if any(v is None for v in values) or all(v == first for v in values):
                continue
            parts = [p for pair in zip(conditions, values, strict=True) for p in pair if p]
            merged[name] = self.lowering.bind(_at(_cases, *parts))
        self.env = merged
        either = _or(conditions)
        assert either is not None
        return self.lowering.bind(either)

    def evaluate(self, value: Expr, guard: Sql | None) -> Sql:
        made = self.expr(value)
        bound = self.lowering.bind(made.sql)
        error = self.error_of(value, Value(bound, made.errs, made.error))
        if error is not None:
            self.errors.append(
                error if guard is None else _at(lambda g, e: f"({g} AND {e})", guard, error)
            )
        return bound

    def branch(self, node: If, guard: Sql | None) -> tuple[bool, Sql | None]:
        test = self.evaluate(node.test, guard)
        bind = self.lowering.bind
        before = dict(self.env)
        if guard is None:
            then_guard, else_guard = test, bind(_at(lambda t: f"(NOT {t})", test))
        else:
            then_guard = bind(_at(lambda g, t: f"({g} AND {t})", guard, test))
            else_guard = bind(_at(lambda g, t: f"({g} AND NOT {t})", guard, test))
        then_alive, then_end = self.block(node.then, then_guard)
        then_env, self.env = self.env, before
        else_alive, else_end = self.block(node.orelse, else_guard)
        if not then_alive:
            return else_alive, else_end
        if not else_alive:
            self.env = then_env
            return True, then_end
        for name, value in then_env.items():
            other = self.env.get(name)
            if other is None:
                self.env[name] = value  # bound on one path: read on none
            elif other != value:
                self.env[name] = bind(
                    _at(lambda t, a, b: f"CASE WHEN {t} THEN {a} ELSE {b} END", test, value, other)
                )
        if then_end == then_guard and else_end == else_guard:
            return True, guard
        either = _or([g for g in (then_end, else_end) if g is not None])
        assert either is not None
        return True, bind(either)

    # --- expressions ------------------------------------------------------------------------------

    def error_of(self, node: Expr, value: Value) -> Sql | None:
        """When `node` errs, None where it cannot; mentions the value, which should be bound."""
        if not value.errs:
            return None
        return value.error if node.type.optional else _at(lambda v: f"({v} IS NULL)", value.sql)

    def expr(self, node: Expr) -> Value:
        match node:
            case Const(value, type_):
                return Value(Sql(literal(value, type_)))
            case Name(name, _):
                return Value(self.env[name])
            case Call(key, args, _):
                return self.call(ops.TABLE[key], args)
            case Choose(test, then, orelse, _):
                return self.choose(node, self.expr(test), self.expr(then), self.expr(orelse))
            case Both(left, right, _):
                return self.choose(node, self.expr(left), self.expr(right), Value(Sql("FALSE")))
            case Either(left, right, _):
                return self.choose(node, self.expr(left), Value(Sql("TRUE")), self.expr(right))
            case IsNone(value, _):
                inner = self.expr(value)
                if not inner.errs:
                    return Value(_at(lambda v: f"({v} IS NULL)", inner.sql))
                bound = self.lowering.bind(inner.sql)
                error = self.error_of(value, Value(bound, True, inner.error))
                assert error is not None
                shown = _at(lambda e, v: f"CASE WHEN NOT {e} THEN {v} IS NULL END", error, bound)
                return Value(shown, True)
            case Let(name, value, body, _):
                bound_value = self.expr(value)
                bound = self.lowering.bind(bound_value.sql)
                self.env[name] = bound
                inner = self.expr(body)
                outer_error = self.error_of(
                    value, Value(bound, bound_value.errs, bound_value.error)
                )
                if outer_error is None:
                    return inner
                return self.also(inner, self.lowering.bind(outer_error))
            case Bind(name, value, _):
                made = self.expr(value)
                self.env[name] = self.lowering.bind(made.sql)
                return Value(self.env[name], made.errs, made.error)
            case Lookup():
                return self.lookup(node)
            case Apply(function, args, _):
                return self.apply(function, args)
            case ListOf(items, type_):
                return self.list_of(items, type_)
            case Each():
                params = tuple(Param(n, t) for n, t in free(node).items())
                function = Function("", params, (Return(node),), node.type)
                return self.lowering.python_call(function, [self.env[p.name] for p in params], [])

    def lookup(self, node: Lookup) -> Value:
        key = self.expr(node.key)
        bound = self.lowering.bind(key.sql)
        found = _at(lambda k: _entry(k, node.key.type, node.type, node.table), bound)
        if node.default is None:
            return Value(found, True)  # NULL where the key is absent: the error
        other = self.expr(node.default)
        shown = _at(
            lambda k, f, d: f"CASE WHEN {k} IS NOT NULL THEN coalesce({f}, {d}) END",
            bound,
            found,
            other.sql,
        )
        error = self.error_of(node.key, Value(bound, key.errs, key.error))
        return Value(shown, key.errs, error)

    def apply(self, function: Function, args: tuple[Expr, ...]) -> Value:
        values = []
        errors = []
        for node in args:
            made = self.expr(node)
            bound = self.lowering.bind(made.sql)
            error = self.error_of(node, Value(bound, made.errs, made.error))
            if error is not None:
                errors.append(self.lowering.bind(error))
            values.append(Value(bound))
        if errors:
            error = _or(errors)
            values[0] = Value(values[0].sql, True, error)
        return self.lowering.lower(function, values)

    def list_of(self, items: tuple[Expr, ...], type_: Type) -> Value:
        values = []
        errors = []
        for node in items:
            made = self.expr(node)
            bound = self.lowering.bind(made.sql)
            error = self.error_of(node, Value(bound, made.errs, made.error))
            if error is not None:
                errors.append(error)
            values.append(bound)
        assert type_.item is not None
        # In a branch not taken a name may be NULL, and a list that holds it fits no operator.
        given = [i for i, n in enumerate(items) if not isinstance(n, Const)]
        given = [] if type_.item.optional else given

        def display(*shown: str) -> str:
            made = f"CAST([{', '.join(shown)}] AS {type_.duckdb})"
            known = " AND ".join(f"{shown[i]} IS NOT NULL" for i in given)
            return f"CASE WHEN {known} THEN {made} END" if known else made

        shown = _at(display, *values)
        error = _or(errors)
        if error is None:
            return Value(shown)
        return Value(_at(lambda e, v: f"CASE WHEN NOT {e} THEN {v} END", error, shown), True)

    def also(self, inner: Value, error: Sql) -> Value:
        """`inner`, which errs where `error` says so, too."""
        shown = _at(lambda e, v: f"CASE WHEN NOT {e} THEN {v} END", error, inner.sql)
        if inner.error is None:
            return Value(shown, True, error)
        return Value(shown, True, _at(lambda a, b: f"({a} OR {b})", error, inner.error))

    def call(self, op: ops.Op, nodes: tuple[Expr, ...]) -> Value:
        values = [self.expr(n) for n in nodes]
        template = op.template([n.value if isinstance(n, Const) else None for n in nodes])
        # A NULL in one argument makes the row's SQL NULL, and so does an error of the operator.
        places = template + "".join(op.steps)
        arguments = [
            v.sql if places.count(f"{{{i}}}") <= 1 and "{python}" not in template
            else self.lowering.bind(v.sql)
            for i, v in enumerate(values)
        ]  # fmt: skip
        for i, step in enumerate(op.steps, len(values)):
            if f"{{{i}}}" in places:
                made = _at(lambda *texts, step=step: step.format(*texts), *arguments)
                arguments.append(self.lowering.bind(made))
        if "{python}" in template:
            call = call_of_op(op)
            self.lowering.python_ops[call.name] = call
        sql = _at(lambda *texts: op_sql(op, texts, template), *arguments)
        return Value(sql, op.raises or any(v.errs for v in values))

    def choose(self, node: Expr, test: Value, then: Value, orelse: Value) -> Value:
        if not test.errs:
            shown = _at(
                lambda t, a, b: f"CASE WHEN {t} THEN {a} ELSE {b} END",
                test.sql,
                then.sql,
                orelse.sql,
            )
            bound_test = test.sql
        else:
            bound_test = self.lowering.bind(test.sql)
            shown = _at(
                lambda t, a, b: f"CASE WHEN {t} THEN {a} WHEN NOT {t} THEN {b} END",
                bound_test,
                then.sql,
                orelse.sql,
            )
        if not (test.errs or then.errs or orelse.errs):
            return Value(shown)
        if not node.type.optional:
            return Value(shown, True)
        bound_test = self.lowering.bind(bound_test)
        return Value(shown, True, self.chosen_error(node, bound_test, then, orelse))

    def chosen_error(self, node: Expr, test: Sql, then: Value, orelse: Value) -> Sql:
        """The error of a choice that may be None: of its test, or of the branch taken."""
        assert isinstance(node, Choose)
        branches = []
        for branch_node, branch in ((node.then, then), (node.orelse, orelse)):
            bound = Value(self.lowering.bind(branch.sql), branch.errs, branch.error)
            branches.append(self.error_of(branch_node, bound) or Sql("FALSE"))
        made = _at(
            lambda t, a, b: f"CASE WHEN {t} THEN {a} WHEN NOT {t} THEN {b} ELSE TRUE END",
            test,
            *branches,
        )
        return self.lowering.bind(made)


def _entry(key: str, key_type: Type, value_type: Type, table: tuple[tuple[Any, Any], ...]) -> str:
    """The entry of a table that holds no None; NULL where the key is absent.

    A search in a list of constants is some six times as fast as a CASE of many branches.
    """
    keys = [literal(k, key_type) for k, _ in table]
    values = [literal(v, value_type.base) for _, v in table]
    if len(table) > 8 and key_type.name != "float":
        return f"([{', '.join(values)}])[list_position([{', '.join(keys)}], {key})]"
    entries = " ".join(f"WHEN {k} THEN {v}" for k, v in zip(keys, values, strict=True))
    return f"CASE {key} {entries} END"


def op_sql(op: ops.Op, arguments: Sequence[str], template: str) -> str:
    """The row's SQL over `arguments`, which stand in it as often as it likes."""
    places = ", ".join(f"{{{i}}}" for i in range(len(op.params)))
    called = f"{quote(f'fk_{op.key}')}({places})"
    return "(" + template.replace("{python}", called).format(*arguments) + ")"
