"""Turns served rows with their outcomes into figures, each judged by a threshold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal

import numpy as np

from featurekit.core.attributes import Named
from featurekit.errors import DataError
from featurekit.monitor.performance.join import Judged
from featurekit.monitor.performance.scores import (
    GROUPS,
    HIGHER,
    Rows,
    Scores,
    intervals,
    of_classes,
    of_numbers,
)

Verdict = Literal["good", "worse", "too few", ""]
Kind = Literal["class", "number"]


@dataclass(frozen=True, slots=True)
class Score(Named):
    """A figure of how well predictions did, None where the rows have it not; `low` and `high`
    enclose it in 19 of 20 cases, None where entities are too few. `verdict` is "worse" where the
    whole of that lies beyond the `threshold`, and "too few" where a part of it does."""

    measure: str
    value: float | None
    low: float | None
    high: float | None
    threshold: float | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of outcomes: the value that is the `positive` class, None where true is; and
    from which prediction on one says yes."""

    positive: Any = None
    cut: float = 0.5


@dataclass(frozen=True, slots=True)
class Columns:
    """Judged rows in columns: of which kind the outcomes are, whose the rows are, and how many
    rows are `odd`, since their prediction is none of that kind."""

    kind: Kind
    rows: Rows
    judged: Sequence[Judged]
    odd: int


def columns(judged: Sequence[Judged], asked: Asked) -> Columns:
    """The columns of judged rows. DataError where outcomes are not of one kind."""
    kind = _kind(judged, asked)
    positive = True if asked.positive is None else asked.positive
    kept, predictions, outcomes = [], [], []
    for one in judged:
        told = _prediction(one.prediction, kind, positive)
        if told is None:
            continue
        kept.append(one)
        predictions.append(told)
        outcomes.append(one.outcome if kind == "number" else float(_same(one.outcome, positive)))
    rows = Rows(np.array(predictions, np.float64), np.array(outcomes, np.float64))
    return Columns(kind, rows, kept, len(judged) - len(kept))


def _kind(judged: Sequence[Judged], asked: Asked) -> Kind:
    words = {bool: "true or false", float: "numbers", str: "texts"}
    kinds = {type(one.outcome) for one in judged}
    if len(kinds) > 1:
        told = " and ".join(sorted(words[kind] for kind in kinds))
        raise DataError(f"outcomes are {told}; push corrections, so that they are of one kind")
    kind = kinds.pop() if kinds else bool
    if asked.positive is not None and type(asked.positive) is not kind:
        raise DataError(
            f"outcomes are {words[kind]}, and the positive one is {asked.positive!r}; write one of "
            "their kind"
        )
    if asked.positive is None and kind is str:
        raise DataError("outcomes are texts; write which is the positive one, as by --positive")
    return "number" if kind is float and asked.positive is None else "class"


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def _prediction(told: Any, kind: Kind, positive: Any) -> float | None:
    """A prediction as a number; None where it is none of this kind."""
    if isinstance(told, bool):
        return float(told) if kind == "class" else None
    if isinstance(told, int | float):
        value = float(told)
        return value if math.isfinite(value) else None
    if kind == "class" and isinstance(told, str) and isinstance(positive, str):
        return float(told == positive)
    return None


def figures(found: Columns, asked: Asked) -> tuple[Scores, Mapping[str, tuple[float, float]]]:
    """The figures of judged rows, and an interval of each."""

    def score(rows: Rows) -> Scores:
        return of_numbers(rows) if found.kind == "number" else of_classes(rows, asked.cut)

    whole = score(found.rows)
    return whole, intervals(found.rows, groups(found.judged), score, whole)


def groups(judged: Sequence[Judged]) -> list[int] | None:
    """The group of each row for the jackknife: entities are dealt to groups in the order of their
    hashes. None where there are fewer entities than groups."""
    hashes = {one.keys: blake2b(repr(one.keys).encode(), digest_size=8).digest() for one in judged}
    if len(hashes) < GROUPS:
        return None
    dealt = sorted(hashes, key=lambda keys: (hashes[keys], repr(keys)))
    group = {keys: place % GROUPS for place, keys in enumerate(dealt)}
    return [group[one.keys] for one in judged]


def judged_by(
    scores: Scores,
    spans: Mapping[str, tuple[float, float]],
    thresholds: Mapping[str, float | None],
) -> tuple[Score, ...]:
    """Each figure with its interval, its threshold and the verdict."""
    found = []
    for name, value in scores.items():
        low, high = spans.get(name, (None, None))
        threshold = thresholds.get(name)
        verdict = _verdict(name, value, low, high, threshold)
        found.append(Score(name, value, low, high, threshold, verdict))
    return tuple(found)


def _verdict(
    name: str, value: float | None, low: float | None, high: float | None, threshold: float | None
) -> Verdict:
    if threshold is None:
        return ""
    if value is None:
        return "too few"
    sign = 1 if name in HIGHER else -1
    if sign * value >= sign * threshold:
        return "good"
    best = high if sign > 0 else low
    return "too few" if best is None or sign * best >= sign * threshold else "worse"
