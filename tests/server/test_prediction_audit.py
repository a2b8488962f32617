"""All that is known of a prediction: real order lines, a real server that forwards to a model
server, and what the serving log, the sources and the audit log say of one request afterwards."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import forwarding
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import retail_models
import serving
from forwarding import ModelProcess, predict
from model_server import score
from retail_models import AS_OF, COLUMNS, RETAIL

from featurekit import FeatureStore
from featurekit.cli import main
from featurekit.errors import ContractRefused, DataError
from featurekit.log.served.block import encode
from featurekit.log.served.parquet import read_parquet, written
from featurekit.monitor.prediction import bits_of
from featurekit.online.store.server import scratch_redis
from featurekit.parity.compare import bits
from featurekit.results import PredictionAudit

pytestmark = pytest.mark.skipif(
    not RETAIL.exists(), reason=f"the real order lines are not here: {RETAIL}"
)
ASKED = 6


@dataclass(frozen=True, slots=True)
class Shop:
    """The repo, its Redis, the folder of its serving log, and what was answered by request id."""

    folder: Path
    url: str
    log: Path
    rows: list[dict[str, Any]]
    answers: dict[str, Any]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder, log = tmp_path_factory.mktemp("shop"), tmp_path_factory.mktemp("log")
    rows = retail_models.rows(ASKED)
    with scratch_redis() as url, forwarding.model_server() as model:
        retail_models.make(folder, url)
        answers = _serve(url, log, model, rows)
        yield Shop(folder, url, log, rows, answers)


def _serve(url: str, log: Path, model: ModelProcess, rows: list[dict[str, Any]]) -> dict[str, Any]:
    with serving.serving(
        "--redis-url", url, "--project", "tests", "--serving-log", str(log),
        "--forward", forwarding.target(model, "churn@3", "churn_v1"),
        "--forward", forwarding.target(model, "churn@4", "churn_v1"),
        "--route", "churn@3=100", "--shadow", "churn@4",
    ) as server:  # fmt: skip
        _, predicted = predict(server, rows, as_of=AS_OF, request_id="first")
        _, looked_up = server.post(
            "/v1/services/churn_v1/features",
            {"rows": rows[:2], "as_of": AS_OF, "request_id": "plain"},
        )
        _, again = predict(server, rows[:1], as_of=AS_OF, request_id="twice")
        _, again = predict(server, rows[1:2], as_of=AS_OF, request_id="twice")
        assert server.stop() == 0
    return {"first": predicted, "plain": looked_up, "twice": again}


def audited(shop: Shop, request_id: str, **options: Any) -> PredictionAudit:
    with FeatureStore(shop.folder) as store:
        return store.audit_prediction(request_id, log=shop.log, **options)


def trained(shop: Shop) -> list[dict[str, Any]]:
    """The features of the rows as a training set has them."""
    frame = pa.Table.from_pylist([
        {**row, "event_timestamp": retail_models.instant(), "place": i}
        for i, row in enumerate(shop.rows)
    ])  # fmt: skip
    with FeatureStore(shop.folder) as store:
        found: list[dict[str, Any]] = (
            store.get_historical_features(frame, "churn_v1").to_arrow().sort_by("place").to_pylist()
        )
    return found


def test_a_prediction_is_told_with_the_bits_of_its_features_and_who_answered(shop: Shop):
    found = audited(shop, "first", events=False)
    assert found.equal is True
    assert [row.row for row in found.rows] == [*range(ASKED)]
    assert found.caller == "anyone"
    for row, own, asked in zip(found.rows, trained(shop), shop.rows, strict=True):
        assert {**row.keys, **row.request} == asked
        values = [feature.served[0] for feature in row.features]
        assert [bits(v) for v in values] == [bits(own[name]) for name in COLUMNS]
        assert [f.bits for f in row.features] == [bits_of(own[name]) for name in COLUMNS]
        routed, shadow = sorted(row.answers, key=lambda one: one.target)
        assert (routed.target, routed.role, routed.answered) == ("churn@3", "routed", True)
        assert (shadow.target, shadow.role, shadow.answered) == ("churn@4", "shadow", False)
        assert bits(json.loads(routed.prediction or "")) == bits(score(values, 1.0))
        assert {feature.verdict for feature in row.features} == {"equal"}


def test_each_feature_has_the_events_that_made_it(shop: Shop):
    (row,) = audited(shop, "first", row=0).rows
    explained = {f.name.rpartition("__")[2]: f.explanation for f in row.features}
    counted = explained["n"]
    assert counted is not None
    table = pq.read_table(shop.folder / "lines.parquet")
    mine = [one for one in table.to_pylist() if one["customer_id"] == row.keys["customer_id"]]
    events = [event for event in counted.events if event.counts]
    assert len(events) == min(row.features[1].served[0], 50) > 0
    prices = {(one["quantity"], one["unit_price"]) for one in mine}
    assert {(e.row["quantity"], e.row["unit_price"]) for e in events} <= prices
    share = explained["basket_share"]
    assert share is not None
    assert [name for name, *_ in share.inputs] == ["spend", "basket"]
    assert audited(shop, "first", row=0, events=False).rows[0].features[0].explanation is None


def test_a_lookup_without_a_model_is_told_too(shop: Shop):
    found = audited(shop, "plain", events=False)
    assert found.equal is True
    assert [(a.target, a.role) for row in found.rows for a in row.answers] == [
        ("", "looked_up")
    ] * 2
    told = shop.answers["plain"]["columns"]["n"]
    assert [row.features[1].served[0] for row in found.rows] == told


def test_the_last_of_two_requests_with_one_id_is_shown_and_the_other_is_named(shop: Shop):
    found = audited(shop, "twice", events=False)
    assert [row.keys["customer_id"] for row in found.rows] == [shop.rows[1]["customer_id"]]
    (note,) = [note for note in found.notes if "2 requests have the id" in note]
    first = next(n.strip(",;") for n in note.split() if ":" in n and n.strip(",;") != found.request
                 and n.split(":")[-1].strip(",").isdecimal())  # fmt: skip
    other = audited(shop, first, events=False)
    assert [row.keys["customer_id"] for row in other.rows] == [shop.rows[0]["customer_id"]]


def test_the_registry_and_the_audit_log_say_who_made_it_live(shop: Shop):
    found = audited(shop, "first", row=0, events=False)
    with FeatureStore(shop.folder) as store:
        (known,) = store.versions("churn_v1")
    name = f"churn_v1@{known.fingerprint[:12]}"
    assert [step.did for step in found.steps] == [
        f"applied {name} (registry)",
        f"apply: add {name}",
        "materialize: filled churn_v1, which went live",
    ]
    assert found.steps[0].who == known.applied_by


def test_the_contract_tells_the_training_set(shop: Shop, tmp_path: Path):
    frame = pa.table({
        "customer_id": [row["customer_id"] for row in shop.rows],
        "basket": [row["basket"] for row in shop.rows],
        "event_timestamp": [retail_models.instant()] * ASKED,
    })  # fmt: skip
    with FeatureStore(shop.folder) as store:
        contracts = {
            name: store.get_historical_features(frame.select(columns), name).contract()
            for name, columns in (
                ("churn_v1", ["customer_id", "basket", "event_timestamp"]),
                ("churn_v2", ["customer_id", "event_timestamp"]),
            )
        }
    path = tmp_path / "churn.contract.json"
    contracts["churn_v1"].save(path)
    found = audited(shop, "first", row=0, events=False, contract=path)
    assert found.contract == contracts["churn_v1"]
    assert found.to_dict()["training_set"]["manifest"]["rows"] == ASKED
    assert not any("contract" in note for note in found.notes)
    wrong = audited(shop, "first", row=0, events=False, contract=contracts["churn_v2"])
    assert any("the model was not trained on what it was given" in note for note in wrong.notes)
    none = audited(shop, "first", row=0, events=False)
    assert any("the serving log names no contract" in note for note in none.notes)
    path.write_bytes(path.read_bytes().replace(b'"rows":6', b'"rows":7'))
    with pytest.raises(ContractRefused):
        audited(shop, "first", contract=path)


def test_an_event_that_files_lost_since_is_a_difference_by_name(shop: Shop):
    path = shop.folder / "lines.parquet"
    kept = path.read_bytes()
    table = pq.read_table(path)
    mine = [i for i, one in enumerate(table["customer_id"].to_pylist())
            if one == shop.rows[0]["customer_id"]]  # fmt: skip
    try:
        pq.write_table(table.take([i for i in range(len(table)) if i != mine[-1]]), path)
        found = audited(shop, "first", events=False)
    finally:
        path.write_bytes(kept)
    assert found.equal is False
    verdicts = {f.name.rpartition("__")[2]: f.verdict for f in found.rows[0].features}
    assert verdicts["n"] in ("differs", "lag")
    assert verdicts["basket_itself"] == "equal"
    assert {f.verdict for row in found.rows[1:] for f in row.features} == {"equal"}


def test_what_the_log_does_not_have_is_said(shop: Shop, tmp_path: Path):
    with pytest.raises(DataError, match="has no request 'nobody'; its rows were served from 20"):
        audited(shop, "nobody")
    with pytest.raises(DataError, match="has no row 99; it has the rows 0 to 5"):
        audited(shop, "first", row=99)
    with FeatureStore(shop.folder) as store, pytest.raises(DataError, match="no serving log"):
        store.audit_prediction("first", log=tmp_path / "none")


def test_the_command_line_says_whether_every_bit_is_equal(
    shop: Shop, capsys: pytest.CaptureFixture[str]
):
    told = ["audit", "prediction", "first", "--repo", str(shop.folder), "--log", str(shop.log)]
    assert main([*told, "--row", "5"]) == 0
    shown = capsys.readouterr().out
    assert "Every served value is, bit for bit, what offline says now" in shown
    assert main([*told, "--no-events", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["equal"] is True
    assert len(found["rows"]) == ASKED
    assert found["rows"][0]["features"][0]["bits"] is not None
    assert main([*told[:2], "nobody", *told[3:]]) == 2
    assert main([*told, "--contract", "a", "--model", "models:/a/1"]) == 64


# --- canary, fallback, shadow, and what is not what it was ----------------------------------------


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Two targets of two services, one of which is dead, and a shadow of another service."""
    folder, log = tmp_path_factory.mktemp("canary"), tmp_path_factory.mktemp("canary_log")
    rows = [{"customer_id": one} for one in retail_models.customers(8)]
    with scratch_redis() as url, forwarding.model_server() as model:
        retail_models.make(folder, url)
        dead = forwarding.target(model, "churn@4", "churn_v2").replace(str(model.port), "9", 1)
        with serving.serving(
            "--redis-url", url, "--project", "tests", "--serving-log", str(log),
            "--forward", forwarding.target(model, "churn@3", "churn_v2"), "--forward", dead,
            "--route", "churn@3=50,churn@4=50", "--fallback", "churn@3",
        ) as server:  # fmt: skip
            status, answer = predict(server, rows, as_of=AS_OF, request_id="split")
            assert status == 200
            assert server.stop() == 0
        yield Shop(folder, url, log, rows, {"split": answer})


