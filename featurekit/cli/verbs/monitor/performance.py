"""`featurekit monitor performance`: says how well the predictions of a service did, by what
happened later."""

from __future__ import annotations

import argparse
import json
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurekit.cli.arguments import argument, duration, verb
from featurekit.cli.repo import open_store
from featurekit.cli.served import LOG, at_second, rounded, window
from featurekit.core.screen import Screen

if TYPE_CHECKING:
    from featurekit.monitor.performance.judge import Score
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
    "threshold that `featurekit: monitoring:` sets, or where it is worse than in the reference; "
    "then the exit code is 1. Texts are several classes, unless one of them is the positive one.",
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
        "--classes",
        type=lambda text: [_value(one) for one in text.split(",")],
        default=[],
        metavar="A,B,…",
        help="several classes, in the order that a prediction has which is a list of probabilities",
    ),
    argument(
        "--by",
        action="append",
        default=[],
        metavar="NAME",
        help="measure slices, too, by the values of a feature, a join key or a request field; "
        "numbers by quarters of the rows, or by borders as in age=18,60; may be repeated",
    ),
    argument(
        "--fairness",
        action="store_true",
        help="compare how often the slices of --by are told a yes",
    ),
    argument(
        "--reference",
        metavar="FILE|TIME",
        help="compare with what was served for so long before the window, as in 30d, or with a "
        "training set that has the prediction as a feature, by its manifest",
    ),
    argument(
        "--label",
        metavar="COLUMN",
        help="the outcome in the training set of --reference (default: its only label)",
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
        "--html", type=Path, metavar="REPORT.html", help="write a page that needs no other file"
    ),
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
            classes=arguments.classes,
            by=arguments.by,
            fairness=arguments.fairness,
            reference=arguments.reference,
            label=arguments.label,
            horizon=arguments.horizon,
            window=arguments.window,
            end=arguments.end,
            log=arguments.log,
            progress=lambda rows: move("rows", rows, rows),
        )
    if arguments.html is not None:
        from featurekit.monitor.performance.page import write_page

        write_page(arguments.html, found)
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
    _scores(screen, found.scores)
    if found.calibration:
        screen.line("")
        screen.table(
            ("rows", "predicted", "came true"),
            [(b.rows, rounded(b.predicted), rounded(b.came)) for b in found.calibration],
        )
    if found.classes:
        screen.line("")
        screen.table(
            ("class", "rows", "precision", "recall", "f1", "auc"),
            [
                (c.name, c.rows, *map(rounded, (c.precision, c.recall, c.f1, c.auc)))
                for c in found.classes
            ],
        )
    _slices(screen, found)
    _fairness(screen, found)
    _changes(screen, found)
    screen.line(
        f"\n{found.unmatched:,} outcomes are of no row of the log, {found.outside:,} of rows of "
        f"other times, {found.further:,} of a row that has one already."
    )


def _scores(screen: Screen, scores: Sequence[Score]) -> None:
    screen.table(
        ("measure", "value", "from", "to", "threshold", "verdict"),
        [
            (s.measure, *map(rounded, (s.value, s.low, s.high, s.threshold)), s.verdict)
            for s in scores
        ],
    )


def _slices(screen: Screen, found: Performance) -> None:
    """A table for each name, of a row for each measure of a slice."""
    for name in dict.fromkeys(one.by for one in found.slices):
        screen.line(f"\nBy {name}:")
        screen.table(
            ("slice", "rows", "entities", "measure", "value", "from", "to", "threshold", "verdict"),
            [
                (
                    one.value,
                    one.rows,
                    one.entities,
                    s.measure,
                    *map(rounded, (s.value, s.low, s.high, s.threshold)),
                    s.verdict or ("too few" if s.low is None else ""),
                )
                for one in found.slices
                if one.by == name
                for s in one.scores
            ],
        )


def _fairness(screen: Screen, found: Performance) -> None:
    if not found.fairness:
        return
    screen.line("\nFairness, by the definitions of Fairlearn:")
    screen.table(
        ("by", "measure", "value", "from", "to", "least", "most", "threshold", "verdict"),
        [
            (
                f.by,
                f.measure,
                *map(rounded, (f.value, f.low, f.high)),
                f.least,
                f.most,
                rounded(f.threshold),
                f.verdict,
            )
            for f in found.fairness
        ],
    )
    for name, left in {f.by: f.left_out for f in found.fairness if f.left_out}.items():
        screen.line(f"Too few entities to compare, by {name}: {', '.join(left)}.")


def _changes(screen: Screen, found: Performance) -> None:
    if not found.changes:
        return
    screen.line(f"\nBeside {found.reference_rows:,} judged rows of {found.reference}:")
    screen.table(
        ("measure", "was", "now", "change", "from", "to", "threshold", "chance", "verdict"),
        [
            (
                c.measure,
                *map(rounded, (c.was, c.now, c.change, c.low, c.high, c.threshold, c.chance)),
                c.verdict,
            )
            for c in found.changes
        ],
    )
