"""`featurekit compare`: shows two models beside one another, by the predictions of both."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from featurekit.cli.arguments import argument, verb
from featurekit.cli.repo import open_store
from featurekit.cli.served import LOG, rounded, window
from featurekit.core.screen import Screen

if TYPE_CHECKING:
    from featurekit.monitor.compare import ModelComparison


@verb(
    "From the serving log of `featurekit serve --forward`: how many rows were predicted by both, "
    "as with --shadow, and how many of these alike, bit for bit; how far the predictions of each "
    "lie apart as a whole, as with a canary; how long each took, and how often it failed.",
    argument("one", metavar="MODEL", help="the name of a target, as in churn@3"),
    argument("other", metavar="OTHER", help="another one, as in churn@4"),
    *window("7d"),
    LOG,
)
def compare(arguments: Namespace, screen: Screen) -> None:
    """Compare two models by what they predicted."""
    with open_store(arguments) as store, screen.progress() as move:
        found = store.compare(
            arguments.one,
            arguments.other,
            window=arguments.window,
            end=arguments.end,
            log=arguments.log,
            progress=lambda rows: move("rows", rows, rows),
        )
    screen.document(found.to_dict())
    _show(screen, found)


def _show(screen: Screen, found: ModelComparison) -> None:
    columns = ("model", "rows", "answered", "failed", "requests", "p50 ms", "p99 ms", "mean")
    screen.table(
        columns,
        [
            (
                s.target, s.rows, s.answered, s.failed, s.requests,
                *map(rounded, (s.p50_ms, s.p99_ms, s.mean)),
            )
            for s in (found.one, found.other)
        ],
    )  # fmt: skip
    if found.both:
        apart = "" if found.furthest is None else f", {rounded(found.furthest)} apart at most"
        screen.line(
            f"\n{found.both:,} rows were predicted by both: {found.agreeing:,} alike, bit for "
            f"bit{apart}."
        )
    else:
        screen.line("\nNo row was predicted by both; serve one with --shadow to compare rows.")
    if found.figures:
        screen.line("")
        screen.table(
            ("measure of all predictions", "value", "±", "chance", "verdict"),
            [
                (f.measure, *map(rounded, (f.value, f.bound, f.chance)), f.verdict)
                for f in found.figures
            ],
        )
