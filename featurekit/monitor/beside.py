"""Runs `featurekit consume` and `featurekit materialize` for a process that watches, by turns.

Each is a process of its own, which ends with the one that started it. Where one side is too far
behind, the other one waits: materialize does not begin while a stream is behind, and consumers wait
for a run of materialize that is overdue. They have a turn of their own after each such run.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge

from featurekit.core.durations import duration_us
from featurekit.core.leash import Leashed
from featurekit.errors import FeaturekitError
from featurekit.project.trigger_settings import WatchConfig

MATERIALIZE = "materialize"
_POLL_S, _LOOK_S = 0.2, 1.0
_BACK_OFF_S, _MOST_BACK_OFF_S, _STEADY_S = 1.0, 60.0, 60.0
_TURN_S = 10.0
"""How long consumers go on at least after they have waited: they start anew then."""
_STDERR = 2

_GAUGES = {
    "featurekit_watch_task_running": (("task",), "1 where the task's process runs, else 0."),
    "featurekit_watch_task_waits": (("task",), "1 where the task waits for the other side."),
    "featurekit_consume_lag_seconds": (
        ("source",),
        "Age of the oldest entry of the stream that is not taken; 0 where there is none.",
    ),
    "featurekit_consume_waiting_entries": (
        ("source",),
        "Entries of the stream that are not taken.",
    ),
    "featurekit_watch_materialize_lag_seconds": (
        (),
        "How far behind the view is that is filled up to the earliest instant.",
    ),
    "featurekit_view_materialized_timestamp_seconds": (
        ("view",),
        "The instant up to which a view is filled.",
    ),
}
_COUNTERS = {
    "featurekit_watch_task_runs_total": (
        ("task", "outcome"),
        "Processes of a task that ended by themselves, by their outcome: done or failed.",
    ),
}


@dataclass(frozen=True, slots=True)
class Turns:
    """Who may run: consumers, and a new run of materialize."""

    consume: bool
    materialize: bool


def turns(
    lags: Mapping[str, float],
    limits: Mapping[str, float],
    behind_s: float | None,
    limit_s: float | None,
    *,
    due: bool,
    running: bool,
    held: bool = False,
) -> Turns:
    """Whose turn it is. `lags` are the seconds that streams are behind and `limits` what is too
    much; `behind_s` and `limit_s` are those of materialize, which is `due` or `running`. `held`
    says whether consumers have waited just before.

    An overdue run of materialize comes first: it ends, and a stream does not. After it consumers
    have a turn, in which they wait for nobody. A run that is under way is never held up.
    """
    overdue = behind_s is not None and limit_s is not None and behind_s > limit_s
    if overdue and not held and (due or running):
        return Turns(consume=False, materialize=True)
    late = any(lag > limits[source] for source, lag in lags.items() if source in limits)
    return Turns(consume=True, materialize=not late)


@dataclass(slots=True)
class Task:
    """A command that is run again and again: with a pause that grows while it fails, up to a
    minute, and from its beginning again once it ran for a minute."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    warn: Callable[[str], None]
    process: Leashed | None = None
    failed: int = 0
    begun: float = 0.0
    rest_until: float = 0.0

    @property
    def rests(self) -> bool:
        """Whether it waits after a failure."""
        return time.monotonic() < self.rest_until

    def start(self) -> None:
        """Start the command."""
        self.begun = time.monotonic()
        self.process = Leashed(self.command, cwd=Path.cwd(), env=self.env, output=_STDERR)

    def ended(self) -> str | None:
        """How it ended by itself since the last call: done or failed; None where it did not."""
        if self.process is None:
            return None
        code = self.process.wait(0.0)
        if code is None:
            if self.failed and time.monotonic() - self.begun > _STEADY_S:
                self.failed = 0
            return None
        self.process = None
        if code == 0:
            self.failed = 0
            return "done"
        pause_s = min(_BACK_OFF_S * 2**self.failed, _MOST_BACK_OFF_S)
        self.failed += 1
        self.rest_until = time.monotonic() + pause_s
        self.warn(f"{self.name} ended with {code}; it is started again in {pause_s:g} s")
        return "failed"

    def end(self) -> None:
        """End it, and wait for that."""
        if self.process is not None:
            self.process.end()
            self.process = None


