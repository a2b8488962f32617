"""Turns expressions in SQL into projections that several transforms share.

The columns of a projection are computed from those of the projections before it. An expression that
is needed twice becomes a column once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from featurekit.core.sql import literal, quote
from featurekit.core.values import ERROR
from featurekit.language.ir import Function
from featurekit.language.python_calls import PythonCall, call_of_function


@dataclass(frozen=True, slots=True)
class Sql:
    """A piece of SQL that may stand in the projection numbered `layer` or in a later one."""

    text: str
    layer: int = 0

    @property
    def simple(self) -> bool:
        """Whether it may be written twice at no cost."""
        return len(self.text) <= 40 and " " not in self.text


@dataclass(frozen=True, slots=True)
class Value:
    """An expression in SQL, and whether it may err.

    Where its type has no None, NULL is the error and `error` is not needed. Where it has one,
    `error` is a predicate that is never NULL. The value is NULL where one of the columns `nulls` is
    NULL, so their errors need no test of their own.
    """

    sql: Sql
    errs: bool = False
    error: Sql | None = None
    nulls: frozenset[str] = frozenset()


@dataclass(slots=True)
class Lowering:
    """Projections that several transforms share; `layers[i]` is computed from those before it."""

    prefix: str = "__f"
    layers: list[list[tuple[str, str]]] = field(default_factory=list)
    python_ops: dict[str, PythonCall] = field(default_factory=dict)
    bound: dict[Sql, Sql] = field(default_factory=dict)

    def bind(self, sql: Sql) -> Sql:
        """A column with the value of `sql`, for later layers."""
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
        """The value as a column, which may be used twice."""
        bound = self.bind(value.sql)
        return replace(value, sql=bound, nulls=value.nulls | {bound.text})

    def wrap(self, relation: str) -> str:
        """`SELECT`s around `relation` that add every bound column to its own."""
        for layer in self.layers:
            shown = ", ".join(f"{text} AS {name}" for name, text in layer)
            relation = f"(SELECT *, {shown} FROM {relation})"
        return relation

    def python_call(self, function: Function, values: list[Sql], errors: list[Sql]) -> Value:
        """The function as one vectorised call of Python, for what SQL does not express exactly
        (R5)."""
        call = call_of_function(function)
        if not values and not errors:
            # A constant function, which needs no call for each row.
            constant = call.evaluate()
            erred = constant is ERROR
            shown = literal(None if erred else constant, function.returns)
            return Value(Sql(shown), erred, Sql("TRUE" if erred else "FALSE"))
        self.python_ops[call.name] = call
        made = self.bind(at(lambda *v: f"{quote(call.name)}({', '.join(v)})", *values))
        if not function.returns.optional:
            errors = [*errors, at(lambda v: f"({v} IS NULL)", made)]
        else:
            errors = [*errors, at(lambda v: f"({v}).e", made)]
            made = at(lambda v: f"({v}).v", made)
        error = self.bind(any_of(errors))
        return Value(
            self.bind(at(lambda e, v: f"CASE WHEN NOT {e} THEN {v} END", error, made)), True, error
        )


def at(template: Callable[..., str], *parts: Sql) -> Sql:
    """`template` of the parts' texts, in the first layer where all of them may stand."""
    return Sql(template(*(p.text for p in parts)), max((p.layer for p in parts), default=0))


def cases_sql(*texts: str, other: str = "") -> str:
    """A CASE, from conditions and values in turn."""
    pairs = zip(texts[::2], texts[1::2], strict=True)
    branches = " ".join(f"WHEN {g} THEN {v}" for g, v in pairs)
    return f"CASE {branches} ELSE {other} END" if other else f"CASE {branches} END"


def chosen_sql(test: str, then: str, other: str) -> str:
    return f"CASE WHEN {test} THEN {then} ELSE {other} END"


def any_of(conditions: list[Sql]) -> Sql:
    """`OR` of one condition or more."""
    return at(lambda *c: "(" + " OR ".join(c) + ")" if len(c) > 1 else c[0], *conditions)


def missing(column: Sql) -> Sql:
    """The error of a column whose type has no None: it is NULL."""
    return at(lambda v: f"({v} IS NULL)", column)
