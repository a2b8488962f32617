"""`featurekit search`: finds definitions by words in their names, descriptions and columns."""

from __future__ import annotations

from argparse import Namespace

from featurekit.cli.arguments import argument, verb
from featurekit.cli.catalog import item_document, show_items
from featurekit.cli.repo import open_store
from featurekit.core.screen import Screen


@verb(
    "Each word has to stand somewhere: in the name, type, description, owner, tags, columns or "
    "definition.",
    argument("words", nargs="+", metavar="WORD", help="what is looked for, in any case"),
)
def search(arguments: Namespace, screen: Screen) -> None:
    """Find definitions by words."""
    words = " ".join(arguments.words)
    with open_store(arguments) as store:
        items = [item for item in store.catalog() if item.holds(words)]
    screen.document({"words": words, "found": [item_document(item) for item in items]})
    if items:
        show_items(screen, items, kinds=True)
    else:
        screen.line(f"Nothing has {words!r}; `featurekit list` shows every feature.")
