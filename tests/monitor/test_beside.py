"""Consumers and materialize under `featurekit watch`: who waits for whom, and what dies and comes
back."""

from __future__ import annotations

import datetime as dt
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from watching import Watching, wait_for, watching, write_repo

from featurekit import FeatureStore
from featurekit.monitor.beside import Turns, turns
from featurekit.online.store.redis import RedisStore

LAG = st.floats(0, 1e6)


@given(
    LAG, st.none() | LAG, st.none() | LAG, st.none() | LAG, st.booleans(), st.booleans(),
    st.booleans(),
)  # fmt: skip
def test_one_side_at_least_may_always_go_on(
    lag: float,
    limit: float | None,
    behind: float | None,
    most: float | None,
    due: bool,
    running: bool,
    held: bool,
) -> None:
    limits = {} if limit is None else {"orders": limit}
    turn = turns(
        {"orders": lag}, limits, behind, most, due=due and not running, running=running, held=held
    )
    assert turn.consume or (turn.materialize and (due or running))
    assert turn.consume or not held, "consumers do not wait twice in a row"


def turn(lag: float, behind: float | None, *, due: bool = True, running: bool = False) -> Turns:
    return turns({"orders": lag}, {"orders": 60.0}, behind, 3600.0, due=due, running=running)


def test_materialize_waits_for_a_stream_that_is_behind_and_consumers_for_an_overdue_run() -> None:
    assert turn(0, 100) == Turns(consume=True, materialize=True)
    assert turn(61, 100) == Turns(consume=True, materialize=False)
    assert turn(61, 3601) == Turns(consume=False, materialize=True)
    assert turn(0, 3601, due=False, running=True) == Turns(consume=False, materialize=True)
    assert turn(61, 3601, due=False) == Turns(consume=True, materialize=False), "it rests"
    assert turn(61, None) == Turns(consume=True, materialize=False), "nothing was ever filled"


def orders(store: RedisStore, first: int, last: int) -> None:
    at = dt.datetime.now(dt.UTC)
    for n in range(first, last):
        store.client.xadd(
            "orders",
            {"order": f"o{n}", "customer": str(n % 3), "amount": "0.5", "at": at.isoformat()},
        )


def waiting(watch: Watching) -> float:
    return watch.metrics().get('featurekit_consume_waiting_entries{source="orders"}', -1.0)


def running(watch: Watching, task: str) -> bool:
    return watch.metrics().get(f'featurekit_watch_task_running{{task="{task}"}}') == 1


def filled(watch: Watching) -> float:
    return watch.metrics().get('featurekit_view_materialized_timestamp_seconds{view="view"}', 0.0)


@pytest.fixture
def repo(tmp_path: Path, redis_store: RedisStore) -> Path:
    return tmp_path / "repo"


def begin(repo: Path, redis_store: RedisStore, **watch: Any) -> Path:
    """A repo that is live and empty."""
    write_repo(repo, redis_store.url, watch=watch)
    with FeatureStore(repo) as store:
        store.apply()
        store.materialize()
    return repo


def counted(repo: Path) -> list[int]:
    """The orders of each customer, online."""
    with FeatureStore(repo) as store:
        found = store.get_online_features("service", [{"customer": n} for n in range(3)])
        return [row["orders"] for row in found.to_pylist()]


