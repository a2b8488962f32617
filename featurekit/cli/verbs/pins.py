"""`featurekit pins`: lists the versions that are pinned."""

from __future__ import annotations

from argparse import Namespace

from featurekit.cli.arguments import verb
from featurekit.cli.repo import open_store
from featurekit.cli.show import pin_document, show_pins
from featurekit.core.screen import Screen


@verb("With what needs each, who answers for that, and the views that are fed for it alone.")
def pins(arguments: Namespace, screen: Screen) -> None:
    """List the pins."""
    with open_store(arguments) as store:
        found = [pin_document(store, one) for one in store.pins()]
    screen.document({"pins": found})
    if found:
        show_pins(screen, found)
    else:
        screen.line("No version is pinned.")
