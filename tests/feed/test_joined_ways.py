"""Every way on which rows reach a view that takes from another one, in a real Redis: both paths
say the same, whichever side came when, twice, or not whole (T11)."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from oracle import bits

from featurekit import FeatureStore
from featurekit.cli import main
from featurekit.errors import DataError, OnlineError, WriteError
from featurekit.log.writer import PushLog
from featurekit.online.store.redis import RedisStore
from featurekit.project import leases
from tests import forks

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count, LastN

person = Entity("person", {"person": int})
item = Entity("item", {"item": int})
stamps = {"timestamp_field": "at", "created_timestamp_column": "arrived"}
ids = {"event_id": "id", "dedupe_within": "10d"}
prices = EventSource("prices", path="data/prices.parquet",
                     schema={"id": int, "item": int, "price": float}, **stamps, **ids)
orders = EventSource("orders", path="data/orders.parquet",
                     schema={"id": int, "person": int, "item": int}, **stamps, **ids)
products = FeatureView("products", entities=[item], source=prices, features={"price": "price"})
spent = FeatureView("spent", entities=[person], source=orders.join(products, on="item"), features={
    "prices": LastN("price", n=99, window="7d"), "rows": Count(window="7d")})
service = FeatureService("service", features=[spent])
"""
HOUR_AGO = dt.datetime.now(dt.UTC).replace(microsecond=0) - dt.timedelta(hours=1)
NOW = dt.datetime.fromisoformat(os.environ.get("NOW_OF_THE_TEST", HOUR_AGO.isoformat()))
LEASE_S = 1.5


def price(id_: int, item: int, value: float, minutes: float = 0) -> dict[str, Any]:
    return {"id": id_, "item": item, "price": value, "at": NOW + dt.timedelta(minutes=minutes)}


def order(id_: int, person: int, item: int, minutes: float = 1) -> dict[str, Any]:
    return {"id": id_, "person": person, "item": item, "at": NOW + dt.timedelta(minutes=minutes)}


def table(rows: list[dict[str, Any]]) -> pa.Table:
    made = pa.Table.from_pylist([{**row, "arrived": row["at"]} for row in rows])
    for name in ("at", "arrived"):
        place = made.schema.get_field_index(name)
        made = made.set_column(place, name, made[name].cast(pa.timestamp("us", "UTC")))
    return made


@pytest.fixture
def folder(make_repo: Callable[..., Path]) -> Path:
    return make_repo(
        MODULE,
        {"prices": table([price(1, 1, 2.0)]), "orders": table([order(1, 7, 1)])},
    )


@pytest.fixture
def store(
    folder: Path, redis_store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FeatureStore]:
    monkeypatch.setattr(leases, "LEASE_S", LEASE_S)
    monkeypatch.setattr(leases, "RENEW_S", LEASE_S / 5)
    with FeatureStore(folder, redis_url=redis_store.url) as opened:
        opened.apply()
        opened.materialize()
        yield opened


def same(store: FeatureStore, person: int = 7) -> dict[str, Any]:
    """What both paths say, in equal bits."""
    online = store.get_online_features("service", [{"person": person}])
    frame = [{"person": person, "event_timestamp": online.as_of}]
    (offline,) = store.get_historical_features(frame, "service").to_pylist()
    (one,) = online.to_pylist()
    assert {n: bits(v) for n, v in one.items()} == {n: bits(offline[n]) for n in one}
    return one


def test_an_idempotent_push_to_either_side_counts_once(store: FeatureStore) -> None:
    store.push("orders", [order(2, 7, 1)])
    new = [price(2, 1, 5.0, 2)]
    assert store.push("prices", new).repeated == 0
    assert store.push("prices", new).repeated == 1
    assert store.push("orders", [order(2, 7, 1), order(3, 7, 1, 3)]).repeated == 1
    assert store.push("orders", [order(3, 7, 1, 3)]).repeated == 1
    assert same(store)["prices"] == [2.0, 2.0, 5.0]
    store.materialize()
    assert same(store)["prices"] == [2.0, 2.0, 5.0]


CHILD = f"""
import os, signal, sys
from featurekit import FeatureStore
from featurekit.log.writer import PushLog
from featurekit.project import leases

leases.LEASE_S, leases.RENEW_S = {LEASE_S}, {LEASE_S} / 5
folder, url, when, source = sys.argv[1:]
keep = PushLog.keep

def killed(*given):
    if when == "after":
        keep(*given)
    os.kill(os.getpid(), signal.SIGKILL)

PushLog.keep = killed
sys.path.insert(0, {str(Path(__file__).parent)!r})
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import test_joined_ways as ways
FeatureStore(folder, redis_url=url).push(source, ways.DYING[source])
"""
DYING = {"orders": [order(5, 7, 1, 4)], "prices": [price(5, 1, 8.0, 3)]}


