"""Which target answers for an entity, on every machine alike; shadows that never answer; and model
servers that are killed while they are asked."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forwarding
import pytest
import serving
from forwarding import ModelProcess, predict
from serving import Served, World

from featurekit.core.types import INT, STR
from featurekit.core.waiting import until
from featurekit.log.served.block import PREDICTED
from featurekit.log.served.parquet import read_parquet
from featurekit.server.forward.routing import chosen, key_of, place
from featurekit.server.forward.targets import Model, route_of

ROWS = [{"key": 100 + i} for i in range(200)]
"""Entities that nobody knows: their features are all None, and so NaN."""


def routed(text: str, name: str = "churn") -> Model:
    return Model(name, tuple(route_of(text, where="--route")))


def keys(n: int) -> list[bytes]:
    return [key_of({"customer": INT}, {"customer": i}) for i in range(n)]


# --- the hash -------------------------------------------------------------------------------------


def test_places_are_the_same_on_every_machine():
    types = {"b": STR, "a": INT}
    assert place("churn", key_of({"customer": INT}, {"customer": 1})) == PLACES[0]
    assert place("churn", key_of({"customer": STR}, {"customer": "1"})) == PLACES[1]
    assert place("churn", key_of({"customer": INT}, {"customer": None})) == PLACES[2]
    assert place("other", key_of(types, {"a": 1, "b": "é"})) == PLACES[3]
    assert key_of(types, {"a": 1, "b": "x"}) == key_of({"a": INT, "b": STR}, {"b": "x", "a": 1})


PLACES = (450, 554, 3688, 5474)


def test_shares_are_those_of_the_weights():
    model = routed("churn@3=95,churn@4=4.5,churn@5=0.5")
    found = [chosen(model, key) for key in keys(40_000)]
    assert 37_800 <= found.count("churn@3") <= 38_200
    assert 1_650 <= found.count("churn@4") <= 1_950
    assert 140 <= found.count("churn@5") <= 260


def test_entities_only_go_over_when_a_canary_grows():
    some = keys(5_000)
    before = {key for key in some if chosen(routed("churn@3=95,churn@4=5"), key) == "churn@4"}
    after = {key for key in some if chosen(routed("churn@3=80,churn@4=20"), key) == "churn@4"}
    assert before < after


# --- a canary -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def main_model() -> Iterator[ModelProcess]:
    with forwarding.model_server() as made:
        yield made


@pytest.fixture
def model(main_model: ModelProcess) -> ModelProcess:
    main_model.mood()
    main_model.seen()
    return main_model


def words(world: World, model: ModelProcess, other: ModelProcess) -> list[str]:
    """The options of a server with two targets, whose predictions differ."""
    return [
        "--redis-url", world.url, "--project", "tests",
        "--forward", forwarding.target(model, "churn@3", model_version="3"),
        "--forward", forwarding.target(other, "churn@4", model_version="4"),
    ]  # fmt: skip


def by_bits(server: Served, rows: Any = ROWS) -> dict[int, tuple[str, float]]:
    """The target and the prediction of each key."""
    status, found = predict(server, rows)
    assert status == 200, found
    targets = found["target"]
    targets = [targets] * len(rows) if isinstance(targets, str) else targets
    answers = zip(targets, found["predictions"], strict=True)
    return {row["key"]: answer for row, answer in zip(rows, answers, strict=True)}


def test_an_entity_stays_with_its_target_in_each_order_worker_and_process(
    world: World, model: ModelProcess
):
    route = ["--route", "churn@3=70,churn@4=30"]
    with (
        serving.serving(*words(world, model, model), *route, "--workers", "2") as first,
        serving.serving(*words(world, model, model), *route) as second,
    ):
        wanted = by_bits(first)
        for _ in range(6):  # on connections of their own, so that both workers answer
            assert by_bits(first) == wanted
        assert by_bits(second, ROWS[::-1]) == wanted
        alone = {k: v for row in ROWS[:20] for k, v in by_bits(second, [row]).items()}
    assert alone == {key: wanted[key] for key in alone}
    by_target = dict(wanted.values())
    assert by_target.keys() == {"churn@3", "churn@4"}
    assert len({*wanted.values()}) == 2  # a prediction is that of its own target's version
    share = [name for name, _ in wanted.values()].count("churn@4")
    assert 35 <= share <= 85


def test_a_killed_canary_fails_its_rows_and_no_others(world: World, model: ModelProcess):
    with (
        forwarding.model_server() as canary,
        serving.serving(
            *words(world, model, canary), "--route", "churn@3=70,churn@4=30"
        ) as server,
    ):  # fmt: skip
        before = by_bits(server)
        canary.kill()
        status, found = predict(server, ROWS)
        assert (status, found["error"]["type"]) == (502, "ModelFailed")
        assert "target churn@4" in found["error"]["what"]
        rows = [row for row in ROWS if before[row["key"]][0] == "churn@3"]
        assert by_bits(server, rows) == {row["key"]: before[row["key"]] for row in rows}


def test_a_fallback_answers_for_a_killed_canary_and_is_named(
    world: World, model: ModelProcess, tmp_path: Path
):
    with (
        forwarding.model_server() as canary,
        serving.serving(
            *words(world, model, canary), "--route", "churn@3=70,churn@4=30",
            "--fallback", "churn@3", "--serving-log", str(tmp_path),
        ) as server,
    ):  # fmt: skip
        before = by_bits(server)
        lost = [i for i, row in enumerate(ROWS) if before[row["key"]][0] == "churn@4"]
        main_value = next(value for name, value in before.values() if name == "churn@3")
        canary.kill()
        status, found = predict(server, ROWS, request_id="after")
        assert status == 200
        assert found["instead"] == {"churn@4": lost}
        assert found["target"] == "churn@3"
        assert found["predictions"] == [main_value] * len(ROWS)
        assert server.stop() == 0
    rows = [row for row in logged(tmp_path) if row["request_id"] == "after"]
    assert sorted(r["row"] for r in rows if r["answered"]) == [*range(len(ROWS))]
    assert [r["row"] for r in rows if r["role"] == "instead"] == lost
    failed = [r for r in rows if r["target"] == "churn@4"]
    assert [r["row"] for r in failed] == lost
    assert all(r["error"] and not r["answered"] for r in failed)


def logged(folder: Path) -> list[dict[str, Any]]:
    """What a log says of predictions, row by row."""
    return [
        dict(zip(PREDICTED, row, strict=True))
        for block in read_parquet(folder)
        for row in zip(*block.predicted, strict=True)
    ]


# --- a shadow -------------------------------------------------------------------------------------


def test_a_shadow_is_asked_and_logged_and_neither_answers_nor_slows(
    world: World, model: ModelProcess, tmp_path: Path
):
    with (
        forwarding.model_server() as shadow,
        serving.serving(
            *words(world, model, shadow), "--shadow", "churn@4", "--serving-log", str(tmp_path),
        ) as server,
    ):  # fmt: skip
        wanted = by_bits(server, ROWS[:5])
        assert until(lambda: len(shadow.seen()) == 1, within_s=10, every_s=0.05)
        shadow.mood(wait_s=1.5)
        began = time.monotonic()
        status, found = predict(server, ROWS[:5], request_id="slow")
        assert time.monotonic() - began < 1.0
        assert (status, found["target"]) == (200, "churn@3")
        assert found["predictions"] == [value for _, value in wanted.values()]
        assert until(lambda: predicted_by_shadows(server) == 10, within_s=10, every_s=0.05)
        shadow.kill()
        status, found = predict(server, ROWS[:5], request_id="dead")
        assert (status, found["target"], "instead" in found) == (200, "churn@3", False)
        assert until(lambda: failures(server) == 1, within_s=10, every_s=0.05)
        assert server.stop() == 0
    rows = logged(tmp_path)
    of_shadow = [row for row in rows if row["role"] == "shadow"]
    assert {row["target"] for row in of_shadow} == {"churn@4"}
    assert not any(row["answered"] for row in of_shadow)
    slow = [row for row in of_shadow if row["request_id"] == "slow"]
    answered = {json.loads(r["prediction"]) for r in rows if r["answered"]}
    assert len(slow) == 5
    assert answered.isdisjoint(json.loads(row["prediction"]) for row in slow)
    dead = [row for row in of_shadow if row["request_id"] == "dead"]
    assert [row["prediction"] for row in dead] == [None] * 5
    assert all(row["error"].startswith("ModelFailed: ") for row in dead)


def counted(server: Served, name: str, label: str) -> float:
    """The sum of a metric's values that have a label."""
    text = server.ask("GET", "/metrics")[2].decode()
    lines = [line for line in text.splitlines() if f"featurekit_http_{name}{{" in line]
    return sum(float(line.rpartition(" ")[2]) for line in lines if label in line)


def failures(server: Served) -> float:
    """How many orders to the shadow failed."""
    return counted(server, "model_errors_total", 'target="churn@4"')


def predicted_by_shadows(server: Served) -> float:
    """How many rows shadows predicted."""
    return counted(server, "predictions_total", 'role="shadow"')
