"""A column of doubles → sums and extremes of many runs of it, all at once, by NumPy.

A sum is exact, rounded once, as those of `exact` are: each double is parted in two. The large parts
are whole numbers of one unit, few enough for doubles to add them in any order without rounding. The
sum of the small parts is as far off as rounding can take it at most; where that decides the double
that is nearest to the whole sum, nothing is known.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any, Literal

RunField = Literal["count", "total", "mean", "low", "high"]
"""What is known of a run of inputs: how many, their exact sum, rounded once, the sum by how many,
the least and the greatest."""

WORTH = 192
"""Python has the answers of fewer doubles sooner."""

# Among these no unit below over- or underflows.
_SMALLEST, _LARGEST = 1e-200, 1e200


def runs_of(
    column: Any, spans: Sequence[tuple[int, int]], fields: Collection[RunField]
) -> dict[RunField, list[Any]]:
    """Of `fields`, at least, the values over the runs of a buffer of doubles from i up to j, for
    each of `spans`, of which none is empty.

    None stands for what has to be asked of the inputs themselves: an extreme that is zero, since
    -0.0 equals 0.0 here; a sum that is zero, or as near to one double as to the next; and all where
    a NaN or an infinity is among them.
    """
    import numpy as np

    unknown: list[Any] = [None] * len(spans)
    found: dict[RunField, list[Any]] = dict.fromkeys(fields, unknown)
    if "count" in fields:
        found["count"] = [j - i for i, j in spans]
    first, last = min([i for i, _ in spans]), max([j for _, j in spans])
    n = last - first
    # One more, so that every end is a place. What NumPy reduces from an end to the next beginning
    # stands between what is asked for.
    x = np.frombuffer(b"".join((column[first:last], bytes(8))))
    ends = np.array([edge - first for span in spans for edge in span])
    lows, highs = np.minimum.reduceat(x, ends).tolist(), np.maximum.reduceat(x, ends).tolist()
    most = sum(map(abs, lows)) + sum(map(abs, highs))  # no |x| is more; NaN where there is one
    if not _SMALLEST < most < _LARGEST:
        return found
    found["low"], found["high"] = [v or None for v in lows[::2]], [v or None for v in highs[::2]]
    if "total" not in fields and "mean" not in fields:
        return found
    # To add 1.5 * 2**(e + bits) to doubles below 2**e, and to take it away again, rounds them to
    # units of 2**(e + bits - 52): to at most 2**(52 - bits) of them each, so that the sum of n is
    # less than 2**52 of them, which a double holds.
    bits = n.bit_length()
    exponent = math.frexp(most)[1] + bits
    shift = math.ldexp(1.5, exponent)
    large = x + shift
    large -= shift
    small = x - large  # exact, and at most half a unit
    larges, smalls = np.add.reduceat(large, ends).tolist(), np.add.reduceat(small, ends).tolist()
    # m - 1 additions each take off at most 2**-53 of m half units; four times that, for the
    # roundings here.
    least = math.ldexp(1.0, exponent - 53 - 53 + 2)
    totals: list[float | None] = []
    for (i, j), whole, rest in zip(spans, larges[::2], smalls[::2], strict=True):
        off = least * (j - i) * (j - i - 1)
        total = whole + (rest - off)
        totals.append(total if total == whole + (rest + off) else None)
    found["total"] = totals
    found["mean"] = [t and t / (j - i) for t, (i, j) in zip(totals, spans, strict=True)]
    return found
