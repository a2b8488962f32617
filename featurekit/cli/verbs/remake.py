"""`featurekit remake`: turns the manifest of a training set into the same training set."""

from __future__ import annotations

from argparse import Namespace
from functools import partial
from pathlib import Path

from featurekit.cli.arguments import argument, verb
from featurekit.cli.repo import open_store
from featurekit.cli.verbs.get_historical import check_output, write
from featurekit.core.screen import Screen


@verb(
    "The labels lie beside the manifest, in OUT.labels.arrow. Where a source is not what it was, "
    "the error names its files.",
    argument(
        "manifest",
        type=Path,
        metavar="OUT.manifest.json",
        help="written beside a training set by get-historical -o",
    ),
    argument(
        "-o",
        "--output",
        type=Path,
        metavar="OUT.parquet",
        help="write it here, Parquet or CSV by the end of the name, with its manifest",
    ),
)
def remake(arguments: Namespace, screen: Screen) -> None:
    """Make a training set again."""
    if arguments.output is not None:
        check_output(arguments.output)
    with open_store(arguments) as store:
        training = store.remake(arguments.manifest)
        with screen.progress() as move:
            training.progress = partial(move, "rows")
            if arguments.output is not None:
                manifest = write(training, arguments.output)
            else:
                manifest = training.manifest
    screen.document({"output": arguments.output, "manifest": manifest})
    screen.line(f"Made {manifest['rows']} rows again, the same as in {arguments.manifest}.")
    screen.line(f"Content hash {manifest['content_hash']}")
