"""`featurekit plan`: shows what `apply` would change, why, and what is wrong with the files."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from featurekit.cli.arguments import FAIL_OVERDUE, argument, verb
from featurekit.cli.repo import open_store
from featurekit.cli.show import (
    change_document,
    notes_of,
    published_document,
    show_changes,
    show_notes,
    show_published,
)
from featurekit.core.screen import Screen
from featurekit.errors import FeaturekitError

if TYPE_CHECKING:
    from featurekit.results import SourceCheck

FAULTY, DRIFT = 2, 2


@verb(
    "Writes nothing, and needs no Redis. The first rows of the sources' files are compared with "
    "what is declared; where they do not fit, it exits with 2. So it does with --fail-overdue, for "
    "builds, where the repo still defines what is past its last day.",
    argument(
        "--detailed-exitcode",
        action="store_true",
        help="exit with 0 where nothing would change, 2 where something would, 1 for an error",
    ),
    argument("--no-files", action="store_true", help="do not look into the sources' files"),
    FAIL_OVERDUE,
)
def plan(arguments: Namespace, screen: Screen) -> int:
    """Show what apply would change."""
    try:
        faulty, drift = _plan(arguments, screen)
    except FeaturekitError as error:
        if not arguments.detailed_exitcode:
            raise
        screen.fail(error, 1)
        return 1
    if arguments.detailed_exitcode:
        return 1 if faulty else DRIFT if drift else 0
    return FAULTY if faulty else 0


def _plan(arguments: Namespace, screen: Screen) -> tuple[bool, bool]:
    """Show the plan; whether a file is wrong or something overdue that must not be, and whether
    something would change."""
    with open_store(arguments) as store:
        changes, notes = store.plan(), notes_of(store)
        checks = [] if arguments.no_files else store.check_sources()
    faults = [str(fault) for check in checks for fault in check.faults]
    screen.document(
        {
            "project": store.project,
            "changes": [change_document(c) for c in changes],
            "published": [published_document(p) for p in changes.published],
            "notes": notes,
            "sources": [
                {
                    "source": c.source,
                    "files": c.files,
                    "missing": c.missing,
                    "set_aside": c.set_aside,
                }
                for c in checks
            ],
            "faults": faults,
        }
    )
    show_changes(screen, changes, in_full=True)
    show_published(screen, changes.published)
    show_notes(screen, notes)
    _show_files(screen, checks)
    overdue = arguments.fail_overdue and any(one["overdue"] for one in notes["deprecated"])
    todo = [p for p in changes.published if p.action != "omit"]
    return bool(faults) or overdue, bool(changes or todo)


def _show_files(screen: Screen, checks: Sequence[SourceCheck]) -> None:
    """What is wrong with the sources' files, and which sources have none yet."""
    for check in checks:
        if check.missing is not None:
            screen.line(
                f"\nno file yet: {check.missing}. Until there is one, only pushed events count",
                style="yellow",
            )
        if check.set_aside:
            screen.line(
                f"\nset aside: {check.set_aside} of the first rows of {check.source}'s files are "
                "bad and will count nowhere",
                style="yellow",
            )
        for fault in check.faults:
            screen.line(f"\nwrong: {fault}", style="bold red")
