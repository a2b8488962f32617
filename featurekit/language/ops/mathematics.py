"""The functions of Python's `math`.

DuckDB and CPython call the same C library in one process. So a function that both only pass on
gives the same bits, and only where it raises differs. CPython has a `hypot` of its own, and DuckDB
has no `expm1` and no `log1p`. The numeric fingerprint (R6) tells C libraries apart.
"""

from __future__ import annotations

import math
from typing import Any

from featurekit.core.types import BOOL, FLOAT, INT
from featurekit.language.ops.table import Op, register

_NAN = "isnan({0})"
# The greatest x whose result is finite: Python raises for the next double.
_EXP_END = "709.782712893384e0"
_SINH_END = "710.4758600739439e0"
_ANY = ""


def _function(
    name: str, domain: str | None, sql: str | None = None, edges: tuple[float, ...] = ()
) -> Op:
    """`math.name` of a float. `domain` is the condition for a value; it is empty where every float
    has one, and None where Python computes the function."""
    call = f"{sql or name}({{0}})"
    guarded = f"CASE WHEN {domain} THEN {call} END" if domain else call
    return Op(
        f"math.{name}",
        (FLOAT,),
        FLOAT,
        f"math.{name}({{0}})",
        None if domain is None else guarded,
        raises=name not in ("tanh", "atan", "asinh", "cbrt", "fabs", "degrees", "radians"),
        edges=tuple((e,) for e in edges),
        platform="" if name in ("sqrt", "fabs", "degrees", "radians") else "libm",
    )


_UNIT = (1.0, -1.0, math.nextafter(1.0, 2.0), math.nextafter(1.0, 0.0), -math.nextafter(1.0, 2.0))
_FINITE = "NOT isinf({0})"

register(
    _function("exp", f"{{0}} <= {_EXP_END} OR {{0}} >= 'inf'::DOUBLE", edges=(709.782712893384,)),
    _function("expm1", None),
    _function("log", f"{{0}} > 0 OR {_NAN}", "ln"),
    _function("log1p", None, edges=(-1.0, -2.0)),
    _function("log2", f"{{0}} > 0 OR {_NAN}"),
    _function("log10", f"{{0}} > 0 OR {_NAN}"),
    _function("sqrt", f"{{0}} >= 0 OR {_NAN}"),
    _function("cbrt", _ANY, edges=(27.0,)),
    _function("sin", _FINITE),
    _function("cos", _FINITE),
    _function("tan", _FINITE),
    _function("asin", f"{{0}} BETWEEN -1 AND 1 OR {_NAN}", edges=_UNIT),
    _function("acos", f"{{0}} BETWEEN -1 AND 1 OR {_NAN}", edges=_UNIT),
    _function("atan", _ANY),
    _function("sinh", f"abs({{0}}) <= {_SINH_END} OR abs({{0}}) >= 'inf'::DOUBLE"),
    _function("cosh", f"abs({{0}}) <= {_SINH_END} OR abs({{0}}) >= 'inf'::DOUBLE"),
    _function("tanh", _ANY),
    _function("asinh", _ANY),
    _function("acosh", f"{{0}} >= 1 OR {_NAN}", edges=_UNIT),
    _function("atanh", f"({{0}} > -1 AND {{0}} < 1) OR {_NAN}", edges=_UNIT),
    _function("fabs", _ANY, "abs"),
    Op("math.degrees", (FLOAT,), FLOAT, "math.degrees({0})", f"({{0}} * {180 / math.pi!r}e0)"),
    Op("math.radians", (FLOAT,), FLOAT, "math.radians({0})", f"({{0}} * {math.pi / 180!r}e0)"),
)

_FLOATS = (FLOAT, FLOAT)


def _isclose(a: Any, b: Any, rel_tol: Any, abs_tol: Any) -> str | None:
    """With the usual tolerances. A NaN is close to nothing, and an infinity only to itself."""
    if rel_tol is None or abs_tol is None or not (0 <= rel_tol < 1 and 0 <= abs_tol < math.inf):
        return None
    return (
        "CASE WHEN isfinite({0}) AND isfinite({1}) THEN abs({1} - {0}) <= "
        f"greatest(abs('{rel_tol!r}'::DOUBLE * {{1}}), abs('{rel_tol!r}'::DOUBLE * {{0}}),"
        f" '{abs_tol!r}'::DOUBLE)"
        " WHEN {0} IS NOT NULL AND {1} IS NOT NULL THEN {0} = {1} AND isinf({0}) END"
    )