def test_a_fallback_is_told_beside_the_target_that_failed(canary: Shop):
    found = audited(canary, "split", events=False)
    assert found.equal is True
    failed = set(canary.answers["split"]["instead"]["churn@4"])
    assert 0 < len(failed) < 8
    for row in found.rows:
        told = {(a.target, a.role, a.answered, a.error is None) for a in row.answers}
        if row.row in failed:
            wanted = {("churn@4", "routed", False, False), ("churn@3", "instead", True, True)}
        else:
            wanted = {("churn@3", "routed", True, True)}
        assert told == wanted


def test_a_mixed_route_is_told_by_its_targets(shop: Shop, tmp_path: Path):
    """The contract is of what one target was given, and the other was given something else."""
    with forwarding.model_server() as model, serving.serving(
        "--redis-url", shop.url, "--project", "tests", "--serving-log", str(tmp_path),
        "--forward", forwarding.target(model, "churn@3", "churn_v1"),
        "--forward", forwarding.target(model, "churn@4", "churn_v2"),
        "--route", "churn@3=50,churn@4=50",
    ) as server:  # fmt: skip
        status, _ = predict(server, shop.rows, as_of=AS_OF, request_id="mixed")
        assert status == 200
        assert server.stop() == 0
    frame = [{**row, "event_timestamp": retail_models.instant()} for row in shop.rows]
    with FeatureStore(shop.folder) as store:
        contract = store.get_historical_features(pa.Table.from_pylist(frame), "churn_v1").contract()
        mixed = store.audit_prediction("mixed", log=tmp_path, events=False, contract=contract)
        alone = store.audit_prediction("first", log=shop.log, events=False, contract=contract)
    (note,) = [note for note in mixed.notes if "a mixed route" in note]
    assert f"the contract is of churn_v1@{contract.fingerprint[:12]}" in note
    assert "given to churn@3, and rows were answered by churn_v2@" in note
    assert "(churn@4), too" in note
    assert not any("a mixed route" in note for note in alone.notes)


