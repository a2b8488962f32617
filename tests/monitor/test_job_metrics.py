"""Push, materialize and consume give metrics: in a file that is written whole and goes on from run
to run, and over HTTP."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from featurekit import FeatureStore
from featurekit.cli import main
from featurekit.core.keys import clock_key, project_key
from featurekit.core.types import micros
from featurekit.errors import StoreUnavailable
from featurekit.feed.consume import Consumer
from featurekit.monitor.jobs import Counts, JobMetrics
from featurekit.project.freshness import freshness

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count
user = Entity("user", join_keys={"user_id": int})
clicks = EventSource(
    "clicks", path="data/clicks.parquet", schema={"user_id": int, "click_id": str},
    timestamp_field="at", event_id="click_id", dedupe_within="2d", on_bad_row="quarantine",
)
view = FeatureView("view", entities=[user], source=clicks, features={"n": Count(window="30d")})
service = FeatureService("service", features=[view])
"""
AT = "2026-01-01T00:00:00+00:00"


@pytest.fixture
def folder(make_repo: Callable[..., Path], redis_url: str) -> Path:
    empty = {"user_id": pa.int64(), "click_id": pa.string(), "at": pa.timestamp("us", "UTC")}
    table = pa.table({name: pa.array([], type_) for name, type_ in empty.items()})
    made = make_repo(MODULE, {"clicks": table})
    with FeatureStore(made, redis_url=redis_url) as store:
        store.apply()
        store.materialize()
    return made


@pytest.fixture
def run(folder: Path, redis_url: str) -> Callable[..., int]:
    def made(verb: str, *words: Any) -> int:
        given = [str(w) for w in words]
        return main(["--repo", str(folder), "--redis-url", redis_url, "--json", verb, *given])

    return made


def samples(text: str) -> dict[str, float]:
    """The values of an exposition, by name and labels."""
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            assert re.fullmatch(r'[a-z_]+(\{([a-z]+="[^"]*",?)*\})?', name), line
            found[name] = float(value)
    return found


def read(path: Path) -> dict[str, float]:
    """The values of a file, without the label of its name, which each has."""
    found = samples(path.read_text())
    label = f'{{file="{path.stem}",'
    assert all(label in name for name in found), found
    return {name.replace(label, "{"): value for name, value in found.items()}


def events(tmp_path: Path, *rows: dict[str, Any]) -> Path:
    path = tmp_path / "events.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_push_counts_its_rows_and_goes_on_from_the_last_one(
    run: Callable[..., int], tmp_path: Path
) -> None:
    out = tmp_path / "push.prom"
    rows = [{"user_id": u, "click_id": f"c{u}", "at": AT} for u in (1, 2)]
    bad = {"user_id": "x", "click_id": "c9", "at": AT}
    assert run("push", "clicks", events(tmp_path, *rows, bad), "--metrics-file", out) == 0
    found = read(out)
    of = '{of="clicks",task="push"}'
    assert found[f"featurekit_job_rows_total{of}"] == 2
    assert found[f"featurekit_job_entities_total{of}"] == 2
    assert found[f"featurekit_job_set_aside_rows_total{of}"] == 1
    assert found['featurekit_job_runs_total{outcome="done",task="push"}'] == 1
    assert found['featurekit_job_runs_total{outcome="failed",task="push"}'] == 0
    assert found['featurekit_job_seconds_count{task="push"}'] == 1
    now = time.time()
    assert now - 60 < found['featurekit_job_last_success_timestamp_seconds{task="push"}'] <= now
    assert found['featurekit_push_lag_seconds{source="clicks"}'] == 0
    again = {"user_id": 3, "click_id": "c3", "at": AT}
    assert run("push", "clicks", events(tmp_path, again), "--metrics-file", out) == 0
    assert run("push", "clicks", tmp_path / "none.jsonl", "--metrics-file", out) != 0
    found = read(out)
    assert found[f"featurekit_job_rows_total{of}"] == 3
    assert found['featurekit_job_runs_total{outcome="done",task="push"}'] == 2
    assert (
        found['featurekit_job_seconds_bucket{le="+Inf",task="push"}']
        == found['featurekit_job_seconds_count{task="push"}']
    )
    assert [p.name for p in tmp_path.glob("push.prom*")] == ["push.prom"]


