"""Asks a service over HTTP what it answers to rows, for `sample`.

Rows are sent in parts. One refused row refuses its part, so a part that is refused is asked in
halves, down to the row alone.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from featurekit.core.types import instant
from featurekit.define.plan import Service
from featurekit.errors import AsOfTooOld, OnlineError, RequestRefused, TransformError
from featurekit.online.lookup.result import OnlineResult
from featurekit.parity.compare import Answers

_PART = 200
_TOO_MANY, _OTHER_VERSION = 413, 409


class Ask(Protocol):
    """What asks a service, as `featurekit.client.Client.get_online_features` does."""

    def __call__(
        self,
        service: str,
        rows: Any,
        as_of: dt.datetime,
        *,
        full_feature_names: bool,
        service_version: str,
    ) -> OnlineResult:
        """The features of each row, by the version that is named. RequestRefused where another one
        is live."""
        ...


@dataclass(slots=True)
class Told:
    """What a service answered to the rows of the numbers `kept`. Those that are `late` have a state
    with an arrival after the instant, and of those that are `failed` a transform erred in a view
    that fails then."""

    kept: list[int] = field(default_factory=list)
    values: list[Sequence[Any]] = field(default_factory=list)
    statuses: list[Sequence[str]] = field(default_factory=list)
    late: list[int] = field(default_factory=list)
    failed: dict[int, TransformError] = field(default_factory=dict)

    def answers(self, service: Service) -> Answers:
        """The answers, column by column."""
        none: list[Sequence[Any]] = [()] * len(service.outputs)
        return Answers(
            list(zip(*self.values, strict=True)) or none,
            list(zip(*self.statuses, strict=True)) or none,
        )


def told_by(ask: Ask, service: Service, rows: Sequence[dict[str, Any]], at: int) -> Told:
    """What `ask` says of the rows as of `at`. What it raises is raised, but where only some rows
    are refused; OnlineError where another version answers, or one with other columns."""
    told = Told()
    waiting = [range(i, min(i + _PART, len(rows))) for i in range(0, len(rows), _PART)]
    waiting.reverse()
    while waiting:
        part = waiting.pop()
        try:
            found = ask(
                service.name,
                [rows[i] for i in part],
                instant(at),
                full_feature_names=True,
                service_version=service.fingerprint,
            )
        except (AsOfTooOld, TransformError, RequestRefused) as error:
            if isinstance(error, RequestRefused) and error.status == _OTHER_VERSION:
                raise _otherwise(service, str(error)) from None
            if isinstance(error, RequestRefused) and error.status != _TOO_MANY:
                raise
            if len(part) > 1:
                half = len(part) // 2
                waiting += [part[half:], part[:half]]
            elif isinstance(error, TransformError):
                told.failed[part[0]] = error
            elif isinstance(error, AsOfTooOld):
                told.late.append(part[0])
            else:
                raise
            continue
        _take(told, service, part, found)
    return told


def _take(told: Told, service: Service, part: range, found: OnlineResult) -> None:
    names = [output.full_name for output in service.outputs]
    columns, statuses = found.columns, found.status
    if [*columns] != names or len(found) != len(part):
        raise _otherwise(service, f"it gave {len(found)} rows of {', '.join(columns)}")
    told.kept += part
    told.values += zip(*(columns[name] for name in names), strict=True)
    told.statuses += zip(*(statuses[name] for name in names), strict=True)


def _otherwise(service: Service, what: str) -> OnlineError:
    return OnlineError(
        f"version {service.fingerprint[:12]} of service {service.name!r} is live in the store of "
        f"the repo, and the server answers by another one ({what}); another version went live, or "
        "the server reads another store: check again, or give the server of this store"
    )
