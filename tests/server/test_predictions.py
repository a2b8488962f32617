"""A client sends entities and gets predictions: real order lines, a real server of features, and a
model server that is a process of its own."""

from __future__ import annotations

import asyncio
import json
import math
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import forwarding
import pyarrow as pa
import pytest
import retail_models
import serving
from forwarding import ModelProcess, predict
from model_server import score
from retail_models import AS_OF, COLUMNS, KINDS, RETAIL
from serving import Served, World

from featurekit import FeatureStore
from featurekit.client import Client, Predictions
from featurekit.errors import EntityFrameError, ModelFailed, RequestRefused
from featurekit.log.served.block import PREDICTED
from featurekit.log.served.parquet import read_parquet
from featurekit.online.store.open import open_store
from featurekit.online.store.server import scratch_redis
from featurekit.online.wire.msgpack import unpack
from featurekit.project.api_keys import create_api_key

pytestmark = pytest.mark.skipif(
    not RETAIL.exists(), reason=f"the real order lines are not here: {RETAIL}"
)
NAN, INF = float("nan"), float("inf")


@dataclass(frozen=True, slots=True)
class Shop:
    """The repo of order lines, its Redis, and a model server."""

    folder: Path
    url: str
    model: ModelProcess


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    with scratch_redis() as url, forwarding.model_server() as model:
        retail_models.make(folder, url)
        yield Shop(folder, url, model)


@pytest.fixture(scope="module")
def server(shop: Shop) -> Iterator[Served]:
    """It forwards to two targets of one model server, which differ in how a NaN is written."""
    with serving.serving(
        "--redis-url", shop.url, "--project", "tests",
        "--forward", forwarding.target(shop.model, service="churn_v1"),
        "--forward", forwarding.target(shop.model, "tokens", "churn_v1", nan="NaN"),
    ) as made:  # fmt: skip
        yield made


@pytest.fixture(autouse=True)
def well(shop: Shop) -> None:
    shop.model.mood()
    shop.model.seen()


def bits(value: float) -> bytes:
    return b"NaN" if value != value else struct.pack("<d", value)


def offline(shop: Shop, rows: list[dict[str, Any]]) -> list[list[Any]]:
    """The features of the rows as a training set has them."""
    frame = pa.Table.from_pylist([
        {**row, "event_timestamp": retail_models.instant(), "place": i}
        for i, row in enumerate(rows)
    ])  # fmt: skip
    with FeatureStore(shop.folder) as store:
        found = store.get_historical_features(frame, "churn_v1").to_arrow().sort_by("place")
    return [[row[name] for name in COLUMNS] for row in found.to_pylist()]


# --- values ---------------------------------------------------------------------------------------


def test_predictions_are_those_of_the_training_set_bit_for_bit(shop: Shop, server: Served):
    rows = retail_models.rows(1_000)
    trained = offline(shop, rows)
    status, found = predict(server, rows, as_of=AS_OF)
    assert status == 200
    assert [bits(v) for v in found["predictions"]] == [bits(score(row, 1.0)) for row in trained]
    assert found["target"] == found["model"] == "churn"
    assert len({*found["predictions"]}) > 900
    assert {row[5] for row in trained} == {None, False, True}


def test_the_model_server_is_sent_the_columns_and_types_of_the_version(shop: Shop, server: Served):
    rows = retail_models.rows(300)
    predict(server, rows, as_of=AS_OF)
    (sent,) = shop.model.seen()
    inputs = json.loads(sent["body"])["inputs"]
    assert sent["path"] == "/v2/models/churn/infer"
    assert [one["name"] for one in inputs] == COLUMNS
    assert [one["datatype"] for one in inputs] == KINDS
    assert all(one["shape"] == [300, 1] for one in inputs)
    wanted = zip(*offline(shop, rows), strict=True)
    for one, column in zip(inputs, wanted, strict=True):
        if one["datatype"] == "FP64":
            column = [None if v is None else float(v) for v in column]
        assert serving.exact(one["data"]) == serving.exact(list(column)), one["name"]


@pytest.mark.parametrize(
    "value", [-0.0, 5e-324, 1.7976931348623157e308, 0.1 + 0.2, 1 / 3, 2.0**53, 2.0**53 + 2, 1e22]
)
def test_every_bit_of_a_float_reaches_the_model_server(shop: Shop, server: Served, value: float):
    predict(server, [{"customer_id": 1, "basket": value}], as_of=AS_OF)
    (sent,) = shop.model.seen()
    (there,) = json.loads(sent["body"])["inputs"][-1]["data"]
    assert serving.exact(there) == serving.exact(value)


