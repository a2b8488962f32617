"""Checks a live store again and again: metrics, a webhook, and an end at the first skew."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from featurekit.core.screen import plain
from featurekit.errors import FeaturekitError, FingerprintMismatch
from featurekit.monitor.metrics import Metrics
from featurekit.parity.budget import Budget
from featurekit.parity.modes.sample import LiveCheck
from featurekit.parity.report import Report

_WEBHOOK_S = 10.0


@dataclass(frozen=True, slots=True)
class Watch:
    """Checks of some services, a round every `every` seconds, or one after the other where a round
    takes longer. `warn` is told what failed and is no reason to end: a webhook, or a Redis that is
    away for a while."""

    checks: Sequence[LiveCheck]
    budget: Budget
    every: float
    metrics: Metrics
    metrics_file: Path | None
    webhook: str | None
    keep_going: bool
    warn: Callable[[str], None]

    def run(self, show: Callable[[list[Report]], None], stop: threading.Event) -> bool:
        """Go on until `stop` is set, or until the first skew unless told to keep going; whether
        there was none. FingerprintMismatch (R6) ends it, too: it does not go away."""
        agree = True
        while not stop.is_set():
            began = time.monotonic()
            reports = self._round(stop)
            fine = self.take(reports)  # first: who reads of a round finds it in the metrics
            show(reports)
            if not fine:
                agree = False
                if not self.keep_going:
                    break
            stop.wait(max(0.0, self.every - (time.monotonic() - began)))
        return agree

    def take(self, reports: list[Report]) -> bool:
        """Bring a round into the metrics, and a skew to the webhook; whether there was none."""
        for report in reports:
            self.metrics.take(report)
        if self.metrics_file is not None:
            try:
                self.metrics.write(self.metrics_file)
            except OSError as error:
                self.warn(f"the metrics could not be written: {error}")
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
                self.metrics.failed(check.name)
                self.warn(f"service {check.name!r} could not be checked: {error}")
                continue
            reports.append(report)
        return reports

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