class BesideMetrics:
    """The metrics of what runs beside triggers, in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._gauges = {
            name: Gauge(name, about, labels, registry=registry)
            for name, (labels, about) in _GAUGES.items()
        }
        self._counters = {
            name: Counter(name, about, labels, registry=registry)
            for name, (labels, about) in _COUNTERS.items()
        }

    def set(self, name: str, value: float, *labels: str) -> None:
        """Set a gauge, by its name without featurekit_."""
        gauge = self._gauges[f"featurekit_{name}"]
        (gauge.labels(*labels) if labels else gauge).set(value)

    def ended(self, task: str, outcome: str) -> None:
        """Count a process that ended by itself."""
        self._counters["featurekit_watch_task_runs_total"].labels(task, outcome).inc()


@dataclass(frozen=True, slots=True)
class Lags:
    """What is known of how far either side is behind: by source, how many entries of its stream
    wait, None where that is not told, and since how many seconds; and up to when views are filled,
    in seconds since the epoch, at the instant `now`."""

    streams: Mapping[str, tuple[int | None, float]]
    filled: Mapping[str, float]
    now: float

    @property
    def behind_s(self) -> float | None:
        """How far behind the earliest view is; None where none is filled."""
        return max(0.0, self.now - min(self.filled.values())) if self.filled else None


@dataclass(slots=True)
class Beside:
    """What `featurekit: watch:` configures, as it runs. `lags` looks at both sides."""

    config: WatchConfig
    repo: Path
    lags: Callable[[], Lags]
    metrics: BesideMetrics
    warn: Callable[[str], None]
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    _said: str = ""
    _turn_until: float = 0.0
    """The end of the consumers' turn, after they have waited."""
    _held: bool = False

    def run(self, stop: threading.Event) -> None:
        """Run the tasks until `stop` is set, and end them."""
        consumers = {source: self._task(f"consume {source}", *self._consume(source))
                     for source in self.config.consume}  # fmt: skip
        material = self.config.materialize
        filling = None
        if material is not None:
            views = [word for view in material.views for word in ("--view", view)]
            filling = self._task(MATERIALIZE, MATERIALIZE, "--incremental", *views)
        try:
            next_look, found = 0.0, Lags({}, {}, 0.0)
            while not stop.wait(_POLL_S):
                if time.monotonic() >= next_look:
                    found = self._look(found)
                    next_look = time.monotonic() + _LOOK_S
                self._step(consumers, filling, found)
        finally:
            for task in [*consumers.values(), *([filling] if filling else [])]:
                task.end()
                self._show(task, waits=False)

    def _consume(self, source: str) -> tuple[str, ...]:
        # Its other options are read from the settings by the verb: a URL may hold a password.
        return "consume", source, "--name", f"{socket.gethostname()}-watch"

    def _task(self, name: str, *words: str) -> Task:
        command = [sys.executable, "-m", "featurekit.cli", "--repo", str(self.repo), *words]
        return Task(name, command, self.env, self.warn)

    def _look(self, before: Lags) -> Lags:
        """How far both sides are behind; what was known before, where nobody can be asked."""
        try:
            found, self._said = self.lags(), ""
        except FeaturekitError as error:
            if str(error) != self._said:
                self._said = str(error)
                self.warn(self._said)
            return before
        for source, (entries, lag_s) in found.streams.items():
            self.metrics.set("consume_lag_seconds", lag_s, source)
            if entries is not None:
                self.metrics.set("consume_waiting_entries", entries, source)
        for view, until in found.filled.items():
            self.metrics.set("view_materialized_timestamp_seconds", until, view)
        if found.behind_s is not None:
            self.metrics.set("watch_materialize_lag_seconds", found.behind_s)
        return found

    def _step(self, consumers: Mapping[str, Task], filling: Task | None, found: Lags) -> None:
        for task in [*consumers.values(), *([filling] if filling else [])]:
            outcome = task.ended()
            if outcome is not None:
                self.metrics.ended(task.name, outcome)
                if task is filling and self._held:
                    took_s = time.monotonic() - task.begun
                    self._turn_until = time.monotonic() + max(_TURN_S, took_s)
        running = filling is not None and filling.process is not None
        due = filling is not None and not running and self._is_due(filling)
        turn = turns(
            {source: lag for source, (_, lag) in found.streams.items()},
            {s: _seconds(c.lag) for s, c in self.config.consume.items() if c.lag is not None},
            found.behind_s,
            self._limit_s,
            due=due,
            running=running,
            held=time.monotonic() < self._turn_until,
        )
        self._held = not turn.consume
        if filling is not None and due and turn.materialize:
            filling.start()
        for task in consumers.values():
            if not turn.consume and task.process is not None:
                task.end()
            elif turn.consume and task.process is None and not task.rests:
                task.start()
            self._show(task, waits=not turn.consume)
        if filling is not None:
            self._show(filling, waits=due and not turn.materialize)

    @property
    def _limit_s(self) -> float | None:
        material = self.config.materialize
        return None if material is None or material.lag is None else _seconds(material.lag)

    def _is_due(self, filling: Task) -> bool:
        assert self.config.materialize is not None
        if filling.failed:
            return not filling.rests
        every_s = _seconds(self.config.materialize.every)
        return not filling.begun or time.monotonic() - filling.begun >= every_s

    def _show(self, task: Task, *, waits: bool) -> None:
        self.metrics.set("watch_task_running", task.process is not None, task.name)
        self.metrics.set("watch_task_waits", waits, task.name)


def _seconds(duration: str) -> float:
    return duration_us(duration, what="") / 1e6
