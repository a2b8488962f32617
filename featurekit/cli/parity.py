"""What each mode of `featurekit parity` does: one function a mode, named as the mode is.

Each takes the feature store (but `operators`, which needs none), the arguments and the screen, and
returns whether the paths agree.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from featurekit import ops
from featurekit.errors import FeaturekitError
from featurekit.parity.budget import Budget
from featurekit.parity.report import Report
from featurekit.parity.show import show_operators, show_report
from featurekit.screen import Screen
from featurekit.store import FeatureStore


def history(store: FeatureStore, arguments: argparse.Namespace, screen: Screen) -> bool:
    """Replay what the files and the log of pushes hold into a scratch Redis."""
    return _of_services(store, arguments, screen)


def fuzz(store: FeatureStore, arguments: argparse.Namespace, screen: Screen) -> bool:
    """Invent events and play them through both paths."""
    return _of_services(store, arguments, screen, workers=arguments.workers)


def _of_services(
    store: FeatureStore, arguments: argparse.Namespace, screen: Screen, **options: Any
) -> bool:
    names = services(store, arguments)
    budget: Budget = arguments.budget
    if budget.seconds is not None:
        budget = Budget(seconds=budget.seconds / len(names))
    with screen.progress() as move:
        reports = [
            store.check_parity(
                name,
                mode=arguments.mode,
                budget=budget,
                seed=arguments.seed,
                progress=partial(move, name),
                **options,
            )
            for name in names
        ]
    return conclude(screen, reports, arguments)


def operators(arguments: argparse.Namespace, screen: Screen) -> bool:
    """Compare every row of the operator table three ways."""
    from featurekit.parity.operators import check_operators

    budget: Budget = arguments.budget
    if arguments.inputs is not None:
        rows = sum(arguments.only in key for key in ops.TABLE)
        budget = Budget(values=arguments.inputs * max(rows, 1))
    with screen.progress() as move:
        report = check_operators(
            budget=budget,
            seed=arguments.seed,
            only=arguments.only,
            progress=partial(move, "operators"),
        )
    if not report.rows:
        raise FeaturekitError(f"no operator's name contains {arguments.only!r}")
    if arguments.junit is not None:
        from featurekit.parity.junit import write_operators_junit

        write_operators_junit(arguments.junit, report)
    screen.document(report.to_dict())
    show_operators(screen, report)
    return report.ok


def services(store: FeatureStore, arguments: argparse.Namespace) -> list[str]:
    """The services that are to be checked."""
    names: list[str] = arguments.services or list(store.repo.compiled_services)
    if not names:
        raise FeaturekitError(f"{store.path} defines no FeatureService, so nothing is served")
    return names


def conclude(screen: Screen, reports: list[Report], arguments: argparse.Namespace) -> bool:
    """Show what was found, and write the files that were asked for; FeaturekitError where nothing
    could be compared."""
    if arguments.html is not None:
        from featurekit.parity.page import write_page

        write_page(arguments.html, [r.to_dict() for r in reports])
    agree = all(r.ok for r in reports)
    if arguments.junit is not None:
        from featurekit.parity.junit import write_junit

        write_junit(arguments.junit, reports)
    screen.document({"ok": agree, "services": [r.to_dict() for r in reports]})
    for report in reports:
        show_report(screen, report)
    empty = [r.service for r in reports if not r.compared]
    if empty and not any(r.differing for r in reports):
        raise FeaturekitError(
            f"nothing could be compared for {', '.join(empty)}: no source holds an event of theirs"
        )
    return agree
