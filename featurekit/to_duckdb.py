"""Lowers a transform's IR to DuckDB: layers of projections, one column per assignment.

Three facts make it small. Operators are total: NULL where Python raises (R3), NULL where an argument
is. Arguments are never None (R2), so in a column of a type without None, NULL *is* the error. And
branches become columns that a CASE chooses from, so that SQL grows linearly with the function.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from featurekit import ops
from featurekit.ir import (
    Assign,
    Both,
    Call,
    Choose,
    Const,
    Either,
    Evaluate,
    Expr,
    Function,
    If,
    IsNone,
    Let,
    Name,
    Return,
    Statement,
)
from featurekit.types import Type


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
            return f"'{value.astimezone(dt.timezone.utc).replace(tzinfo=None)}'::TIMESTAMP"
        case dt.date():
            return f"'{value}'::DATE"
        case dt.timedelta():
            return f"'{value // dt.timedelta(microseconds=1)}'::BIGINT"
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
    python_ops: set[str] = field(default_factory=set)
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
        lowering = _Function(self, function)
        for param, argument in zip(function.params, arguments, strict=True):
            lowering.env[param.name] = argument.sql
            if argument.error is not None:
                lowering.errors.append(argument.error)  # reading an erring feature errs (R3)
        return lowering.run()


def _at(template: Callable[..., str], *parts: Sql) -> Sql:
    return Sql(template(*(p.text for p in parts)), max((p.layer for p in parts), default=0))


def _or(conditions: list[Sql]) -> Sql | None:
    if not conditions:
        return None
    return _at(lambda *c: "(" + " OR ".join(c) + ")" if len(c) > 1 else c[0], *conditions)


class _Function:
    """One function on its way to SQL: locals are columns, and every statement has the condition
    under which Python reaches it, None standing for always."""

    def __init__(self, lowering: Lowering, function: Function) -> None:
        self.lowering = lowering
        self.function = function
        self.env: dict[str, Sql] = {}
        self.errors: list[Sql] = []
        self.returns: list[tuple[Sql | None, Sql]] = []

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
        first_guard, first = self.returns[0]
        if first_guard is None:
            return first
        parts = [p for guard, value in self.returns for p in (guard or Sql("TRUE"), value)]

        def cases(*texts: str) -> str:
            pairs = zip(texts[::2], texts[1::2], strict=True)
            return "CASE " + " ".join(f"WHEN {g} THEN {v}" for g, v in pairs) + " END"

        return _at(cases, *parts)

    # --- statements -------------------------------------------------------------------------------

    def block(self, statements: tuple[Statement, ...], guard: Sql | None) -> tuple[bool, Sql | None]:
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
        return True, guard

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
        assert then_end is not None and else_end is not None
        return True, bind(_at(lambda a, b: f"({a} OR {b})", then_end, else_end))

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
                return self.also(node, inner, self.lowering.bind(outer_error))

    def also(self, node: Expr, inner: Value, error: Sql) -> Value:
        """`inner`, which errs where `error` says so, too."""
        shown = _at(lambda e, v: f"CASE WHEN NOT {e} THEN {v} END", error, inner.sql)
        if inner.error is None:
            return Value(shown, True, error)
        return Value(shown, True, _at(lambda a, b: f"({a} OR {b})", error, inner.error))

    def call(self, op: ops.Op, nodes: tuple[Expr, ...]) -> Value:
        values = [self.expr(n) for n in nodes]
        template = op.sql or "{python}"
        # A NULL in one argument makes the row's SQL NULL, and so does an error of the operator.
        arguments = [
            v.sql if template.count(f"{{{i}}}") <= 1 and "{python}" not in template
            else self.lowering.bind(v.sql)
            for i, v in enumerate(values)
        ]  # fmt: skip
        if "{python}" in template:
            self.lowering.python_ops.add(op.key)
        sql = _at(lambda *texts: op_sql(op, texts), *arguments)
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


def op_sql(op: ops.Op, arguments: Sequence[str]) -> str:
    """The row's SQL over `arguments`, which stand in it as often as it likes."""
    template = op.sql or "{python}"
    places = ", ".join(f"{{{i}}}" for i in range(len(arguments)))
    called = f"{python_name(op)}({places})"
    return "(" + template.replace("{python}", called).format(*arguments) + ")"


def python_name(op: ops.Op) -> str:
    """The name under which DuckDB knows the operator's Python meaning."""
    return quote(f"fk_{op.key}")


def register_python_ops(con: Any, keys: set[str]) -> None:
    """Make the Python meanings of these rows callable in DuckDB, over distinct inputs (R5)."""
    import duckdb

    for key in sorted(keys):
        op = ops.TABLE[key]
        name = f"fk_{op.key}"
        known = con.execute("SELECT 1 FROM duckdb_functions() WHERE function_name = ?", [name])
        if known.fetchall():
            continue
        con.create_function(
            name,
            _vectorised(op),
            [duckdb.dtype(p.duckdb) for p in op.params],
            duckdb.dtype(op.result.duckdb),
            type="arrow",
            null_handling="special",
            side_effects=False,
        )


def _vectorised(op: ops.Op) -> Callable[..., Any]:
    """The row's Python meaning from Arrow columns to an Arrow column, each distinct input once."""
    import pyarrow as pa

    body = op.body()
    type_ = op.result.arrow if op.result.name != "datetime" else pa.timestamp("us")

    def one(key: tuple[Any, ...]) -> Any:
        if None in key:
            return None
        try:
            return body(*key)
        except ops.ERRORS:
            return None

    def evaluate(*columns: Any) -> Any:
        seen: dict[Any, Any] = {}
        out = []
        for key in zip(*(c.to_pylist() for c in columns), strict=True):
            # -0.0 equals 0.0, and a NaN equals nothing: neither may stand for another's result.
            distinct = tuple(v.hex() if isinstance(v, float) else v for v in key)
            if distinct not in seen:
                seen[distinct] = one(key)
            out.append(seen[distinct])
        return pa.array(out, type=type_)

    # DuckDB counts a function's parameters and takes no *args.
    names = ", ".join(f"a{i}" for i in range(len(op.params)))
    counted: Callable[..., Any] = eval(f"lambda {names}: evaluate({names})", {"evaluate": evaluate})
    return counted
