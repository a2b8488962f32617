"""How far two samples of one feature lie apart, from what is counted of them.

A sample of numbers is a histogram of the buckets of `ApproxQuantile`, 128 to an octave. What is
made of counts alone (PSI, Jensen-Shannon, chi²) is what the numbers themselves would give. Where
places inside a bucket count (Kolmogorov-Smirnov, Wasserstein), a figure comes with a bound of how
far the one of the numbers may lie from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from featurekit.aggregates.quantiles import edges, is_finite, is_nan

BINS = 10
"""PSI and Jensen-Shannon part numbers at the deciles of the reference."""
LEAST_SHARE = 1e-4
"""PSI takes no smaller share of a bin than that: its logarithm would be infinite."""


@dataclass(frozen=True, slots=True)
class Bounded:
    """A figure, and how far that of the numbers themselves may lie from it."""

    value: float
    bound: float


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many numbers lie in each bucket: indices that rise, and counts. `whole` for ints."""

    buckets: np.ndarray[Any, Any]
    counts: np.ndarray[Any, Any]
    whole: bool = False

    @classmethod
    def of(cls, pairs: Sequence[tuple[int, int]], *, whole: bool) -> Histogram:
        """From pairs of a bucket and its count, in any order."""
        ordered = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)
        return cls(ordered[:, 0], ordered[:, 1], whole)

    @property
    def n(self) -> int:
        """How many numbers there are, NaN among them."""
        return int(self.counts.sum())

    @property
    def nan(self) -> int:
        """How many of them are NaN."""
        return int(self.counts[_nans(self.buckets)].sum())

    def kept(self, keep: np.ndarray[Any, Any]) -> Histogram:
        """The buckets that a mask keeps."""
        return Histogram(self.buckets[keep], self.counts[keep], self.whole)


@dataclass(frozen=True, slots=True)
class _Together:
    """Two histograms over the buckets of both."""

    buckets: np.ndarray[Any, Any]
    was: np.ndarray[Any, Any]
    now: np.ndarray[Any, Any]
    whole: bool


def _together(was: Histogram, now: Histogram) -> _Together:
    buckets = np.union1d(was.buckets, now.buckets)
    found = []
    for one in (was, now):
        counts = np.zeros(len(buckets), dtype=np.int64)
        counts[np.searchsorted(buckets, one.buckets)] = one.counts
        found.append(counts)
    return _Together(buckets, found[0], found[1], was.whole and now.whole)


# --- by bins --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bins:
    """Both samples in bins: what each bin holds, in words, and the counts of either side."""

    names: tuple[str, ...]
    was: np.ndarray[Any, Any]
    now: np.ndarray[Any, Any]


def binned(was: Histogram, now: Histogram) -> Bins:
    """Both in bins that end at the deciles of the reference, each at the border of a bucket, and in
    one of NaN where either has one."""
    both = _together(was, now)
    nan = _nans(both.buckets)
    numbers, old, new = both.buckets[~nan], both.was[~nan], both.now[~nan]
    names, parts = [], []
    if len(numbers):
        starts = np.zeros(1, dtype=np.int64)
        if old.sum():
            upto = np.cumsum(old)
            deciles = np.ceil(upto[-1] * np.arange(1, BINS) / BINS)
            ends = np.unique(np.searchsorted(upto, deciles)) + 1
            starts = np.concatenate([starts, ends[ends < len(numbers)]])
        parts.append((np.add.reduceat(old, starts), np.add.reduceat(new, starts)))
        names += _spans(numbers, starts.tolist())
    if nan.any():
        parts.append((both.was[nan], both.now[nan]))
        names.append("NaN")
    old, new = (np.concatenate(side) for side in zip(*parts, strict=True))
    return Bins(tuple(names), old, new)


def _spans(buckets: np.ndarray[Any, Any], starts: list[int]) -> list[str]:
    """The numbers of bins in words, from the least number of their first bucket on."""
    least = [f"{edges(int(buckets[start]))[0]:.4g}" for start in starts[1:]]
    if not least:
        return ["all"]
    between = [f"{a} to {b}" for a, b in pairwise(least)]
    return [f"below {least[0]}", *between, f"{least[-1]} and above"]


