"""What a registered model was trained on, and its training set, made again from the registry."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from contracted import at, training
from registered import deploy, fitted, log, needs_mlflow, written_over

from featurekit import Contract, FeatureStore
from featurekit.cli import main
from featurekit.errors import ContractRefused, DataError
from featurekit.offline.manifest import ContentHash

pytestmark = needs_mlflow


@pytest.fixture
def whole(mlflow: Any, repo: Path) -> tuple[Contract, str]:
    """A model that was logged in one run with its training set."""
    with FeatureStore(".") as store:
        _, contract, uri = log(mlflow, store, name="whole", whole=True)
    return contract, uri


def content(path: str) -> str:
    """The content hash of the rows in a file."""
    table = pq.read_table(path)
    digest = ContentHash(table.schema)
    for batch in table.to_batches():
        digest.update(batch)
    return digest.hexdigest()


def shown(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> Any:
    """What a verb says as JSON."""
    capsys.readouterr()
    assert main([*words, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def in_run(told: Any, what: str) -> Path:
    """The file that the tracking store keeps of a run."""
    from mlflow import MlflowClient

    base = MlflowClient().get_run(told["run"]).info.artifact_uri.removeprefix("file://")
    return Path(base, told[what].partition(f"runs:/{told['run']}/")[2])


def test_a_training_set_is_made_again_of_the_model_alone(
    whole: tuple[Contract, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    contract, uri = whole
    made = str(tmp_path / "again.parquet")
    deploy("transform")  # the repo defines another version now
    found = shown(capsys, "remake", uri, "-o", made)
    assert found["manifest"]["content_hash"] == contract.content_hash == content(made)
    assert main(["remake", uri]) == 0
    assert f"Content hash {contract.content_hash}" in capsys.readouterr().out
    assert main(["remake", "models:/whole/999"]) == 2
    assert "models:/whole/999: MLflow at sqlite" in capsys.readouterr().err


def test_a_part_of_a_training_set_is_made_again(mlflow: Any, repo: Path) -> None:
    with FeatureStore(".") as store:
        part = training(store).split(test_from=at(30)).train
        _, contract, uri = log(mlflow, store, name="part", whole=True, made=part)
        again = mlflow.remake(uri, store=store)
        assert again.manifest["content_hash"] == contract.content_hash
        assert again.manifest["part"]["name"] == "train"


def test_a_changed_source_is_named_and_an_exchanged_file_refused(
    mlflow: Any, whole: tuple[Contract, str], repo: Path
) -> None:
    _, uri = whole
    with FeatureStore(".") as store:
        told = mlflow.model_lineage(uri, store=store).kept
    manifest, labels = (in_run(told, what) for what in ("manifest", "labels"))
    other = json.loads(manifest.read_text()) | {"content_hash": "0" * 64}
    with FeatureStore(".") as store:
        refused = pytest.raises(ContractRefused, match="not the manifest of the model's contract")
        with written_over(manifest, json.dumps(other).encode()), refused:
            mlflow.remake(uri, store=store)
        with written_over(labels, b"no"), pytest.raises(DataError, match="cannot be read there"):
            mlflow.remake(uri, store=store)
    table = pq.read_table("events.parquet")
    pq.write_table(table.slice(1), "events.parquet")
    with FeatureStore(".") as store, pytest.raises(DataError, match=r"events\.parquet"):
        mlflow.remake(uri, store=store)


def test_labels_that_are_too_large_or_not_wanted_are_not_logged(mlflow: Any, repo: Path) -> None:
    from mlflow import MlflowClient, start_run

    with FeatureStore(".") as store:
        made = training(store)
        with start_run() as run:
            with pytest.raises(DataError, match=r"at most 100 are logged; write most_label_bytes="):
                mlflow.log_training_set(made, most_label_bytes=100)
            assert not MlflowClient().list_artifacts(run.info.run_id)
            contract = mlflow.log_training_set(made, labels=False)
            info = mlflow.log_model(
                fitted(made, contract.names), contract, skops_trusted_types=["numpy.dtype"]
            )
        with pytest.raises(DataError, match="its labels were not logged"):
            mlflow.remake(info.model_uri, store=store)
        assert mlflow.model_lineage(info.model_uri, store=store).kept["labels"] is None


def test_a_model_without_a_training_set_in_its_run_says_so(
    mlflow: Any, churn: Any, repo: Path
) -> None:
    with FeatureStore(".") as store:
        with pytest.raises(DataError, match="call log_training_set in the run of log_model"):
            mlflow.remake(churn[2], store=store)
        assert mlflow.model_lineage(churn[2], store=store).kept["manifest"] is None


def test_lineage_tells_data_features_code_and_version(
    mlflow: Any, repo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient

    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(repo)]
    for words in (
        ["init", "-q"],
        ["add", "models.py", "feature_store.yaml"],
        ["commit", "-qm", "a"],
    ):
        subprocess.run([*git, *words], check=True)
    with FeatureStore(".") as store:
        _, contract, uri = log(mlflow, store, name="told", whole=True)
    MlflowClient().set_registered_model_alias("told", "champion", uri.rpartition("/")[2])
    found = shown(capsys, "lineage", "models:/told@champion")
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    assert found["code"] == {"commit": commit.stdout.strip(), "dirty": False}
    assert (found["fingerprint"], found["standing"]) == (contract.fingerprint, "live")
    assert found["model"]["aliases"] == ["champion"]
    assert found["contract"] == {"sha256": contract.sha256, "signed_by": None}
    assert found["training_set"]["content_hash"] == contract.content_hash
    (file,) = found["training_set"]["sources"]["events"]["files"]
    assert file["path"] == "events.parquet"
    columns = {one["name"]: one["columns"] for one in found["features"]}
    assert columns["total"] == ["events.n", "events.x"]
    assert columns["share"] == ["churn.budget", "events.n"]
    deploy("transform")
    with FeatureStore(".") as store:
        assert mlflow.model_lineage(uri, store=store).standing == "retained"
        store.pin(contract.version, by=uri)
        assert mlflow.model_lineage(uri, store=store).standing == f"pinned by {uri}"
        store.unpin(contract.version)
        store.gc(retained=True)
    with FeatureStore(".") as store:
        assert mlflow.model_lineage(uri, store=store).standing == "gone"
    assert main(["lineage", uri]) == 0
    table = capsys.readouterr().out
    for text in (contract.content_hash, commit.stdout.strip(), "events.parquet", "gone", "next"):
        assert text in table
    assert main(["lineage", uri, "--svg", "a.svg"]) == 64
