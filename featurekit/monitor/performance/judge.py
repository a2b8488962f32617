"""Turns served rows with their outcomes into figures, each judged by a threshold."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from featurekit.core.attributes import Named
from featurekit.errors import DataError
from featurekit.monitor.performance.intervals import Bearing, Dealt, Span, dealt, intervals
from featurekit.monitor.performance.join import Judged
from featurekit.monitor.performance.scores import (
    HIGHER,
    Rows,
    Scores,
    add_up,
    bearing,
    of_classes,
    of_numbers,
    of_several,
)

Verdict = Literal["good", "worse", "too few", ""]
Kind = Literal["class", "classes", "number"]


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
    """What is asked of outcomes: the value that is the `positive` class, None where true is; from
    which prediction on one says yes; and several `classes`, in the order that a list of
    probabilities has."""

    positive: Any = None
    cut: float = 0.5
    classes: Sequence[Any] = ()


@dataclass(frozen=True, slots=True)
class Columns:
    """Judged rows in columns: of which kind the outcomes are, how they are measured, and whose the
    rows are. `classes` has the names of several classes. `odd` rows have a prediction that is none
    of that kind, and are left out. `sure` where predictions are probabilities."""

    kind: Kind
    rows: Rows
    judged: Sequence[Judged]
    of: Dealt
    odd: int
    score: Callable[[Rows], Scores]
    bearing: Callable[[Rows], Bearing]
    sure: bool
    classes: tuple[str, ...] = ()

    def some(self, keep: np.ndarray[Any, Any]) -> tuple[Rows, Dealt]:
        """The rows that a mask keeps, and whose they are."""
        return self.rows.some(keep), self.of.alone(keep)


def columns(judged: Sequence[Judged], asked: Asked, also: Sequence[Judged] = ()) -> Columns:
    """The columns of judged rows. `also` are rows with which they are compared, whose classes are
    classes, too. DataError where outcomes are not of one kind."""
    kind = _kind(judged, asked)
    if kind == "classes":
        return _of_several(judged, asked, also)
    positive = True if asked.positive is None else asked.positive
    told = [_prediction(one.prediction, kind, positive) for one in judged]
    kept = [one for one, value in zip(judged, told, strict=True) if value is not None]
    predictions = [value for value in told if value is not None]
    number = kind == "number"
    outcomes = [one.outcome if number else float(_same(one.outcome, positive)) for one in kept]
    rows = Rows(np.array(predictions, np.float64), np.array(outcomes, np.float64))
    return Columns(
        kind,
        rows,
        kept,
        dealt([one.keys for one in kept]),
        len(judged) - len(kept),
        of_numbers if number else lambda some: of_classes(some, asked.cut),
        (lambda some: {}) if number else lambda some: bearing(some, asked.cut),
        not number and rows.are_probabilities,
    )


def _kind(judged: Sequence[Judged], asked: Asked) -> Kind:
    words = {bool: "true or false", float: "numbers", str: "texts"}
    kinds = {type(one.outcome) for one in judged}
    if len(kinds) > 1:
        told = " and ".join(sorted(words[kind] for kind in kinds))
        raise DataError(f"outcomes are {told}; push corrections, so that they are of one kind")
    kind = kinds.pop() if kinds else bool
    for what, given in (("the positive one", [asked.positive]), ("a class", asked.classes)):
        for one in given:
            if one is not None and type(one) is not kind:
                raise DataError(
                    f"outcomes are {words[kind]}, and {what} is {one!r}; write one of their kind"
                )
    if asked.classes or (kind is str and asked.positive is None):
        return "classes"
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


def _of_several(judged: Sequence[Judged], asked: Asked, also: Sequence[Judged]) -> Columns:
    """The columns of rows of several classes. DataError where an outcome is none of the classes
    that are asked for."""
    named = {_named(one) for one in asked.classes}
    came = {_named(one.outcome) for one in judged}
    if named and came - named:
        raise DataError(
            f"an outcome is {min(came - named)!r}, which is none of the classes "
            f"{', '.join(sorted(named))}; name all of them"
        )
    classes = tuple(map(_named, asked.classes)) or _seen([*judged, *also])
    told = [_shares(one.prediction, classes, listed=bool(named)) for one in judged]
    kept = [one for one, shares in zip(judged, told, strict=True) if shares is not None]
    shares = np.array([one for one in told if one is not None], np.float64)
    rows = Rows(
        shares.reshape(-1, len(classes)),
        np.array([classes.index(_named(one.outcome)) for one in kept], np.float64),
    )
    sure = not any(_classes_of(one.prediction, alone=True) for one in kept)
    return Columns(
        "classes",
        rows,
        kept,
        dealt([one.keys for one in kept]),
        len(judged) - len(kept),
        lambda some: of_several(some, sure=sure),
        lambda some: {},
        sure,
        classes,
    )


def _seen(judged: Sequence[Judged]) -> tuple[str, ...]:
    """The classes of outcomes and predictions, in their order as texts."""
    said = {name for one in judged for name in _classes_of(one.prediction)}
    return tuple(sorted(said | {_named(one.outcome) for one in judged}))


def _named(value: Any) -> str:
    """A class as a text; a whole number without its point."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float) and value == int(value):
        return str(int(value))
    return str(value)


def _classes_of(told: Any, *, alone: bool = False) -> list[str]:
    """The classes that a prediction names: the one that it is, or, unless it is `alone`, those that
    it gives probabilities of."""
    if isinstance(told, dict):
        return [] if alone else list(told)
    return [] if isinstance(told, list) or told is None else [_named(told)]


def _shares(told: Any, classes: Sequence[str], *, listed: bool) -> list[float] | None:
    """The probability of each class, 1.0 for the one that a prediction is; None where it is no
    prediction of these classes. A list has them in the order that was asked for."""
    if isinstance(told, bool | int | float | str):
        found = [float(_named(told) == name) for name in classes]
    elif isinstance(told, dict) and {*told} <= {*classes}:
        found = [told.get(name, 0.0) for name in classes]
    elif isinstance(told, list) and listed and len(told) == len(classes):
        found = told
    else:
        return None
    plain = all(type(one) in (int, float) for one in found)
    return found if plain and add_up(found) else None


def figures(
    found: Columns, keep: np.ndarray[Any, Any] | None = None, *, among: int = 1
) -> tuple[Scores, Mapping[str, Span]]:
    """The figures of judged rows, or of those that a mask keeps, and an interval of each; `among`
    so many intervals that are to hold together."""
    rows, of = (found.rows, found.of) if keep is None else found.some(keep)
    whole = found.score(rows)
    bears = found.bearing(rows)
    return whole, intervals(rows, of, found.score, whole, bearing=bears, among=among)


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
