"""`featurekit consume`: takes events from a Redis stream."""

from __future__ import annotations

import threading
from argparse import Namespace

from featurekit.cli.arguments import argument, positive, verb
from featurekit.cli.interrupt import stopping
from featurekit.cli.repo import open_store
from featurekit.core.screen import Screen


@verb(
    "Each entry counts once, whatever crashes: the source needs an event_id. Runs until it is "
    "interrupted. An entry is a field for each column, or one field json with an object.",
    argument("source", metavar="SOURCE", help="the source's name"),
    argument("--stream", metavar="KEY", help="the stream's key (default: the source's name)"),
    argument(
        "--stream-url", metavar="URL", help="the stream's Redis (default: the online store's)"
    ),
    argument(
        "--group", default="featurekit", metavar="NAME", help="the group (default: featurekit)"
    ),
    argument("--name", metavar="NAME", help="this member of the group (default: the host's name)"),
    argument(
        "--batch", type=positive, default=500, metavar="N", help="entries at once (default: 500)"
    ),
    argument(
        "--idle",
        type=positive,
        default=60,
        metavar="SECONDS",
        help="take over what another member has left for so long (default: 60)",
    ),
    argument("--until-empty", action="store_true", help="end when nothing is left to take"),
)
def consume(arguments: Namespace, screen: Screen) -> None:
    """Take events from a Redis stream until it is interrupted, or nothing is left."""
    stop = threading.Event()  # the batch in hand is finished first
    with open_store(arguments) as store, screen.progress() as move, stopping(stop):
        done = store.consume(
            arguments.source,
            stream=arguments.stream,
            url=arguments.stream_url,
            group=arguments.group,
            name=arguments.name,
            batch=arguments.batch,
            idle_s=arguments.idle,
            until_empty=arguments.until_empty,
            stop=stop,
            progress=lambda now: move("entries", now.entries, now.entries),
        )
    counts = {
        "entries": done.entries,
        "taken_over": done.taken_over,
        "set_aside": done.set_aside,
        "trimmed": done.trimmed,
    }
    screen.document({"source": arguments.source, **counts})
    screen.table(
        ("source", "entries", "taken over", "set aside", "trimmed before"),
        [[arguments.source, *counts.values()]],
    )
