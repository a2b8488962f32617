"""Turns entities into the features of Feast views, from the states in Redis."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from featurekit.core.keys import clock_key
from featurekit.core.types import instant
from featurekit.online.lookup.evaluator import Evaluator
from featurekit.online.state.seal import opened_state
from featurekit.online.state.state import decode_state
from featurekit.online.store.protocol import OnlineStore
from featurekit.plugins.feast.views import Wanted, service_of


@dataclass(frozen=True, slots=True)
class Answered:
    """The values and statuses of each wanted feature, by row, as of the instant `at` in
    microseconds. `happened` has for each view the instant of each row's latest row, None where
    there is none."""

    columns: Sequence[Sequence[Any]]
    statuses: Sequence[Sequence[str]]
    happened: Sequence[Sequence[dt.datetime | None]]
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
        columns, keys = self._keys(entities)
        values, at = store.read_at(keys, self.clock)
        return self._answered(columns, dict(zip(keys, values, strict=True)), at, store)

    async def answer_async(self, store: OnlineStore, entities: Mapping[str, list[Any]]) -> Answered:
        """As `answer`, without blocking the event loop while the store is read."""
        columns, keys = self._keys(entities)
        values, at = await store.read_at_async(keys, self.clock)
        return self._answered(columns, dict(zip(keys, values, strict=True)), at, store)

    def _keys(
        self, entities: Mapping[str, list[Any]]
    ) -> tuple[list[list[bytes | None]], list[bytes]]:
        """The key of each row's state, by view; and every key once, after that of the clock."""
        columns = self.evaluator.key_columns(dict(entities))
        once = dict.fromkeys(key for column in columns for key in column if key is not None)
        return columns, [self.clock, *once]

    def _answered(
        self,
        columns: list[list[bytes | None]],
        blobs: Mapping[bytes, bytes | None],
        at: int,
        store: OnlineStore,
    ) -> Answered:
        n = len(columns[0])
        rows = [[column[i] for column in columns] for i in range(n)]
        answers = self.evaluator.evaluate(rows, blobs, [{}] * n, [at] * n, store.read)
        width = len(self.evaluator.service.outputs)
        return Answered(
            [[answer[0][o] for answer in answers] for o in range(width)],
            [[answer[1][o] for answer in answers] for o in range(width)],
            [self._happened(v, column, blobs, at) for v, column in enumerate(columns)],
            at,
        )

    def _happened(
        self, v: int, keys: Sequence[bytes | None], blobs: Mapping[bytes, bytes | None], at: int
    ) -> list[dt.datetime | None]:
        """The instant of the latest row of each key, as of `at`."""
        view = self.evaluator.service.views[v]
        found: list[dt.datetime | None] = []
        for key in keys:
            blob = None if key is None else opened_state(view, key, blobs[key])
            past = [] if blob is None else [e[0] for e in decode_state(view, blob).events]
            past = [ts for ts in past if ts <= at]
            found.append(instant(max(past)) if past else None)
        return found
