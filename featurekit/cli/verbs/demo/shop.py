"""`featurekit demo shop`: does all of it on the example shop."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from featurekit.cli.arguments import UsageError, argument, positive, verb
from featurekit.core.screen import Screen


@verb(
    "On generated data, or with --data on the order lines of a real shop.",
    argument(
        "--data",
        type=Path,
        metavar="PATH",
        help='order lines with the columns of "Online Retail", Parquet',
    ),
    argument(
        "--folder",
        type=Path,
        metavar="FOLDER",
        help="work here and keep it (default: a temporary one)",
    ),
    argument(
        "--labels",
        type=positive,
        default=20_000,
        metavar="N",
        help="rows of the training sets (default: 20000)",
    ),
    argument(
        "--values",
        type=positive,
        default=100_000,
        metavar="N",
        help="values that the parity check compares (default: 100000)",
    ),
    argument(
        "--write-data",
        type=Path,
        metavar="FOLDER",
        help="write the generated data to a folder, and do nothing else",
    ),
)
def shop(arguments: Namespace, screen: Screen) -> bool:
    """Do all of it on the example shop."""
    from featurekit.cli.demo.run import run_demo, write_data

    if arguments.write_data is not None:
        if arguments.data is not None or arguments.folder is not None:
            raise UsageError("--write-data does nothing else; leave out --data and --folder")
        write_data(screen, arguments.write_data)
        return True
    return run_demo(
        screen,
        folder=arguments.folder,
        data=arguments.data,
        redis_url=arguments.redis_url,
        labels=arguments.labels,
        values=arguments.values,
    )
