"""`featurekit triggers approve`: says yes to a firing that waits for it."""

from __future__ import annotations

from argparse import Namespace

from featurekit.cli.arguments import argument, verb
from featurekit.cli.repo import open_store
from featurekit.cli.triggers import TRIGGER, firing_document, trigger_of
from featurekit.core.screen import Screen

OCCASION = argument(
    "--occasion",
    metavar="NAME-N",
    help="the firing that is meant; an error where another one waits (default: the one that waits)",
)


@verb("`featurekit watch` then does its actions.", TRIGGER, OCCASION)
def approve(arguments: Namespace, screen: Screen) -> None:
    """Approve a firing."""
    from featurekit.monitor.triggers.judge import judge

    with open_store(arguments) as store:
        trigger_of(store.parts, arguments.trigger)
        made = judge(store.parts, arguments.trigger, occasion=arguments.occasion, yes=True)
    screen.document(firing_document(arguments.trigger, made))
    screen.line(f"Approved: {made.occasion(arguments.trigger)}, {made.reason}")
