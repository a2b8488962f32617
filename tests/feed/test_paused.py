"""A process that is stopped in the middle of its work, and wakes up after another one has taken its
place, changes nothing any more; one that is killed holds nobody up for longer than its lease."""

from __future__ import annotations

import datetime as dt
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from slow import slow_unless

from featurekit import FeatureStore
from featurekit.online.store.redis import RedisStore
from featurekit.project import leases
from tests.forks import Forked

LEASE_S = 1.0
MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Sum

user = Entity("user", {"k": int})
clicks = EventSource("clicks", path="data/clicks.parquet", schema={"k": int, "n": int},
                     timestamp_field="at", created_timestamp_column="arrived")
orders = EventSource("orders", path="data/orders.parquet", schema={"k": int, "n": int},
                     timestamp_field="at", created_timestamp_column="arrived",
                     event_id="n", dedupe_within="30d")
clicked = FeatureView("clicked", entities=[user], source=clicks,
                      features={"clicks": Sum("n", window="9d")})
bought = FeatureView("bought", entities=[user], source=orders,
                     features={"orders": Sum("n", window="9d")})
service = FeatureService("service", features=[clicked, bought])
"""
# A process that stops itself at a call, and may die after it: it says where, and what became of it.
CHILD = f"""
import datetime as dt, os, signal, sys
from importlib import import_module
from featurekit import FeatureStore
from featurekit.project import leases

leases.LEASE_S, leases.RENEW_S = {LEASE_S}, {LEASE_S} / 5
place, how, folder, url, what, after = sys.argv[1:]
path, _, name = place.rpartition(".")
if path[path.rindex(".") + 1].isupper():  # a class
    module, _, cls = path.rpartition(".")
    owner = getattr(import_module(module), cls)
else:
    owner = import_module(path)
original, stopped = getattr(owner, name), []

def stopping(*given, **named):
    if not stopped:
        stopped.append(1)
        print("stopped", flush=True)
        os.kill(os.getpid(), signal.Signals[how])
    done = original(*given, **named)
    if after:
        os.kill(os.getpid(), signal.SIGKILL)
    return done

setattr(owner, name, stopping)
now = dt.datetime.now(dt.UTC)
with FeatureStore(folder, redis_url=url) as store:
    try:
        eval(what)
    except Exception as error:
        print(type(error).__name__, str(error).replace(chr(10), " "), flush=True)
    else:
        print("done", flush=True)