@pytest.mark.parametrize("source", ["orders", "prices"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_push_that_died_about_the_log_comes_again(
    store: FeatureStore, redis_store: RedisStore, source: str, when: str
) -> None:
    done = forks.run(
        [sys.executable, "-c", CHILD, str(store.path), redis_store.url, when, source],
        cwd=Path(__file__).parents[2],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            "NOW_OF_THE_TEST": NOW.isoformat(),  # the rows that come again are the same
        },
    )
    assert done.returncode == -signal.SIGKILL
    # A push to the other side waits until the lease of who died has ended.
    other = "prices" if source == "orders" else "orders"
    pushed = {"orders": [order(6, 7, 1, 5)], "prices": [price(6, 1, 9.0, 4.5)]}
    store.push(other, pushed[other])
    store.push(source, DYING[source])
    store.push("orders", [order(7, 7, 1, 9)])
    store.materialize_incremental()
    end = time.monotonic() + 30
    while store.online.announced(f"fk:{store.project}:pushes:{source}".encode()):
        assert time.monotonic() < end
        store.materialize_incremental()
    found = same(store)
    assert found["rows"] == 3
    assert found["prices"][-1] == (8.0 if source == "prices" else 9.0)
    store.materialize()
    assert same(store) == found
    assert store.check_parity("service", mode="sample", values=100).ok


def test_another_row_in_the_place_of_one_that_died_is_refused_until_the_next_run(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise WriteError("no room")

    with monkeypatch.context() as patched:
        patched.setattr(PushLog, "keep", full)
        with pytest.raises(WriteError):
            store.push("prices", DYING["prices"])
    store.push("prices", [price(5, 1, 6.0, 3.5)])
    # The memory of ids knows a row that no log has, and the state has it, too (T7).
    with pytest.raises(OnlineError, match="run `featurekit materialize`, which takes back"):
        store.push("orders", [order(7, 7, 1, 3.25)])
    store.materialize()
    store.push("orders", [order(7, 7, 1, 3.25), order(8, 7, 1, 9)])
    assert same(store)["prices"] == [2.0, 2.0, 6.0]


def test_a_push_that_failed_at_the_log_leaves_no_trace_in_what_is_taken(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise WriteError("no room")

    for source in ("prices", "orders"):
        with monkeypatch.context() as patched:
            patched.setattr(PushLog, "keep", full)
            with pytest.raises(WriteError):
                store.push(source, DYING[source])
    store.push("orders", [order(8, 7, 1, 6)])
    assert same(store)["prices"] == [2.0, 2.0]


def test_streams_of_both_sides_are_consumed(store: FeatureStore) -> None:
    client = store.online.client  # type: ignore[attr-defined]

    def add(source: str, row: dict[str, Any]) -> None:
        client.xadd(source, {"json": json.dumps({**row, "at": row["at"].isoformat()})})

    add("prices", price(2, 1, 5.0, 2))
    assert store.consume("prices", until_empty=True).entries == 1
    for n in range(3):
        add("orders", order(2, 7, 1, 3))  # delivered again and again
        add("orders", order(3 + n, 7, 1, 1.5 + n))
    assert store.consume("orders", until_empty=True, batch=2).entries == 6
    assert same(store) == {"person": 7, "prices": [2.0, 2.0, 5.0, 5.0, 5.0], "rows": 5}


def test_a_training_set_is_made_again_after_the_other_side_moved_on(
    store: FeatureStore, folder: Path, tmp_path: Path
) -> None:
    labels = [{"person": 7, "event_timestamp": NOW + dt.timedelta(minutes=30)}]
    training = store.get_historical_features(labels, "service")
    path = tmp_path / "train.parquet"
    training.to_parquet(path)
    manifest = json.loads((tmp_path / "train.parquet.manifest.json").read_text())
    assert sorted(manifest["sources"]) == ["orders", "prices"]
    store.push("prices", [price(2, 1, 5.0, -1)])
    store.push("orders", [order(2, 7, 1, 1)])
    again = store.remake(tmp_path / "train.parquet.manifest.json").to_arrow()
    assert again.equals(training.to_arrow())
    # Where the other side's file itself was changed, it is named.
    pq.write_table(table([price(1, 1, 99.0)]), folder / "data" / "prices.parquet")
    url = store.online.url  # type: ignore[attr-defined]
    with FeatureStore(folder, redis_url=url) as opened, pytest.raises(DataError, match="prices"):
        opened.remake(tmp_path / "train.parquet.manifest.json").to_arrow()


def test_a_rollback_answers_by_what_was_fed_meanwhile(
    store: FeatureStore, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = folder / "definitions.py"
    module.write_text(module.read_text().replace("n=99", "n=2"))
    with FeatureStore(folder, redis_url=store.online.url) as changed:  # type: ignore[attr-defined]
        changed.apply()
        changed.materialize()
        changed.push("prices", [price(2, 1, 5.0, 2)])
        changed.push("orders", [order(n, 7, 1, n) for n in (3, 4, 5)])
        assert same(changed)["prices"] == [5.0, 5.0]
        changed.rollback("service")
        found = changed.get_online_features("service", [{"person": 7}]).to_pylist()[0]
        assert found == {"person": 7, "prices": [2.0, 5.0, 5.0, 5.0], "rows": 4}
    assert main(["--repo", str(folder), "versions", "service", "--json"]) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize("entity", ["person", "item"])
def test_forgetting_an_entity_of_either_side_reaches_what_was_taken(
    store: FeatureStore, entity: str
) -> None:
    store.push("prices", [price(2, 2, 7.0, 0)])
    store.push("orders", [order(2, 7, 2), order(3, 8, 1)])
    assert same(store)["prices"] == [2.0, 7.0]
    key = {"person": 7} if entity == "person" else {"item": 2}
    store.forget(entity, key)
    if entity == "person":
        assert same(store)["rows"] == 0
        assert same(store, 8)["prices"] == [2.0]
    else:
        assert same(store) == {"person": 7, "prices": [2.0], "rows": 1}
    store.push("orders", [order(9, 8, 1, 3)])
    assert same(store, 8)["prices"] == [2.0, 2.0]
    assert store.check_parity("service", mode="sample", values=100).ok
