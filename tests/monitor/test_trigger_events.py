"""Events from outside, over HTTP: who may send one, that it counts once, and what else is asked."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from watching import NOTES, Watching, answer, done, state_of, wait_for, watching, write_repo

from featurekit.monitor.beside import BesideMetrics
from featurekit.monitor.triggers.metrics import TriggerMetrics
from featurekit.online.store.redis import RedisStore
from featurekit.project.api_keys import create_api_key, revoke_api_key


@pytest.fixture
def keys(redis_store: RedisStore) -> dict[str, str]:
    """Keys by what they open."""
    scopes = {"one": "event:go", "all": "event:*", "other": "event:stop", "read": "read:*"}
    return {
        name: create_api_key(redis_store, "tests", name, [scope])[1]
        for name, scope in scopes.items()
    }


@pytest.fixture
def watch(tmp_path: Path, redis_store: RedisStore, keys: dict[str, str]) -> Iterator[Watching]:
    repo = tmp_path / "repo"
    action = {"command": ["sh", "-c", NOTES.format(folder=repo)]}
    triggers = {
        "first": {"event": "go", "actions": [action]},
        "second": {"event": "go", "approve": True, "actions": [action]},
    }
    write_repo(repo, redis_store.url, triggers=triggers)
    with watching(repo) as made:
        yield made


def post(watch: Watching, key: str | None, event: str = "go", body: bytes = b"", **headers: str):  # type: ignore[no-untyped-def]
    named = {} if key is None else {"Authorization": f"Bearer {key}"}
    return answer(f"{watch.url}/events/{event}", body, **named, **headers)


def test_an_event_fires_each_trigger_that_waits_for_it(
    watch: Watching, keys: dict[str, str], redis_store: RedisStore, tmp_path: Path
) -> None:
    status, found = post(watch, keys["one"], body=b'{"reason": "new labels\\n"}')
    assert (status, found) == (202, {"triggers": ["first", "second"], "new": ["first", "second"]})
    wait_for(lambda: done(tmp_path / "repo") == ["first-1"])
    wait_for(lambda: state_of(redis_store, "first").past)
    firing = state_of(redis_store, "first").past[0]
    assert (firing.reason, firing.asker) == ("event go: new labels ", "key one")
    wait_for(lambda: state_of(redis_store, "second").now)
    assert state_of(redis_store, "second").now.phase in ("due", "asked")  # type: ignore[union-attr]


def test_an_event_that_is_sent_again_counts_once(
    watch: Watching, keys: dict[str, str], redis_store: RedisStore
) -> None:
    found = []
    threads = [
        threading.Thread(
            target=lambda: found.append(post(watch, keys["all"], Idempotency_Key="run-7"))
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [status for status, _ in found] == [202] * 8
    assert sorted(len(one["new"]) for _, one in found)[-2:] in ([1, 1], [0, 2])
    wait_for(lambda: state_of(redis_store, "first").past)
    time.sleep(1.0)
    assert state_of(redis_store, "first").fired == 1


def test_who_may_not_send_an_event_is_refused(
    watch: Watching, keys: dict[str, str], redis_store: RedisStore
) -> None:
    forged = keys["one"][:-4] + ("0000" if keys["one"][-4:] != "0000" else "1111")
    for key, status in ((None, 401), ("nonsense", 401), (forged, 401), (keys["other"], 403),
                        (keys["read"], 403)):  # fmt: skip
        assert post(watch, key)[0] == status
    assert revoke_api_key(redis_store, "tests", "one")
    assert post(watch, keys["one"])[0] == 401
    assert state_of(redis_store, "first").fired == 0
    assert state_of(redis_store, "first").asked == ()


def test_what_is_no_event_is_refused(watch: Watching, keys: dict[str, str]) -> None:
    assert post(watch, keys["all"], event="stop") == (
        404, {"error": "no trigger waits for an event stop"}
    )  # fmt: skip
    assert post(watch, keys["all"], event="a/b")[0] == 403
    for body in (b"[]", b"{", b'{"reason": 7}'):
        assert post(watch, keys["all"], body=body)[0] == 400
    assert post(watch, keys["all"], body=b" " * 70_000)[0] == 413
    assert post(watch, keys["all"], Idempotency_Key="x" * 201)[0] == 400
    assert watch.get("/other")[0] == 404


def test_a_body_that_never_comes_holds_nobody_up(watch: Watching) -> None:
    host, port = watch.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(b"POST /events/go HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")
        assert watch.get("/health")[0] == 200
        slow.settimeout(15)
        assert slow.recv(1024) == b"", "it is left after ten seconds"


def test_metrics_name_every_trigger_from_the_beginning(watch: Watching) -> None:
    wait_for(lambda: watch.leads)
    metrics = watch.metrics()
    for trigger in ("first", "second"):
        for outcome in ("done", "failed", "lost", "rejected", "dry"):
            name = "featurekit_trigger_firings_total"
            assert metrics[f'{name}{{outcome="{outcome}",trigger="{trigger}"}}'] == 0
    assert metrics["featurekit_watch_leader"] == 1
    assert json.dumps(metrics)


def test_docs_list_every_metric_of_a_watch() -> None:
    page = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text(encoding="utf-8")
    page = page.partition("## Triggers")[2].partition("## The numeric fingerprint")[0]
    registry = TriggerMetrics(["one"]).registry
    BesideMetrics(registry)
    found = {m.name + ("_total" if m.type == "counter" else "") for m in registry.collect()}
    assert found == {*re.findall(r"`(featurekit_[a-z_]+)`", page)}
