"""Exact sums of doubles: a double is an integer times a power of two, so a sum is one too (A2).

Python adds with `fsum`, or with big integers where fsum cannot. DuckDB adds HUGEINTs: if a column's
statistics allow it, all values are scaled by one power of two; otherwise they are split into
*limbs*, one HUGEINT for each 40-bit range of exponents that occurs. If there are many limbs, DuckDB
hands the values to Python. Every way rounds once, at the end, half to even.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# Every finite double is a whole number of 2**-1074.
UNIT_EXPONENT = 1074
LIMB_BITS = 40
# |scaled value| * rows stays below 2**126: a HUGEINT sum cannot overflow.
_HUGEINT_BITS = 126
# Sums below 2**105 are rounded by less SQL; most columns fit.
_SHORT_BITS = 105
# Three limbs of 30 bits hold a value below 2**90, and a BIGINT each of their products.
SQUARED_BITS = 30


def units(x: float) -> int:
    """The finite double `x` as a whole number of 2**-1074."""
    numerator, denominator = x.as_integer_ratio()
    return numerator * ((1 << UNIT_EXPONENT) // denominator)


def from_units(total: int) -> float:
    """The double nearest to `total` * 2**-1074, ties to even; OverflowError beyond the doubles."""
    return total / (1 << UNIT_EXPONENT)  # int / int is correctly rounded in CPython


def rounded(whole: int, divisor: int, exponent: int) -> float:
    """The double nearest to whole / divisor * 2**exponent, ties to even; `divisor` is above 0.
    OverflowError beyond the doubles."""
    if exponent < 0:
        return whole / (divisor << -exponent)
    return (whole << exponent) / divisor


def as_wholes(values: Sequence[float]) -> tuple[int, list[int]]:
    """Finite doubles as whole numbers times one power of two: the exponent, and the whole
    numbers."""
    if not values:
        return 0, []
    # A double is a 53-bit int times a power of two; shifting is cheaper than multiplying.
    parts = [math.frexp(value) for value in values]
    low = min(exponent for _, exponent in parts)
    return low - 53, [int(m * 2.0**53) << (exponent - low) for m, exponent in parts]


def as_doubles(whole: int, exponent: int) -> list[float] | None:
    """Doubles whose exact sum is whole * 2**exponent, which is a whole number of 2**-1074. None if
    it lies beyond the doubles."""
    if whole.bit_length() + exponent > 1024:
        return None
    found = []
    sign = -1.0 if whole < 0 else 1.0
    whole = abs(whole)
    while whole:
        low = whole & (2**53 - 1)
        if low:
            found.append(sign * math.ldexp(float(low), exponent))
        whole >>= 53
        exponent += 53
    return found


def non_finite_sum(values: Iterable[float]) -> float | None:
    """The sum of values with a NaN or an infinity among them (A1); None if all are finite."""
    nan = plus = minus = False
    for x in values:
        nan, plus, minus = nan or x != x, plus or x == math.inf, minus or x == -math.inf
    if nan or (plus and minus):
        return math.nan
    return math.inf if plus else -math.inf if minus else None


def exact_sum(values: Sequence[float]) -> float:
    """The exact real sum rounded once; zero is +0.0; OverflowError beyond the doubles (A1)."""
    try:
        return math.fsum(values) + 0.0  # -0.0 + 0.0 is +0.0
    except (OverflowError, ValueError):
        # fsum fails if a partial sum overflows, and at inf - inf.
        special = non_finite_sum(values)
        return from_units(sum(map(units, values))) if special is None else special


@dataclass(frozen=True, slots=True)
class FloatColumn:
    """How a column of doubles is added in DuckDB, chosen from its statistics.

    `scale`: value * 2**scale is a whole number in every row; None means that `limbs`, with these
    indices, are used. `specials`: a NaN or an infinity occurs. `minus_zero`: a -0.0 occurs.
    `half_bits`: at `scale`, a value has at most twice as many bits, and sums of products of two
    halves have at most 127. `short`: scaled values stay below 2**90, and their sums below 2**105.
    """

    scale: int | None
    limbs: tuple[int, ...] = ()
    specials: bool = False
    minus_zero: bool = False
    half_bits: int = 0
    short: bool = False

    @property
    def may_overflow(self) -> bool:
        """Whether a sum of the column's finite values may lie beyond the doubles."""
        return self.scale is None or _HUGEINT_BITS - self.scale > 1023


def statistics_sql(x: str, *, specials: bool = True) -> list[str]:
    """SQL aggregates over the column `x`: the facts that `scale_for` and the flags need, in that
    order. Without `specials`, a NaN or an infinity makes the first of them one."""
    finite = f"CASE WHEN isfinite({x}) THEN abs({x}) END" if specials else f"abs({x})"
    return [
        f"max({finite})",
        f"count({x})",
        f"coalesce(bool_or(NOT isfinite({x})), FALSE)" if specials else "FALSE",
        f"coalesce(bool_or({x} = 0 AND signbit({x})), FALSE)",
    ]


