"""Turns entities into the features of Feast views, from the states in Redis."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from featurekit.core.keys import clock_key
from featurekit.core.types import instant
from featurekit.define.plan import View
from featurekit.online.lookup.evaluator import Evaluator
from featurekit.online.lookup.result import Batch
from featurekit.online.lookup.steps import Answers, AtClock, StepsAtClock, run_async, run_at
from featurekit.online.state.seal import opened_state
from featurekit.online.state.state import decode_state
from featurekit.online.store.protocol import OnlineStore
from featurekit.online.store.replies import Keys, Values
from featurekit.plugins.feast.views import Wanted, service_of

Happened = Callable[[], Sequence[dt.datetime | None]]
"""Finds the instants of the latest rows of a view, one for each row of a request; None where there
is none. Few callers ask for them."""
_State = tuple[bytes | None, bytes | None]
"""The key of a state and what lies there."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The values and statuses of each wanted feature, by row, as of the instant `at` in
    microseconds. `happened` has one for each view."""

    columns: Sequence[Sequence[Any]]
    statuses: Sequence[Sequence[str]]
    happened: Sequence[Happened]
    at: int


class Answering:
    """A request for features of some views, made ready to be answered."""

    def __init__(self, project: str, asked: Sequence[Wanted]) -> None:
        self.asked = list(asked)
        self.evaluator = Evaluator(project, service_of(asked))
        self.clock = clock_key(project)

    @property
    def join_keys(self) -> list[str]:
        """The names of the join keys that rows have."""
        return list(self.evaluator.join_keys)

    def answer(self, store: OnlineStore, entities: Mapping[str, list[Any]]) -> Answered:
        """The features of each row as of the store's clock, in one round trip. An entity with a
        null key is not found (S2)."""
        if not self.asked:
            return Answered((), (), (), store.now_us())
        return run_at(self._steps(dict(entities)), store)

    async def answer_async(self, store: OnlineStore, entities: Mapping[str, list[Any]]) -> Answered:
        """As `answer`, without blocking the event loop while the store is read."""
        if not self.asked:
            return Answered((), (), (), store.now_us())
        return await run_async(self._steps(dict(entities)), store)

    def _steps(self, entities: dict[str, list[Any]]) -> StepsAtClock[Answered]:
        n = len(next(iter(entities.values())))
        keys = self.evaluator.keys_at_once([self.clock], entities, n)
        if keys is not None:
            wanted = AtClock(keys, self.clock)
            values = yield wanted
            instants = [wanted.now] * n
            found = yield from self.evaluator.answered(keys, values, [{}] * n, instants)
            if found is not None:
                states = partial(_states, keys, values)
                return self._answered(found, states, wanted.now)
        return (yield from self._one_by_one(entities, n))

    def _one_by_one(self, entities: dict[str, list[Any]], n: int) -> StepsAtClock[Answered]:
        """As `_steps`, for one row, for rows with a null key, and where a state is damaged."""
        columns = self.evaluator.key_columns(entities)
        once = dict.fromkeys(key for column in columns for key in column if key is not None)
        wanted = AtClock([self.clock, *once], self.clock)
        values = yield wanted
        blobs = dict(zip(wanted.keys, values, strict=True))
        opened = self.evaluator.opened(columns, blobs)
        found = yield from self.evaluator.evaluating(columns, opened, [{}] * n, [wanted.now] * n)

        def states(v: int) -> list[_State]:
            return [(key, None if key is None else blobs[key]) for key in columns[v]]

        return self._answered(found, states, wanted.now)

    def _answered(self, found: Answers, states: Callable[[int], list[_State]], at: int) -> Answered:
        if isinstance(found, Batch):
            columns: list[Any] = found.lists()
            statuses: list[Any] = found.statuses()
        else:
            columns = [list(column) for column in zip(*(row[0] for row in found), strict=True)]
            statuses = [list(column) for column in zip(*(row[1] for row in found), strict=True)]
        views = enumerate(self.evaluator.service.views)
        happened = [cache(partial(_happened, view, partial(states, v), at)) for v, view in views]
        return Answered(columns, statuses, happened, at)


def _states(keys: Keys, values: Values, v: int) -> list[_State]:
    """The states of a view."""
    prefix, ends = keys.groups_of[v]
    group = keys.groups(values)[v]
    return [(prefix + end, value) for end, value in zip(ends, group, strict=True)]


def _happened(view: View, states: Callable[[], list[_State]], at: int) -> list[dt.datetime | None]:
    """The instant of the latest row in each state, as of `at`."""
    found: list[dt.datetime | None] = []
    for key, value in states():
        blob = None if key is None else opened_state(view, key, value)
        past = [] if blob is None else [event[0] for event in decode_state(view, blob).events]
        past = [ts for ts in past if ts <= at]
        found.append(instant(max(past)) if past else None)
    return found
