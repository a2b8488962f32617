"""What MLflow keeps of a forgotten entity is told by its place, and labels are deleted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from contracted import SETTINGS, training
from registered import log, needs_mlflow, written_over

from featurekit import FeatureStore
from featurekit.cli import main
from featurekit.errors import DataError

pytestmark = needs_mlflow
WHO = {"k": 3}


@pytest.fixture
def tracking(
    mlflow: Any, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """An empty tracking store, which both the shell and this process ask."""
    import mlflow as client

    before, uri = client.get_tracking_uri(), f"sqlite:///{tmp_path}/own.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    client.set_tracking_uri(uri)
    made = client.create_experiment("own", artifact_location=(tmp_path / "own").as_uri())
    client.set_experiment(experiment_id=made)
    yield uri
    client.set_tracking_uri(before)


def logged(plugin: Any, **options: Any) -> str:
    """A run with a training set; its id."""
    import mlflow as client

    with client.start_run() as run, FeatureStore(".") as store:
        plugin.log_training_set(training(store), **options)
    return str(run.info.run_id)


def labels_in(run: str) -> list[Path]:
    """The files of labels that MLflow has of a run."""
    from mlflow import MlflowClient

    base = Path(MlflowClient().get_run(run).info.artifact_uri.removeprefix("file://"))
    return [*base.rglob("*.labels.arrow")]


def rows_of(path: Path) -> int:
    """How many rows of the labels are of the entity."""
    column = pa.ipc.open_file(path.read_bytes()).read_all()["k"].to_pylist()
    return column.count(WHO["k"])


def shown(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert main(["forget", "user", "--key", "k=3", *words, "--json"]) == code
    return json.loads(capsys.readouterr().out)["mlflow"]


def of(found: list[Any], what: str) -> list[Any]:
    return [one for one in found if one.what == what]


def test_labels_with_the_entity_are_found_and_deleted(mlflow: Any, tracking: str) -> None:
    from mlflow import MlflowClient

    run, deleted, bare = logged(mlflow), logged(mlflow), logged(mlflow, labels=False)
    MlflowClient().delete_run(deleted)
    ((path,), (other,)) = labels_in(run), labels_in(deleted)
    rows = rows_of(path)
    assert rows > 0
    with FeatureStore(".") as store:
        assert mlflow.find_forgotten(store) == []
        store.forget("user", WHO)
        found = mlflow.find_forgotten(store)
        told = {(one.place.split("/")[1], one.rows, one.removed) for one in of(found, "labels")}
        assert told == {(run, rows, False), (deleted, rows, False)}
        assert all(one.place.endswith(f"/{path.name}") for one in found)
        assert path.exists()
        assert other.exists()
        gone = mlflow.find_forgotten(store, delete=True)
        assert [(one.what, one.removed) for one in gone] == [("labels", True)] * 2
        assert not labels_in(run)
        assert not labels_in(deleted)
        assert mlflow.find_forgotten(store) == []
    assert MlflowClient().list_artifacts(bare, "featurekit")


def test_another_project_and_other_entities_are_left_alone(mlflow: Any, tracking: str) -> None:
    run = logged(mlflow)
    other = SETTINGS.replace("project: models", "project: others")
    Path("feature_store.yaml").write_text(f"{other}featurekit:\n  state_dir: .others\n")
    with FeatureStore(".") as store:
        store.apply()
        store.materialize()
        store.forget("user", WHO)
        assert mlflow.find_forgotten(store, WHO, delete=True) == []
    Path("feature_store.yaml").write_text(SETTINGS)
    with FeatureStore(".") as store:
        store.forget("user", {"k": 12_345})
        assert mlflow.find_forgotten(store, delete=True) == []
    assert labels_in(run)


def test_contracts_and_manifests_that_name_the_entity_are_told(mlflow: Any, tracking: str) -> None:
    """The classes of the label are ints here, and one of them is as the key."""
    with FeatureStore(".") as store:
        _, contract, uri = log(mlflow, store, name="told", whole=True)
        named = str(contract.manifest["label_columns"]["next"]["classes"][0]["value"])
        store.forget("user", {"k": int(named)})
        found = mlflow.find_forgotten(store, {"k": int(named)}, delete=True)
        places = {one.what: one.place for one in found if not one.removed}
        assert {*places} == {"contract", "manifest"}
        told = [one.place for one in of(found, "contract")]
        assert [place.split(":/")[0] for place in told] == ["runs", "models"]
        assert mlflow.load_model(told[1], store=store).contract == contract
        assert mlflow.load_contract(uri) == contract


def test_what_cannot_be_read_is_told(mlflow: Any, tracking: str) -> None:
    run = logged(mlflow)
    (path,) = labels_in(run)
    with FeatureStore(".") as store:
        store.forget("user", WHO)
        for file in (path, path.with_name("contract.json")):
            with written_over(file, b"no"):
                (found,) = mlflow.find_forgotten(store, delete=True)
                assert (found.what, found.place.rpartition("/")[2]) == ("unread", file.name)
                assert not found.removed
        assert path.exists()


def test_the_shell_tells_of_mlflow_and_deletes_where_it_is_asked(
    mlflow: Any, tracking: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = logged(mlflow)
    found = shown(capsys)
    assert found["asked"] is True
    (kept,) = [one for one in found["keeps"] if one["what"] == "labels"]
    assert kept["place"].startswith(f"runs:/{run}/featurekit/")
    assert main(["forget", "user", "--key", "k=3"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"{kept['rows']} rows of labels: `featurekit forget … --delete-in-mlflow`" in text
    assert labels_in(run)
    (gone,) = [one for one in shown(capsys, "--delete-in-mlflow")["keeps"]
               if one["what"] == "labels"]  # fmt: skip
    assert gone == {**kept, "removed": True}
    assert not labels_in(run)


def test_a_tracking_server_that_is_away_is_told(
    mlflow: Any, repo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert shown(capsys) == {"asked": False, "keeps": [], "why": None}
    assert main(["forget", "user", "--key", "k=3", "--delete-in-mlflow"]) == 2
    assert "MLFLOW_TRACKING_URI is not set" in capsys.readouterr().err
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    import mlflow as client

    before = client.get_tracking_uri()
    client.set_tracking_uri("http://127.0.0.1:9")
    try:
        found = shown(capsys)
        assert (found["asked"], found["keeps"]) == (False, [])
        assert "http://127.0.0.1:9 was not looked at" in found["why"]
        assert main(["forget", "user", "--key", "k=3", "--delete-in-mlflow"]) == 2
        said = capsys.readouterr().err
        assert "the entity is forgotten, and MLflow may still have it" in " ".join(said.split())
        with FeatureStore(".") as store, pytest.raises(DataError, match=r"127\.0\.0\.1"):
            mlflow.find_forgotten(store)
    finally:
        client.set_tracking_uri(before)
