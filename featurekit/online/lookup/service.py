"""Turns entity rows into features, from the states in an online store.

A serving process needs a Redis URL, the name of a project and the name of a service. The compiled
plan lies in Redis beside the states, so neither the feature repo nor DuckDB is loaded.
"""

from __future__ import annotations

import datetime as dt
import itertools
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from featurekit.core.attributes import Named
from featurekit.core.calls import checked, explained, explained_async, near
from featurekit.core.durations import Duration, duration_us
from featurekit.core.keys import clock_key, names_key, project_key
from featurekit.core.status import NEVER
from featurekit.core.types import Instant, as_instant, instant, micros
from featurekit.define.plan import Service, View
from featurekit.define.published import Trust, opened, read_plan
from featurekit.errors import (
    AsOfInFuture,
    AsOfTooOld,
    DamagedState,
    DamagedView,
    NotServed,
    PlanRefused,
    StoreUnavailable,
)
from featurekit.online.lookup.evaluator import Ahead, Evaluator
from featurekit.online.lookup.instead import ON_OUTAGE, instead
from featurekit.online.lookup.result import OnlineResult
from featurekit.online.lookup.rows import Given, given
from featurekit.online.lookup.steps import (
    Answers,
    AtClock,
    Opened,
    Span,
    Steps,
    StepsAtClock,
    each_row,
    run,
    run_async,
    run_at,
)
from featurekit.online.lookup.view import RowAnswer
from featurekit.online.lookup.watch import Watch
from featurekit.online.state.blocks import Moved, Patience
from featurekit.online.state.seal import UNREADABLE
from featurekit.online.store.clock import TOLERANCE_US
from featurekit.online.store.limits import DEFAULT, Limits
from featurekit.online.store.marks import damaged_key, refuse_damaged
from featurekit.online.store.notes import numbers, read_object, read_version
from featurekit.online.store.protocol import OnlineStore
from featurekit.online.store.replies import Keys, Values


@dataclass(frozen=True, slots=True)
class _Shown:
    """What a result shows beside the features."""

    full_names: bool
    request: bool


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


@dataclass(slots=True)
class _Read:
    """What was read for the rows of a request: the values of `keys`, whose first ones are the
    pointer's and the marks of damage. `columns` has for each view the key of each row's state,
    where the states of a view do not stand together. `lost` are states that are known to be
    damaged. `states` are the others as they were kept, once `answers` has opened them."""

    requests: list[dict[str, Any]]
    entities: dict[str, list[Any]]
    keys: Sequence[bytes]
    values: Values
    columns: list[list[bytes | None]]
    lost: Mapping[bytes, DamagedState]
    states: Mapping[bytes, Opened] = field(default_factory=dict)

    def by_key(self) -> dict[bytes, bytes | None]:
        """The values by key."""
        return dict(zip(self.keys, self.values, strict=True))

    def answers(
        self, evaluator: Evaluator, instants: Sequence[int], ahead: Ahead | None = None
    ) -> Steps[Answers]:
        """The answers for the rows; `instants` has one for each."""
        given = instants if self.requests else ()
        if type(self.keys) is Keys:
            answered = yield from evaluator.answered(
                self.keys, self.values, self.requests, given, ahead
            )
            if answered is not None:
                return answered
            self.columns = evaluator.key_columns(self.entities)
        self.states = {**evaluator.opened(self.columns, self.by_key()), **self.lost}
        return (
            yield from evaluator.evaluating(self.columns, self.states, self.requests, given, ahead)
        )


