"""`featurekit keys`: the keys that plans are signed with, and those that callers of a server have.

A pair of keys signs plans, and says whom readers believe. An API key says who asks `featurekit
serve`, and what for.
"""

from __future__ import annotations

from argparse import Namespace

from featurekit.cli.arguments import load, modes, verb
from featurekit.core.screen import Screen

MODES = {
    "create": "make an API key, by which a caller may ask `featurekit serve`",
    "list": "list the API keys, and what they open",
    "revoke": "let an API key open nothing any more",
    "show": "show the public keys of plans that readers hold, and whose key signs here",
    "generate": "make a pair for plans: a file for who applies, and a word for the readers",
}


@verb(
    "An API key says who asks a server. apply and rollback sign plans where they have the private "
    "key; readers that hold the public one refuse a plan that is not signed. Without a MODE it is "
    "show.",
    modes(__name__, MODES, default="show"),
)
def keys(arguments: Namespace, screen: Screen) -> int | None:
    """Make, show or revoke keys."""
    return load(__name__, arguments.mode).run(arguments, screen)
