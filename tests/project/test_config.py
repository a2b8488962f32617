"""The settings of feature_store.yaml: variables, the keys of Feast, and what is said of faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from featurekit import FeatureStore
from featurekit.errors import ConfigError
from featurekit.project.config import find_repo, load_config

FEAST = """
project: shop
project_description: what it is about
provider: local
registry: {registry_type: sql, path: "postgresql://db/feast"}
online_store:
  type: redis
  redis_type: redis
  client: redis
  sentinel_master: mymaster
  connection_string: "localhost:6379,db=3"
  key_ttl_seconds: 60
  full_scan_for_deletion: true
  skip_dedup: false
offline_store: {type: duckdb}
batch_engine: {type: local}
auth: {type: no_auth}
feature_server: {enabled: false}
embedding_model: {model: small}
flags: {alpha_features: true}
entity_key_serialization_version: 3
coerce_tz_aware: true
materialization: {pull_latest_features: true}
openlineage: {enabled: false}
mlflow: {enabled: false}
data_quality_monitoring: {auto_baseline: false}
"""


def write(folder: Path, text: str) -> Path:
    (folder / "feature_store.yaml").write_text(text, encoding="utf-8")
    return folder


def test_every_key_of_feast_is_let_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEATUREKIT_REDIS_URL", raising=False)
    assert load_config(write(tmp_path, FEAST)).redis_url() == "redis://localhost:6379/3"


@pytest.mark.parametrize("store", ["{type: sqlite, path: online.db}", "sqlite", "{type: dynamodb}"])
def test_another_store_of_feast_is_let_through_beside_a_redis_of_our_own(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FEATUREKIT_REDIS_URL", raising=False)
    text = f"project: shop\nonline_store: {store}\n"
    with pytest.raises(ConfigError, match=r"feature_store\.yaml:2: .*featurekit serves from Redis"):
        load_config(write(tmp_path, text))
    own = f"{text}featurekit: {{redis_url: 'redis://here/1'}}\n"
    assert load_config(write(tmp_path, own)).redis_url() == "redis://here/1"


EXPANDED = {
    "${SHOP_HOST}": "db7",
    "${SHOP_HOST:-other}": "db7",
    "${SHOP_NONE:-other}": "other",
    "${SHOP_EMPTY:-other}": "other",
    "${SHOP_NONE:-}": "",
    "${SHOP_HOST}:${SHOP_PORT:-6379}": "db7:6379",
    "$${SHOP_HOST}": "${SHOP_HOST}",
    "$SHOP_HOST and $": "$SHOP_HOST and $",
    "${SHOP_TRICKY}": 'a: "b"\n- c',
}


@pytest.mark.parametrize("written", EXPANDED)
def test_variables_are_replaced_in_the_values(
    tmp_path: Path, written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_HOST", "db7")
    monkeypatch.setenv("SHOP_EMPTY", "")
    monkeypatch.setenv("SHOP_TRICKY", 'a: "b"\n- c')  # a value is never read as YAML
    for name in ("SHOP_NONE", "SHOP_PORT"):
        monkeypatch.delenv(name, raising=False)
    text = f"project: shop\nproject_description: '{written}'\n"
    assert load_config(write(tmp_path, text)).project_description == EXPANDED[written]


def test_a_variable_may_be_a_number_and_may_stand_in_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_N", "7")
    text = "project: shop\nfeaturekit: {buckets: '${SHOP_N}', ignore: ['a${SHOP_N}.py']}\n"
    config = load_config(write(tmp_path, text)).featurekit
    assert (config.buckets, config.ignore) == (7, ["a7.py"])


FAULTS = {
    "project: shop\nonline_store:\n  type: redis\n  db: ${SHOP_NONE}\n": (
        r":4: online_store\.db: the environment has no variable 'SHOP_NONE'; set it, or write "
        r"\$\{SHOP_NONE:-default\}"
    ),
    "project: shop\nprovder: local\n": ":2: provder: no such setting; did you mean 'provider'?",
    "project: shop\nfeaturekit:\n  serving_log:\n    too: parquet\n": (
        ":4: featurekit.serving_log.too: no such setting; did you mean 'to'"
    ),
    "project: shop\nfeaturekit:\n  buckets: some\n": ":3: .*is a whole number, found 'some'",
    "project: a b\n": ":1: project: is a letter or digit, .* found 'a b'",
    "project: shop\n  x: 1\n": r":2:4: this is not YAML: .*\n  hint: write",
}


@pytest.mark.parametrize("text", FAULTS)
def test_a_fault_names_its_line(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHOP_NONE", raising=False)
    with pytest.raises(ConfigError, match=f"feature_store.yaml{FAULTS[text]}"):
        load_config(write(tmp_path, text))


def test_all_faults_of_the_file_are_told(tmp_path: Path) -> None:
    text = "project: a b\nprovder: local\nfeaturekit:\n  buckets: some\n"
    with pytest.raises(ConfigError) as raised:
        load_config(write(tmp_path, text))
    lines = [line.partition("feature_store.yaml:")[2][:2] for line in str(raised.value).split("\n")]
    assert sorted(lines) == ["1:", "2:", "4:"]


def test_a_repo_is_found_from_its_sub_folders(tmp_path: Path) -> None:
    below = write(tmp_path, "project: shop\n") / "notebooks" / "old"
    below.mkdir(parents=True)
    assert find_repo(below) == tmp_path.resolve()
    assert FeatureStore(below).path == tmp_path.resolve()
    with pytest.raises(ConfigError, match=r"path: there is no folder .*nowhere"):
        FeatureStore(below / "nowhere")


def test_the_nearest_repo_is_meant(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    write(tmp_path, "project: outer\n")
    write(inner, "project: inner\n")
    assert FeatureStore(inner).project == "inner"
