"""Turns the runs of jobs (push, materialize, consume) into metrics for Prometheus: text, version
0.0.4.

A job that runs once and ends writes them to a file, and goes on from the counts that it finds
there: so counters grow from run to run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    generate_latest,
    write_to_textfile,
)
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from featurekit.errors import ConfigError, FeaturekitError
from featurekit.project.freshness import Freshness

JOBS = ("push", "materialize", "consume")
_OF = ("task", "of")
"""Not `job`, which a Prometheus sets itself to the name of what it scrapes."""
_COUNTERS = {
    "featurekit_job_runs_total": (
        ("task", "outcome"),
        "Runs, or batches of a consumer, by their outcome: done or failed.",
    ),
    "featurekit_job_rows_total": (_OF, "Rows taken, by source; events read, by view."),
    "featurekit_job_entities_total": (_OF, "States of entities that were written."),
    "featurekit_job_set_aside_rows_total": (_OF, "Rows that were set aside, since they are bad."),
    "featurekit_job_erring_rows_total": (_OF, "Rows of which a transform erred."),
    "featurekit_job_errors_total": (
        ("task", "kind"),
        "Runs that ended with an error, by its kind.",
    ),
}
_GAUGES = {
    "featurekit_job_last_run_timestamp_seconds": (("task",), "When a run last ended."),
    "featurekit_job_last_success_timestamp_seconds": (("task",), "When a run last ended well."),
    "featurekit_view_materialized_timestamp_seconds": (
        ("view",),
        "The instant up to which a view is filled.",
    ),
    "featurekit_source_bad_rows": (
        ("source",),
        "Rows of a source's files that are set aside, as the last run that read them has counted.",
    ),
    "featurekit_push_lag_seconds": (
        ("source",),
        "Age of the oldest push that is under way; 0 where there is none.",
    ),
    "featurekit_consume_lag_seconds": (
        ("source",),
        "Age of the oldest entry of the stream that is not taken; 0 where there is none.",
    ),
    "featurekit_consume_waiting_entries": (
        ("source",),
        "Entries of the stream that are not taken.",
    ),
}
_SECONDS = "featurekit_job_seconds"
_BUCKETS = (0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0)
_FILE = "file"
_OUTCOMES = ("done", "failed")
_EVERY_S, _FRESH_S = 15.0, 1.0
_Key = tuple[str, tuple[tuple[str, str], ...]]
"""A series: its name and its labels."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What a run did, of one source or view. `bad_rows` are those of a source's files that are set
    aside now, None where they were not counted."""

    of: str
    rows: int = 0
    entities: int = 0
    set_aside: int = 0
    erring: int = 0
    bad_rows: int | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """What of a source's stream is not taken: how many entries, None where the server does not
    tell, and the age of the oldest one in seconds."""

    source: str
    entries: int | None
    age_s: float


class JobMetrics(Collector):
    """The metrics of a process that runs one job. `fresh` and `waiting` look at the store when the
    metrics are read; where it cannot be asked, the gauges are left out."""

    def __init__(
        self,
        job: str,
        *,
        fresh: Callable[[], Freshness] | None = None,
        waiting: Callable[[], Waiting] | None = None,
    ) -> None:
        assert job in JOBS
        self.job, self._fresh, self._waiting = job, fresh, waiting
        self._lock, self._looked = threading.Lock(), float("-inf")
        self._registry = registry = CollectorRegistry()
        self._counters = {
            name: Counter(name, about, labels, registry=registry)
            for name, (labels, about) in _COUNTERS.items()
        }
        self._gauges = {
            name: Gauge(name, about, labels, registry=registry)
            for name, (labels, about) in _GAUGES.items()
        }
        self._seconds = Histogram(
            _SECONDS, "Seconds of a run, or of a consumer's batch.", ("task",),
            buckets=_BUCKETS, registry=registry,
        )  # fmt: skip
        self._before: dict[_Key, float] = {}
        for outcome in _OUTCOMES:  # 0, so that alerts can read them
            self._add("featurekit_job_runs_total", 0, job, outcome)

    def took(self, counts: Iterable[Counts], seconds: float) -> None:
        """Count a run that ended well."""
        with self._lock:
            for one in counts:
                if one.bad_rows is not None:
                    self._gauges["featurekit_source_bad_rows"].labels(one.of).set(one.bad_rows)
                    continue
                for what in ("rows", "entities", "set_aside", "erring"):
                    whole = f"{what}_rows" if what in ("set_aside", "erring") else what
                    self._add(f"featurekit_job_{whole}_total", getattr(one, what), self.job, one.of)
            self._ended("done", seconds)
            self._now("featurekit_job_last_success_timestamp_seconds")

    def failed(self, error: BaseException, seconds: float) -> None:
        """Count a run that ended with an error."""
        kind = type(error).__name__ if isinstance(error, FeaturekitError) else "InternalError"
        with self._lock:
            self._add("featurekit_job_errors_total", 1, self.job, kind)
            self._ended("failed", seconds)

    def _ended(self, outcome: str, seconds: float) -> None:
        self._add("featurekit_job_runs_total", 1, self.job, outcome)
        self._seconds.labels(self.job).observe(seconds)
        self._now("featurekit_job_last_run_timestamp_seconds")

    def _now(self, gauge: str) -> None:
        self._gauges[gauge].labels(self.job).set_to_current_time()

    def _add(self, metric: str, value: float, *labels: str) -> None:
        self._counters[metric].labels(*labels).inc(value)

    # --- what is read -----------------------------------------------------------------------------

    def _look(self) -> None:
        """Set the gauges of the store anew, unless that was done a moment ago."""
        if time.monotonic() - self._looked < _FRESH_S:
            return
        names = ("view_materialized_timestamp", "push_lag", "consume_lag")
        view, push, consume = (self._gauges[f"featurekit_{name}_seconds"] for name in names)
        entries = self._gauges["featurekit_consume_waiting_entries"]
        for gauge in (view, push, consume, entries):
            gauge.clear()
        try:
            if self._fresh is not None:
                found = self._fresh()
                for name, until in found.filled.items():
                    view.labels(name).set(until / 1e6)
                for source, age in found.pushing.items():
                    push.labels(source).set(age / 1e6)
            if self._waiting is not None:
                left = self._waiting()
                consume.labels(left.source).set(left.age_s)
                if left.entries is not None:
                    entries.labels(left.source).set(left.entries)
        except FeaturekitError:  # what cannot be asked is not known
            pass
        self._looked = time.monotonic()

    def collect(self) -> list[Metric]:
        """All metrics, each run in them as a whole; with the counts of the runs before."""
        with self._lock:
            self._look()
            found = list(self._registry.collect())
        for metric in found:
            metric.samples = [s for s in metric.samples if not s.name.endswith("_created")]
            if metric.type in ("counter", "histogram"):
                self._with_before(metric)
        return found

    def _with_before(self, metric: Metric) -> None:
        """Add what the runs before have counted."""
        own = {_key(s.name, s.labels) for s in metric.samples}
        metric.samples = [
            s._replace(value=s.value + self._before.get(_key(s.name, s.labels), 0.0))
            for s in metric.samples
        ]
        for key, value in self._before.items():
            if key not in own and _of_metric(metric, key[0]):
                metric.add_sample(key[0], dict(key[1]), value)

    def text(self) -> bytes:
        """All metrics, as Prometheus reads them."""
        return generate_latest(self)

    # --- a file -----------------------------------------------------------------------------------

    def go_on_from(self, path: Path) -> None:
        """Add the counts of the runs before, which are in a file that `write` has made. ConfigError
        where another file is there."""
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise ConfigError(f"--metrics-file {path} cannot be read: {reason}") from None
        try:
            families = list(text_string_to_metric_families(text))
        except ValueError:
            families = []
        if text.strip() and not any(f.name.startswith("featurekit_job") for f in families):
            raise ConfigError(
                f"--metrics-file {path} holds something else; name a file of its own, as in "
                f"/var/lib/node_exporter/featurekit_{self.job}.prom"
            )
        for family in families:
            if family.type in ("counter", "histogram") and family.name.startswith("featurekit_job"):
                for sample in family.samples:
                    if sample.labels.get("task") == self.job:
                        labels = {n: v for n, v in sample.labels.items() if n != _FILE}
                        self._before[_key(sample.name, labels)] = sample.value

    def write(self, path: Path) -> None:
        """Write the metrics whole, for the textfile collector of node_exporter: to a file beside
        `path`, which is then renamed. Each has the name of the file as a label, since the collector
        refuses all files where two have one series. ConfigError where that fails."""
        try:
            write_to_textfile(str(path), _Labelled(self, path.stem))
        except OSError as error:
            raise ConfigError(
                f"--metrics-file {path} cannot be written: {error.strerror or error}"
            ) from None

    @contextmanager
    def written(self, path: Path, warn: Callable[[str], None]) -> Iterator[None]:
        """Write the metrics to `path` again and again while the block runs, and at its end."""
        self.go_on_from(path)
        self.write(path)  # an error now, and not after the work
        over = threading.Event()

        def again() -> None:
            while not over.wait(_EVERY_S):
                try:
                    self.write(path)
                except ConfigError as error:
                    warn(str(error))

        thread = threading.Thread(target=again, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self._looked = float("-inf")
            try:
                self.write(path)
            except ConfigError as error:
                warn(str(error))


class _Labelled(Collector):
    """Metrics with the name of their file as a label."""

    def __init__(self, metrics: Collector, file: str) -> None:
        self._metrics, self._file = metrics, file

    def collect(self) -> Iterator[Metric]:
        for metric in self._metrics.collect():
            metric.samples = [
                sample._replace(labels={**sample.labels, _FILE: self._file})
                for sample in metric.samples
            ]
            yield metric


def _of_metric(metric: Metric, sample: str) -> bool:
    suffixes = ("_total",) if metric.type == "counter" else ("_bucket", "_count", "_sum")
    return any(sample == metric.name + suffix for suffix in suffixes)


def _key(name: str, labels: Mapping[str, str]) -> _Key:
    return name, tuple(sorted(labels.items()))
