"""Turns models into the versions of one name in a registry of MLflow on SQLite, which stands in a
folder."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

from featurekit.core.signing import PublicKey
from featurekit.define.feature_contract.contract import Contract
from featurekit.plugins.mlflow.client import mlflow
from featurekit.plugins.mlflow.models import load_contract, load_model, log_model
from featurekit.plugins.mlflow.training import log_training_set

ALIAS = "champion"
_KIND = "featurekit.kind"
_HASH = "featurekit.content_hash"


class Registry:
    """The versions of a model in the registry of a folder. What MLflow says of its work is not
    shown. `trusted` are the types in it that skops is told to load."""

    def __init__(self, folder: Path, model: str, trusted: Sequence[str]) -> None:
        self.model, self._trusted = model, list(trusted)
        self.uri = f"sqlite:///{folder.absolute()}/mlflow.db"
        self._files = (folder.absolute() / "mlflow").as_uri()

    @contextmanager
    def _quiet(self) -> Iterator[Any]:
        was, was_registry = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
        levels = {name: logging.getLogger(name).level for name in ("mlflow", "alembic")}
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            for name in levels:
                logging.getLogger(name).setLevel(logging.ERROR)
            mlflow.set_tracking_uri(self.uri)
            mlflow.set_registry_uri(self.uri)
            try:
                yield mlflow.MlflowClient()
            finally:
                mlflow.set_tracking_uri(was)
                mlflow.set_registry_uri(was_registry)
                for name, level in levels.items():
                    logging.getLogger(name).setLevel(level)

    def find(self, contract: Contract, kind: str) -> str | None:
        """The version that was registered of this kind of model, of the rows of this contract."""
        with self._quiet() as client:
            found = client.search_model_versions(f"name = '{self.model}'")
        same = [
            int(one.version)
            for one in found
            if one.tags.get(_KIND) == kind
            and one.tags.get(_HASH) == contract.content_hash
            and one.tags.get("featurekit.contract") == contract.version
        ]
        return str(max(same)) if same else None

    def register(self, model: Any, training: Any, kind: str, scores: dict[str, float]) -> str:
        """Log the training set, the model with its contract and its score, and register it; its
        version."""
        with self._quiet() as client:
            found = client.get_experiment_by_name(self.model)
            experiment = (
                client.create_experiment(self.model, artifact_location=self._files)
                if found is None
                else found.experiment_id
            )
            with mlflow.start_run(experiment_id=experiment, run_name=kind):
                contract = log_training_set(training)
                mlflow.log_metrics({"brier": scores[kind], "brier_constant": scores["constant"]})
                info = log_model(
                    model,
                    contract,
                    registered_model_name=self.model,
                    pyfunc_predict_fn="predict_proba",
                    skops_trusted_types=self._trusted,
                )
                version = str(info.registered_model_version)
                client.set_model_version_tag(self.model, version, _KIND, kind)
        return version

    def contract(self, version: str, keys: Sequence[PublicKey]) -> Contract:
        """The contract that a version carries, signed by one of `keys` where there are some."""
        with self._quiet():
            return load_contract(self.uri_of(version), public_keys=[key.text for key in keys])

    def load(self, version: str, store: Any) -> Any:
        """A version as `featurekit.plugins.mlflow.load_model` loads it."""
        with self._quiet():
            return load_model(self.uri_of(version), store=store)

    def champion(self) -> str | None:
        """The version that the alias names; None before there is one."""
        with self._quiet() as client:
            found = client.search_registered_models(f"name = '{self.model}'")
        aliases = found[0].aliases if found else {}
        return None if ALIAS not in aliases else str(aliases[ALIAS])

    def promote(self, version: str) -> None:
        """Let the alias name a version."""
        with self._quiet() as client:
            client.set_registered_model_alias(self.model, ALIAS, version)

    def uri_of(self, version: str) -> str:
        """How MLflow calls a version."""
        return f"models:/{self.model}/{version}"