def test_no_two_files_of_a_folder_have_one_series(run: Callable[..., int], tmp_path: Path) -> None:
    """The textfile collector of node_exporter takes no file at all where two have."""
    row = {"user_id": 1, "click_id": "c1", "at": AT}
    assert run("materialize", "--metrics-file", tmp_path / "nightly.prom") == 0
    for name in ("first", "second"):
        out = tmp_path / f"{name}.prom"
        assert run("push", "clicks", events(tmp_path, row), "--metrics-file", out) == 0
    many = [samples(path.read_text()).keys() for path in tmp_path.glob("*.prom")]
    assert len(set().union(*many)) == sum(map(len, many))


def test_a_run_that_fails_is_counted_by_its_error(
    run: Callable[..., int], folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "jobs.prom"
    assert run("materialize", "--view", "none", "--metrics-file", out) == 2
    found = read(out)
    assert found['featurekit_job_runs_total{outcome="failed",task="materialize"}'] == 1
    (kind,) = [k for k in found if k.startswith("featurekit_job_errors_total")]
    assert re.search(r'kind="[A-Z]\w+Error"', kind)
    assert 'featurekit_job_last_success_timestamp_seconds{task="materialize"}' not in found
    assert 'featurekit_view_materialized_timestamp_seconds{view="view"}' in found


def test_a_materialisation_says_up_to_when_views_are_filled(
    run: Callable[..., int], tmp_path: Path
) -> None:
    out = tmp_path / "jobs.prom"
    before = time.time()
    assert run("materialize", "--metrics-file", out) == 0
    found = read(out)
    filled = found['featurekit_view_materialized_timestamp_seconds{view="view"}']
    assert before - 60 < filled <= time.time()
    assert found['featurekit_job_rows_total{of="view",task="materialize"}'] == 0


def test_a_consumer_counts_batches_and_says_what_waits(
    run: Callable[..., int], folder: Path, redis_url: str, tmp_path: Path
) -> None:
    out = tmp_path / "jobs.prom"
    with FeatureStore(folder, redis_url=redis_url) as store:
        client = store.online.client  # type: ignore[attr-defined]
        for u in (1, 2, 3):
            client.xadd("clicks", {"user_id": u, "click_id": f"c{u}", "at": AT})
        client.xadd("clicks", {"user_id": "x", "click_id": "c4", "at": AT})
    words = ("--until-empty", "--batch", "2", "--metrics-file", out)
    assert run("consume", "clicks", *words) == 0
    found = read(out)
    of = '{of="clicks",task="consume"}'
    assert found[f"featurekit_job_rows_total{of}"] == 4
    assert found[f"featurekit_job_set_aside_rows_total{of}"] == 1
    assert found['featurekit_job_runs_total{outcome="done",task="consume"}'] == 2
    assert found['featurekit_consume_lag_seconds{source="clicks"}'] == 0
    assert found.get('featurekit_consume_waiting_entries{source="clicks"}', 0) == 0


def test_what_of_a_stream_is_not_taken_is_known(folder: Path, redis_url: str) -> None:
    with FeatureStore(folder, redis_url=redis_url) as store:
        client = store.online.client  # type: ignore[attr-defined]
        consumer = Consumer(store.parts, "clicks", batch=1)
        assert consumer.waiting() == (0, 0.0)  # there is no stream yet
        seconds, us = client.time()
        old = int(seconds * 1000 + us / 1000) - 90_000
        client.xadd("clicks", {"user_id": 1, "click_id": "c1", "at": AT}, id=f"{old}-0")
        client.xadd("clicks", {"user_id": 2, "click_id": "c2", "at": AT})
        entries, age_s = consumer.waiting()
        assert entries == 2  # there is no group yet, and it will begin with the first entry
        assert 90 <= age_s < 120
        client.xgroup_create("clicks", "featurekit", id="0")
        entries, age_s = consumer.waiting()
        assert entries in (2, None)  # a Redis before 7 does not tell
        assert 90 <= age_s < 120
        client.xreadgroup("featurekit", "another", {"clicks": ">"}, count=1)
        entries, age_s = consumer.waiting()
        assert entries in (2, None)
        assert 90 <= age_s < 120  # it was read, and is not acknowledged
        client.xack("clicks", "featurekit", f"{old}-0")
        assert consumer.waiting()[1] < 60
        consumer.run(until_empty=True)
        assert consumer.waiting()[1] == 0


def test_a_push_that_is_under_way_is_the_lag_of_its_source(folder: Path, redis_url: str) -> None:
    with FeatureStore(folder, redis_url=redis_url) as store:
        views = [v for s in store.parts.live().values() for v in s.stored]
        project, online = store.parts.name, store.online
        assert freshness(online, project, views).pushing == {"clicks": 0}
        pushes = project_key(project, "pushes", "clicks")
        opening = online.open_push(pushes, [], clock=clock_key(project), holder=b"{}")
        token, _, _ = opening.result()
        one = freshness(online, project, views).pushing["clicks"]
        two = freshness(online, project, views).pushing["clicks"]
        assert 0 < one < two
        online.close_push(pushes, token)
        found = freshness(online, project, views)
        assert found.pushing == {"clicks": 0}
        done = store.materialize()
        assert freshness(online, project, views).filled == {"view": micros(done.until)}


def test_a_file_that_holds_something_else_is_left_alone(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "events.csv"
    for text in ("a,b\n1,2\n", 'other_total{a="b"} 1\n'):
        out.write_text(text)
        assert run("materialize", "--metrics-file", out) == 2
        assert out.read_text() == text
        assert "holds something else" in capsys.readouterr().err
    assert run("materialize", "--metrics-file", tmp_path / "none" / "x.prom") == 2
    assert "cannot be written" in capsys.readouterr().err


def test_the_docs_list_every_metric_with_its_type() -> None:
    page = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text(encoding="utf-8")
    table = page.partition("## Metrics of jobs")[2]
    listed = {
        (name, kind)
        for names, kind in re.findall(r"^\| (`featurekit_[^|]+`) \| (\w+) \|", table, re.M)
        for name in re.findall(r"`(\w+)`", names)
    }
    given = {
        (metric.name + ("_total" if metric.type == "counter" else ""), metric.type)
        for metric in JobMetrics("push").collect()
    }
    assert listed == given


def test_a_store_that_is_away_leaves_its_gauges_out() -> None:
    def away() -> Any:
        raise StoreUnavailable("gone")

    metrics = JobMetrics("push", fresh=away)
    metrics.took([Counts("clicks", rows=7)], 0.1)
    found = samples(metrics.text().decode())
    assert found['featurekit_job_rows_total{of="clicks",task="push"}'] == 7
    assert not any("push_lag" in name for name in found)


def test_a_running_consumer_is_scraped(folder: Path, redis_url: str) -> None:
    command = [sys.executable, "-m", "featurekit.cli", "--repo", str(folder), "--redis-url",
               redis_url, "consume", "clicks", "--metrics-port", "0"]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        url = line.removeprefix("featurekit: metrics at ").strip()
        with FeatureStore(folder, redis_url=redis_url) as store:
            client = store.online.client  # type: ignore[attr-defined]
            client.xadd("clicks", {"user_id": 1, "click_id": "c1", "at": AT})
        end = time.monotonic() + 30
        while True:
            with urllib.request.urlopen(url, timeout=10) as answer:
                found = samples(answer.read().decode())
            if found.get('featurekit_job_rows_total{of="clicks",task="consume"}') == 1:
                break
            assert time.monotonic() < end, found
            time.sleep(0.05)
        assert found['featurekit_view_materialized_timestamp_seconds{view="view"}'] > 0
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
