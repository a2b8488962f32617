"""Turns entity rows into features, from the states in an online store.

A serving process needs a Redis URL, the name of a project and the name of a service. The compiled
plan lies in Redis beside the states, so neither the feature repo nor DuckDB is loaded.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from featurekit.core.calls import checked, explained, explained_async, near
from featurekit.core.keys import project_key
from featurekit.core.types import Instant, as_instant, instant, micros
from featurekit.define.plan import Service
from featurekit.define.published import Trust, opened, read_plan
from featurekit.errors import NotServed, PlanRefused
from featurekit.online.lookup.evaluator import Evaluator
from featurekit.online.lookup.result import OnlineResult
from featurekit.online.lookup.rows import Given, given
from featurekit.online.lookup.steps import Answers, Steps, each_row, run, run_async, utc_now
from featurekit.online.lookup.view import RowAnswer
from featurekit.online.state.blocks import Moved, Patience
from featurekit.online.store.limits import DEFAULT, Limits
from featurekit.online.store.protocol import OnlineStore
from featurekit.online.store.replies import Keys


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
        blobs: Mapping[bytes, bytes | None],
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
        trust: Trust | None = None,
        log: AnswersLog | None = None,
    ) -> None:
        self.store, self.project, self.name = store, project, name
        self.on_mismatch, self.log = on_mismatch, log
        self.trust = Trust(project) if trust is None else trust
        # The greatest sequence number of a plan that was served: an older one is not served again.
        self._sequence = 0
        self.live_key = project_key(project, "live", name)
        # The version that was last seen live, and its evaluator. They are replaced together, since
        # a lookup in another thread or task may switch while this one waits for the store.
        self._served: tuple[bytes, Evaluator] | None = None

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
        connect_timeout_s: float = DEFAULT.connect_timeout_s,
        timeout_s: float = DEFAULT.timeout_s,
        connections: int = DEFAULT.connections,
    ) -> OnlineService:
        """The service of a project in the Redis at `url`: all that a serving process needs.

        It loads neither DuckDB nor Arrow, and reads no feature repo. `url` is redis://, rediss://
        or unix://. Redis is not asked before the first `get`. The plan may have been published on a
        platform that computes other floats: then `on_mismatch="refuse"` raises FingerprintMismatch,
        and "warn" warns and answers (R6).

        With `public_keys`, by default those of FEATUREKIT_PUBLIC_KEYS, a plan must be signed by one
        of them, and no plan is served that was signed before one that was (F0). Without keys, a
        plan with functions that run as their author's Python is refused, unless `run_python` (by
        default FEATUREKIT_RUN_PYTHON) lets them run. `get` raises PlanRefused then. ConfigError for
        a key that is none.

        A lookup waits up to `connect_timeout_s` seconds for a connection to open, and up to
        `timeout_s` for the reply. Threads have up to `connections` connections together, and the
        tasks of an event loop have as many. A lookup that finds all of them in use waits for one,
        up to `timeout_s`. StoreUnavailable says what was waited for.
        """
        from featurekit.online.store.open import open_store

        limits = Limits(
            connect_timeout_s=connect_timeout_s, timeout_s=timeout_s, connections=connections
        )
        trust = Trust.held(project, public_keys, run_python)
        store = open_store(url, limits)
        return cls(store, project, service, on_mismatch=on_mismatch, trust=trust)

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

    @explained
    def get(
        self,
        rows: Any,
        as_of: Instant | None = None,
        *,
        full_feature_names: bool = False,
        request_fields: bool = False,
    ) -> OnlineResult:
        """The features of each row as of one instant, now by default (T8).

        `rows` is a list of dicts, a dict of lists or arrays, or a frame of pandas, polars or Arrow.
        It has every join key (None for an unknown entity) and every request field, and nothing
        else. A feature without a value is None, and its status says why. With
        `full_feature_names` features are named view__feature, as in a training set that is asked
        for so; with `request_fields` the result has the request fields, too, after the join keys.

        EntityFrameError for rows with other fields, AsOfTooOld for an instant before a state's
        horizon, NotServed where the service is not live, StoreUnavailable where Redis cannot be
        reached.
        """
        shown = _Shown(full_feature_names, request_fields)
        return run(self._get(given(rows), as_of, shown), self.store.read)

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
        shown = _Shown(full_feature_names, request_fields)
        return await run_async(self._get(given(rows), as_of, shown), self.store.read_async)

    def _get(self, rows: Given, given: Instant | None, shown: _Shown) -> Steps[OnlineResult]:
        as_of = None if given is None else as_instant(given, what="as_of")
        asked = None if as_of is None else [micros(as_of)] * len(rows)
        number = None if self.log is None else self.log.wants()
        evaluator, entities, requests, answers, instants = yield from self._lookup(
            rows, asked, number
        )
        at = instant(instants[0]) if instants else (as_of or utc_now())
        shape = evaluator.shape(full_names=shown.full_names, request=shown.request)
        request = {name: [row[name] for row in requests] for name in shape.request}
        return OnlineResult(at, entities, answers, shape, request)

    def lookup(
        self, rows: Given, instants: Sequence[int] | None, number: int | None = None
    ) -> tuple[Evaluator, dict[str, list[Any]], list[RowAnswer], list[int]]:
        """The evaluator, the join keys, the values and statuses of each row, and each row's
        instant.

        `instants` has an instant for each row, in microseconds UTC; without it every row is
        answered as of now. With a `number`, the answers go to the log.
        """
        steps = self._lookup(rows, instants, number)
        evaluator, entities, _, answers, resolved = run(steps, self.store.read)
        return evaluator, entities, each_row(answers), resolved

    def _lookup(
        self, rows: Given, instants: Sequence[int] | None, number: int | None
    ) -> Steps[tuple[Evaluator, dict[str, list[Any]], list[dict[str, Any]], Answers, list[int]]]:
        patience: Patience | None = None
        while True:
            version, evaluator = self._served or (yield from self._load((yield [self.live_key])[0]))
            entities, requests = evaluator.check_rows(rows)
            columns: list[list[bytes | None]] = []
            keys: Sequence[bytes] | None = None
            if number is None:  # the log needs the keys of each row
                keys = evaluator.keys_at_once(self.live_key, entities, len(rows))
            if keys is None:
                columns = evaluator.key_columns(entities)
                every = dict.fromkeys(itertools.chain.from_iterable(columns))
                keys = [self.live_key, *[key for key in every if key is not None]]
            values = yield keys
            live = values[0]
            if live != version:  # another version went live: no reader mixes two (F1)
                if self._served is None or live != self._served[0]:
                    yield from self._load(live)
                continue
            if type(keys) is Keys:
                answers, resolved = evaluator.answered(keys.groups(values), requests, instants)
                return evaluator, entities, requests, answers, resolved
            found = dict(zip(keys[1:], values[1:], strict=True))
            try:
                answers, resolved = yield from evaluator.evaluating(
                    columns, found, requests, instants
                )
            except Moved as moved:
                patience = patience or Patience()
                patience.spend(moved)  # a push changed a large state between its two reads
                continue
            if number is not None and self.log is not None:
                asked = list(zip(*columns, strict=True)) or [()] * len(rows)
                own = each_row(answers)
                self.log.take(
                    number, evaluator.service, entities, requests, own, resolved, asked, found
                )
            return evaluator, entities, requests, answers, resolved

    def _load(self, live: bytes | None) -> Steps[tuple[bytes, Evaluator]]:
        data = None
        while live is not None:
            plan_key = project_key(self.project, "plan", self.name, live.decode())
            data, now = yield [plan_key, self.live_key]
            if data is not None or now == live:
                break
            live = now  # another version went live, and this one was removed
        if data is None or live is None:
            names = json.loads((yield [project_key(self.project, "names")])[0] or b"[]")
            known = f"; {near(self.name, names, listed='applied are')}" if names else ""
            raise NotServed(
                f"project {self.project!r} serves no service {self.name!r}{known}; run `featurekit "
                "apply` and `featurekit materialize` with it, or check the name and the Redis URL"
            )
        service = self._believed(data, live.decode(errors="replace"))
        served = live, Evaluator(self.project, service)
        self._served = served
        return served

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