register(
    Op(
        "math.log",
        _FLOATS,
        FLOAT,
        "math.log({0}, {1})",
        "CASE WHEN ({0} > 0 OR isnan({0})) AND ({1} > 0 OR isnan({1}))"
        " THEN ln({0}) / nullif(ln({1}), 0) END",
        raises=True,
        platform="libm",
        edges=((8.0, 2.0), (8.0, 1.0), (100.0, 10.0), (math.inf, math.inf), (2.0, 0.0)),
    ),
    Op(
        "math.pow",
        _FLOATS,
        FLOAT,
        "math.pow({0}, {1})",
        "CASE WHEN abs({2}) < 'inf'::DOUBLE THEN {2}"
        " WHEN {0} IS NOT NULL AND {1} IS NOT NULL THEN {python} END",
        raises=True,
        steps=("pow({0}, {1})",),
        platform="libm",
        edges=((-8.0, 1 / 3), (0.0, -1.0), (math.inf, -1.0), (-math.inf, 3.0)),
    ),
    Op(
        "math.hypot",
        _FLOATS,
        FLOAT,
        "math.hypot({0}, {1})",
        platform="libm",
        edges=((1.7976931348623157e308, 1.7976931348623157e308), (3.0, 4.0)),
    ),
    Op("math.atan2", _FLOATS, FLOAT, "math.atan2({0}, {1})", "atan2({0}, {1})", platform="libm"),
    Op(
        "math.fmod",
        _FLOATS,
        FLOAT,
        "math.fmod({0}, {1})",
        "CASE WHEN isnan({0}) THEN CASE WHEN {1} IS NOT NULL THEN {0} END"
        " WHEN {1} <> 0 AND (NOT isinf({0}) OR isnan({1})) THEN {0} % {1} END",
        raises=True,
        platform="libm",
    ),
    Op(
        "math.copysign",
        _FLOATS,
        FLOAT,
        "math.copysign({0}, {1})",
        "CASE WHEN signbit({1}) THEN -abs({0}) WHEN NOT signbit({1}) THEN abs({0}) END",
    ),
    Op("math.isnan", (FLOAT,), BOOL, "math.isnan({0})", "isnan({0})"),
    Op("math.isinf", (FLOAT,), BOOL, "math.isinf({0})", "isinf({0})"),
    Op("math.isfinite", (FLOAT,), BOOL, "math.isfinite({0})", "isfinite({0})"),
    Op(
        "math.isclose",
        (FLOAT, FLOAT, FLOAT, FLOAT),
        BOOL,
        "math.isclose({0}, {1}, rel_tol={2}, abs_tol={3})",
        raises=True,
        literal_sql=_isclose,
        names=("a", "b", "rel_tol", "abs_tol"),
        defaults=(1e-09, 0.0),
        edges=tuple(
            (a, b, 1e-9, 0.0)
            for a in (1.0, math.nan, math.inf, -math.inf, 0.0, 1e308, 1e-320)
            for b in (1.0 + 1e-10, math.nan, math.inf, -0.0, -1e308, 1e-321, 1.0 + 1e-8)
        ),
    ),
    # The gcd of the least int64 is outside int64: an error, for which DuckDB would raise.
    Op(
        "math.gcd",
        (INT, INT),
        INT,
        "math.gcd({0}, {1})",
        "CASE WHEN {0} > '-9223372036854775808'::BIGINT AND {1} > '-9223372036854775808'::BIGINT"
        " THEN gcd({0}, {1}) WHEN {0} IS NOT NULL AND {1} IS NOT NULL THEN {python} END",
        raises=True,
        edges=((-(2**63), 0), (-(2**63), -(2**63)), (12, -18), (0, 0), (-(2**63), 6)),
    ),
)

# A finite double within int64 truncates exactly; 2**63 itself does not fit.
WHOLE = "CASE WHEN {0} >= -9223372036854775808e0 AND {0} < 9223372036854775808e0 THEN %s END"


# A double above 2**52 has no bits below the point: adding 1.5 · 2**52 rounds, halves to even.
_ROUND = (
    "CASE WHEN abs({0}) < 2251799813685248e0 THEN ({0} + 6755399441055744e0) - 6755399441055744e0"
    " ELSE round_even({0}, 0) END"
)


def _whole(name: str, python: str, expression: str) -> Op:
    return Op(name, (FLOAT,), INT, python, WHOLE % f"({expression})::BIGINT", raises=True)


register(
    _whole("int", "int({0})", "trunc({0})"),
    _whole("round", "round({0})", _ROUND),
    _whole("math.floor", "math.floor({0})", "floor({0})"),
    _whole("math.ceil", "math.ceil({0})", "ceil({0})"),
    _whole("math.trunc", "math.trunc({0})", "trunc({0})"),
    *(Op(f"math.{n}", (INT,), INT, "{0}", "{0}") for n in ("floor", "ceil", "trunc")),
    Op("round", (INT,), INT, "{0}", "{0}"),
)
