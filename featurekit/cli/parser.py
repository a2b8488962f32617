"""Turns the table of verbs into the parser of the command line."""

from __future__ import annotations

from featurekit.cli import verbs
from featurekit.cli.arguments import Parser, add_global, add_verbs
from featurekit.core.version import VERSION

_EPILOG = (
    "exit codes: 0 done, 1 parity differs, 2 an error that the message explains, 3 data broke its "
    "contract and nothing was written, 64 a command line that is not understood, 130 interrupted, "
    "143 terminated"
)


def parser() -> Parser:
    """Every verb with its options."""
    top = Parser(
        prog="featurekit",
        description="Features written once, the same bits in training and in serving.",
        epilog=_EPILOG,
    )
    top.add_argument("--version", action="version", version=f"featurekit {VERSION}")
    add_global(top, suppress=False)
    add_verbs(top, verbs.__name__, verbs.VERBS, dest="verb")
    return top
