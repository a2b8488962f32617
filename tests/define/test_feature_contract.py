"""A feature contract: the same bytes for the same training set, believed or refused, compared."""

from __future__ import annotations

import json
import math
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow as pa
import pytest
from contracted import VARIANTS, frame, training, write_repo
from hypothesis import given
from hypothesis import strategies as st

from featurekit import Contract, FeatureStore
from featurekit.aggregates.quantiles import BucketCounts, bucket
from featurekit.core.few import LEAST_ENTITIES
from featurekit.core.signing import PrivateKey
from featurekit.core.types import BOOL, FLOAT, INT, STR, Type
from featurekit.define.feature_contract import document
from featurekit.define.feature_contract.document import Body, canonical, json_schema, written
from featurekit.errors import ArgumentError, ConfigError, ContractRefused, DataError
from featurekit.offline import training_set
from featurekit.offline.profile import MOST_DISTINCT, RowProfile

KEY, OTHER = PrivateKey.make(), PrivateKey.make()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeatureStore]:
    with FeatureStore(write_repo(tmp_path_factory.mktemp("models"))) as opened:
        yield opened


@pytest.fixture(scope="module")
def contract(store: FeatureStore) -> Contract:
    made = training(store).contract()
    assert isinstance(made, Contract)
    return made


def edited(contract: Contract, key: PrivateKey | None, change: Callable[[Any], object]) -> bytes:
    """The contract with something else in it, and a SHA-256 and a signature of that."""
    said = json.loads(contract.to_bytes())["contract"]
    change(said)
    parts = {"contract": said, "signature": None}
    if key is not None:
        signed = key.sign(document.message(canonical(said)))
        parts["signature"] = {"key": key.public.text, "ed25519": signed.hex()}
    return canonical({**parts, "sha256": document._digest(parts)}) + b"\n"


# --- what it says ---------------------------------------------------------------------------------


def test_a_contract_says_what_the_model_takes(contract: Contract) -> None:
    assert contract.names == ["x", "s", "total", "orders", "events_7d", "share"]
    types = ["float | None", "str | None", "float", "int", "int", "int"]
    assert [f.type for f in contract.features] == types
    assert [f.nulls for f in contract.features] == ["may", "may", "may", "may", "never", "may"]
    assert [f.empty for f in contract.features] == [None, None, 0.0, 0, 0, None]
    assert [(c.name, c.type) for c in contract.entity_keys] == [("k", "int")]
    assert [(c.name, c.type) for c in contract.request] == [("budget", "int")]
    assert [(x.name, x.window_us) for x in contract.labels] == [("next", 86_400_000_000)]
    assert "    return budget // orders" in contract.features[-1].definition
    assert contract.version == f"churn@{contract.fingerprint}"


def test_the_profile_is_what_python_counts_of_the_rows(
    store: FeatureStore, contract: Contract
) -> None:
    rows = training(store, statuses=True).to_pylist()
    seen: set[str] = set()
    assert [*contract.profile] == [*contract.names, "next"]
    for name, told in contract.profile.items():
        values = [row[name] for row in rows if row[name] is not None]
        statuses = Counter(row[f"{name}__status"] for row in rows)
        seen |= {*statuses}
        assert (told.present, told.null) == (len(values), len(rows) - len(values))
        assert told.statuses == statuses
        if isinstance(values[0], str):
            assert told.numbers is None
        else:
            assert told.numbers is not None
            counts = Counter(bucket(float(v)) for v in values)
            assert told.numbers.buckets == sorted(counts.items())
            finite = [float(v) for v in values if v == v]
            assert float(told.numbers.least) <= min(finite)  # type: ignore[arg-type]
            assert float(told.numbers.greatest) >= max(finite)  # type: ignore[arg-type]
            quantile = contract.quantile(name, 0.5)
            assert str(quantile) == str(BucketCounts(map(float, values)).quantile(0.5))
        if isinstance(values[0], float):
            assert told.top is None
        else:
            who: dict[Any, set[Any]] = {}
            for row in rows:
                who.setdefault(row[name], set()).add(row["k"])
            often = [v for v in values if len(who[v]) >= LEAST_ENTITIES]
            ranked = sorted(Counter(often).items(), key=lambda pair: (-pair[1], pair[0]))
            assert told.top == ranked[:20]
    assert seen == {"PRESENT", "NULL_VALUE", "NOT_FOUND", "ERROR", "NOT_YET"}
    assert contract.profile["x"].numbers is not None
    assert contract.profile["x"].numbers.greatest == "Infinity"


