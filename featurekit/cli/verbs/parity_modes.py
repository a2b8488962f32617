"""What each mode of `featurekit parity` does: one function a mode, named as the mode is.

Each takes the feature store (but `operators`, which needs none), the arguments and the screen, and
returns whether the paths agree.
"""

from __future__ import annotations

import argparse
import datetime as dt
import signal
import sys
import threading
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurekit.cli.parser import UsageError
from featurekit.core.files import check_writable
from featurekit.core.screen import Screen
from featurekit.define.proven import duckdb_version
from featurekit.errors import FeaturekitError
from featurekit.language import ops
from featurekit.parity.budget import Budget
from featurekit.parity.report import Report
from featurekit.parity.reports.show import show_operators, show_report
from featurekit.store import FeatureStore

if TYPE_CHECKING:
    from featurekit.monitor.watch import Watch
    from featurekit.parity.modes.sample import LiveCheck


def check_files(arguments: argparse.Namespace) -> None:
    """ConfigError, before anything is compared, where a report could not be written."""
    for option in ("html", "junit"):
        path = getattr(arguments, option, None)
        if path is not None:
            check_writable(path, f"--{option}")


def history(store: FeatureStore, arguments: argparse.Namespace, screen: Screen) -> bool:
    """Replay what the files and the log of pushes hold into a scratch Redis."""
    return _of_services(store, arguments, screen)


def fuzz(store: FeatureStore, arguments: argparse.Namespace, screen: Screen) -> bool:
    """Invent events and play them through both paths."""
    return _of_services(store, arguments, screen, workers=arguments.workers)


def _of_services(
    store: FeatureStore, arguments: argparse.Namespace, screen: Screen, **options: Any
) -> bool:
    names = services(store, arguments)
    budget: Budget = arguments.budget
    if budget.seconds is not None:
        budget = Budget(seconds=budget.seconds / len(names))
    with screen.progress() as move:
        reports = [
            store.check_parity(
                name,
                mode=arguments.mode,
                budget=budget,
                seed=arguments.seed,
                progress=partial(move, name),
                **options,
            )
            for name in names
        ]
    return conclude(screen, reports, arguments)


def replay(store: FeatureStore, arguments: argparse.Namespace, screen: Screen) -> bool:
    """Recompute what the serving log says was served."""
    from featurekit.parity.modes.replay import replay as replayed

    with screen.progress() as move:
        reports = replayed(
            store.parts,
            arguments.services,
            store.served(arguments.log),
            budget=arguments.budget,
            progress=lambda done: move("rows", done, done),
        )
    if not reports or not any(r.compared or r.unchecked for r in reports):
        of = f" of {', '.join(arguments.services)}" if arguments.services else ""
        raise FeaturekitError(f"the serving log holds no rows{of}")
    return conclude(screen, reports, arguments, why="see what was not checked")


def sample(store: FeatureStore, arguments: argparse.Namespace, screen: Screen) -> bool:
    """Compare the live store with offline, once or again and again."""
    from featurekit.parity.modes.sample import LiveCheck

    if arguments.every is None and (arguments.keep_going or arguments.metrics_port is not None):
        raise UsageError("--keep-going and --metrics-port are for --every")
    names = services(store, arguments)
    budget: Budget = arguments.budget
    if budget.seconds is not None:
        budget = Budget(seconds=budget.seconds / len(names))
    checks = [LiveCheck(store.parts, n, seed=arguments.seed, rate=arguments.rate) for n in names]
    with ExitStack() as stack:
        for check in checks:
            stack.enter_context(closing(check))
        return _sampled(checks, budget, arguments, screen)


def _sampled(
    checks: list[LiveCheck], budget: Budget, arguments: argparse.Namespace, screen: Screen
) -> bool:
    from featurekit.monitor.metrics import Metrics
    from featurekit.monitor.watch import Watch

    metrics = Metrics()
    watch = Watch(
        checks,
        budget,
        arguments.every or 0.0,
        metrics,
        arguments.metrics_file,
        arguments.webhook,
        arguments.keep_going,
        warn=_warn,
    )
    if arguments.every is not None:
        return _watch(watch, arguments, screen)
    reports: list[Report] = []
    failed: list[FeaturekitError] = []
    with screen.progress() as move:
        for check in checks:
            try:
                reports.append(check.run(budget, progress=partial(move, check.name)))
            except FeaturekitError as error:  # what of the others was found is not lost
                failed.append(error)
    watch.take(reports)
    if not reports:
        raise failed[0]
    agree = conclude(screen, reports, arguments)
    if failed and agree:
        raise failed[0]
    for lost in failed:
        _warn(str(lost))
    return agree


