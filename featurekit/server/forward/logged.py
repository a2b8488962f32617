"""Keeps what was predicted, and from what, in the serving log: a row for each prediction, beside
the features that the target was given, under the request's id.

A lookup ends before a model is asked. So what it has for the log is `held` until there is a
prediction, or an error in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from featurekit.errors import ModelFailed, RequestRefused
from featurekit.log.served.log import ServingLog
from featurekit.server.forward.replies import write_json
from featurekit.server.held import Taken


@dataclass(slots=True)
class Record:
    """What a target was asked in a request, and what came of it: `values` are predictions for the
    `rows` of the request, and None where `error` says why, as `failure` is raised. The other fields
    are those of PREDICTED."""

    request_id: str
    target: str
    role: str
    rows: Sequence[int]
    taken: Taken | None
    values: Sequence[Any] | None = None
    error: str | None = None
    answered: bool = False
    latency_us: int = 0
    model_version: str | None = None
    route: str = ""
    caller: str = ""
    failure: ModelFailed | RequestRefused | None = None

    def predicted(self) -> list[tuple[Any, ...]]:
        """The values of PREDICTED for each row."""
        shared = self.error, self.latency_us, self.model_version, self.route, self.caller
        values: Sequence[Any] = [None] * len(self.rows) if self.values is None else self.values
        return [
            (
                self.request_id,
                row,
                self.target,
                self.role,
                self.answered,
                None if self.values is None else write_json(value).decode(),
                *shared,
            )
            for row, value in zip(self.rows, values, strict=True)
        ]


def write(log: ServingLog, number: int, record: Record) -> None:
    """Log what became of the rows of a request that a target was asked."""
    if record.taken is not None and record.rows:
        record.taken.write(log, number, record.predicted())
