"""Holds what a lookup has for the serving log until it is known what is to be logged with it: the
id of the request and who asked, or what a model predicted.

The log is asked by the lookup, which knows none of that. So it is handed a `Held` in the log's
place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from featurekit.define.plan import Service
from featurekit.log.served.block import LOOKED_UP
from featurekit.log.served.log import ServingLog
from featurekit.online.lookup.steps import Opened
from featurekit.online.lookup.view import RowAnswer


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

    def write(self, log: ServingLog, number: int, predicted: Sequence[tuple[Any, ...]]) -> None:
        """Log it, with the values of PREDICTED for each row."""
        log.take(
            number,
            self.service,
            self.entities,
            self.requests,
            self.answers,
            self.instants,
            self.keys,
            self.states,
            predicted=predicted,
        )


@dataclass(slots=True)
class Holding:
    """What the lookup that goes on in this task has for the log under a number, once it has."""

    number: int
    taken: Taken | None = None


_holding: ContextVar[Holding | None] = ContextVar("holding", default=None)


class Held:
    """The log of a server's lookups: it holds those that are wanted, and leaves all others."""

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


def write_lookup(
    log: ServingLog, number: int, taken: Taken | None, *, request_id: str, caller: str
) -> None:
    """Log the rows of a request that asked for features alone; nothing where the lookup had
    nothing for the log, as that of a list of features."""
    if taken is None:
        return
    rows = range(len(taken.instants))
    said = [(request_id, row, "", LOOKED_UP, True, None, None, 0, None, "", caller) for row in rows]
    taken.write(log, number, said)
