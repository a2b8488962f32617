"""Turns what becomes of triggers into metrics for Prometheus: text, version 0.0.4."""

from __future__ import annotations

import threading

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from featurekit.monitor.triggers.state import State

_OF = ("trigger",)
OUTCOMES = ("done", "failed", "lost", "rejected", "dry")
LOOKS = ("holds", "holds not", "failed")
_BUCKETS = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)
_COUNTERS = {
    "featurekit_trigger_firings_total": (
        ("trigger", "outcome"),
        "Firings that are over, by their outcome: done, failed, lost, rejected or dry.",
    ),
    "featurekit_trigger_looks_total": (
        ("trigger", "outcome"),
        "Looks at a condition, by what they found: holds, holds not, or failed.",
    ),
}
_GAUGES = {
    "featurekit_watch_leader": ((), "1 where this process leads, 0 where another one does."),
    "featurekit_trigger_holds": (_OF, "1 where the condition held at the last look, else 0."),
    "featurekit_trigger_open": (
        ("trigger", "phase"),
        "1 for the phase of the firing that is not over: due, asked, approved or claimed.",
    ),
    "featurekit_trigger_last_look_timestamp_seconds": (_OF, "When it was last looked at."),
    "featurekit_trigger_last_firing_timestamp_seconds": (_OF, "When a firing last fell due."),
    "featurekit_trigger_waiting_occasions": (_OF, "Occasions from outside that wait."),
}
_SECONDS = "featurekit_trigger_action_seconds"
_OPEN = ("due", "asked", "approved", "claimed")


class TriggerMetrics:
    """The metrics of one process that watches. Counters are of what it did itself."""

    def __init__(self, triggers: list[str]) -> None:
        self.registry = CollectorRegistry()
        self._counters = {
            name: Counter(name, about, labels, registry=self.registry)
            for name, (labels, about) in _COUNTERS.items()
        }
        self._gauges = {
            name: Gauge(name, about, labels, registry=self.registry)
            for name, (labels, about) in _GAUGES.items()
        }
        self._seconds = Histogram(
            _SECONDS, "Seconds of an action with its tries.", _OF, buckets=_BUCKETS,
            registry=self.registry,
        )  # fmt: skip
        self._lock, self._counted = threading.Lock(), dict[str, int]()
        for trigger in triggers:  # 0, so that alerts can read them
            for outcome in OUTCOMES:
                self._counters["featurekit_trigger_firings_total"].labels(trigger, outcome)
            for outcome in LOOKS:
                self._counters["featurekit_trigger_looks_total"].labels(trigger, outcome)

    def leads(self, leads: bool) -> None:
        """Say whether this process leads."""
        self._gauges["featurekit_watch_leader"].set(leads)

    def looked(self, trigger: str, outcome: str) -> None:
        """Count a look."""
        self._counters["featurekit_trigger_looks_total"].labels(trigger, outcome).inc()

    def acted(self, trigger: str, seconds: float) -> None:
        """Count an action."""
        self._seconds.labels(trigger).observe(seconds)

    def state(self, trigger: str, state: State) -> None:
        """Show what is known of a trigger. Firings that are over are counted from the first state
        on that is shown."""
        with self._lock:
            newest = state.past[0].number if state.past else 0
            for one in state.past:
                if one.number > self._counted.get(trigger, newest):
                    firings = self._counters["featurekit_trigger_firings_total"]
                    firings.labels(trigger, one.phase).inc()
            self._counted[trigger] = max(newest, self._counted.get(trigger, 0))
            self._set("holds", float(state.holds), trigger)
            self._set("waiting_occasions", len(state.asked), trigger)
            phase = None if state.now is None else state.now.phase
            for known in _OPEN:
                self._set("open", known == phase, trigger, known)
            if state.looked is not None:
                self._set("last_look_timestamp_seconds", state.looked / 1e6, trigger)
            if state.last is not None:
                self._set("last_firing_timestamp_seconds", state.last.at / 1e6, trigger)

    def _set(self, name: str, value: float, *labels: str) -> None:
        self._gauges[f"featurekit_trigger_{name}"].labels(*labels).set(value)

    def text(self) -> bytes:
        """All metrics, as Prometheus reads them, without when each counter was made."""
        lines = generate_latest(self.registry).splitlines(keepends=True)
        return b"".join(line for line in lines if b"_created" not in line)
