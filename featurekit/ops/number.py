"""Operators on bool, int and float."""

from __future__ import annotations

import math

from featurekit.ops.table import NAMESPACE, Op, register
from featurekit.types import BOOL, FLOAT, INT, Type


def _real_power(base: float, exponent: float) -> float:
    """`base ** exponent`, where Python's complex results are errors (R3)."""
    result = base**exponent
    if isinstance(result, complex):
        raise ValueError("a complex result")
    return result


NAMESPACE["real_power"] = _real_power

# Python compares an int with a float exactly. Below 2**53 the int is a double; a float of 2**53 or
# more is a whole number, so that HUGEINT holds both, up to the float's limit of 2**126 used here.
_SMALL = "({0} BETWEEN -9007199254740992 AND 9007199254740992)"
_EXACT_INT_FLOAT = (
    "CASE WHEN isnan({1}) THEN {nan} WHEN {small} OR abs({1}) < 9007199254740992e0 "
    "OR abs({1}) > 1e38 THEN {0}::DOUBLE {op} {1} "
    "ELSE {0}::HUGEINT {op} {1}::HUGEINT END"
)


def _int(name: str, python: str, sql: str, **more: object) -> Op:
    return Op(name, (INT, INT), INT, python, sql, raises=True, **more)  # type: ignore[arg-type]


def _fits(expression: str) -> str:
    """NULL where an exact HUGEINT lies outside int64; TRY_CAST costs a tenth of TRY."""
    return f"TRY_CAST({expression} AS BIGINT)"


# DuckDB's // truncates and % takes the dividend's sign; Python's floor and take the divisor's.
# Magnitudes are divided as HUGEINT, since INT64_MIN // -1 leaves int64.
_FLOOR_DIV = (
    "CASE WHEN {1} <> 0 THEN TRY_CAST({0}::HUGEINT // {1}::HUGEINT"
    " - CASE WHEN {0}::HUGEINT % {1}::HUGEINT <> 0 AND ({0} < 0) <> ({1} < 0)"
    " THEN 1 ELSE 0 END AS BIGINT) END"
)
_MOD = (
    "CASE WHEN {1} <> 0 THEN (CASE WHEN {0}::HUGEINT % {1}::HUGEINT <> 0"
    " AND ({0} < 0) <> ({1} < 0) THEN {0}::HUGEINT % {1}::HUGEINT + {1}"
    " ELSE {0}::HUGEINT % {1}::HUGEINT END)::BIGINT END"
)

register(
    _int("+", "{0} + {1}", _fits("{0}::HUGEINT + {1}::HUGEINT")),
    _int("-", "{0} - {1}", _fits("{0}::HUGEINT - {1}::HUGEINT")),
    _int("*", "{0} * {1}", _fits("{0}::HUGEINT * {1}::HUGEINT")),
    _int("//", "{0} // {1}", _FLOOR_DIV, edges=((-(2**63), -1), (7, -2), (-7, 2), (6, -2))),
    _int("%", "{0} % {1}", _MOD, edges=((-(2**63), -1), (-7, 3), (7, -3), (-6, 3))),
    Op("negative", (INT,), INT, "-{0}", _fits("-({0}::HUGEINT)"), raises=True),
    Op("positive", (INT,), INT, "+{0}", "{0}"),
    Op("abs", (INT,), INT, "abs({0})", _fits("abs({0}::HUGEINT)"), raises=True),
    Op("+", (FLOAT, FLOAT), FLOAT, "{0} + {1}", "({0} + {1})"),
    Op("-", (FLOAT, FLOAT), FLOAT, "{0} - {1}", "({0} - {1})"),
    Op("*", (FLOAT, FLOAT), FLOAT, "{0} * {1}", "({0} * {1})"),
    # DuckDB divides by zero to inf; Python raises.
    Op(
        "/",
        (FLOAT, FLOAT),
        FLOAT,
        "{0} / {1}",
        "CASE WHEN {1} <> 0 THEN {0} / {1} END",
        raises=True,
    ),
    # The quotient of two ints is rounded once; beyond 2**53 their doubles are not the ints.
    Op(
        "/",
        (INT, INT),
        FLOAT,
        "{0} / {1}",
        "CASE WHEN {1} = 0 THEN NULL WHEN "
        + _SMALL
        + " AND {1} BETWEEN -9007199254740992 AND 9007199254740992"
        " THEN {0}::DOUBLE / {1}::DOUBLE ELSE {python} END",
        raises=True,
        edges=((2**53 + 1, 3), (-(2**63), 2**63 - 1), (2**63 - 1, 3)),
    ),
    Op("//", (FLOAT, FLOAT), FLOAT, "{0} // {1}", raises=True),
    Op("%", (FLOAT, FLOAT), FLOAT, "{0} % {1}", raises=True),
    Op("**", (FLOAT, FLOAT), FLOAT, "real_power({0}, {1})", raises=True, promote="some"),
    Op("negative", (FLOAT,), FLOAT, "-{0}", "(-{0})"),
    Op("positive", (FLOAT,), FLOAT, "+{0}", "{0}"),
    Op("abs", (FLOAT,), FLOAT, "abs({0})", "abs({0})"),
    Op("not", (BOOL,), BOOL, "not {0}", "(NOT {0})"),
)


