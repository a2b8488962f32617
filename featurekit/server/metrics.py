"""Counts requests for Prometheus: how long they took, what they gave, and why they failed.

Labels are names of routes, of services that are served, of statuses and of errors, and never what a
caller wrote. Where several workers run, each writes to files of one folder, of which a scrape of
any worker makes the sum.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter as Counts
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from featurekit.core.status import PRESENT
from featurekit.errors import FeaturekitError
from featurekit.online.lookup.result import OnlineResult, all_present, shape_of
from featurekit.online.store.connections import PoolWaits
from featurekit.project.freshness import Freshness
from featurekit.server.counted import summed
from featurekit.server.settings import FOLDER_VARIABLE

if TYPE_CHECKING:
    from featurekit.feed.events import Pushed

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4.encode()
_FRESH_S = 2.0
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


_LAGS = (0.1, 1.0, 10.0, 60.0, 300.0, 1800.0, 3600.0, 6 * 3600.0, 86400.0)


class PushMetrics:
    """The metrics of the process that pushes. A source is named that has taken a push."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._pushes = Counter(
            "featurekit_http_pushes",
            "Pushes that were taken, and those that came again with their key.",
            ("source", "result"),
            registry=registry,
        )
        self._rows = Counter(
            "featurekit_http_push_rows",
            "Rows that were pushed, by what became of them.",
            ("source", "result"),
            registry=registry,
        )
        self._seconds = Histogram(
            "featurekit_http_push_seconds",
            "Seconds that pushes waited for a thread, and that they took.",
            ("source", "part"),
            buckets=_BUCKETS,
            registry=registry,
        )
        self._broken = Counter(
            "featurekit_http_push_rows_breaking",
            "Rows of pushes that break a rule of their source's contract, by the rule.",
            ("source", "rule"),
            registry=registry,
        )
        self._lag = Histogram(
            "featurekit_http_push_lag_seconds",
            "Seconds from the newest event of a push to its arrival.",
            ("source",),
            buckets=_LAGS,
            registry=registry,
        )
        self._waiting = Gauge(
            "featurekit_http_pushes_waiting",
            "Pushes that are not answered yet.",
            multiprocess_mode="livemostrecent",
            registry=registry,
        )

    def waiting(self, number: int) -> None:
        """Say how many pushes are not answered yet."""
        self._waiting.set(number)

    def took(
        self, source: str, pushed: Pushed, again: bool, waited_s: float, took_s: float
    ) -> None:
        """Count a push that was answered; `again` where an earlier one was taken."""
        self._pushes.labels(source, "again" if again else "taken").inc()
        self._seconds.labels(source, "waited").observe(waited_s)
        self._seconds.labels(source, "took").observe(took_s)
        if again:
            return
        left_out = {
            "repeated": pushed.repeated,
            "quarantined": pushed.quarantined,
            "forgotten": pushed.forgotten,
        }
        counts = {"taken": pushed.rows - pushed.repeated, **left_out}
        for result, count in counts.items():
            self._rows.labels(source, result).inc(count)
        for rule, count in pushed.broken.items():
            self._broken.labels(source, rule).inc(count)
        if pushed.newest is not None and pushed.arrived is not None:
            self._lag.labels(source).observe((pushed.arrived - pushed.newest).total_seconds())


class Metrics:
    """The metrics of one worker. `fresh` looks at the store when the metrics are read; where it
    cannot be asked, what it said last stays, and `featurekit_online_store_up` is 0. `waits` are
    those of the worker's lookups."""

    def __init__(
        self,
        fresh: Callable[[], Freshness] | None = None,
        waits: PoolWaits | None = None,
    ) -> None:
        self._fresh, self._waits = fresh, waits
        self._looking, self._looked = threading.Lock(), float("-inf")
        self._waited = PoolWaits()
        self.registry = registry = CollectorRegistry()
        self._seconds = Histogram(
            "featurekit_http_request_seconds",
            "Seconds from a request's head to its answer.",
            ("service", "route"),
            buckets=_BUCKETS,
            registry=registry,
        )
        self._rows = Counter(
            "featurekit_http_rows", "Rows that were answered.", ("service",), registry=registry
        )
        self._values = Counter(
            "featurekit_http_values",
            "Values that were answered, by their status.",
            ("service", "status"),
            registry=registry,
        )
        self._errors = Counter(
            "featurekit_http_errors",
            "Requests that were answered by an error, by its kind.",
            ("route", "kind"),
            registry=registry,
        )
        self._of_store(registry)
        self._children: dict[tuple[Any, ...], Any] = {}  # to look one up takes a microsecond

    def _of_store(self, registry: CollectorRegistry) -> None:
        """The metrics of the online store, of which the worker that looked last knows best."""
        self._up = Gauge(
            "featurekit_online_store_up",
            "Whether the online store answered when it was last asked for these metrics.",
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self._filled = Gauge(
            "featurekit_view_materialized_timestamp_seconds",
            "The instant up to which a view is filled.",
            ("view",),
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self._pushing = Gauge(
            "featurekit_push_lag_seconds",
            "Age of the oldest push that is under way; 0 where there is none.",
            ("source",),
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self._pool_waits = Counter(
            "featurekit_pool_waits",
            "Lookups that found all connections to the online store in use.",
            registry=registry,
        )
        self._pool_seconds = Counter(
            "featurekit_pool_wait_seconds",
            "Seconds for which lookups have waited for a connection.",
            registry=registry,
        )

    def _look(self) -> None:
        """Ask the store, unless that was done a moment ago."""
        with self._looking:
            if self._fresh is None or time.monotonic() - self._looked < _FRESH_S:
                return
            self._looked = time.monotonic()
            try:
                found = self._fresh()
            except FeaturekitError:
                self._up.set(0)
                return
            self._up.set(1)
            for view, until in found.filled.items():
                self._filled.labels(view).set(until / 1e6)
            for source, age in found.pushing.items():
                self._pushing.labels(source).set(age / 1e6)

    def _count_waits(self) -> None:
        """Count the waits since the last time."""
        if self._waits is None or self._waits.number == self._waited.number:
            return
        with self._looking:
            now, before = replace(self._waits), self._waited
            self._pool_waits.inc(now.number - before.number)
            self._pool_seconds.inc(now.seconds - before.seconds)
            self._waited = now

    def _of(self, metric: Any, *labels: str) -> Any:
        key = (metric, *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*labels)
        return child

    def took(self, route: str, service: str, seconds: float) -> None:
        """Count a request of a route; `service` is empty where none answered."""
        self._of(self._seconds, service, route).observe(seconds)
        self._count_waits()

    def answered(self, service: str, result: OnlineResult) -> None:
        """Count the rows and values of an answer."""
        rows = len(result)
        self._of(self._rows, service).inc(rows)
        if all_present(result):
            self._of(self._values, service, PRESENT).inc(rows * len(shape_of(result).features))
            return
        counts: Counts[str] = Counts()
        for statuses in result.status.values():
            counts.update(statuses)
        for status, count in counts.items():
            self._of(self._values, service, status).inc(count)

    def failed(self, route: str, kind: str) -> None:
        """Count an error."""
        self._of(self._errors, route, kind).inc()

    def text(self) -> bytes:
        """All metrics, as Prometheus reads them; of all workers where there are several. It may ask
        the store, and blocks meanwhile."""
        self._look()
        self._count_waits()
        folder = os.environ.get(FOLDER_VARIABLE)
        if folder:
            return summed(folder)
        return generate_latest(self.registry)