def test_the_same_training_set_gives_the_same_bytes(
    tmp_path: Path, store: FeatureStore, contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("models.py", "feature_store.yaml", "events.parquet"):
        shutil.copy(store.path / name, tmp_path)
    monkeypatch.setattr(training_set, "_BATCH", 17)
    with FeatureStore(tmp_path) as other:
        again = training(other)
        again.to_parquet(tmp_path / "train.parquet")
        assert again.contract().to_bytes() == contract.to_bytes()
        assert again.contract().to_bytes() == contract.to_bytes()


def test_rows_in_another_order_have_the_same_profile(
    store: FeatureStore, contract: Contract
) -> None:
    rows = frame()
    random.Random(3).shuffle(rows)
    other = training(store, rows).contract()
    assert other.profile == contract.profile
    assert other.content_hash != contract.content_hash
    assert [d.what for d in contract.differences(other)] == ["training set"]


def test_a_part_has_a_contract_of_its_own(store: FeatureStore, contract: Contract) -> None:
    part = training(store).split(by="entity", test=0.3).train.contract()
    assert part.manifest["part"]["name"] == "train"
    assert 0 < part.body.profile.rows < contract.body.profile.rows
    assert part.fingerprint == contract.fingerprint


def test_the_commit_of_git_is_told_and_whether_modules_differ(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
        command = ["git", "-C", str(tmp_path), *identity, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    write_repo(tmp_path)
    git("init", "-q")
    with FeatureStore(tmp_path) as store:
        assert training(store).contract().code is None  # there is no commit
        git("add", "models.py", "feature_store.yaml")
        git("commit", "-qm", "one")
        code = training(store).contract().code
        assert code is not None
        assert (code.commit, code.dirty) == (git("rev-parse", "HEAD"), False)
        (tmp_path / "more.py").write_text("", encoding="utf-8")
        code = training(store).contract().code
        assert code is not None
        assert code.dirty


Column = tuple[Type, st.SearchStrategy[Any]]
COLUMNS: list[Column] = [
    (FLOAT, st.none() | st.floats() | st.sampled_from([0.0, -0.0, math.nan])),
    (INT, st.none() | st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3)),
    (STR, st.none() | st.sampled_from("abc") | st.text(st.characters(codec="utf-8"), max_size=2)),
    (BOOL, st.none() | st.booleans()),
]


@given(st.data())
def test_order_and_batches_leave_no_trace_in_a_profile(data: Any) -> None:
    type_, values = data.draw(st.sampled_from(COLUMNS))
    keys = st.integers(0, 20) | st.none()
    column = data.draw(st.lists(st.tuples(values, keys), max_size=30))
    told = []
    for rows in (column, data.draw(st.permutations(column))):
        size = data.draw(st.integers(1, 5))
        profile = RowProfile({"c": type_})
        for first in range(0, len(rows), size):
            part = rows[first : first + size]
            key = pa.array([k for _, k in part], pa.int64())
            profile.update([pa.array([v for v, _ in part], type_.arrow)], None, [key])
        told.append(profile.told()["c"])
    assert repr(told[0]) == repr(told[1])


@pytest.mark.parametrize(
    ("type_", "values", "least", "greatest"),
    [
        (FLOAT, [0.0, -0.0], 0.0, 0.0),
        (FLOAT, [math.nan], None, None),
        (FLOAT, [math.nan, -math.inf, 1.0], "-Infinity", 1.0078124999999998),
        (INT, [17850, 3], 3, 17920),
        (INT, [-17850, 0], -17920, 0),
    ],
)
def test_the_ends_of_numbers_are_those_of_their_buckets(
    type_: Type, values: list[Any], least: Any, greatest: Any
) -> None:
    profile = RowProfile({"c": type_})
    profile.update([pa.array(values, type_.arrow)], None, [])
    numbers = profile.told()["c"].numbers
    assert numbers is not None
    assert (numbers.least, numbers.greatest) == (least, greatest)


def told_values(*rows: tuple[Any, int, int], size: int = 7) -> list[Any]:
    """The frequent values of a column of texts whose rows are of entities with two keys."""
    profile = RowProfile({"c": STR})
    for first in range(0, len(rows), size):
        value, one, other = zip(*rows[first : first + size], strict=True)
        profile.update([pa.array(value)], None, [pa.array(one), pa.array(other)])
    return [value for value, _ in profile.told()["c"].top or ()]


def test_a_value_of_fewer_than_eleven_entities_is_not_told() -> None:
    common = [("common", i, i) for i in range(LEAST_ENTITIES)]
    assert told_values(*common) == ["common"]
    assert told_values(*common[1:]) == []
    # Many rows of one entity, and many entities that share a key, are few all the same.
    assert told_values(*[("mine", 17850, 17850)] * 100, *common) == ["common"]
    assert told_values(*[("mine", 17850, i) for i in range(100)], *common) == ["common"]


def test_a_bool_is_told_whoever_has_it() -> None:
    profile = RowProfile({"c": BOOL})
    profile.update([pa.array([True, False, False])], None, [pa.array([1, 1, 2])])
    assert profile.told()["c"].top == [(False, 2), (True, 1)]


@pytest.mark.parametrize("distinct", [MOST_DISTINCT, MOST_DISTINCT + 1])
def test_a_column_of_too_many_values_has_no_most_frequent_ones(distinct: int) -> None:
    profile = RowProfile({"c": INT})
    for first in range(0, distinct, 300):
        values = range(first, min(distinct, first + 300))
        profile.update([pa.array(values, pa.int64())], None, [])
    assert (profile.told()["c"].top is None) == (distinct > MOST_DISTINCT)


# --- whether it is believed -----------------------------------------------------------------------


def test_a_contract_that_was_saved_is_read_again(tmp_path: Path, contract: Contract) -> None:
    contract.save(tmp_path / "c.json")
    again = Contract.load(tmp_path / "c.json")
    assert again == contract
    assert again.to_bytes() == (tmp_path / "c.json").read_bytes()


def test_each_byte_that_is_changed_is_caught(contract: Contract) -> None:
    data = contract.to_bytes()
    believed = []
    for place in range(len(data)):
        for changed in (
            data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :],
            data[:place] + data[place + 1 :],
            data[:place] + b" " + data[place:],
        )[: 1 if place % 7 else 3]:
            try:
                Contract(changed)
            except ContractRefused:
                continue
            believed.append(place)
    assert believed == []


def test_each_byte_of_a_signed_one_too(contract: Contract) -> None:
    data = written(contract.body, KEY)
    for place in range(data.index(b'"sha256"'), len(data)):
        with pytest.raises(ContractRefused):
            Contract(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])


