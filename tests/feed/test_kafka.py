"""Messages of Kafka become events once, whatever dies, is delivered again or goes to others."""

from __future__ import annotations

import itertools
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
from featurekit.errors import (
    ConfigError,
    DataError,
    SourceError,
    StoreUnavailable,
)
from featurekit.feed.consume import Consumer
from featurekit.feed.streams.kafka import Address, KafkaStream
from featurekit.log.writer import PushLog
from tests.feed.test_consume import EMPTY, MODULE, check, click, raw_states
from tests.kafka import done_of, make_topic, mock_cluster, read, sasl_server, send, tansu

WITHOUT_IDS = MODULE.replace(' event_id="click_id",\n    dedupe_within="2d",', "")
Make = Callable[..., Path]
_NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    with tansu() as address:
        yield address


@pytest.fixture
def topic(broker: str) -> str:
    made = f"clicks{next(_NUMBERS)}"
    make_topic(broker, made)
    return made


@pytest.fixture
def url(broker: str, topic: str) -> str:
    return f"kafka://{broker}/{topic}"


@pytest.fixture
def make_store(make_repo: Make, redis_url: str) -> Iterator[Callable[..., FeatureStore]]:
    """A store whose source has ids or not, filled with nothing; `settings` are those of its
    stream."""
    opened: list[FeatureStore] = []

    def made(text: str, settings: str | None = None) -> FeatureStore:
        table = pa.table({name: pa.array([], type_) for name, type_ in EMPTY.items()})
        folder = make_repo(text, {"clicks": table})
        if settings is not None:
            file = folder / "feature_store.yaml"
            more = f"featurekit: {{watch: {{consume: {{clicks: {settings}}}}}}}\n"
            file.write_text(file.read_text() + more)
        store = FeatureStore(folder, redis_url=redis_url)
        opened.append(store)
        store.apply()
        store.materialize()
        return store

    yield made
    for store in opened:
        store.close()


def run(store: FeatureStore, url: str, **options: Any) -> tuple[int, int]:
    """What a member takes until nothing is left: messages, and those that were set aside. Tansu
    waits for half of the time of silence that members ask for before a group begins."""
    done = store.consume("clicks", url=url, until_empty=True, idle_s=6, **options)
    return done.entries, done.set_aside


class _Died(Exception):
    pass


def _dies(*given: Any) -> bool:
    raise _Died


@pytest.mark.parametrize("text", [MODULE, WITHOUT_IDS], ids=["ids", "no ids"])
def test_messages_become_events_once(
    make_store: Any, broker: str, topic: str, url: str, text: str
) -> None:
    store = make_store(text)
    clicks = [click(n) for n in range(30)]
    send(broker, topic, clicks)
    member = Consumer(store.parts, "clicks", url=url)
    entries, age_s = member.waiting()
    assert entries == 30
    assert 0 < age_s < 60
    assert run(store, url, batch=7) == (30, 0)
    assert done_of(broker, topic) == [15, 15]
    assert member.waiting() == (0, 0.0)
    check(store, clicks)
    more = [click(n) for n in range(30, 33)]
    send(broker, topic, more)
    assert run(store, url) == (3, 0)
    check(store, clicks + more)


def test_the_client_s_own_cluster_gives_the_same(make_store: Any) -> None:
    store = make_store(WITHOUT_IDS)
    clicks = [click(n) for n in range(40)]
    with mock_cluster() as address:
        send(address, "clicks", clicks)
        assert run(store, f"kafka://{address}/clicks", batch=3) == (40, 0)
        assert done_of(address, "clicks") == [10, 10, 10, 10]
    check(store, clicks)


