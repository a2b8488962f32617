"""A tracking store of MLflow, and a repo whose model is registered there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from registered import deploy, log, write_finite

from featurekit import Contract, FeatureStore


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The plugin, with a tracking store of its own."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow

        from featurekit.plugins import mlflow as plugin

        folder = tmp_path_factory.mktemp("mlflow")
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        made = mlflow.create_experiment("churn", artifact_location=(folder / "files").as_uri())
        mlflow.set_experiment(experiment_id=made)
        yield plugin
        mlflow.set_tracking_uri(None)


@pytest.fixture
def repo(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repo that is applied and filled, whose numbers are finite."""
    monkeypatch.setenv("FEATUREKIT_REDIS_URL", redis_url)
    folder = write_finite(tmp_path / "repo")
    monkeypatch.chdir(folder)
    deploy()
    return folder


@pytest.fixture(scope="module")
def logged() -> dict[str, Any]:
    """What was logged by the first test that asks for it: all repos here are the same."""
    return {}


@pytest.fixture
def churn(mlflow: Any, repo: Path, logged: dict[str, Any]) -> tuple[Any, Contract, str]:
    """A model, its contract, and where it is registered."""
    if "churn" not in logged:
        with FeatureStore(".") as store:
            logged["churn"] = log(mlflow, store)
    found: tuple[Any, Contract, str] = logged["churn"]
    return found
