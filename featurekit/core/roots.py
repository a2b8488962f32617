"""The correctly rounded square root of an exact rational."""

from __future__ import annotations

import math


def root(n: int, m: int) -> float:
    """The square root of n / m, correctly rounded; OverflowError beyond the doubles.

    It takes an integer root of at least 55 bits, and makes it odd if it is not exact. That integer
    lies on the same side of every double and of every half-way point as the real root, so rounding
    it gives the same double.
    """
    if n == 0:
        return 0.0
    shift = (n.bit_length() - m.bit_length() - 109) // 2
    if shift < 0:
        n <<= -2 * shift
    else:
        m <<= 2 * shift
    found = math.isqrt(n // m)
    found |= found * found * m != n
    return found / (1 << -shift) if shift < 0 else (found << shift) / 1


def signed_root(sign: int, n: int, m: int) -> float:
    """`root` with the sign of `sign`; +0.0 where that is 0."""
    found = root(n, m)
    return -found if sign < 0 else found