def _watch(watch: Watch, arguments: argparse.Namespace, screen: Screen) -> bool:
    """Check until a signal, or the first skew."""
    from featurekit.monitor.metrics import served

    def show(reports: list[Report]) -> None:
        if reports:
            for error in _write(reports, arguments):
                _warn(str(error))
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
    before = {n: signal.signal(n, lambda *_: stop.set()) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        with ExitStack() as stack:
            if arguments.metrics_port is not None:
                host = arguments.metrics_host
                port = stack.enter_context(served(watch.metrics, host, arguments.metrics_port))
                screen.line(f"metrics at http://{host}:{port}/metrics")
                sys.stdout.flush()
            return watch.run(show, stop)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def operators(arguments: argparse.Namespace, screen: Screen, state_dir: Path | None) -> bool:
    """Compare every row of the operator table three ways, and every aggregate; the proof is kept in
    the state folder, where there is one."""
    from featurekit.parity.modes.prove import keep_proof, prove

    budget: Budget = arguments.budget
    if arguments.inputs is not None:
        rows = sum(arguments.only in key for key in ops.TABLE)
        budget = Budget(values=arguments.inputs * max(rows, 1))
    with screen.progress() as move:
        report = prove(
            budget=budget,
            seed=arguments.seed,
            only=arguments.only,
            progress=partial(move, "operators"),
        )
    if not report.all:
        raise FeaturekitError(f"no operator's name contains {arguments.only!r}")
    kept = None if state_dir is None else keep_proof(report, state_dir, only=arguments.only)
    if arguments.html is not None:
        from featurekit.parity.reports.page import write_operators_page

        write_operators_page(arguments.html, report.to_dict())
    if arguments.junit is not None:
        from featurekit.parity.reports.junit import write_operators_junit

        write_operators_junit(arguments.junit, report)
    screen.document(report.to_dict())
    show_operators(screen, report)
    if kept is not None:
        screen.line(f"DuckDB {duckdb_version()}: the proof is kept in {kept}")
    return report.ok


def services(store: FeatureStore, arguments: argparse.Namespace) -> list[str]:
    """The services that are to be checked."""
    names: list[str] = arguments.services or list(store.repo.compiled_services)
    if not names:
        raise FeaturekitError(f"{store.path} defines no FeatureService, so nothing is served")
    for name in names:
        if arguments.mode == "history" and name not in store.repo.compiled_services:
            # Without a mode, the first word may have been meant as one.
            raise FeaturekitError(
                f"{name!r} is neither a mode (fuzz, history, operators, replay, sample) nor a "
                f"service of {store.path}; services: {', '.join(store.repo.compiled_services)}"
            )
    return names


def conclude(
    screen: Screen,
    reports: list[Report],
    arguments: argparse.Namespace,
    *,
    why: str = "no source holds an event of theirs",
) -> bool:
    """Show what was found, and write the files that were asked for; FeaturekitError where nothing
    could be compared."""
    failed = _write(reports, arguments)
    agree = all(r.ok for r in reports)
    screen.document({"ok": agree, "services": [r.to_dict() for r in reports]})
    for report in reports:
        show_report(screen, report)
    differs = any(r.differing for r in reports)
    for error in failed:
        if not differs:
            raise error
        _warn(str(error))
    empty = [r.service for r in reports if not r.compared]
    if empty and not differs:
        raise FeaturekitError(f"nothing could be compared for {', '.join(empty)}: {why}")
    return agree


def _write(reports: list[Report], arguments: argparse.Namespace) -> list[FeaturekitError]:
    """Write the files that were asked for; why those could not be written that were not."""
    failed: list[FeaturekitError] = []
    if arguments.html is not None:
        from featurekit.parity.reports.page import write_page

        try:
            write_page(arguments.html, [r.to_dict() for r in reports])
        except FeaturekitError as error:
            failed.append(error)
    if arguments.junit is not None:
        from featurekit.parity.reports.junit import write_junit

        try:
            write_junit(arguments.junit, reports)
        except FeaturekitError as error:
            failed.append(error)
    return failed


def _warn(text: str) -> None:
    print(f"featurekit: warning: {text}", file=sys.stderr, flush=True)