def test_a_signed_contract_is_believed_by_who_holds_the_key(
    tmp_path: Path, store: FeatureStore, contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATUREKIT_SIGNING_KEY", KEY.text)
    signed = training(store).contract()
    path = tmp_path / "c.json"
    signed.save(path)
    assert signed.signed_by == KEY.public.text
    assert signed.body == contract.body
    assert training(store).contract() == signed  # a signature of Ed25519 has no chance in it
    assert Contract.load(path, public_keys=[OTHER.public.text, KEY.public.text]) == signed
    monkeypatch.setenv("FEATUREKIT_PUBLIC_KEYS", KEY.public.text)
    assert Contract.load(path) == signed
    with pytest.raises(ConfigError, match="public_keys is no key"):
        Contract.load(path, public_keys=["x"])


@pytest.mark.parametrize(
    ("signer", "told"),
    [(None, "is not signed, and this reader holds a public key"), (OTHER, "none of the keys held")],
    ids=["nobody", "somebody else"],
)
def test_a_contract_that_was_rewritten_is_refused_by_who_holds_the_key(
    tmp_path: Path, contract: Contract, signer: PrivateKey | None, told: str
) -> None:
    def forge(said: Any) -> None:
        said["features"][0]["nulls"] = "never"

    path = tmp_path / "c.json"
    path.write_bytes(edited(contract, signer, forge))
    assert Contract.load(path, public_keys=[]).features[0].nulls == "never"
    with pytest.raises(ContractRefused, match=told):
        Contract.load(path, public_keys=[KEY.public.text])


def test_what_is_signed_is_all_of_it(tmp_path: Path, contract: Contract) -> None:
    """A signature of other content, beside its right key."""
    signature = json.loads(written(contract.body, KEY))["signature"]
    said = json.loads(contract.to_bytes())["contract"]
    said["code"] = {"commit": "0" * 40, "dirty": False}
    parts = {"contract": said, "signature": signature}
    path = tmp_path / "c.json"
    path.write_bytes(canonical({**parts, "sha256": document._digest(parts)}) + b"\n")
    with pytest.raises(ContractRefused, match="none of the keys held"):
        Contract.load(path, public_keys=[KEY.public.text])


def _swap(said: Any) -> None:
    said["features"][0], said["features"][1] = said["features"][1], said["features"][0]


def _of_other_rows(said: Any) -> None:
    said["profile"]["rows"] += 1


def _drop_a_value(said: Any) -> None:
    said["profile"]["columns"]["orders"]["numbers"]["buckets"][0][1] -= 1


def _drop_an_error(said: Any) -> None:
    statuses = said["profile"]["columns"]["share"]["statuses"]
    statuses["PRESENT"] += statuses.pop("ERROR")


def _int_as_float(said: Any) -> None:
    said["features"][3]["type"] = "float"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda said: said.update(fingerprint="0" * 32), "its fingerprint is 000"),
        (_of_other_rows, "its profile is stale, of 141 rows"),
        (lambda said: said["profile"].update(content_hash="0" * 64), "its profile is stale"),
        (lambda said: said["profile"]["columns"].pop("x"), "its profile is stale: x is in one"),
        (_drop_a_value, "the profile of orders is stale: its buckets hold"),
        (_drop_an_error, "the profile of share is stale: it has 0 errors"),
        (_int_as_float, "its manifest says otherwise of orders"),
        (lambda said: said["labels"].clear(), "its labels are not those of its manifest"),
        (lambda said: said["manifest"].pop("rows"), "its manifest is none"),
        (lambda said: said.update(extra=1), "not of the form of schema.json: contract.extra"),
        (lambda said: said.pop("code"), "not of the form of schema.json: contract.code"),
        (lambda said: said.update(format=2), "of format 2; this featurekit reads 1"),
        (lambda said: said["request"][0].update(type=5), "contract.request.0.type"),
    ],
)
def test_a_contract_that_contradicts_itself_is_refused(
    contract: Contract, change: Callable[[Any], object], told: str
) -> None:
    with pytest.raises(ContractRefused) as caught:
        Contract(edited(contract, KEY, change), where="c.json")
    assert str(caught.value).startswith("c.json: ")
    assert told in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b"\xff", b"[" * 100_000, b"null"])
