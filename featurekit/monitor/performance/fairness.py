"""Says how far predictions of a class treat slices of rows alike.

The measures are those of Fairlearn (https://fairlearn.org, `fairlearn.metrics`): demographic parity
compares how often a prediction says yes, equalized odds how often it does so among the rows of
either outcome. A difference is that of the greatest and the least slice, a ratio is the least by
the greatest. Of equalized odds the difference is the greater one of both outcomes, the ratio the
lesser.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal

import numpy as np

from featurekit.core.attributes import Named
from featurekit.errors import ArgumentError
from featurekit.monitor.performance.intervals import GROUPS, LEVEL, error, student
from featurekit.monitor.performance.judge import Columns, Verdict
from featurekit.monitor.performance.slices import Masks

Parity = Literal["demographic_parity_difference", "demographic_parity_ratio",
                 "equalized_odds_difference", "equalized_odds_ratio"]  # fmt: skip
_RATES: Mapping[str, tuple[str, ...]] = {
    "demographic_parity": ("selection",),
    "equalized_odds": ("true_positive", "false_positive"),
}


@dataclass(frozen=True, slots=True)
class Fairness(Named):
    """A measure of how far slices `by` a name are treated alike, None where a slice has no rows of
    that outcome.

    It is between the slices `least` and `most`, by their shares of yes. `low` and `high` enclose it
    in 19 of 20 cases, over all pairs of slices together. `slices` are compared; those `left_out`
    have too few entities. `verdict` is "worse" where the whole interval lies beyond the
    `threshold`.
    """

    by: str
    measure: str
    value: float | None
    low: float | None
    high: float | None
    least: str
    most: str
    slices: int
    left_out: tuple[str, ...]
    threshold: float | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class _Between:
    """How far slices lie apart, and between which."""

    value: float | None
    low: float | None
    high: float | None
    least: str
    most: str


@dataclass(frozen=True, slots=True)
class _Rate:
    """A share of yes in each slice, and in each without one group after another; NaN where there is
    no row to take it of."""

    slices: tuple[str, ...]
    whole: np.ndarray[Any, Any]
    parts: np.ndarray[Any, Any]


def fairness(
    found: Columns,
    by: str,
    parts: Masks,
    cut: float,
    thresholds: Mapping[str, float | None],
) -> tuple[Fairness, ...]:
    """The measures of slices. ArgumentError where predictions are of no single class."""
    if found.kind != "class":
        raise ArgumentError(
            "fairness: it is of outcomes that are true or false; name the --positive one"
        )
    enough = {name: mask for name, mask in parts.items() if found.some(mask)[1].enough}
    left_out = tuple(name for name in parts if name not in enough)
    if len(enough) < 2:
        names = [f"{family}_{kind}" for family in _RATES for kind in _KINDS]
        none = _Between(None, None, None, "", "")
        told = dict.fromkeys(names, none)
    else:
        told = _compared(found, enough, cut)
    made = []
    for measure, one in told.items():
        threshold = thresholds.get(measure)
        verdict = _verdict(measure.endswith("ratio"), one, threshold)
        made.append(
            Fairness(
                by, measure, one.value, one.low, one.high, one.least, one.most, len(enough),
                left_out, threshold, verdict,
            )
        )  # fmt: skip
    return tuple(made)


def _compared(found: Columns, slices: Masks, cut: float) -> dict[str, _Between]:
    """Each measure of slices that have enough entities."""
    made = {}
    for family, names in _RATES.items():
        rates = [_rate(found, slices, cut, name) for name in names]
        for kind, between in _KINDS.items():
            made[f"{family}_{kind}"] = _worst(list(map(between, rates)), ratio=kind == "ratio")
    return made


def _worst(each: Sequence[_Between], *, ratio: bool) -> _Between:
    """The greatest difference, or the least ratio, with the interval of that."""
    worst: Callable[..., Any] = min if ratio else max
    if any(one.value is None for one in each):
        return _Between(None, None, None, "", "")
    found = worst(each, key=lambda one: one.value)
    lows, highs = [one.low for one in each], [one.high for one in each]
    if None in lows or None in highs:
        return _Between(found.value, None, None, found.least, found.most)
    return _Between(found.value, worst(lows), worst(highs), found.least, found.most)


def _rate(found: Columns, slices: Masks, cut: float, name: str) -> _Rate:
    said, true = found.rows.predictions >= cut, found.rows.outcomes == 1.0
    base = {"selection": np.ones(len(said), bool), "true_positive": true, "false_positive": ~true}
    groups = found.of.groups
    whole, parts = [], []
    for mask in slices.values():
        of = mask & base[name]
        rows = np.bincount(groups[of], minlength=GROUPS)
        yes = np.bincount(groups[of & said], minlength=GROUPS)
        with np.errstate(invalid="ignore"):
            whole.append(yes.sum() / rows.sum() if rows.sum() else math.nan)
            parts.append((yes.sum() - yes) / (rows.sum() - rows))
    return _Rate(tuple(slices), np.array(whole), np.array(parts))


def _difference(rate: _Rate) -> _Between:
    found = _between(rate)
    return found if found.high is None else replace(found, high=min(found.high, 1.0))


def _ratio(rate: _Rate) -> _Between:
    """By the difference of logarithms, so that there is no interval where a slice has no yes."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = _between(_Rate(rate.slices, np.log(rate.whole), np.log(rate.parts)))
        value = float(rate.whole.min() / rate.whole.max())
    if math.isnan(value):
        return _Between(None, None, None, "", "")
    if found.low is None or found.high is None:
        return replace(found, value=value)
    return _Between(value, math.exp(-found.high), math.exp(-found.low), found.least, found.most)


def _between(rate: _Rate) -> _Between:
    """How far the greatest slice lies from the least. The interval is that of all pairs together
    (Bonferroni): the greatest distance is at least the low end of each, and at most the highest
    end."""
    if np.isnan(rate.whole).any():
        return _Between(None, None, None, "", "")
    bottom, top = int(rate.whole.argmin()), int(rate.whole.argmax())
    value = float(rate.whole[top] - rate.whole[bottom])
    names = rate.slices[bottom], rate.slices[top]
    pairs = list(combinations(np.argsort(rate.whole, kind="stable").tolist(), 2))
    level = student(1 - (1 - LEVEL) / len(pairs))
    low, high = 0.0, 0.0
    for below, above in pairs:
        parts = (rate.parts[above] - rate.parts[below]).tolist()
        spread = error([one if math.isfinite(one) else None for one in parts])
        if spread is None:
            return _Between(value, None, None, *names)
        apart = float(rate.whole[above] - rate.whole[below])
        low, high = max(low, apart - level * spread), max(high, apart + level * spread)
    return _Between(value, low, high, *names)


_KINDS: Mapping[str, Callable[[_Rate], _Between]] = {"difference": _difference, "ratio": _ratio}


def _verdict(ratio: bool, one: _Between, threshold: float | None) -> Verdict:
    if threshold is None:
        return ""
    if one.value is None:
        return "too few"
    sign, best = (-1, one.high) if ratio else (1, one.low)
    if sign * one.value <= sign * threshold:
        return "good"
    return "worse" if best is not None and sign * best > sign * threshold else "too few"
