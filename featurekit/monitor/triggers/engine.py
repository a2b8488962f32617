"""Looks at triggers, and does their actions, for as long as this process leads.

Each trigger has a thread. A firing is claimed in the online store, under the lease of who leads,
before its first action; so two processes never do the same one. Looks that read events or the
serving log come one after the other, since each may take much memory.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from featurekit.core.types import instant
from featurekit.errors import FeaturekitError, LeaseLost, OnlineError, StoreUnavailable, WriteError
from featurekit.monitor.triggers.actions import ActionFailed, Ending, Where, perform, shown
from featurekit.monitor.triggers.conditions import OpenProject, look
from featurekit.monitor.triggers.decide import (
    at_step,
    claimed,
    found_lost,
    looked,
    must_look,
    ready,
    taken,
    unlooked,
)
from featurekit.monitor.triggers.metrics import TriggerMetrics
from featurekit.monitor.triggers.payloads import Told
from featurekit.monitor.triggers.record import Record
from featurekit.monitor.triggers.state import Firing, Phase, State, change_state, read_states
from featurekit.online.store.protocol import OnlineStore
from featurekit.project.trigger_settings import TriggerConfig

_POLL_S, _AGAIN_S, _LOOK_S = 0.5, 1.0, 2.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What a process that watches works with, whether it leads or not."""

    project: str
    triggers: Mapping[str, TriggerConfig]
    opened: OpenProject
    record: Record
    metrics: TriggerMetrics
    where: Where
    warn: Callable[[str], None]
    beside: Callable[[threading.Event], None] | None = None
    """What else who leads does, until the event is set; None for nothing."""


