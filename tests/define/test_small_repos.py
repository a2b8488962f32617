"""Repos that lack something: views, services of some views, files that are still to come."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feature_repos import MakeRepo

from featurekit import FeatureStore
from featurekit.cli import main
from featurekit.errors import DefinitionError, EntityFrameError, RegistryError, SourceError

NOON = dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC)

ALONE = """
import datetime as dt
from featurekit import FeatureService, feature

@feature
def hour(as_of: dt.datetime) -> int:
    return as_of.hour

@feature
def squared(x: float) -> float:
    return x * x

asked = FeatureService("asked", features=[hour])
given = FeatureService("given", features=[hour, squared], request={"x": float})
"""

VIEWS = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count

user = Entity("user", {"key": int})
def source(name):
    return EventSource(name, path=f"data/{name}.parquet", schema={"key": int, "x": float},
                       timestamp_field="at", created_timestamp_column="arrived")
used = FeatureView("used", entities=[user], source=source("events"), features={"x": "x"},
                   history="9000d")
unused = FeatureView("unused", entities=[user], source=source("others"),
                     features={"n": Count(window="1d")})
"""
SERVICE = """
service = FeatureService("service", features=[used])
"""


def event(key: int, x: float, at: dt.datetime) -> dict[str, Any]:
    return {"key": key, "x": x, "at": at, "arrived": at}


def file_of(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    instant = pa.timestamp("us", "UTC")
    schema = pa.schema(
        [("key", pa.int64()), ("x", pa.float64()), ("at", instant), ("arrived", instant)]
    )
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / "data" / f"{name}.parquet")


# --- services of transforms alone -----------------------------------------------------------------


@pytest.fixture
def alone(make_repo: MakeRepo, redis_url: str, redis_store: Any) -> Any:
    with FeatureStore(make_repo(ALONE, {}), redis_url=redis_url) as store:
        store.apply()
        yield store


def test_a_service_without_views_serves_after_apply(alone: FeatureStore) -> None:
    found = alone.get_online_features("given", [{"x": 1.5}, {"x": -2.0}], as_of=NOON)
    assert found.columns == {"hour": [12, 12], "squared": [2.25, 4.0]}
    found = alone.get_online_features("asked", [{}, {}], as_of=NOON)
    assert found.columns == found.to_dict() == {"hour": [12, 12]}
    assert found.to_pylist() == found.to_arrow().to_pylist() == [{"hour": 12}] * 2
    assert found.to_pandas()["hour"].tolist() == [12, 12]
    frame = [{"x": 1.5, "event_timestamp": NOON}]
    made = alone.get_historical_features(frame, "given").to_arrow()
    assert made["squared"].to_pylist() == [2.25]
    done = alone.materialize()
    assert (done.views, done.live) == ((), ())
    with pytest.raises(EntityFrameError, match="reads no view, so there are no entities"):
        alone.get_historical_features(service="asked", at=[NOON])


@pytest.mark.parametrize("service", ["asked", "given"])
@pytest.mark.parametrize("mode", ["history", "fuzz", "sample"])
def test_a_service_without_views_is_compared(alone: FeatureStore, service: str, mode: str) -> None:
    report = alone.check_parity(service, mode=mode, values=60, workers=1)  # type: ignore[arg-type]
    assert report.ok, [d.to_dict() for d in report.differences]
    assert report.compared >= 60


