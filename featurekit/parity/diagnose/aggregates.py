"""Experiments on what an aggregate says, where its events and slots are the same on both paths."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from fractions import Fraction
from typing import Any

from featurekit.core.status import NOT_FOUND
from featurekit.core.types import Type
from featurekit.define.plan import Feature, View
from featurekit.parity.compare import bits, parts, shown, ulps
from featurekit.parity.diagnose.causes import is_nan, of_stated
from featurekit.parity.diagnose.counted import Counted, inputs
from featurekit.parity.diagnose.diagnosis import FEW, said_of
from featurekit.parity.diagnose.selection import of_key
from featurekit.parity.diagnose.trial import Told, Trial

_SPECIAL = {
    "Quantile": "quantile",
    "ApproxQuantile": "quantile",
    "TimeSince": "unit",
    "ApproxCountDistinct": "hash",
    "TopK": "tie",
    "ValueCounts": "tie",
    "Mode": "tie",
    "Distinct": "tie",
}
_ADDING = (
    "Sum", "Mean", "Variance", "StdDev", "SumOfSquares", "Skew", "Kurtosis", "Covariance",
    "Correlation", "Ratio", "Rate", "LinearTrend", "ExponentialDecay", "GeometricMean",
)  # fmt: skip


def of_aggregate(trial: Trial, view: View, feature: Feature, found: Counted) -> Told:
    """The cause, where the events and the slots are the same: the aggregate, or what is made of it
    or of a latest row."""
    offline, online = trial.offline, trial.online
    if feature.aggregate is None:
        where = f"what is made of the latest row: offline {said_of(offline)}, online "
        return of_stated(offline, online, "stale state"), where + said_of(online)
    values: list[Any] = []
    item: Type | None = None
    given = inputs(trial.bench, trial.scenario, trial.feature)
    if given is not None:
        assert feature.slot is not None
        item = view.slots[feature.slot].type.base
        one, other = given
        if parts(one, other) and isinstance(one[0], list) and isinstance(other[0], list):
            return _of_inputs(feature, one[0], other[0])
        values = one[0] or []
    where = (
        f"{feature.aggregate} over {len(found.offline or ())} events: offline "
        f"{said_of(offline)}, online {said_of(online)}"
    )
    if values and item is not None:
        where += f"; inputs {_few(values)}{_exact(feature, values, item)}"
    of_none = _of_no_value(trial, view, feature, values)
    return of_none or _of_values(trial, feature, values, item), where


def _of_inputs(feature: Feature, one: list[Any], other: list[Any]) -> Told:
    """The lists of inputs differ though each event's slot is the same alone."""
    where = f"the inputs of {feature.aggregate}: offline {_few(one)}, online {_few(other)}"
    if sorted(map(repr, one)) == sorted(map(repr, other)):
        return "tie", where
    a = Counter(map(repr, one)) - Counter(map(repr, other))
    if {"0.0", "-0.0"} & {*a}:
        return "-0.0", where
    return ("null fill" if len(one) != len(other) else "stale state"), where


def _of_no_value(trial: Trial, view: View, feature: Feature, values: list[Any]) -> str | None:
    """The cause, where one path gives a value and the other none, or an error."""
    offline, online = trial.offline, trial.online
    general = of_stated(offline, online, "")
    if general not in ("null fill", "error", "ttl"):
        return None
    if general != "ttl" and any(isinstance(v, float) and v != v for v in values):
        return "NaN"
    if general == "null fill":
        filled = offline[0] if online[0] is None else online[0]
        if feature.default is not None and bits(filled) == bits(feature.default):
            return "default"
    if general == "error":
        return general
    if NOT_FOUND in (offline[1], online[1]):
        found = of_key(trial, view)
        return found or ("missing event" if trial.scenario.deliveries else "null fill")
    return general


def _of_values(trial: Trial, feature: Feature, values: list[Any], item: Type | None) -> str:
    """The cause, where both paths give a value."""
    offline, online = trial.offline, trial.online
    flat = itertools.chain.from_iterable(v if isinstance(v, list) else [v] for v in values)
    floats = [v for v in flat if isinstance(v, float)]
    general = of_stated(offline, online, "")
    if any(v != v for v in floats) or is_nan(offline[0]) or is_nan(online[0]):
        return "NaN"
    if general in ("type", "-0.0", "float32", "precision"):
        return general
    if feature.aggregate in _SPECIAL:
        return _SPECIAL[feature.aggregate]
    if feature.aggregate in _ADDING and (floats or (item and item.name == "float")):
        exactly = [v for v in floats if math.isfinite(v)]
        if len(exactly) > 2 or (len(exactly) == 2 and feature.aggregate != "Mean"):
            if feature.aggregate in ("Sum", "Mean"):
                trial.evidence.append(_sums(exactly))
            return "float order"
        return "rounding"
    if feature.implementation().ordered or _same_entries(offline[0], online[0]):
        return "tie"
    apart = ulps(offline[0], online[0])
    if apart is not None and apart <= 4:
        return "rounding"
    if general and general != "operator":
        return general
    return "aggregate"


def _same_entries(one: Any, other: Any) -> bool:
    """Whether two values are dicts that differ in their order alone."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        return False
    return {k: bits(v) for k, v in one.items()} == {k: bits(v) for k, v in other.items()}


def _sums(values: list[float]) -> str:
    """What adding from the left makes of the values."""
    total = 0.0
    for value in values:
        total += value
    exact = sum(map(Fraction, values), Fraction())
    return f"added from the left: {shown(total)}; the exact sum rounds to {_rounded(exact)}"


def _few(values: list[Any]) -> str:
    said = ", ".join(shown(v) for v in values[:FEW])
    return f"[{said}{', …' if len(values) > FEW else ''}]"


def _exact(feature: Feature, values: list[Any], item: Type) -> str:
    """The exact sum, where the aggregate rounds one."""
    if feature.aggregate not in ("Sum", "Mean") or item.name != "float":
        return ""
    if not all(math.isfinite(v) for v in values):
        return ""
    total = sum(map(Fraction, values), Fraction())
    return f"; their exact sum rounds to {_rounded(total)}"


def _rounded(total: Fraction) -> str:
    try:
        return shown(float(total))
    except OverflowError:
        return "no double"
