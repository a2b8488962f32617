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
    error, the histogram of numbers, and the rows of each value where these have classes.

    `independent` is the share of the rows that tell as much as independent ones; None where that is
    not known, and that of the other sample is taken."""

    rows: int
    null: int
    errors: int
    numbers: Histogram | None = None
    classes: Mapping[Any, int] | None = None
    independent: float | None = None

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
    shares = [
        next(share for share in (one.independent, other.independent, 1.0) if share is not None)
        for one, other in ((was, now), (now, was))
    ]
    for measure, value, bound, chance in _figures(was, now, _Chance(by.chance, *shares)):
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


@dataclass(frozen=True, slots=True)
class _Chance:
    """How rarely chance may pass for drift, and the share of the rows of either side that are as
    good as independent."""

    rare: float
    was: float
    now: float

    def spread(self, was: float, now: float) -> float:
        """1/n + 1/m, over the independent rows of both sides."""
        return 1 / (was * self.was) + 1 / (now * self.now)


_Raw = tuple[str, float, float, float | None]
"""The name, value, bound and chance of a measure."""


def _figures(was: Sample, now: Sample, by: _Chance) -> Iterator[_Raw]:
    """Each measure that the values allow."""
    yield _share("null_share", (was.null, was.rows), (now.null, now.rows), by)
    yield _share("error_share", (was.errors, was.rows), (now.errors, now.rows), by)
    if was.numbers is not None and now.numbers is not None:
        yield from _of_numbers(was.numbers, now.numbers, by)
    bins = _classes(was, now)
    if bins is not None:
        if was.numbers is None:
            yield from _of_bins(bins, by)
        statistic, freedom = distances.chi_squared(bins.was, bins.now)
        # As of so many independent rows, whose statistic would be as much smaller.
        rows = 1 / bins.was.sum() + 1 / bins.now.sum()
        more = by.spread(bins.was.sum(), bins.now.sum()) / rows
        yield "chi_squared", statistic, 0.0, float(chi_squared_at(by.rare, freedom) * more)


def shape(was: Sample, now: Sample) -> Bins | None:
    """The bins in which PSI compares two samples; None where nothing of them is known."""
    if was.numbers is not None and now.numbers is not None:
        return distances.binned(was.numbers, now.numbers) if was.present and now.present else None
    return _classes(was, now)


def _classes(was: Sample, now: Sample) -> Bins | None:
    if was.classes is None or now.classes is None or not was.present or not now.present:
        return None
    return distances.by_class(was.classes, was.present, now.classes, now.present)


def _of_numbers(was: Histogram, now: Histogram, by: _Chance) -> Iterator[_Raw]:
    if not was.n or not now.n:
        return
    if was.nan or now.nan:
        yield _share("nan_share", (was.nan, was.n), (now.nan, now.n), by)
    yield from _of_bins(distances.binned(was, now), by)
    apart = distances.kolmogorov_smirnov(was, now)
    if apart is not None:
        least = math.sqrt(-math.log(by.rare / 2) / 2 * by.spread(was.n, now.n))
        yield "kolmogorov_smirnov", apart.value, apart.bound, min(least, 1.0)
    moved = distances.wasserstein(was, now)
    if moved is not None:
        yield "wasserstein", moved.value, moved.bound, None


def _of_bins(bins: Bins, by: _Chance) -> Iterator[_Raw]:
    """The measures of bins. Where both sides are of one distribution, PSI times the harmonic size
    of the samples is about chi², and the divergence an eighth of PSI.

    In small samples chance leaves some bins empty, and then the logarithms are far above Pearson's
    statistic. What chance gives is as much more, so a figure passes it where the statistic does,
    too."""
    was, now = bins.was, bins.now
    statistic, freedom = distances.chi_squared(was, now)
    told = statistic * (1 / was.sum() + 1 / now.sum())
    chance = chi_squared_at(by.rare, freedom) * by.spread(was.sum(), now.sum())
    index, distance = distances.psi(was, now), distances.jensen_shannon(was, now)
    yield "psi", index, 0.0, float(chance * _more(index, told))
    eighth = 8 * math.log(2)
    divergence = chance / eighth * _more(distance**2 * eighth, told)
    yield "jensen_shannon", distance, 0.0, min(math.sqrt(divergence), 1.0)


def _more(figure: float, told: float) -> float:
    """How many times as much as Pearson's statistic says a figure is, at least 1."""
    return max(1.0, figure / told) if told > 0 else 1.0


def _share(measure: str, was: tuple[int, int], now: tuple[int, int], by: _Chance) -> _Raw:
    """How far two shares lie apart; chance by the normal distribution, at a variance that knows of
    one row more on either side."""
    (old, n), (new, m) = was, now
    both = (old + new + 1) / (n + m + 2)
    chance = -NormalDist().inv_cdf(by.rare / 2) * math.sqrt(both * (1 - both) * by.spread(n, m))
    return measure, abs(new / m - old / n), 0.0, min(chance, 1.0)


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