def test_another_live_version_and_a_version_that_nobody_knows_are_told(
    canary: Shop, tmp_path: Path
):
    module = canary.folder / "definitions.py"
    before = module.read_text()
    try:
        module.write_text(before.replace('Count(window="60d")', 'Count(window="30d")'))
        with FeatureStore(canary.folder) as store:
            store.apply()
            store.materialize()
        found = audited(canary, "split", row=0, events=True)
        (note,) = [note for note in found.notes if "it was served at churn_v2@" in note]
        assert ", which is retained; live now is " in note
        with FeatureStore(canary.folder) as store:
            store.pin(f"churn_v2@{found.rows[0].fingerprint}", by="models:/churn/4")
        pinned = audited(canary, "split", row=0, events=False)
        assert any(", which is pinned by models:/churn/4; live now" in n for n in pinned.notes)
        assert found.equal is True  # by the version that answered
        assert found.rows[0].features[0].explanation is not None
        (registry,) = canary.folder.rglob("registry.db")
        kept = registry.read_bytes()
        with sqlite3.connect(registry) as con:
            con.execute("DELETE FROM versions WHERE fingerprint = ?", (found.rows[0].fingerprint,))
        con.close()
        lost = audited(canary, "split", row=0, events=False)
        assert lost.equal is None
        assert any("which the registry does not have" in note for note in lost.notes)
        assert {f.verdict for f in lost.rows[0].features} == {"unchecked"}
        registry.write_bytes(kept)
    finally:
        module.write_text(before)


@pytest.mark.parametrize("what", ["n", "spend"])
def test_a_served_bit_that_was_changed_is_told_by_its_feature(
    shop: Shop, tmp_path: Path, what: str
):
    """What a process serves that computes one bit otherwise."""
    changed = tmp_path / "log"
    shutil.copytree(shop.log, changed)
    name = f"spending__{what}"
    for path in changed.glob("*.parquet"):
        blocks = [*read_parquet(path)]
        head = blocks[0].head
        for block in blocks:
            place = [*head.outputs].index(name)
            column = [*block.values[place]]
            column[0] = column[0] + 1 if what == "n" else math.nextafter(column[0], math.inf)
            block.values = [column if o == place else c for o, c in enumerate(block.values)]
        about = [{**block.about(), "rows": block.rows} for block in blocks]
        path.write_bytes(written(head, [b"".join(encode(b)) for b in blocks], about))
    with FeatureStore(shop.folder) as store:
        found = store.audit_prediction("first", log=changed, events=False)
    assert found.equal is False
    differing = [(r.row, f.name) for r in found.rows for f in r.features if f.verdict != "equal"]
    assert differing == [(0, name)]
