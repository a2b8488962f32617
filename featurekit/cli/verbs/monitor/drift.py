"""`featurekit monitor drift`: says whether the values of a service have moved away from a
reference."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from featurekit.cli.arguments import argument, verb
from featurekit.cli.repo import open_store
from featurekit.cli.served import LOG, at_second, rounded, window
from featurekit.core.screen import Screen

if TYPE_CHECKING:
    from featurekit.monitor.drift.report import Drift


@verb(
    "What the serving log has of a window is compared with a reference: the profile in a feature "
    "contract, a training set that is made again from its manifest, or what was served in the "
    "window before. A figure says drift where it passes its threshold, which `featurekit: "
    "monitoring:` may set, and what chance alone gives to so many rows. The exit code is 1 where a "
    "feature drifts.",
    argument("service", metavar="SERVICE", help="the service"),
    argument(
        "--reference",
        required=True,
        metavar="FILE|TIME",
        help="a feature contract or a manifest (FILE.json), or a time such as 7d: what was served "
        "for so long before the window",
    ),
    *window("1d"),
    LOG,
    argument(
        "--profiles",
        action="store_true",
        help="take both windows from kept profiles (`featurekit monitor profile`) and not from the "
        "log; they end where a part of time ends",
    ),
    argument("--all", action="store_true", help="show figures without a threshold, too"),
    argument(
        "--html", type=Path, metavar="REPORT.html", help="write a page that needs no other file"
    ),
    argument(
        "--evidently",
        type=Path,
        metavar="REPORT.html",
        help="write Evidently's own report of the same rows, too, and show its figures "
        "(featurekit[evidently]); all rows are held in memory",
    ),
    argument(
        "--junit",
        type=Path,
        metavar="REPORT.xml",
        help="write a JUnit report: a test case for each feature, a failure where it drifts",
    ),
    argument(
        "--metrics-file",
        type=Path,
        metavar="FILE",
        help="write metrics to a file, as for node_exporter's textfile collector",
    ),
)
def drift(arguments: Namespace, screen: Screen) -> bool:
    """Compare what is served with a reference."""
    with open_store(arguments) as store, screen.progress() as move:
        found = store.drift(
            arguments.service,
            arguments.reference,
            window=arguments.window,
            end=arguments.end,
            log=arguments.log,
            profiles=arguments.profiles,
            evidently=arguments.evidently,
            progress=lambda rows: move("rows", rows, rows),
        )
    if arguments.html is not None:
        from featurekit.monitor.drift.page import write_page

        write_page(arguments.html, found)
    if arguments.junit is not None:
        from featurekit.monitor.drift.junit import write_junit

        write_junit(arguments.junit, found)
    if arguments.metrics_file is not None:
        from featurekit.monitor.drift.metrics import write_metrics

        write_metrics(arguments.metrics_file, found)
    screen.document(found.to_dict())
    _show(screen, found, every=arguments.all)
    return not found.drifting


def _show(screen: Screen, found: Drift, *, every: bool) -> None:
    screen.line(
        f"{found.service}: {found.rows:,} rows served from {at_second(found.start)} to "
        f"{at_second(found.end)}, beside {found.reference_rows:,} rows of {found.reference}\n"
    )
    figures = [f for f in found.figures if every or f.verdict]
    columns = ("feature", "measure", "value", "±", "threshold", "chance", "verdict")
    screen.table(
        columns,
        [
            (
                f.feature,
                f.measure,
                *map(rounded, (f.value, f.bound, f.threshold, f.chance)),
                f.verdict,
            )
            for f in figures
        ],
    )
    for name, why in found.lacking.items():
        screen.line(f"{name}: {why}", style="bold")
    features = len({f.feature for f in found.figures} | {*found.lacking})
    screen.line(
        f"\n{len(found.drifting)} of {features} features drift"
        + (f": {', '.join(found.drifting)}." if found.drifting else ".")
    )
    _show_evidently(screen, found)


def _show_evidently(screen: Screen, found: Drift) -> None:
    if not found.evidently:
        return
    screen.line("\nEvidently, by its own defaults:")
    screen.table(
        ("feature", "test", "value", "threshold", "left out"),
        [
            (f.feature, f.method or "", *map(rounded, (f.value, f.threshold)), f.left_out)
            for f in found.evidently
        ],
    )
