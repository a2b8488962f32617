"""Turns the rows of a request into predictions: looks their features up, asks the target that the
route gives each entity, and puts the answers together in the order of the rows.

All of it is as of one instant (T8). The first target's version is looked up for every row; where
another target takes another version, that is looked up as of the instant of the first.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from featurekit.define.plan import Service
from featurekit.errors import (
    AsOfTooOld,
    ConfigError,
    FeaturekitError,
    ModelFailed,
    NotServed,
    RequestRefused,
)
from featurekit.log.served.block import INSTEAD, ROUTED, SHADOW
from featurekit.log.served.log import ServingLog
from featurekit.online.lookup.result import OnlineResult
from featurekit.online.store.limits import Limits
from featurekit.server.forward.asking import ModelServer, Told
from featurekit.server.forward.columns import Input
from featurekit.server.forward.inputs import columns_of, inputs_of
from featurekit.server.forward.logged import Record, write
from featurekit.server.forward.metrics import PredictionMetrics
from featurekit.server.forward.routing import choices
from featurekit.server.forward.targets import Forwarding, Model, Target
from featurekit.server.held import Taken, held
from featurekit.server.lookups import Lookups
from featurekit.server.questions import Question, some_of

Look = Callable[[Question, float], Awaitable[tuple[OnlineResult, Service]]]
"""Answers a question before an instant of the monotonic clock, as every lookup is answered."""
Beside = Callable[[Coroutine[Any, Any, None]], None]
"""Does something beside the answers."""

_TRIES = 3
_SHADOWS = 64
"""So many requests may wait for a shadow; those beyond are not asked of it."""

_log = logging.getLogger("featurekit.server")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for predictions: the model, the rows, its id, until when it is to be answered on
    the monotonic clock, and who asks."""

    model: Model
    question: Question
    id: str
    end: float
    caller: str = ""


@dataclass(frozen=True, slots=True)
class Looked:
    """What was looked up: the features of the `rows` of the request, in this order."""

    result: OnlineResult
    service: Service
    rows: Sequence[int]
    taken: Taken | None

    def places(self, rows: Sequence[int]) -> Sequence[int]:
        """Where some rows of the request stand in the result."""
        if len(self.rows) == len(rows):
            return range(len(rows))
        at = {row: place for place, row in enumerate(self.rows)}
        return [at[row] for row in rows]


@dataclass(frozen=True, slots=True)
class Share:
    """The rows of a request that a target is asked for, and where their features are."""

    target: Target
    rows: Sequence[int]
    looked: Looked


@dataclass(frozen=True, slots=True)
class Predictions:
    """The answer: `values` has a prediction for each row and `targets` who made it. `instead` has
    the rows of targets that failed, for which another one answered. `shares` say what was looked up
    for whom, and `model_versions` what servers call their models."""

    model: Model
    values: list[Any]
    targets: list[str]
    instead: Mapping[str, list[int]]
    shares: Sequence[Share]
    model_versions: Mapping[str, str | None]
    looked: Looked


def check(forwarding: Forwarding, lookups: Lookups) -> None:
    """See that every target can be given its features. It reads the store, and blocks meanwhile.
    ConfigError, which names the target, for a service or version that is not filled, a feature that
    no model server reads, or join keys that differ within a model."""
    services = {}
    for name, target in forwarding.targets.items():
        try:
            services[name] = lookups.known(*target.asks)
        except (NotServed, RequestRefused) as error:
            raise ConfigError(f"target {name}: {error}") from None
        inputs_of(services[name], target)
    for model in forwarding.models.values():
        first, *others = [*(name for name, _ in model.route), *model.shadows]
        for name in others:
            if services[name].join_keys != services[first].join_keys:
                raise ConfigError(
                    f"targets {first} and {name} are of model {model.name}, and their services "
                    f"{services[first].name} and {services[name].name} have other join keys; route "
                    "targets of the same keys"
                )


def _is_covered(record: Record, asked: Asked) -> bool:
    """Whether another target is asked where this one failed."""
    instead = asked.model.instead
    return isinstance(record.failure, ModelFailed) and instead not in (None, record.target)


