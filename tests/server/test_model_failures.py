"""What is answered when a model server is slow, dead or says something else, row by row of the
table in docs/serve.md."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forwarding
import pytest
import serving
from forwarding import ModelProcess, predict
from serving import Served, World

from featurekit.log.served.block import PREDICTED
from featurekit.log.served.parquet import read_parquet

ROW = [{"key": 0}]


@pytest.fixture(scope="module")
def model() -> Iterator[ModelProcess]:
    with forwarding.model_server() as made:
        yield made


@pytest.fixture(scope="module")
def server(world: World, model: ModelProcess) -> Iterator[Served]:
    """It has no circuit breaker, so that each failure is seen."""
    target = forwarding.target(model, model_version="7", timeout="300ms")
    with serving.serving(
        "--repo", str(repo(world, 0)), "--forward", target,
    ) as made:  # fmt: skip
        yield made


def repo(world: World, failures: int) -> Path:
    """A folder of settings, whose breakers trip after so many failures; never for 0."""
    folder = world.folder.with_name(f"breaker-{failures}")
    folder.mkdir(exist_ok=True)
    text = serving.CONFIG.format(url=f'"{world.url}"')
    more = f"  breaker_failures: {failures}\n  breaker_s: 1\n"
    (folder / "feature_store.yaml").write_text(text + more)
    return folder


@pytest.mark.parametrize(
    ("mood", "status", "says"),
    [
        ("garbled", 502, "no JSON"),
        ("short", 502, "shape [0] for 1 rows"),
        ("failing", 502, "answered 500"),
        ("refusing", 502, "answered 400"),
        ("other_id", 502, "its id is"),
        ("other_model", 502, "its model_name is"),
        ("cut", 502, "cannot be asked"),
        ("busy", 503, "answered 503"),
    ],
)
def test_an_answer_that_is_none_is_a_failure_of_the_target(
    server: Served, model: ModelProcess, mood: str, status: int, says: str
):
    model.mood(mood)
    model.seen()
    status_found, headers, _ = server.ask("POST", "/v1/models/churn/predict", {"rows": ROW})
    found, document = predict(server, ROW)
    assert (status_found, found) == (status, status)
    error = document["error"]
    assert error["type"] == "ModelFailed"
    assert "target churn" in error["what"]
    assert says in error["what"]
    assert error["write"]
    assert headers.get("retry-after") == ("7" if mood == "busy" else None)
    assert len(model.seen()) == 2  # none was sent twice
    model.mood()
    assert predict(server, ROW)[0] == 200


def test_a_slow_model_server_is_given_up_in_time(server: Served, model: ModelProcess):
    model.mood(wait_s=5.0)
    model.seen()
    began = time.monotonic()
    status, document = predict(server, ROW)
    assert time.monotonic() - began < 2.0
    assert (status, document["error"]["type"]) == (504, "ModelFailed")
    assert len(model.seen()) == 1
    model.mood()
    assert predict(server, ROW)[0] == 200


def test_a_caller_may_wait_less_than_the_target_may_take(server: Served, model: ModelProcess):
    model.mood(wait_s=5.0)
    began = time.monotonic()
    headers = {"featurekit-timeout-ms": "100"}
    status, _ = server.post("/v1/models/churn/predict", {"rows": ROW}, **headers)
    assert status == 504
    assert time.monotonic() - began < 0.3
    model.mood()


def test_features_are_served_whatever_the_model_server_does(server: Served, model: ModelProcess):
    model.mood("failing")
    assert predict(server, ROW)[0] == 502
    assert server.post("/v1/services/plain/features", {"rows": ROW})[0] == 200
    assert server.ask("GET", "/ready")[0] == 200
    model.mood()


def test_an_order_that_a_server_may_have_died_of_is_not_sent_again(world: World):
    with (
        forwarding.model_server() as first,
        serving.serving(
            "--repo", str(repo(world, 0)), "--forward", forwarding.target(first)
        ) as made,
    ):  # fmt: skip
        assert predict(made, ROW)[0] == 200
        first.mood("dying")
        status, document = predict(made, ROW)
        assert (status, document["error"]["type"]) == (502, "ModelFailed")
        first.process.wait(10)
        with forwarding.model_server(first.port) as second:
            assert second.seen() == []
            assert predict(made, ROW)[0] == 200  # on a new connection


def test_a_killed_server_is_502_then_503_at_once_and_then_comes_back(world: World, tmp_path: Path):
    with (
        forwarding.model_server() as first,
        serving.serving(
            "--repo", str(repo(world, 3)), "--forward", forwarding.target(first),
            "--serving-log", str(tmp_path),
        ) as made,
    ):  # fmt: skip
        assert predict(made, ROW)[0] == 200
        first.kill()
        answers = [predict(made, ROW, request_id=f"r{i}") for i in range(5)]
        assert [status for status, _ in answers] == [502, 502, 502, 503, 503]
        _, headers, _ = made.ask("POST", "/v1/models/churn/predict", {"rows": ROW})
        assert headers["retry-after"] == "1"
        with forwarding.model_server(first.port) as second:
            end = time.monotonic() + 10
            while predict(made, ROW, request_id="back")[0] != 200:
                assert time.monotonic() < end
                time.sleep(0.1)
            assert len(second.seen()) == 1
        assert made.stop() == 0
    errors = {one["request_id"]: one for one in logged(tmp_path)}
    for name in ("r0", "r4"):
        assert (errors[name]["prediction"], errors[name]["answered"]) == (None, False)
        assert errors[name]["error"].startswith("ModelFailed: ")
    assert errors["back"]["answered"]


def logged(folder: Path) -> list[dict[str, Any]]:
    """What a log says of predictions, row by row."""
    return [
        dict(zip(PREDICTED, row, strict=True))
        for block in read_parquet(folder)
        for row in zip(*block.predicted, strict=True)
    ]


def test_a_server_that_nobody_runs_is_a_502_and_that_of_features_starts(world: World):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    url = f"http://127.0.0.1:{port},name=churn,service=plain"
    with serving.serving("--repo", str(repo(world, 0)), "--forward", url) as made:
        status, document = predict(made, ROW)
        assert status == 502
        assert "see whether it runs" in document["error"]["write"]
