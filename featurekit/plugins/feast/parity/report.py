"""What a check of a Feast repo found: the report of parity, with the causes of what differs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from featurekit.core.screen import Screen
from featurekit.errors import FeaturekitError
from featurekit.parity.report import Difference, Report
from featurekit.parity.reports.show import show_report
from featurekit.plugins.feast.parity.causes import CAUSES

_KEPT, _KEPT_ALIKE = 100, 2


@dataclass(slots=True)
class FeastReport(Report):
    """A check of a view or a service of a Feast repo. `causes` counts the values that differ by
    feature and cause, and `failed` is why nothing could be compared, where that is an error."""

    causes: Counter[tuple[str, str]] = field(default_factory=Counter)
    failed: FeaturekitError | None = None

    def keep(self, difference: Difference) -> None:
        """Keep a difference where there is room: some of each feature and cause."""
        alike = sum(
            d.feature == difference.feature and _cause(d) == _cause(difference)
            for d in self.differences
        )
        if len(self.differences) < _KEPT and alike < _KEPT_ALIKE:
            self.differences.append(difference)

    def to_dict(self) -> dict[str, Any]:
        """For `--json`: the report of parity, and for each feature its causes."""
        made = Report.to_dict(self)
        made["causes"] = [
            {"feature": feature, "cause": cause, "values": n, "meaning": CAUSES[cause]}
            for (feature, cause), n in sorted(self.causes.items())
        ]
        return made


def _cause(difference: Difference) -> str:
    return "" if difference.diagnosis is None else difference.diagnosis.cause


def show_feast_report(screen: Screen, report: Report) -> None:
    """The counts of a check, an example of each cause, and how often each was found."""
    examples: dict[str, Difference] = {}
    for difference in report.differences:
        examples.setdefault(_cause(difference), difference)
    show_report(screen, replace(report, differences=list(examples.values())))
    if isinstance(report, FeastReport) and report.causes:
        screen.table(
            ("feature", "cause", "values"),
            [(feature, cause, n) for (feature, cause), n in sorted(report.causes.items())],
        )
        screen.line()
