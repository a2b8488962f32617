"""`featurekit monitor performance`: says how well the predictions of a service did, by what
happened later."""

from __future__ import annotations

import argparse
import json
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurekit.cli.arguments import argument, duration, verb
from featurekit.cli.repo import open_store
from featurekit.cli.served import LOG, at_second, rounded, window
from featurekit.core.screen import Screen

if TYPE_CHECKING:
    from featurekit.monitor.performance.report import Performance


def _value(text: str) -> Any:
    """true or false, a number, or else a text."""
    try:
        found = json.loads(text)
    except ValueError:
        return text
    return found if isinstance(found, bool | int | float | str) else text


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number; write 0.5") from None


@verb(
    "The rows that the serving log has of a window are joined to the outcomes that were pushed "
    "(`featurekit outcomes push`): by the id of the request, or as the entity's latest row at or "
    "before the outcome's instant, within the horizon. scikit-learn measures them "
    "(featurekit[monitor]). A measure is worse where the whole of its interval lies beyond the "
    "threshold that `featurekit: monitoring: performance:` sets; then the exit code is 1.",
    argument("service", metavar="SERVICE", help="the service"),
    argument(
        "--prediction",
        metavar="FEATURE",
        help="the served feature that is the prediction (default: what the log has of the model, "
        "or else what came with the outcome)",
    ),
    argument(
        "--target",
        metavar="NAME",
        help="the model whose rows are judged, as in churn@3, a shadow too (default: the one that "
        "answered)",
    ),
    argument(
        "--positive",
        type=_value,
        metavar="VALUE",
        help="the outcome that is a yes, as in 1 or churned (default: true)",
    ),
    argument(
        "--cut",
        type=_number,
        default=0.5,
        metavar="P",
        help="from which prediction on it says yes (default: 0.5)",
    ),
    argument(
        "--horizon",
        type=duration,
        default="30d",
        metavar="TIME",
        help="how long after a row an outcome of its entity may come (default: 30d)",
    ),
    *window("1d"),
    LOG,
    argument(
        "--junit",
        type=Path,
        metavar="REPORT.xml",
        help="write a JUnit report: a test case for each measure, a failure where it is worse",
    ),
)
def performance(arguments: Namespace, screen: Screen) -> bool:
    """Measure predictions by outcomes."""
    with open_store(arguments) as store, screen.progress() as move:
        found = store.performance(
            arguments.service,
            prediction=arguments.prediction,
            target=arguments.target,
            positive=arguments.positive,
            cut=arguments.cut,
            horizon=arguments.horizon,
            window=arguments.window,
            end=arguments.end,
            log=arguments.log,
            progress=lambda rows: move("rows", rows, rows),
        )
    if arguments.junit is not None:
        from featurekit.monitor.performance.junit import write_junit

        write_junit(arguments.junit, found)
    screen.document(found.to_dict())
    _show(screen, found)
    return not found.worse


def _show(screen: Screen, found: Performance) -> None:
    screen.line(
        f"{found.service}: {found.judged:,} of {found.rows:,} rows served from "
        f"{at_second(found.start)} to {at_second(found.end)} are judged, of {found.entities:,} "
        f"entities; {found.waiting:,} wait for an outcome, {found.bare:,} have no prediction, "
        f"{found.odd:,} one of another kind.\n"
    )
    screen.table(
        ("measure", "value", "from", "to", "threshold", "verdict"),
        [
            (s.measure, *map(rounded, (s.value, s.low, s.high, s.threshold)), s.verdict)
            for s in found.scores
        ],
    )
    if found.calibration:
        screen.line("")
        screen.table(
            ("rows", "predicted", "came true"),
            [(b.rows, rounded(b.predicted), rounded(b.came)) for b in found.calibration],
        )
    screen.line(
        f"\n{found.unmatched:,} outcomes are of no row of the log, {found.outside:,} of rows of "
        f"other times, {found.further:,} of a row that has one already."
    )
