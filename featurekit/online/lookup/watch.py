"""Looks, beside the lookups of a service, whether the server still has what it was given.

Only this process knows what it has seen. So it compares: a server that has evicted keys since the
views were filled, or has counted fewer pushes than before, has lost states. It looks before the
first answer and then in the background, about once a second while there are lookups, so that no
lookup waits for it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence

from featurekit.core.keys import project_key
from featurekit.define.plan import View
from featurekit.errors import DamagedView, OnlineError
from featurekit.online.store.marks import (
    Filled,
    carried,
    carried_key,
    filled,
    filled_key,
    version_of,
    view_damaged,
)
from featurekit.online.store.notes import name_of, read_number
from featurekit.online.store.protocol import Health, OnlineStore, pushed_key

EVERY_S = 1.0


class Watch:
    """What was seen of the server, for one project."""

    def __init__(self, store: OnlineStore, project: str) -> None:
        self.store, self.project = store, project
        self._next = 0.0
        self._pid = os.getpid()
        self._looking = threading.Lock()
        self._lost: dict[str, DamagedView] = {}
        self._pushes: dict[bytes, int] = {}
        self._fills: dict[str, Filled] = {}
        self._carried: dict[str, int] = {}
        # The fills at which a view was seen to be damaged: a later fill mends it.
        self._since: dict[str, Filled] = {}

    def due(self, views: Sequence[View]) -> bool:
        """Whether to look before an answer: nothing was looked at yet, or one of the views has lost
        states and may have been filled again a moment ago."""
        return not self._next or self._named(views) is not None

    def check(self, views: Sequence[View], *, looked: bool = False) -> None:
        """DamagedView where one of the views has lost states, as far as it is known. Where it is
        time to look again, that begins in the background. `looked` where the caller has looked
        because it was due."""
        if not looked and self.due(views):
            self.look(views)
        elif time.monotonic() >= self._next:
            self._next = time.monotonic() + EVERY_S
            threading.Thread(target=self._look_quietly, args=(views,), daemon=True).start()
        error = self._named(views)
        if error is not None:
            raise DamagedView(str(error))

    def _named(self, views: Sequence[View]) -> DamagedView | None:
        """What is known to be wrong with the first of the views that has lost states."""
        if not self._lost:
            return None
        errors = (self._lost.get(version_of(view)) for view in views)
        return next((error for error in errors if error is not None), None)

    def _look_quietly(self, views: Sequence[View]) -> None:
        try:
            self.look(views)
        except OnlineError:
            return  # the next lookup meets it too

    def look(self, views: Sequence[View]) -> None:
        """Look now. OnlineError where the store cannot be reached."""
        if self._pid != os.getpid():  # a fork may have come while the parent was looking
            self._pid, self._looking = os.getpid(), threading.Lock()
        with self._looking:
            self._next = time.monotonic() + EVERY_S
            sources = {name for view in views for name in view.source_names}
            names = [pushed_key(project_key(self.project, "pushes", s)) for s in sorted(sources)]
            keys = [filled_key(self.project), carried_key(self.project)]
            marks, forgotten, *counts = self.store.read([*keys, *names])
            health, known = self.store.health(), filled(marks)
            ended = {n: read_number(name_of(n), c) for n, c in zip(names, counts, strict=True)}
            fewer = {name for name, count in ended.items() if count < self._pushes.get(name, 0)}
            self._pushes |= ended
            for view in views:
                version = version_of(view)
                mark = known.get(version)
                why = None if mark is None else mark.lost(health)
                seen = self._fills.get(version)
                if mark is not None:
                    self._fills[version] = mark
                fewer_carried = carried(forgotten).get(version, 0) < self._carried.get(version, 0)
                self._carried[version] = carried(forgotten).get(version, 0)
                pushes = {project_key(self.project, "pushes", s) for s in view.source_names}
                less = fewer_carried or not fewer.isdisjoint(map(pushed_key, pushes))
                if why is None and less and not _again(mark, seen, health):
                    why = "Redis came back with less than it had"
                if why is not None:
                    self._lost[version] = view_damaged(view.name, why)
                    if mark is not None:
                        self._since[version] = mark
                elif self._since.get(version) != mark:
                    self._lost.pop(version, None)


def _again(mark: Filled | None, seen: Filled | None, health: Health) -> bool:
    """Whether a view was filled since it was seen, so that it has everything again. Where a dump
    from before that fill came back, the number alone does not tell, but the server's run does."""
    if mark is None:
        return False
    if seen is None or mark.number > seen.number:
        return True
    return mark.run is not None and mark.run == health.run != seen.run
