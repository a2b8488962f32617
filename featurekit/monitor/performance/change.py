"""Says whether predictions do worse than they did in a reference: what they are to be made of may
have changed, though what goes in is as before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from featurekit.core.attributes import Named
from featurekit.errors import DataError
from featurekit.monitor.performance.intervals import LEVEL, dealt, error, student, without
from featurekit.monitor.performance.judge import Columns, Verdict
from featurekit.monitor.performance.scores import HIGHER, NOT_NEGATIVE, SHARES

CHANCE = 1e-4
"""How rarely chance alone may pass for a change, in one measure."""
THRESHOLDS: Mapping[str, float] = {
    **dict.fromkeys(sorted(SHARES), 0.05),
    **dict.fromkeys(sorted(NOT_NEGATIVE), 0.1),
}
"""How much worse a measure may be, where the repo says nothing else: shares by so much, the others
by so great a part of what they were."""


@dataclass(frozen=True, slots=True)
class Change(Named):
    """How a measure has changed: `was` in the reference, and `now`.

    `change` is the difference of shares and of `bias`; of the other measures it is the part by
    which they grew, as 0.1 for a tenth. `low` and `high` enclose it in 19 of 20 cases. It is
    "worse" where it is worse than the reference by more than the `threshold`, and by more than
    `chance` alone gives; "too few" where chance alone gives more than the threshold.
    """

    measure: str
    was: float | None
    now: float | None
    change: float | None
    low: float | None
    high: float | None
    threshold: float | None
    chance: float | None
    verdict: Verdict


def changes(
    was: Columns, now: Columns, thresholds: Mapping[str, float | None]
) -> tuple[Change, ...]:
    """The change of each measure. Entities are left out of both sides at once, since one may be in
    both. DataError where the sides are of two kinds."""
    if was.kind != now.kind or was.classes != now.classes:
        raise DataError(
            f"outcomes of the reference are {_told(was)}, and those of the window {_told(now)}; "
            "name a reference of the same kind, or the classes"
        )
    of = dealt([one.keys for one in (*was.judged, *now.judged)])
    split = np.arange(len(of.groups)) < len(was.judged)
    sides = [(was, of.some(split)), (now, of.some(~split))]
    whole = [side.score(side.rows) for side, _ in sides]
    parts = [without(side.rows, who, side.score) for side, who in sides]
    enough = of.enough
    found = []
    for name in whole[0]:
        old, new = (one[name] for one in whole)
        value = _change(name, old, new)
        each = [_change(name, a[name], b[name]) for a, b in zip(*parts, strict=True)]
        spread = error(each) if enough else None
        found.append(_judged(name, (old, new), value, spread, thresholds))
    return tuple(found)


def _told(one: Columns) -> str:
    words = {"class": "true or false", "number": "numbers"}
    return words.get(one.kind, f"of the classes {', '.join(one.classes)}")


def _change(name: str, was: float | None, now: float | None) -> float | None:
    if was is None or now is None:
        return None
    if name not in NOT_NEGATIVE:
        return now - was
    return now / was - 1 if was else None


def _judged(
    name: str,
    values: tuple[float | None, float | None],
    change: float | None,
    spread: float | None,
    thresholds: Mapping[str, float | None],
) -> Change:
    threshold = thresholds[name] if name in thresholds else THRESHOLDS.get(name)
    low = high = chance = None
    if change is not None and spread is not None:
        half = student(LEVEL) * spread
        low, high, chance = change - half, change + half, student(1 - 2 * CHANCE) * spread
    verdict: Verdict = ""
    if threshold is not None:
        verdict = _verdict(name, change, threshold, chance)
    return Change(name, *values, change, low, high, threshold, chance, verdict)


def _verdict(name: str, change: float | None, threshold: float, chance: float | None) -> Verdict:
    if change is None or chance is None:
        return "too few"
    loss = -change if name in HIGHER else change
    if loss > threshold and loss > chance:
        return "worse"
    return "too few" if chance > threshold and loss > -chance else "good"
