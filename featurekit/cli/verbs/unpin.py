"""`featurekit unpin`: lets a version go that was pinned."""

from __future__ import annotations

from argparse import Namespace

from featurekit.cli.arguments import argument, verb
from featurekit.cli.repo import open_store
from featurekit.cli.show import short
from featurekit.core.screen import Screen


@verb(
    "A version without another pin is fed no more, unless it is live, waits or is retained. Its "
    "states go with the next gc.",
    argument(
        "version",
        metavar="SERVICE[@FINGERPRINT]",
        help="the version, or all pinned ones of a service",
    ),
    argument("--by", help="the pins alone that are named so (default: all)"),
)
def unpin(arguments: Namespace, screen: Screen) -> None:
    """Take pins away."""
    with open_store(arguments) as store:
        gone = store.unpin(arguments.version, by=arguments.by)
    screen.document(
        {
            "unpinned": [
                {"service": one.service, "fingerprint": one.fingerprint, "by": one.by}
                for one in gone
            ]
        }
    )
    for one in gone:
        screen.line(f"{one.service}@{short(one.fingerprint)} is no longer pinned by {one.by}.")
