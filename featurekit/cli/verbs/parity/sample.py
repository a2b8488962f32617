"""`featurekit parity sample`: compares the live store with offline, once or again and again."""

from __future__ import annotations

import datetime as dt
import os
import sys
import threading
from argparse import Namespace
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from featurekit.cli.arguments import UsageError, argument, port, positive, seconds, url, verb
from featurekit.cli.interrupt import stopping
from featurekit.cli.repo import open_store
from featurekit.cli.verbs.parity.checking import (
    budget_of_each,
    conclude,
    service_names,
    service_options,
    write_reports,
)
from featurekit.core.screen import Screen, warn
from featurekit.errors import FeaturekitError
from featurekit.parity.budget import Budget

if TYPE_CHECKING:
    from featurekit.monitor.metrics import Metrics
    from featurekit.monitor.watch import Watch
    from featurekit.parity.modes.remote import Ask
    from featurekit.parity.modes.sample import LiveCheck
    from featurekit.parity.report import Report

TOKEN_VARIABLE = "FEATUREKIT_TOKEN"
_ASK_S = 30.0


@verb(
    "Only reads. Tells values that differ since events are not online yet (lag) from those "
    "that differ for another reason (skew); lag is shown, and is no difference.",
    *service_options(100_000),
    argument(
        "--rate",
        type=positive,
        default=50_000,
        metavar="N",
        help="read at most so many states a second (default: 50000)",
    ),
    argument(
        "--every",
        type=seconds,
        metavar="TIME",
        help="check again and again, as in 5m; ends with 1 at the first skew",
    ),
    argument("--keep-going", action="store_true", help="with --every: go on after a skew"),
    argument(
        "--metrics-port",
        type=port,
        metavar="PORT",
        help="with --every: answer Prometheus at http://HOST:PORT/metrics",
    ),
    argument(
        "--metrics-host",
        default="127.0.0.1",
        metavar="HOST",
        help="the address to listen at (default: 127.0.0.1; 0.0.0.0 is every one)",
    ),
    argument(
        "--metrics-file",
        type=Path,
        metavar="FILE",
        help="write the metrics to a file, as for node_exporter's textfile collector",
    ),
    argument(
        "--url",
        dest="server",
        metavar="URL",
        help="compare what `featurekit serve` answers there over HTTP, in the place of the store; "
        "FEATUREKIT_TOKEN is the token to show it",
    ),
    argument(
        "--token-file", type=Path, metavar="FILE", help="with --url: the token is in this file"
    ),
    argument(
        "--webhook", type=url, metavar="URL", help="POST the reports of a skew to it, as JSON"
    ),
)
def sample(arguments: Namespace, screen: Screen) -> bool:
    """Compare the live store with offline, once or again and again."""
    with open_store(arguments) as store, ExitStack() as stack:
        from featurekit.parity.modes.sample import LiveCheck

        if arguments.every is None and (arguments.keep_going or arguments.metrics_port is not None):
            raise UsageError("--keep-going and --metrics-port are for --every")
        names = service_names(store, arguments)
        ask = _ask(arguments, stack)
        checks = [
            LiveCheck(store.parts, n, seed=arguments.seed, rate=arguments.rate, ask=ask)
            for n in names
        ]
        for check in checks:
            stack.enter_context(closing(check))
        budget = budget_of_each(arguments, names)
        watch = _watch(checks, budget, arguments)
        if arguments.every is None:
            return _once(watch, arguments, screen)
        return _until_told(watch, arguments, screen)


def _ask(arguments: Namespace, stack: ExitStack) -> Ask | None:
    """What asks the server that is named; None where none is."""
    if arguments.server is None:
        if arguments.token_file is not None:
            raise UsageError("--token-file is for --url")
        return None
    from featurekit.client import Client
    from featurekit.core.secrets import OTHERS, read_secret

    token = os.environ.get(TOKEN_VARIABLE) or None
    if arguments.token_file is not None:
        token = read_secret(arguments.token_file, "--token-file", closed_to=OTHERS)
    client = Client(arguments.server, token, timeout_s=_ASK_S)
    return stack.enter_context(client).get_online_features


def _watch(checks: list[LiveCheck], budget: Budget, arguments: Namespace) -> Watch:
    from featurekit.monitor.watch import Watch

    return Watch(
        checks=checks,
        budget=budget,
        every=arguments.every or 0.0,
        metrics=_metrics(arguments),
        metrics_file=arguments.metrics_file,
        webhook=arguments.webhook,
        keep_going=arguments.keep_going,
        warn=warn,
    )


def _metrics(arguments: Namespace) -> Metrics | None:
    """None, and nothing loaded, where nobody asked for metrics."""
    if arguments.metrics_port is None and arguments.metrics_file is None:
        return None
    from featurekit.monitor.metrics import Metrics

    return Metrics()


def _once(watch: Watch, arguments: Namespace, screen: Screen) -> bool:
    reports: list[Report] = []
    failed: list[FeaturekitError] = []
    with screen.progress() as move:
        for check in watch.checks:
            try:
                reports.append(check.run(watch.budget, progress=partial(move, check.name)))
            except FeaturekitError as error:  # what of the others was found is not lost
                failed.append(error)
    watch.take(reports)
    if not reports:
        raise failed[0]
    agree = conclude(screen, reports, arguments)
    if failed and agree:
        raise failed[0]
    for lost in failed:
        warn(str(lost))
    return agree


def _until_told(watch: Watch, arguments: Namespace, screen: Screen) -> bool:
    """Check until a signal, or the first skew."""
    from featurekit.parity.reports.show import show_report

    def show(reports: list[Report]) -> None:
        if reports:
            for error in write_reports(reports, arguments):
                warn(str(error))
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        screen.record({"at": now, "services": [r.to_dict() for r in reports]})
        for report in reports:
            if report.differing:
                show_report(screen, report)
            lag = f", {report.lagging} lag" if report.lagging else ""
            screen.line(
                f"{now} {report.service}: {report.compared} values in {report.seconds:.1f} s, "
                f"{report.differing} differ{lag}"
            )
        sys.stdout.flush()

    stop = threading.Event()
    with stopping(stop), ExitStack() as stack:
        if watch.metrics is not None and arguments.metrics_port is not None:
            from featurekit.monitor.metrics import served

            host = arguments.metrics_host
            port = stack.enter_context(served(watch.metrics, host, arguments.metrics_port))
            screen.line(f"metrics at http://{host}:{port}/metrics")
            sys.stdout.flush()
        return watch.run(show, stop)
