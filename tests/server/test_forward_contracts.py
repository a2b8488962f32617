"""A target with the feature contract of its model is given features of the contract's own version,
or the server does not start: a mixed canary is refused by name."""

from __future__ import annotations

import json
import re
from argparse import Namespace
from pathlib import Path
from typing import Any

import forwarding
import pytest
import serving
from contracted import SETTINGS, training, write_repo
from forwarding import model_server, predict
from serving import exact

from featurekit import Contract, FeatureStore
from featurekit.cli import main
from featurekit.cli.forwarding import forward_of
from featurekit.core.signing import PrivateKey
from featurekit.core.waiting import until
from featurekit.errors import ContractRefused
from featurekit.project.config import load_config

URL = "http://127.0.0.1:9"
KEY = PrivateKey.make()


@pytest.fixture
def repo(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repo with the contracts of two versions, of which the first one is pinned."""
    monkeypatch.setenv("FEATUREKIT_REDIS_URL", redis_url)
    monkeypatch.chdir(write_repo(tmp_path / "repo"))
    deploy(None, "three.json")
    with FeatureStore(".") as store:
        training(store, full_feature_names=True).contract().save("full.json")
        store.pin(Contract.load("three.json").version, by="models:/churn/3")
    deploy("transform", "four.json")
    return tmp_path / "repo"


def deploy(variant: str | None, contract: str) -> None:
    write_repo(Path(), variant)
    with FeatureStore(".") as store:
        store.apply(allow_breaking=True)
        store.materialize()
        training(store).contract().save(contract)


def target(name: str, **more: str) -> str:
    return ",".join([URL, f"name={name}", *(f"{key}={value}" for key, value in more.items())])


def words(*targets: str) -> Namespace:
    return Namespace(forward=targets, route=["churn@3=95,churn@4=5"], shadow=None, fallback=None)


def version(name: str) -> str:
    return Contract.load(name).fingerprint


def test_each_target_is_given_the_version_of_its_own_contract(repo: Path) -> None:
    made = forward_of(
        words(
            target("churn@3", contract="three.json"),
            target("churn@4", contract="four.json", service=f"churn@{version('four.json')[:6]}"),
        ),
        None,
    )
    assert made is not None
    assert {name: one.asks for name, one in made.targets.items()} == {
        "churn@3": ("churn", version("three.json")),
        "churn@4": ("churn", version("four.json")),
    }


def test_the_same_may_stand_in_the_settings(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = [{"url": URL, "name": "churn@3", "contract": "three.json"}]
    text = f"{SETTINGS}featurekit:\n  serve:\n    targets: {json.dumps(told)}\n"
    (repo / "feature_store.yaml").write_text(text)
    own = load_config(repo).featurekit.serve
    monkeypatch.chdir("/")  # a contract lies where the repo does
    none = Namespace(forward=None, route=None, shadow=None, fallback=None)
    made = forward_of(none, own, folder=repo)
    assert made is not None
    assert made.targets["churn@3"].asks == ("churn", version(str(repo / "three.json")))


def test_a_model_is_sent_the_names_that_its_contract_has(repo: Path) -> None:
    """One target learnt from view__feature, the other from the short names: both of one version,
    whose features are looked up once."""
    full, short = Contract.load("full.json"), Contract.load("three.json")
    seen: list[Any] = []
    with model_server() as model:
        words = ["--route", "churn@1=100", "--shadow", "churn@2"]
        for name, contract in (("churn@1", "full.json"), ("churn@2", "three.json")):
            one = forwarding.target(model, name, None, contract=contract, nan="NaN")
            words += ["--forward", one]
        with serving.serving("--repo", str(repo), *words) as server:
            rows = [{"k": k, "budget": 7} for k in range(3)]
            assert predict(server, rows)[0] == 200
            assert until(
                lambda: seen.extend(model.seen()) or len(seen) == 2, within_s=20, every_s=0.05
            )
            status, found = predict(server, [{"k": 99, "budget": 7}])
            assert (status, found["error"]["what"].split(" is None")[0]) == (
                422, "row 0: feature 'latest__s'")  # fmt: skip
    bodies = [json.loads(one["body"])["inputs"] for one in seen]
    sent = {tuple(one["name"] for one in body): [one["data"] for one in body] for body in bodies}
    assert {*sent} == {tuple(full.names), tuple(short.names)}
    assert full.names[:2] == ["latest__x", "latest__s"]
    assert exact(sent[tuple(full.names)]) == exact(sent[tuple(short.names)])


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"contract": "four.json", "service": "churn@{three}"},
         "target churn@4: its model learnt from churn@.*, as four.json says, and it would be "
         "given features of churn@"),
        ({"contract": "four.json", "service": "other"}, "would be given features of other"),
    ],
    ids=["another version", "another service"],
)  # fmt: skip
def test_a_mixed_canary_is_refused_before_it_serves(
    repo: Path, redis_url: str, capsys: pytest.CaptureFixture[str], more: dict[str, str], says: str
) -> None:
    more = {key: value.format(three=version("three.json")) for key, value in more.items()}
    asked = ["--forward", target("churn@3", contract="three.json")]
    asked += ["--forward", target("churn@4", **more), "--route", "churn@3=95,churn@4=5"]
    assert main(["serve", "--port", "0", *asked]) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert re.search(says, shown), shown


def test_a_contract_that_is_not_believed_is_refused(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = words(target("churn@3", contract="three.json"), target("churn@4", contract="four.json"))
    with pytest.raises(ContractRefused, match="is not signed"):
        forward_of(asked, None, keys=[KEY.public.text])
    monkeypatch.setenv("FEATUREKIT_PUBLIC_KEYS", KEY.public.text)
    with pytest.raises(ContractRefused, match="is not signed"):
        forward_of(asked, None)
    monkeypatch.delenv("FEATUREKIT_PUBLIC_KEYS")
    data = Path("four.json").read_bytes()
    Path("four.json").write_bytes(data.replace(b'"may"', b'"mai"', 1))
    with pytest.raises(ContractRefused, match="was changed after it was written"):
        forward_of(asked, None)
