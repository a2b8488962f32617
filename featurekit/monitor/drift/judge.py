"""Turns two samples of a feature into figures, each judged by a threshold and by what chance gives.

A figure says drift where it lies above its threshold and above what chance alone gives to samples
of these sizes. Where chance alone reaches the threshold, the samples are too small to tell.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, Literal

from featurekit.core.attributes import Named
from featurekit.monitor.drift import distances
from featurekit.monitor.drift.distances import Bins, Histogram

Verdict = Literal["steady", "drift", "too few", ""]
CHANCE = 1e-6
"""How rarely chance alone may pass for drift, in one figure."""
THRESHOLDS: Mapping[str, float] = {"psi": 0.2, "null_share": 0.05, "error_share": 0.01,
                                   "nan_share": 0.01}  # fmt: skip
"""What a figure must pass to say drift, where the repo says nothing else. The other figures only
inform."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What is known of a feature's values in some rows: how many are `present`, `null` and in
    error, the histogram of numbers, and the rows of each value where these have classes."""

    rows: int
    null: int
    errors: int
    numbers: Histogram | None = None
    classes: Mapping[Any, int] | None = None

    @property
    def present(self) -> int:
        """The rows that have a value."""
        return self.rows - self.null


@dataclass(frozen=True, slots=True)
class Figure(Named):
    """One measure of a feature: its `value`, which lies within `bound` of that of the raw values,
    the `threshold`, what `chance` alone gives at these sizes, and the verdict; "" where there is
    no threshold."""

    feature: str
    measure: str
    value: float
    bound: float
    threshold: float | None
    chance: float | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The threshold of each measure, and of some features their own; None switches one off."""

    every: Mapping[str, float | None] = field(default_factory=dict)
    features: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    chance: float = CHANCE

    def of(self, feature: str, measure: str) -> float | None:
        """The threshold of a feature's measure; None where there is none."""
        own = self.features.get(feature, {})
        if measure in own:
            return own[measure]
        if measure in self.every:
            return self.every[measure]
        return THRESHOLDS.get(measure)


def judged(feature: str, was: Sample, now: Sample, by: Thresholds) -> Iterator[Figure]:
    """The figures of a feature; none where a side has no row."""
    if not was.rows or not now.rows:
        return
    for measure, value, bound, chance in _figures(was, now, by.chance):
        threshold = by.of(feature, measure)
        verdict = _verdict(value - bound, threshold, chance)
        yield Figure(feature, measure, value, bound, threshold, chance, verdict)


def _verdict(least: float, threshold: float | None, chance: float | None) -> Verdict:
    if threshold is None:
        return ""
    if least > threshold and (chance is None or least > chance):
        return "drift"
    if chance is not None and chance > threshold:
        return "too few"
    return "steady"


def _figures(
    was: Sample, now: Sample, rare: float
) -> Iterator[tuple[str, float, float, float | None]]:
    """The name, value, bound and chance of each measure that the values allow."""
    for measure, old, new in (
        ("null_share", was.null, now.null),
        ("error_share", was.errors, now.errors),
    ):
        yield measure, *_share(old, was.rows, new, now.rows, rare)
    if was.numbers is not None and now.numbers is not None:
        yield from _of_numbers(was.numbers, now.numbers, rare)
    bins = _classes(was, now)
    if bins is not None:
        if was.numbers is None:
            yield from _of_bins(bins, rare)
        statistic, freedom = distances.chi_squared(bins.was, bins.now)
        yield "chi_squared", statistic, 0.0, chi_squared_at(rare, freedom)


def shape(was: Sample, now: Sample) -> Bins | None:
    """The bins in which PSI compares two samples; None where nothing of them is known."""
    if was.numbers is not None and now.numbers is not None:
        return distances.binned(was.numbers, now.numbers) if was.present and now.present else None
    return _classes(was, now)


def _classes(was: Sample, now: Sample) -> Bins | None:
    if was.classes is None or now.classes is None or not was.present or not now.present:
        return None
    return distances.by_class(was.classes, was.present, now.classes, now.present)


def _of_numbers(
    was: Histogram, now: Histogram, rare: float
) -> Iterator[tuple[str, float, float, float | None]]:
    if not was.n or not now.n:
        return
    if was.nan or now.nan:
        yield "nan_share", *_share(was.nan, was.n, now.nan, now.n, rare)
    yield from _of_bins(distances.binned(was, now), rare)
    apart = distances.kolmogorov_smirnov(was, now)
    if apart is not None:
        least = math.sqrt(-math.log(rare / 2) / 2 * (1 / was.n + 1 / now.n))
        yield "kolmogorov_smirnov", apart.value, apart.bound, least
    moved = distances.wasserstein(was, now)
    if moved is not None:
        yield "wasserstein", moved.value, moved.bound, None


def _of_bins(bins: Bins, rare: float) -> Iterator[tuple[str, float, float, float | None]]:
    """The measures of bins. Where both sides are of one distribution, PSI times the harmonic size
    of the samples is about chi², and the divergence an eighth of PSI."""
    was, now = bins.was, bins.now
    freedom = int(((was + now) > 0).sum()) - 1
    chance = chi_squared_at(rare, freedom) * (1 / was.sum() + 1 / now.sum())
    yield "psi", distances.psi(was, now), 0.0, float(chance)
    divergence = chance / 8 / math.log(2)
    yield "jensen_shannon", distances.jensen_shannon(was, now), 0.0, math.sqrt(divergence)


def _share(
    old: int, was: int, new: int, now: int, rare: float
) -> tuple[float, float, float | None]:
    """How far two shares lie apart; chance by the normal distribution, at a variance that knows of
    one row more on either side."""
    both = (old + new + 1) / (was + now + 2)
    chance = -NormalDist().inv_cdf(rare / 2) * math.sqrt(both * (1 - both) * (1 / was + 1 / now))
    return abs(new / now - old / was), 0.0, chance


def chi_squared_at(rare: float, freedom: int) -> float:
    """What chi² passes as rarely as that."""
    low, high = 0.0, float(freedom) + 1.0
    while _passes(high, freedom) > rare:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _passes(middle, freedom) > rare else (low, middle)
    return high if freedom > 0 else 0.0


def _passes(x: float, freedom: int) -> float:
    """How often chi² passes `x`: a finite sum, for whole degrees of freedom."""
    half = x / 2
    if freedom % 2 == 0:
        terms = (
            math.exp(k * math.log(half) - half - math.lgamma(k + 1)) for k in range(freedom // 2)
        )
        return math.fsum(terms)
    more = (
        math.exp((k + 0.5) * math.log(half) - half - math.lgamma(k + 1.5))
        for k in range(freedom // 2)
    )
    return math.erfc(math.sqrt(half)) + math.fsum(more)
