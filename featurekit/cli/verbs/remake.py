"""`featurekit remake`: turns the manifest of a training set, or the model that learnt from it, into
the same training set."""

from __future__ import annotations

from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from featurekit.cli.arguments import argument, verb
from featurekit.cli.contracts import is_model, know_mlflow
from featurekit.cli.repo import open_store
from featurekit.cli.verbs.get_historical import check_output, write
from featurekit.core.screen import Screen

if TYPE_CHECKING:
    from featurekit.offline.training_set import TrainingSet
    from featurekit.store import FeatureStore


@verb(
    "The labels lie beside the manifest, in OUT.labels.arrow. Both are read of the run of a model, "
    "where one is named. Where a source is not what it was, the error names its files.",
    argument(
        "manifest",
        metavar="OUT.manifest.json|MODEL",
        help="written beside a training set by get-historical -o; or a model in MLflow, as in "
        "models:/churn/3",
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
        training = _training(arguments.manifest, store)
        with screen.progress() as move:
            training.progress = partial(move, "rows")
            if arguments.output is not None:
                manifest = write(training, arguments.output)
            else:
                manifest = training.manifest
    screen.document({"output": arguments.output, "manifest": manifest})
    screen.line(f"Made {manifest['rows']} rows again, the same as in {arguments.manifest}.")
    screen.line(f"Content hash {manifest['content_hash']}")


def _training(name: str, store: FeatureStore) -> TrainingSet:
    """The training set of a manifest, or of a model."""
    if not is_model(name):
        return store.remake(name)
    know_mlflow()
    from featurekit.plugins.mlflow import remake as remake_of

    return remake_of(name, store=store)
