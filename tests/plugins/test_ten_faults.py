"""Ten faults on the way from events to predictions, each planted by hand, and the verb that catches
it by name: the verb passes first, and refuses then.

A mixed canary is a route of which a target is given features of another version of the service than
its model learnt from. Names and types of the columns may be the same, so no model server sees it.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import serving
from contracted import frame, training
from forwarding import predict
from registered import (
    NUMBERS,
    TRUSTED,
    deploy,
    edited,
    files,
    fitted,
    log,
    needs_mlflow,
    written_over,
)

from featurekit import Contract, FeatureStore
from featurekit.cli import main
from featurekit.cli.demo.churn import processes
from featurekit.define.feature_contract.document import Body, written
from featurekit.errors import FeaturekitError
from tests.planted.label_skews import reaching

pytestmark = needs_mlflow
DEAD = "http://127.0.0.1:9"


@dataclass
class World:
    """The plugin, the URL of Redis, a model with its contract in a file, and what is done with
    them."""

    plugin: Any
    redis: str
    contract: Contract
    uri: str
    columns: list[str]
    targets: list[str] = field(default_factory=list)
    whole: str | None = None
    """A model that was logged in one run with its training set."""


@pytest.fixture
def world(mlflow: Any, churn: Any, redis_url: str) -> World:
    _, contract, uri = churn
    contract.save("three.json")
    made = World(mlflow, redis_url, contract, uri, contract.names)
    made.targets = [target("churn@3", contract.version, contract="three.json")]
    return made


def target(name: str, version: str, **more: str) -> str:
    return ",".join([DEAD, f"name={name}", f"service={version}",
                     *(f"{key}={value}" for key, value in more.items())])  # fmt: skip


# --- the verbs that catch -------------------------------------------------------------------------

Verb = Callable[[World, pytest.CaptureFixture[str]], tuple[bool, str]]
"""Whether it passes, and what it says."""


def _remake(world: World, capsys: pytest.CaptureFixture[str]) -> tuple[bool, str]:
    """`featurekit remake` of a model whose training set is in its run."""
    if world.whole is None:
        with FeatureStore(".") as store:
            world.whole = log(world.plugin, store, whole=True)[2]
    return cli("remake", world.whole)(world, capsys)


def cli(*words: str) -> Verb:
    """A verb of the command line; MODEL in its words is the model's URI."""

    def verb(world: World, capsys: pytest.CaptureFixture[str]) -> tuple[bool, str]:
        capsys.readouterr()
        code = main([world.uri if word == "MODEL" else word for word in words])
        told = capsys.readouterr()
        return code == 0, " ".join(f"{told.out} {told.err}".split())

    return verb


def of_python(act: Callable[[World, FeatureStore], Any]) -> Verb:
    """What is called in Python."""

    def verb(world: World, capsys: pytest.CaptureFixture[str]) -> tuple[bool, str]:
        try:
            with FeatureStore(".") as store:
                act(world, store)
        except FeaturekitError as error:
            return False, f"{type(error).__name__}: {error}"
        return True, ""

    return verb


def _log_model(world: World, store: FeatureStore) -> None:
    made = training(store)
    model = fitted(made, world.columns)
    world.plugin.log_model(model, made.contract(), skops_trusted_types=TRUSTED)


def _serve(world: World, capsys: pytest.CaptureFixture[str]) -> tuple[bool, str]:
    """`featurekit serve` starts, or says why it does not."""
    words = [word for one in world.targets for word in ("--forward", one)]
    if len(world.targets) > 1:
        words += ["--route", "churn@3=95,churn@4=5"]
    words = ["--redis-url", world.redis, "--project", "models", *words]
    try:
        with serving.serving(*words):
            return True, ""
    except (ValueError, KeyError):  # it prints no address
        capsys.readouterr()
        code = main(["serve", "--port", "0", *words])
        return code == 0, " ".join(capsys.readouterr().err.split())


VERBS: dict[str, Verb] = {
    "log_model": of_python(_log_model),
    "load_model": of_python(lambda w, store: w.plugin.load_model(w.uri, store=store)),
    "deploy check": cli("deploy", "check", "MODEL"),
    "remake": _remake,
    "contract verify": cli("contract", "verify", "three.json"),
    "serve --forward": _serve,
    "serve --route": _serve,
}


# --- the faults -----------------------------------------------------------------------------------


@contextmanager
def columns_swapped(world: World) -> Iterator[None]:
    names = [*world.contract.names]
    names[2], names[3] = names[3], names[2]
    world.columns = names
    yield


@contextmanager
def a_retrained_scaler(world: World) -> Iterator[None]:
    """The same pipeline over the same columns, whose scaler was fitted to other numbers."""
    from skops import io

    name = world.plugin.KeptModel(world.uri).info.flavors["sklearn"]["pickled_model"]
    path = files(world.uri) / name
    model = io.load(path, trusted=TRUSTED)
    scaler = model.steps[0][1].named_transformers_["n"].steps[1][1]
    before = scaler.mean_.copy()
    scaler.fit([[float(i * j) for i in range(len(NUMBERS))] for j in range(9)])
    assert (before != scaler.mean_).any()
    with written_over(path, io.dumps(model)):
        yield


@contextmanager
def redefined(world: World) -> Iterator[None]:
    deploy("transform")
    with FeatureStore(".") as store:
        store.gc(retained=True)
    yield


@contextmanager
def a_label_leak(world: World) -> Iterator[None]:
    """The labels of the training set begin one microsecond early, and so count the event of the
    instant itself, which the features see."""
    with pytest.MonkeyPatch.context() as patch, FeatureStore(".") as store:
        reaching(patch, longer=1, later=0)
        _, leaking, world.whole = log(world.plugin, store, whole=True)
    assert leaking.content_hash != world.contract.content_hash
    assert leaking.version == world.contract.version
    yield


