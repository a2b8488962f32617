"""The options of verbs that read the serving log."""

from __future__ import annotations

import datetime as dt

from featurekit.cli.arguments import Option, argument, duration, instant

LOG = argument(
    "--log",
    metavar="LOG",
    help="another log: a folder or a file of it, or stream:NAME in the online store's Redis",
)


def window(default: str) -> tuple[Option, Option]:
    """The part of the log that is looked at: how long, and until when."""
    return (
        argument(
            "--window",
            type=duration,
            default=default,
            metavar="TIME",
            help=f"how much of the log is looked at (default: {default})",
        ),
        argument(
            "--end",
            type=instant,
            metavar="T",
            help="the end of the window, not in it (default: now)",
        ),
    )


def at_second(at: dt.datetime) -> str:
    """An instant as a table shows it."""
    return at.isoformat(sep=" ", timespec="seconds").removesuffix("+00:00")


def rounded(value: float | None) -> float | None:
    """A figure as a table shows it, to four digits."""
    return value if value is None else float(f"{value:.4g}")
