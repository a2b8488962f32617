"""`featurekit triggers fire`: has a trigger fire now, or shows what it would do."""

from __future__ import annotations

import uuid
from argparse import Namespace

from featurekit.cli.arguments import argument, verb
from featurekit.cli.repo import open_store
from featurekit.cli.triggers import TRIGGER, trigger_of
from featurekit.core.screen import Screen


@verb(
    "`featurekit watch` does its actions, after its cool-down and quiet hours, and where it needs "
    "approval after that.",
    TRIGGER,
    argument("--reason", metavar="TEXT", help="why, for the log"),
    argument(
        "--dry-run",
        action="store_true",
        help="look at its condition now, show what would be done, and change nothing",
    ),
)
def fire(arguments: Namespace, screen: Screen) -> None:
    """Have a trigger fire."""
    from featurekit.monitor.triggers.judge import ask, try_out

    name = arguments.trigger
    with open_store(arguments) as store:
        config = trigger_of(store.parts, name)
        if arguments.dry_run:
            found = try_out(store.parts, name, config)
            screen.document(found)
            held = {True: "holds", False: "does not hold", None: "is not looked at"}
            screen.line(f"The condition {held[found['holds']]}. {found['reason']}")
            for action in found["actions"]:
                screen.line(f"  would do: {action}")
            for what in found["first"]:
                screen.line(f"  but first: {what}")
            return
        reason = arguments.reason or "asked for by hand"
        ask(store.parts, name, id_=f"hand:{uuid.uuid4().hex}", reason=reason)
    screen.document({"trigger": name, "reason": reason})
    screen.line(f"{name} fires as soon as `featurekit watch` comes by it: {reason}")