class Predictor:
    """Answers for all models of a server, in one event loop. `look` answers lookups, and `beside`
    does what nobody waits for. `log` is told of predictions, where there is one."""

    def __init__(
        self,
        forwarding: Forwarding,
        lookups: Lookups,
        limits: Limits,
        *,
        look: Look,
        beside: Beside,
        metrics: PredictionMetrics,
        log: ServingLog | None = None,
        traced: Told = dict,
    ) -> None:
        self.forwarding, self.lookups, self.limits, self.log = forwarding, lookups, limits, log
        self._look_up, self._beside, self.metrics = look, beside, metrics
        self._servers = {
            name: ModelServer(target, limits, span=lookups.span, traced=traced)
            for name, target in forwarding.targets.items()
        }
        self._inputs: dict[tuple[str, str], tuple[Input, ...]] = {}
        self._shadows = 0

    async def close(self) -> None:
        """Close the connections."""
        for server in self._servers.values():
            await server.close()

    def model(self, name: str) -> Model:
        """The model of a name. RequestRefused where there is none."""
        found = self.forwarding.models.get(name)
        if found is None:
            raise RequestRefused(
                f"there is no model {name[:200]!r}; there are {', '.join(self.forwarding.models)}",
                status=404,
                where="model",
            )
        return found

    def described(self) -> dict[str, str]:
        """The names of the models, each with the service of its first target."""
        models = self.forwarding.models.values()
        return {one.name: self.forwarding.targets[one.route[0][0]].service for one in models}

    def services(self, model: Model) -> list[str]:
        """The services of a model's targets, whose features a caller may be told of."""
        names = [*(name for name, _ in model.route), *model.shadows]
        return [self.forwarding.targets[name].service for name in names]

    async def predict(self, asked: Asked) -> Predictions:
        """A prediction for each row.

        It raises what a lookup does; ModelFailed where a target failed and nothing answers in its
        place; RequestRefused for a value that a model server's protocol has no form for. A request
        has all its predictions, or an error.
        """
        number = None if self.log is None else self.log.wants()
        whole, shares = await self._shares(asked, number)
        records = await asyncio.gather(*(self._ask(asked, share, ROUTED) for share in shares))
        more_shares, more = await self._instead(asked, whole, shares, records, number)
        records, shares = [*records, *more], [*shares, *more_shares]
        failed = [one.failure for one in records if not (more and _is_covered(one, asked))]
        failures = [one for one in failed if one is not None]
        for record in records:
            record.answered = record.failure is None and not failures
        self._write(number, records)
        if failures:
            raise failures[0]
        self._ask_shadows(asked, whole, number)
        return self._together(asked.model, whole, shares, records)

    def _together(
        self, model: Model, whole: Looked, shares: Sequence[Share], records: Sequence[Record]
    ) -> Predictions:
        n = len(whole.rows)
        values: list[Any] = [None] * n
        targets = [""] * n
        for record in records:
            for row, value in zip(record.rows, record.values or (), strict=False):
                values[row], targets[row] = value, record.target
        return Predictions(
            model,
            values,
            targets,
            {one.target: list(one.rows) for one in records if one.failure is not None},
            [s for s, one in zip(shares, records, strict=True) if one.failure is None],
            {one.target: one.model_version for one in records if one.failure is None},
            whole,
        )

    # --- features ---------------------------------------------------------------------------------

    async def _shares(self, asked: Asked, number: int | None) -> tuple[Looked, list[Share]]:
        """The features of every row for the first target, and what each target is asked for."""
        tries = 1 if asked.question.as_of is not None else _TRIES
        while True:
            tries -= 1
            try:
                return await self._shares_once(asked, number)
            except AsOfTooOld:  # an event arrived between the lookups of two versions
                if not tries:
                    raise

    async def _shares_once(self, asked: Asked, number: int | None) -> tuple[Looked, list[Share]]:
        model = asked.model
        rows = range(len(asked.question.rows))
        first = self.forwarding.targets[model.route[0][0]]
        whole = await self._look(asked, first, rows, number, asked.end)
        types, entities = whole.service.join_keys, whole.result.entities
        by_target: dict[str, list[int]] = {}
        for row, name in enumerate(choices(model, types, entities, len(rows))):
            by_target.setdefault(name, []).append(row)
        shares = []
        for name, some in by_target.items():
            target = self.forwarding.targets[name]
            looked = await self._looked_for(asked, target, some, whole, number, asked.end)
            shares.append(Share(target, some, looked))
        return whole, shares

    async def _looked_for(
        self,
        asked: Asked,
        target: Target,
        rows: Sequence[int],
        whole: Looked,
        number: int | None,
        end: float,
    ) -> Looked:
        """The features of rows for a target: those of the whole request where it takes the same."""
        first = self.forwarding.targets[asked.model.route[0][0]]
        if target.asks == first.asks:
            return whole
        at = replace(asked.question, as_of=whole.result.as_of.isoformat())
        return await self._look(replace(asked, question=at), target, rows, number, end)

    async def _look(
        self, asked: Asked, target: Target, rows: Sequence[int], number: int | None, end: float
    ) -> Looked:
        left_out = await self._left_out(asked.model, target)
        given = asked.question.rows
        if left_out or len(rows) < len(given):
            given = some_of(given, rows, left_out)
        question = replace(
            asked.question, rows=given, service=target.service, version=target.version
        )
        with held(number) as holding:
            result, service = await self._look_up(question, end)
        return Looked(result, service, rows, None if holding is None else holding.taken)

    async def _left_out(self, model: Model, target: Target) -> frozenset[str]:
        """The columns that other targets of the model take, and this one does not."""
        names = [*(name for name, _ in model.route), *model.shadows]
        asks = {self.forwarding.targets[name].asks for name in names}
        if len(asks) == 1:
            return frozenset()
        fields = {}
        for one in asks:
            known = await asyncio.to_thread(self.lookups.known, *one)
            fields[one] = {p.name for p in known.request}
        return frozenset(set().union(*fields.values()) - fields[target.asks])

    # --- predictions ------------------------------------------------------------------------------

    async def _ask(self, asked: Asked, share: Share, role: str, end: float | None = None) -> Record:
        """What a target predicts for its share, or why it does not."""
        target, looked = share.target, share.looked
        places = looked.places(share.rows)
        record = Record(
            request_id=asked.id,
            target=target.name,
            role=role,
            rows=share.rows,
            taken=None if looked.taken is None else looked.taken.of(places),
            route=asked.model.text,
            caller=asked.caller,
        )
        if not share.rows:
            record.values = []
            return record
        began = time.perf_counter()
        try:
            columns = columns_of(looked.result, self._inputs_of(target, looked.service), places)
            end = self._end(asked, target) if end is None else end
            server = self._servers[target.name]
            version = f"{looked.service.name}@{looked.service.fingerprint}"
            found = await server.predict(columns, len(share.rows), asked.id, end, version)
            record.values, record.model_version = found.values, found.model_version
        except (ModelFailed, RequestRefused) as error:
            record.failure, record.error = error, f"{type(error).__name__}: {error}"
        seconds = time.perf_counter() - began
        record.latency_us = round(seconds * 1e6)
        self.metrics.asked(record, seconds)
        return record

    def _end(self, asked: Asked, target: Target) -> float:
        """Until when a target may answer: half of what is left where another one is asked after
        it."""
        if asked.model.instead in (None, target.name):
            return asked.end
        now = time.monotonic()
        return now + (asked.end - now) / 2

    def _inputs_of(self, target: Target, service: Service) -> tuple[Input, ...]:
        known = self._inputs.get((target.name, service.fingerprint))
        if known is None:
            try:
                known = inputs_of(service, target)
            except ConfigError as error:
                raise ModelFailed(str(error), status=503) from None
            self._inputs[target.name, service.fingerprint] = known
        return known

    async def _instead(
        self,
        asked: Asked,
        whole: Looked,
        shares: Sequence[Share],
        records: Sequence[Record],
        number: int | None,
    ) -> tuple[list[Share], list[Record]]:
        """What is asked, and predicted, in the place of targets that failed."""
        name = asked.model.instead
        rows = [
            row
            for share, record in zip(shares, records, strict=True)
            if _is_covered(record, asked)
            for row in share.rows
        ]
        if name is None or not rows:
            return [], []
        target = self.forwarding.targets[name]
        looked = await self._looked_for(asked, target, sorted(rows), whole, number, asked.end)
        share = Share(target, sorted(rows), looked)
        return [share], [await self._ask(asked, share, INSTEAD)]

    def _write(self, number: int | None, records: Sequence[Record]) -> None:
        if self.log is not None and number is not None:
            for record in records:
                write(self.log, number, record)

    # --- shadows ----------------------------------------------------------------------------------

    def _ask_shadows(self, asked: Asked, whole: Looked, number: int | None) -> None:
        """Begin to ask the shadows; the answer does not wait for them."""
        for name in asked.model.shadows:
            if self._shadows >= _SHADOWS:
                self.metrics.left_out(name)
                continue
            self._shadows += 1
            self._beside(self._ask_shadow(asked, self.forwarding.targets[name], whole, number))

    async def _ask_shadow(
        self, asked: Asked, target: Target, whole: Looked, number: int | None
    ) -> None:
        end = time.monotonic() + self.limits.timeout_s
        try:
            try:
                looked = await self._looked_for(asked, target, whole.rows, whole, number, end)
            except FeaturekitError as error:
                failed = Record(
                    asked.id, target.name, SHADOW, whole.rows, whole.taken,
                    error=f"{type(error).__name__}: {error}", route=asked.model.text,
                )  # fmt: skip
                self._write(number, [failed])
                self.metrics.failed(target.name, type(error).__name__)
                return
            share = Share(target, whole.rows, looked)
            self._write(number, [await self._ask(asked, share, SHADOW, end)])
        except Exception:
            _log.exception("request %s: a bug in featurekit, with shadow %s", asked.id, target.name)
        finally:
            self._shadows -= 1
