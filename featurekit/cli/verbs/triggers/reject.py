"""`featurekit triggers reject`: says no to a firing that is not begun."""

from __future__ import annotations

from argparse import Namespace

from featurekit.cli.arguments import argument, verb
from featurekit.cli.repo import open_store
from featurekit.cli.triggers import TRIGGER, firing_document, trigger_of
from featurekit.cli.verbs.triggers.approve import OCCASION
from featurekit.core.screen import Screen


@verb(
    "It is over then, and none of its actions is done.",
    TRIGGER,
    OCCASION,
    argument("--reason", default="", metavar="TEXT", help="why, for the log"),
)
def reject(arguments: Namespace, screen: Screen) -> None:
    """Reject a firing."""
    from featurekit.monitor.triggers.judge import judge

    with open_store(arguments) as store:
        trigger_of(store.parts, arguments.trigger)
        made = judge(
            store.parts,
            arguments.trigger,
            occasion=arguments.occasion,
            yes=False,
            said=arguments.reason,
        )
    screen.document(firing_document(arguments.trigger, made))
    screen.line(f"Rejected: {made.occasion(arguments.trigger)}, {made.reason}")
