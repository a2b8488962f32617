"""Logarithms and powers of two by whole numbers alone, so that no C library decides a bit (A5).

`log2` is rounded to 2**-60, and `exp2` to the nearest double. Both compute with so many bits that
the error cannot change which number is nearest; where it could, they take twice as many.
"""

from __future__ import annotations

import functools

from featurekit.aggregates import exact

UNIT_BITS = 60
"""A logarithm is a whole number of 2**-60."""
_TABLE_BITS = 7
_PRECISE = 128
_OFF = 1 << 24
"""More than what follows is off by, in the last place: each step is off by one there, there are
some hundred, and squaring eight times makes 2**8 of that."""


@functools.lru_cache(maxsize=2**16)
def log2(x: int) -> int:
    """The whole number of 2**-60 that is nearest to the base-2 logarithm of `x`, which is above
    0."""
    whole, precise = x.bit_length() - 1, _PRECISE
    while True:
        found = _log2_of_mantissa(x, precise)
        half, cut = 1 << (precise - UNIT_BITS - 1), precise - UNIT_BITS
        low, high = (found - _OFF + half) >> cut, (found + _OFF + half) >> cut
        if low == high:  # it is no tie: only powers of two have a logarithm that is rational
            return (whole << UNIT_BITS) + low
        precise *= 2


def log2_of(x: float) -> int:
    """As `log2`, of a finite double above 0."""
    whole, divisor = x.as_integer_ratio()
    return log2(whole) - ((divisor.bit_length() - 1) << UNIT_BITS)


def exp2(numerator: int, denominator: int) -> float:
    """The double nearest to two to the power of a rational; OverflowError beyond the doubles."""
    whole, rest = divmod(numerator, denominator)
    if not rest:
        return exact.rounded(1, 1, whole)
    precise = _PRECISE
    while True:
        found = _exp2_of_fraction((rest << precise) // denominator, precise)
        low, high = (exact.rounded(found + off, 1, whole - precise) for off in (-_OFF, _OFF))
        if low == high:  # it is no tie: the power of no other fraction is rational
            return low
        precise *= 2


def _log2_of_mantissa(x: int, precise: int) -> int:
    """The logarithm of `x` scaled into [1, 2), as a whole number of 2**-precise.

    A table has the logarithms of 1, 1 + 1/128, …. What is left is the logarithm of a number near 1,
    twice the area tangent of less than 2**-8.
    """
    shift = precise - x.bit_length() + 1
    mantissa = x << shift if shift >= 0 else x >> -shift
    place = mantissa >> (precise - _TABLE_BITS)
    near = place << (precise - _TABLE_BITS)
    table, per_ln2 = _tables(precise)
    rest = _artanh(((mantissa - near) << precise) // (mantissa + near), precise)
    return ((table[place - (1 << _TABLE_BITS)] + 2 * rest) * per_ln2) >> precise


def _exp2_of_fraction(power: int, precise: int) -> int:
    """2**power for a whole number of 2**-precise below 1, in that unit: the series of the
    exponential of a 256th, which is squared eight times."""
    small = (power * _ln2(precise)) >> (precise + 8)
    total, term, n = 1 << precise, 1 << precise, 1
    while term:
        term = ((term * small) >> precise) // n
        total += term
        n += 1
    for _ in range(8):
        total = (total * total) >> precise
    return total


def _artanh(x: int, precise: int) -> int:
    """The area tangent of a whole number of 2**-precise, in that unit."""
    square, total, term, n = (x * x) >> precise, x, x, 3
    while term:
        term = (term * square) >> precise
        total += term // n
        n += 2
    return total


@functools.cache
def _ln2(precise: int) -> int:
    return 2 * _artanh((1 << precise) // 3, precise)


@functools.cache
def _tables(precise: int) -> tuple[list[int], int]:
    """The natural logarithms of 1 + i / 128, and 1 / ln 2, as whole numbers of 2**-precise."""
    size = 1 << _TABLE_BITS
    tangents = [(i << precise) // (2 * size + i) for i in range(size)]
    return [2 * _artanh(x, precise) for x in tangents], (1 << (2 * precise)) // _ln2(precise)
