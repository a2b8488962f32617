"""`featurekit contract`: the feature contract of a model, read, believed and compared."""

from __future__ import annotations

from argparse import Namespace

from featurekit.cli.arguments import load, modes, verb
from featurekit.core.screen import Screen

MODES = {
    "show": "show what a model was trained on, and what serving has to give it",
    "verify": "say whether a contract is unchanged, signed, and that of a training set",
    "diff": "say which features differ between a contract and another one, or what is served",
    "schema": "print the JSON schema of contracts",
}


@verb(
    "`featurekit get-historical … --contract FILE` writes one beside a training set. Without a "
    "MODE it is show. What rows of sources promise is something else: see `featurekit contracts`.",
    modes(__name__, MODES, default="show"),
)
def contract(arguments: Namespace, screen: Screen) -> int | None:
    """Show, verify or compare feature contracts."""
    return load(__name__, arguments.mode).run(arguments, screen)
