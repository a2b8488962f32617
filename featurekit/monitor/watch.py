"""Turns repeated checks of a live store into metrics, calls of a webhook, and an end at the first
skew."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from featurekit.core.screen import plain
from featurekit.errors import FeaturekitError, FingerprintMismatch
from featurekit.parity.budget import Budget
from featurekit.parity.modes.sample import LiveCheck
from featurekit.parity.report import Report

if TYPE_CHECKING:
    from featurekit.monitor.metrics import Metrics

_WEBHOOK_S = 10.0


@dataclass(frozen=True, slots=True)
class Watch:
    """Repeated checks of some services, and what is done with their results.

    A round begins every `every` seconds, or at once where the last one took longer. `warn` is told
    of failures that do not end the watch: of a webhook, or a Redis that cannot be reached for a
    while.
    """

    checks: Sequence[LiveCheck]
    budget: Budget
    every: float
    metrics: Metrics | None
    metrics_file: Path | None
    webhook: str | None
    keep_going: bool
    warn: Callable[[str], None]

    def run(self, show: Callable[[list[Report]], None], stop: threading.Event) -> bool:
        """Check until `stop` is set, or until the first skew unless it was told to keep going;
        whether there was no skew.

        FingerprintMismatch (R6) is raised, since it does not go away.
        """
        agree = True
        while not stop.is_set():
            began = time.monotonic()
            reports = self._round(stop)
            fine = self.take(reports)  # first, so that readers of a round find its metrics
            show(reports)
            if not fine:
                agree = False
                if not self.keep_going:
                    break
            stop.wait(max(0.0, self.every - (time.monotonic() - began)))
        return agree

    def take(self, reports: list[Report]) -> bool:
        """Add a round to the metrics, and send a skew to the webhook; whether there was no skew."""
        if self.metrics is not None:
            for report in reports:
                self.metrics.take(report)
            self._write(self.metrics)
        differing = [report for report in reports if report.differing]
        if differing:
            self._tell(differing)
        return not differing

    def _round(self, stop: threading.Event) -> list[Report]:
        reports = []
        for check in self.checks:
            if stop.is_set():
                break
            try:
                report = check.run(self.budget, stop=stop)
            except FingerprintMismatch:
                raise
            except FeaturekitError as error:
                if self.metrics is not None:
                    self.metrics.failed(check.name)
                self.warn(f"service {check.name!r} could not be checked: {error}")
                continue
            reports.append(report)
        return reports

    def _write(self, metrics: Metrics) -> None:
        if self.metrics_file is None:
            return
        try:
            metrics.write(self.metrics_file)
        except OSError as error:
            self.warn(f"the metrics could not be written: {error}")

    def _tell(self, reports: list[Report]) -> None:
        if self.webhook is None:
            return
        found = plain({"ok": False, "services": [report.to_dict() for report in reports]})
        request = urllib.request.Request(
            self.webhook,
            data=json.dumps(found, allow_nan=False).encode(),
            headers={"Content-Type": "application/json", "User-Agent": "featurekit"},
            method="POST",
        )
        try:
            with urllib.request.urlopen(request, timeout=_WEBHOOK_S):
                pass
        except (OSError, urllib.error.URLError, ValueError) as error:
            self.warn(f"the webhook could not be told: {error}")
