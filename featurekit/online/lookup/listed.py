"""Answers a list of features, for which no service was published, from the states of its views."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from featurekit.define.plan import Service
from featurekit.errors import NotServed
from featurekit.online.lookup.evaluator import Evaluator
from featurekit.online.lookup.service import OnlineService
from featurekit.online.lookup.steps import Steps
from featurekit.online.store.notes import numbers, read_object
from featurekit.online.store.protocol import OnlineStore

Resolve = Callable[[Collection[str], bytes | None], Service]
"""Gives the service that a list stands for, for the versions of views ("name:fingerprint") that are
filled, and what told last that another version of a service went live."""


class ListedFeatures(OnlineService):
    """A list of features in an online store.

    Each lookup reads, beside the states, which versions of views are filled, and what changes with
    each version of a service that goes live. Where one of them changed, the list is resolved anew:
    so a version whose states were removed is never asked, and the live one answers from the next
    request on (F1). NotServed where a view has no version that is filled. Its answers go to no
    serving log.
    """

    def __init__(
        self, store: OnlineStore, project: str, resolve: Resolve, followed: tuple[bytes, bytes]
    ) -> None:
        """`followed` are the keys of what is filled, and of what tells that a version went live."""
        super().__init__(store, project, "listed_features")
        self._follow(*followed)
        self.resolve = resolve

    def _told(self, values: Sequence[bytes | None]) -> bytes | None:
        filled, turned = (value or b"" for value in values[:2])
        return b"%d %b%b" % (len(filled), filled, turned)

    def _load(self, live: bytes | None) -> Steps[tuple[bytes, Evaluator]]:
        values = yield self._followed
        filled = read_object("until", values[0], numbers)
        service = self.resolve(filled.keys(), values[1])
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
        self._served = self._told(values) or b"", evaluator
        return self._served
