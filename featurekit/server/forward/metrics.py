"""Counts what model servers are asked and answer, for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram

if TYPE_CHECKING:
    from featurekit.server.forward.logged import Record

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class PredictionMetrics:
    """The metrics of model servers, in the registry of a worker. Labels are targets that were
    configured, and never what a caller wrote."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "featurekit_http_model_seconds",
            "Seconds for which a model server was waited for.",
            ("target", "role"),
            buckets=_BUCKETS,
            registry=registry,
        )
        self._rows = Counter(
            "featurekit_http_predictions",
            "Rows that a model server predicted.",
            ("target", "role"),
            registry=registry,
        )
        self._errors = Counter(
            "featurekit_http_model_errors",
            "Orders to a model server that failed, by the status that they are answered by.",
            ("target", "status"),
            registry=registry,
        )
        self._left_out = Counter(
            "featurekit_http_shadows_left_out",
            "Requests of which a shadow was not asked, since too many waited for it.",
            ("target",),
            registry=registry,
        )

    def asked(self, record: Record, seconds: float) -> None:
        """Count an order, and what came of it."""
        self._seconds.labels(record.target, record.role).observe(seconds)
        if record.failure is not None:
            self.failed(record.target, str(record.failure.status))
        else:
            self._rows.labels(record.target, record.role).inc(len(record.rows))

    def failed(self, target: str, status: str) -> None:
        """Count an order that failed."""
        self._errors.labels(target, status).inc()

    def left_out(self, target: str) -> None:
        """Count a request of which a shadow was not asked."""
        self._left_out.labels(target).inc()
