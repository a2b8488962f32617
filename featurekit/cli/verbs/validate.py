"""`featurekit validate`: judges sources by their schemas and contracts, and writes nothing."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from featurekit.cli.arguments import FAIL_OVERDUE, argument, verb
from featurekit.cli.repo import open_store
from featurekit.cli.show import show_deprecated
from featurekit.core.files import check_writable
from featurekit.core.screen import Screen

if TYPE_CHECKING:
    from featurekit.project.contracts import Validation

_SAID = {"fail": "FAILS", "quarantine": "set aside", "warn": "warns"}


@verb(
    "Each source is read once. The exit code is 3 where a rule of severity fail is broken; "
    "materialize and get-historical stop there, too, and push where a pushed row breaks one. With "
    "--fail-overdue it is 3, too, where the repo still defines what is past its last day.",
    argument("sources", nargs="*", metavar="SOURCE", help="sources (default: every one)"),
    argument(
        "--junit", type=Path, metavar="FILE", help="write JUnit XML, with a test case for each rule"
    ),
    argument("--html", type=Path, metavar="FILE", help="write a page that shows every rule"),
    FAIL_OVERDUE,
)
def validate(arguments: Namespace, screen: Screen) -> int | None:
    """Judge sources by their contracts."""
    from featurekit.cli import BROKEN

    for option in ("junit", "html"):
        path = getattr(arguments, option)
        if path is not None:
            check_writable(path, f"--{option}")
    with open_store(arguments) as store:
        found = store.validate(arguments.sources or None)
        overdue = [one.to_dict() for one in store.repo.deprecations() if one.overdue()]
    _write(found, arguments)
    screen.document({**found.to_dict(), "overdue": overdue})
    _show(found, screen)
    show_deprecated(screen, overdue)
    return BROKEN if not found.ok or (overdue and arguments.fail_overdue) else None


def _write(found: Validation, arguments: Namespace) -> None:
    from featurekit.project.validation_reports import write_html, write_junit

    if arguments.junit is not None:
        write_junit(arguments.junit, found)
    if arguments.html is not None:
        write_html(arguments.html, found)


def _show(found: Validation, screen: Screen) -> None:
    from featurekit.project.validation_reports import told

    if not found.sources:
        screen.line("The repo has no source.")
        return
    screen.table(
        ("source", "rule", "verdict", "what it says", "found"),
        [
            [
                judged.source,
                outcome.rule,
                "holds" if outcome.held else _SAID[outcome.severity],
                outcome.says,
                told(outcome),
            ]
            for judged in found.sources
            for outcome in judged.outcomes
        ],
    )
    rules = sum(len(judged.outcomes) for judged in found.sources)
    broken = sum(outcome.stops for judged in found.sources for outcome in judged.outcomes)
    said = (
        f"{broken} of {rules} rules stop the work." if broken else f"None of {rules} rules stops."
    )
    screen.line(f"\n{said} ({found.seconds:.1f} s)")
