"""`featurekit monitor`: watches what is served, by the serving log."""

from __future__ import annotations

from argparse import Namespace

from featurekit.cli.arguments import load, modes, verb
from featurekit.core.screen import Screen

MODES = {
    "drift": "say whether the values that are served have moved away from a reference",
    "performance": "say how well predictions did, by what happened later",
    "profile": "keep counts of what was served, and show them",
}


@verb("Without a MODE it is drift.", modes(__name__, MODES, default="drift"))
def monitor(arguments: Namespace, screen: Screen) -> bool | int | None:
    """Watch what is served."""
    return load(__name__, arguments.mode).run(arguments, screen)
