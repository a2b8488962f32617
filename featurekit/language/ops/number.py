"""Arithmetic on bool, int and float."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from featurekit.core.types import BOOL, FLOAT, INT, INT_MAX, INT_MIN, Type
from featurekit.core.values import Beyond
from featurekit.language.ops.table import NAMESPACE, TABLE, Op, register


def _real_power(base: float, exponent: float) -> float:
    """`base ** exponent`. ValueError where Python's result would be complex (R3)."""
    result: float | complex = base**exponent
    if isinstance(result, complex):
        raise Beyond("a complex result")
    return result


def _int_power(base: int, exponent: int) -> int:
    if exponent > 63 and abs(base) > 1:
        raise Beyond("an int outside int64")  # raised before the result fills the memory
    result: int = base**exponent
    return result


def _shift_left(value: int, count: int) -> int:
    if value and count > 63:
        raise Beyond("an int outside int64")
    return value << count if value or count < 0 else 0


def _round_int(value: int, digits: int) -> int:
    """`round(value, digits)`. Half of 10**20 is beyond int64, so with such digits all ints round to
    zero."""
    return round(value, digits) if digits > -20 else 0


NAMESPACE |= {
    "real_power": _real_power,
    "int_power": _int_power,
    "shift_left": _shift_left,
    "round_int": _round_int,
}

_MIN, _MAX = f"'{INT_MIN}'::BIGINT", f"{INT_MAX}::BIGINT"
_EXACT = 2**53  # up to here a double holds every int


def _given(condition: str, expression: str) -> str:
    return f"CASE WHEN {condition} THEN {expression} END"


def _between(argument: str, low: int, high: int) -> str:
    return f"{argument} BETWEEN '{low}'::BIGINT AND '{high}'::BIGINT"


# --- int ------------------------------------------------------------------------------------------


def _exact_int(sign: str) -> str:
    """`{0} sign {1}`, NULL outside int64. The limit of 9.2e18 leaves room for the error of doubles.
    Beyond it HUGEINT decides, at five times the cost."""
    return (
        f"CASE WHEN abs({{0}}::DOUBLE {sign} {{1}}::DOUBLE) < 9.2e18 THEN {{0}} {sign} {{1}}"
        f" ELSE {wide_sql(sign)} END"
    )


def wide_sql(sign: str) -> str:
    """`{0} sign {1}`, NULL outside int64, at five times the cost of an unchecked one."""
    return f"TRY_CAST({{0}}::HUGEINT {sign} {{1}}::HUGEINT AS BIGINT)"


def _fitting(
    limits: Callable[[str, Any, Any], tuple[int, int] | None], sign: str
) -> Callable[..., str | None]:
    """With a literal on one side, the limits of the other side are known beforehand."""

    def sql(left: Any, right: Any) -> str | None:
        if left is not None and right is not None:
            return None
        found = limits(sign, left, right)
        if found is None:
            return None
        low, high = max(found[0], INT_MIN), min(found[1], INT_MAX)
        variable = "{0}" if left is None else "{1}"
        return _given(_between(variable, low, high), f"{{0}} {sign} {{1}}")

    return sql