class OnlineService(Named):
    """A service in an online store, which follows the version that is live (F1).

    A serving process makes one by `connect`. `log` takes the answers of `get`; see
    `featurekit.project.served_log.open_log`. Threads and event loops may share one service. As a
    context manager, it closes itself at the end. `span` is told of the parts of awaited lookups.
    """

    def __init__(
        self,
        store: OnlineStore,
        project: str,
        name: str,
        *,
        on_mismatch: str = "refuse",
        trust: Trust | None = None,
        log: AnswersLog | None = None,
        tolerance_us: int = TOLERANCE_US,
    ) -> None:
        self.store, self.project, self.name = store, project, name
        self.on_mismatch, self.log, self.tolerance_us = on_mismatch, log, tolerance_us
        self.trust = Trust(project) if trust is None else trust
        # The greatest sequence number of a plan that was served: an older one is not served again.
        self._sequence = 0
        self._follow(project_key(project, "live", name))
        self.clock_key = clock_key(project)
        self.span: Span | None = None
        # Up to here an instant lies before the clock, whatever the clock says now.
        self._past = NEVER
        self.watch = Watch(store, project)
        # The version that was last seen live, and its evaluator. They are replaced together, since
        # a lookup in another thread or task may switch while this one waits for the store.
        self._served: tuple[bytes, Evaluator] | None = None

    def _follow(self, *keys: bytes) -> None:
        """Serve the version that the values under these keys tell; every lookup reads them
        first."""
        self._followed = list(keys)
        self._firsts = [*keys, damaged_key(self.project)]

    def _told(self, values: Sequence[bytes | None]) -> bytes | None:
        """What the values under the followed keys tell: another one where another version is
        live."""
        return values[0]

    @classmethod
    @checked
    def connect(
        cls,
        url: str,
        project: str,
        service: str,
        *,
        on_mismatch: Literal["refuse", "warn"] = "refuse",
        public_keys: Sequence[str] | None = None,
        run_python: bool | None = None,
        username: str | None = None,
        password_file: str | os.PathLike[str] | None = None,
        connect_timeout_s: float = DEFAULT.connect_timeout_s,
        timeout_s: float = DEFAULT.timeout_s,
        connections: int = DEFAULT.connections,
        clock_tolerance: Duration = dt.timedelta(microseconds=TOLERANCE_US),
    ) -> OnlineService:
        """The service of a project in the Redis at `url`: all that a serving process needs.

        It loads neither DuckDB nor Arrow, and reads no feature repo. `url` is redis://, rediss://
        or unix://. Redis is not asked before the first `get`. The plan may have been published on a
        platform that computes other floats: then `on_mismatch="refuse"` raises FingerprintMismatch,
        and "warn" warns and answers (R6). `clock_tolerance` is how far after the store's clock an
        `as_of` may lie (S3).

        With `public_keys`, by default those of FEATUREKIT_PUBLIC_KEYS, a plan must be signed by one
        of them, and no plan is served that was signed before one that was (F0). Without keys, a
        plan with functions that run as their author's Python is refused, unless `run_python` (by
        default FEATUREKIT_RUN_PYTHON) lets them run. `get` raises PlanRefused then. ConfigError for
        a key that is none.

        `password_file` holds the password of Redis, for a URL without one; it is read again for
        each connection, and must be closed to other users. `username` is the user whose it is. By
        default they are what FEATUREKIT_REDIS_PASSWORD_FILE and FEATUREKIT_REDIS_USERNAME say.

        A lookup waits up to `connect_timeout_s` seconds for a connection to open, and up to
        `timeout_s` for the reply. Threads have up to `connections` connections together, and the
        tasks of an event loop have as many. A lookup that finds all of them in use waits for one,
        up to `timeout_s`. StoreUnavailable says what was waited for.
        """
        from featurekit.online.store.login import Login
        from featurekit.online.store.open import open_store

        limits = Limits(
            connect_timeout_s=connect_timeout_s, timeout_s=timeout_s, connections=connections
        )
        return cls(
            open_store(url, limits, login=Login.of(username, password_file), named="url"),
            project,
            service,
            on_mismatch=on_mismatch,
            trust=Trust.held(project, public_keys, run_python),
            tolerance_us=duration_us(clock_tolerance, what="clock_tolerance", zero=True),
        )

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
        live = self._told(self.store.read(self._followed))
        served = self._served
        if served is not None and live == served[0]:
            return served[1]
        return run(self._load(live), self.store.read)[1]

    @explained
    def get(
        self,
        rows: Any,
        as_of: Instant | None = None,
        *,
        full_feature_names: bool = False,
        request_fields: bool = False,
    ) -> OnlineResult:
        """The features of each row as of one instant, by default the store's clock (T8, S3).

        The result says which. An instant up to `clock_tolerance` after the clock is answered as of
        the clock; a later one is AsOfInFuture.

        `rows` is a list of dicts, a dict of lists or arrays, or a frame of pandas, polars or Arrow.
        It has every join key (None for an unknown entity) and every request field, and nothing
        else. A feature without a value is None, and its status says why. With
        `full_feature_names` features are named view__feature, as in a training set that is asked
        for so; with `request_fields` the result has the request fields, too, after the join keys.

        A state may hold an arrival after the clock, which an earlier version took or a clock that
        ran ahead gave. Then the features of its view are None for the row, with status ERROR, and
        the other rows are answered. AsOfTooOld where no row is. `featurekit materialize` remakes
        such states.

        EntityFrameError for rows with other fields, AsOfTooOld for an instant before a state's
        horizon, NotServed where the service is not live, StoreUnavailable where Redis cannot be
        reached, DamagedView where it has lost states of a view, or may have. A state that is not as
        it was written is DamagedState where no row can be answered without one; else the features
        are None and DAMAGED.

        Where Redis cannot be reached, a service with `on_outage="defaults"` answers all the same,
        once a version of it was served: with the features' `default=`, or None, and status DEFAULT
        (A4). The instant is then `as_of`, or that of this machine's clock.
        """
        shown = _Shown(full_feature_names, request_fields)
        asked = given(rows)
        try:
            found, _ = run_at(self._get(asked, as_of, shown), self.store)
            self.watch.check(self._views)
        except StoreUnavailable:
            instead = self._instead(asked, as_of, shown)
            if instead is None:
                raise
            return instead[0]
        return found

    @explained_async
    async def get_async(
        self,
        rows: Any,
        as_of: Instant | None = None,
        *,
        full_feature_names: bool = False,
        request_fields: bool = False,
    ) -> OnlineResult:
        """As `get`, without blocking the event loop while the store is read."""
        found, _ = await self._answer_async(
            given(rows), as_of, _Shown(full_feature_names, request_fields)
        )
        return found

    async def answer_async(
        self,
        rows: Given,
        as_of: Instant | None = None,
        *,
        full_feature_names: bool = False,
        request_fields: bool = False,
    ) -> tuple[OnlineResult, Service]:
        """As `get_async`, with the version of the service that answered."""
        return await self._answer_async(rows, as_of, _Shown(full_feature_names, request_fields))

    def answer_instead(
        self,
        rows: Given,
        as_of: Instant | None = None,
        *,
        full_feature_names: bool = False,
        request_fields: bool = False,
    ) -> tuple[OnlineResult, Service] | None:
        """What is answered, for rows as `answer_async` takes them, while the store cannot be asked
        (A4). None where the service does not want that, or no version of it was served yet."""
        return self._instead(rows, as_of, _Shown(full_feature_names, request_fields))

    async def _answer_async(
        self, rows: Given, as_of: Instant | None, shown: _Shown
    ) -> tuple[OnlineResult, Service]:
        try:
            answered = await run_async(self._get(rows, as_of, shown), self.store, self.span)
            due = self.watch.due(self._views)
            if due:
                import asyncio

                await asyncio.to_thread(self.watch.look, self._views)
            self.watch.check(self._views, looked=due)
        except StoreUnavailable:
            instead = self._instead(rows, as_of, shown)
            if instead is None:
                raise
            return instead
        return answered

    def _instead(
        self, rows: Given, as_of: Instant | None, shown: _Shown
    ) -> tuple[OnlineResult, Service] | None:
        if self._served is None or self._served[1].service.on_outage != ON_OUTAGE:
            return None
        evaluator = self._served[1]
        at = time.time_ns() // 1000 if as_of is None else micros(as_instant(as_of, what="as_of"))
        entities, requests = evaluator.check_rows(rows)
        answers = instead(evaluator, requests)
        number = None if self.log is None else self.log.wants()
        if number is not None and self.log is not None:
            none = [[None] * len(evaluator.prefixes)] * len(requests)
            asked = entities, requests, answers, [at] * len(requests)
            self.log.take(number, evaluator.service, *asked, none, {})
        return self._result(evaluator, entities, requests, answers, at, shown), evaluator.service

    def _result(
        self,
        evaluator: Evaluator,
        entities: dict[str, list[Any]],
        requests: list[dict[str, Any]],
        answers: Answers,
        at: int,
        shown: _Shown,
    ) -> OnlineResult:
        shape = evaluator.shape(full_names=shown.full_names, request=shown.request)
        request = {name: [row[name] for row in requests] for name in shape.request}
        return OnlineResult(instant(at), entities, answers, shape, request)

    @property
    def seen(self) -> Service | None:
        """The version that was last seen live, as it is evaluated; None before the first one."""
        return None if self._served is None else self._served[1].service

    @property
    def _views(self) -> Sequence[View]:
        """The views of the version that was last seen live."""
        return () if self._served is None else self._served[1].service.views

    def _get(
        self, rows: Given, as_of: Instant | None, shown: _Shown
    ) -> StepsAtClock[tuple[OnlineResult, Service]]:
        at = None if as_of is None else micros(as_instant(as_of, what="as_of"))
        # Also without rows there is an instant, which the result says.
        asked = None if at is None else [at] * max(len(rows), 1)
        number = None if self.log is None else self.log.wants()
        evaluator, entities, requests, answers, instants = yield from self._lookup(
            rows, asked, number
        )
        found = self._result(evaluator, entities, requests, answers, instants[0], shown)
        return found, evaluator.service

    def lookup(
        self, rows: Given, instants: Sequence[int] | None, number: int | None = None
    ) -> tuple[Evaluator, dict[str, list[Any]], list[RowAnswer], list[int]]:
        """The evaluator, the join keys, the values and statuses of each row, and each row's
        instant.

        `instants` has an instant for each row, in microseconds UTC; without it every row is
        answered as of the clock. With a `number`, the answers go to the log.
        """
        steps = self._lookup(rows, instants, number)
        evaluator, entities, _, answers, resolved = run_at(steps, self.store)
        return evaluator, entities, each_row(answers), resolved[: len(rows)]

    def _lookup(
        self, rows: Given, instants: Sequence[int] | None, number: int | None
    ) -> StepsAtClock[
        tuple[Evaluator, dict[str, list[Any]], list[dict[str, Any]], Answers, list[int]]
    ]:
        patience: Patience | None = None
        at_clock = instants is None or max(instants, default=NEVER) > self._past
        lost: dict[bytes, DamagedState] = {}
        while True:
            version, evaluator = self._served or (
                yield from self._load(self._told((yield self._followed)))
            )
            entities, requests = evaluator.check_rows(rows)
            columns: list[list[bytes | None]] = []
            keys: Sequence[bytes] | None = None
            if number is None and not lost:  # the log and damage need the keys of each row
                keys = evaluator.keys_at_once(self._firsts, entities, len(rows))
            if keys is None:
                columns = evaluator.key_columns(entities)
                every = dict.fromkeys(itertools.chain.from_iterable(columns))
                keys = [*self._firsts, *[key for key in every if key is not None]]
            values, now = yield from self._read(keys, at_clock=at_clock)
            live = self._told(values) or b""
            if live != version:  # another version went live: no reader mixes two (F1)
                if self._served is None or live != self._served[0]:
                    yield from self._load(live or None)
                continue
            refuse_damaged(evaluator.service.views, values[len(self._followed)])
            read = _Read(requests, entities, keys, values, columns, lost)
            try:
                answers, resolved = yield from self._answered(evaluator, read, instants, now)
            except Moved as moved:
                patience = patience or Patience()
                try:
                    patience.spend(moved)  # a push changed a large state between its two reads
                except DamagedState as error:
                    if error.key in lost:  # it is left out already, so it cannot be what moved
                        raise
                    lost[error.key] = error
                continue
            except UNREADABLE as raised:
                unreadable = evaluator.unreadable(read.columns, read.by_key(), instants, raised)
                if unreadable.keys() <= lost.keys():
                    raise
                lost |= unreadable
                continue
            if number is not None and self.log is not None:
                asked = list(zip(*columns, strict=True)) or [()] * len(rows)
                self.log.take(
                    number,
                    evaluator.service,
                    entities,
                    requests,
                    each_row(answers),
                    resolved[: len(rows)],
                    asked,
                    read.states,
                )
            return evaluator, entities, requests, answers, resolved

    def _read(
        self, keys: Sequence[bytes], *, at_clock: bool
    ) -> StepsAtClock[tuple[Values, int | None]]:
        """The values of `keys`, and with `at_clock` the clock, which was read just before."""
        if not at_clock:
            return (yield keys), None
        wanted = AtClock(keys, self.clock_key)
        values = yield wanted
        self._past = max(self._past, wanted.now - self.tolerance_us)
        return values, wanted.now

    def _answered(
        self, evaluator: Evaluator, read: _Read, instants: Sequence[int] | None, now: int | None
    ) -> StepsAtClock[tuple[Answers, list[int]]]:
        """The answers for the rows that were read, and their instants."""
        n = len(read.requests)
        resolved = self._resolved(instants, now, n)
        try:
            return (yield from read.answers(evaluator, resolved)), resolved
        except AsOfTooOld:
            pass  # since it is, or since a state holds an arrival after the clock
        # The states were read before, so no arrival that they rightly hold is after this clock.
        _, now = yield from self._read((), at_clock=True)
        assert now is not None
        resolved, ahead = self._resolved(instants, now, n), Ahead(now)
        answers = yield from read.answers(evaluator, resolved, ahead)
        if len(ahead.rows) == n:
            raise ahead.rows[0]
        return answers, resolved

    def _resolved(self, instants: Sequence[int] | None, now: int | None, n: int) -> list[int]:
        """The instants of the rows, at least one; none is after the clock (S3)."""
        if instants is None:
            assert now is not None
            return [now] * max(n, 1)
        latest = max(instants, default=NEVER)
        if now is None or latest <= now:
            return list(instants)
        if latest > now + self.tolerance_us:
            raise AsOfInFuture(
                f"service {self.name!r} cannot answer as of {instant(latest).isoformat()}: the "
                f"store's clock says {instant(now).isoformat()}, and what will have arrived is not "
                "known yet; leave as_of out, or ask for an instant that has come"
            )
        return [min(at, now) for at in instants]

    def _load(self, live: bytes | None) -> Steps[tuple[bytes, Evaluator]]:
        data, pointer = None, f"live:{self.name}"
        while live is not None:
            plan_key = project_key(self.project, "plan", self.name, read_version(pointer, live))
            data, now = yield [plan_key, *self._followed]
            if data is not None or now == live:
                break
            live = now  # another version went live, and this one was removed
        if data is None or live is None:
            raise self._not_served((yield [names_key(self.project)])[0])
        service = self._believed(data, read_version(pointer, live))
        served = live, Evaluator(self.project, service)
        self._served = served
        return served

    def _not_served(self, index: bytes | None) -> NotServed | DamagedView:
        """That no version of the service is live, with the names of those that were applied."""
        names = sorted(read_object("services", index, numbers))
        if not names and self._served is not None:
            return DamagedView(
                f"Redis holds nothing of project {self.project!r} any more, of which service "
                f"{self.name!r} was served: it was flushed, or came back empty; run `featurekit "
                "apply` and `featurekit materialize`"
            )
        said = f"project {self.project!r} serves no service {self.name!r}"
        if self.name in names:
            return NotServed(
                f"{said} yet: it is applied, and its states are not filled; run `featurekit "
                "materialize`"
            )
        if not names:
            return NotServed(
                f"{said}, and no other; run `featurekit apply` and `featurekit materialize`, or "
                "correct the project's name or the Redis URL"
            )
        known = near(self.name, names, listed="applied are")
        return NotServed(
            f"{said}; {known}; a new one is served after `featurekit apply` and `featurekit "
            "materialize`"
        )

    def _believed(self, data: bytes, version: str) -> Service:
        """The service in a plan. PlanRefused where the trust does not hold, or where the plan was
        signed before one that was served already (F0)."""
        place = self.name, version
        service = read_plan(data, trust=self.trust, place=place, on_mismatch=self.on_mismatch)
        signature = opened(data).signature
        if self.trust.keys and signature is not None:
            if signature.sequence < self._sequence:
                raise PlanRefused(
                    f"the plan of service {self.name!r}, version {version[:12]}, was signed before "
                    "the one that this reader has served; an older plan comes back by `featurekit "
                    "rollback`, which signs it anew"
                )
            self._sequence = signature.sequence
        return service
