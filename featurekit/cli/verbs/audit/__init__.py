"""`featurekit audit`: shows the audit log of a project, and whether it is as it was written."""

from __future__ import annotations

from argparse import Namespace

from featurekit.cli.arguments import load, modes, verb
from featurekit.core.screen import Screen

MODES = {
    "list": "show who did what, and when",
    "prediction": "show all that is known of the answer to a request",
    "verify": "prove that no entry was changed, removed, put in or cut off",
}


@verb(
    "apply, materialize, push, forget, rollback, keys, adopt, gc and unlock --force have entries "
    "in audit.log of the state folder. Without a MODE it is list.",
    modes(__name__, MODES, default="list"),
)
def audit(arguments: Namespace, screen: Screen) -> bool | int | None:
    """Show or verify the audit log."""
    return load(__name__, arguments.mode).run(arguments, screen)
