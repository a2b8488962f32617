"""`featurekit impact`: says what a change of a column would touch."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from featurekit.cli.arguments import argument, verb
from featurekit.cli.repo import open_store
from featurekit.cli.show import short
from featurekit.cli.verbs.lineage import MANIFESTS
from featurekit.core.screen import Screen

if TYPE_CHECKING:
    from featurekit.results import Impact


@verb(
    "It reads the definitions of the repo, and the versions that are live, wait or are retained. "
    "Nothing is changed.",
    argument("column", metavar="SOURCE.COLUMN", help="the column, as in orders.amount"),
    MANIFESTS,
)
def impact(arguments: Namespace, screen: Screen) -> None:
    """Show what a change of a column would touch."""
    with open_store(arguments) as store:
        found = store.impact(arguments.column, manifests=arguments.manifests)
    screen.document(found.to_dict())
    _show(found, screen)


def _show(found: Impact, screen: Screen) -> None:
    touched = [one for one in found.features if not one.only_ties]
    ties = [one.feature for one in found.features if one.only_ties]
    if touched:
        screen.table(
            ("feature", "role", "through"),
            [(f.feature, ", ".join(f.roles), ", ".join(f.through) or None) for f in touched],
        )
    elif not ties:
        screen.line(f"No feature of the repo reads {found.column}.")
    if ties:
        screen.line(
            f"\nWhere events have one instant and nothing else orders them, it decides also for "
            f"{', '.join(ties)}."
        )
    if found.services:
        screen.line(f"\nservices: {', '.join(found.services)}")
    if found.versions:
        screen.line()
        screen.table(
            ("served", "state", "version", "features", "needed by"),
            [
                (
                    v.service,
                    v.state,
                    short(v.fingerprint),
                    len(v.features),
                    ", ".join(v.needed_by) or None,
                )
                for v in found.versions
            ],
        )
    elif found.asked_online:
        screen.line("No version that is served reads it.")
    if found.training_sets:
        screen.line()
        screen.table(
            ("training set", "of", "rows", "features"),
            [
                (s.manifest, s.service, s.rows, "?" if s.features is None else len(s.features))
                for s in found.training_sets
            ],
        )
    for note in found.notes:
        screen.line(f"Note: {note}.")
