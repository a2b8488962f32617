"""Shows a parity report to people."""

from __future__ import annotations

from featurekit.parity.report import Report
from featurekit.screen import Screen

_STATUSES = ("PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE", "ERROR")


def show_report(screen: Screen, report: Report) -> None:
    """The counts of a parity check, and the first pair that differs."""
    screen.line(f"{report.service}, seed {report.seed}", style="bold")
    found = {s for f in report.features.values() for s in f.statuses}
    statuses = [s for s in _STATUSES if s in found] + sorted(found - {*_STATUSES})
    screen.table(
        ("feature", "compared", "differ", *(s.replace("_", " ") for s in statuses)),
        [
            (name, f.compared, f.differing, *(f.statuses[s] for s in statuses))
            for name, f in report.features.items()
        ],
    )
    verdict = "every bit agrees" if report.ok else f"{report.differing} differ"
    screen.line(
        f"{report.compared} values over {report.rows} rows in {report.seconds:.1f} s: {verdict}\n",
        style="green" if report.ok else "bold red",
    )
    if report.differences:
        first = report.differences[0].to_dict()
        screen.line(f"First difference: {first['feature']} as of {first['as_of']}", style="bold")
        for path in ("offline", "online"):
            screen.line(f"  {path:8} {first[path]['value']}  {first[path]['status']}")
        screen.line("  row      " + ", ".join(f"{k} = {v}" for k, v in first["row"].items()) + "\n")
