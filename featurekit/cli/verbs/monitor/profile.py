"""`featurekit monitor profile`: keeps profiles of what was served, and shows them."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from featurekit.cli.arguments import argument, verb
from featurekit.cli.repo import open_store
from featurekit.cli.served import LOG, rounded, window
from featurekit.core.screen import Screen

_NUMBERS = ("least", "q25", "q50", "q75", "greatest", "mean")


@verb(
    "What the serving log has that was not read before is counted, by feature and by parts of "
    "time, and kept in the state folder, so that files of the log may go. A row counts once, "
    "however often this runs. Of a SERVICE it shows what is kept of the last window.",
    argument("service", nargs="?", metavar="SERVICE", help="the service that is shown"),
    *window("1d"),
    LOG,
)
def profile(arguments: Namespace, screen: Screen) -> None:
    """Keep profiles of what was served."""
    found: list[dict[str, Any]] = []
    with open_store(arguments) as store:
        with screen.progress() as move:
            done = store.profile(log=arguments.log, progress=lambda rows: move("rows", rows, rows))
        if arguments.service is not None:
            found = store.profile_of(arguments.service, window=arguments.window, end=arguments.end)
    screen.document({"rows": done.rows, "files": done.files, "features": found})
    screen.line(f"{done.rows:,} rows of the serving log were read.")
    if found:
        heads = ("feature", "rows", "null", "errors", "distinct", *_NUMBERS, "most frequent")
        screen.table(heads, [_row(one) for one in found])


def _row(one: dict[str, Any]) -> tuple[Any, ...]:
    top = ", ".join(f"{value} ({n:,})" for value, n in (one["top"] or [])[:3])
    counts = one["present"] + one["null"], one["null"], one["errors"], one["distinct"]
    return (one["feature"], *counts, *(rounded(one[name]) for name in _NUMBERS), top)