def test_nan_is_null_or_a_token_as_the_target_says(shop: Shop, server: Served):
    rows = [{"customer_id": 1, "basket": "NaN"}]
    predict(server, rows, as_of=AS_OF)
    predict(server, rows, "tokens", as_of=AS_OF)
    first, second = (json.loads(one["body"])["inputs"][-1]["data"] for one in shop.model.seen())
    assert first == [None]
    assert math.isnan(second[0])


def test_an_infinity_is_refused_by_name_where_the_protocol_has_none(shop: Shop, server: Served):
    rows = [{"customer_id": 1, "basket": "Infinity"}]
    status, found = predict(server, rows, as_of=AS_OF)
    assert status == 422
    assert found["error"]["where"] == "feature basket_itself"
    assert shop.model.seen() == []
    status, found = predict(server, rows, "tokens", as_of=AS_OF)
    assert status == 200
    assert json.loads(shop.model.seen()[0]["body"])["inputs"][-1]["data"] == [INF]


def test_an_int_that_is_no_float_is_refused_by_name(world: World, shop: Shop):
    with serving.serving(
        "--redis-url", world.url, "--project", "tests",
        "--forward", forwarding.target(shop.model, nan="NaN"),
    ) as server:  # fmt: skip
        status, found = predict(server, [{"key": 0}, {"key": 2}])  # key 2 has 2**53 + 1
        assert (status, found["error"]["where"]) == (422, "feature i_last")
        assert "row 1" in found["error"]["what"]
        assert "9007199254740993" in found["error"]["what"]
        assert predict(server, [{"key": 0}])[0] == 200


def test_several_outputs_make_an_object_for_each_row(shop: Shop, server: Served):
    shop.model.mood("named")
    rows = retail_models.rows(3)
    status, found = predict(server, rows, as_of=AS_OF)
    scores = [score(row, 1.0) for row in offline(shop, rows)]
    assert status == 200
    assert found["predictions"] == [
        {"score": s, "label": "yes" if s > 0 else "no", "pair": [s, "NaN"]} for s in scores
    ]


def test_a_narrow_output_keeps_the_bits_of_its_own_type(shop: Shop, server: Served):
    shop.model.mood("narrow")
    rows = retail_models.rows(50)
    _, found = predict(server, rows, as_of=AS_OF)
    wanted = [
        struct.unpack("<f", struct.pack("<f", score(row, 1.0)))[0] for row in offline(shop, rows)
    ]
    assert [bits(v) for v in found["predictions"]] == [bits(v) for v in wanted]


# --- the answer -----------------------------------------------------------------------------------


def test_details_say_what_the_model_was_asked_with(shop: Shop, server: Served):
    rows = retail_models.rows(5)
    _, plain = predict(server, rows, as_of=AS_OF, request_id="mine")
    assert "details" not in plain
    assert plain["request_id"] == shop.model.seen()[0]["headers"]["x-request-id"] == "mine"
    _, found = predict(server, rows, as_of=AS_OF, details=True)
    told = found["details"]["churn"]
    asked = {"rows": rows, "as_of": AS_OF}
    _, features = server.post("/v1/services/churn_v1/features", asked)
    assert told["columns"] == {name: features["columns"][name] for name in COLUMNS}
    assert told["service_version"] == features["service_version"]
    assert told["status"]["n"] == ["PRESENT"] * 4 + ["NOT_FOUND"]
    assert told["model_version"] == "1"


def test_columns_and_messagepack_give_the_same_predictions(shop: Shop, server: Served):
    rows = retail_models.rows(20)
    _, wanted = predict(server, rows, as_of=AS_OF)
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    status, _, data = server.ask(
        "POST", "/v1/models/churn/predict", {"columns": columns, "as_of": AS_OF},
        {"accept": "application/msgpack"},
    )  # fmt: skip
    found = unpack(data)
    assert status == 200
    assert serving.exact(found["predictions"]) == serving.exact(wanted["predictions"])


def test_no_rows_have_no_predictions_and_ask_nobody(shop: Shop, server: Served):
    status, found = predict(server, [], as_of=AS_OF)
    assert (status, found["predictions"]) == (200, [])
    assert shop.model.seen() == []


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("/v1/models/chrun/predict", {"rows": []}, 404, "churn"),
        ("/v1/models/churn/predict", {"rows": [{"customer_id": 1}]}, 422, "basket"),
        ("/v1/models/churn/predict", {"rows": [], "columns": {}}, 400, "both rows and columns"),
        ("/v1/models/churn/predict", {"rows": [], "service_version": "3f"}, 400, "service_version"),
        ("/v1/models/churn/predict", [], 400, "rows"),
    ],
)
def test_a_bad_request_is_named_and_asks_nobody(
    shop: Shop, server: Served, path: str, body: Any, status: int, says: str
):
    found, document = server.post(path, body)
    error = document["error"]
    assert found == status
    assert says in f"{error['what']} {error['write']} {error['where']}"
    assert shop.model.seen() == []


