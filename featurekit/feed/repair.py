"""Finds the states that hold an arrival after the store's clock, which a run remakes (S3).

An earlier version took such arrivals, or a clock that ran ahead gave them. The state has dropped
what lay before every window of that arrival, so it is made anew from the files and the log.
"""

from __future__ import annotations

from collections.abc import Sequence

from featurekit.core.keys import clock_key, entity_values, state_prefix
from featurekit.core.status import NEVER
from featurekit.define.plan import View
from featurekit.online.store.protocol import OnlineStore


class Repair:
    """What a run takes for impossible in a store: an arrival more than the tolerance after the
    clock. `keys` are those of the states that held one."""

    def __init__(self, store: OnlineStore, project: str, tolerance_us: int) -> None:
        self.store, self.project, self.tolerance_us = store, project, tolerance_us
        self.latest = NEVER
        self.keys: set[bytes] = set()

    def ahead(self, arrival: int) -> bool:
        """Whether an arrival that was read from the store is impossible.

        `latest` is then the latest arrival that is possible. The clock is only asked where an
        arrival is after what it said the last time.
        """
        return arrival > self.latest and arrival > self.latest_now()

    def latest_now(self) -> int:
        """The latest arrival that is possible by now."""
        _, now = self.store.read_at((), clock_key(self.project))
        self.latest = now + self.tolerance_us
        return self.latest

    def entities(self, view: View) -> Sequence[Sequence[object]]:
        """The entities of `keys`, as the values of the view's join keys."""
        first = len(state_prefix(self.project, view)) + 1
        types = [p.type for p in view.join_keys]
        return [entity_values(types, key[first:-1]) for key in sorted(self.keys)]
