"""`featurekit demo`: does all of it on the example shop, or ships a model of its churn."""

from __future__ import annotations

from argparse import Namespace

from featurekit.cli.arguments import load, modes, verb
from featurekit.core.screen import Screen

MODES = {
    "shop": "compile, materialise, serve and check the example shop",
    "churn": "train, register, serve and promote a model of churn, with MLflow and scikit-learn",
}


@verb("Without a MODE it is shop.", modes(__name__, MODES, default="shop"))
def demo(arguments: Namespace, screen: Screen) -> bool | int | None:
    """Do all of it on the example shop."""
    return load(__name__, arguments.mode).run(arguments, screen)
