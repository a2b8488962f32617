"""`featurekit plan`: shows what `apply` would change."""

from __future__ import annotations

from argparse import Namespace

from featurekit.cli.arguments import verb
from featurekit.cli.repo import open_store
from featurekit.cli.show import change_document, notes_of, show_changes, show_notes
from featurekit.core.screen import Screen


@verb(
    "Writes nothing, and needs no Redis.",
)
def plan(arguments: Namespace, screen: Screen) -> None:
    """Show what apply would change."""
    with open_store(arguments) as store:
        changes, notes = store.plan(), notes_of(store)
        screen.document(
            {
                "project": store.project,
                "changes": [change_document(c) for c in changes],
                "notes": notes,
            }
        )
        show_changes(screen, changes)
        show_notes(screen, notes)
