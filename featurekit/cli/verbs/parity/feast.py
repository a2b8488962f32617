"""`featurekit parity --feast REPO`: compares both paths of a Feast repo, on whatever stores."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from featurekit.cli.arguments import UsageError, argument, instant, positive, verb
from featurekit.cli.verbs.parity.checking import conclude, html_option, junit_option
from featurekit.core.screen import Screen


@verb(
    "Needs featurekit[feast], and nothing of featurekit in the repo: entities are asked about "
    "through Feast's own get_historical_features and get_online_features, as of the end of the "
    "last materialisation and as of now. Nothing is written to its registry or its stores. What "
    "differs only since its row was not materialised yet is lag, and no difference.",
    argument(
        "--feast", type=Path, metavar="REPO", help="the folder of the Feast repo (default: .)"
    ),
    argument(
        "--view", dest="views", action="append", metavar="VIEW",
        help="a feature view or on-demand view; may be given several times (default: all)",
    ),
    argument(
        "--service", dest="services", action="append", metavar="SERVICE",
        help="a feature service; may be given several times (default: all)",
    ),
    argument(
        "--entities", type=Path, metavar="FILE",
        help="the entities, with request fields where there are any: CSV, Parquet or JSON "
        "(default: drawn from the sources)",
    ),
    argument(
        "--rows", type=positive, default=1000, metavar="N",
        help="draw so many entities for each view or service (default: 1000)",
    ),
    argument("--seed", type=int, default=0, metavar="N", help="other entities (default: 0)"),
    argument(
        "--at", type=instant, metavar="T",
        help="ask offline as of this instant alone, which online is to stand for",
    ),
    argument(
        "--statuses", action="store_true",
        help="compare statuses, too: of an entity without a row, Feast's Redis store says PRESENT",
    ),
    html_option(),
    junit_option("a test case for each feature, a failure with its cause"),
)  # fmt: skip
def feast(arguments: Namespace, screen: Screen) -> bool:
    """Compare both paths of a Feast repo."""
    if arguments.feast is not None and arguments.repo is not None:
        raise UsageError("write one of --feast and --repo: both name the repo")
    from featurekit.plugins.feast import Asked, check_feast
    from featurekit.plugins.feast.parity.report import show_feast_report

    asked = Asked(
        views=arguments.views or (),
        services=arguments.services or (),
        entities=arguments.entities,
        at=arguments.at,
        rows=arguments.rows,
        seed=arguments.seed,
        statuses=arguments.statuses,
    )
    with screen.progress() as move:
        reports = check_feast(arguments.feast or arguments.repo or Path(), asked, progress=move)
    failed = [report.failed for report in reports if report.failed is not None]
    why = "; ".join(dict.fromkeys(reason for report in reports for reason in report.unchecked))
    agree = conclude(screen, [*reports], arguments, why=why, show=show_feast_report, each=False)
    if agree and failed:
        raise failed[0]
    return agree
