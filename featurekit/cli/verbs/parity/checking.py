"""Turns the options that modes of parity share into checks of services, and into their reports."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurekit.cli.arguments import Option, Parser, argument, budget, budget_of_values
from featurekit.cli.repo import open_store
from featurekit.core.calls import near
from featurekit.core.files import check_writable
from featurekit.core.screen import Screen, warn
from featurekit.errors import FeaturekitError
from featurekit.parity.budget import Budget

if TYPE_CHECKING:
    from featurekit.parity.report import Report
    from featurekit.store import FeatureStore


# --- options --------------------------------------------------------------------------------------


def service_options(default: int) -> tuple[Option, ...]:
    """What a mode that asks about services takes; `default` is its budget in values."""
    return (
        argument("services", nargs="*", metavar="SERVICE", help="services (default: every one)"),
        budget_options(default, "values to compare for each service,"),
        html_option(),
        junit_option("a test case for each feature, a failure with its diagnosis"),
    )


def budget_options(default: int, text: str) -> Option:
    """--budget, --values for the same, and --seed."""

    def add(made: Parser) -> None:
        group = made.add_mutually_exclusive_group()
        group.add_argument(
            "--budget",
            type=budget,
            default=Budget(values=default),
            metavar="N|TIME",
            help=f"{text} or how long to go on in all: 30s, 5m (default: {default} values)",
        )
        group.add_argument(
            "--values",
            dest="budget",
            type=budget_of_values,
            metavar="N",
            help="the same as --budget N",
        )
        made.add_argument(
            "--seed", type=int, default=0, metavar="N", help="other questions (default: 0)"
        )

    return add


def html_option() -> Option:
    """--html."""
    return argument(
        "--html", type=Path, metavar="REPORT.html", help="write a page that needs no other file"
    )


def junit_option(text: str) -> Option:
    """--junit; `text` says what a test case is."""
    return argument(
        "--junit", type=Path, metavar="REPORT.xml", help=f"write a JUnit report: {text}"
    )


def engine_option() -> Option:
    """--engine."""
    return argument(
        "--engine",
        metavar="ENGINE",
        help="what makes the offline values: ray, spark, ray://HOST:10001, spark://HOST:7077 … "
        "(default: this process)",
    )


_MODES = ("exhaust", "feast", "fuzz", "history", "operators", "replay", "sample")

# --- checks ---------------------------------------------------------------------------------------


def check_files(arguments: Namespace) -> None:
    """ConfigError, before anything is compared, where a report could not be written."""
    for option in ("html", "junit"):
        path = getattr(arguments, option, None)
        if path is not None:
            check_writable(path, f"--{option}")


def check_services(arguments: Namespace, screen: Screen, **options: Any) -> bool:
    """Check each service that is named in the mode that is named; whether the paths agree."""
    with open_store(arguments) as store:
        names = service_names(store, arguments)
        budget = budget_of_each(arguments, names)
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


def service_names(store: FeatureStore, arguments: Namespace) -> list[str]:
    """The services that are to be checked; FeaturekitError where there is none."""
    names: list[str] = arguments.services or list(store.repo.compiled_services)
    if not names:
        raise FeaturekitError(f"{store.path} defines no FeatureService, so nothing is served")
    for name in names:
        if arguments.mode == "history" and name not in store.repo.compiled_services:
            # Without a mode, the first word may have been meant as one.
            raise FeaturekitError(
                f"{name!r} is neither a mode ({', '.join(_MODES)}) nor a service of "
                f"{store.path}; "
                + near(name, [*_MODES, *store.repo.compiled_services], listed="there are")
            )
    return names


def budget_of_each(arguments: Namespace, names: list[str]) -> Budget:
    """A service's budget: so many values for each, or an equal share of the time."""
    budget: Budget = arguments.budget
    if budget.seconds is not None:
        return Budget(seconds=budget.seconds / len(names))
    return budget


# --- reports --------------------------------------------------------------------------------------


def conclude(
    screen: Screen,
    reports: list[Report],
    arguments: Namespace,
    *,
    why: str = "no source holds an event of theirs",
    show: Callable[[Screen, Report], None] | None = None,
    each: bool = True,
) -> bool:
    """Show what was found, by `show` or as parity does, and write the files that were asked for;
    whether the paths agree. FeaturekitError, which says `why`, where nothing could be compared: of
    `each` of the reports, or of all of them."""
    from featurekit.parity.reports.show import show_report

    failed = write_reports(reports, arguments)
    compared = [r for r in reports if each or r.compared]
    agree = bool(compared) and all(r.ok for r in compared)
    screen.document({"ok": agree, "services": [r.to_dict() for r in reports]})
    for report in reports:
        (show or show_report)(screen, report)
    differs = any(r.differing for r in reports)
    for error in failed:
        if not differs:
            raise error
        warn(str(error))
    empty = [r.service for r in reports if not r.compared]
    if empty and not differs and (each or len(empty) == len(reports)):
        raise FeaturekitError(f"nothing could be compared for {', '.join(empty)}: {why}")
    return agree


def write_reports(reports: list[Report], arguments: Namespace) -> list[FeaturekitError]:
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
