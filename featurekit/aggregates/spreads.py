"""Makes many variances and roots of exact sums at once, by NumPy: the bits are those of
`spread.spread`.

A variance is N / D, two whole numbers: D = count * (count - ddof), N = count * squares - total**2.
N is computed exactly, in limbs of 30 bits. Then N / D, or its root, is approximated by a sum of two
doubles, which has about 100 bits right. Where every number that near rounds to one double, that is
the result. Otherwise, which is where the exact result is half-way between doubles or all but so,
and wherever the result is no normal double, the row is `unsure`, and `spread` computes it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

BITS = 30
_MASK = (1 << BITS) - 1
_SPLIT = float(2**27 + 1)
_ERROR = 2.0**-88
"""A bound of the relative error of what is approximated, with room: it is below 2**-98."""
_LEAST, _MOST = 2.0**-1000, 2.0**1000
"""Between these every result is a normal double, and so is what it is made of."""


def spreads(
    counts: Any, total: Sequence[Any], squares: Sequence[Any], exponent: int, ddof: int, root: bool
) -> tuple[Any, Any]:
    """The variances, or their roots, of sums of whole numbers times 2**exponent, as doubles, and
    which rows are unsure; what stands in these, and where a count is not above `ddof`, means
    nothing.

    `counts` are int64. `total` and `squares` are sums in limbs, as int64: those of 2**0, 2**30, and
    so on. A limb may have more bits than 30, and a sign.
    """
    import numpy as np

    few = (counts <= ddof) | (counts > _MASK)
    counts = np.where(few, 2, counts)
    of_total, of_squares = _carried(total, 4), _carried(squares, 9)
    wide = np.abs(of_total[3]) > _MASK
    of_total[3] = np.where(wide, 0, of_total[3])
    products = [counts * limb for limb in of_squares]
    for i, j in itertools.product(range(4), repeat=2):
        products[i + j] = products[i + j] - of_total[i] * of_total[j]
    high, low = _doubles(_carried(products, 9))
    with np.errstate(all="ignore"):
        # A double has 53 bits, and the denominator up to 60.
        denominator = counts * (counts - ddof)
        above = denominator.astype(np.float64)
        below = (denominator - above.astype(np.int64)).astype(np.float64)
        high, low = _quotient(high, low, above, below)
        if root:
            high, low = _root(high, low)
        found = high + low
        low = (high - found) + low
        error = np.abs(found) * _ERROR
        sure = (found + (low + error) == found) & (found + (low - error) == found)
        made = np.ldexp(found, exponent if root else 2 * exponent)
        sure &= (made > _LEAST) & (made < _MOST)
        zero = high == 0
        return np.where(zero, 0.0, made), ~(sure | zero) | few | wide


def _carried(limbs: Sequence[Any], n: int) -> list[Any]:
    """The same number in `n` limbs, of which all but the last are within 30 bits and not below
    0."""
    out, carry = [], 0 * limbs[0]
    for k in range(n):
        limb = limbs[k] + carry if k < len(limbs) else carry
        if k < n - 1:
            limb, carry = limb & _MASK, limb >> BITS
        out.append(limb)
    return out


def _doubles(limbs: Sequence[Any]) -> tuple[Any, Any]:
    """The number as a sum of two doubles, of which the second rounds: it is off by less than
    2**-100 of the first."""
    high = low = 0.0 * limbs[0]
    for k in reversed(range(len(limbs))):
        part = limbs[k] * 2.0 ** (BITS * k)
        whole = high + part
        low = low + (part - (whole - high))  # `part` is below the last bit of `high`, or all of it
        high = whole
    whole = high + low
    return whole, low - (whole - high)


def _product(x: Any, y: Any) -> tuple[Any, Any]:
    """x * y as a sum of two doubles, exactly (Dekker)."""
    product = x * y
    scaled = _SPLIT * x
    x1 = scaled - (scaled - x)
    scaled = _SPLIT * y
    y1 = scaled - (scaled - y)
    x2, y2 = x - x1, y - y1
    return product, ((x1 * y1 - product) + x1 * y2 + x2 * y1) + x2 * y2


def _quotient(high: Any, low: Any, above: Any, below: Any) -> tuple[Any, Any]:
    """(high + low) / (above + below) as a sum of two doubles."""
    first = high / above
    product, rest = _product(first, above)
    left = (((high - product) - rest) + low) - first * below
    return first, left / above


def _root(high: Any, low: Any) -> tuple[Any, Any]:
    """The square root of high + low as a sum of two doubles; of 0 the second is NaN."""
    import numpy as np

    first = np.sqrt(high)
    product, rest = _product(first, first)
    left = ((high - product) - rest) + low
    return first, left / (2.0 * first)
