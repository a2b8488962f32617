"""Tells callers what of the answers that they ask for is to be given up."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from featurekit.define.deprecated import Deprecation, warn
from featurekit.define.plan import Service
from featurekit.errors import OnlineError
from featurekit.online.store.protocol import OnlineStore
from featurekit.project.about import noted_deprecations, read_about

LOOK_S = 60.0
"""How long a process believes what it has read of the notes."""


def concerning(service: Service, every: Iterable[Deprecation]) -> list[Deprecation]:
    """What is to be given up of all that a service answers with or reads: itself, its views, their
    features and its own, in this order. A feature of a view that goes as a whole is not named
    beside it."""
    known = {(one.kind, one.name): one for one in every}
    found = [known[key] for key in _parts(service) if key in known]
    gone = {one.name for one in found if one.kind == "view"}
    return [o for o in found if o.kind != "feature" or o.name.partition(":")[0] not in gone]


def _parts(service: Service) -> Iterator[tuple[str, str]]:
    """The kinds and names of what a service is made of, each once."""
    read = {(o.view, o.index) for o in service.outputs if o.view >= 0}
    read |= {
        (given.view, given.index)
        for transform in service.transforms
        for given in transform.inputs
        if given.kind == "feature"
    }
    named = [(service.views[view], index) for view, index in sorted(read)]
    parts = [("service", service.name)]
    parts += [("view", view.name) for view, _ in named]
    parts += [("feature", f"{view.name}:{view.features[index].name}") for view, index in named]
    parts += [("feature", f"{service.name}:{o.name}") for o in service.outputs if o.view < 0]
    yield from dict.fromkeys(parts)


class Notices:
    """What a process was told of: each warning is given once. The notes of the online store are
    read with the first lookup and then about once a minute."""

    def __init__(self, store: OnlineStore, project: str) -> None:
        self._store, self._project = store, project
        self._every: list[Deprecation] = []
        # A list of all of a service's features has its fingerprint, and another name.
        self._told: set[tuple[str, str]] = set()
        self._next = 0.0

    @property
    def due(self) -> bool:
        """Whether the notes are to be read."""
        return time.monotonic() >= self._next

    def look(self) -> None:
        """Read the notes. Where the store cannot be asked, or they are damaged, nothing new is
        known: the lookups say what is wrong."""
        self._next = time.monotonic() + LOOK_S
        try:
            self._every = noted_deprecations(read_about(self._store, self._project))
        except OnlineError:
            return
        self._told.clear()

    def answered(self, service: Service | None) -> None:
        """DeprecatedFeature, a warning, for what of the service that answered is to be given up,
        as far as the notes are known."""
        if service is None or not self._every:
            return
        key = service.name, service.fingerprint
        if key in self._told:
            return
        self._told.add(key)
        warn(concerning(service, self._every))
