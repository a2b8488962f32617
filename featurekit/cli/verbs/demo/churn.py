"""`featurekit demo churn`: from order lines to a model that is served, step by step."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from featurekit.cli.arguments import argument, port, positive, verb
from featurekit.core.screen import Screen


@verb(
    "Needs featurekit[mlflow,server]. What it makes stands in a folder of "
    "its own, with the registry of MLflow on SQLite; a second run in the same folder goes on from "
    "there. The exit code is 1 where the model does not beat the baseline, so that nothing is "
    "registered, or where online and offline differ; it is 3 where a contract does not hold.",
    argument(
        "--data",
        type=Path,
        metavar="PATH",
        help='order lines with the columns of "Online Retail", Parquet (default: generated ones)',
    ),
    argument(
        "--folder",
        type=Path,
        metavar="FOLDER",
        help="work here and keep it; that of an earlier run, too (default: a temporary one)",
    ),
    argument(
        "--rows",
        type=positive,
        default=5_000,
        metavar="N",
        help="rows to predict over HTTP (default: 5000)",
    ),
    argument(
        "--port",
        type=port,
        default=0,
        metavar="PORT",
        help="where `featurekit serve` listens (default: a free one)",
    ),
)
def churn(arguments: Namespace, screen: Screen) -> int | None:
    """Make and ship a model of churn."""
    from featurekit.cli.demo.churn.run import run_churn

    return run_churn(
        screen,
        folder=arguments.folder,
        data=arguments.data,
        redis_url=arguments.redis_url,
        rows=arguments.rows,
        port=arguments.port,
    )
