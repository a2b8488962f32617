"""`featurekit consume`: takes events from a Redis stream or a topic of Kafka."""

from __future__ import annotations

import threading
from argparse import Namespace
from typing import TYPE_CHECKING

from featurekit.cli.arguments import argument, positive, verb
from featurekit.cli.interrupt import stopping
from featurekit.cli.job_metrics import METRICS, Tally, counts, measured
from featurekit.cli.repo import open_store
from featurekit.core.screen import Screen

if TYPE_CHECKING:
    from featurekit.feed.consume import Consumed


@verb(
    "Each entry counts once, whatever crashes. A Redis stream needs a source with an event_id; an "
    "entry is a field for each column, or one field json with an object. A message of Kafka is a "
    "JSON object, or what the registry of schemas says. Runs until it is interrupted. Where "
    "`featurekit: watch: consume:` names the source, its settings are the defaults.",
    argument("source", metavar="SOURCE", help="the source's name"),
    argument(
        "--from",
        dest="origin",
        metavar="URL",
        help="the server: kafka://HOST:PORT/TOPIC, kafkas://HOST:PORT/TOPIC (TLS), or a Redis "
        "(default: the online store's)",
    ),
    argument("--stream", metavar="KEY", help="the stream's key (default: the source's name)"),
    argument("--stream-url", metavar="URL", help="another word for --from"),
    argument("--dead-letter", metavar="TOPIC", help="where messages of Kafka go that are bad"),
    argument("--registry", metavar="URL", help="the registry of schemas of messages of Kafka"),
    argument("--group", metavar="NAME", help="the group (default: featurekit)"),
    argument("--name", metavar="NAME", help="this member of the group (default: the host's name)"),
    argument("--batch", type=positive, metavar="N", help="entries at once (default: 500)"),
    argument(
        "--idle",
        type=positive,
        default=60,
        metavar="SECONDS",
        help="take over what another member has left for so long (default: 60)",
    ),
    argument("--until-empty", action="store_true", help="end when nothing is left to take"),
    *METRICS,
)
def consume(arguments: Namespace, screen: Screen) -> None:
    """Take events from a stream until it is interrupted, or nothing is left."""
    from featurekit.feed.consume import Consumer
    from featurekit.project.trigger_settings import ConsumeConfig

    stop = threading.Event()  # the batch in hand is finished first
    with open_store(arguments) as store, screen.progress() as move, stopping(stop):
        watch = store.config.featurekit.watch
        found = None if watch is None else watch.consume.get(arguments.source)
        settings = found or ConsumeConfig()
        consumer = Consumer(
            store.parts,
            arguments.source,
            stream=arguments.stream or settings.stream,
            url=arguments.origin or arguments.stream_url or settings.stream_url,
            group=arguments.group or settings.group,
            name=arguments.name,
            batch=arguments.batch or settings.batch,
            idle_s=arguments.idle,
            dead_letter=arguments.dead_letter,
            registry=arguments.registry,
        )
        with measured("consume", store, arguments, consumer=consumer) as tally:
            batches = _Batches(arguments.source, tally)

            def progress(now: Consumed) -> None:
                move("entries", now.entries, now.entries)
                batches.took(now)

            done = consumer.run(until_empty=arguments.until_empty, stop=stop, progress=progress)
    shown = {
        "entries": done.entries,
        "taken_over": done.taken_over,
        "set_aside": done.set_aside,
        "trimmed": done.trimmed,
    }
    screen.document({"source": arguments.source, **shown})
    screen.table(
        ("source", "entries", "taken over", "set aside", "trimmed before"),
        [[arguments.source, *shown.values()]],
    )


class _Batches:
    """Counts batches, by what was done in all after each."""

    def __init__(self, source: str, tally: Tally) -> None:
        self.source, self.tally = source, tally
        self.rows = self.aside = 0

    def took(self, now: Consumed) -> None:
        """Count the batch that has ended."""
        rows, aside = now.entries - self.rows, now.set_aside - self.aside
        self.rows, self.aside = now.entries, now.set_aside
        self.tally.took(lambda: [counts(self.source, rows=rows, set_aside=aside)])
