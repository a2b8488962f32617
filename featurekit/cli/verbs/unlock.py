"""`featurekit unlock`: shows who works on which source, and lets go of what the dead hold."""

from __future__ import annotations

from argparse import Namespace

from featurekit.cli.arguments import argument, verb
from featurekit.cli.repo import open_store
from featurekit.core.screen import Screen
from featurekit.core.types import instant


@verb(
    "A living process renews what it holds every few seconds, by the online store's clock; what is "
    "not renewed ends by itself, and whoever is held up by it waits no longer than that. A process "
    "that wakes up afterwards writes nothing any more.",
    argument("sources", nargs="*", metavar="SOURCE", help="these sources only (default: all)"),
    argument(
        "--force",
        action="store_true",
        help="let go of what the living hold, too: what they have not written yet is not written",
    ),
)
def unlock(arguments: Namespace, screen: Screen) -> None:
    """Show who holds what; let go of the dead."""
    with open_store(arguments) as store:
        found = store.unlock(arguments.sources, force=arguments.force)
    rows = [
        {
            "source": lease.source,
            "verb": lease.verb,
            "host": lease.host,
            "pid": lease.pid,
            "since": instant(lease.since) if lease.since else None,
            "until": instant(lease.until),
            "living": not lease.ended,
            "let_go": gone,
        }
        for lease, gone in found
    ]
    screen.document({"held": rows})
    if not rows:
        screen.line("Nobody holds anything.")
        return
    screen.table(
        ("source", "verb", "host", "pid", "since", "held until", ""),
        [(*list(row.values())[:6], _what(row["living"], row["let_go"])) for row in rows],
    )
    if any(row["living"] and not row["let_go"] for row in rows):
        screen.line(
            "\nWhat is still held is renewed by its process, or ends then. --force lets go of it."
        )


def _what(living: object, gone: object) -> str:
    if gone:
        return "let go of, by force" if living else "dead: let go of"
    return "held" if living else "renewed meanwhile"
