"""What an audit says of a served value that lacked an event: LAG, where the event had arrived and
was not online yet, and no more once it is compared with what was online."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from contracted import write_repo

from featurekit import FeatureStore
from featurekit.cli import main

SETTINGS = "featurekit:\n  serving_log: {to: parquet, folder: served}\n"


@pytest.fixture
def repo(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repo that is applied and filled, and logs what it serves."""
    monkeypatch.setenv("FEATUREKIT_REDIS_URL", redis_url)
    folder = write_repo(tmp_path / "repo")
    with (folder / "feature_store.yaml").open("a") as settings:
        settings.write(SETTINGS)
    monkeypatch.chdir(folder)
    with FeatureStore(".") as store:
        store.apply()
        store.materialize()
    return folder


def append(now: dt.datetime) -> None:
    """An order of user 1 that arrives now, in the file alone."""
    table = pq.read_table("events.parquet")
    row = {"k": 1, "x": 5.0, "n": 9, "s": "z", "ts": now, "arrived": now}
    more = pa.Table.from_pylist([row], schema=table.schema)
    pq.write_table(pa.concat_tables([table, more]), "events.parquet")


def looked_up() -> str:
    """Look users 1 and 2 up, and name the request."""
    with FeatureStore(".") as store:
        store.get_online_features("churn", [{"k": k, "budget": 7} for k in (1, 2)])
    with FeatureStore(".") as store:
        *_, block = sorted(store.served(), key=lambda one: one.served_at)
        return f"{block.process}:{block.request[0]}"


def audited(capsys: pytest.CaptureFixture[str], request: str, code: int) -> dict[int, Any]:
    """The verdict on each feature, by user."""
    capsys.readouterr()
    assert main(["audit", "prediction", request, "--no-events", "--json"]) == code
    told = json.loads(capsys.readouterr().out)
    assert told["equal"] == (code == 0)
    return {row["keys"]["k"]: {f["feature"].rpartition("__")[2]: (f["verdict"], f["why"])
                               for f in row["features"]} for row in told["rows"]}  # fmt: skip


def test_a_value_that_lacked_an_event_which_was_not_online_is_lag(
    repo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = dt.datetime.now(dt.UTC)
    append(now)
    early = looked_up()
    found = audited(capsys, early, code=1)
    verdict, why = found[1]["orders"]
    assert verdict == "lag"
    assert why.startswith("it lacks events that were not online when it was served; the oldest")
    assert now.isoformat() in why
    assert {verdict for verdict, _ in found[2].values()} == {"equal"}
    assert main(["audit", "prediction", early, "--no-events"]) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "orders: it lacks events that were not online when it was served" in shown
    assert "Offline says something else now than what was served." in shown


def test_a_value_is_equal_once_the_event_is_online(
    repo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    append(dt.datetime.now(dt.UTC))
    with FeatureStore(".") as store:
        store.materialize()
    found = audited(capsys, looked_up(), code=0)
    assert {verdict for one in found.values() for verdict, _ in one.values()} == {"equal"}
