"""Says how well the predictions of a service did."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from featurekit.core.attributes import Named
from featurekit.core.screen import plain
from featurekit.core.types import instant
from featurekit.errors import DataError
from featurekit.monitor.performance.join import Matched
from featurekit.monitor.performance.judge import Asked, Score, columns, figures, judged_by
from featurekit.monitor.performance.scores import Bin, calibration


@dataclass(frozen=True, slots=True)
class Performance(Named):
    """How well predictions did.

    `rows` were served from `start` up to but not at `end`. `judged` of them have a prediction and
    an outcome, and are of `entities`; `waiting` have no outcome yet, `bare` no prediction, and
    `odd` one that is none of the outcome's kind, such as a NaN. Of the outcomes, `outside` are of
    rows that were served at another time, `further` of a row that has one already, and `unmatched`
    of no row that the log has: they wait for it. `kind` is "class" or "number". `calibration` has
    the bins of probabilities, none where predictions are no probabilities.
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

    @property
    def worse(self) -> list[str]:
        """The measures that are worse than their thresholds."""
        return [one.measure for one in self.scores if one.verdict == "worse"]

    def to_dict(self) -> dict[str, Any]:
        """All of it, in the form of JSON."""
        found: dict[str, Any] = plain({**asdict(self), "worse": self.worse})
        return found


def performance_of(
    service: str,
    found: Matched,
    span: tuple[int, int],
    asked: Asked,
    thresholds: Mapping[str, float | None],
) -> Performance:
    """The performance of matched rows. DataError where no row can be judged."""
    start, end = map(instant, span)
    told = columns(found.judged, asked)
    if not told.judged:
        raise DataError(_none(service, found, told.odd, start, end))
    scores, spans = figures(told, asked)
    sure = told.kind == "class" and told.rows.are_probabilities
    return Performance(
        service=service,
        start=start,
        end=end,
        rows=found.rows,
        judged=len(told.judged),
        entities=len({one.keys for one in told.judged}),
        waiting=found.waiting,
        bare=found.bare,
        odd=told.odd,
        outside=found.outside,
        further=found.further,
        unmatched=found.unmatched,
        kind=told.kind,
        scores=judged_by(scores, spans, thresholds),
        calibration=calibration(told.rows) if sure else (),
    )


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
