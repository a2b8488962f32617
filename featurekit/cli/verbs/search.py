"""`featurekit search`: finds definitions by words in their names, descriptions and columns, by
owners, tags and kinds."""

from __future__ import annotations

from argparse import Namespace

from featurekit.cli.arguments import UsageError, argument, verb
from featurekit.cli.catalog import SOUGHT, item_document, show_items
from featurekit.cli.repo import open_store
from featurekit.core.calls import near
from featurekit.core.screen import Screen


@verb(
    "Each word has to stand somewhere: in the name, type, description, owner, tags, columns or "
    "definition. Those whose names fit come first.",
    argument("words", nargs="*", metavar="WORD", help="what is looked for, in any case"),
    argument("--kind", metavar="KIND", help="feature, view, service, source or entity"),
    *SOUGHT,
)
def search(arguments: Namespace, screen: Screen) -> None:
    """Find definitions by words, owner or tag."""
    words = " ".join(arguments.words)
    named = {"kind": arguments.kind, "owner": arguments.owner, "tags": arguments.tag}
    sought = {**named, "deprecated": True if arguments.deprecated else None}
    if not words and not any(sought.values()):
        raise UsageError(
            "write a WORD, as in `featurekit search spend`, or an option, as in --owner growth"
        )
    with open_store(arguments) as store:
        items = store.search(words, **sought)
        every = [] if items else [item.name for item in store.catalog()]
    screen.document({"words": words, "found": [item_document(item) for item in items]})
    if items:
        show_items(screen, items, kinds=True)
        return
    hint = near(words, every, listed="there are") if words else ""
    meant = f"; {hint.partition(' There are')[0]}" if hint.startswith("did you mean") else ""
    what = f"has {words!r}" if words else "is so"
    screen.line(f"Nothing {what}{meant}; `featurekit list` shows every feature.")
