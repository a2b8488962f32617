"""Comparisons, `min` and `max` of two values."""

from __future__ import annotations

import math
from typing import Any

from featurekit.core.types import BOOL, BYTES, DATE, DATETIME, FLOAT, INT, STR, TIMEDELTA, Type
from featurekit.language.ops.table import Op, register

# DuckDB orders these as Python does. It orders text by the bytes of UTF-8, as code points do.
_PLAIN = (BOOL, INT, STR, BYTES, DATETIME, DATE, TIMEDELTA)
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
_SQL = {"==": "=", "!=": "<>"}
_EXACT = 2**53

# In DuckDB a NaN is above all and equal to itself; in Python every comparison with it is false.
# The difference of two doubles is below zero exactly where the first is less, never with a NaN.
_FINITE = (
    "CASE WHEN {{{checked}}} <= 'inf'::DOUBLE THEN {{0}} {sql} {{1}}"
    " WHEN {{0}} IS NOT NULL AND {{1}} IS NOT NULL THEN {nan} END"
)
_FLOATS = {
    "<": "(({0} - {1}) < 0)",
    ">": "(({1} - {0}) < 0)",
    "<=": _FINITE.format(checked=1, sql="<=", nan="FALSE"),
    ">=": _FINITE.format(checked=0, sql=">=", nan="FALSE"),
    "==": _FINITE.format(checked=0, sql="=", nan="FALSE"),
    "!=": _FINITE.format(checked=0, sql="<>", nan="TRUE"),
}


def _float_literal(name: str, variable: str, value: float) -> str | None:
    """`variable name value` for a literal that needs no care for NaN, which is DuckDB's greatest
    value."""
    if math.isnan(value):
        return None
    plain = f"{variable} {_SQL.get(name, name)} '{value!r}'::DOUBLE"
    return f"({plain} AND {variable} <= 'inf'::DOUBLE)" if name in (">", ">=") else f"({plain})"


def _floats_literal(name: str) -> Any:
    def sql(left: Any, right: Any) -> str | None:
        if left is None:
            return _float_literal(name, "{0}", right)
        return _float_literal(_MIRRORED[name], "{1}", left) if right is None else None

    return sql


# Python compares an int with a float exactly. Below 2**53 the int is a double; a float of 2**53 or
# more is a whole number, so that HUGEINT holds both, up to the limit used here.
_INT_FLOAT = (
    "CASE WHEN {{0}} IS NULL OR {{1}} IS NULL THEN NULL WHEN isnan({{1}}) THEN {nan}"
    " WHEN {{0}} BETWEEN -9007199254740992 AND 9007199254740992"
    " OR abs({{1}}) < 9007199254740992e0 OR abs({{1}}) > 1e38 THEN {{0}}::DOUBLE {sql} {{1}}"
    " ELSE {{0}}::HUGEINT {sql} {{1}}::HUGEINT END"
)


def _int_float_literal(name: str, int_: Any, float_: Any, places: tuple[str, str]) -> str | None:
    """An int against a float, where one is a literal. Against a whole number, both are compared as
    ints."""
    if int_ is not None and float_ is None and abs(int_) <= _EXACT:
        return _float_literal(_MIRRORED[name], places[1], float(int_))
    if float_ is None or int_ is not None or not abs(float_) < 2.0**63:
        return None
    if float_ == int(float_):
        return f"({places[0]} {_SQL.get(name, name)} '{int(float_)}'::BIGINT)"
    if name in ("==", "!="):  # always false or always true, but NULL for NULL
        return f"({places[0]} {'<>' if name == '==' else '='} {places[0]})"
    side = ("<=", math.floor(float_)) if name in ("<", "<=") else (">=", math.ceil(float_))
    return f"({places[0]} {side[0]} '{side[1]}'::BIGINT)"


def _int_first(name: str) -> Any:
    return lambda left, right: _int_float_literal(name, left, right, ("{0}", "{1}"))


def _int_last(name: str) -> Any:
    return lambda left, right: _int_float_literal(_MIRRORED[name], right, left, ("{1}", "{0}"))


def _swapped(template: str) -> str:
    return template.replace("{0}", "{x}").replace("{1}", "{0}").replace("{x}", "{1}")


def _compare(name: str) -> None:
    python, sql = f"{{0}} {name} {{1}}", _SQL.get(name, name)
    mixed = ((2**53 + 1, 2.0**53), (2**63 - 1, 2.0**63), (-(2**63), -(2.0**63)), (0, math.nan))
    nan = "TRUE" if name == "!=" else "FALSE"
    mirrored = _SQL.get(_MIRRORED[name], _MIRRORED[name])
    register(
        *(Op(name, (t, t), BOOL, python, f"({{0}} {sql} {{1}})") for t in _PLAIN),
        Op(
            name,
            (FLOAT, FLOAT),
            BOOL,
            python,
            _FLOATS[name],
            literal_sql=_floats_literal(name),
        ),
        Op(
            name,
            (INT, FLOAT),
            BOOL,
            python,
            _INT_FLOAT.format(nan=nan, sql=sql),
            edges=mixed,
            literal_sql=_int_first(name),
        ),
        Op(
            name,
            (FLOAT, INT),
            BOOL,
            python,
            _swapped(_INT_FLOAT.format(nan=nan, sql=mirrored)),
            edges=tuple(e[::-1] for e in mixed),
            literal_sql=_int_last(name),
        ),
    )


def _extreme(name: str, beats: str) -> None:
    """Rows of min and max: the first argument stays unless the second beats it, also for NaN and
    zeros."""

    def row(type_: Type, test: str) -> Op:
        sql = f"CASE WHEN {test} THEN {{1}} WHEN {{1}} IS NOT NULL THEN {{0}} END"
        return Op(name, (type_, type_), type_, f"{name}({{0}}, {{1}})", sql, promote="none")

    register(
        *(row(t, f"{{1}} {beats} {{0}}") for t in _PLAIN),
        row(FLOAT, "({1} - {0}) < 0" if beats == "<" else "({0} - {1}) < 0"),
    )


for _name in ("==", "!=", "<", "<=", ">", ">="):
    _compare(_name)
_extreme("min", "<")
_extreme("max", ">")
