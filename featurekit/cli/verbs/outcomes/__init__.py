"""`featurekit outcomes`: keeps what became of what was served."""

from __future__ import annotations

from argparse import Namespace

from featurekit.cli.arguments import load, modes, verb
from featurekit.core.screen import Screen

MODES = {"push": "add outcomes of rows that were served"}


@verb("Without a MODE it is push.", modes(__name__, MODES, default="push"))
def outcomes(arguments: Namespace, screen: Screen) -> bool | int | None:
    """Keep what became of what was served."""
    return load(__name__, arguments.mode).run(arguments, screen)
