"""Knows what of the answers is to be given up, and gives the headers that say so."""

from __future__ import annotations

import time

from featurekit.define.deprecated import Deprecation
from featurekit.define.plan import Service
from featurekit.errors import OnlineError
from featurekit.online.store.protocol import OnlineStore
from featurekit.online.wire.deprecated import headers
from featurekit.project.about import noted_deprecations, read_about
from featurekit.project.deprecations import concerning

_LOOK_S = 5.0
_MOST = 1024
Headers = list[tuple[bytes, bytes]]


class ServedNotices:
    """What the notes of an online store say, as it was a few seconds ago."""

    def __init__(self, store: OnlineStore, project: str) -> None:
        self._store, self._project = store, project
        self._every: list[Deprecation] = []
        # A list of all of a service's features has its fingerprint, and another name.
        self._made: dict[tuple[str, str], Headers] = {}
        self._next = 0.0

    def due(self) -> bool:
        """Whether the notes are to be read; said to one caller only."""
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + _LOOK_S
        return True

    def look(self) -> None:
        """Read the notes, and block meanwhile. Where that is not possible, what was known stays."""
        self._next = time.monotonic() + _LOOK_S
        try:
            self._every = noted_deprecations(read_about(self._store, self._project))
        except OnlineError:
            return
        self._made = {}

    def headers(self, service: Service) -> Headers:
        """The headers of an answer of a version of a service."""
        if not self._every:
            return []
        key = service.name, service.fingerprint
        found = self._made.get(key)
        if found is None:
            if len(self._made) >= _MOST:
                self._made = {}
            found = headers(concerning(service, self._every))
            self._made[key] = found
        return found
