"""`featurekit keys`: makes and shows the keys that plans are signed with."""

from __future__ import annotations

from argparse import Namespace

from featurekit.cli.arguments import load, modes, verb
from featurekit.core.screen import Screen

MODES = {
    "show": "show the public keys that readers hold, and whose key signs here",
    "generate": "make a pair: a file for who applies, and a word for the readers",
}


@verb(
    "apply and rollback sign plans where they have the private key; readers that hold the "
    "public one refuse a plan that is not signed. Without a MODE it is show.",
    modes(__name__, MODES, default="show"),
)
def keys(arguments: Namespace, screen: Screen) -> int | None:
    """Make or show the keys of plans."""
    return load(__name__, arguments.mode).run(arguments, screen)
