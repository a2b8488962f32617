"""`featurekit pipeline show`: the steps of the pipeline."""

from __future__ import annotations

import dataclasses
import shlex
from argparse import Namespace

from featurekit.cli.arguments import verb
from featurekit.cli.pipeline import described
from featurekit.core.screen import Screen


@verb("Every step is checked as a command line, and none of them runs.")
def show(arguments: Namespace, screen: Screen) -> None:
    """Show the steps."""
    found = described(arguments)
    screen.document(dataclasses.asdict(found))
    screen.table(
        ("step", "command", "after", "goes on after", "retries", "at most"),
        [
            (
                step.name,
                shlex.join(step.words),
                ", ".join(step.needs) or None,
                ", ".join(map(str, (0, *step.go_on))),
                step.retries,
                None if step.timeout_s is None else f"{step.timeout_s} s",
            )
            for step in found.steps
        ],
    )
    when = "by hand" if found.schedule is None else f"at {found.schedule}, {found.timezone}"
    where = "" if found.image is None else f", in {found.image}"
    screen.line(f"\n{found.name} runs {when}{where}.")