def test_metrics_count_by_target(server: Served):
    def count(name: str) -> float:
        text = server.ask("GET", "/metrics")[2].decode()
        found = [line for line in text.splitlines() if line.startswith(name)]
        return sum(float(line.rpartition(" ")[2]) for line in found)

    rows = 'featurekit_http_predictions_total{role="routed",target="churn"}'
    seconds = 'featurekit_http_model_seconds_count{role="routed",target="churn"}'
    before = count(rows), count(seconds)
    predict(server, retail_models.rows(7), as_of=AS_OF)
    assert (count(rows), count(seconds)) == (before[0] + 7, before[1] + 1)


def test_openapi_has_the_route_with_a_row_that_it_takes(server: Served):
    document = json.loads(server.ask("GET", "/openapi.json")[2])
    route = document["paths"]["/v1/models/{name}/predict"]["post"]
    examples = route["requestBody"]["content"]["application/json"]["examples"]
    body = examples["one row"]["value"]
    assert predict(server, **body)[0] == 200
    assert {"200", "403", "422", "502", "503", "504"} <= route["responses"].keys()


# --- who may ask ----------------------------------------------------------------------------------


def test_a_caller_needs_the_scope_of_the_model_and_that_of_the_features_for_details(shop: Shop):
    store = open_store(shop.url)
    tokens = {
        name: create_api_key(store, "tests", name, scopes)[1]
        for name, scopes in {
            "both": ("predict:churn", "read:churn_v1"),
            "model": ("predict:churn",),
            "features": ("read:churn_v1",),
        }.items()
    }
    store.close()
    rows = retail_models.rows(2)
    with serving.serving(
        "--redis-url", shop.url, "--project", "tests", "--auth", "keys",
        "--forward", forwarding.target(shop.model, service="churn_v1"),
    ) as server:  # fmt: skip

        def ask(name: str, **more: Any) -> tuple[int, Any]:
            headers = {"authorization": f"Bearer {tokens[name]}"}
            body = {"rows": rows, "as_of": AS_OF, **more}
            return server.post("/v1/models/churn/predict", body, **headers)

        assert [ask(name)[0] for name in tokens] == [200, 200, 403]
        assert [ask(name, details=True)[0] for name in tokens] == [200, 403, 403]
        shop.model.mood("failing")  # what it says of itself holds features
        assert "no such column" in ask("both")[1]["error"]["what"]
        assert "no such column" not in json.dumps(ask("model")[1])


# --- the log --------------------------------------------------------------------------------------


def logged(folder: Path) -> list[dict[str, Any]]:
    """The rows of a log: what was predicted, the keys, and the features under `features`."""
    found = []
    for block in read_parquet(folder):
        named = dict(zip(PREDICTED, block.predicted, strict=True))
        for i in range(block.rows):
            row = {name: column[i] for name, column in named.items()}
            row["key"] = block.keys[0][i]
            row["features"] = [column[i] for column in block.values]
            found.append(row)
    return found


def test_the_log_has_each_prediction_beside_its_features_under_its_request(
    shop: Shop, tmp_path: Path
):
    asked = retail_models.rows(400)
    parts = {f"request-{i}": asked[i * 10 : i * 10 + 10] for i in range(40)}
    with (
        serving.serving(
            "--redis-url", shop.url, "--project", "tests", "--serving-log", str(tmp_path),
            "--forward", forwarding.target(shop.model, service="churn_v1"),
        ) as server,
        ThreadPoolExecutor(8) as pool,
    ):  # fmt: skip
        shop.model.mood(wait_s=0.02)
        answers = dict(zip(parts, pool.map(
            lambda name: predict(server, parts[name], as_of=AS_OF, request_id=name)[1], parts
        ), strict=True))  # fmt: skip
        _, plain = server.post(
            "/v1/services/churn_v1/features", {"rows": asked[:3], "as_of": AS_OF}
        )
        assert server.stop() == 0
    rows = [row for row in logged(tmp_path) if row["request_id"] != plain["request_id"]]
    assert len(rows) == 400
    for row in rows:
        name, place = row["request_id"], row["row"]
        assert row["key"] == parts[name][place]["customer_id"]
        prediction = json.loads(row["prediction"])
        assert bits(prediction) == bits(score(row["features"], 1.0))
        assert bits(prediction) == bits(answers[name]["predictions"][place])
        assert (row["target"], row["role"], row["answered"]) == ("churn", "routed", True)
        assert row["latency_us"] >= 15_000
        assert (row["error"], row["route"], row["caller"]) == (None, "churn=100", "anyone")


