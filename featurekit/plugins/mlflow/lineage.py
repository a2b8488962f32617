"""Turns a model of MLflow's registry into what it was trained on."""

from __future__ import annotations

from typing import Any

from featurekit.core.types import instant
from featurekit.plugins.mlflow.client import explained, mlflow
from featurekit.plugins.mlflow.models import KeptModel
from featurekit.plugins.mlflow.training import KeptTrainingSet
from featurekit.project.lineage.models import ModelLineage, model_lineage_of
from featurekit.store import FeatureStore

_MS_US = 1_000


def model_lineage(uri: str, *, store: FeatureStore) -> ModelLineage:
    """Which exact data, features, code and version a model was trained on, as in "models:/churn/3".

    The model is checked as by `load_model`, and may be of a version that is not served any more.
    ContractRefused where its contract is not believed, or not signed by a key that the store holds;
    DataError where MLflow has no such model.
    """
    kept = KeptModel(uri)
    contract = kept.believed([key.text for key in store.parts.trust.keys])
    found = KeptTrainingSet.of(kept, contract)
    where = {
        "run": kept.run_id,
        "manifest": None if found is None else found.manifest,
        "labels": None if found is None else found.labels,
    }
    return model_lineage_of(store.parts, contract, _about(kept), where)


def _about(kept: KeptModel) -> dict[str, Any]:
    """What MLflow says of a model: its version and aliases, when and by whom it was logged, and the
    hash of its file."""
    version, info = kept.version, kept.info
    told = {
        "uri": kept.uri,
        "name": None if version is None else version.name,
        "version": None if version is None else str(version.version),
        "aliases": [] if version is None else sorted(version.aliases),
        "model_id": info.model_id,
        "sha256": kept.sha256(),
        "logged_at": None,
        "logged_by": None,
    }
    if kept.run_id is None:
        return told
    with explained(kept.uri):
        run = mlflow.MlflowClient().get_run(kept.run_id)
    began = instant(run.info.start_time * _MS_US).isoformat(timespec="seconds")
    return {**told, "logged_at": began, "logged_by": run.data.tags.get("mlflow.user")}
