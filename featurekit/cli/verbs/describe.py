"""`featurekit describe`: shows all there is to know of a feature, view, service, source or
entity."""

from __future__ import annotations

from argparse import Namespace

from featurekit.cli.arguments import argument, verb
from featurekit.cli.catalog import item_document, show_item
from featurekit.cli.repo import open_store
from featurekit.core.calls import near
from featurekit.core.screen import Screen
from featurekit.errors import DefinitionError


@verb(
    "",
    argument(
        "name",
        metavar="NAME",
        help="a view, service, source or entity, or a feature: view:feature, or its name alone",
    ),
)
def describe(arguments: Namespace, screen: Screen) -> None:
    """Show all there is to know of a definition."""
    name: str = arguments.name.replace("__", ":")
    with open_store(arguments) as store:
        every = store.catalog()
        items = [item for item in every if item.name == name]
        items = items or [item for item in every if item.name.endswith(f":{name}")]
        if not items:
            known = dict.fromkeys(item.name for item in every)
            raise DefinitionError(
                f"{store.path} defines no {arguments.name!r}; "
                f"{near(name, known, listed='there are')}"
            )
    screen.document({"found": [item_document(item) for item in items]})
    for number, item in enumerate(items):
        if number:
            screen.line()
        show_item(screen, item)
