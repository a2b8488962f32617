"""Shows a parity report to people."""

from __future__ import annotations

from collections.abc import Sequence

from featurekit.core.screen import Screen
from featurekit.parity.modes.exhaust.exhaust import SpaceReport
from featurekit.parity.modes.operators import OperatorsReport
from featurekit.parity.report import Difference, Report

_STATUSES = ("PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE", "ERROR")


def show_report(screen: Screen, report: Report) -> None:
    """The counts of a parity check, and the first pair that differs."""
    screen.line(f"{report.service}, {report.mode}, seed {report.seed}", style="bold")
    found = {s for f in report.features.values() for s in f.statuses}
    statuses = [s for s in _STATUSES if s in found] + sorted(found - {*_STATUSES})
    live = report.mode in ("sample", "replay")
    screen.table(
        (
            *("feature", "compared", "differ"),
            *(("lag", "for up to") if live else ()),
            *(s.replace("_", " ") for s in statuses),
        ),
        [
            (
                *(name, f.compared, f.differing),
                *((f.lagging, _age(f.lag_us)) if live else ()),
                *(f.statuses[s] for s in statuses),
            )
            for name, f in report.features.items()
        ],
    )
    for note in report.notes:
        screen.line(f"Note: {note}")
    for reason, rows in sorted(report.unchecked.items()):
        screen.line(f"Not checked: {rows} {reason}", style="bold")
    for opinion, number in sorted(report.opinions.items()):
        screen.line(f"Third opinion: {number} {opinion}")
    verdict = "every bit agrees" if report.ok else f"{report.differing} differ"
    if not report.compared:
        verdict = "nothing could be compared"
    elif report.lagging:
        verdict += f"; {report.lagging} lag, since their events are not online yet"
    screen.line(
        f"{report.compared} values over {report.rows} rows in {report.seconds:.1f} s: {verdict}\n",
        style="green" if report.ok else "bold red",
    )
    if report.differences:
        diagnosed = [d for d in report.differences if d.diagnosis is not None]
        for difference in diagnosed or report.differences[:1]:
            screen.line(difference_text(difference) + "\n")


def difference_text(difference: Difference) -> str:
    """A pair that differs: with its diagnosis and the case that reproduces it, or by its values."""
    if difference.diagnosis is not None:
        text, case = difference.diagnosis.text(), difference.diagnosis.case
        indented = "".join(f"    {line}\n" for line in case.splitlines())
        return f"{text}\n  a test that reproduces it:\n\n{indented}" if case else text
    shown = difference.to_dict()
    lines = [f"First difference: {shown['feature']} as of {shown['as_of']}"]
    lines += [
        f"  {path:8} {shown[path]['value']}  {shown[path]['status']}"
        for path in ("offline", "online")
    ]
    return "\n".join(
        [*lines, "  row      " + ", ".join(f"{k} = {v}" for k, v in shown["row"].items())]
    )


def _age(us: int | None) -> str | None:
    return None if us is None else f"{us / 1e6:.1f} s"


def show_operators(screen: Screen, report: OperatorsReport) -> None:
    """A line for each row of the operator table and each aggregate, and what differs."""
    found = report.to_dict()
    rows = {**found["operators"], **found["aggregates"]}
    screen.table(
        ("operator", "runs as", "inputs", "errors", "differ"),
        [
            (key, row["runs_as"], row["inputs"], row["errors"], row["differing"])
            for key, row in rows.items()
        ],
    )
    for key, row in rows.items():
        if not row["truthful"]:
            screen.line(f"{key}: the table says that it never errs, and it does", style="bold red")
    for one in found["differences"]:
        screen.line(f"{one['operator']}: {', '.join(one['arguments'])}", style="bold")
        for path in ("python", "online", "offline"):
            screen.line(f"  {path:8} {one[path]}")
    verdict = "every bit agrees" if report.ok else f"{report.differing} differ"
    screen.line(
        f"{len(report.rows)} operators and {len(report.aggregates)} aggregates, "
        f"{report.compared} inputs in "
        f"{report.seconds:.1f} s: {verdict}",
        style="green" if report.ok else "bold red",
    )


def show_exhaust(screen: Screen, found: Sequence[SpaceReport]) -> None:
    """A line for each form and type: its histories, counted twice, and what differs."""
    screen.table(
        ("form", "histories", "of", "counted as", "questions", "values", "differ"),
        [
            (
                *(one.name, one.histories, one.total, one.formula),
                *(one.questions, one.report.compared, one.report.differing),
            )
            for one in found
        ],
    )
    differing = [one for one in found if one.report.differing]
    for one in differing[:3]:
        screen.line(one.name, style="bold")
        told = [d for d in one.report.differences if d.diagnosis is not None]
        for difference in (told or one.report.differences)[:1]:
            screen.line(difference_text(difference) + "\n")
    compared = sum(one.report.compared for one in found)
    missing = sum(one.report.differing for one in found)
    every = "every history" if all(one.whole for one in found) else "a part of the histories"
    seconds = max(one.report.seconds for one in found)
    forms = "1 form" if len(found) == 1 else f"{len(found)} forms"
    screen.line(
        f"{every} of {forms}, {compared} values in {seconds:.1f} s: "
        + (f"{missing} differ" if missing else "every bit agrees"),
        style="bold red" if missing else "green",
    )
