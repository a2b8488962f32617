"""Turns drift into metrics for Prometheus: text, version 0.0.4, of the last comparison."""

from __future__ import annotations

import time
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from featurekit.errors import ConfigError
from featurekit.monitor.drift.report import Drift

_FIGURE = ("service", "feature", "measure")
GAUGES = {
    "featurekit_drift_figure": (_FIGURE, "How far a feature lies from its reference."),
    "featurekit_drift_threshold": (_FIGURE, "What a figure passes where the feature drifts."),
    "featurekit_drift_drifting": (
        ("service", "feature"),
        "1 where the feature drifts from its reference, else 0.",
    ),
    "featurekit_drift_rows": (
        ("service", "side"),
        "Rows that were compared: served in the window, or of the reference.",
    ),
    "featurekit_drift_window_end_timestamp_seconds": (
        ("service",),
        "When the window ended that was compared last.",
    ),
    "featurekit_drift_last_check_timestamp_seconds": (("service",), "When drift was last checked."),
}


def drift_metrics(found: Drift) -> CollectorRegistry:
    """The metrics of a comparison; a figure without a threshold has none."""
    registry = CollectorRegistry()
    gauges = {
        name: Gauge(name, about, labels, registry=registry)
        for name, (labels, about) in GAUGES.items()
    }

    def put(name: str, value: float, *labels: str) -> None:
        gauges[f"featurekit_drift_{name}"].labels(found.service, *labels).set(value)

    drifting = set(found.drifting)
    for figure in found.figures:
        named = figure.feature, figure.measure
        put("figure", figure.value, *named)
        if figure.threshold is not None:
            put("threshold", figure.threshold, *named)
    for feature in dict.fromkeys([*(f.feature for f in found.figures), *found.lacking]):
        put("drifting", feature in drifting, feature)
    put("rows", found.rows, "served")
    put("rows", found.reference_rows, "reference")
    put("window_end_timestamp_seconds", found.end.timestamp())
    put("last_check_timestamp_seconds", time.time())
    return registry


def write_metrics(path: Path, found: Drift) -> None:
    """Write the metrics of a comparison for the textfile collector of node_exporter, whole or not
    at all. ConfigError where the file cannot be written."""
    try:
        write_to_textfile(str(path), drift_metrics(found))
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error}") from error