@contextmanager
def an_int_as_float(world: World) -> Iterator[None]:
    with edited(world.uri, lambda columns: columns[3].update(type="double")):
        yield


@contextmanager
def a_stale_profile(world: World) -> Iterator[None]:
    """The profile is of the rows of an earlier training set."""
    with FeatureStore(".") as store:
        earlier = training(store, frame()[:40]).contract().body.profile
    said = {**world.contract.body.model_dump(mode="json"),
            "profile": earlier.model_dump(mode="json")}  # fmt: skip
    with written_over(Path("three.json"), of_body(said)):
        yield


def of_body(said: dict[str, Any]) -> bytes:
    return written(Body.model_validate_json(json.dumps(said)), None)


@contextmanager
def rolled_back(world: World) -> Iterator[None]:
    """The model learnt from the new version, and the old one is live again."""
    deploy("transform")
    with FeatureStore(".") as store:
        _, _, world.uri = log(world.plugin, store)
        world.plugin.load_model(world.uri, store=store)
        store.rollback("churn")
        store.gc(retained=True)
    yield


@contextmanager
def a_tampered_contract(world: World) -> Iterator[None]:
    """A byte of what the model says of its nulls."""
    path = files(world.uri) / "extra_files" / "featurekit_contract.json"
    with written_over(path, path.read_bytes().replace(b'"may"', b'"mai"', 1)):
        yield


@contextmanager
def a_mixed_canary(world: World) -> Iterator[None]:
    """Both targets are given the old version, and the new model learnt from the new one."""
    deploy("transform")
    with FeatureStore(".") as store:
        store.pin(world.contract.version, by=world.uri)
        training(store).contract().save("four.json")
    world.targets.append(target("churn@4", world.contract.version, contract="four.json"))
    yield


@dataclass(frozen=True)
class Fault:
    """A fault: how it is planted, the verb that catches it, and what that says."""

    plant: Callable[[World], Any]
    verb: str
    says: str


FAULTS = {
    "columns swapped": Fault(
        columns_swapped, "log_model", "ContractRefused: .* has orders, total in another order"
    ),
    "a retrained scaler": Fault(
        a_retrained_scaler, "deploy check", "the model's file is not the one that was logged"
    ),
    "a feature redefined under the same name": Fault(
        redefined, "deploy check", r"version FAILS .* differ: .*total"
    ),
    "a label leak of one microsecond": Fault(
        a_label_leak, "remake", "made again, its rows are others in next, though"
    ),
    "an int become float": Fault(
        an_int_as_float, "load_model", "of orders that it is double or null, .* long or null"
    ),
    "a stale profile": Fault(
        a_stale_profile, "contract verify", "its profile is stale, of 40 rows .* of 140 rows"
    ),
    "a version rolled back": Fault(rolled_back, "load_model", "NotServed: .* differ: .*total"),
    "a model on a gone version": Fault(
        redefined, "serve --forward", "target churn@3: .* feeds no version '.*' of service 'churn'"
    ),
    "a tampered contract": Fault(
        a_tampered_contract, "deploy check", "was changed after it was written"
    ),
    "a mixed canary": Fault(
        a_mixed_canary,
        "serve --route",
        "target churn@4: its model learnt from churn@.* it would be given features of churn@",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_caught_by_name(
    name: str, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    fault = FAULTS[name]
    verb = VERBS[fault.verb]
    passes, text = verb(world, capsys)
    assert passes, text
    with fault.plant(world):
        passes, text = verb(world, capsys)
    assert not passes
    assert re.search(fault.says, text), text


@pytest.mark.skipif(
    importlib.util.find_spec("uvicorn") is None, reason="not installed: featurekit[server]"
)
def test_the_model_server_and_the_audit_refuse_features_of_another_version(
    world: World, redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mixed canary of which nobody named the contract: columns and types are those of the model,
    and a transform is another one."""
    from mlflow import get_tracking_uri

    deploy("transform")
    with FeatureStore(".") as store:
        live = store.live()["churn"].fingerprint
    rows = [{"k": k, "budget": 10 * k + 7} for k in range(5)]
    words = ["--tracking-uri", get_tracking_uri(), "--model", world.uri.removeprefix("models:/")]
    module = "featurekit.plugins.mlflow.server"
    with processes.serving(module, words, log=tmp_path / "model.log") as address:
        shared = f"{address},model=churn,model_version={world.uri.rpartition('/')[2]}"
        with serving.serving(
            "--redis-url", redis_url, "--project", "models", "--timeout", "20s",
            "--serving-log", str(tmp_path / "log"),
            "--forward", f"{shared},name=own@1,service={world.contract.version}",
            "--forward", f"{shared},name=other@1,service=churn",
        ) as server:  # fmt: skip
            status, found = predict(server, rows, "own", request_id="own")
            assert (status, len(found["predictions"])) == (200, 5)
            status, found = predict(server, rows, "other", request_id="other")
            assert server.stop() == 0
    assert (status, found["error"]["type"]) == (502, "ModelFailed")
    assert f"learnt from {world.contract.version}" in found["error"]["what"]
    assert f"was given features of churn@{live}" in found["error"]["what"]
    for request, mixed in (("own", False), ("other", True)):
        words = ["--log", str(tmp_path / "log"), "--model", world.uri, "--no-events", "--json"]
        capsys.readouterr()
        assert main(["audit", "prediction", request, *words]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["training_set"]["content_hash"] == world.contract.content_hash
        assert told["training_set"]["contract"] == world.contract.sha256
        notes = [note for note in told["notes"] if "was not trained on what it was given" in note]
        assert bool(notes) is mixed
        assert all(f"answered by churn@{live[:12]} (other@1)" in note for note in notes)
