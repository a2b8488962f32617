"""The options by which a job gives metrics, and what gives them while it runs."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurekit.cli.arguments import argument, port
from featurekit.core.screen import warn

if TYPE_CHECKING:
    from featurekit.feed.consume import Consumer
    from featurekit.monitor.jobs import Counts, JobMetrics, Waiting
    from featurekit.project.freshness import Freshness
    from featurekit.store import FeatureStore

METRICS = (
    argument(
        "--metrics-file",
        type=Path,
        metavar="FILE",
        help="write metrics to a file, as for node_exporter's textfile collector",
    ),
    argument(
        "--metrics-port",
        type=port,
        metavar="PORT",
        help="answer Prometheus at http://HOST:PORT/metrics while it runs",
    ),
    argument(
        "--metrics-host",
        default="127.0.0.1",
        metavar="HOST",
        help="the address to listen at (default: 127.0.0.1; 0.0.0.0 is every one)",
    ),
)


class Tally:
    """Counts runs, where somebody asked for metrics."""

    def __init__(self, metrics: JobMetrics | None) -> None:
        self._metrics = metrics
        self._begun = time.monotonic()

    def took(self, counts: Callable[[], Iterable[Counts]]) -> None:
        """Count what was done since the last time."""
        now = time.monotonic()
        if self._metrics is not None:
            self._metrics.took(counts(), now - self._begun)
        self._begun = now

    def failed(self, error: BaseException) -> None:
        """Count an error."""
        if self._metrics is not None:
            self._metrics.failed(error, time.monotonic() - self._begun)


@contextmanager
def measured(
    job: str,
    store: FeatureStore,
    arguments: Namespace,
    *,
    consumer: Consumer | None = None,
) -> Iterator[Tally]:
    """Give the metrics that the arguments ask for while the block runs; nothing is loaded where
    they ask for none. An error of the block is counted."""
    with ExitStack() as stack:
        metrics = _made(job, store, arguments, consumer)
        tally = Tally(metrics)
        if metrics is not None and arguments.metrics_file is not None:
            stack.enter_context(metrics.written(arguments.metrics_file, warn))
        if metrics is not None and arguments.metrics_port is not None:
            from featurekit.monitor.metrics import served

            host = arguments.metrics_host
            found = stack.enter_context(served(metrics, host, arguments.metrics_port))
            where = f"metrics at http://{host}:{found}/metrics"
            print(f"featurekit: {where}", file=sys.stderr, flush=True)
        try:
            yield tally
        except BaseException as error:
            if isinstance(error, Exception):
                tally.failed(error)
            raise


def _made(
    job: str, store: FeatureStore, arguments: Namespace, consumer: Consumer | None
) -> JobMetrics | None:
    if arguments.metrics_file is None and arguments.metrics_port is None:
        return None
    from featurekit.monitor.jobs import JobMetrics, Waiting
    from featurekit.project.freshness import freshness

    parts = store.parts

    def fresh() -> Freshness:
        views = [view for service in parts.live().values() for view in service.stored]
        return freshness(parts.online, parts.name, views)

    def waiting() -> Waiting:
        assert consumer is not None
        entries, age_s = consumer.waiting()
        return Waiting(consumer.source.name, entries, age_s)

    options: dict[str, Any] = {} if consumer is None else {"waiting": waiting}
    return JobMetrics(job, fresh=fresh, **options)


def counts(of: str, **numbers: int) -> Counts:
    """What a run did of one source or view."""
    from featurekit.monitor.jobs import Counts

    return Counts(of, **numbers)
