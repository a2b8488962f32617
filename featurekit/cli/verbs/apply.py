"""`featurekit apply`: records the definitions and publishes the services."""

from __future__ import annotations

from argparse import Namespace

from featurekit.cli.arguments import argument, verb
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


@verb(
    "It asks nothing: plan shows the same changes beforehand. A changed service goes on "
    "serving its old version until materialize has filled the new one.",
    argument(
        "--allow-breaking",
        action="store_true",
        help="also where outputs of a service are renamed, gone or of another type, or rows have "
        "to bring something else",
    ),
)
def apply(arguments: Namespace, screen: Screen) -> None:
    """Record the definitions, publish the services."""
    with open_store(arguments) as store:
        changes, notes = store.apply(allow_breaking=arguments.allow_breaking), notes_of(store)
        live = store.live()
        services = store.repo.compiled_services
        waiting = [
            name
            for name, service in services.items()
            if name not in live or live[name].fingerprint != service.fingerprint
        ]
        screen.document(
            {
                "project": store.project,
                "changes": [change_document(c) for c in changes],
                "published": [published_document(p) for p in changes.published],
                "notes": notes,
                "live": [name for name in services if name not in waiting],
                "waiting": waiting,
            }
        )
        show_changes(screen, changes)
        show_published(screen, changes.published)
        show_notes(screen, notes)
        screen.line(f"\nApplied to project {store.project}.")
        if waiting:
            screen.line(f"Waiting for `featurekit materialize`: {', '.join(waiting)}.")
