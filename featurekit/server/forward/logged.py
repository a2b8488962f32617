"""Keeps what was predicted, and from what, in the serving log: a row for each prediction, beside
the features that the target was given, under the request's id.

A lookup ends before a model is asked. So what it has for the log is held until there is a
prediction, or an error in its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from featurekit.define.plan import Service
from featurekit.errors import ModelFailed, RequestRefused
from featurekit.log.served.log import ServingLog
from featurekit.online.lookup.steps import Opened
from featurekit.online.lookup.view import RowAnswer
from featurekit.server.forward.replies import write_json


@dataclass(frozen=True, slots=True)
class Taken:
    """What a lookup has for the log."""

    service: Service
    entities: Mapping[str, Sequence[Any]]
    requests: Sequence[Mapping[str, Any]]
    answers: Sequence[RowAnswer]
    instants: Sequence[int]
    keys: Sequence[Sequence[bytes | None]]
    states: Mapping[bytes, Opened]

    def of(self, rows: Sequence[int]) -> Taken:
        """The same of some rows."""
        return Taken(
            self.service,
            {name: [values[i] for i in rows] for name, values in self.entities.items()},
            [self.requests[i] for i in rows],
            [self.answers[i] for i in rows],
            [self.instants[i] for i in rows],
            [self.keys[i] for i in rows],
            self.states,
        )


@dataclass(slots=True)
class Holding:
    """What the lookup that goes on in this task has for the log under a number, once it has."""

    number: int
    taken: Taken | None = None


_holding: ContextVar[Holding | None] = ContextVar("holding", default=None)


class Held:
    """The log of a server's lookups: it holds those that a model is to be asked with, and leaves
    all others."""

    def wants(self) -> int | None:
        """The number of the request whose lookup this is, where it is to be logged."""
        holding = _holding.get()
        return None if holding is None else holding.number

    def take(
        self,
        number: int,
        service: Service,
        entities: Mapping[str, Sequence[Any]],
        requests: Sequence[Mapping[str, Any]],
        answers: Sequence[RowAnswer],
        instants: Sequence[int],
        keys: Sequence[Sequence[bytes | None]],
        states: Mapping[bytes, Opened],
    ) -> None:
        """Hold what a lookup has for the log; the last one counts, where it was done again."""
        holding = _holding.get()
        if holding is not None:
            holding.taken = Taken(service, entities, requests, answers, instants, keys, states)


@contextmanager
def held(number: int | None) -> Iterator[Holding | None]:
    """Hold what the lookup in the block has for the log; None where it is not to be logged."""
    holding = None if number is None else Holding(number)
    before = _holding.set(holding)
    try:
        yield holding
    finally:
        _holding.reset(before)


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
    taken = record.taken
    if taken is None or not record.rows:
        return
    log.take(
        number,
        taken.service,
        taken.entities,
        taken.requests,
        taken.answers,
        taken.instants,
        taken.keys,
        taken.states,
        predicted=record.predicted(),
    )
