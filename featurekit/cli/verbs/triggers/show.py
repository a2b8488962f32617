"""`featurekit triggers show`: shows all there is to know of a trigger."""

from __future__ import annotations

from argparse import Namespace

from featurekit.cli.arguments import verb
from featurekit.cli.repo import open_store
from featurekit.cli.served import at_second
from featurekit.cli.triggers import TRIGGER, state_document, trigger_of
from featurekit.core.screen import Screen


@verb(
    "The newest twenty firings are kept here; `featurekit triggers log` has all of them.", TRIGGER
)
def show(arguments: Namespace, screen: Screen) -> None:
    """Show a trigger."""
    from featurekit.monitor.triggers.state import read_states

    name = arguments.trigger
    with open_store(arguments) as store:
        project = store.parts
        config = trigger_of(project, name)
        state = read_states(project.online, project.name, [name])[name]
    found = state_document(name, config, state)
    screen.document(found)
    screen.line(f"{name}: {found['condition']}", style="bold")
    for action in found["actions"]:
        screen.line(f"  does: {action}")
    for option in ("every", "cooldown", "quiet_hours", "approve", "dry_run", "repeatable"):
        value = getattr(config, option)
        if option == "quiet_hours" and value is not None:
            value = f"{value.start} to {value.end} in {value.timezone}"
        if value not in (None, False):
            screen.line(f"  {option.replace('_', ' ')}: {value if value is not True else 'yes'}")
    looked = found["looked"]
    screen.line(
        f"  {found['phase']}; looked at {'never' if looked is None else at_second(looked)}; "
        f"{found['waiting']} occasions wait"
    )
    if found["error"]:
        screen.line(f"  the last look failed: {found['error']}", style="bold red")
    firings = ([found["now"]] if found["now"] else []) + found["past"]
    if firings:
        screen.line("")
        screen.table(
            ("occasion", "at", "phase", "reason", "asked by", "judged by", "how it ended"),
            [
                (
                    one["occasion"], at_second(one["at"]), one["phase"], one["reason"],
                    one["asker"], one["judge"], one["said"],
                )
                for one in firings
            ],
        )  # fmt: skip