@dataclass(slots=True)
class Lead:
    """One term of a process that leads: it writes to `store` as long as it holds the lease."""

    parts: Parts
    store: OnlineStore
    ending: Ending = field(default_factory=Ending)
    holder: str = field(default_factory=lambda: uuid.uuid4().hex)
    _looking: threading.Lock = field(default_factory=threading.Lock)
    _acting: set[str] = field(default_factory=set)

    def run(self, stop: threading.Event, check: Callable[[], None], drain_s: float) -> None:
        """Lead until `stop` is set, or the lease is lost, of which `check` raises LeaseLost. What
        is under way then has `drain_s` seconds to end."""
        threads = [
            threading.Thread(target=self._loop, args=(name,), name=f"trigger-{name}", daemon=True)
            for name in self.parts.triggers
        ]
        if self.parts.beside is not None:
            beside = threading.Thread(
                target=self.parts.beside, args=(self.ending.stop,), name="beside", daemon=True
            )
            threads.append(beside)
        for thread in threads:
            thread.start()
        try:
            while not stop.wait(_AGAIN_S) and not self.ending.now.is_set():
                try:
                    check()
                except LeaseLost:
                    self.ending.end("another process leads")
                except OnlineError as error:
                    self.parts.warn(str(error))
        finally:
            self.ending.stop.set()
            self._drain(threads, drain_s)

    def _drain(self, threads: list[threading.Thread], drain_s: float) -> None:
        """Wait for actions, and end those that take too long. A look has no effects, and is not
        waited for."""
        until = time.monotonic() + drain_s
        while self._acting and time.monotonic() < until and not self.ending.now.is_set():
            time.sleep(_POLL_S / 10)
        self.ending.end(f"the watch was told to end {drain_s:g} s before")
        until = time.monotonic() + _LOOK_S
        for thread in threads:
            acts = thread.name.removeprefix("trigger-") in {*self._acting, "beside"}
            thread.join(None if acts else max(0.0, until - time.monotonic()))

    def _loop(self, name: str) -> None:
        while not self.ending.stop.is_set():
            wait_s = _POLL_S
            try:
                self.step(name)
            except LeaseLost:
                self.ending.end("another process leads")
            except FeaturekitError as error:  # the store is away, or a note is damaged
                self.parts.warn(f"trigger {name}: {error}")
                wait_s = _AGAIN_S
            self.ending.stop.wait(wait_s)

    # --- one step ---------------------------------------------------------------------------------

    def step(self, name: str) -> None:
        """Look at a trigger where it is time, and do what is due."""
        config = self.parts.triggers[name]
        state = read_states(self.store, self.parts.project, [name])[name]
        self.parts.metrics.state(name, state)
        if must_look(config, state, self.store.now_us()):
            self._look(name, config, state)
        if self.ending.stop.is_set():
            return
        now = self.store.now_us()

        def next_(state: State) -> State:
            state = taken(config, found_lost(config, state, self.holder, now), now)
            return claimed(ready(config, state, now), self.holder)

        after = self._change(name, next_)
        self.parts.metrics.state(name, after)
        firing = after.now
        if firing is not None and (firing.phase, firing.holder) == ("claimed", self.holder):
            self._acting.add(name)
            try:
                self._act(name, config, firing)
            finally:
                self._acting.discard(name)

    def _look(self, name: str, config: TriggerConfig, state: State) -> None:
        error, found = "", None
        try:
            if config.schedule is not None:
                found = look(config, state, self.store.now_us(), self.parts.opened)
            else:
                with self._looking:
                    if self.ending.stop.is_set():
                        return
                    found = look(config, state, self.store.now_us(), self.parts.opened)
        except LeaseLost:
            raise
        except FeaturekitError as raised:
            error = str(raised)
            if error != state.error:  # once, and not at every look
                self.parts.warn(f"trigger {name}: {error}")
        now = self.store.now_us()
        holds = "failed" if found is None else "holds" if found.holds else "holds not"
        self.parts.metrics.looked(name, holds)
        self._change(
            name,
            lambda state: (
                unlooked(state, error, now)
                if found is None
                else looked(config, state, found, now)
                if state.now is None
                else state
            ),
        )

    def _change(self, name: str, change: Callable[[State], State]) -> State:
        """Change the state, and tell what became of firings. What cannot be told is not done: a
        firing that was just claimed fails then."""
        before, after = change_state(self.store, self.parts.project, name, change)
        try:
            self.parts.record.changes(name, before, after)
        except WriteError as error:
            self.parts.warn(str(error))
            firing = after.now
            if firing is not None and firing.phase == "claimed":
                self._close(name, firing, "failed", f"nothing was done: {error}")
                after = read_states(self.store, self.parts.project, [name])[name]
        return after

    # --- what is done -----------------------------------------------------------------------------

    def _act(self, name: str, config: TriggerConfig, firing: Firing) -> None:
        told = self._told(name, config, firing)
        said = ""
        for step in range(firing.step, len(config.actions)):
            if step != firing.step:
                self._change(name, lambda state, step=step: at_step(state, step))  # type: ignore[misc]
            action, begun = config.actions[step], time.monotonic()
            try:
                said = perform(config, action, told, self.parts.where, self.ending)
            except ActionFailed as error:
                self._close(name, firing, "failed", f"action {step + 1}, {shown(action)}: {error}")
                return
            finally:
                self.parts.metrics.acted(name, time.monotonic() - begun)
        self._close(name, firing, "done", said)

    def _told(self, name: str, config: TriggerConfig, firing: Firing) -> Told:
        return Told(
            self.parts.project,
            name,
            firing.occasion(name),
            firing.reason,
            config.kind,
            instant(firing.at),
            firing.asker,
            firing.judge,
        )

    def _close(self, name: str, firing: Firing, phase: Phase, said: str) -> None:
        """Say how a firing ended. Where the store is away, that is tried until it is back, or this
        process ends."""
        while True:
            try:
                before, after = self._ended(name, firing, phase, said)
                break
            except StoreUnavailable as error:
                self.parts.warn(f"trigger {name}: {said}; that is not noted yet: {error}")
                if self.ending.now.wait(_AGAIN_S):
                    raise
        self.parts.record.changed_or_warn(name, before, after)
        self.parts.metrics.state(name, after)

    def _ended(self, name: str, firing: Firing, phase: Phase, said: str) -> tuple[State, State]:
        now = self.store.now_us()

        def ended(state: State) -> State:
            current = state.now
            if current is None or (current.number, current.holder) != (firing.number, self.holder):
                return state
            return state.over(phase, now, said)

        return change_state(self.store, self.parts.project, name, ended)
