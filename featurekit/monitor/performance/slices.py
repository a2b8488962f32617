"""Puts judged rows into slices by the value of a feature, a join key or a request field."""

from __future__ import annotations

import datetime as dt
import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from featurekit.core.attributes import Named
from featurekit.core.few import LEAST_ENTITIES
from featurekit.errors import ArgumentError
from featurekit.monitor.performance.join import ERRED
from featurekit.monitor.performance.judge import Columns, Score, figures, judged_by

MOST_NUMBERS = 10
"""Numbers of more distinct values than that are put into bins."""
MOST_SLICES = 30
"""So many values have slices of their own, those of the most entities."""
_QUARTERS = (0.25, 0.5, 0.75)


@dataclass(frozen=True, slots=True)
class By:
    """What rows are put into slices by: a name, and the borders of bins, where these are given."""

    name: str
    borders: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Slice(Named):
    """How well predictions of a part of the rows did: those whose `by` is `value`, in words.

    `rows` are of `entities`. The intervals of all slices of a name hold together, in 19 of 20
    cases. A slice of fewer than 30 entities has no interval, and its verdict is never "worse".
    """

    by: str
    value: str
    rows: int
    entities: int
    scores: tuple[Score, ...]

    @property
    def worse(self) -> list[str]:
        """The measures that are worse than their thresholds."""
        return [one.measure for one in self.scores if one.verdict == "worse"]


Masks = Mapping[str, np.ndarray[Any, Any]]
"""The rows of each slice, by its value in words."""


def masks(found: Columns, place: int, by: By) -> Masks:
    """The rows of each slice by the value at a `place` of what rows have. A value that fewer than
    eleven entities have is not named: their rows are one slice."""
    values = [one.by[place] for one in found.judged]
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if by.borders or len(set(numbers)) > MOST_NUMBERS:
        borders = by.borders or _quarters(numbers)
        names = [f"below {borders[0]:.6g}"]
        names += [f"{a:.6g} to below {b:.6g}" for a, b in pairwise(borders)]
        names.append(f"{borders[-1]:.6g} and above")
        told = [_binned(value, borders, names) for value in values]
    else:
        names, told = [], [_in_words(by.name, value) for value in values]
    rows: dict[str, list[int]] = defaultdict(list)
    for i, name in enumerate(told):
        rows[name].append(i)
    gathered = _gathered(rows, found.of.entities, binned=bool(names))
    order = {name: i for i, name in enumerate(names)}
    made = {}
    for name in sorted(gathered, key=lambda one: (order.get(one, len(order)), one)):
        mask = np.zeros(len(values), bool)
        mask[gathered[name]] = True
        made[name] = mask
    return made


def _quarters(numbers: Sequence[float]) -> tuple[float, ...]:
    """The borders of four bins of about as many rows each; fewer where values repeat."""
    ordered = sorted(one for one in numbers if math.isfinite(one))
    found = {ordered[int(len(ordered) * part)] for part in _QUARTERS if ordered}
    return tuple(sorted(found)) or (0.0,)


def _binned(value: Any, borders: Sequence[float], names: Sequence[str]) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or math.isnan(value):
        return _in_words("", value)
    return names[bisect_right(borders, value)]


def _in_words(name: str, value: Any) -> str:
    if value is ERRED:
        return "in error"
    if value is None or isinstance(value, bool | int | float | str | dt.date | dt.timedelta):
        return f"{value:.6g}" if isinstance(value, float) else str(value)
    raise ArgumentError(
        f"by: {name!r} has values such as {value!r}, which make no slices; name a number, a text, "
        "a bool or a date"
    )


def _gathered(
    rows: Mapping[str, list[int]], entities: np.ndarray[Any, Any], *, binned: bool
) -> dict[str, list[int]]:
    """The slices that are shown: those of enough entities, and one of all others."""
    if binned:
        return dict(rows)
    sizes = {name: len(np.unique(entities[places])) for name, places in rows.items()}
    ranked = sorted(rows, key=lambda one: (-sizes[one], one))
    shown = [one for one in ranked[:MOST_SLICES] if sizes[one] >= LEAST_ENTITIES]
    made = {one: rows[one] for one in shown}
    left = [one for one in rows if one not in made]
    if left:
        word = "value" if len(left) == 1 else "values"
        made[f"others, {len(left):,} {word}"] = sorted(i for one in left for i in rows[one])
    return made


def sliced(
    found: Columns, by: By, parts: Masks, thresholds: Mapping[str, float | None]
) -> tuple[Slice, ...]:
    """The figures of each slice."""
    made = []
    for value, mask in parts.items():
        scores, spans = figures(found, mask, among=len(parts))
        entities = len(np.unique(found.of.entities[mask]))
        told = judged_by(scores, spans, thresholds)
        made.append(Slice(by.name, value, int(mask.sum()), entities, told))
    return tuple(made)
