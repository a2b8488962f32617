"""Turns training sets into inputs of MLflow's runs, and what a model's run keeps of one into the
training set once more."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from featurekit.core.attributes import Named
from featurekit.define.feature_contract.contract import Contract
from featurekit.errors import ContractRefused, DataError
from featurekit.offline.manifest import MANIFEST, labels_beside, read_manifest
from featurekit.plugins.mlflow.client import active_run, downloaded, explained, mlflow, schema_of
from featurekit.plugins.mlflow.models import KeptModel
from featurekit.store import FeatureStore

if TYPE_CHECKING:
    from featurekit.offline.training_set import TrainingSet

_DIGEST = 32
"""The digits of the content hash that MLflow has room for in a digest."""
_MOST_SCHEMA, _MOST_PROFILE = 1_048_575, 16_777_215
"""The characters of a schema and of a profile that MLflow keeps."""
FOLDER = "featurekit"
"""The folder of a run in which its training sets are."""
_NAME, _SOURCE = "training", "featurekit"
MOST_LABEL_BYTES = 100_000_000
"""How many bytes of labels are logged, unless the caller names more."""


def log_training_set(
    training: TrainingSet,
    *,
    context: str = "training",
    labels: bool = True,
    most_label_bytes: int = MOST_LABEL_BYTES,
) -> Contract:
    """Log a training set as an input of the active run, or of a new one; its feature contract.

    The dataset is called as the service with its version. Its digest is the first 32 digits of the
    content hash (F2), its schema has the features and labels, and its profile is that of the
    contract. Its source names what is logged below `featurekit/DIGEST/` of the first run with these
    rows, and each run has it: the contract, the manifest and the labels, which are the frame's own
    columns, such as join keys and instants. `remake` makes the rows again of these. No feature is
    logged, but the profile has values of rows.

    `labels=False` logs no labels, so that no key of an entity leaves this machine, and nothing can
    be made again from the registry alone. `context` says what the rows are for, as in "training".

    DataError, before anything is logged, where the labels take more than `most_label_bytes` (100
    MB by default), and where MLflow does not take the training set.
    """
    contract, manifest = training.contract(), training.manifest
    with TemporaryDirectory(prefix="featurekit-") as made:
        _write(Path(made), training, contract, most_label_bytes if labels else None)
        with explained("the training set"), active_run() as run:
            folder = _folder(contract)
            mlflow.log_artifacts(made, folder)
            there = sorted(path.name for path in Path(made).iterdir())
            source = {
                **{part(name): f"runs:/{run}/{folder}/{name}" for name in there},
                **{n: manifest[n] for n in ("service", "fingerprint", "content_hash", "known_at")},
            }
            _log_input(run, contract, source, context)
    return contract


def _folder(contract: Contract) -> str:
    """Where a run keeps the files. The source of its dataset may name another run: MLflow keeps one
    dataset of a name and a digest, with the source of the first run that had it."""
    return f"{FOLDER}/{contract.content_hash[:_DIGEST]}"


def _write(folder: Path, training: TrainingSet, contract: Contract, most: int | None) -> None:
    """Write contract and manifest, and the labels where there are `most` bytes for them."""
    contract.save(folder / "contract.json")
    manifest = training.save_manifest(folder / _NAME)
    kept = labels_beside(manifest)
    if most is None:
        kept.unlink()
    elif kept.stat().st_size > most:
        raise DataError(
            f"the training set: its labels take {kept.stat().st_size:,} bytes, and at most "
            f"{most:,} are logged; write most_label_bytes={kept.stat().st_size}, or labels=False, "
            "after which `featurekit remake` needs the files that to_parquet wrote"
        )


def part(name: str) -> str:
    """What the source of a dataset calls a file."""
    return {f"{_NAME}{MANIFEST}": "manifest", "contract.json": "contract"}.get(name, "labels")


def _log_input(run: str, contract: Contract, source: Mapping[str, Any], context: str) -> None:
    schema = schema_of([*contract.features, *contract.labels]).to_dict()
    told = json.dumps({"mlflow_colspec": schema})
    profile = json.dumps(contract.body.profile.model_dump(mode="json"))
    dataset = mlflow.entities.Dataset(
        name=contract.version,
        digest=contract.content_hash[:_DIGEST],
        source_type=_SOURCE,
        source=json.dumps(source),
        schema=told if len(told) <= _MOST_SCHEMA else None,
        profile=profile if len(profile) <= _MOST_PROFILE else None,
    )
    tags = [mlflow.entities.InputTag("mlflow.data.context", context)]
    logged = mlflow.entities.DatasetInput(dataset, tags)
    mlflow.MlflowClient().log_inputs(run, datasets=[logged])


# --- what a model learnt from ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KeptTrainingSet(Named):
    """What the run of a model keeps of its training set: the URIs of the manifest and of the
    labels, None where these were not logged, and the id of the run."""

    run_id: str
    manifest: str
    labels: str | None

    @classmethod
    def of(cls, kept: KeptModel, contract: Contract) -> KeptTrainingSet | None:
        """That of the rows of the model's contract; None where its run has none, as where
        `log_training_set` was called in another run."""
        run_id = kept.run_id
        if run_id is None:
            return None
        folder = _folder(contract)
        with explained(kept.uri):
            listed = mlflow.MlflowClient().list_artifacts(run_id, folder)
        there = {part(one.path.rpartition("/")[2]): f"runs:/{run_id}/{one.path}" for one in listed}
        if "manifest" not in there:
            return None
        return cls(run_id, there["manifest"], there.get("labels"))

    def download(self, folder: str, contract: Contract) -> Path:
        """The manifest, in a folder with its labels. ContractRefused where they are not those of
        the contract, DataError where labels were not logged."""
        if self.labels is None:
            raise DataError(
                f"run {self.run_id}: its labels were not logged (labels=False), so the training "
                "set cannot be made again from the registry; name the .manifest.json that was "
                "written beside it"
            )
        with explained(f"run {self.run_id}"):
            path = downloaded(self.manifest, folder)
            downloaded(self.labels, folder)
        told, wanted = read_manifest(path), contract.manifest
        for what in ("service", "fingerprint", "content_hash", "labels"):
            if told[what] != wanted[what]:
                raise ContractRefused(
                    f"{self.manifest}: this is not the manifest of the model's contract: its "
                    f"{what} is {told[what]}, and that of the contract {wanted[what]}"
                )
        return path


def remake(uri: str, *, store: FeatureStore) -> TrainingSet:
    """The training set behind a model, as in "models:/churn/3", made again of what its run keeps
    and of the sources as they were then (F2).

    The model is checked as by `load_model`: ContractRefused where its contract is not believed, or
    not signed by a key that the store holds. DataError where the run has no training set, or not
    its labels; where sources are not what they were, by file; and, when the rows are computed,
    where these are others.
    """
    kept = KeptModel(uri)
    contract = kept.believed([key.text for key in store.parts.trust.keys])
    found = KeptTrainingSet.of(kept, contract)
    if found is None:
        raise DataError(
            f"{uri}: the run of the model has no training set with the content hash "
            f"{contract.content_hash[:12]}; call log_training_set in the run of log_model"
        )
    with TemporaryDirectory(prefix="featurekit-") as folder:
        return store.remake(found.download(folder, contract))