def children(watch: Watching) -> list[int]:
    """The consumers of its repo that run, by what the system says: tests beside have others."""
    found, repo = [], str(watch.folder).encode()
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                words = (path / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if {b"featurekit.cli", b"consume", repo} <= {*words} and b"-I" not in words:
                found.append(int(path.name))
    return found


def test_a_stream_is_taken_and_views_are_filled_by_one_process(
    repo: Path, redis_store: RedisStore
) -> None:
    begin(repo, redis_store, consume={"orders": {}}, materialize={"every": "2s"})
    orders(redis_store, 0, 30)
    with watching(repo) as watch:
        wait_for(lambda: waiting(watch) == 0, within_s=60)
        first = filled(watch)
        assert first > 0
        wait_for(lambda: filled(watch) > first, within_s=60)
        runs = 'featurekit_watch_task_runs_total{outcome="done",task="materialize"}'
        wait_for(lambda: watch.metrics().get(runs, 0) >= 2, within_s=60)
        assert running(watch, "consume orders")
        assert watch.end(signal.SIGTERM)[0] == 143
    assert counted(repo) == [10, 10, 10]
    assert children(watch) == []


def test_a_consumer_that_is_killed_comes_back_and_each_entry_counts_once(
    repo: Path, redis_store: RedisStore
) -> None:
    begin(repo, redis_store, consume={"orders": {"batch": 3}})
    with watching(repo) as watch:
        for n in range(3):
            orders(redis_store, n * 30, n * 30 + 30)
            wait_for(lambda: children(watch), within_s=60)
            for pid in children(watch):
                os.kill(pid, signal.SIGKILL)
            wait_for(lambda: not running(watch, "consume orders"))
        wait_for(lambda: waiting(watch) == 0, within_s=60)
        failed = 'featurekit_watch_task_runs_total{outcome="failed",task="consume orders"}'
        assert watch.metrics()[failed] == 3
    assert counted(repo) == [30, 30, 30]


def test_consumers_end_with_a_process_that_is_killed_and_the_next_one_has_its_own(
    repo: Path, redis_store: RedisStore
) -> None:
    begin(repo, redis_store, consume={"orders": {}})
    with watching(repo) as one, watching(repo) as two:
        wait_for(lambda: len(children(one)) == 1, within_s=60)
        (pid,) = children(one)
        first, second = (one, two) if one.leads else (two, one)
        first.end(signal.SIGKILL)
        wait_for(lambda: not Path(f"/proc/{pid}").exists())
        wait_for(lambda: len(children(second)) == 1, within_s=60)
        orders(redis_store, 0, 3)
        wait_for(lambda: waiting(second) == 0, within_s=60)
        wait_for(lambda: counted(repo) == [1, 1, 1])


def test_materialize_waits_while_a_stream_is_behind(repo: Path, redis_store: RedisStore) -> None:
    """The consumer is stopped, so that the stream's lag grows over its bound."""
    begin(repo, redis_store, consume={"orders": {"lag": "1s"}}, materialize={"every": "1s"})
    waits = 'featurekit_watch_task_waits{task="materialize"}'
    runs = 'featurekit_watch_task_runs_total{outcome="done",task="materialize"}'
    with watching(repo) as watch:
        wait_for(lambda: watch.metrics().get(runs, 0) >= 1, within_s=60)
        wait_for(lambda: children(watch))
        (pid,) = children(watch)
        os.kill(pid, signal.SIGSTOP)
        orders(redis_store, 0, 3)
        wait_for(lambda: watch.metrics()[waits] == 1, within_s=60)
        before = watch.metrics()[runs]
        time.sleep(3.0)
        assert watch.metrics()[runs] <= before + 1, "one run may have been under way"
        assert not running(watch, "materialize")
        os.kill(pid, signal.SIGCONT)
        wait_for(lambda: watch.metrics()[runs] > before + 1, within_s=60)
        assert watch.metrics()['featurekit_consume_lag_seconds{source="orders"}'] < 60


def test_consumers_wait_for_an_overdue_run(repo: Path, redis_store: RedisStore) -> None:
    begin(repo, redis_store, consume={"orders": {}}, materialize={"every": "3s", "lag": "1s"})
    waits = 'featurekit_watch_task_waits{task="consume orders"}'
    seen = set()
    with watching(repo) as watch:
        orders(redis_store, 0, 30)
        end = time.monotonic() + 60
        while time.monotonic() < end and (waiting(watch) != 0 or 1.0 not in seen):
            seen.add(watch.metrics().get(waits))
            time.sleep(0.05)
        assert 1.0 in seen
        wait_for(lambda: waiting(watch) == 0, within_s=60)
    assert counted(repo) == [10, 10, 10]


def test_a_task_that_fails_is_begun_again_less_and_less_often(
    repo: Path, redis_store: RedisStore
) -> None:
    begin(repo, redis_store, materialize={"every": "1s"})
    with watching(repo) as watch:
        runs = 'featurekit_watch_task_runs_total{outcome="%s",task="materialize"}'
        wait_for(lambda: watch.metrics().get(runs % "done", 0) >= 1, within_s=60)
        path = repo / "definitions.py"
        kept = path.read_text()
        path.write_text("raise RuntimeError('no')\n")
        wait_for(lambda: watch.metrics().get(runs % "failed", 0) >= 2, within_s=60)
        path.write_text(kept)
        done = watch.metrics()[runs % "done"]
        wait_for(lambda: watch.metrics()[runs % "done"] > done, within_s=60)
        _, errors = watch.end(signal.SIGTERM)
    assert "materialize ended with 2; it is started again in 1 s" in errors
    assert "materialize ended with 2; it is started again in 2 s" in errors