def test_the_command_line_asks_a_service_without_fields(
    alone: FeatureStore, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.chdir(alone.path):
        about = ["--redis-url", redis_url, "get-online", "--json"]
        assert main([*about, "asked", "--as-of", NOON.isoformat()]) == 0
        assert json.loads(capsys.readouterr().out)["rows"][0]["features"] == {"hour": 12}
        assert main([*about, "given"]) == 64
        assert "service 'given' takes x" in capsys.readouterr().err
        assert main(["--redis-url", redis_url, "materialize"]) == 0
        assert "Nothing to do" in capsys.readouterr().out


def test_a_repo_without_anything_says_what_to_write(make_repo: MakeRepo) -> None:
    with pytest.raises(DefinitionError, match="no FeatureView and no FeatureService"):
        FeatureStore(make_repo("", {})).plan()


# --- views that no service reads ------------------------------------------------------------------


def test_a_view_that_no_service_reads_has_nothing_to_fill(
    make_repo: MakeRepo, redis_url: str, redis_store: Any
) -> None:
    folder = make_repo(VIEWS + SERVICE, {})
    for name in ("events", "others"):
        file_of(folder, name, [event(1, 2.0, NOON)])
    with FeatureStore(folder, redis_url=redis_url) as store:
        store.apply()
        assert [v.view for v in store.materialize().views] == ["used"]
        with pytest.raises(RegistryError, match="'unused' is read by no service"):
            store.materialize(views=["unused"])
        with pytest.raises(RegistryError, match="no applied view is named 'nothing'"):
            store.materialize(views=["nothing"])


def test_a_repo_without_services_says_what_states_are_for(
    make_repo: MakeRepo, redis_url: str, redis_store: Any
) -> None:
    with FeatureStore(make_repo(VIEWS, {}), redis_url=redis_url) as store:
        store.apply()
        with pytest.raises(RegistryError, match="defines no FeatureService"):
            store.materialize()


# --- sources without a file yet -------------------------------------------------------------------


@pytest.mark.parametrize("path", ["data/events.parquet", "data/events-*.parquet"])
def test_what_is_only_pushed_is_served_after_apply_alone(
    make_repo: MakeRepo, redis_url: str, redis_store: Any, path: str
) -> None:
    module = (VIEWS + SERVICE).replace('path=f"data/{name}.parquet"', f'path="{path}"')
    folder = make_repo(module, {})
    later = NOON + dt.timedelta(hours=1)
    with FeatureStore(folder, redis_url=redis_url) as store:
        store.apply()
        assert store.get_online_features("service", [{"key": 1}]).statuses() == [{"x": "NOT_FOUND"}]
        frame = [{"key": key, "event_timestamp": later} for key in (1, 2)]
        with pytest.raises(SourceError, match="no file"):  # it may be misspelt
            store.get_historical_features(frame, "service").to_arrow()
        store.push("events", [event(1, 2.5, NOON)])
        rows = [{"key": 1}, {"key": 2}]
        assert store.get_online_features("service", rows, as_of=later).columns["x"] == [2.5, None]
        trained = store.get_historical_features(frame, "service").to_arrow()
        assert trained["x"].to_pylist() == [2.5, None]
        for mode in ("history", "sample"):
            report = store.check_parity("service", mode=mode, values=40, workers=1)  # type: ignore[arg-type]
            assert report.ok, (mode, [d.to_dict() for d in report.differences])
        file_of(folder, "events" if "*" not in path else "events-1", [event(2, 3.5, NOON)])
        done = store.materialize_incremental()  # what the file has arrived before the first push
        assert [v.events for v in done.views] == [2]
        assert store.get_online_features("service", rows, as_of=later).columns["x"] == [2.5, 3.5]


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("name", ["events", "events-1"])
def test_files_that_vanish_are_an_error_whatever_was_pushed(
    make_repo: MakeRepo, redis_url: str, redis_store: Any, name: str, again: bool
) -> None:
    """They were read once: by a materialisation or a training set, of this process or another."""
    path = "data/events-*.parquet" if name == "events-1" else "data/events.parquet"
    module = (VIEWS + SERVICE).replace('path=f"data/{name}.parquet"', f'path="{path}"')
    folder = make_repo(module, {})
    file_of(folder, name, [event(1, 2.5, NOON)])
    later = NOON + dt.timedelta(hours=1)
    frame = [{"key": 1, "event_timestamp": later}]
    with ExitStack() as stack:
        store = stack.enter_context(FeatureStore(folder, redis_url=redis_url))
        store.apply()
        store.materialize()
        store.push("events", [event(1, 3.5, NOON + dt.timedelta(minutes=1))])
        if again:
            store = stack.enter_context(FeatureStore(folder, redis_url=redis_url))
        file = folder / f"data/{name}.parquet"
        moved = file.rename(folder / "moved.parquet")
        attempts: dict[str, Callable[[], object]] = {
            "materialize": store.materialize,
            "incremental": store.materialize_incremental,
            "historical": lambda: store.get_historical_features(frame, "service").to_arrow(),
            "parity": lambda: store.check_parity("service", mode="history", values=40, workers=1),
        }
        for attempt in attempts.values():
            with pytest.raises(SourceError, match=r"'events': .* any more, .*put a file there"):
                attempt()
        (check,) = [c for c in store.check_sources() if c.source == "events"]
        assert check.missing is None
        assert ["any more" in str(fault) for fault in check.faults] == [True]
        online = store.get_online_features("service", [{"key": 1}], as_of=later)
        assert online.columns["x"] == [3.5]
        pq.write_table(pq.read_table(moved).slice(0, 0), file)  # no event of a file is to count
        assert store.get_historical_features(frame, "service").to_arrow()["x"].to_pylist() == [3.5]
        assert not any(c.faults for c in store.check_sources())


def test_a_new_view_of_pushed_rows_waits_for_its_fill(
    make_repo: MakeRepo, redis_url: str, redis_store: Any
) -> None:
    """The log has rows that its states lack, so it is not empty."""
    folder = make_repo(VIEWS + SERVICE, {})
    with FeatureStore(folder, redis_url=redis_url) as store:
        store.apply()
        store.push("events", [event(1, 2.5, NOON)])
    changed = (VIEWS + SERVICE).replace('history="9000d"', 'history="9001d"')
    (folder / "definitions.py").write_text(changed, encoding="utf-8")
    with FeatureStore(folder, redis_url=redis_url) as store:
        store.apply()
        live = store.live()["service"].fingerprint
        assert live != store.repo.compiled_services["service"].fingerprint
        assert store.materialize().live == ("service",)
