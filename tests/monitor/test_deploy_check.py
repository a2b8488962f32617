"""`featurekit deploy check`: whether the online store can serve a model, with faults planted."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from contracted import training, write_repo

from featurekit import Contract, FeatureStore
from featurekit.cli import main
from featurekit.core.keys import state_prefix
from featurekit.core.signing import PrivateKey
from featurekit.define.feature_contract.document import Body, written
from featurekit.define.plan import View
from featurekit.errors import RegistryError
from featurekit.online.state.seal import opened, sealed

ROOT = Path(__file__).parents[2]
RETAIL = ROOT.parent / "shared" / "data" / "online_retail.parquet"
KEY = PrivateKey.make()
NAMES = ["contract", "version", "types", "freshness", "parity"]


@pytest.fixture
def repo(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repo that is applied and filled, with the contract of a training set."""
    monkeypatch.setenv("FEATUREKIT_REDIS_URL", redis_url)
    folder = write_repo(tmp_path / "repo")
    monkeypatch.chdir(folder)
    deploy()
    with FeatureStore(folder) as store:
        training(store).contract().save("c.json")
    return folder


def deploy(variant: str | None = None) -> None:
    """Define the repo, or a variant of it, apply it and fill it."""
    write_repo(Path(), variant)
    with FeatureStore(".") as store:
        store.apply(allow_breaking=True)
        store.materialize()


def check(capsys: pytest.CaptureFixture[str], *options: str, code: int) -> dict[str, Any]:
    """The checks by name."""
    capsys.readouterr()
    assert main(["deploy", "check", "--json", "--contract", "c.json", *options]) == code
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] == (code == 0)
    assert [one["check"] for one in document["checks"]] == NAMES
    return {one["check"]: one for one in document["checks"]}


def mix_up(store: FeatureStore, view: View, *, damaged: bool = False) -> None:
    """Write the state of an entity under the key of another one, with a right seal or a wrong
    one."""
    prefix = state_prefix(store.project, view)
    one, other = [key for part in store.online.scan(prefix) for key in part][:2]
    state = store.online.read([other])[0] or b""
    store.online.write({one: state if damaged else sealed(one, opened(other, state) or b"")})


def held(found: dict[str, Any]) -> list[bool | None]:
    return [found[name]["held"] for name in NAMES]


def test_a_version_that_is_live_can_be_served(
    repo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = check(capsys, "--junit", "report.xml", code=0)
    assert held(found) == [True] * 5
    assert "is filled, and live" in found["version"]["found"]
    assert "agree bit for bit" in found["parity"]["found"]
    root = ET.parse("report.xml").getroot()
    assert (root.get("tests"), root.get("failures"), root.get("skipped")) == ("5", "0", "0")
    assert main(["deploy", "check", "--contract", "c.json"]) == 0
    assert "The model can be served." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("variant", "names"),
    [
        ("transform", {"total"}),  # a feature redefined under the same name
        ("type", {"orders", "share"}),  # an int become float
        ("order", {"x", "total"}),  # columns swapped
        ("null rule", {"total"}),
    ],
)
def test_a_model_on_a_version_that_is_gone_is_told_what_differs(
    repo: Path, capsys: pytest.CaptureFixture[str], variant: str, names: set[str]
) -> None:
    deploy(variant)
    found = check(capsys, code=0)
    assert held(found) == [True] * 5
    assert found["version"]["found"].endswith(" is filled, and retained")  # and so still fed
    with FeatureStore(".") as store:
        store.gc(retained=True)
    found = check(capsys, "--junit", "report.xml", code=3)
    assert held(found) == [True, False, None, None, None]
    differing = found["version"]["differences"]
    assert names <= {d["name"] for d in differing if d["what"] != "version"}
    assert all(name in found["version"]["found"] for name in names)
    root = ET.parse("report.xml").getroot()
    assert (root.get("failures"), root.get("skipped")) == ("1", "3")
    assert main(["deploy", "check", "--contract", "c.json"]) == 3
    assert "The model cannot be served now." in capsys.readouterr().out


