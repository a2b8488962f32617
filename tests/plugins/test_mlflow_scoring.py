"""Predictions of MLflow's own scoring server, which `featurekit serve` forwards to: real order
lines, a model of scikit-learn, and `mlflow models serve` as a process."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import retail_models
import serving
from forwarding import predict
from registered import needs_mlflow
from retail_models import AS_OF, RETAIL
from serving import Served, exact

from featurekit import Contract, FeatureStore
from featurekit.core.waiting import until
from featurekit.online.store.server import scratch_redis
from featurekit.server.forward import invocations
from featurekit.server.forward.columns import Column, Input
from featurekit.server.forward.replies import Garbled
from featurekit.server.forward.targets import target_of

DEAD, NAN, INF = "http://127.0.0.1:9", float("nan"), float("inf")
pytestmark = [
    *needs_mlflow,
    pytest.mark.skipif(not RETAIL.exists(), reason=f"the real order lines are not here: {RETAIL}"),
    pytest.mark.skipif(
        importlib.util.find_spec("uvicorn") is None, reason="not installed: featurekit[server]"
    ),
]


@contextmanager
def scoring_server(uri: str, tracking: str, log: Path) -> Iterator[str]:
    """MLflow's own scoring server of a model; its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "mlflow", "models", "serve", "-m", uri,
               "--env-manager", "local", "--host", "127.0.0.1", "--port", str(port),
               "--workers", "1"]  # fmt: skip
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {**os.environ, "MLFLOW_TRACKING_URI": tracking, "PATH": path}
    with log.open("wb") as said:
        process = subprocess.Popen(
            command, env=env, stdout=said, stderr=said, start_new_session=True
        )
    try:
        assert until(lambda: _pings(port, process), within_s=90, every_s=0.3), log.read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 15)
        process.wait(20)


def _pings(port: int, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


@dataclass(frozen=True, slots=True)
class Shop:
    """The repo, its Redis, the model with its contract, the address of MLflow's server, and
    customers of whom every feature is known."""

    folder: Path
    url: str
    served: Any
    contract: Contract
    scoring: str
    rows: list[dict[str, Any]]


@pytest.fixture(scope="module")
def shop(mlflow: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    import mlflow as theirs
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    folder = tmp_path_factory.mktemp("shop")
    asked = [{**row, "event_timestamp": retail_models.instant()} for row in retail_models.rows(400)]
    with scratch_redis() as url:
        retail_models.make(folder, url)
        with FeatureStore(folder) as store:
            made = store.get_historical_features(pa.Table.from_pylist(asked), "churn_v1")
            contract, frame = made.contract(), made.to_pandas()
            countries = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
            numbers = make_column_transformer((countries, ["country"]), remainder="passthrough")
            forest = RandomForestClassifier(20, random_state=1)
            model = make_pipeline(numbers.set_output(transform="pandas"), forest)
            model.fit(frame[contract.names], frame["spend"].fillna(0.0) > 300.0)
            mlflow.log_model(
                model, contract, registered_model_name="scored", pyfunc_predict_fn="predict_proba",
                skops_trusted_types=["sklearn.tree._tree.Tree"],
            )  # fmt: skip
            contract.save(folder / "scored.json")
            known = frame.dropna(subset=["last_quantity", "abroad"])
            rows = known[["customer_id", "basket"]].to_dict("records")
            served = mlflow.load_model("models:/scored/1", store=store)
            tracking = theirs.get_tracking_uri()
            with scoring_server("models:/scored/1", tracking, folder / "mlflow.log") as address:
                yield Shop(folder, url, served, contract, address, rows)


@pytest.fixture(scope="module")
def server(shop: Shop) -> Iterator[Served]:
    target = f"{shop.scoring},name=churn@1,protocol=mlflow,contract={shop.folder / 'scored.json'}"
    with serving.serving(
        "--redis-url", shop.url, "--project", "tests", "--forward", target, "--timeout", "20s"
    ) as made:
        yield made


def bits(values: list[list[float]]) -> list[bytes]:
    return [struct.pack("<2d", *row) for row in values]


def test_predictions_are_those_of_load_model_bit_for_bit(shop: Shop, server: Served) -> None:
    status, found = predict(server, shop.rows, as_of=AS_OF)
    assert status == 200, found
    assert found["target"] == "churn@1"
    wanted = shop.served.predict(shop.rows, AS_OF).tolist()
    assert len(wanted) > 50
    assert len({*bits(wanted)}) > 5
    assert bits(found["predictions"]) == bits(wanted)


def test_every_bit_of_a_value_is_what_mlflow_reads(mlflow: Any) -> None:
    """By MLflow's own parser of what is sent, and its casts to the signature."""
    from mlflow.pyfunc import scoring_server
    from mlflow.types import ColSpec, Schema

    told = {
        "x": ("float", "double", [NAN, INF, -0.0, 5e-324, 1.7976931348623157e308, 0.1]),
        "one": ("float", "double", [NAN] * 6),
        "n": ("int", "long", [2**53 + 1, -(2**63), 0, 1, 7, 2**63 - 1]),
        "b": ("bool", "boolean", [True, False] * 3),
        "s": ("str", "string", ["", "é", "NaN", "null", "a\nb", "0"]),
    }
    columns = [Column(Input(n, kind, n), values) for n, (kind, _, values) in told.items()]
    target = target_of(DEAD, where="", service="churn", protocol="mlflow")
    body = json.loads(invocations.order(target, columns, 6, "id", "churn@1").body)
    schema = Schema([ColSpec(kind, name, required=True) for name, (_, kind, _) in told.items()])
    frame = scoring_server.infer_and_parse_data(body, schema)
    for name, (_, _, values) in told.items():
        read = frame[name].tolist()
        assert [type(one) for one in read] == [type(one) for one in values]
        assert [exact(one) for one in read] == [exact(one) for one in values], name


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"<html>", "no JSON"),
        (b"[1.0, 2.0]", "no object"),
        (b'{"outputs": [1.0, 2.0]}', "lacks 'predictions'"),
        (b'{"predictions": [1.0]}', "1 values for 2 rows"),
        (b'{"predictions": {"a": 1.0}}', "no list"),
    ],
)
def test_an_answer_that_has_no_prediction_for_each_row_is_garbled(body: bytes, says: str) -> None:
    target = target_of(DEAD, where="", service="churn", protocol="mlflow")
    with pytest.raises(Garbled, match=says):
        invocations.predicted(target, body, 2, "id")


def test_an_int_or_a_bool_that_is_none_is_refused_by_name(shop: Shop, server: Served) -> None:
    """MLflow's server makes an error of the one, and False or True of the other."""
    status, found = predict(server, [{"customer_id": 1, "basket": 1.0}], as_of=AS_OF)
    assert status == 422, found
    assert "feature 'last_quantity' is None" in found["error"]["what"]
    assert "a column of int has none" in found["error"]["what"]


def test_what_the_server_says_of_a_mistake_is_told(shop: Shop) -> None:
    """Another service's columns: the model's signature does not have them."""
    target = f"{shop.scoring},name=churn@1,protocol=mlflow,service=churn_v2"
    words = ("--redis-url", shop.url, "--project", "tests", "--forward", target)
    with serving.serving(*words, "--timeout", "20s") as server:
        status, found = predict(server, [{"customer_id": shop.rows[0]["customer_id"]}], as_of=AS_OF)
    assert (status, found["error"]["type"]) == (502, "ModelFailed")
    assert "target churn@1 answered 400" in found["error"]["what"]
    assert "Failed to" in found["error"]["what"]