@pytest.mark.parametrize("text", [MODULE, WITHOUT_IDS], ids=["ids", "no ids"])
def test_what_is_not_finished_is_delivered_again_and_changes_nothing(
    make_store: Any, broker: str, topic: str, url: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second member has the messages in other batches than the one that was cut off."""
    store = make_store(text)
    clicks = [click(n) for n in range(40)]
    send(broker, topic, clicks)
    with monkeypatch.context() as patched:
        patched.setattr(KafkaStream, "finish", lambda stream, messages: False)
        assert run(store, url, batch=7) == (0, 0)
    assert done_of(broker, topic) == [0, 0]
    before = raw_states(store)
    check(store, clicks)
    assert run(store, url, batch=5) == (40, 0)
    assert raw_states(store) == before
    assert done_of(broker, topic) == [20, 20]
    check(store, clicks)


@pytest.mark.parametrize("text", [MODULE, WITHOUT_IDS], ids=["ids", "no ids"])
def test_a_member_that_ends_between_log_and_states_leaves_each_event_once(
    make_store: Any, broker: str, topic: str, url: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(text)
    clicks = [click(n) for n in range(24)]
    send(broker, topic, clicks)
    keep = PushLog.keep

    def losing(*given: Any) -> bool:
        done = keep(*given)
        monkeypatch.setattr("featurekit.online.store.redis._commit", _dies)
        return done

    monkeypatch.setattr(PushLog, "keep", losing)
    with pytest.raises(_Died):
        run(store, url, batch=8)
    monkeypatch.undo()
    run(store, url, batch=3)  # fewer messages are at hand than the first run had
    check(store, clicks)
    assert sum(done_of(broker, topic)) == 24


def test_a_topic_of_the_same_name_is_another_one(
    make_store: Any, broker: str, topic: str, url: str
):
    """The keys of a source without ids tell its messages from those of a topic that is gone."""
    from confluent_kafka.admin import AdminClient

    store = make_store(WITHOUT_IDS)
    clicks = [click(n) for n in range(12)]
    send(broker, topic, clicks[:6])
    assert run(store, url) == (6, 0)
    client = AdminClient({"bootstrap.servers": broker, "log_level": 0})
    client.delete_topics([topic])[topic].result(10)
    make_topic(broker, topic)
    send(broker, topic, clicks[6:])
    assert sum(done_of(broker, topic, "again")) == 0
    done = KafkaStream.part
    try:
        KafkaStream.part = lambda stream, m: done(stream, m).replace("again", "featurekit")  # type: ignore[method-assign]
        assert run(store, url, group="again") == (6, 0)
    finally:
        KafkaStream.part = done  # type: ignore[method-assign]
    check(store, clicks)


BAD = [b"{", b"[1]", None, {"user_id": "x", "click_id": "a"}, b"\xff"]


def test_a_bad_message_stops_the_consumer_and_is_named(
    make_store: Any, broker: str, url: str, topic: str
) -> None:
    store = make_store(MODULE)
    good = [click(n) for n in range(8)]
    send(broker, topic, [*good[:4], b"{", *good[4:]])
    for _ in range(2):
        with pytest.raises(SourceError, match=rf"^topic '{topic}', partition 0, offset 2: .*JSON"):
            run(store, url)
    assert done_of(broker, topic)[0] == 2


def test_bad_messages_are_set_aside_where_the_source_says_so(
    make_store: Any, broker: str, url: str, topic: str
) -> None:
    store = make_store(MODULE.replace('on_bad_row="error"', 'on_bad_row="quarantine"'))
    good = [click(n) for n in range(8)]
    send(broker, topic, [*good[:4], *BAD, *good[4:]])
    assert run(store, url) == (13, 5)
    check(store, good)
    folder = store.state_dir / "quarantine"
    kept = "".join(p.read_text() for p in folder.rglob("*") if p.is_file())
    for part in ("no object", "not JSON", "no value", '"partition"', '"offset": 2'):
        assert part in kept


@pytest.mark.parametrize("text", [MODULE, WITHOUT_IDS], ids=["ids", "no ids"])
def test_bad_messages_go_to_the_topic_of_dead_letters(
    make_store: Any, broker: str, url: str, topic: str, text: str
) -> None:
    dead = f"{topic}.dead"
    make_topic(broker, dead, 1)
    store = make_store(text, f"{{stream_url: {json.dumps(url)}, kafka: {{dead_letter: {dead}}}}}")
    good = [click(n) for n in range(8)]
    send(broker, topic, [*good[:4], *BAD, *good[4:]])
    assert run(store, url) == (13, 5)
    check(store, good)
    letters = read(broker, dead, 5)
    assert sorted(m.value() or b"" for m in letters) == sorted(
        json.dumps(b).encode() if isinstance(b, dict) else b or b"" for b in BAD
    )
    for letter in letters:
        about = {name: raw.decode() for name, raw in letter.headers()}
        assert about["featurekit-topic"] == topic
        number = 2 * int(about["featurekit-offset"]) + int(about["featurekit-partition"])
        sent = [*good[:4], *BAD, *good[4:]][number]
        assert letter.value() == (json.dumps(sent).encode() if isinstance(sent, dict) else sent)
        assert about["featurekit-reason"]


@pytest.mark.parametrize("text", [MODULE, WITHOUT_IDS], ids=["ids", "no ids"])
def test_members_share_the_partitions_while_others_come_and_go(
    make_store: Any, broker: str, redis_url: str, topic: str, url: str, text: str
) -> None:
    store = make_store(text)
    clicks = [click(n) for n in range(200)]
    stops = [threading.Event() for _ in range(3)]
    took: list[int] = []

    def work(number: int) -> None:
        with FeatureStore(store.path, redis_url=redis_url) as mine:
            done = mine.consume(
                "clicks", url=url, stop=stops[number], batch=4, name=f"m{number}", idle_s=6
            )
            took.append(done.entries)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    threads[0].start()
    for number in range(4):
        send(broker, topic, clicks[number * 50 : number * 50 + 50])
        if number < 2:
            threads[number + 1].start()
        else:
            stops[number - 2].set()
        time.sleep(2)
    until = time.monotonic() + 90
    while done_of(broker, topic) != [100, 100] and time.monotonic() < until:
        time.sleep(0.1)
    for stop in stops:
        stop.set()
    for thread in threads:
        thread.join(60)
    assert done_of(broker, topic) == [100, 100]
    assert sum(took) >= 200
    check(store, clicks)


@pytest.mark.parametrize("text", [MODULE, WITHOUT_IDS], ids=["ids", "no ids"])
def test_members_that_are_killed_lose_and_double_nothing(
    make_store: Any, broker: str, redis_url: str, topic: str, url: str, text: str
) -> None:
    store = make_store(text)
    command = [sys.executable, "-m", "featurekit.cli", "consume", "clicks", "--from", url,
               "--repo", str(store.path), "--redis-url", redis_url, "--batch", "5",
               "--idle", "6"]  # fmt: skip
    rng, redis = random.Random(2), store.online.client  # type: ignore[attr-defined]
    clicks = [click(n) for n in range(2_000)]
    send(broker, topic, clicks)
    for round_ in range(3):
        before = redis.dbsize()
        process = subprocess.Popen([*command, "--name", f"m{round_}"])
        while redis.dbsize() == before and process.poll() is None:  # until it is at work
            time.sleep(0.005)
        time.sleep(rng.uniform(0.0, 0.1))
        process.kill()
        process.wait()
        assert sum(done_of(broker, topic)) < 2_000
    done = subprocess.run([*command, "--until-empty", "--json"], capture_output=True, check=True)
    assert json.loads(done.stdout)["entries"] > 0
    assert done_of(broker, topic) == [1_000, 1_000]
    check(store, clicks)


def test_a_signal_ends_it_after_its_batch(
    make_store: Any, broker: str, redis_url: str, topic: str, url: str
) -> None:
    store = make_store(MODULE)
    clicks = [click(n) for n in range(6)]
    send(broker, topic, clicks)
    process = subprocess.Popen(
        [sys.executable, "-m", "featurekit.cli", "consume", "clicks", "--from", url, "--json",
         "--idle", "6", "--repo", str(store.path), "--redis-url", redis_url],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    for _ in range(600):
        if sum(done_of(broker, topic)) == 6:
            break
        time.sleep(0.02)
    began = time.monotonic()
    process.terminate()
    out, _ = process.communicate(timeout=30)
    assert time.monotonic() - began < 5
    assert process.returncode == 143
    assert json.loads(out)["entries"] == 6
    check(store, clicks)


# --- what is wrong --------------------------------------------------------------------------------


def test_a_cluster_that_is_not_there_is_named_in_bounded_time(
    make_store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")
    monkeypatch.setattr("featurekit.feed.streams.kafka._PATIENCE_S", 1.0)
    store = make_store(MODULE)
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match=r"topic 'clicks' at 127\.0\.0\.1:1 cannot be reach"):
        store.consume("clicks", url="kafka://127.0.0.1:1/clicks")
    assert time.monotonic() - began < 10


def test_a_cluster_that_is_lost_is_named_in_bounded_time(
    make_store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featurekit.feed.streams.kafka._PATIENCE_S", 2.0)
    store = make_store(MODULE)
    clicks = [click(n) for n in range(3)]
    with tansu() as address:
        make_topic(address, "clicks")
        send(address, "clicks", clicks)
        member = Consumer(
            store.parts, "clicks", url=f"kafka://{address}/clicks", dead_letter="dead", idle_s=6
        )
        member.stream.join()
        found: list[Any] = []
        until = time.monotonic() + 20
        while len(found) < 3 and time.monotonic() < until:
            found += member.stream.read(wait=True).messages
        assert len(found) == 3
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="delivered again"):
        member.stream.finish(found)
    with pytest.raises(StoreUnavailable, match=r"dead letters 'dead' .* stays unacknowledged"):
        member.stream.give_away(found[0], "why")

    def reads() -> None:
        while time.monotonic() - began < 40:
            member.stream.read(wait=True)

    with pytest.raises(StoreUnavailable, match="delivered again"):
        reads()
    member.stream.close()
    assert time.monotonic() - began < 40


def test_a_topic_that_is_not_there_is_named(make_store: Any, broker: str) -> None:
    store = make_store(MODULE)
    with pytest.raises(DataError, match=r"topic 'nothing' at .*; create the topic"):
        store.consume("clicks", url=f"kafka://{broker}/nothing", until_empty=True)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("kafka://me:s3cr3t@host/clicks", "holds a login"),
        ("kafka://host:1/a/b", "name of one topic"),
        ("kafka://host:1/", "name of one topic"),
        ("kafka://host:x/s3cr3t", "no host and port"),
        ("kafka:s3cr3t", "another form"),
    ],
)
def test_a_url_that_is_none_is_told_without_its_text(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        Address.read(url)
    assert "s3cr3t" not in str(caught.value)


def test_a_url_names_servers_and_a_topic() -> None:
    assert Address.read("kafkas://a,b:1234,[::1]:9/t.x") == Address(
        "a:9092,b:1234,[::1]:9", True, "t.x"
    )


def test_a_certificate_that_is_none_is_told(make_store: Any) -> None:
    pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")
    store = make_store(MODULE, "{kafka: {ca_file: definitions.py}}")
    with pytest.raises(ConfigError, match=r"settings of topic 't' .*: ssl\.ca\.location"):
        store.consume("clicks", url="kafkas://127.0.0.1:1/t")


def test_a_password_that_is_wrong_is_told_without_it(
    make_store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that speaks SASL, as far as the client asks before it is refused."""
    pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")
    monkeypatch.setattr("featurekit.feed.streams.kafka._PATIENCE_S", 2.0)
    monkeypatch.setenv("CLICKS_PASSWORD", "s3cr3t")
    login = "{username: me, password_env: CLICKS_PASSWORD, mechanism: PLAIN}"
    store = make_store(MODULE, f"{{kafka: {login}}}")
    with (
        sasl_server() as (address, heard),
        pytest.raises(StoreUnavailable, match="who are you") as caught,
    ):
        store.consume("clicks", url=f"kafka://{address}/clicks")
    assert heard[0] == b"\0me\0s3cr3t"
    assert "s3cr3t" not in str(caught.value)
