"""What only Redis knows of a push that ended between the memory of its ids and the log is taken
back by the next materialisation, the incremental one too (T7)."""

from __future__ import annotations

import datetime as dt
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from featurekit import FeatureStore
from featurekit.errors import WriteError
from featurekit.feed import materialise
from featurekit.log.writer import PushLog
from featurekit.online.store.redis import RedisStore
from featurekit.project import leases
from tests import forks

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count, Sum

user = Entity("user", {"key": int})

def source(name, **more):
    schema = {"key": int, "n": int, "id": int} | ({"op": str} if more else {})
    return EventSource(name, path=f"data/{name}.parquet", schema=schema, timestamp_field="at",
                       created_timestamp_column="arrived", event_id="id", dedupe_within="10d",
                       **more)

named, mended = source("named"), source("mended", op="op")
WEEK = {"n": Sum("n", window="7d"), "rows": Count(window="7d")}
services = [
    FeatureService(source.name, features=[
        FeatureView(source.name, entities=[user], source=source, features=WEEK),
        FeatureView(f"{source.name}_last", entities=[user], source=source, features={"last": "n"}),
    ])
    for source in (named, mended)
]
"""
NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
LEASE_S = 1.5
KEYS = [1, 2, 77, 78]
CHILD = f"""
import os, signal, sys
from featurekit import FeatureStore
from featurekit.log.writer import PushLog
from featurekit.project import leases

leases.LEASE_S, leases.RENEW_S = {LEASE_S}, {LEASE_S} / 5
folder, url, source = sys.argv[1:]
PushLog.keep = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_died
FeatureStore(folder, redis_url=url).push(source, test_died.rows(source))
"""


def rows(source: str, n: int = 777) -> list[dict[str, Any]]:
    """An id that is known, for another entity, and one that is new."""
    more = {"op": "upsert"} if source == "mended" else {}
    made = [{"key": 77, "n": n, "id": 1}, {"key": 78, "n": n, "id": 9000}]
    return [{**row, "at": NOW, **more} for row in made]


@pytest.fixture
def store(
    make_repo: Callable[..., Path], redis_store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FeatureStore]:
    monkeypatch.setattr(leases, "LEASE_S", LEASE_S)
    monkeypatch.setattr(leases, "RENEW_S", LEASE_S / 5)
    at = pa.array([NOW - dt.timedelta(hours=3)] * 3, pa.timestamp("us", "UTC"))
    table = pa.table({"key": [1, 1, 2], "n": [1, 2, 3], "id": [1, 2, 3], "at": at, "arrived": at})
    mended = table.append_column("op", pa.array(["upsert"] * 3))
    repo = make_repo(MODULE, {"named": table, "mended": mended})
    with FeatureStore(repo, redis_url=redis_store.url) as opened:
        opened.apply()
        opened.materialize()
        yield opened


def same(store: FeatureStore, source: str) -> list[tuple[Any, ...]]:
    """What both paths answer alike."""
    found = store.get_online_features(source, [{"key": key} for key in KEYS])
    frame = [{"key": key, "event_timestamp": found.as_of} for key in KEYS]
    offline = store.get_historical_features(frame, source, statuses=True).to_arrow().to_pylist()
    online = [tuple((found.columns[n][i], found.status[n][i]) for n in found.status)
              for i in range(len(KEYS))]  # fmt: skip
    assert online == [tuple((row[n], row[f"{n}__status"]) for n in found.status) for row in offline]
    return online


def is_dead(store: FeatureStore, source: str) -> None:
    """Materialise until the run has gone past the push that died."""
    pushes = f"fk:tests:pushes:{source}".encode()
    end = time.monotonic() + 60
    while store.materialize_incremental() and store.online.announced(pushes):
        assert time.monotonic() < end


@pytest.mark.parametrize("source", ["named", "mended"])
def test_a_killed_push_leaves_nothing_behind(
    store: FeatureStore, redis_store: RedisStore, source: str
) -> None:
    before = same(store, source)
    done = forks.run(
        [sys.executable, "-c", CHILD, str(store.path), redis_store.url, source],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    assert done.returncode == -signal.SIGKILL
    is_dead(store, source)
    assert same(store, source) == before


@pytest.mark.parametrize("source", ["named", "mended"])
def test_a_push_that_failed_leaves_nothing_behind(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    before = same(store, source)

    def full(*_: Any) -> None:
        raise WriteError("no room")

    with monkeypatch.context() as patched:
        patched.setattr(PushLog, "keep", full)
        with pytest.raises(WriteError):
            store.push(source, rows(source))
    store.materialize_incremental()
    assert same(store, source) == before


@pytest.mark.parametrize("source", ["named", "mended"])
def test_other_values_that_are_pushed_then_are_those_that_count(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    def full(*_: Any) -> None:
        raise WriteError("no room")

    with monkeypatch.context() as patched:
        patched.setattr(PushLog, "keep", full)
        with pytest.raises(WriteError):
            store.push(source, rows(source))
    store.materialize_incremental()
    store.push(source, rows(source, 888))
    assert same(store, source)[3][0] == (888, "PRESENT")


def test_everything_is_read_again_once_and_only_where_a_push_ended_half_way(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise WriteError("no room")

    with monkeypatch.context() as patched:
        patched.setattr(PushLog, "keep", full)
        with pytest.raises(WriteError):
            store.push("named", rows("named"))
    whole: list[str] = []
    fill = materialise.materialize_view

    def noting(con: Any, online: Any, project: str, view: Any, events: Any, **how: Any) -> Any:
        if how["after"] == materialise.NEVER:
            whole.append(view.name)
        return fill(con, online, project, view, events, **how)

    monkeypatch.setattr(materialise, "materialize_view", noting)
    store.materialize_incremental(NOW - dt.timedelta(hours=1))  # it had not arrived by then
    assert whole == []
    store.materialize_incremental()
    assert whole == ["named", "named_last"]
    store.push("named", rows("named"))
    store.materialize_incremental()
    assert whole == ["named", "named_last"]
