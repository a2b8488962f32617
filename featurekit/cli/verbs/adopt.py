"""`featurekit adopt`: rebuilds the registry from the copy of it in the online store."""

from __future__ import annotations

from argparse import Namespace

from featurekit.cli.arguments import verb
from featurekit.cli.repo import open_store
from featurekit.core.screen import Screen


@verb(
    "For a registry that is lost, or an old copy of it. An old file keeps what only it has, and "
    "lies beside the new one afterwards.",
)
def adopt(arguments: Namespace, screen: Screen) -> None:
    """Rebuild the registry from the online store."""
    with open_store(arguments) as store:
        done = store.adopt()
        path = store.registry.place
    screen.document(
        {
            "registry": path,
            "id": done.id,
            "services": list(done.services),
            "versions": done.versions,
            "changes": done.changes,
            "forgotten": done.forgotten,
            "missing": list(done.missing),
            "kept": done.kept,
            "complete": done.complete,
        }
    )
    services = ", ".join(done.services) or "none"
    screen.line(f"{path} has {done.versions} versions again; services in force: {services}.")
    screen.line(f"{done.forgotten} forgotten entities are known again.")
    for version in done.missing:
        screen.line(f"{version}: its definition is lost, so no rollback leads to it.")
    if done.kept is not None:
        screen.line(f"The file that was here is {done.kept}.")
    if not done.complete:
        screen.line(
            "The online store held no copy, since an earlier featurekit wrote it: only what is "
            "served is known, and nobody who was forgotten. Forget them again."
        )