def scale_for(largest: float | None, rows: int, *, short: bool = False) -> int:
    """The largest scale at which a HUGEINT sum of `rows` values up to `largest` cannot overflow or,
    with `short`, reach 2**105, nor a value 2**90."""
    if not largest:
        return 0
    bits = (_SHORT_BITS if short else _HUGEINT_BITS) - max(rows, 1).bit_length()
    if short:
        bits = min(bits, 3 * SQUARED_BITS)
    # 2**±1000 and its inverse are normal doubles, so multiplying by them is exact.
    return max(-1000, min(1000, bits - math.frexp(largest)[1]))


def half_bits(rows: int) -> int:
    """Half the bits of a value at the scale of `scale_for`. A HUGEINT sum of `rows` products of two
    halves cannot overflow either."""
    return (_HUGEINT_BITS + 1 - max(rows, 1).bit_length()) // 2


def fits_sql(x: str, scale: int, *, specials: bool = True) -> str:
    """Whether every finite value of the column is a whole number of 2**-scale. Without `specials`,
    all are finite."""
    fits = f"trunc({x} * {power_sql(scale)}) * {power_sql(-scale)} = {x}"
    fits = f"CASE WHEN isfinite({x}) THEN {fits} END" if specials else fits
    return f"coalesce(bool_and({fits}), TRUE)"


def scaled_sql(x: str, scale: int, *, specials: bool = True) -> str:
    """`x` as a whole number of 2**-scale; NULL for NULL and, where there are `specials`, NaN and
    infinities."""
    scaled = f"({x} * {power_sql(scale)})::HUGEINT"
    return f"CASE WHEN isfinite({x}) THEN {scaled} END" if specials else scaled


def limb_index_sql(x: str) -> str:
    """The index of the limb that a finite double belongs to."""
    return f"((greatest({_exponent_sql(x)}, 1) - 1) // {LIMB_BITS})"


def limb_sql(x: str, index: int) -> str:
    """The whole number of 2**(40 * index - 1074) that `x` is, if it belongs to limb `index`; else
    NULL."""
    bits = f"({x}::BIT)::BIGINT"
    implicit = f"CASE WHEN {_exponent_sql(x)} > 0 THEN 4503599627370496 ELSE 0 END"
    mantissa = f"(({bits} & 4503599627370495) + {implicit})::HUGEINT"
    shift = f"((greatest({_exponent_sql(x)}, 1) - 1) % {LIMB_BITS})::INTEGER"
    signed = f"CASE WHEN signbit({x}) THEN -1 ELSE 1 END * ({mantissa} << {shift})"
    return f"CASE WHEN isfinite({x}) AND {limb_index_sql(x)} = {index} THEN {signed} END"


def _exponent_sql(x: str) -> str:
    return f"((({x}::BIT)::BIGINT >> 52) & 2047)"


def power_sql(exponent: int) -> str:
    """2**exponent as a DOUBLE literal; Python's repr loses no bit."""
    return f"'{math.ldexp(1.0, exponent)!r}'::DOUBLE"


def round_hugeint_sql(total: str, *, short: bool = False) -> str:
    """The double nearest to a HUGEINT, ties to even; `short` says that it is below 2**105.

    DuckDB's own HUGEINT -> DOUBLE rounds wrongly in 15 % of hard cases; BIGINT -> DOUBLE is the
    processor's and right. So a total is split into two whole numbers of at most 53 bits, which are
    doubles, and adding them rounds once. Of a total beyond 2**105 the lowest 24 bits only say
    whether they are 0: they are far below half a unit in the last place.

    The text is short on purpose: it stands in a query once for each sum, and planning it is most of
    the work of a view with thousands of sums.
    """
    return f"fk_round_short({total})" if short else f"fk_round({total})"


def macros_sql() -> list[str]:
    """The DuckDB macros that the SQL of this module calls."""
    near = f"(h >> 53)::BIGINT::DOUBLE * {power_sql(53)} + (h & {2**53 - 1})::BIGINT::DOUBLE"
    sticky = f"CASE WHEN (h & {2**24 - 1}) = 0 THEN 0 ELSE 1 END"
    low = f"(((h & {2**75 - 1}::HUGEINT) >> 24) | {sticky})::BIGINT::DOUBLE * {power_sql(24)}"
    far = f"(h >> 75)::BIGINT::DOUBLE * {power_sql(75)} + {low}"
    return [
        f"CREATE OR REPLACE MACRO fk_round_short(h) AS {near}",
        "CREATE OR REPLACE MACRO fk_round(h) AS "
        f"CASE WHEN abs(h) < {2**105}::HUGEINT THEN {near} ELSE {far} END",
    ]


def from_limbs(parts: str, limbs: Sequence[int]) -> float | None:
    """The double nearest to the sum of the limb totals written "t0,t1,…"; None beyond the
    doubles."""
    total = 0
    for text, index in zip(parts.split(","), limbs, strict=True):
        total += int(text) << (LIMB_BITS * index)
    try:
        return from_units(total)
    except OverflowError:
        return None
