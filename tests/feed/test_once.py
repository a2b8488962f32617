"""A push with a key counts once, wherever the first one ended: at its claim, in the log, or in the
states."""

from __future__ import annotations

import datetime as dt
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from featurekit import FeatureStore
from featurekit.errors import DamagedNote, RequestRefused, StoreUnavailable, WriteError
from featurekit.feed import once as once_module
from featurekit.feed.once import Key, body_hash, claim_key
from featurekit.feed.push import Taken, take_once
from featurekit.log.compaction import compact
from featurekit.log.segments import claims_of, has_claim, segments
from featurekit.log.writer import PushLog
from featurekit.online.store.redis import RedisStore
from featurekit.project import leases
from tests.forks import Forked

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count, Sum

user = Entity("user", {"key": int})
pair = Entity("pair", {"key": int, "n": int})
KNOWN = dict(schema={"key": int, "n": int | None}, timestamp_field="at")
plain = EventSource("plain", path="data/plain.parquet", **KNOWN)
dated = EventSource("dated", path="data/dated.parquet", created_timestamp_column="known", **KNOWN)
set_aside = EventSource("set_aside", path="data/set_aside.parquet", on_bad_row="quarantine",
                        **KNOWN)
named = EventSource("named", path="data/named.parquet", event_id="n", dedupe_within="10d",
                    schema={"key": int, "n": int}, timestamp_field="at")
brief = EventSource("brief", path="data/brief.parquet", dedupe_within="90s", **KNOWN)
long = EventSource("long", path="data/long.parquet", dedupe_within="30d", **KNOWN)
WEEK = {"sum": Sum("n", window="7d"), "rows": Count(window="7d")}
services = [
    FeatureService(source.name, features=[
        FeatureView(source.name, entities=[user], source=source, features=WEEK)])
    for source in (plain, dated, set_aside, named, brief, long)
]
paired = FeatureView("paired", entities=[pair], source=plain, features={"both": Count(window="7d")})
pairs = FeatureService("pairs", features=[paired])
"""
NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
AT = NOW - dt.timedelta(hours=1)
KEYS = [1, 2, 77, 78]
LEASE_S = 1.0
# A process that dies before or after a call, in a push with a key.
CHILD = f"""
import os, signal, sys
from importlib import import_module
from featurekit import FeatureStore
from featurekit.feed.once import Key, body_hash
from featurekit.feed.push import take_once
from featurekit.project import leases
leases.LEASE_S, leases.RENEW_S = {LEASE_S}, {LEASE_S} / 5
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_once

place, when, number, folder, url, source, many = sys.argv[1:]
left = [int(number)]
module, cls, name = place.split(":")
owner = getattr(import_module(module), cls) if cls else import_module(module)
original = getattr(owner, name)

def dying(*given, **named):
    left[0] -= 1
    if left[0]:
        return original(*given, **named)
    if when == "after":
        original(*given, **named)
    os.kill(os.getpid(), signal.SIGSTOP if when == "paused" else signal.SIGKILL)
    return original(*given, **named)

setattr(owner, name, dying)
with FeatureStore(folder, redis_url=url) as store:
    print(take_once(store.parts, source, test_once.rows(source, int(many)), test_once.key()))
