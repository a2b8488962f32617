"""What `unlock` shows and lets go of, and what `materialize` says of the instant that was asked
for."""

from __future__ import annotations

import datetime as dt
import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from featurekit.cli import main
from featurekit.errors import LeaseLost
from featurekit.online.store.redis import RedisStore
from featurekit.project import leases
from featurekit.project.leases import alone, holder

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView

user = Entity("user", {"k": int})
times = {"timestamp_field": "at", "created_timestamp_column": "known"}
clicks = EventSource("clicks", path="data/clicks.parquet", schema={"k": int}, **times)
clicked = FeatureView("clicked", entities=[user], source=clicks, features={"last": "k"})
service = FeatureService("service", features=[clicked])
"""
NOW = dt.datetime.now(dt.UTC)
Run = Callable[..., str]


@pytest.fixture
def run(
    make_repo: Callable[..., Path],
    redis_url: str,
    redis_store: RedisStore,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Run a command on a repo that is applied and filled; what it shows."""
    stamp = pa.timestamp("us", tz="UTC")
    ago = [NOW - dt.timedelta(days=1)]
    table = pa.table({"k": [1], "at": pa.array(ago, stamp), "known": pa.array(ago, stamp)})
    folder = make_repo(MODULE, {"clicks": table})

    def run(*words: str, code: int = 0) -> str:
        capsys.readouterr()
        done = main([*words, "--repo", str(folder), "--redis-url", redis_url])
        shown = capsys.readouterr()
        assert done == code, shown.err
        return shown.out if code == 0 else shown.err

    run("apply")
    run("materialize")
    return run


def rows(shown: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(shown)["held"]
    return found


def test_nobody_holds_anything(run: Run) -> None:
    assert run("unlock") == "Nobody holds anything.\n"
    assert rows(run("unlock", "--json")) == []


def test_it_shows_who_holds_what_and_lets_go_of_the_dead(
    run: Run, redis_store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE_S", 0.4)
    monkeypatch.setattr(leases, "RENEW_S", 0.1)
    redis_store.open_push(
        b"fk:tests:pushes:clicks", clock=b"fk:tests:clock", holder=holder("push")
    ).result()
    time.sleep(0.4)
    with alone(redis_store, "tests", "clicks", "materialize") as mine:
        living, dead = rows(run("unlock", "--json"))
        assert (living["verb"], living["living"], living["let_go"]) == ("materialize", True, False)
        assert (dead["verb"], dead["living"], dead["let_go"]) == ("push", False, True)
        for row in (living, dead):
            assert (row["source"], row["host"], row["pid"]) == (
                "clicks",
                socket.gethostname(),
                os.getpid(),
            )
            assert dt.datetime.fromisoformat(row["since"]) < dt.datetime.fromisoformat(row["until"])
        shown = run("unlock", "clicks")
        assert "materialize" in shown
        assert "--force lets go of it" in shown
        mine.write({b"a": b"1"})
        assert "let go of, by force" in run("unlock", "--force")
        with pytest.raises(LeaseLost):
            mine.write({b"a": b"2"})
    assert redis_store.read([b"a"]) == [b"1"]
    assert run("unlock") == "Nobody holds anything.\n"


def test_a_source_that_is_unknown_is_refused(run: Run) -> None:
    assert "no view reads a source 'nope'; there are clicks" in run("unlock", "nope", code=2)


def test_an_end_in_the_past_moves_nothing_and_says_so(run: Run, redis_store: RedisStore) -> None:
    before = redis_store.read([b"fk:tests:until"])
    then = (NOW - dt.timedelta(hours=2)).isoformat()
    for words in (("materialize",), ("materialize", "--incremental")):
        shown = run(*words, "--end", then)
        assert f"up to {then}." in shown
        assert "Nothing moved: the views were materialised up to " in shown
        assert redis_store.read([b"fk:tests:until"]) == before
    found = json.loads(run("materialize", "--json", "--end", then))
    assert dt.datetime.fromisoformat(found["stand_at"]) > dt.datetime.fromisoformat(found["until"])


def test_an_end_in_the_future_is_cut_and_says_where(run: Run) -> None:
    then = (NOW + dt.timedelta(days=2)).isoformat()
    shown = run("materialize", "--end", then)
    assert f"{then} was asked for; what arrives after " in shown
    assert "Nothing moved" not in shown
    found = json.loads(run("materialize", "--json", "--end", then))
    assert found["asked"] == then
    assert dt.datetime.fromisoformat(found["until"]) < NOW + dt.timedelta(days=1)
    assert found["stand_at"] == found["until"]


def test_a_run_without_an_end_says_neither(run: Run) -> None:
    shown = run("materialize")
    assert "asked for" not in shown
    assert "Nothing moved" not in shown