"""
NOW = dt.datetime.now(dt.UTC)
ROW = "{'k': 1, 'n': 70, 'at': now}"
OWN = "{'k': 1, 'n': 71, 'at': now, 'arrived': now - dt.timedelta(days=1)}"


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LEASE_S", LEASE_S)
    monkeypatch.setattr(leases, "RENEW_S", LEASE_S / 5)


@pytest.fixture
def store(
    make_repo: Callable[..., Path], redis_url: str, redis_store: RedisStore
) -> Iterator[FeatureStore]:
    stamp = pa.timestamp("us", tz="UTC")
    schema = pa.schema([("k", pa.int64()), ("n", pa.int64()), ("at", stamp), ("arrived", stamp)])
    at = NOW - dt.timedelta(days=2)
    rows = [{"k": n % 3, "n": n, "at": at, "arrived": at} for n in range(12)]
    files = {name: pa.Table.from_pylist(rows, schema=schema) for name in ("clicks", "orders")}
    with FeatureStore(make_repo(MODULE, files), redis_url=redis_url) as opened:
        opened.apply()
        opened.materialize()
        yield opened


class Child:
    """A process that works on the store, and stops or dies at a call. Where it `dies_after` the
    call, it does as soon as that has returned."""

    def __init__(
        self,
        store: FeatureStore,
        redis: RedisStore,
        place: str,
        how: str,
        what: str,
        *,
        dies_after: bool = False,
    ):
        last = "dies" if dies_after else ""
        self.process = Forked(
            [sys.executable, "-c", CHILD, place, how, str(store.path), redis.url, what, last],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert self.line() == "stopped"
        if how == "SIGSTOP":
            os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def wake(self) -> str:
        """What becomes of it; nothing, where it dies."""
        self.process.send_signal(signal.SIGCONT)
        found = self.line()
        self.process.communicate(timeout=60)
        return found


def kept(redis: RedisStore) -> dict[bytes, bytes | None]:
    """What lookups and pushes read, without what says who works now."""
    aside = (b"fk:tests:renewed:", b"fk:tests:pushes:", b"fk:tests:fence:")
    keys = [key for key in redis.keys(b"fk:tests:") if not key.startswith(aside)]
    return dict(zip(keys, redis.read(keys), strict=True))


def online(store: FeatureStore) -> dict[str, list[Any]]:
    return dict(store.get_online_features("service", [{"k": k} for k in range(3)]).columns)


# Each place is a call in the middle of the work: before what it computes is written, or in between.
ALONE = {
    "materialise: before a view": ("featurekit.feed.materialise.materialize_view", "materialize()"),
    "materialise: before its states": ("featurekit.feed.materialise._write", "materialize()"),
    "materialise: between states": ("featurekit.feed.materialise.update_states", "materialize()"),
    "materialise: before the ids": ("featurekit.feed.materialise.remember", "materialize()"),
    "materialise: before its mark": (
        "featurekit.feed.materialise.set_materialized",
        "materialize()",
    ),
    "forget: before the states": (
        "featurekit.feed.forget._remove_states",
        "forget('user', {'k': 2})",
    ),
    "forget: before a repair": ("featurekit.feed.forget._repair", "forget('user', {'k': 2})"),
    "push of arrivals: before the log": (
        "featurekit.feed.settle.open_write",
        f"push('clicks', {OWN})",
    ),
    "push of arrivals with ids": ("featurekit.feed.settle.check", f"push('orders', {OWN})"),
}


PROMPT = {
    "materialise: between states",
    "materialise: before its mark",
    "forget: before a repair",
    "push of arrivals with ids",
}


@pytest.mark.parametrize(
    ("place", "what"),
    [
        pytest.param(*how, marks=() if name in PROMPT else pytest.mark.slow, id=name)
        for name, how in ALONE.items()
    ],
)
def test_who_wakes_up_after_its_lease_changes_nothing(
    store: FeatureStore, redis_store: RedisStore, place: str, what: str
) -> None:
    child = Child(store, redis_store, place, "SIGSTOP", f"store.{what}")
    store.materialize()  # waits for the lease to end, and takes its place
    before, answers = kept(redis_store), online(store)
    assert child.wake().startswith("LeaseLost ")
    assert kept(redis_store) == before
    assert online(store) == answers
    assert leases.held_by(redis_store, "tests", "clicks") == []
    store.materialize()  # the next one is held up by nobody


@pytest.mark.parametrize("source", ["clicks", "orders"])
@pytest.mark.parametrize("incremental", [False, True])
def test_a_push_that_is_paused_before_its_log_takes_nothing(
    store: FeatureStore, redis_store: RedisStore, source: str, incremental: bool
) -> None:
    child = Child(
        store,
        redis_store,
        "featurekit.feed.events.prepare",
        "SIGSTOP",
        f"store.push('{source}', {ROW})",
    )
    end = time.monotonic() + 60
    while store.materialize_incremental() and redis_store.announced(
        f"fk:tests:pushes:{source}".encode()
    ):
        assert time.monotonic() < end
    before, answers = kept(redis_store), online(store)
    assert child.wake().startswith("LeaseLost ")
    assert kept(redis_store) == before
    (store.materialize_incremental if incremental else store.materialize)()
    assert online(store) == answers


@pytest.mark.parametrize("source", ["clicks", "orders"])
def test_a_push_that_is_paused_after_its_log_is_brought_online_by_the_next_run(
    store: FeatureStore, redis_store: RedisStore, source: str
) -> None:
    child = Child(
        store,
        redis_store,
        "featurekit.log.writer.PushLog.keep",
        "SIGSTOP",
        f"store.push('{source}', {ROW})",
    )
    end = time.monotonic() + 60
    while store.materialize_incremental() and redis_store.announced(
        f"fk:tests:pushes:{source}".encode()
    ):
        assert time.monotonic() < end
    before = online(store)
    told = child.wake()
    assert told.startswith("LeaseLost ")
    assert "The 1 rows are in the offline log" in told
    assert online(store) == before
    store.materialize_incremental()  # it starts anew: they arrived before the last one's end
    assert online(store)[source][1] == before[source][1] + 70


@pytest.mark.parametrize("where", ["materialise: before its mark", "forget: before the states"])
def test_who_is_killed_holds_nobody_up_for_longer_than_its_lease(
    store: FeatureStore, redis_store: RedisStore, where: str
) -> None:
    place, what = ALONE[where]
    child = Child(store, redis_store, place, "SIGKILL", f"store.{what}")
    child.process.communicate()
    store.materialize()
    assert redis_store.keys(b"fk:tests:lock:") == []


def test_a_killed_push_holds_up_no_new_version(
    store: FeatureStore, redis_store: RedisStore
) -> None:
    child = Child(
        store,
        redis_store,
        "featurekit.feed.events.prepare",
        "SIGKILL",
        f"store.push('clicks', {ROW})",
    )
    child.process.communicate()
    path = store.path / "definitions.py"
    path.write_text(path.read_text().replace('"9d"', '"8d"'))
    with FeatureStore(store.path, redis_url=redis_store.url) as changed:
        changed.apply()
        assert changed.materialize().live == ("service",)
    assert redis_store.announced(b"fk:tests:pushes:clicks") == []


# --- rows that the log holds and the states lack --------------------------------------------------


def run_until_let_go(store: FeatureStore, redis: RedisStore, source: str) -> None:
    """Materialise what arrived, until a run has gone past the push that is under way."""
    end = time.monotonic() + 60
    while store.materialize_incremental() and redis.announced(f"fk:tests:pushes:{source}".encode()):
        assert time.monotonic() < end


def states(redis: RedisStore) -> dict[bytes, bytes | None]:
    """The states, their blocks, and what is remembered of ids."""
    keys = [key for kind in (b"state", b"block", b"ids") for key in redis.keys(b"fk:tests:" + kind)]
    return dict(zip(keys, redis.read(keys), strict=True))


def check_that_an_increment_brings(store: FeatureStore, redis: RedisStore, source: str) -> None:
    """The next increment leaves what a whole run leaves, and a further one changes nothing."""
    before = online(store)
    store.materialize_incremental()
    assert online(store)[source][1] == before[source][1] + 70
    brought = states(redis)
    store.materialize_incremental()
    assert states(redis) == brought
    store.materialize()
    assert states(redis) == brought


KEEP = "featurekit.log.writer.PushLog.keep"


@pytest.mark.parametrize("source", ["clicks", "orders"])
def test_an_increment_brings_what_a_push_logged_after_a_run_had_passed_it(
    store: FeatureStore, redis_store: RedisStore, source: str
) -> None:
    push = f"store.push('{source}', {ROW})"
    child = Child(store, redis_store, KEEP, "SIGSTOP", push, dies_after=True)
    run_until_let_go(store, redis_store, source)
    assert child.wake() == ""  # it died with its rows in the log, and told nobody
    check_that_an_increment_brings(store, redis_store, source)


@pytest.mark.parametrize(
    ("source", "days"),
    slow_unless(
        lambda source, days: (source == "orders") == (days == 1),
        itertools.product(("clicks", "orders"), (0, 1, 20)),
    ),
)
def test_an_increment_brings_what_a_push_of_older_arrivals_logged_before_it_died(
    store: FeatureStore, redis_store: RedisStore, source: str, days: int
) -> None:
    store.materialize_incremental()
    old = f"now - dt.timedelta(days={days}, minutes=1)"
    push = f"store.push('{source}', {{'k': 1, 'n': 70, 'at': now, 'arrived': {old}}})"
    child = Child(store, redis_store, KEEP, "SIGCONT", push, dies_after=True)
    child.process.communicate()
    check_that_an_increment_brings(store, redis_store, source)


def test_an_increment_brings_to_a_new_version_what_was_logged_after_it_was_filled(
    store: FeatureStore, redis_store: RedisStore
) -> None:
    child = Child(store, redis_store, KEEP, "SIGSTOP", f"store.push('clicks', {ROW})")
    path = store.path / "definitions.py"
    path.write_text(path.read_text().replace('"9d"', '"8d"'))
    with FeatureStore(store.path, redis_url=redis_store.url) as changed:
        changed.apply()
        assert changed.materialize().live == ("service",)
        assert child.wake().startswith("LeaseLost ")
        check_that_an_increment_brings(changed, redis_store, "clicks")


def test_what_an_increment_brought_is_not_added_by_the_push_that_wakes_up(
    store: FeatureStore, redis_store: RedisStore
) -> None:
    place = "featurekit.online.state.update.opened_states"  # after the log, before the states
    child = Child(store, redis_store, place, "SIGSTOP", f"store.push('clicks', {ROW})")
    before = online(store)
    run_until_let_go(store, redis_store, "clicks")
    assert online(store)["clicks"][1] == before["clicks"][1] + 70
    brought = states(redis_store)
    assert child.wake().startswith("LeaseLost ")
    assert states(redis_store) == brought
    store.materialize()
    assert states(redis_store) == brought