def test_the_log_has_lookups_without_a_model_under_the_id_that_the_answer_says(
    shop: Shop, tmp_path: Path
):
    asked = retail_models.rows(5)
    body = {"rows": asked, "as_of": AS_OF}
    with serving.serving(
        "--redis-url", shop.url, "--project", "tests", "--serving-log", str(tmp_path)
    ) as server:
        _, named = server.post("/v1/services/churn_v1/features", {**body, "request_id": "mine"})
        _, unnamed = server.post("/v1/services/churn_v1/features", body)
        assert server.stop() == 0
    rows = logged(tmp_path)
    ids = [named["request_id"], unnamed["request_id"]]
    assert ids[0] == "mine"
    assert [row["request_id"] for row in rows] == [ids[0]] * 5 + [ids[1]] * 5
    assert [row["row"] for row in rows] == [*range(5)] * 2
    assert {(row["role"], row["target"], row["prediction"]) for row in rows} == {
        ("looked_up", "", None)
    }
    told = [row["features"][1] for row in rows[:5]]
    assert told == named["columns"]["n"]


# --- the client -----------------------------------------------------------------------------------


@pytest.fixture
def client(server: Served) -> Iterator[Client]:
    with Client(server.url, timeout_s=10.0) as made:
        yield made


def test_the_client_predicts_what_the_route_does_bit_for_bit(server: Served, client: Client):
    rows = retail_models.rows(200)
    status, wanted = predict(server, rows, as_of=AS_OF)
    assert status == 200
    frame = pa.Table.from_pylist(rows)
    answers = [
        client.predict("churn", rows, retail_models.instant(), request_id="r-1"),
        client.predict("churn", frame, AS_OF),
        client.predict("churn", frame.to_pandas(), AS_OF),
        asyncio.run(_predict_async(server, rows)),
    ]
    for found in answers:
        assert [bits(v) for v in found.values] == [bits(v) for v in wanted["predictions"]]
        assert (found.model, {*found.targets}, len(found)) == ("churn", {"churn"}, 200)
        assert (found.as_of, found.instead) == (retail_models.instant(), {})
        assert found.details is None
    assert answers[0].request_id == "r-1"
    assert len({found.request_id for found in answers}) == 4


async def _predict_async(server: Served, rows: list[dict[str, Any]]) -> Predictions:
    async with Client(server.url, timeout_s=10.0) as client:
        return await client.predict_async("churn", rows, AS_OF)


def test_the_client_has_the_features_behind_predictions(shop: Shop, client: Client):
    rows = retail_models.rows(20)
    found = client.predict("churn", rows, AS_OF, details=True)
    assert found.details is not None
    told = found.details["churn"]
    columns = zip(*offline(shop, rows), strict=True)
    assert [*told["columns"]] == COLUMNS
    assert serving.exact([*told["columns"].values()]) == serving.exact([[*c] for c in columns])


@pytest.mark.parametrize(("mood", "status"), [("failing", 502), ("garbled", 502), ("busy", 503)])
def test_the_client_raises_what_failed_and_asks_no_model_twice(
    shop: Shop, client: Client, mood: str, status: int
):
    shop.model.mood(mood)
    with pytest.raises(ModelFailed, match="the model server of target churn") as raised:
        client.predict("churn", [{"customer_id": 1, "basket": 1.0}], timeout_s=3.0)
    assert raised.value.status == status
    assert len(shop.model.seen()) == 1


def test_the_client_says_what_is_wrong_with_a_request(client: Client):
    with pytest.raises(RequestRefused, match="there is no model 'chrun'; there are churn"):
        client.predict("chrun", [{"customer_id": 1, "basket": 1.0}])
    with pytest.raises(EntityFrameError, match="basket"):
        client.predict("churn", [{"customer_id": 1}])
    with pytest.raises(EntityFrameError, match="give values of Python"):
        client.predict("churn", [{"customer_id": object(), "basket": 1.0}])


@pytest.mark.parametrize(
    "told",
    [{}, {"predictions": [1]}, {"predictions": 3, "target": "t"},
     {"predictions": [1], "target": ["a", "b"], "model": "m", "as_of": AS_OF, "request_id": "r"},
     {"predictions": [1], "target": "t", "model": "m", "as_of": "today", "request_id": "r"}],
)  # fmt: skip
def test_what_is_no_answer_of_predictions_is_none(told: Any):
    with pytest.raises((LookupError, ValueError, TypeError)):
        Predictions.of(told)
