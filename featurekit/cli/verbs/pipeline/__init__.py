"""`featurekit pipeline`: what runs again and again, for orchestrators."""

from __future__ import annotations

from argparse import Namespace

from featurekit.cli.arguments import load, modes, verb
from featurekit.core.screen import Screen

MODES = {
    "show": "show the steps of the pipeline, in their order",
    "export": "write the pipeline as the files of an orchestrator",
}


@verb(
    "The pipeline is described under `featurekit: pipeline:` in feature_store.yaml. Without a MODE "
    "it is show.",
    modes(__name__, MODES, default="show"),
)
def pipeline(arguments: Namespace, screen: Screen) -> int | None:
    """Show or export the pipeline."""
    return load(__name__, arguments.mode).run(arguments, screen)
