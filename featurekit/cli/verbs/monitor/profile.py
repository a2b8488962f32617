"""`featurekit monitor profile`: keeps profiles of what was served, and shows them."""

from __future__ import annotations

import argparse
import datetime as dt
import sys
import time
from argparse import Namespace
from typing import Any, NoReturn

from featurekit.cli.arguments import UsageError, argument, seconds, verb
from featurekit.cli.repo import open_store
from featurekit.cli.served import LOG, at_second, rounded, window
from featurekit.core.screen import Screen, warn
from featurekit.errors import ConfigError, FeaturekitError
from featurekit.store import FeatureStore

_NUMBERS = ("least", "q25", "q50", "q75", "greatest", "mean")
_SHARE = 0.1


def _share(text: str) -> float:
    """A part of a processor."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0.0 < found <= 1.0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0 and at most 1")
    return found


@verb(
    "What the serving log has that was not read before is counted, by feature and by parts of "
    "time, and kept in the state folder, so that files of the log may go. A row counts once, "
    "however often this runs. Of a SERVICE it shows what is kept of the last window.",
    argument("service", nargs="?", metavar="SERVICE", help="the service that is shown"),
    *window("1d"),
    LOG,
    argument(
        "--every",
        type=seconds,
        metavar="TIME",
        help="count again and again beside serving, as in 1m, until it is told to stop",
    ),
    argument(
        "--share",
        type=_share,
        metavar="SHARE",
        help="take at most this share of one processor (default: all that it can get; with "
        f"--every {_SHARE})",
    ),
)
def profile(arguments: Namespace, screen: Screen) -> None:
    """Keep profiles of what was served."""
    if arguments.every is not None and arguments.service is not None:
        raise UsageError(
            "--every shows no SERVICE; leave one of the two out, and ask for what is kept beside it"
        )
    found: list[dict[str, Any]] = []
    with open_store(arguments) as store:
        if arguments.every is not None:
            _again_and_again(store, arguments, screen)
        with screen.progress() as move:
            done = store.profile(
                log=arguments.log,
                share=arguments.share,
                progress=lambda rows: move("rows", rows, rows),
            )
        if arguments.service is not None:
            found = store.profile_of(arguments.service, window=arguments.window, end=arguments.end)
    screen.document({"rows": done.rows, "files": done.files, "features": found})
    screen.line(f"{done.rows:,} rows of the serving log were read.")
    if found:
        heads = ("feature", "rows", "null", "errors", "distinct", *_NUMBERS, "most frequent")
        screen.table(heads, [_row(one) for one in found])


def _again_and_again(store: FeatureStore, arguments: Namespace, screen: Screen) -> NoReturn:
    """Count until a signal ends the process, which keeps a reading whole or not at all. A failure
    of the first time is an error, and of a later one a warning."""
    first = True
    while True:
        began = time.monotonic()
        try:
            done = store.profile(log=arguments.log, share=arguments.share or _SHARE)
        except FeaturekitError as error:
            if first or isinstance(error, ConfigError):
                raise
            warn(str(error))
        else:
            first = False
            now = at_second(dt.datetime.now(dt.UTC))
            screen.record({"at": now, "rows": done.rows, "files": done.files})
            screen.line(f"{now} {done.rows:,} rows of {done.files:,} files were read.")
            sys.stdout.flush()
        time.sleep(max(0.0, arguments.every - (time.monotonic() - began)))


def _row(one: dict[str, Any]) -> tuple[Any, ...]:
    top = ", ".join(f"{value} ({n:,})" for value, n in (one["top"] or [])[:3])
    counts = one["present"] + one["null"], one["null"], one["errors"], one["distinct"]
    return (one["feature"], *counts, *(rounded(one[name]) for name in _NUMBERS), top)
