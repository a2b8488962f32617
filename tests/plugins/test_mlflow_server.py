"""Models by MLflow's own tracking server over HTTP, on SQLite, and what is said of one whose
release does not fit. FEATUREKIT_MLFLOW names a program `mlflow` of an environment of its own, since
MLflow itself does not allow the Arrow that featurekit needs."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import create_server
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from contracted import training
from registered import NOW, ROWS, bits, log, needs_mlflow, offline

from featurekit import FeatureStore
from featurekit.core.waiting import until
from featurekit.errors import DataError

pytestmark = needs_mlflow
PROGRAM = os.environ.get("FEATUREKIT_MLFLOW")
needs_server = pytest.mark.skipif(
    PROGRAM is None, reason="FEATUREKIT_MLFLOW names no mlflow with a server (pip install mlflow)"
)


@contextmanager
def asked_at(uri: str, experiment: str | None = None) -> Iterator[None]:
    """MLflow's client asks this address in the block; runs are of an experiment of this name."""
    import mlflow

    before, of = mlflow.get_tracking_uri(), os.environ.get("MLFLOW_EXPERIMENT_ID")
    mlflow.set_tracking_uri(uri)
    if experiment is not None:
        mlflow.set_experiment(experiment)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)
        if experiment is not None:
            mlflow.set_experiment(experiment_id=of)


@contextmanager
def answering(version: str) -> Iterator[str]:
    """The address of a server that says this version, and refuses all else."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path == "/version"
            body = version.encode() if known else b'{"error_code": "ENDPOINT_NOT_FOUND"}'
            self.send_response(200 if known else 404)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{made.server_address[1]}"
    finally:
        made.shutdown()
        thread.join()
        made.server_close()


@pytest.fixture
def few_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.mark.usefixtures("few_tries")
def test_a_server_of_a_release_without_models_is_refused_by_name(mlflow: Any, repo: Path) -> None:
    says = r"the tracking server at http://.* is MLflow 2\.22\.0, .*; run one of release 3\.0\.0"
    with answering("2.22.0") as uri, asked_at(uri), FeatureStore(".") as store:
        made = training(store)
        with pytest.raises(DataError, match=says):
            mlflow.log_training_set(made)
        with pytest.raises(DataError, match=says):
            mlflow.load_model("models:/churn/1", store=store)
        with pytest.raises(DataError, match=says):
            mlflow.find_forgotten(store)


@pytest.mark.usefixtures("few_tries")
@pytest.mark.parametrize(
    ("version", "says"),
    [("3.1.4", r"; its server is MLflow 3\.1\.4, and here is .*: install one release$"),
     ("no version", "refuses it: .*(?<!install one release)$")],
)  # fmt: skip
def test_what_is_refused_tells_of_another_release(
    mlflow: Any, repo: Path, version: str, says: str
) -> None:
    refused = pytest.raises(DataError, match=says)
    with answering(version) as uri, asked_at(uri), FeatureStore(".") as store, refused:
        mlflow.load_model("models:/churn/1", store=store)


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of MLflow's own server, which keeps artifacts, too."""
    assert PROGRAM is not None
    folder = tmp_path_factory.mktemp("server")
    with create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    words = ["server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    words += ["--backend-store-uri", f"sqlite:///{folder}/own.db"]
    words += ["--artifacts-destination", str(folder / "files"), "--serve-artifacts"]
    path = os.pathsep.join([str(Path(PROGRAM).parent), os.environ["PATH"]])
    env = {**os.environ, "PATH": path, "MLFLOW_TRACKING_URI": "", "PYTHONPATH": ""}
    with (folder / "log").open("wb") as said:
        process = subprocess.Popen(
            [PROGRAM, *words], env=env, cwd=folder, stdout=said, stderr=said, start_new_session=True
        )

    def answers() -> bool:
        try:
            with urlopen(f"{uri}/version", timeout=5) as found:
                return bool(found.read())
        except (URLError, OSError):
            return False

    try:
        assert until(answers, within_s=180, every_s=0.5), (folder / "log").read_text()[-3000:]
        yield uri
    finally:
        os.killpg(process.pid, 15)
        process.wait()


@needs_server
def test_a_model_of_a_tracking_server_predicts_and_what_it_keeps_is_forgotten(
    mlflow: Any, repo: Path, tracking: str
) -> None:
    from mlflow import MlflowClient

    from featurekit.plugins.mlflow.client import server_version

    with asked_at(tracking, "own"), FeatureStore(".") as store:
        if str(server_version(tracking)).startswith(("1.", "2.")):
            with pytest.raises(DataError, match="keeps no models of their own"):
                log(mlflow, store, whole=True)
            return
        model, contract, uri = log(mlflow, store, whole=True)
        served = mlflow.load_model(uri, store=store)
        assert served.contract == contract
        wanted = model.predict_proba(offline(store, contract.names))
        assert bits(served.predict(ROWS, NOW)) == bits(wanted)
        assert mlflow.remake(uri, store=store).manifest["content_hash"] == contract.content_hash
        store.forget("user", {"k": 3})
        (found,) = [o for o in mlflow.find_forgotten(store, delete=True) if o.what == "labels"]
        assert found.removed
        run = served_run(uri)
        left = MlflowClient().list_artifacts(run, found.place.split("/", 2)[2].rpartition("/")[0])
        assert sorted(Path(one.path).name for one in left) == [
            "contract.json", "training.manifest.json"]  # fmt: skip
        with pytest.raises(DataError, match="its labels were not logged"):
            mlflow.remake(uri, store=store)


def served_run(uri: str) -> str:
    """The run of a registered model."""
    import mlflow

    return str(mlflow.models.get_model_info(uri).run_id)