"""
POINTS = [
    ("featurekit.feed.once:Once:note", "after", 1),
    ("featurekit.log.writer:PushLog:keep", "after", 1),
    ("featurekit.online.store.redis::_commit", "after", 1),
    ("featurekit.feed.once:Once:note", "before", 1),
    ("featurekit.online.store.redis::_commit", "before", 1),
    ("featurekit.feed.push::Taken", "before", 1),
]
"""Between the claim and the log; between the log and the states; after the first transaction, which
for rows without arrivals is that of the states; then before the claim, before that transaction, and
before the answer."""
Point = tuple[str, str, int]


def rows(source: str = "plain", many: int = 1) -> list[dict[str, Any]]:
    """Rows of two entities, of which one is known, and of `many` more."""
    made: list[dict[str, Any]] = [{"key": 1, "n": 700, "at": AT}, {"key": 78, "n": 9, "at": AT}]
    made += [{"key": 1000 + i, "n": i, "at": AT} for i in range(many - 1)]
    return [{**row, "known": AT} for row in made] if source == "dated" else made


def key(text: str = "a", body: bytes = b"1") -> Key:
    return Key(text, body_hash(body))


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LEASE_S", LEASE_S)
    monkeypatch.setattr(leases, "RENEW_S", LEASE_S / 5)


@pytest.fixture
def store(make_repo: Callable[..., Path], redis_store: RedisStore) -> Iterator[FeatureStore]:
    at = pa.array([NOW - dt.timedelta(hours=3)] * 3, pa.timestamp("us", "UTC"))
    table = pa.table({"key": [1, 1, 2], "n": [1, 2, 3], "at": at})
    files = dict.fromkeys(("plain", "set_aside", "named", "brief", "long"), table)
    repo = make_repo(MODULE, {**files, "dated": table.append_column("known", at)})
    with FeatureStore(repo, redis_url=redis_store.url) as opened:
        opened.apply()
        opened.materialize()
        yield opened


def counted(store: FeatureStore, source: str) -> list[int]:
    """The rows of each key, as both paths count them alike."""
    asked = [{"key": k} for k in KEYS]
    found = store.get_online_features(source, asked)
    frame = [{**row, "event_timestamp": found.as_of} for row in asked]
    offline = store.get_historical_features(frame, source, statuses=True).to_arrow().to_pylist()
    online = [tuple((found.columns[n][i], found.status[n][i]) for n in found.status)
              for i in range(len(KEYS))]  # fmt: skip
    assert online == [tuple((row[n], row[f"{n}__status"]) for n in found.status) for row in offline]
    return [row or 0 for row in found.columns["rows"]]


def push(store: FeatureStore, source: str = "plain", many: int = 1, **named: Any) -> Taken:
    return take_once(store.parts, source, rows(source, many), key(**named))


def child(store: FeatureStore, point: Point, source: str, many: int = 1) -> Any:
    words = [*map(str, point), str(store.path), store.parts.online.url, source, str(many)]  # type: ignore[attr-defined]
    return Forked(
        [sys.executable, "-c", CHILD, *words],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )


@pytest.mark.parametrize("source", ["plain", "dated", "set_aside"])
def test_a_key_counts_once_and_gives_the_first_answer_again(store: FeatureStore, source: str):
    first, second = push(store, source), push(store, source)
    assert (first.again, second.again) == (False, True)
    assert (first.pushed, first.pushed.arrived) == (second.pushed, second.pushed.arrived)
    assert counted(store, source) == [3, 1, 0, 1]
    push(store, source, text="b")
    assert counted(store, source) == [4, 1, 0, 2]


def test_a_key_of_another_push_is_refused(store: FeatureStore):
    push(store)
    with pytest.raises(RequestRefused, match="'a' was used for another push") as refused:
        push(store, body=b"2")
    assert refused.value.status == 409
    assert counted(store, "plain") == [3, 1, 0, 1]
    assert push(store, "set_aside", body=b"2").again is False  # keys are of a source


def test_rows_that_are_refused_claim_nothing(store: FeatureStore, redis_store: RedisStore):
    bad = [{"key": "one", "n": 1, "at": AT}]
    with pytest.raises(Exception, match="row 0"):
        take_once(store.parts, "plain", bad, key())
    assert list(redis_store.keys(b"fk:tests:once")) == []
    assert push(store, body=b"other").again is False


def test_rows_that_are_set_aside_are_so_once(store: FeatureStore):
    mixed = [*rows(), {"key": "one", "n": 1, "at": AT}]
    first = take_once(store.parts, "set_aside", mixed, key())
    second = take_once(store.parts, "set_aside", mixed, key())
    assert first.pushed == second.pushed
    assert (second.pushed.quarantined, second.again) == (1, True)
    folder = store.parts.state_dir / "quarantine"
    assert len(list(folder.iterdir())) == 1


def test_a_source_with_ids_needs_no_key(store: FeatureStore, redis_store: RedisStore):
    assert push(store, "named").pushed.repeated == 0
    again = push(store, "named", body=b"2")
    assert (again.again, again.pushed.repeated) == (False, 2)
    assert list(redis_store.keys(b"fk:tests:once")) == []
    assert counted(store, "named") == [3, 1, 0, 1]


def test_a_claim_is_over_with_its_push_and_gone_after_a_day(
    store: FeatureStore, redis_store: RedisStore
):
    push(store)
    name = claim_key("tests", "plain", key().id)
    assert b'"over": true' in (redis_store.read([name])[0] or b"")
    assert once_module.KEPT_S - 60 < redis_store.client.ttl(name) <= once_module.KEPT_S


@pytest.mark.parametrize(("source", "kept_s"), [("brief", 90), ("long", 30 * 86_400)])
def test_a_source_says_how_long_its_keys_are_known(
    store: FeatureStore, redis_store: RedisStore, source: str, kept_s: int
):
    first = push(store, source)
    name = claim_key("tests", source, key().id)
    assert kept_s - 60 < redis_store.client.ttl(name) <= kept_s
    assert push(store, source) == Taken(first.pushed, again=True)
    assert counted(store, source) == [3, 1, 0, 1]
    redis_store.client.expire(name, 0)  # its time is over
    assert not push(store, source).again
    assert counted(store, source) == [4, 1, 0, 2]


def test_many_at_once_with_one_key_are_one(store: FeatureStore):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: push(store), range(24)))
    assert sorted(one.again for one in found) == [False] + [True] * 23
    assert counted(store, "plain") == [3, 1, 0, 1]


def test_a_note_that_is_damaged_is_told(store: FeatureStore, redis_store: RedisStore):
    for value in (b"{", b"[]", b'{"body": 1}', b"\xff"):
        redis_store.write({claim_key("tests", "plain", key().id): value})
        with pytest.raises(DamagedNote, match="once"):
            push(store)
    assert counted(store, "plain") == [2, 1, 0, 0]


# --- it dies --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "point"),
    [
        pytest.param(source, point, marks=[pytest.mark.slow] * (source == "dated" or i > 2))
        for source in ("plain", "dated")
        for i, point in enumerate(POINTS)
    ],
    ids=lambda part: part if isinstance(part, str) else f"{part[1]} {part[0].rpartition(':')[2]}",
)
def test_a_push_that_is_killed_counts_once_after_it_comes_again(
    store: FeatureStore, source: str, point: Point
):
    with child(store, point, source) as process:
        assert process.wait(60) == -signal.SIGKILL
    found = push(store, source)
    assert counted(store, source) == [3, 1, 0, 1]
    assert (found.pushed.rows, found.pushed.entities) == (2, 2 + 2 * (source == "plain"))
    assert push(store, source) == Taken(found.pushed, again=True)
    assert push(store, source).pushed.arrived == found.pushed.arrived
    store.materialize()
    assert counted(store, source) == [3, 1, 0, 1]


def test_a_large_push_that_is_killed_between_its_chunks_counts_once(store: FeatureStore):
    stop = ("featurekit.online.store.redis::_commit", "before", 3)
    with child(store, stop, "plain", many=700) as process:
        assert process.wait(60) == -signal.SIGKILL
    assert push(store, many=700).again is True
    assert counted(store, "plain") == [3, 1, 0, 1]
    many = store.get_online_features("plain", [{"key": 1000 + i} for i in range(699)])
    assert set(many.columns["rows"]) == {1}


def test_what_was_joined_since_is_found(store: FeatureStore):
    with child(store, ("featurekit.log.writer:PushLog:keep", "after", 1), "plain") as process:
        assert process.wait(60) == -signal.SIGKILL
    state = store.parts.state_dir
    for n in range(5):
        push(store, text=str(n))
        store.parts.log.close()
    (claim,) = [c for path in segments(state, "plain") for c in claims_of(path)
                if c.startswith(key().id)]  # fmt: skip
    claims = once_module.open_claims
    joined = compact(state, "plain", fan=3, open_claims=lambda c: claims(store.parts, "plain", c))
    assert joined > 2
    assert has_claim(state, "plain", claim)
    assert [c for path in segments(state, "plain") for c in claims_of(path)] == [claim]
    assert push(store).again is True
    assert counted(store, "plain") == [8, 1, 0, 6]


def test_who_comes_again_waits_for_one_that_is_paused(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
):
    with child(store, ("featurekit.log.writer:PushLog:keep", "paused", 1), "plain") as process:
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        try:
            monkeypatch.setattr(once_module, "_PATIENCE_S", 0.2)
            with pytest.raises(StoreUnavailable, match="under way"):
                push(store)
            monkeypatch.setattr(once_module, "_PATIENCE_S", 30.0)
            waking = threading.Timer(0.3, os.kill, (process.pid, signal.SIGCONT))
            waking.start()
            found = push(store)
            waking.join()
        finally:
            os.kill(process.pid, signal.SIGCONT)
        assert process.stdout is not None
        assert "again=False" in process.stdout.read()
    assert found.again is True
    assert counted(store, "plain") == [3, 1, 0, 1]


def test_who_comes_again_waits_for_pushes_before_its_own(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
):
    """Else its states would be made of what had arrived before these, and lack its rows."""
    here, free, keep = threading.Event(), threading.Event(), PushLog.keep

    def kept(log: PushLog, *given: Any) -> bool:
        here.set()
        assert free.wait(60)
        return keep(log, *given)

    with ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr(PushLog, "keep", kept)
        before = pool.submit(store.push, "plain", {"key": 2, "n": 5, "at": AT})
        try:
            assert here.wait(60)
            with child(store, ("featurekit.log.writer:PushLog:keep", "after", 1), "plain") as died:
                assert died.wait(60) == -signal.SIGKILL
            monkeypatch.setattr(once_module, "_PATIENCE_S", 0.2)
            with pytest.raises(StoreUnavailable, match=r"before it does not end.*same key"):
                push(store)
            monkeypatch.setattr(once_module, "_PATIENCE_S", 30.0)
            releasing = threading.Timer(0.3, free.set)
            releasing.start()
            assert push(store).again is True
            releasing.join()
        finally:
            free.set()
        assert before.result().rows == 1
    assert counted(store, "plain") == [3, 2, 0, 1]


# --- it fails -------------------------------------------------------------------------------------


def test_a_log_that_is_full_takes_the_push_when_it_has_room(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: Any) -> None:
        raise WriteError("no room")

    with monkeypatch.context() as patched:
        patched.setattr(PushLog, "keep", full)
        with pytest.raises(WriteError):
            push(store)
    assert push(store).again is False
    assert counted(store, "plain") == [3, 1, 0, 1]


def test_a_redis_that_is_lost_after_the_log_leaves_one_push(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
):
    keep = PushLog.keep

    def losing(*given: Any) -> bool:
        done = keep(*given)
        monkeypatch.setattr("featurekit.online.store.redis._commit", _gone)
        return done

    monkeypatch.setattr(PushLog, "keep", losing)
    with pytest.raises(StoreUnavailable, match="in the offline log"):
        push(store)
    monkeypatch.undo()
    assert push(store).again is True
    assert counted(store, "plain") == [3, 1, 0, 1]


def _gone(*_: Any) -> bool:
    raise StoreUnavailable("gone")


def test_the_time_of_a_push_does_not_come_back_to_life(store: FeatureStore):
    begun = time.time()
    found = push(store).pushed
    assert found.arrived is not None
    assert abs(found.arrived.timestamp() - begun) < 60
