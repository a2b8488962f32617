"""`featurekit completion`: prints a script that completes verbs and options in a shell."""

from __future__ import annotations

import argparse
from argparse import Namespace

from featurekit.cli.arguments import Parser, argument, verb
from featurekit.core.screen import Screen

SHELLS = ("bash", "zsh", "fish")


@verb(
    'For bash, write `eval "$(featurekit completion bash)"` into ~/.bashrc; for zsh, write the '
    "script as _featurekit into a folder of $fpath; for fish, as "
    "~/.config/fish/completions/featurekit.fish. The script holds every verb and option, and "
    "starts no featurekit.",
    argument("shell", choices=SHELLS, metavar="SHELL", help="bash, zsh or fish"),
)
def completion(arguments: Namespace, screen: Screen) -> None:
    """Print a script that completes verbs and options."""
    import shtab

    from featurekit.cli.parser import parser

    top = parser()
    _fill(top)
    script = shtab.complete(top, shell=arguments.shell)
    screen.document({"shell": arguments.shell, "script": script})
    screen.text(script)


def _fill(made: Parser) -> None:
    """Load every verb and mode below a parser, so that their options are there."""
    made.fill()
    for action in made._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                _fill(below)
