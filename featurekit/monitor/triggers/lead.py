"""Has one process of those that watch a project lead, and another one when that ends or dies."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from featurekit.errors import LeaseLost, OnlineError
from featurekit.monitor.triggers.engine import Lead, Parts
from featurekit.online.store.fenced import Fenced
from featurekit.online.store.protocol import OnlineStore
from featurekit.project import leases
from featurekit.project.leases import WATCH

_WAIT_S = 1.0


@dataclass(slots=True)
class Watch:
    """A process that watches a project: it leads, or waits until it may."""

    parts: Parts
    store: OnlineStore
    leads: bool = False
    reached: bool = False
    """Whether the online store could be asked the last time."""

    def run(self, stop: threading.Event, *, drain_s: float) -> None:
        """Watch until `stop` is set. What is under way then has `drain_s` seconds to end."""
        said = ""
        while not stop.is_set():
            try:
                if self._another():
                    stop.wait(_WAIT_S)
                    continue
                with leases.alone(self.store, self.parts.project, WATCH, "watch") as fenced:
                    said = ""
                    self._lead(fenced, stop, drain_s)
            except LeaseLost:
                self.parts.warn("another process leads now, since this one was paused")
            except OnlineError as error:
                self.reached = False
                if str(error) != said:
                    said = str(error)
                    self.parts.warn(said)
                stop.wait(_WAIT_S)

    def _another(self) -> bool:
        """Whether a living process leads."""
        held = leases.held_by(self.store, self.parts.project, WATCH)
        self.reached = True
        return any(lease.alone and not lease.ended and not lease.strays for lease in held)

    def _lead(self, store: OnlineStore, stop: threading.Event, drain_s: float) -> None:
        assert isinstance(store, Fenced)

        def check() -> None:
            try:
                store.check()
                self.reached = True
            except LeaseLost:
                raise
            except OnlineError:
                self.reached = False
                raise

        self._say(True)
        try:
            Lead(self.parts, store).run(stop, check, drain_s)
        finally:
            self._say(False)

    def _say(self, leads: bool) -> None:
        self.leads = leads
        self.parts.metrics.leads(leads)
