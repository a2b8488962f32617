"""Turns entity rows into features, from the states in an online store.

A serving process needs a Redis URL, the name of a project and the name of a service. The compiled
plan lies in Redis beside the states, so neither the feature repo nor DuckDB is loaded.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from featurekit.core.keys import project_key
from featurekit.core.types import instant, micros
from featurekit.define.plan import Service, View
from featurekit.define.published import read_plan
from featurekit.errors import DamagedState, NotServed
from featurekit.online.lookup.evaluator import Evaluator
from featurekit.online.lookup.result import OnlineResult
from featurekit.online.lookup.rows import EntityRow
from featurekit.online.lookup.steps import (
    Answers,
    Opened,
    Steps,
    each_row,
    run,
    run_async,
    utc_now,
)
from featurekit.online.lookup.view import RowAnswer
from featurekit.online.lookup.watch import Watch
from featurekit.online.state.blocks import Moved, Patience
from featurekit.online.state.seal import UNREADABLE
from featurekit.online.store.marks import damaged_key, refuse_damaged
from featurekit.online.store.protocol import OnlineStore
from featurekit.online.store.replies import Keys


class AnswersLog(Protocol):
    """A log of the answers that lookups give."""

    def wants(self) -> int | None:
        """The number of the next request if it should be logged, None if not."""
        ...

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
        """Log request `number`: its rows, its answers, and the states that they come from."""
        ...


class OnlineService:
    """A service in an online store, which follows the version that is live (F1).

    A serving process makes one by `connect`. `log` takes the answers of `get`; see
    `featurekit.project.served_log.open_log`. Threads and event loops may share one service. As a
    context manager, it closes itself at the end.
    """

    def __init__(
        self,
        store: OnlineStore,
        project: str,
        name: str,
        *,
        on_mismatch: str = "refuse",
        log: AnswersLog | None = None,
    ) -> None:
        self.store, self.project, self.name = store, project, name
        self.on_mismatch, self.log = on_mismatch, log
        self.live_key = project_key(project, "live", name)
        self.watch = Watch(store, project)
        self._firsts = [self.live_key, damaged_key(project)]
        # The version that was last seen live, and its evaluator. They are replaced together, since
        # a lookup in another thread or task may switch while this one waits for the store.
        self._served: tuple[bytes, Evaluator] | None = None

    @classmethod
    def connect(
        cls,
        url: str,
        project: str,
        service: str,
        *,
        on_mismatch: Literal["refuse", "warn"] = "refuse",
    ) -> OnlineService:
        """The service of a project in the Redis at `url`: all that a serving process needs.

        It loads neither DuckDB nor Arrow, and reads no feature repo. `url` is redis://, rediss://
        or unix://. Redis is not asked before the first `get`. The plan may have been published on a
        platform that computes other floats: then `on_mismatch="refuse"` raises FingerprintMismatch,
        and "warn" warns and answers (R6).
        """
        from featurekit.online.store.open import open_store

        return cls(open_store(url), project, service, on_mismatch=on_mismatch)

    def __enter__(self) -> OnlineService:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the store's connections. The connections of `get_async` belong to the event loop
        that awaited it: `close_async` closes them."""
        self.store.close()

    async def close_async(self) -> None:
        """Close the connections that lookups made in this event loop."""
        await self.store.close_async()

    def current(self) -> Evaluator:
        """The version that is live, made ready to evaluate. NotServed where none is,
        FingerprintMismatch on a platform that computes other floats (R6)."""
        live = self.store.read([self.live_key])[0]
        served = self._served
        if served is not None and live == served[0]:
            return served[1]
        return run(self._load(live), self.store.read)[1]

    def get(self, rows: Sequence[EntityRow], as_of: dt.datetime | None = None) -> OnlineResult:
        """The features of each row as of one instant, now by default (T8).

        A row has every join key (None for an unknown entity) and every request field, and nothing
        else. A feature without a value is None, and its status says why. EntityFrameError for a row
        with other fields, AsOfTooOld for an instant before a state's horizon, NotServed where the
        service is not live, StoreUnavailable where Redis cannot be reached, DamagedView where it
        has lost states of a view, or may have. A state that is not as it was written is
        DamagedState where no row can be answered without one; else the features are None and
        DAMAGED.
        """
        found = run(self._get(rows, as_of), self.store.read)
        self.watch.check(self._views)
        return found

    async def get_async(
        self, rows: Sequence[EntityRow], as_of: dt.datetime | None = None
    ) -> OnlineResult:
        """As `get`, without blocking the event loop while the store is read."""
        found = await run_async(self._get(rows, as_of), self.store.read_async)
        if self.watch.first:
            import asyncio

            await asyncio.to_thread(self.watch.look, self._views)
        self.watch.check(self._views)
        return found

    @property
    def _views(self) -> Sequence[View]:
        """The views of the version that was last seen live."""
        return () if self._served is None else self._served[1].service.views

    def _get(self, rows: Sequence[EntityRow], as_of: dt.datetime | None) -> Steps[OnlineResult]:
        asked = None if as_of is None else [micros(as_of)] * len(rows)
        number = None if self.log is None else self.log.wants()
        evaluator, entities, answers, instants = yield from self._lookup(rows, asked, number)
        shown = instant(instants[0]) if instants else (as_of or utc_now())
        return OnlineResult(shown, entities, answers, evaluator.shape)

    def lookup(
        self, rows: Sequence[EntityRow], instants: Sequence[int] | None, number: int | None = None
    ) -> tuple[Evaluator, dict[str, list[Any]], list[RowAnswer], list[int]]:
        """The evaluator, the join keys, the values and statuses of each row, and each row's
        instant.

        `instants` has an instant for each row, in microseconds UTC; without it every row is
        answered as of now. With a `number`, the answers go to the log.
        """
        steps = self._lookup(rows, instants, number)
        evaluator, entities, answers, resolved = run(steps, self.store.read)
        return evaluator, entities, each_row(answers), resolved

    def _lookup(
        self, rows: Sequence[EntityRow], instants: Sequence[int] | None, number: int | None
    ) -> Steps[tuple[Evaluator, dict[str, list[Any]], Answers, list[int]]]:
        patience: Patience | None = None
        lost: dict[bytes, DamagedState] = {}
        while True:
            version, evaluator = self._served or (yield from self._load((yield [self.live_key])[0]))
            entities, requests = evaluator.check_rows(rows)
            columns: list[list[bytes | None]] = []
            keys: Sequence[bytes] | None = None
            if number is None:  # the log needs the keys of each row
                keys = evaluator.keys_at_once(self._firsts, entities, len(rows))
            if keys is None:
                columns = evaluator.key_columns(entities)
                every = dict.fromkeys(itertools.chain.from_iterable(columns))
                keys = [*self._firsts, *[key for key in every if key is not None]]
            values = yield keys
            live = values[0]
            if live != version:  # another version went live: no reader mixes two (F1)
                if self._served is None or live != self._served[0]:
                    yield from self._load(live)
                continue
            refuse_damaged(evaluator.service.views, values[1])
            if type(keys) is Keys:
                answered = evaluator.answered(keys, values, requests, instants)
                if answered is not None:
                    return evaluator, entities, *answered
                columns = evaluator.key_columns(entities)
            found = dict(zip(keys, values, strict=True))
            states = {**evaluator.opened(columns, found), **lost}
            try:
                answers, resolved = yield from evaluator.evaluating(
                    columns, states, requests, instants
                )
            except Moved as moved:
                patience = patience or Patience()
                try:
                    patience.spend(moved)  # a push changed a large state between its two reads
                except DamagedState as error:
                    lost[error.key] = error
                continue
            except UNREADABLE:
                unreadable = evaluator.unreadable(columns, found, instants)
                if unreadable.keys() <= lost.keys():
                    raise
                lost |= unreadable
                continue
            if number is not None and self.log is not None:
                asked = list(zip(*columns, strict=True)) or [()] * len(rows)
                own = each_row(answers)
                self.log.take(
                    number, evaluator.service, entities, requests, own, resolved, asked, states
                )
            return evaluator, entities, answers, resolved

    def _load(self, live: bytes | None) -> Steps[tuple[bytes, Evaluator]]:
        data = None
        while live is not None:
            plan_key = project_key(self.project, "plan", self.name, live.decode())
            data, now = yield [plan_key, self.live_key]
            if data is not None or now == live:
                break
            live = now  # another version went live, and this one was removed
        if data is None or live is None:
            raise NotServed(
                f"project {self.project!r} serves no service {self.name!r}; run `featurekit apply` "
                "and `featurekit materialize` with it, or check the name and the Redis URL"
            )
        served = live, Evaluator(self.project, read_plan(data, on_mismatch=self.on_mismatch))
        self._served = served
        return served
