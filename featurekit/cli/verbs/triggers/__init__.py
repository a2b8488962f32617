"""`featurekit triggers`: shows what triggers did, and takes the yes or no of a person."""

from __future__ import annotations

from argparse import Namespace

from featurekit.cli.arguments import load, modes, verb
from featurekit.core.screen import Screen

MODES = {
    "list": "list the triggers of the repo, and what became of each",
    "show": "show all there is to know of one",
    "log": "show what triggers did, with the reasons, and prove that no entry is gone",
    "approve": "say yes to a firing that waits for it",
    "reject": "say no to a firing that is not begun",
    "fire": "have one fire now, or show what it would do",
}


@verb(
    "`featurekit watch` runs them. Without a MODE it is list.",
    modes(__name__, MODES, default="list"),
)
def triggers(arguments: Namespace, screen: Screen) -> bool | int | None:
    """Show triggers, or decide about a firing."""
    return load(__name__, arguments.mode).run(arguments, screen)
