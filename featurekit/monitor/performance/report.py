"""Says how well the predictions of a service did."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from featurekit.core.attributes import Named
from featurekit.core.screen import plain
from featurekit.core.types import instant
from featurekit.errors import DataError
from featurekit.monitor.performance.change import Change, changes
from featurekit.monitor.performance.fairness import Fairness, fairness
from featurekit.monitor.performance.join import Judged, Matched
from featurekit.monitor.performance.judge import (
    Asked,
    Columns,
    Score,
    columns,
    figures,
    judged_by,
)
from featurekit.monitor.performance.scores import Bin, OfClass, calibration, each_class
from featurekit.monitor.performance.slices import By, Slice, masks, sliced


@dataclass(frozen=True, slots=True)
class Performance(Named):
    """How well predictions did.

    `rows` were served from `start` up to but not at `end`. `judged` of them have a prediction and
    an outcome, and are of `entities`; `waiting` have no outcome yet, `bare` no prediction, and
    `odd` one that is none of the outcome's kind, such as a NaN. Of the outcomes, `outside` are of
    rows that were served at another time, `further` of a row that has one already, and `unmatched`
    of no row that the log has: they wait for it. `kind` is "class", "classes" for several, or
    "number". `calibration` has the bins of probabilities of a class, none where predictions are no
    probabilities, and `classes` the figures of each of several classes.

    What was asked for is there, too: `slices` has the figures of parts of the rows, `fairness` how
    far slices are treated alike, and `changes` what differs from `reference`, a text for people, of
    which `reference_rows` were judged.
    """

    service: str
    start: dt.datetime
    end: dt.datetime
    rows: int
    judged: int
    entities: int
    waiting: int
    bare: int
    odd: int
    outside: int
    further: int
    unmatched: int
    kind: str
    scores: tuple[Score, ...]
    calibration: tuple[Bin, ...]
    classes: tuple[OfClass, ...] = ()
    slices: tuple[Slice, ...] = ()
    fairness: tuple[Fairness, ...] = ()
    reference: str = ""
    reference_rows: int = 0
    changes: tuple[Change, ...] = ()

    @property
    def worse(self) -> list[str]:
        """What is worse than its threshold, in words: measures, those of slices as in "auc where
        country is FR", of fairness as in "demographic_parity_difference by country", and changes as
        in "auc than before"."""
        return [
            *(one.measure for one in self.scores if one.verdict == "worse"),
            *(f"{name} where {one.by} is {one.value}" for one in self.slices for name in one.worse),
            *(f"{one.measure} by {one.by}" for one in self.fairness if one.verdict == "worse"),
            *(f"{one.measure} than before" for one in self.changes if one.verdict == "worse"),
        ]

    def to_dict(self) -> dict[str, Any]:
        """All of it, in the form of JSON."""
        found: dict[str, Any] = plain({**asdict(self), "worse": self.worse})
        return found


@dataclass(frozen=True, slots=True)
class Limits:
    """The thresholds of a service by measure: of figures, of how much worse than a reference these
    may be, and of fairness."""

    figures: Mapping[str, float | None] = field(default_factory=dict)
    changes: Mapping[str, float | None] = field(default_factory=dict)
    fairness: Mapping[str, float | None] = field(default_factory=dict)


def performance_of(
    service: str,
    found: Matched,
    span: tuple[int, int],
    asked: Asked,
    limits: Limits,
    *,
    by: Sequence[By] = (),
    fair: bool = False,
    reference: tuple[str, Sequence[Judged]] | None = None,
) -> Performance:
    """The performance of matched rows, in slices `by` what these have, and beside a `reference`, a
    name and judged rows. DataError where no row can be judged."""
    start, end = map(instant, span)
    other = [] if reference is None else reference[1]
    told = columns(found.judged, asked, other)
    if not told.judged:
        raise DataError(_none(service, found, told.odd, start, end))
    scores, spans = figures(told)
    parts = [masks(told, place, one) for place, one in enumerate(by)]
    before = None if reference is None else _before(reference, asked, found.judged)
    return Performance(
        service=service,
        start=start,
        end=end,
        rows=found.rows,
        judged=len(told.judged),
        entities=len(set(told.of.entities.tolist())),
        waiting=found.waiting,
        bare=found.bare,
        odd=told.odd,
        outside=found.outside,
        further=found.further,
        unmatched=found.unmatched,
        kind=told.kind,
        scores=judged_by(scores, spans, limits.figures),
        calibration=calibration(told.rows) if told.kind == "class" and told.sure else (),
        classes=each_class(told.rows, told.classes, sure=told.sure) if told.classes else (),
        slices=tuple(
            one
            for what, masked in zip(by, parts, strict=True)
            for one in sliced(told, what, masked, limits.figures)
        ),
        fairness=tuple(
            one
            for what, masked in zip(by, parts, strict=True)
            if fair
            for one in fairness(told, what.name, masked, asked.cut, limits.fairness)
        ),
        reference="" if reference is None else reference[0],
        reference_rows=0 if before is None else len(before.judged),
        changes=() if before is None else changes(before, told, limits.changes),
    )


def _before(
    reference: tuple[str, Sequence[Judged]], asked: Asked, now: Sequence[Judged]
) -> Columns:
    """The columns of a reference. DataError where no row of it can be judged."""
    name, judged = reference
    found = columns(judged, asked, now)
    if not found.judged:
        raise DataError(
            f"reference: no row of {name} has a prediction and an outcome; write another one"
        )
    return found


def _none(service: str, found: Matched, odd: int, start: dt.datetime, end: dt.datetime) -> str:
    """What to say where no row can be judged."""
    return (
        f"service {service!r}: no row that was served from {start.isoformat()} to "
        f"{end.isoformat()} has a prediction and an outcome: of {found.rows} rows {found.waiting} "
        f"have no outcome, {found.bare} no prediction and {odd} one of another kind; "
        f"{found.outside} outcomes are of other times and {found.unmatched} of no row of the log. "
        "Write another --window or --end, push outcomes with `featurekit outcomes push`, or name "
        "a --prediction"
    )