def _compare(name: str, sql: str, nan: str) -> None:
    """A comparison on each ordered type. DuckDB orders NaN above all and equal to itself; in
    Python it is unordered, so `nan` is what any comparison with it gives."""
    floats = f"CASE WHEN isnan({{0}}) OR isnan({{1}}) THEN {nan} ELSE {{0}} {sql} {{1}} END"
    mirrored = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}.get(sql, sql)
    forward = _EXACT_INT_FLOAT.replace("{nan}", nan).replace("{op}", sql).replace("{small}", _SMALL)
    backward = (
        _EXACT_INT_FLOAT.replace("{nan}", nan).replace("{op}", mirrored).replace("{small}", _SMALL)
    )
    backward = backward.replace("{0}", "{x}").replace("{1}", "{0}").replace("{x}", "{1}")
    python = f"{{0}} {name} {{1}}"
    nulls = "CASE WHEN {0} IS NOT NULL AND {1} IS NOT NULL THEN %s END"
    mixed = ((2**53 + 1, 2.0**53), (2**63 - 1, 2.0**63), (-(2**63), -(2.0**63)), (0, math.nan))
    register(
        Op(name, (BOOL, BOOL), BOOL, python, f"({{0}} {sql} {{1}})"),
        Op(name, (INT, INT), BOOL, python, f"({{0}} {sql} {{1}})"),
        Op(name, (FLOAT, FLOAT), BOOL, python, nulls % floats),
        Op(name, (INT, FLOAT), BOOL, python, nulls % forward, edges=mixed),
        Op(name, (FLOAT, INT), BOOL, python, nulls % backward, edges=tuple(e[::-1] for e in mixed)),
    )


for _name, _sql, _nan in (
    ("==", "=", "FALSE"),
    ("!=", "<>", "TRUE"),
    ("<", "<", "FALSE"),
    ("<=", "<=", "FALSE"),
    (">", ">", "FALSE"),
    (">=", ">=", "FALSE"),
):
    _compare(_name, _sql, _nan)


def _extreme(name: str, sign: str) -> None:
    """min and max keep the first argument unless the second beats it: so do NaN and zeros."""
    floats = (
        f"CASE WHEN {{0}} IS NULL OR {{1}} IS NULL THEN NULL WHEN isnan({{0}}) OR isnan({{1}}) "
        f"THEN {{0}} WHEN {{1}} {sign} {{0}} THEN {{1}} ELSE {{0}} END"
    )
    ints = f"CASE WHEN {{1}} {sign} {{0}} THEN {{1}} WHEN {{1}} IS NOT NULL THEN {{0}} END"
    register(
        Op(name, (INT, INT), INT, f"{name}({{0}}, {{1}})", ints, promote="none"),
        Op(name, (FLOAT, FLOAT), FLOAT, f"{name}({{0}}, {{1}})", floats, promote="none"),
    )


_extreme("min", "<")
_extreme("max", ">")

# A finite double within int64 truncates exactly; 2**63 itself does not fit.
_WHOLE = "CASE WHEN abs({0}) < 9223372036854775808e0 OR {0} = -9223372036854775808e0 THEN %s END"


def _whole(name: str, python: str, function: str) -> Op:
    return Op(name, (FLOAT,), INT, python, _WHOLE % f"({function})::BIGINT", raises=True)


def _math(name: str, sql: str, *, raises: bool, edges: tuple[tuple[float], ...] = ()) -> Op:
    return Op(f"math.{name}", (FLOAT,), FLOAT, f"math.{name}({{0}})", sql, raises, edges)


register(
    Op("bool", (BOOL,), BOOL, "{0}", "{0}"),
    Op("bool", (INT,), BOOL, "{0} != 0", "({0} <> 0)"),
    Op("bool", (FLOAT,), BOOL, "{0} != 0.0", "({0} <> 0)"),  # NaN is true in both
    Op("int", (BOOL,), INT, "int({0})", "{0}::BIGINT"),
    Op("int", (INT,), INT, "{0}", "{0}"),
    _whole("int", "int({0})", "trunc({0})"),
    Op("float", (BOOL,), FLOAT, "float({0})", "{0}::BIGINT::DOUBLE"),
    Op("float", (INT,), FLOAT, "float({0})", "{0}::DOUBLE"),
    Op("float", (FLOAT,), FLOAT, "{0}", "{0}"),
    Op("round", (INT,), INT, "{0}", "{0}"),
    # round_even(x, 0) is half to even, like Python's round(x).
    _whole("round", "round({0})", "round_even({0}, 0)"),
    _whole("math.floor", "math.floor({0})", "floor({0})"),
    _whole("math.ceil", "math.ceil({0})", "ceil({0})"),
    _whole("math.trunc", "math.trunc({0})", "trunc({0})"),
    Op(
        "round",
        (FLOAT, INT),
        FLOAT,
        "round({0}, {1})",
        raises=True,
        edges=((1.7976931348623157e308, -308),),
        promote="none",
    ),
    Op("math.isnan", (FLOAT,), BOOL, "math.isnan({0})", "isnan({0})"),
    Op("math.isinf", (FLOAT,), BOOL, "math.isinf({0})", "isinf({0})"),
    Op("math.isfinite", (FLOAT,), BOOL, "math.isfinite({0})", "isfinite({0})"),
    # ln, exp and sqrt are the platform's libm in DuckDB as in CPython; Python raises on a domain
    # error and where a finite input overflows.
    _math("log", "CASE WHEN {0} > 0 OR isnan({0}) THEN ln({0}) END", raises=True),
    _math("sqrt", "CASE WHEN {0} >= 0 OR isnan({0}) THEN sqrt({0}) END", raises=True),
    _math("exp", "CASE WHEN isinf({0}) OR NOT isinf(exp({0})) THEN exp({0}) END", raises=True),
)


def numeric(type_: Type) -> bool:
    """Whether Python counts with values of the type."""
    return type_.base in (BOOL, INT, FLOAT)
