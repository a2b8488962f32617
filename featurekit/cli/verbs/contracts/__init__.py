"""`featurekit contracts`: proposes rules for sources, and takes them from and to other tools."""

from __future__ import annotations

from argparse import Namespace

from featurekit.cli.arguments import load, modes, verb
from featurekit.core.screen import Screen

MODES = {
    "suggest": "profile a source, and propose rules as code to paste",
    "import": "turn a suite of Great Expectations or a schema of pandera into rules as code",
    "export": "turn the rules of a source into one of these",
}


@verb(
    "`featurekit validate` judges sources by their contracts. Without a MODE it is suggest. What a "
    "model was trained on is something else: see `featurekit contract`.",
    modes(__name__, MODES, default="suggest"),
)
def contracts(arguments: Namespace, screen: Screen) -> int | None:
    """Propose, import or export rules of sources."""
    return load(__name__, arguments.mode).run(arguments, screen)