def test_what_is_no_contract_is_refused_by_name(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "c.json").write_bytes(data)
    with pytest.raises(ContractRefused, match=r"c\.json: no feature contract"):
        Contract.load(tmp_path / "c.json")


def test_a_file_that_is_not_there_is_told(tmp_path: Path, contract: Contract) -> None:
    with pytest.raises(DataError, match="no feature contract can be read there"):
        Contract.load(tmp_path / "c.json")
    with pytest.raises(DataError, match="a file in a folder that exists"):
        contract.save(tmp_path / "none" / "c.json")
    with pytest.raises(ArgumentError, match="'s' is no column of numbers; there are x, total, "):
        contract.quantile("s", 0.5)


def test_arguments_of_another_type_are_told(contract: Contract) -> None:
    for call in (Contract.load, contract.save):
        with pytest.raises(ArgumentError, match="path"):
            call(5)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="q"):
        contract.quantile("x", "half")  # type: ignore[arg-type]


def test_the_schema_is_the_one_that_is_published(contract: Contract) -> None:
    published = Path(document.__file__).with_name("schema.json")
    assert json.loads(published.read_bytes()) == json_schema()
    said = json.loads(contract.to_bytes())
    jsonschema.Draft202012Validator.check_schema(json_schema())
    jsonschema.validate(said, json_schema())
    said["contract"]["features"][0].pop("type")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(said, json_schema())


# --- what differs ---------------------------------------------------------------------------------

TOLD = {
    "order": {("x", "order"), ("s", "order"), ("total", "order"), ("orders", "order"),
              ("events_7d", "order")},
    "type": {("orders", "type"), ("orders", "transform"), ("orders", "null rule"),
             ("share", "transform")},
    "null rule": {("total", "type"), ("total", "null rule"), ("total", "transform")},
    "transform": {("total", "transform")},
    "version": {("n", "new")},
    "gone": {("s", "gone")},
    "new": {("c", "new")},
    "request field": {("budget", "request field"), ("share", "transform")},
}  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_differs_is_told_by_name(tmp_path: Path, contract: Contract, variant: str) -> None:
    with FeatureStore(write_repo(tmp_path / "repo", variant)) as store:
        service = store.repo.compiled_services["churn"]
        told = {(d.name, d.what) for d in contract.differences(service)}
        versions = {name for name, what in told if what == "version"}
        assert {pair for pair in told if pair[1] != "version"} == TOLD[variant]
        changed = {"version": "latest", "gone": "latest", "order": "none", "request field": "none"}
        view = changed.get(variant, "totals")
        assert versions == {f.name for f in contract.features if f.view == view} & {
            *(o.name for o in service.outputs)
        }
        if variant == "transform":
            (one,) = (d for d in contract.differences(service) if d.what == "transform")
            assert any(line.startswith("+ ") and "2 * n" in line for line in one.lines)
    assert isinstance(contract.body, Body)


def test_nothing_differs_from_the_service_itself(store: FeatureStore, contract: Contract) -> None:
    assert contract.differences(store.repo.compiled_services["churn"]) == []
    assert contract.differences(contract) == []
