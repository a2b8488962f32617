"""Imports MLflow, says what it refuses in featurekit's words, and describes columns as it does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
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
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request
    from mlflow.version import VERSION
    from packaging.version import Version
except ImportError as error:
    raise ConfigError(
        f"featurekit.plugins.mlflow: MLflow cannot be imported ({error}); install "
        "featurekit[mlflow]"
    ) from None

__all__ = [
    "active_run",
    "deleted",
    "downloaded",
    "explained",
    "mlflow",
    "schema_of",
    "server_version",
]

_LEAST = Version("3.0.0")
"""The first release whose servers keep models apart from runs, as `log_model` writes them."""
_VERSION_S = 3

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
    """Errors of MLflow as DataError, which names what they are about. DataError, too, before
    anything is asked or written, where the tracking server is of a release that keeps no models."""
    uri = mlflow.get_tracking_uri()
    server = server_version(uri)
    if server is not None and Version(server) < _LEAST:
        raise DataError(
            f"{what}: the tracking server at {uri} is MLflow {server}, which keeps no models of "
            f"their own; run one of release {_LEAST} or later, as {VERSION} is here"
        )
    try:
        yield
    except (MlflowException, OSError) as error:
        first = str(error).strip().partition("\n")[0]
        other = server is not None and Version(server).release[:2] != Version(VERSION).release[:2]
        raise DataError(
            f"{what}: MLflow at {uri} refuses it: {first}"
            + f"; its server is MLflow {server}, and here is {VERSION}: install one release" * other
        ) from error


@lru_cache(maxsize=8)
def _told_version(uri: str) -> str:
    """What the server at a URI says of its version. Whatever its answer raises where there is
    none, so that it is asked again."""
    creds = get_default_host_creds(uri)
    answer = http_request(
        creds, "/version", "GET", timeout=_VERSION_S, max_retries=0, retry_timeout_seconds=1
    )
    answer.raise_for_status()
    return str(Version(answer.text.strip()))


def server_version(uri: str) -> str | None:
    """The version of the tracking server at a URI; None for a place that is no server of MLflow, as
    a SQLite file, and where it does not tell."""
    if not uri.startswith(("http://", "https://")):
        return None
    with suppress(MlflowException, OSError, ValueError):
        return _told_version(uri)
    return None


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