def psi(was: np.ndarray[Any, Any], now: np.ndarray[Any, Any]) -> float:
    """The population stability index of two vectors of counts, in nats: the sum of (q - p) ln(q /
    p) over the shares p and q of the bins, none of which is taken as less than `LEAST_SHARE`."""
    p, q = (np.maximum(one / one.sum(), LEAST_SHARE) for one in (was, now))
    return float(np.sum((q - p) * np.log(q / p)))


def jensen_shannon(was: np.ndarray[Any, Any], now: np.ndarray[Any, Any]) -> float:
    """The Jensen-Shannon distance of two vectors of counts, from 0 to 1: the square root of the
    divergence in bits."""
    p, q = was / was.sum(), now / now.sum()
    middle = (p + q) / 2
    divergence = 0.0
    for one in (p, q):
        there = one > 0
        divergence += float(np.sum(one[there] * np.log2(one[there] / middle[there]))) / 2
    return float(np.sqrt(max(divergence, 0.0)))


def chi_squared(was: np.ndarray[Any, Any], now: np.ndarray[Any, Any]) -> tuple[float, int]:
    """Pearson's statistic that two vectors of counts are of one distribution, and its degrees of
    freedom. Bins that both lack are left out."""
    there = (was + now) > 0
    table = np.array([was[there], now[there]], dtype=np.float64)
    expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / table.sum()
    return float(np.sum((table - expected) ** 2 / expected)), int(there.sum()) - 1


# --- by values ------------------------------------------------------------------------------------


def kolmogorov_smirnov(was: Histogram, now: Histogram) -> Bounded | None:
    """The greatest distance of the two distribution functions, NaN left out. None where a side has
    no number."""
    both = _together(_numbers(was), _numbers(now))
    if not both.was.sum() or not both.now.sum():
        return None
    p, q = both.was / both.was.sum(), both.now / both.now.sum()
    after = np.cumsum(both.was) / both.was.sum() - np.cumsum(both.now) / both.now.sum()
    before = np.concatenate([[0.0], after[:-1]])
    least = float(np.max(np.abs(after)))
    # Inside a bucket one side may come wholly before the other.
    most = np.maximum(np.abs(before + p), np.abs(before - q))
    most[_single(both)] = 0.0
    half = max(float(np.max(most)) - least, 0.0) / 2
    return Bounded(least + half, half)


def wasserstein(was: Histogram, now: Histogram) -> Bounded | None:
    """The area between the two distribution functions, in the unit of the numbers, of finite ones.
    None where a side has none."""
    both = _together(_finite(was), _finite(now))
    if not both.was.sum() or not both.now.sum():
        return None
    apart = np.cumsum(both.was) / both.was.sum() - np.cumsum(both.now) / both.now.sum()
    least, most = _ends(both)
    middle = least + (most - least) / 2
    value = float(np.sum(np.abs(apart[:-1]) * np.diff(middle)))
    # Each number lies within half a bucket of the middle, on either side.
    widths = (most - least) / 2
    shares = both.was / both.was.sum() + both.now / both.now.sum()
    return Bounded(value, float(np.sum(widths * shares)))


def _numbers(one: Histogram) -> Histogram:
    return one.kept(~_nans(one.buckets))


def _nans(buckets: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.fromiter(map(is_nan, buckets.tolist()), bool, len(buckets))


def _finite(one: Histogram) -> Histogram:
    finite = np.fromiter(map(is_finite, one.buckets.tolist()), bool, len(one.buckets))
    return one.kept(finite)


def _ends(both: _Together) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The least and the greatest number of each bucket; of ints, the whole ones."""
    found = np.array([edges(i) for i in both.buckets.tolist()], dtype=np.float64).reshape(-1, 2)
    least, most = found[:, 0], found[:, 1]
    if both.whole:
        least, most = np.ceil(least), np.floor(most)
    return least, most


def _single(both: _Together) -> Any:
    """Whether a bucket holds one number only."""
    least, most = _ends(both)
    return least == most


# --- of classes -----------------------------------------------------------------------------------


def by_class(was: Mapping[Any, int], was_n: int, now: Mapping[Any, int], now_n: int) -> Bins:
    """The counts of both sides of each value that the reference names, and of all others."""
    old = [*was.values(), was_n - sum(was.values())]
    new = [now.get(value, 0) for value in was]
    names = (*map(str, was), "all others")
    return Bins(names, np.array(old), np.array([*new, now_n - sum(new)]))
