"""What is served after definitions, files and pushes changed is what offline says, bit for bit."""

import datetime as dt
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from versioned import Repo, at, deploy

from featurekit.errors import PlanRefused, SourceError
from featurekit.log import writer as push_log
from featurekit.online.store.server import scratch_redis


def test_a_version_that_comes_back_is_materialised_before_it_serves(repo: Repo) -> None:
    repo.files((1, 1, 10))
    repo.deploy()
    for window in ("20d", "10d"):  # one version is retained and fed, the one before is not
        repo.define(window=window)
        repo.deploy()
    repo.push(k=1, x=5, ts=at(20))
    repo.define()
    with repo.store() as store:
        store.apply()
        assert store.live()["service"].views[1].retain_us == 10 * 86_400_000_000
        store.materialize()
    offline, online = repo.both(1, dt.datetime.now(dt.UTC))
    assert online == offline
    assert online["x"] == (5, "PRESENT")


def test_an_entity_that_left_the_files_is_not_found_after_a_full_run(repo: Repo) -> None:
    repo.files((1, 1, 10), (2, 2, 10))
    repo.deploy()
    repo.files((1, 1, 10))
    with repo.store() as store:
        store.materialize()
    offline, online = repo.both(2, dt.datetime.now(dt.UTC))
    assert online == offline
    assert online["x"] == (None, "NOT_FOUND")


def test_a_row_taken_out_of_the_files_does_not_make_its_entity_known_early(repo: Repo) -> None:
    repo.files((3, 3, 90), (3, 4, 100))
    repo.deploy()
    repo.files((3, 4, 100))
    with repo.store() as store:
        store.materialize()
    offline, online = repo.both(3, at(95))
    assert online == offline
    assert online["x"] == (None, "NOT_FOUND")


def test_an_optional_column_added_after_a_push_is_null_in_its_rows(repo: Repo) -> None:
    repo.files((1, 1, 10))
    repo.deploy()
    repo.push(k=1, x=5, ts=at(20))
    table = pq.read_table(repo.folder / "events.parquet")
    note = pa.array(["seen"], type=pa.string())
    pq.write_table(table.append_column("note", note), repo.folder / "events.parquet")
    repo.define(schema='{"k": int, "x": int, "note": str | None}')
    repo.deploy()
    offline, online = repo.both(1, dt.datetime.now(dt.UTC))
    assert online == offline
    assert online["x"] == (5, "PRESENT")


def test_a_log_that_does_not_fit_the_schema_of_today_is_an_error(repo: Repo) -> None:
    repo.files((1, 1, 10))
    repo.deploy()
    repo.push(k=1, x=5, ts=at(20))
    table = pq.read_table(repo.folder / "events.parquet")
    column = pa.array([1.5], type=pa.float64())
    pq.write_table(table.set_column(1, "x", column), repo.folder / "events.parquet")
    repo.define(schema='{"k": int, "x": float}')
    with repo.store() as store:
        store.apply(allow_breaking=True)
        with pytest.raises(SourceError, match="column 'x': it holds int64"):
            store.materialize()


def test_an_optional_column_made_required_refuses_nulls_of_the_log(repo: Repo) -> None:
    repo.files((1, 1, 10))
    repo.define(schema='{"k": int, "x": int | None}')
    repo.deploy()
    repo.push(k=1, x=None, ts=at(20))
    repo.define()
    with repo.store() as store:
        store.apply()
        with pytest.raises(SourceError, match="1 of its values are None"):
            store.materialize()


def test_a_push_that_began_before_a_version_was_published_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It feeds the old version alone, and is under way while the new one is filled."""
    with scratch_redis() as url:
        repo = Repo(tmp_path, url)
        repo.files((1, 1, 0))
        store = repo.store()
        store.apply()
        store.materialize()
        begun, go_on = threading.Event(), threading.Event()
        keep = push_log.PushLog.keep

        def slowly(*args: Any) -> Any:
            begun.set()
            assert go_on.wait(30)
            return keep(*args)

        monkeypatch.setattr(push_log.PushLog, "keep", slowly)
        pusher = repo.store()
        row = {"k": 1, "x": 7, "ts": dt.datetime.now(dt.UTC)}
        pushing = threading.Thread(target=lambda: pusher.push("events", row))
        pushing.start()
        assert begun.wait(30)
        repo.define(window="40d")
        newer = repo.store()
        newer.apply()
        filled: list[Any] = []
        filling = threading.Thread(target=lambda: filled.append(newer.materialize()))
        filling.start()
        filling.join(0.5)
        assert filling.is_alive()  # it waits for the push
        go_on.set()
        pushing.join()
        filling.join()
        assert filled[0].live == ("service",)
        offline, online = repo.both(1, dt.datetime.now(dt.UTC))
        assert offline == online
        assert offline["x"] == (7, "PRESENT")
        assert offline["sum"] == (7, "PRESENT")  # the file's row is older than the window


def test_a_process_that_pushes_on_feeds_what_others_publish(repo: Repo) -> None:
    """What is fed is kept from push to push, for as long as nobody changes it."""
    repo.files((1, 1, 0))
    repo.deploy()
    with repo.store() as pusher, repo.store() as other:
        total = 0

        def push(x: int) -> None:
            nonlocal total
            total += x
            pusher.push("events", {"k": 1, "x": x, "ts": dt.datetime.now(dt.UTC)})
            offline, online = repo.both(1, dt.datetime.now(dt.UTC))
            assert offline == online
            assert online == {"x": (x, "PRESENT"), "sum": (total, "PRESENT")}

        push(2)
        push(4)
        repo.define(window="40d")
        repo.deploy()
        push(8)
        other.rollback("service")
        push(16)
        other.rollback("service")
        push(32)


def test_apply_publishes_again_what_is_damaged_or_lost(repo: Repo) -> None:
    """The plan of the live version, which the repo still defines, and that of the retained one,
    which only the registry has."""
    repo.files((1, 5, 0))
    deploy(repo, "30d", "20d")
    before = repo.both(1, at(10))
    with repo.store() as store:
        keys = list(store.online.keys(b"fk:versions:plan:"))
        plans = store.online.read(keys)
        for broken in ({keys[0]: b"{}", keys[1]: plans[1][:-9] + b"}"}, None):
            store.online.write(broken) if broken else store.online.delete(keys)
            if broken:
                with pytest.raises(PlanRefused, match="fk:versions:plan:service:"):
                    store.live()
            store.apply()
            assert store.online.read(keys) == plans
    assert repo.both(1, at(10)) == before
