"""What parity checks of a live store found, as Prometheus reads it: text exposition, version 0.0.4.

Counters add up over the life of the process, gauges are those of the last check.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from featurekit.errors import ConfigError
from featurekit.parity.report import Report

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_METRICS = {
    "featurekit_parity_compared_values_total": ("counter", "Values compared online with offline."),
    "featurekit_parity_differing_values_total": ("counter", "Values that differ: skew."),
    "featurekit_parity_lagging_values_total": (
        "counter",
        "Values that differ only because events are not online yet.",
    ),
    "featurekit_parity_unchecked_rows_total": ("counter", "Rows that could not be compared."),
    "featurekit_parity_checks_total": (
        "counter",
        "Checks by their outcome: agrees, differs or failed.",
    ),
    "featurekit_parity_last_success_timestamp_seconds": (
        "gauge",
        "When a check last ended without skew.",
    ),
    "featurekit_parity_last_check_timestamp_seconds": ("gauge", "When a check last ended."),
    "featurekit_parity_check_duration_seconds": ("gauge", "How long the last check took."),
    "featurekit_parity_lag_seconds": (
        "gauge",
        "Age of the oldest event that a value lagged for; 0 where none did.",
    ),
    "featurekit_feature_freshness_seconds": (
        "gauge",
        "Age of the newest event that the states of a feature have taken.",
    ),
    "featurekit_feature_null_ratio": ("gauge", "The share of values that are None."),
}


class Metrics:
    """The metrics of one process; `take` may be called while others are read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}

    def take(self, report: Report) -> None:
        """Add a check's counts, and show what it found last."""
        now = time.time()
        name = report.service
        with self._lock:
            outcome = "differs" if report.differing else "agrees" if report.compared else "failed"
            self._outcome(name, outcome)
            self._add("featurekit_parity_unchecked_rows_total", sum(report.unchecked.values()),
                      service=name)  # fmt: skip
            self._set("featurekit_parity_last_check_timestamp_seconds", now, service=name)
            self._set("featurekit_parity_check_duration_seconds", report.seconds, service=name)
            if report.ok:
                self._set("featurekit_parity_last_success_timestamp_seconds", now, service=name)
            for feature, found in report.features.items():
                labels = {"service": name, "feature": feature}
                for what in ("compared", "differing", "lagging"):
                    counter = f"featurekit_parity_{what}_values_total"
                    self._add(counter, getattr(found, what), **labels)
                lag = (found.lag_us or 0) / 1e6
                self._set("featurekit_parity_lag_seconds", lag, **labels)
                if found.fresh_us is not None:
                    fresh = found.fresh_us / 1e6
                    self._set("featurekit_feature_freshness_seconds", fresh, **labels)
                if found.compared:
                    ratio = found.nulls / found.compared
                    self._set("featurekit_feature_null_ratio", ratio, **labels)

    def failed(self, service: str) -> None:
        """Count a check that could not be made."""
        with self._lock:
            self._outcome(service, "failed")

    def _outcome(self, service: str, outcome: str) -> None:
        for known in ("agrees", "differs", "failed"):
            self._add(
                "featurekit_parity_checks_total", known == outcome, service=service, outcome=known
            )

    def _add(self, metric: str, value: float, **labels: str) -> None:
        found = self._values.setdefault(metric, {})
        key = tuple(labels.items())
        found[key] = found.get(key, 0) + value

    def _set(self, metric: str, value: float, **labels: str) -> None:
        self._values.setdefault(metric, {})[tuple(labels.items())] = value

    def text(self) -> str:
        """All metrics as Prometheus reads them."""
        lines = []
        with self._lock:
            for metric, (kind, about) in _METRICS.items():
                lines += [f"# HELP {metric} {about}", f"# TYPE {metric} {kind}"]
                for labels, value in sorted(self._values.get(metric, {}).items()):
                    shown = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels)
                    lines.append(f"{metric}{{{shown}}} {_number(value)}")
        return "\n".join(lines) + "\n"

    def write(self, path: Path) -> None:
        """Write them for node_exporter's textfile collector: beside the name, and renamed."""
        hidden = path.with_name(f".{path.name}.{os.getpid()}")
        hidden.write_text(self.text(), encoding="utf-8")
        hidden.replace(path)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))


@contextmanager
def served(metrics: Metrics, host: str, port: int) -> Iterator[int]:
    """Answer GET /metrics while the block runs; the port, which is another one where `port` is 0.

    ConfigError where the port cannot be had.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path.split("?")[0] == "/metrics"
            body = metrics.text().encode() if found else b"featurekit: see /metrics\n"
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", CONTENT_TYPE if found else "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Scrapes are no news."""

    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        raise ConfigError(f"metrics cannot be served at {host}:{port}: {error}") from None
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
