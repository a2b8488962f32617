"""Entries of a Redis stream become events once, whatever dies or is delivered again."""

from __future__ import annotations

import datetime as dt
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from featurekit import FeatureStore
from featurekit.define.definitions import EventSource
from featurekit.errors import (
    BadRowError,
    ContractBroken,
    DefinitionError,
    SourceError,
    StoreUnavailable,
)
from featurekit.feed.consume import Consumer
from featurekit.feed.streams.fields import row_of_fields
from featurekit.feed.streams.redis import RedisStream
from featurekit.parity.compare import bits

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count, LastN, Sum
user = Entity("user", join_keys={"user_id": int})
clicks = EventSource(
    "clicks", path="data/clicks.parquet",
    schema={"user_id": int, "click_id": str, "value": float, "note": str | None},
    timestamp_field="at", created_timestamp_column="arrived", event_id="click_id",
    dedupe_within="2d", on_bad_row="error",
)
view = FeatureView(
    "view", entities=[user], source=clicks,
    features={"n": Count(window="30d"), "total": Sum("value", window="30d"),
              "last": LastN("click_id", n=5, window="30d"), "notes": Count("note", window="30d")},
)
service = FeatureService("service", features=[view])
"""
EMPTY = {"user_id": pa.int64(), "click_id": pa.string(), "value": pa.float64(), "note": pa.string()}
EMPTY |= dict.fromkeys(("at", "arrived"), pa.timestamp("us", tz="UTC"))
Make = Callable[..., Path]


@pytest.fixture
def folder(make_repo: Make, redis_url: str) -> Path:
    table = pa.table({name: pa.array([], type_) for name, type_ in EMPTY.items()})
    made = make_repo(MODULE, {"clicks": table})
    with FeatureStore(made, redis_url=redis_url) as store:
        store.online.client.flushall()  # type: ignore[attr-defined]
        store.apply()
        store.materialize()
    return made


@pytest.fixture
def store(folder: Path, redis_url: str) -> Iterator[FeatureStore]:
    with FeatureStore(folder, redis_url=redis_url) as made:
        yield made


def click(number: int) -> dict[str, Any]:
    rng = random.Random(number)
    at = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=rng.randint(0, 900))
    return {
        "user_id": rng.randint(1, 4), "click_id": f"c{number}", "value": rng.uniform(-1e6, 1e6),
        "note": rng.choice((None, "", "ß")), "at": at.isoformat(),
    }  # fmt: skip


def add(store: FeatureStore, clicks: list[dict[str, Any]], *, as_json: bool = False) -> None:
    client = store.online.client  # type: ignore[attr-defined]
    for one in clicks:
        fields = {k: v if isinstance(v, str) else repr(v) for k, v in one.items() if v is not None}
        client.xadd("clicks", {"json": json.dumps(one)} if as_json else fields)


def check(store: FeatureStore, wanted: list[dict[str, Any]]) -> None:
    """Both paths hold each of the clicks once, in equal bits."""
    users = [{"user_id": u} for u in (1, 2, 3, 4, 5)]
    online = store.get_online_features("service", users)
    frame = [{**user, "event_timestamp": online.as_of} for user in users]
    offline = store.get_historical_features(frame, "service").to_arrow()
    for name, served in online.columns.items():
        assert list(map(bits, served)) == list(map(bits, offline[name].to_pylist())), name
    counts = [sum(c["user_id"] == u["user_id"] for c in wanted) for u in users]
    assert online.columns["n"] == counts
    noted = [
        sum(c["user_id"] == u["user_id"] and c["note"] is not None for c in wanted) for u in users
    ]
    assert online.columns["notes"] == noted


@pytest.mark.parametrize("as_json", [False, True])
def test_entries_become_events(store: FeatureStore, as_json: bool) -> None:
    clicks = [click(n) for n in range(30)]
    add(store, clicks, as_json=as_json)
    done = store.consume("clicks", until_empty=True, batch=7)
    assert (done.entries, done.set_aside, done.trimmed) == (30, 0, 0)
    check(store, clicks)
    assert store.consume("clicks", until_empty=True).entries == 0


def test_an_entry_that_comes_twice_counts_once(store: FeatureStore) -> None:
    clicks = [click(n) for n in range(20)]
    add(store, clicks + clicks[5:12])
    assert store.consume("clicks", until_empty=True, batch=6).entries == 27
    add(store, clicks[:3])
    assert store.consume("clicks", until_empty=True).entries == 3
    check(store, clicks)


def test_another_s_entries_are_taken_over_when_it_is_quiet(store: FeatureStore) -> None:
    clicks = [click(n) for n in range(10)]
    add(store, clicks)
    lost = Consumer(store.parts, "clicks", name="lost", batch=6)
    lost.stream.join()
    assert len(lost.stream.read(wait=False).messages) == 6  # and then it dies
    assert store.consume("clicks", until_empty=True, name="other").entries == 4
    time.sleep(0.02)
    done = store.consume("clicks", until_empty=True, name="other", idle_s=0.01)
    assert (done.entries, done.taken_over) == (6, 6)
    check(store, clicks)


def test_entries_that_were_trimmed_away_are_acknowledged(store: FeatureStore) -> None:
    client = store.online.client  # type: ignore[attr-defined]
    add(store, [click(n) for n in range(5)])
    client.xgroup_create("clicks", "featurekit", id="0")
    client.xreadgroup("featurekit", "me", {"clicks": ">"}, count=3)  # and then it died
    client.xtrim("clicks", maxlen=3, approximate=False)
    done = store.consume("clicks", name="me", until_empty=True)
    assert (done.trimmed, done.entries) == (2, 3)
    assert client.xpending("clicks", "featurekit")["pending"] == 0


def test_a_push_that_is_not_acknowledged_is_done_again(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    clicks = [click(n) for n in range(12)]
    add(store, clicks)
    with monkeypatch.context() as patched:
        ask = RedisStream._ask

        def dies(self: RedisStream, command: str, *args: Any, **kwargs: Any) -> Any:
            if command == "xack":
                raise StoreUnavailable("gone")
            return ask(self, command, *args, **kwargs)

        patched.setattr(RedisStream, "_ask", dies)
        with pytest.raises(StoreUnavailable):
            store.consume("clicks", until_empty=True)
    before = raw_states(store)
    assert store.consume("clicks", until_empty=True).entries == 12
    assert raw_states(store) == before
    check(store, clicks)


def raw_states(store: FeatureStore) -> dict[bytes, bytes]:
    client = store.online.client  # type: ignore[attr-defined]
    keys = sorted(k for k in client.scan_iter(count=1000) if b":view:" in k)
    return dict(zip(keys, client.mget(keys), strict=True)) if keys else {}


def test_a_bad_entry_stops_the_consumer_and_is_named(store: FeatureStore) -> None:
    good = [click(n) for n in range(4)]
    add(store, good[:2])
    store.online.client.xadd("clicks", {"user_id": "x", "click_id": "a"})  # type: ignore[attr-defined]
    add(store, good[2:])
    for _ in range(2):
        with pytest.raises((SourceError, BadRowError), match=r"stream 'clicks', entry \d+-\d+: "):
            store.consume("clicks", until_empty=True)
        check(store, good[:2])
    pending = store.online.client.xpending("clicks", "featurekit")  # type: ignore[attr-defined]
    assert pending["pending"] == 3


def test_bad_entries_are_set_aside_where_the_source_says_so(
    make_repo: Make, folder: Path, redis_url: str
) -> None:
    text = MODULE.replace('on_bad_row="error"', 'on_bad_row="quarantine"')
    (folder / "definitions.py").write_text(text)
    with FeatureStore(folder, redis_url=redis_url) as store:
        good = [click(n) for n in range(6)]
        client = store.online.client  # type: ignore[attr-defined]
        add(store, good[:3])
        client.xadd("clicks", {"user_id": "1", "click_id": "only these"})
        client.xadd("clicks", {"json": "[1]"})
        client.xadd("clicks", {"json": "{"})
        client.xadd("clicks", {**{k: str(v) for k, v in click(9).items()}, "value": "much"})
        client.xadd("clicks", {"note": b"\xff"})
        add(store, good[3:])
        done = store.consume("clicks", until_empty=True)
        assert (done.entries, done.set_aside) == (11, 5)
        check(store, good)
        kept = "".join(
            p.read_text() for p in (store.state_dir / "quarantine").rglob("*") if p.is_file()
        )
        for part in ("only these", "no object", "not JSON", "much", "not UTF-8"):
            assert part in kept


def test_an_entry_that_breaks_a_rule_that_fails_stops_the_consumer(
    folder: Path, redis_url: str
) -> None:
    """Whatever on_bad_row says: the ones before it are taken, and it stays with the member (S5)."""
    text = MODULE.replace('on_bad_row="error"', 'on_bad_row="quarantine", expect=[RULES]')
    rules = (
        'Between("value", high=2e6), Between("value", high=1e6, severity="quarantine", name="b")'
    )
    text = "from featurekit import Between\n" + text.replace("RULES", rules)
    (folder / "definitions.py").write_text(text)
    with FeatureStore(folder, redis_url=redis_url) as store:
        store.apply()
        store.materialize()
        good = [click(n) for n in range(4)]
        add(
            store,
            [*good[:2], {**click(7), "value": 1.5e6}, {**click(8), "value": 2.5e6}, *good[2:]],
        )
        with pytest.raises(ContractBroken, match=r"stream 'clicks', entry .* breaks rule value_"):
            store.consume("clicks", until_empty=True)
        check(store, good[:2])
        pending = store.online.client.xpending("clicks", "featurekit")  # type: ignore[attr-defined]
        assert pending["pending"] == 3
        assert len(list((store.state_dir / "quarantine").glob("clicks.pushed-*"))) == 1


def test_a_source_without_ids_is_refused(make_repo: Make, redis_url: str) -> None:
    text = MODULE.replace(' event_id="click_id",\n    dedupe_within="2d",', "")
    with (
        FeatureStore(make_repo(text, {}), redis_url=redis_url) as store,
        pytest.raises(DefinitionError, match=r"has no event_id.*count twice"),
    ):
        store.consume("clicks")


def test_a_row_of_text_has_the_declared_types() -> None:
    source = EventSource(
        "s", path="s.parquet", timestamp_field="at",
        schema={"i": int, "b": bool, "raw": bytes, "when": dt.datetime | None, "li": list[int]},
    )  # fmt: skip
    fields = {b"i": b"7", b"b": b"true", b"raw": b"\xff", b"li": b"[1, 2]", b"at": b"2024-01-01"}
    row = row_of_fields(source, fields)
    assert row == {
        "i": 7, "b": True, "raw": b"\xff", "when": None, "li": [1, 2],
        "at": dt.datetime(2024, 1, 1),
    }  # fmt: skip


def test_it_waits_for_entries_until_it_is_told_to_stop(folder: Path, redis_url: str) -> None:
    stop = threading.Event()
    clicks = [click(n) for n in range(9)]
    with FeatureStore(folder, redis_url=redis_url) as other:

        def work() -> None:
            with FeatureStore(folder, redis_url=redis_url) as store:
                store.consume("clicks", stop=stop)

        thread = threading.Thread(target=work)
        thread.start()
        for one in clicks:
            add(other, [one])
        client = other.online.client  # type: ignore[attr-defined]
        for _ in range(600):
            groups = client.xinfo_groups("clicks") if client.exists("clicks") else []
            if (
                groups
                and client.xpending("clicks", "featurekit")["pending"] == 0
                and (
                    groups[0]["last-delivered-id"]
                    == client.xinfo_stream("clicks")["last-generated-id"]
                )
            ):
                break
            time.sleep(0.05)
        stop.set()
        thread.join()
        check(other, clicks)


def test_consumers_that_are_killed_lose_and_double_nothing(folder: Path, redis_url: str) -> None:
    command = [sys.executable, "-m", "featurekit.cli", "consume", "clicks", "--repo", str(folder),
               "--redis-url", redis_url, "--batch", "5", "--idle", "1"]  # fmt: skip
    rng = random.Random(2)
    clicks = [click(n) for n in range(160)]
    with FeatureStore(folder, redis_url=redis_url) as store:
        client = store.online.client  # type: ignore[attr-defined]
        for round_ in range(4):
            add(store, clicks[round_ * 40 : round_ * 40 + 40])
            add(store, rng.sample(clicks[: round_ * 40 + 40], 10))
            process = subprocess.Popen([*command, "--name", f"m{round_ % 2}"])
            for _ in range(400):  # until it is at work
                if client.xlen("clicks") and client.exists("clicks"):
                    groups = client.xinfo_groups("clicks")
                    if groups and groups[0]["pending"]:
                        break
                time.sleep(0.02)
            time.sleep(rng.uniform(0.0, 0.1))
            process.kill()
            process.wait()
        done = subprocess.run(
            [*command, "--until-empty", "--name", "m0", "--json"], capture_output=True, check=True
        )
        assert json.loads(done.stdout)["entries"] > 0
        time.sleep(1.1)
        subprocess.run([*command, "--until-empty", "--name", "m0"], check=True, capture_output=True)
        assert client.xpending("clicks", "featurekit")["pending"] == 0
        check(store, clicks)
