"""What each mode of `featurekit parity` does: one function a mode, named as the mode is.

Each takes the feature store, the arguments and the screen, and returns whether the paths agree.
"""

from __future__ import annotations

import argparse
from functools import partial

from featurekit.errors import FeaturekitError
from featurekit.parity.report import Report
from featurekit.parity.show import show_report
from featurekit.screen import Screen
from featurekit.store import FeatureStore


def history(store: FeatureStore, arguments: argparse.Namespace, screen: Screen) -> bool:
    """Replay what the files and the log of pushes hold into a scratch Redis."""
    with screen.progress() as move:
        reports = [
            store.check_parity(
                name, values=arguments.values, seed=arguments.seed, progress=partial(move, name)
            )
            for name in services(store, arguments)
        ]
    return conclude(screen, reports)


def services(store: FeatureStore, arguments: argparse.Namespace) -> list[str]:
    """The services that are to be checked."""
    names: list[str] = arguments.services or list(store.repo.compiled_services)
    if not names:
        raise FeaturekitError(f"{store.path} defines no FeatureService, so nothing is served")
    return names


def conclude(screen: Screen, reports: list[Report]) -> bool:
    """Show what was found; FeaturekitError where nothing could be compared."""
    agree = all(r.ok for r in reports)
    screen.document({"ok": agree, "services": [r.to_dict() for r in reports]})
    for report in reports:
        show_report(screen, report)
    empty = [r.service for r in reports if not r.compared]
    if empty and not any(r.differing for r in reports):
        raise FeaturekitError(
            f"nothing could be compared for {', '.join(empty)}: no source holds an event of theirs"
        )
    return agree
