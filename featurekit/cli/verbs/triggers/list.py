"""`featurekit triggers list`: lists the triggers of a repo, and what became of each."""

from __future__ import annotations

from argparse import Namespace

from featurekit.cli.arguments import verb
from featurekit.cli.repo import open_store
from featurekit.cli.served import at_second
from featurekit.cli.triggers import condition, phase_of, state_document
from featurekit.core.screen import Screen
from featurekit.core.types import instant


@verb("")
def list(arguments: Namespace, screen: Screen) -> None:
    """List the triggers."""
    from featurekit.monitor.triggers.state import read_states

    with open_store(arguments) as store:
        project = store.parts
        triggers = project.config.featurekit.triggers
        states = read_states(project.online, project.name, triggers)
    shown = [state_document(name, triggers[name], state) for name, state in states.items()]
    screen.document({"triggers": shown})
    if not triggers:
        screen.line(
            "No triggers. Write some under featurekit: triggers: in feature_store.yaml, as in\n"
            '  nightly: {schedule: "0 3 * * *", actions: [{command: [make, train]}]}'
        )
        return
    rows = []
    for name, state in states.items():
        last = state.last
        at = "" if last is None else at_second(instant(last.at))
        how = "" if last is None else f"{last.phase}: {last.said or last.reason}"
        rows.append((name, condition(triggers[name]), phase_of(state), state.fired, at, how))
    screen.table(("trigger", "condition", "is", "fired", "last", "how"), rows)
