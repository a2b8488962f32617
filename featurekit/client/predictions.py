"""What a server says that models predict."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from featurekit.core.attributes import Named


@dataclass(frozen=True, slots=True)
class Predictions(Named):
    """The predictions of a model, one for each row in their order.

    `values` are bools, ints, floats or texts, or for a model of several outputs a dict of its
    outputs. `targets` has for each row the target that answered. All is as of the instant `as_of`.
    `request_id` names the request in the logs of both servers. `instead` has the rows of targets
    that failed, for which the fallback answered. `details`, where they were asked for, have by
    target its rows, versions, features and their statuses.
    """

    model: str
    values: Sequence[Any]
    targets: Sequence[str]
    as_of: dt.datetime
    request_id: str
    instead: Mapping[str, Sequence[int]]
    details: Mapping[str, Any] | None

    def __len__(self) -> int:
        return len(self.values)

    @classmethod
    def of(cls, told: Any) -> Predictions:
        """Those of an answer. ValueError, TypeError or LookupError where it has none."""
        values, target = told["predictions"], told["target"]
        targets = [target] * len(values) if isinstance(target, str) else list(target)
        if not isinstance(values, list) or len(targets) != len(values):
            raise ValueError("it has not a prediction and a target for each row")
        return cls(
            model=told["model"],
            values=values,
            targets=targets,
            as_of=dt.datetime.fromisoformat(told["as_of"]),
            request_id=told["request_id"],
            instead=told.get("instead", {}),
            details=told.get("details"),
        )
