"""`featurekit list`: shows what there is of a kind, with types, owners, versions and freshness."""

from __future__ import annotations

from argparse import Namespace

from featurekit.cli.arguments import argument, verb
from featurekit.cli.catalog import SOUGHT, item_document, plural, show_items
from featurekit.cli.repo import open_store
from featurekit.core.screen import Screen

_KINDS = ("features", "views", "services", "sources", "entities")


@verb(
    "Where something was applied, Redis is asked how fresh the online states are.",
    argument(
        "kind",
        nargs="?",
        choices=_KINDS,
        default="features",
        metavar="KIND",
        help="features, views, services, sources or entities (default: features)",
    ),
    argument("--of", metavar="VIEW", help="only the features of this view or service"),
    *SOUGHT,
)
def list(arguments: Namespace, screen: Screen) -> None:
    """List what there is of a kind."""
    from featurekit.project.catalog import KINDS

    with open_store(arguments) as store:
        kind = next(one for one in KINDS if plural(one) == arguments.kind)
        deprecated = True if arguments.deprecated else None
        how = {"owner": arguments.owner, "tags": arguments.tag, "deprecated": deprecated}
        items = store.search(kind=kind, **how)
    if arguments.of is not None:
        items = [item for item in items if item.name.split(":")[0] == arguments.of]
    screen.document({arguments.kind: [item_document(item) for item in items]})
    show_items(screen, items)
