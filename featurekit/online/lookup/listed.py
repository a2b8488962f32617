"""Answers a list of features, for which no service was published, from the states of its views."""

from __future__ import annotations

from collections.abc import Callable, Collection

from featurekit.define.plan import Service
from featurekit.errors import NotServed
from featurekit.online.lookup.evaluator import Evaluator
from featurekit.online.lookup.service import OnlineService
from featurekit.online.lookup.steps import Steps
from featurekit.online.store.notes import numbers, read_object
from featurekit.online.store.protocol import OnlineStore

Resolve = Callable[[Collection[str]], Service]
"""Gives the service that a list stands for, for the versions of views ("name:fingerprint") that are
filled."""


class ListedFeatures(OnlineService):
    """A list of features in an online store.

    Each lookup reads, beside the states, which versions of views are filled. Where that changed,
    the list is resolved anew, so a version whose states were removed is never asked. NotServed
    where a view has no version that is filled. Its answers go to no serving log.
    """

    def __init__(
        self, store: OnlineStore, project: str, resolve: Resolve, filled_key: bytes
    ) -> None:
        super().__init__(store, project, "listed_features")
        self._follow(filled_key)
        self.resolve = resolve

    def _load(self, live: bytes | None) -> Steps[tuple[bytes, Evaluator]]:
        live = (yield [self.live_key])[0] or b""
        filled = read_object("until", live or None, numbers)
        service = self.resolve(filled.keys())
        for view in service.views:
            if f"{view.name}:{view.fingerprint}" not in filled:
                raise NotServed(
                    f"project {self.project!r} has no filled states of view {view.name!r} in this "
                    "version; run `featurekit apply` and `featurekit materialize`, which fill the "
                    "views that a service uses"
                )
        served = self._served
        known = served is not None and served[1].service.fingerprint == service.fingerprint
        evaluator = served[1] if served is not None and known else Evaluator(self.project, service)
        self._served = live, evaluator
        return self._served