def _limits(sign: str, left: Any, right: Any) -> tuple[int, int] | None:
    match sign:
        case "+":
            c = right if left is None else left
            return INT_MIN - c, INT_MAX - c
        case "-" if left is None:
            return INT_MIN + right, INT_MAX + right
        case "-":
            return left - INT_MAX, left - INT_MIN
        case _:
            c = right if left is None else left
            if c == 0:
                return INT_MIN, INT_MAX
            ends = (INT_MIN, INT_MAX) if c > 0 else (INT_MAX, INT_MIN)
            return -(-ends[0] // c), ends[1] // c


# DuckDB's // truncates, and its % has the dividend's sign; Python's // floors, and its % has the
# divisor's sign. Up to 2**52 no quotient of doubles rounds up to a whole number that the true
# quotient does not reach, and doubles divide faster than ints. Beyond: with s = {0} >> 63, which is
# -1 below zero and else 0, {0} xor s is not negative, and ~((~a) // b) is floor(a / b) for
# a < 0 < b.
_HALF = 2**52
_SMALL = _between("{0}", -_HALF, _HALF)
_QUICK_FLOOR = "floor({0} / {1})::BIGINT"
_FLOOR = "xor(xor({0}, {0} >> 63) // {1}, {0} >> 63)"
_REMAINDER = "xor(xor({0}, {0} >> 63) % {1}, {0} >> 63) + ({1} & ({0} >> 63))"
_WIDE = "{0}::HUGEINT // {1}::HUGEINT", "{0}::HUGEINT % {1}::HUGEINT"
_APART = f"({_WIDE[1]}) <> 0 AND ({{0}} < 0) <> ({{1}} < 0)"
_FLOOR_DIV = (
    f"CASE WHEN {_SMALL} AND {_between('{1}', 1, _HALF)} THEN {_QUICK_FLOOR}"
    f" WHEN {{1}} > 0 THEN {_FLOOR} WHEN {{1}} < 0 THEN TRY_CAST({_WIDE[0]}"
    f" - CASE WHEN {_APART} THEN 1 ELSE 0 END AS BIGINT) END"
)
_MOD = (
    f"CASE WHEN {{0}} >= 0 AND {{1}} > 0 THEN {{0}} % {{1}} WHEN {{1}} > 0 THEN {_REMAINDER}"
    f" WHEN {{1}} < 0 THEN ({_WIDE[1]} + CASE WHEN {_APART} THEN {{1}} ELSE 0 END)::BIGINT END"
)


def _by_literal(power: str, quick: str, other: str) -> Callable[..., str | None]:
    """For a literal divisor above zero. A power of two is floored by shifts. All forms give NULL
    for NULL."""

    def sql(left: Any, right: Any) -> str | None:
        if right is None or not 0 < right <= _HALF:
            return None
        if right & (right - 1) == 0:
            return power.replace("{bits}", str(right.bit_length() - 1))
        return f"CASE WHEN {quick} ELSE {other} END"

    return sql


def _power_check(base: Any, exponent: Any) -> str | None:
    if exponent is not None and exponent < 0:
        return "a negative power of an int is a float: write float(x) ** n"
    return None


def _power_sql(base: Any, exponent: Any) -> str | None:
    if exponent is None or not 1 <= exponent <= 8:
        return None
    high = round(INT_MAX ** (1 / exponent)) + 1
    while high**exponent > INT_MAX:
        high -= 1
    low = -high - 1 if exponent % 2 and (-high - 1) ** exponent >= INT_MIN else -high
    return _given(_between("{0}", low, high), " * ".join(["{0}"] * exponent))


def _int(name: str, python: str, sql: str | None, **more: Any) -> Op:
    return Op(name, (INT,) * (2 if "{1}" in python else 1), INT, python, sql, raises=True, **more)


# An int of more than 53 bits would lose bits as a double; Python divides exactly, rounding once.
_RATIO = (
    f"CASE WHEN {{1}} = 0 THEN NULL WHEN {_between('{0}', -_EXACT, _EXACT)}"
    f" AND {_between('{1}', -_EXACT, _EXACT)} THEN {{0}}::DOUBLE / {{1}}::DOUBLE"
    " WHEN {0} IS NOT NULL AND {1} IS NOT NULL THEN {python} END"
)
_STRICT_AND = "CASE WHEN {0} THEN {1} WHEN {1} IS NOT NULL THEN {0} END"
_STRICT_OR = "CASE WHEN NOT {0} THEN {1} WHEN {1} IS NOT NULL THEN {0} END"

register(
    *(
        _int(sign, f"{{0}} {sign} {{1}}", _exact_int(sign), literal_sql=_fitting(_limits, sign))
        for sign in ("+", "-", "*")
    ),
    _int(
        "//",
        "{0} // {1}",
        _FLOOR_DIV,
        literal_sql=_by_literal("{0} >> {bits}", f"{_SMALL} THEN {_QUICK_FLOOR}", _FLOOR),
        edges=(
            *((INT_MIN, -1), (7, -2), (-7, 2), (6, -2), (INT_MIN, INT_MIN), (INT_MIN, 1)),
            *((a, b) for a in (_HALF, -_HALF, _HALF - 1, 1 - _HALF, _HALF + 1) for b in (1, 3, 7)),
            *((a, b) for a in (1, -1, _HALF, -_HALF) for b in (_HALF, _HALF - 1, _HALF + 1)),
        ),
    ),
    _int(
        "%",
        "{0} % {1}",
        _MOD,
        literal_sql=_by_literal("{0} & ({1} - 1)", "{0} >= 0 THEN {0} % {1}", _REMAINDER),
        edges=((INT_MIN, -1), (-7, 3), (7, -3), (-6, 3), (INT_MIN, INT_MAX)),
    ),
    # Only with a literal exponent: the type of `a ** b` depends on the sign of b.
    _int(
        "**",
        "int_power({0}, {1})",
        None,
        literals=(1,),
        check=_power_check,
        literal_sql=_power_sql,
        edges=tuple(
            (b, e)
            for b in (-(2**21), -512, -2, 10, 3037000499)
            for e in (0, 1, 2, 3, 5, 7, 8, 63, 99)
        ),
    ),
    _int("negative", "-{0}", _given(f"{{0}} <> {_MIN}", "-{0}")),
    Op("positive", (INT,), INT, "+{0}", "{0}"),
    _int("abs", "abs({0})", _given(f"{{0}} <> {_MIN}", "abs({0})")),
    Op("&", (INT, INT), INT, "{0} & {1}", "({0} & {1})"),
    Op("|", (INT, INT), INT, "{0} | {1}", "({0} | {1})"),
    Op("^", (INT, INT), INT, "{0} ^ {1}", "xor({0}, {1})"),
    Op("invert", (INT,), INT, "~{0}", "~{0}"),
    # {1} = 63 leaves only 0 and -1; multiplying by a power of two is what DuckDB's << refuses.
    _int(
        "<<",
        "shift_left({0}, {1})",
        f"CASE WHEN {{1}} BETWEEN 0 AND 62 THEN CASE WHEN {{0}} BETWEEN ({_MIN} >> {{1}})"
        f" AND ({_MAX} >> {{1}}) THEN {{0}} * (1::BIGINT << {{1}}) END"
        f" WHEN {{0}} = 0 AND {{1}} > 0 THEN 0 WHEN {{0}} = -1 AND {{1}} = 63 THEN {_MIN} END",
        edges=((-1, 63), (-1, 62), (1, 62), (1, 63), (0, 2**62), (2, 61), (3, 61), (-2, 62)),
    ),
    Op(
        ">>",
        (INT, INT),
        INT,
        "{0} >> {1}",
        "CASE WHEN {1} >= 0 THEN {0} >> least({1}, 63) END",
        raises=True,
    ),
    Op(
        "/",
        (INT, INT),
        FLOAT,
        "{0} / {1}",
        _RATIO,
        raises=True,
        edges=((2**53 + 1, 3), (INT_MIN, INT_MAX), (INT_MAX, 3)),
    ),
    # --- bool -------------------------------------------------------------------------------------
    Op("not", (BOOL,), BOOL, "not {0}", "(NOT {0})"),
    Op("&", (BOOL, BOOL), BOOL, "{0} & {1}", _STRICT_AND),
    Op("|", (BOOL, BOOL), BOOL, "{0} | {1}", _STRICT_OR),
    Op("^", (BOOL, BOOL), BOOL, "{0} ^ {1}", "({0} <> {1})"),
)

# --- float ----------------------------------------------------------------------------------------

# CPython's float_rem and float_floor_div, of which {2} is C's fmod.
_FMOD = "({0} % nullif({1}, 0))"
_SIGNED_ZERO = "CASE WHEN {1} < 0 THEN '-0.0'::DOUBLE ELSE 0e0 END"
_FLOAT_MOD = (
    f"CASE WHEN {{2}} = 0 THEN {_SIGNED_ZERO}"
    " WHEN {2} IS NOT NULL AND ({1} < 0) <> ({2} < 0) THEN {2} + {1} ELSE {2} END"
)
_QUOTIENT = (
    "(({0} - {2}) / {1} - CASE WHEN {2} <> 0 AND ({1} < 0) <> ({2} < 0) THEN 1e0 ELSE 0e0 END)"
)
_FLOAT_FLOOR_DIV = (
    "CASE WHEN {3} = 0 THEN CASE WHEN signbit({0}) <> signbit({1}) THEN '-0.0'::DOUBLE ELSE 0e0 END"
    " WHEN {3} - floor({3}) > 0.5e0 THEN floor({3}) + 1e0 ELSE floor({3}) END"
)


def _nonzero(template: str) -> Callable[..., str | None]:
    return lambda left, right: template if right is not None and right != 0 else None


_POWER = (
    "CASE WHEN abs({2}) < 'inf'::DOUBLE THEN {2}"
    " WHEN {0} IS NOT NULL AND {1} IS NOT NULL THEN {python} END"
)


def _round_sql(value: Any, digits: Any) -> str | None:
    """Rounds as Python does: to the double nearest to the decimal.

    Away from ties the nearest whole number of x · 10ⁿ is certain. Its quotient by 10ⁿ, of two exact
    doubles, is rounded once. Below 2**40 the product errs by at most 2**-13. Near ties a decimal
    text decides, as in Python. From 2**52 on all doubles are whole.
    """
    if digits is None or not 0 <= digits <= 15:
        return None
    scale = f"1e{digits}::DOUBLE"
    scaled = f"({{0}} * {scale})"
    return (
        f"CASE WHEN abs({scaled}) < 1e12 AND abs(abs({scaled} - trunc({scaled})) - 0.5e0) > 0.001e0"
        f" THEN round({scaled}) / {scale} WHEN abs({{0}}) < 4503599627370496e0"
        f" THEN printf('%.{digits}f', {{0}})::DOUBLE ELSE {{0}} END"
    )


register(
    Op("+", (FLOAT, FLOAT), FLOAT, "{0} + {1}", "({0} + {1})"),
    Op("-", (FLOAT, FLOAT), FLOAT, "{0} - {1}", "({0} - {1})"),
    Op("*", (FLOAT, FLOAT), FLOAT, "{0} * {1}", "({0} * {1})"),
    # DuckDB divides by zero to inf; Python raises.
    Op(
        "/",
        (FLOAT, FLOAT),
        FLOAT,
        "{0} / {1}",
        "({0} / nullif({1}, 0))",
        raises=True,
        literal_sql=_nonzero("({0} / {1})"),
    ),
    Op(
        "//",
        (FLOAT, FLOAT),
        FLOAT,
        "{0} // {1}",
        _FLOAT_FLOOR_DIV,
        raises=True,
        steps=(_FMOD, _QUOTIENT),
        platform="libm",
        edges=((7.5, -2.0), (-7.5, 2.0), (1.0, 0.1), (6.0, 0.1), (1e300, 1e-300), (-0.0, 3.0)),
    ),
    Op(
        "%",
        (FLOAT, FLOAT),
        FLOAT,
        "{0} % {1}",
        _FLOAT_MOD,
        raises=True,
        steps=(_FMOD,),
        platform="libm",
        edges=((7.5, -2.0), (-7.5, 2.0), (-1e-20, 3.0), (6.0, -3.0)),
    ),
    Op(
        "**",
        (FLOAT, FLOAT),
        FLOAT,
        "real_power({0}, {1})",
        _POWER,
        raises=True,
        promote="some",
        steps=("pow({0}, {1})",),
        platform="libm",
        edges=((-8.0, 1 / 3), (0.0, -1.0), (10.0, 308.5), (1.0, float("nan")), (-1.0, 1e300)),
    ),
    Op("negative", (FLOAT,), FLOAT, "-{0}", "(-{0})"),
    Op("positive", (FLOAT,), FLOAT, "+{0}", "{0}"),
    Op("abs", (FLOAT,), FLOAT, "abs({0})", "abs({0})"),
    Op(
        "round",
        (FLOAT, INT),
        FLOAT,
        "round({0}, {1})",
        raises=True,
        edges=((1.7976931348623157e308, -308), *((v, 2) for v in (2.675, 1.005, -0.001, -0.0))),
        promote="none",
        literal_sql=_round_sql,
        names=("number", "ndigits"),
    ),
    Op(
        "round",
        (INT, INT),
        INT,
        "round_int({0}, {1})",
        "CASE WHEN {1} >= 0 THEN {0} WHEN {0} IS NOT NULL THEN {python} END",
        raises=True,
        edges=((15, -1), (25, -1), (-25, -1), (INT_MAX, -19), (INT_MAX, -1), (5, -1)),
        names=("number", "ndigits"),
    ),
)


def int_sql(name: str) -> str:
    """The SQL of an operator on ints, for values that are stored as ints."""
    return TABLE[f"{name}({'int' if name in ('negative', 'abs') else 'int,int'})"].template()


def given_between(argument: str, low: int, high: int, expression: str) -> str:
    """The expression where an argument lies within limits, else NULL."""
    return _given(_between(argument, low, high), expression)


def numeric(type_: Type) -> bool:
    """Whether Python computes with values of the type."""
    return type_.base in (BOOL, INT, FLOAT)
