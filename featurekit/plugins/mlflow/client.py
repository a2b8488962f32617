"""Imports MLflow, says what it refuses in featurekit's words, and describes columns as it does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from featurekit.core.types import from_text
from featurekit.errors import ConfigError, DataError

try:
    import mlflow
    import mlflow.entities
    import mlflow.models
    import mlflow.sklearn
    import mlflow.types
    from mlflow.exceptions import MlflowException
except ImportError as error:
    raise ConfigError(
        f"featurekit.plugins.mlflow: MLflow cannot be imported ({error}); install "
        "featurekit[mlflow]"
    ) from None

__all__ = ["active_run", "deleted", "downloaded", "explained", "mlflow", "schema_of"]

_TYPES = {
    "bool": "boolean",
    "int": "long",
    "float": "double",
    "str": "string",
    "bytes": "binary",
    "datetime": "datetime",
}


@contextmanager
def active_run() -> Iterator[str]:
    """The id of the active run, or of a new one, which then ends."""
    active = mlflow.active_run()
    if active is not None:
        yield active.info.run_id
        return
    with mlflow.start_run() as run:
        yield run.info.run_id


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Errors of MLflow as DataError, which names what they are about."""
    try:
        yield
    except (MlflowException, OSError) as error:
        first = str(error).strip().partition("\n")[0]
        raise DataError(
            f"{what}: MLflow at {mlflow.get_tracking_uri()} refuses it: {first}"
        ) from error


def downloaded(uri: str, folder: str) -> Path:
    """An artifact, which is downloaded into a folder."""
    return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder))


def deleted(base: str, path: str) -> None:
    """Delete a file of the artifacts below `base`, which need not be there any more."""
    mlflow.artifacts.get_artifact_repository(base).delete_artifacts(path)


def schema_of(columns: Sequence[Any]) -> Any:
    """The columns of features and labels as MLflow describes them. What it has no type for, as a
    list or a date, is of any type there. A label may be null."""
    return mlflow.types.Schema([_spec_of(one) for one in columns])


def _spec_of(column: Any) -> Any:
    known = _TYPES.get(from_text(column.type).name)
    return mlflow.types.ColSpec(
        known or mlflow.types.schema.AnyType(),
        column.name,
        required=known is not None and getattr(column, "nulls", "may") == "never",
    )
