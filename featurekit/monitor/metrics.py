"""Turns the results of checks of a live store into metrics for Prometheus: text, version 0.0.4.

Counters add up over the life of the process; gauges show the last check.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Metric,
    generate_latest,
    write_to_textfile,
)
from prometheus_client.registry import Collector

from featurekit.monitor.answers import Answer, Asked, answering
from featurekit.parity.report import Report

_SERVICE = ("service",)
_FEATURE = ("service", "feature")
_OUTCOMES = ("agrees", "differs", "failed")
_COUNTERS = {
    "featurekit_parity_compared_values_total": (_FEATURE, "Values compared online with offline."),
    "featurekit_parity_differing_values_total": (_FEATURE, "Values that differ: skew."),
    "featurekit_parity_lagging_values_total": (
        _FEATURE,
        "Values that differ only because events are not online yet.",
    ),
    "featurekit_parity_unchecked_rows_total": (_SERVICE, "Rows that could not be compared."),
    "featurekit_parity_checks_total": (
        ("service", "outcome"),
        "Checks by their outcome: agrees, differs or failed.",
    ),
}
_GAUGES = {
    "featurekit_parity_last_success_timestamp_seconds": (
        _SERVICE,
        "When a check last ended without skew.",
    ),
    "featurekit_parity_last_check_timestamp_seconds": (_SERVICE, "When a check last ended."),
    "featurekit_parity_check_duration_seconds": (_SERVICE, "How long the last check took."),
    "featurekit_parity_lag_seconds": (
        _FEATURE,
        "Age of the oldest event that a value lagged for; 0 where none did.",
    ),
    "featurekit_feature_freshness_seconds": (
        _FEATURE,
        "Age of the newest event that the states of a feature have taken.",
    ),
    "featurekit_feature_null_ratio": (_FEATURE, "The share of values that are None."),
}


class Metrics(Collector):
    """The metrics of one process. `take` may be called while others read them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._registry = registry = CollectorRegistry()
        self._counters = {
            name: Counter(name, about, labels, registry=registry)
            for name, (labels, about) in _COUNTERS.items()
        }
        self._gauges = {
            name: Gauge(name, about, labels, registry=registry)
            for name, (labels, about) in _GAUGES.items()
        }

    def take(self, report: Report) -> None:
        """Add a check's counts, and show its results as the last ones."""
        now = time.time()
        name = report.service
        with self._lock:
            self._outcome(
                name, "differs" if report.differing else "agrees" if report.compared else "failed"
            )
            unchecked = sum(report.unchecked.values())
            self._add("featurekit_parity_unchecked_rows_total", unchecked, name)
            self._set("featurekit_parity_last_check_timestamp_seconds", now, name)
            self._set("featurekit_parity_check_duration_seconds", report.seconds, name)
            if report.ok:
                self._set("featurekit_parity_last_success_timestamp_seconds", now, name)
            for feature, found in report.features.items():
                for what in ("compared", "differing", "lagging"):
                    counter = f"featurekit_parity_{what}_values_total"
                    self._add(counter, getattr(found, what), name, feature)
                lag = (found.lag_us or 0) / 1e6
                self._set("featurekit_parity_lag_seconds", lag, name, feature)
                if found.fresh_us is not None:
                    fresh = found.fresh_us / 1e6
                    self._set("featurekit_feature_freshness_seconds", fresh, name, feature)
                if found.compared:
                    ratio = found.nulls / found.compared
                    self._set("featurekit_feature_null_ratio", ratio, name, feature)

    def failed(self, service: str) -> None:
        """Count a check that could not be made."""
        with self._lock:
            self._outcome(service, "failed")

    def _outcome(self, service: str, outcome: str) -> None:
        for known in _OUTCOMES:  # the others count 0, so that alerts can read them
            self._add("featurekit_parity_checks_total", known == outcome, service, known)

    def _add(self, metric: str, value: float, *labels: str) -> None:
        self._counters[metric].labels(*labels).inc(value)

    def _set(self, metric: str, value: float, *labels: str) -> None:
        self._gauges[metric].labels(*labels).set(value)

    def collect(self) -> list[Metric]:
        """All metrics, as prometheus_client passes them on. A report is in them as a whole or not
        at all. They leave out when a counter was made, for which the library would add one more
        series for each."""
        with self._lock:
            found = list(self._registry.collect())
        for metric in found:
            metric.samples = [s for s in metric.samples if not s.name.endswith("_created")]
        return found

    def text(self) -> bytes:
        """All metrics, as Prometheus reads them."""
        return generate_latest(self)

    def write(self, path: Path) -> None:
        """Write the metrics for the textfile collector of node_exporter: to a file beside `path`,
        which is then renamed. OSError where that fails."""
        write_to_textfile(str(path), self)


class Text(Protocol):
    """What has metrics."""

    def text(self) -> bytes:
        """All metrics, as Prometheus reads them."""
        ...


@contextmanager
def served(metrics: Text, host: str, port: int) -> Iterator[int]:
    """Answer GET /metrics while the block runs. It gives the port, which is a free one where `port`
    is 0.

    ConfigError where the port cannot be used.
    """

    def answer(asked: Asked) -> Answer:
        if (asked.method, asked.path) == ("GET", "/metrics"):
            return Answer.metrics(metrics.text())
        return Answer(404, b"featurekit: see /metrics\n")

    with answering(answer, host, port, what="metrics") as found:
        yield found
