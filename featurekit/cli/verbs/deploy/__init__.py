"""`featurekit deploy`: whether a model can be served."""

from __future__ import annotations

from argparse import Namespace

from featurekit.cli.arguments import load, modes, verb
from featurekit.core.screen import Screen

MODES = {"check": "say whether the online store can serve a model now"}


@verb("Without a MODE it is check.", modes(__name__, MODES, default="check"))
def deploy(arguments: Namespace, screen: Screen) -> int | None:
    """Check whether a model can be served."""
    return load(__name__, arguments.mode).run(arguments, screen)
