"""Turns a column of doubles into sums and extremes of many runs of it, all at once, by NumPy.

A sum is exact and rounded once, like the sums of `exact`. Each double is split in two. The large
parts are whole numbers of one unit, small enough that doubles add them in any order without
rounding. The sum of the small parts has an error with a known bound. If that error could change
which double is nearest to the whole sum, the sum is reported as unknown.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any, Literal

RunField = Literal["count", "total", "mean", "low", "high"]
"""The facts about a run of inputs: the count, the exact sum rounded once, that sum divided by the
count, the least and the greatest."""

WORTH = 192
"""Below this number of doubles, plain Python is faster."""

# Between these magnitudes no unit below overflows or underflows.
_SMALLEST, _LARGEST = 1e-200, 1e200


def runs_of(
    column: Any, spans: Sequence[tuple[int, int]], fields: Collection[RunField]
) -> dict[RunField, list[Any]]:
    """At least the `fields`, for each run of a buffer of doubles: a span (i, j) is the run from i
    up to j, and none is empty.

    None means that the inputs themselves must be asked: for an extreme that is zero, since -0.0
    equals 0.0 here; for a sum that is zero, or is too close to the middle between two doubles; and
    for everything if a NaN or an infinity occurs.
    """
    import numpy as np

    unknown: list[Any] = [None] * len(spans)
    found: dict[RunField, list[Any]] = dict.fromkeys(fields, unknown)
    if "count" in fields:
        found["count"] = [j - i for i, j in spans]
    first, last = min([i for i, _ in spans]), max([j for _, j in spans])
    n = last - first
    # One more double, so that every end is a valid place. NumPy also reduces from each end to the
    # next beginning: those results lie between the ones that are asked for.
    x = np.frombuffer(b"".join((column[first:last], bytes(8))))
    ends = np.array([edge - first for span in spans for edge in span])
    lows, highs = np.minimum.reduceat(x, ends).tolist(), np.maximum.reduceat(x, ends).tolist()
    most = sum(map(abs, lows)) + sum(map(abs, highs))  # bounds every |x|; NaN if there is one
    if not _SMALLEST < most < _LARGEST:
        return found
    found["low"], found["high"] = [v or None for v in lows[::2]], [v or None for v in highs[::2]]
    if "total" not in fields and "mean" not in fields:
        return found
    # Adding 1.5 * 2**(e + bits) to doubles below 2**e, and subtracting it again, rounds them to
    # units of 2**(e + bits - 52). Each is then at most 2**(52 - bits) units, so the sum of n is
    # less than 2**52 units, which a double holds exactly.
    bits = n.bit_length()
    exponent = math.frexp(most)[1] + bits
    shift = math.ldexp(1.5, exponent)
    large = x + shift
    large -= shift
    small = x - large  # exact, and at most half a unit
    larges, smalls = np.add.reduceat(large, ends).tolist(), np.add.reduceat(small, ends).tolist()
    # Each of m - 1 additions errs by at most 2**-53 of m half units; the bound is four times that,
    # for the roundings here.
    least = math.ldexp(1.0, exponent - 53 - 53 + 2)
    totals: list[float | None] = []
    for (i, j), whole, rest in zip(spans, larges[::2], smalls[::2], strict=True):
        off = least * (j - i) * (j - i - 1)
        total = whole + (rest - off)
        totals.append(total if total == whole + (rest + off) else None)
    found["total"] = totals
    found["mean"] = [t and t / (j - i) for t, (i, j) in zip(totals, spans, strict=True)]
    return found
