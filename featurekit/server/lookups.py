"""Turns questions into results, by the services of one project in an online store."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from featurekit.define.plan import Service
from featurekit.errors import EntityFrameError, FeaturekitError, NotServed, RequestRefused
from featurekit.online.lookup.listed import ListedFeatures
from featurekit.online.lookup.result import OnlineResult
from featurekit.online.lookup.service import AnswersLog, OnlineService
from featurekit.online.lookup.steps import Span
from featurekit.online.lookup.version import ServiceVersion
from featurekit.online.store.connections import PoolWaits
from featurekit.online.store.marks import version_of
from featurekit.online.store.protocol import OnlineStore
from featurekit.project.deployment import (
    fed_version,
    fed_views,
    live_services,
    turned_key,
    until_key,
)
from featurekit.project.freshness import Freshness, freshness
from featurekit.project.listed import resolved
from featurekit.server.notices import ServedNotices
from featurekit.server.questions import Question, of_types
from featurekit.server.settings import Settings

_MOST_LISTS = _MOST_VERSIONS = 256


_K = TypeVar("_K")
_V = TypeVar("_V")


@dataclass(slots=True)
class _Live:
    """The services that were live when they were last read, and what told then that the last one
    went live."""

    services: Mapping[str, Service] = field(default_factory=dict)
    turned: bytes | None = None


class Lookups:
    """The services of a project, each opened when it is first asked for; for one event loop. `log`
    takes the answers that it wants, and `span` is told of the parts of a lookup."""

    def __init__(self, settings: Settings, log: AnswersLog | None = None) -> None:
        self.settings, self.log = settings, log
        self.store: OnlineStore = settings.store()
        self.project, self.trust = settings.project, settings.trust()
        self._services: dict[str, OnlineService] = {}
        self._versions: OrderedDict[tuple[str, str], ServiceVersion] = OrderedDict()
        self._lists: OrderedDict[tuple[str, ...], ListedFeatures] = OrderedDict()
        self._live = _Live()
        self.notices = ServedNotices(self.store, self.project)
        self.span: Span | None = None

    async def close(self) -> None:
        """Close the connections."""
        await self.store.close_async()
        self.store.close()

    # --- what is served ---------------------------------------------------------------------------

    def live(self) -> Mapping[str, Service]:
        """The services that are live now. It reads the store, and blocks meanwhile."""
        (turned,) = self.store.read([turned_key(self.project)])
        services = live_services(self.store, self.project, trust=self.trust)
        self._live = _Live(services, turned)
        return services

    def load(self) -> list[str]:
        """Make every live service ready to answer, and name them. It raises what a lookup would:
        NotServed where none is live, FingerprintMismatch, PlanRefused, StoreUnavailable."""
        names = sorted(self.live())
        self.notices.look()
        if not names:
            raise NotServed(
                f"project {self.project!r} serves nothing here; run `featurekit apply` and "
                "`featurekit materialize`, or correct the project's name or the Redis URL"
            )
        for name in names:
            online = self.service(name)
            online.current()
            self._services.setdefault(name, online)
        return names

    def service(self, name: str) -> OnlineService:
        """What answers for a service. Nothing is asked yet: there may be none of this name."""
        known = self._services.get(name)
        if known is None:
            known = OnlineService(self.store, self.project, name, **self._options())
            known.span = self.span
        return known

    def version(self, name: str, version: str) -> ServiceVersion:
        """What answers for a version of a service, by its fingerprint or the beginning of it. It
        may read the store, and blocks meanwhile. RequestRefused where no such version is fed."""
        known = self._versions.get((name, version))
        if known is None:
            try:
                fingerprint = fed_version(self.store, self.project, name, version)
            except NotServed as error:
                raise _no_version(error) from None
            until = until_key(self.project)
            known = ServiceVersion(
                self.store, self.project, name, fingerprint, until_key=until, **self._options()
            )
            known.span = self.span
        return known

    def known(self, name: str, version: str | None) -> Service:
        """What a service, or a version of it, takes and gives. It reads the store unless that was
        done, and blocks meanwhile. NotServed, or RequestRefused for a version that is not fed."""
        if version is None:
            online = self._services[name] = self._services.get(name) or self.service(name)
        else:
            online = self._versions.get((name, version)) or self.version(name, version)
            _keep(self._versions, (name, version), online, _MOST_VERSIONS)
        return online.seen or online.current().service

    def _options(self) -> dict[str, Any]:
        return {
            "on_mismatch": self.settings.on_mismatch,
            "trust": self.trust,
            "tolerance_us": self.settings.tolerance_us,
            "log": self.log,
        }

    def freshness(self) -> Freshness:
        """How far behind what is served here is. It reads the store, and blocks meanwhile."""
        seen = [online.seen for online in list(self._services.values())]
        views = [view for service in seen if service is not None for view in service.stored]
        return freshness(self.store, self.project, views)

    def pool_waits(self) -> PoolWaits:
        """How lookups have waited for connections."""
        found = getattr(self.store, "pool_waits", None)
        return found if isinstance(found, PoolWaits) else PoolWaits()

    # --- answers ----------------------------------------------------------------------------------

    async def answer(self, question: Question) -> tuple[OnlineResult, Service]:
        """The result, and the version that answered it."""
        if question.service is None:
            return await self._listed(question)
        if question.version is not None:
            return await self._of_version(question, question.service, question.version)
        online = self.service(question.service)
        found = await _answered(online, question)
        self._services.setdefault(question.service, online)  # names that are none are not kept
        return found

    async def _of_version(
        self, question: Question, name: str, version: str
    ) -> tuple[OnlineResult, Service]:
        asked = name, version
        online = self._versions.get(asked)
        if online is None:
            online = await asyncio.to_thread(self.version, name, version)
        try:
            found = await _answered(online, question)
        except NotServed as error:
            self._versions.pop(asked, None)
            raise _no_version(error) from None
        _keep(self._versions, asked, online, _MOST_VERSIONS)
        return found

    def instead(self, question: Question) -> tuple[OnlineResult, Service] | None:
        """What the service answers while the store cannot be asked (A4); None where it does not."""
        if question.service is None:
            return None
        online: OnlineService | None = self._services.get(question.service)
        if question.version is not None:
            online = self._versions.get((question.service, question.version))
        version = None if online is None else online.seen
        if online is None or version is None:
            return None
        return online.answer_instead(
            of_types(question.rows, version),
            question.as_of,
            full_feature_names=question.full_names,
            request_fields=question.request_fields,
        )

    async def _listed(self, question: Question) -> tuple[OnlineResult, Service]:
        key = question.features
        online = self._lists.get(key) or ListedFeatures(
            self.store,
            self.project,
            lambda filled, turned: self._resolve(key, filled, turned),
            (until_key(self.project), turned_key(self.project)),
        )
        online.span = self.span
        found = await _answered(online, question)
        _check_version(question, found[1])
        _keep(self._lists, key, online, _MOST_LISTS)
        return found

    def _resolve(
        self, features: tuple[str, ...], filled: Collection[str], turned: bytes | None
    ) -> Service:
        """The service that a list stands for. What is live is read again where a version went live
        since, or where it does not fit what is filled now."""
        found, known = None, self._live
        services = known.services if turned == known.turned else self.live()
        with suppress(FeaturekitError):
            found = resolved(features, services, (), filled)
        if found is not None and all(version_of(view) in filled for view in found.views):
            return found
        fed = fed_views(
            self.store, self.project, trust=self.trust, on_mismatch=self.settings.on_mismatch
        )
        return resolved(features, self.live(), fed, filled)


async def _answered(online: OnlineService, question: Question) -> tuple[OnlineResult, Service]:
    """What a service answers. Values are read by the types of the version that answers: where
    another one went live meanwhile, they are read anew."""
    version = online.seen or (await asyncio.to_thread(online.current)).service
    while True:
        try:
            result, answered = await online.answer_async(
                of_types(question.rows, version),
                question.as_of,
                full_feature_names=question.full_names,
                request_fields=question.request_fields,
            )
        except EntityFrameError:
            if online.seen is version or online.seen is None:
                raise
            version = online.seen
            continue
        if answered is version:
            return result, answered
        version = answered


def _check_version(question: Question, version: Service) -> None:
    """RequestRefused where a list of features has another version than the question names."""
    if question.version not in (None, version.fingerprint):
        raise RequestRefused(
            f"the list of features has version {version.fingerprint} now, found "
            f"{question.version!r}; write that, or leave service_version out",
            status=409,
            where="service_version",
        )


def _keep(kept: OrderedDict[_K, _V], key: _K, value: _V, most: int) -> None:
    """Keep a value that was just used, and no more than so many."""
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > most:
        kept.popitem(last=False)


def _no_version(error: NotServed) -> RequestRefused:
    """The refusal of a version that is not fed, or not filled."""
    return RequestRefused(str(error), status=409, where="service_version")
