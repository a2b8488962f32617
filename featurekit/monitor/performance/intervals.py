"""Turns a measure of rows into an interval, by leaving out one group of entities after another.

Rows of one entity tell much the same, so that the jackknife leaves out entities and not rows. An
interval stays within the range of its measure: it is made on the scale of the logit, or of the
logarithm, where the measure has ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from typing import Any

import numpy as np

from featurekit.monitor.performance.scores import NOT_NEGATIVE, SHARES, Rows, Scores

GROUPS = 30
"""So many groups of entities are left out, one after another."""
LEVEL = 0.95
"""In how many cases an interval encloses what it is of."""
Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Dealt:
    """Whose each row is, as the number of the entity and that of its group."""

    entities: np.ndarray[Any, Any]
    groups: np.ndarray[Any, Any]

    @property
    def enough(self) -> bool:
        """Whether there are as many entities as groups."""
        return len(np.unique(self.entities)) >= GROUPS

    def some(self, keep: np.ndarray[Any, Any]) -> Dealt:
        """Those of the rows that a mask keeps, in the same groups."""
        return Dealt(self.entities[keep], self.groups[keep])

    def alone(self, keep: np.ndarray[Any, Any]) -> Dealt:
        """Those of the rows that a mask keeps, whose entities are dealt to groups anew, so that no
        group is empty."""
        _, entities = np.unique(self.entities[keep], return_inverse=True)
        return Dealt(entities, entities % GROUPS)


def dealt(keys: Sequence[tuple[Any, ...]]) -> Dealt:
    """Entities are dealt to groups in the order of their hashes."""
    hashes = {one: blake2b(repr(one).encode(), digest_size=8).digest() for one in keys}
    ordered = sorted(hashes, key=lambda one: (hashes[one], repr(one)))
    place = {one: number for number, one in enumerate(ordered)}
    entities = np.array([place[one] for one in keys], np.int64)
    return Dealt(entities, entities % GROUPS)


@cache
def student(level: float) -> float:
    """What Student's distribution of `GROUPS` - 1 degrees of freedom stays within, of either sign,
    in so many cases."""
    from scipy.special import stdtrit

    return float(stdtrit(GROUPS - 1, (1 + level) / 2))


def without(
    rows: Rows, of: Dealt, score: Callable[[Rows], Scores]
) -> list[Mapping[str, float | None]]:
    """The figures of the rows without one group after another."""
    return [score(rows.some(of.groups != group)) for group in range(GROUPS)]


def error(parts: Sequence[float | None]) -> float | None:
    """The standard error of a figure, from its values without one group after another. None where
    one of these is not there."""
    known = [one for one in parts if one is not None]
    if len(known) < GROUPS:
        return None
    mean = math.fsum(known) / GROUPS
    return math.sqrt(math.fsum((one - mean) ** 2 for one in known) * (GROUPS - 1) / GROUPS)


Bearing = Mapping[str, Sequence[np.ndarray[Any, Any]]]
"""The rows that a figure comes from, as masks; where it needs several kinds, as one of each."""


def intervals(
    rows: Rows,
    of: Dealt,
    score: Callable[[Rows], Scores],
    whole: Scores,
    *,
    bearing: Bearing | None = None,
    among: int = 1,
) -> Mapping[str, Span]:
    """An interval of 95 % for each figure of the `whole`. `among` is how many such intervals are to
    hold together (Bonferroni). None of a figure that a part of the rows has not; none at all where
    entities are too few."""
    if not of.enough:
        return {}
    level = 1 - (1 - LEVEL) / among
    parts = without(rows, of, score)
    found = {}
    for name, value in whole.items():
        spread = error([part[name] for part in parts])
        if value is None or spread is None:
            continue
        masks = (bearing or {}).get(name, [np.ones(len(rows.outcomes), bool)])
        entities = min(len(np.unique(of.entities[mask])) for mask in masks)
        found[name] = span(name, value, student(level) * spread, entities, level)
    return found


def span(name: str, value: float, half: float, entities: int, level: float) -> Span:
    """The interval of a figure whose plain one would reach by `half` to either side.

    On the scale of the logit, or of the logarithm, the standard error is that of the plain scale
    times the slope there. A share at an end of its range, of which no group told otherwise, has the
    interval of Clopper and Pearson for so many entities that all agree.
    """
    if name in SHARES:
        if half == 0.0 and value in (0.0, 1.0):
            open_ = 1 - ((1 - level) / 2) ** (1 / max(entities, 1))
            return (0.0, open_) if value == 0.0 else (1 - open_, 1.0)
        if 0.0 < value < 1.0:
            middle, reach = math.log(value / (1 - value)), half / (value * (1 - value))
            return _expit(middle - reach), _expit(middle + reach)
        return max(value - half, 0.0), min(value + half, 1.0)
    if name in NOT_NEGATIVE:
        if value > 0.0:
            reach = min(half / value, 700.0)
            return value * math.exp(-reach), value * math.exp(reach)
        return 0.0, half
    return value - half, value + half


def _expit(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(max(x, -745.0)) / (1 + math.exp(x))