def test_a_pinned_version_can_be_served_whatever_is_live(
    repo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FeatureStore(".") as store:
        store.pin(Contract.load("c.json").version, by="models:/churn/3")
    deploy("transform")
    with FeatureStore(".") as store:
        store.gc(retained=True)
    found = check(capsys, code=0)
    assert "is filled, and pinned by models:/churn/3" in found["version"]["found"]
    assert "agree bit for bit" in found["parity"]["found"]


def test_what_is_sampled_is_the_pinned_version(
    repo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FeatureStore(".") as store:
        view = next(v for v in store.live()["churn"].views if v.name == "latest")
        store.pin(Contract.load("c.json").version, by="models:/churn/3")
    deploy("version")  # another version of that view is live
    with FeatureStore(".") as store:
        mix_up(store, view)
    found = check(capsys, code=3)
    assert held(found) == [True, True, True, True, False]


def test_a_version_that_was_rolled_back_is_told(
    repo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model learnt from the new version, and the old one is live again."""
    deploy("transform")
    with FeatureStore(".") as store:
        training(store).contract().save("c.json")
        store.rollback("churn")
    assert held(check(capsys, code=0)) == [True] * 5
    with FeatureStore(".") as store:
        store.gc(retained=True)
    found = check(capsys, code=3)
    assert "total" in found["version"]["found"]


def _swapped(said: Any) -> None:
    features = said["features"]
    features[2], features[3] = features[3], features[2]


def _as_float(said: Any) -> None:
    said["features"][3]["type"] = said["manifest"]["features"]["orders"]["type"] = "float"


def _other_libm(said: Any) -> None:
    said["numerics"] = {"libm math.log(float)": "0" * 16}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_swapped, "orders: order place 3 → place 4"),
        (_as_float, "orders: type float → int"),
        (_other_libm, "this platform differs"),
    ],
)
def test_a_contract_that_says_other_columns_than_its_version_is_told(
    repo: Path, capsys: pytest.CaptureFixture[str], change: Any, told: str
) -> None:
    said = Contract.load("c.json").body.model_dump(mode="json")
    change(said)
    Path("c.json").write_bytes(written(Body.model_validate_json(json.dumps(said)), None))
    found = check(capsys, code=3)
    assert held(found)[:3] == [True, True, False]
    assert told in found["types"]["found"]


def test_a_tampered_and_an_unsigned_contract_are_told(
    repo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Path("c.json").read_bytes()
    Path("c.json").write_bytes(data.replace(b'"never"', b'"nevar"', 1))
    found = check(capsys, code=3)
    assert held(found) == [False, None, None, None, None]
    assert "was changed after it was written" in found["contract"]["found"]
    Path("c.json").write_bytes(data)
    with FeatureStore(".") as store, monkeypatch.context() as signing:
        signing.setenv("FEATUREKIT_SIGNING_KEY", KEY.text)
        store.apply()  # the plans have to be signed, too
        signed = training(store).contract()
    monkeypatch.setenv("FEATUREKIT_PUBLIC_KEYS", KEY.public.text)
    assert "is not signed" in check(capsys, code=3)["contract"]["found"]
    signed.save("c.json")
    found = check(capsys, code=0)
    assert found["contract"]["found"] == f"unchanged, and signed by {KEY.public.text}"
    assert main(["deploy", "check", "--contract", "none.json"]) == 2


def test_a_stale_store_is_told(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = check(capsys, "--max-age", "1us", code=3)
    assert held(found) == [True, True, True, False, True]
    assert "; at most 1us" in found["freshness"]["found"]
    assert held(check(capsys, "--max-age", "1d", code=0)) == [True] * 5


@pytest.mark.parametrize("damaged", [False, True])
def test_a_state_of_another_entity_is_told(
    repo: Path, capsys: pytest.CaptureFixture[str], damaged: bool
) -> None:
    with FeatureStore(".") as store:
        service = store.live()["churn"]
        view = next(v for v in service.views if v.name == "latest")  # the windows are over
        mix_up(store, view, damaged=damaged)
    found = check(capsys, code=3)
    assert held(found) == [True, True, True, True, False]
    told = "is damaged" if damaged else "differ, in"
    assert told in found["parity"]["found"]


def test_values_that_wait_for_materialize_are_counted(
    repo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pq.read_table("events.parquet")
    now = dt.datetime.now(dt.UTC)
    row = {"k": 1, "x": 5.0, "n": 9, "s": "z", "ts": now, "arrived": now}
    more = pa.Table.from_pylist([row], schema=table.schema)
    pq.write_table(pa.concat_tables([table, more]), "events.parquet")
    assert "lag, since their events are not online yet" in check(capsys, code=0)["parity"]["found"]


def test_a_contract_of_another_project_is_told(
    repo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = Contract.load("c.json").body.model_dump(mode="json")
    said["project"] = "other"
    Path("c.json").write_bytes(written(Body.model_validate_json(json.dumps(said)), None))
    assert "the contract is of project 'other'" in check(capsys, code=3)["version"]["found"]


def test_one_of_a_model_and_a_contract_is_named(
    repo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for words in ([], ["models:/churn/3", "--contract", "c.json"]):
        assert main(["deploy", "check", *words]) == 64
        assert "name one of a MODEL" in capsys.readouterr().err
    assert main(["deploy", "check", "models:/churn/3"]) == 2
    assert "MLFLOW_TRACKING_URI is not set" in capsys.readouterr().err
    assert not Path("mlflow.db").exists()


def test_pins_of_unknown_versions_stay_refused(repo: Path) -> None:
    with FeatureStore(".") as store, pytest.raises(RegistryError, match="is no version"):
        store.pin(f"churn@{'0' * 32}", by="models:/churn/3")


@pytest.mark.parallel
@pytest.mark.skipif(not RETAIL.exists(), reason=f"the real order lines are not here: {RETAIL}")
def test_a_model_of_the_real_order_lines_can_be_served(
    tmp_path: Path, redis_url: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name in ("feature_store.yaml", "shop.py"):
        shutil.copy(ROOT / "feature_repo" / name, tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "order_lines.parquet").symlink_to(RETAIL)
    monkeypatch.setenv("FEATUREKIT_REDIS_URL", redis_url)
    monkeypatch.chdir(tmp_path)
    assert main(["apply"]) == 0
    assert main(["materialize", "--view", "customer_orders"]) == 0
    with FeatureStore(".") as store:
        rows = store.get_historical_features(
            None, ["customer_orders"], at=["2011-06-01", "2011-09-01"]
        ).to_arrow()
        frame = rows.select(["customer_id", "event_timestamp"])
        frame = frame.append_column("basket_value", [[25.0] * frame.num_rows])
        made = store.get_historical_features(frame, "checkout_v1").contract()
    made.save("c.json")
    assert made.body.profile.rows > 4_000
    found = check(capsys, "--budget", "50000", code=0)
    assert held(found) == [True] * 5
