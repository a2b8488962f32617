"""When a row became known is a part of its value: by a delay, or by the commit of its table."""

from __future__ import annotations

import datetime as dt
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import origins
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from featurekit import (
    Commit,
    Delay,
    Delta,
    Entity,
    EventSource,
    FeatureService,
    FeatureStore,
    FeatureView,
    Iceberg,
    Modified,
)
from featurekit.aggregates import Count, Last
from featurekit.core import tables
from featurekit.core.types import INT
from featurekit.define.arrivals import LATEST_US
from featurekit.define.compile_service import compile_service
from featurekit.define.verify import verify_service
from featurekit.errors import DataError, DefinitionError, SourceError
from featurekit.language.verify import Unsound
from featurekit.sources import read_events
from featurekit.testing import values

UTC = dt.UTC
AT = dt.datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = dt.timedelta(hours=1)
EPOCH = dt.datetime(1970, 1, 1, tzinfo=UTC)
customer = Entity("customer", {"k": int})


def us(at: dt.datetime) -> int:
    return (at - EPOCH) // dt.timedelta(microseconds=1)


def table(*keys: int, at: dt.datetime = AT) -> pa.Table:
    stamps = pa.array([at] * len(keys), pa.timestamp("us", "UTC"))
    return pa.table(
        {
            "k": pa.array(keys, pa.int64()),
            "x": pa.array([k / 8 for k in keys], pa.float64()),
            "at": stamps,
        }
    )


SCHEMA = {"k": int, "x": float}
BY_DAY = {**SCHEMA, "day": int}


def source(**options: Any) -> EventSource:
    return EventSource("events", **{"schema": SCHEMA, "timestamp_field": "at", **options})


def service(**options: Any) -> FeatureService:
    features = {"n": Count(window="7d"), "x": Last("x", window="7d")}
    view = FeatureView("view", entities=[customer], source=source(**options), features=features)
    return FeatureService("service", features=[view])


def arrivals(made: EventSource, state: Path | None = None) -> dict[int, int]:
    """The arrival of each key."""
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'").fetchall()
        relation = read_events(con, made, base=Path(), state_dir=state).relation
        rows = tables.rows(con, relation, {"k": INT, "__created": INT})
        return {row["k"]: row["__created"] for row in rows}


def refused(made: EventSource, state: Path | None = None) -> str:
    with pytest.raises(SourceError) as error:
        arrivals(made, state)
    return str(error.value)


# --- a delay --------------------------------------------------------------------------------------


def test_a_row_of_a_file_counts_once_its_delay_is_over(tmp_path: Path) -> None:
    """In a training set, online, and as parity replays it."""
    pq.write_table(table(1), tmp_path / "x.parquet")
    delayed = service(path=str(tmp_path / "x.parquet"), arrives=Delay("6h"))
    late = dt.timedelta(microseconds=1)
    instants = [AT, AT + 6 * HOUR - late, AT + 6 * HOUR]
    with FeatureStore(definitions=[delayed]) as store:
        store.apply()
        store.materialize(AT + 6 * HOUR)
        labels = [{"k": 1, "event_timestamp": at} for at in instants]
        trained = store.get_historical_features(labels, "service").to_pylist()
        assert [row["n"] for row in trained] == [0, 0, 1]
        served = store.get_online_features("service", [{"k": 1}], instants[2]).to_pylist()
        assert served[0]["n"] == 1
        for mode in ("history", "sample"):
            report = store.check_parity("service", mode=mode, budget=100)
            assert report.ok, report
    with FeatureStore(definitions=[delayed]) as store:
        store.apply()
        store.materialize(instants[1])
        early = store.get_online_features("service", [{"k": 1}], instants[1]).to_pylist()
        assert early[0]["n"] == 0


def test_what_was_known_at_an_instant_can_be_asked(tmp_path: Path) -> None:
    pq.write_table(table(1), tmp_path / "x.parquet")
    labels = [{"k": 1, "event_timestamp": AT + 9 * HOUR}]
    path = str(tmp_path / "x.parquet")
    with FeatureStore(definitions=[service(path=path, arrives=Delay("6h"))]) as store:
        for at, n in ((AT + 5 * HOUR, 0), (AT + 6 * HOUR, 1)):
            made = store.get_historical_features(labels, "service", known_at=at)
            assert made.to_pylist()[0]["n"] == n
            assert made.manifest["sources"]["events"]["not_yet_arrived"] == 1 - n
    with (
        FeatureStore(definitions=[service(path=path)]) as store,
        pytest.raises(DataError, match=r'say arrives=Delay\("6h"\)'),
    ):
        store.get_historical_features(labels, "service", known_at=AT)


def test_a_pushed_row_arrives_when_it_is_pushed(tmp_path: Path) -> None:
    pq.write_table(table(1), tmp_path / "x.parquet")
    with FeatureStore(
        definitions=[service(path=str(tmp_path / "x.parquet"), arrives=Delay("6h"))]
    ) as store:
        store.apply()
        store.materialize()
        store.push("events", {"k": 2, "x": 1.0, "at": dt.datetime.now(UTC) - HOUR})
        assert store.get_online_features("service", [{"k": 2}]).to_pylist()[0]["n"] == 1
        assert store.check_parity("service", budget=100).ok


def test_a_delay_ends_with_the_calendar_and_local_times_are_delayed_as_instants(
    tmp_path: Path,
) -> None:
    pq.write_table(table(1, at=dt.datetime(9999, 12, 31, 23, tzinfo=UTC)), tmp_path / "x.parquet")
    made = source(path=str(tmp_path / "x.parquet"), arrives=Delay("6h"))
    assert arrivals(made) == {1: LATEST_US}
    local = table(1).set_column(2, "at", pa.array([dt.datetime(2026, 3, 29, 0, 30)]))
    pq.write_table(local, tmp_path / "y.parquet")
    made = source(path=str(tmp_path / "y.parquet"), timezone="Europe/London", arrives=Delay("1h"))
    assert arrivals(made) == {1: us(dt.datetime(2026, 3, 29, 1, 30, tzinfo=UTC))}


def test_rows_of_a_test_are_delayed_as_rows_of_a_file_are() -> None:
    delayed = service(path="none.parquet", timezone="Europe/London", arrives=Delay("6h"))
    local = AT.replace(tzinfo=None)
    asked = [{"k": 1, "event_timestamp": AT + hours * HOUR} for hours in (5, 6)]
    for at in (AT, local):
        found = values(delayed, {"events": [{"k": 1, "x": 0.5, "at": at}]}, asked)
        assert [row["n"] for row in found] == [0, 1]
    own = {"k": 1, "x": 0.5, "at": AT, "__created": AT + HOUR}
    assert [row["n"] for row in values(delayed, {"events": [own]}, asked)] == [1, 1]


def test_a_delay_is_another_version_of_a_view(tmp_path: Path) -> None:
    pq.write_table(table(1), tmp_path / "x.parquet")
    path, prints = str(tmp_path / "x.parquet"), set[str]()
    for options in ({}, {"arrives": Delay("6h")}, {"arrives": Delay("7h")}):
        with FeatureStore(definitions=[service(path=path, **options)]) as store:
            made = store.get_historical_features([{"k": 1, "event_timestamp": AT}], "service")
            prints.add(made.manifest["fingerprint"])
    assert len(prints) == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"arrives": "6h"}, r'arrives=Delay\("6h"\), or created_timestamp_column='),
        ({"arrives": Delay}, r"arrives is Delay\(…\), Modified\(\) or Commit\(\), found"),
        ({"arrives": Modified}, r"write arrives=Modified\(\), or"),
        (
            {"arrives": Delay("6h"), "created_timestamp_column": "came"},
            "arrives and created_timestamp_column both say",
        ),
        ({"arrives": Commit()}, r"Commit\(\) is about a table that keeps its commits"),
        (
            {"path": "", "origin": Delta("lake"), "arrives": Modified()},
            r"time of a file or an object that path= names; write arrives=Commit\(\)",
        ),
        ({"path": "", "frame": table(1), "arrives": Modified()}, r'write arrives=Delay\("6h"\)'),
    ],
)
def test_what_is_no_arrival_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        source(**{"path": "x.parquet", **options})


@pytest.mark.parametrize("by", ["0s", "-1h", 3, "soon"])
def test_what_is_no_delay_is_refused(by: Any) -> None:
    with pytest.raises(DefinitionError, match="Delay"):
        Delay(by)


# --- the time of a file ---------------------------------------------------------------------------


def put(path: Path, rows: pa.Table, at: dt.datetime) -> Path:
    """Write a file that was last modified at an instant."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(rows, path)
    else:
        pq.write_table(rows, path)
    os.utime(path, ns=(0, us(at) * 1000 + 999))
    return path


def modified(glob: Path, **options: Any) -> EventSource:
    return source(path=str(glob), arrives=Modified(), **options)


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_row_counts_from_the_time_of_its_file_on(tmp_path: Path, ending: str) -> None:
    early = AT - 24 * HOUR
    put(tmp_path / "day=1" / f"x.{ending}", table(1, at=early), AT)
    put(tmp_path / "day=2" / f"x.{ending}", table(2, 3, at=early), AT + HOUR)
    glob = tmp_path / "*" / f"*.{ending}"
    assert arrivals(modified(glob)) == {1: us(AT), 2: us(AT + HOUR), 3: us(AT + HOUR)}
    made = service(path=str(glob), arrives=Modified(), schema=BY_DAY)
    with FeatureStore(definitions=[made], state_folder=tmp_path / "state") as store:
        store.apply()
        store.materialize(AT + HOUR)
        labels = [{"k": k, "event_timestamp": at} for at in (AT, AT + HOUR) for k in range(1, 4)]
        trained = store.get_historical_features(labels, "service")
        assert [row["n"] for row in trained.to_pylist()] == [1, 0, 0, 1, 1, 1]
        files = trained.manifest["sources"]["events"]["files"]
        assert [file["arrived"] for file in files] == [AT.isoformat(), (AT + HOUR).isoformat()]
        for mode in ("history", "sample"):
            report = store.check_parity("service", mode=mode, budget=100)
            assert report.ok, report


def test_what_is_touched_arrived_when_it_did(tmp_path: Path) -> None:
    path, state = put(tmp_path / "x.parquet", table(1), AT), tmp_path / "state"
    assert arrivals(modified(path), state) == {1: us(AT)}
    os.utime(path)
    assert arrivals(modified(path), state) == {1: us(AT)}
    assert arrivals(modified(path), tmp_path / "other") == {1: path.stat().st_mtime_ns // 1000}


def test_a_file_that_was_written_anew_is_refused(tmp_path: Path) -> None:
    """Whatever its time says; another file beside it is read."""
    path, state = put(tmp_path / "x.parquet", table(1), AT), tmp_path / "state"
    glob = tmp_path / "*.parquet"
    arrivals(modified(glob), state)
    put(tmp_path / "y.parquet", table(2), AT + HOUR)
    assert {*arrivals(modified(glob), state)} == {1, 2}
    for at in (AT, AT + 2 * HOUR):
        put(path, table(1, 3), at)
        said = refused(modified(glob), state)
        assert f"{path} has another content than when it was first read" in said
        assert "write new rows to new files, or name a column" in said
        assert str(state / "arrivals" / "events.json") in said
    put(path, table(1), AT + 2 * HOUR)
    assert {*arrivals(modified(glob), state)} == {1, 2}
    kept = {"table": "files", "files": {str(path): 1}}
    (state / "arrivals" / "events.json").write_text(json.dumps(kept))
    assert "remove it if the files have the times that they had" in refused(modified(glob), state)


def test_a_file_does_not_arrive_before_a_reading_that_did_not_find_it(tmp_path: Path) -> None:
    """As one that was moved there, or uploaded in parts. So an incremental run sees its rows."""
    old = dt.datetime.now(UTC) - 2 * HOUR
    put(tmp_path / "x.parquet", table(1, at=old), old)
    made = service(path=str(tmp_path / "*.parquet"), arrives=Modified())
    with FeatureStore(definitions=[made], state_folder=tmp_path / "state") as store:
        store.apply()
        store.materialize()
        begun = time.time_ns() // 1000
        put(tmp_path / "y.parquet", table(2, at=old), old + HOUR)
        store.materialize_incremental()
        rows = store.get_online_features("service", [{"k": 1}, {"k": 2}]).to_pylist()
        assert [row["n"] for row in rows] == [1, 1]
        assert store.check_parity("service", mode="sample", budget=100).ok
        found = arrivals(modified(tmp_path / "*.parquet"), tmp_path / "state")
    assert found[1] == us(old)
    assert us(old + HOUR) < found[2] <= begun


def test_a_plan_keeps_no_time_of_a_file(tmp_path: Path) -> None:
    put(tmp_path / "x.parquet", table(1), AT)
    made = service(path=str(tmp_path / "*.parquet"), arrives=Modified())
    with FeatureStore(definitions=[made], state_folder=tmp_path / "state") as store:
        (checked,) = store.check_sources()
        assert (checked.files, checked.faults) == (1, ())
        assert not [*(tmp_path / "state").rglob("arrivals/*")]


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_who_is_forgotten_in_a_file_moves_no_arrival(tmp_path: Path, ending: str) -> None:
    path, state = put(tmp_path / f"x.{ending}", table(1, 2), AT), tmp_path / "state"
    made = service(path=str(path), arrives=Modified())
    with FeatureStore(definitions=[made], state_folder=state) as store:
        store.apply()
        store.materialize()
        assert store.forget("customer", {"k": 1}, rewrite_files=True).files[0].rewritten
        labels = [{"k": k, "event_timestamp": AT} for k in (1, 2)]
        trained = store.get_historical_features(labels, "service").to_pylist()
        assert [row["n"] for row in trained] == [0, 1]
    assert arrivals(modified(path), state) == {2: us(AT)} == arrivals(modified(path))


def test_a_training_set_is_made_again_with_the_arrivals_that_it_had(tmp_path: Path) -> None:
    path = put(tmp_path / "x.parquet", table(1), AT)
    made = service(path=str(path), arrives=Modified())
    labels = [{"k": 1, "event_timestamp": at} for at in (AT - HOUR, AT, AT + HOUR)]
    with FeatureStore(definitions=[made], state_folder=tmp_path / "state") as store:
        trained = store.get_historical_features(labels, "service")
        trained.to_parquet(tmp_path / "train.parquet")
        assert [row["n"] for row in trained.to_pylist()] == [0, 1, 1]
    os.utime(path)
    with FeatureStore(definitions=[made], state_folder=tmp_path / "other") as store:
        again = store.remake(tmp_path / "train.parquet.manifest.json")
        assert again.to_pylist() == trained.to_pylist()
        assert again.manifest["content_hash"] == trained.manifest["content_hash"]


# --- commits of Delta Lake ------------------------------------------------------------------------


def lake(folder: Path, *parts: pa.Table) -> Path:
    """A Delta Lake table with a version for each part, an hour apart."""
    from deltalake import write_deltalake

    for number, part in enumerate(parts):
        write_deltalake(str(folder), part, mode="append")
        stamp(folder, number, AT + number * HOUR)
    return folder


def stamp(folder: Path, version: int, at: dt.datetime) -> None:
    """Let a version be of an instant."""
    log = folder / "_delta_log" / f"{version:020}.json"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:
        if "commitInfo" in line:
            line["commitInfo"]["timestamp"] = us(at) // 1000
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))


def committed(path: Path, **options: Any) -> EventSource:
    return source(origin=Delta(str(path), **options), arrives=Commit())


def test_a_row_of_a_table_counts_from_its_commit_on(tmp_path: Path) -> None:
    early = AT - 24 * HOUR
    path = lake(tmp_path / "lake", table(1, at=early), table(2, 3, at=early))
    assert arrivals(committed(path)) == {1: us(AT), 2: us(AT + HOUR), 3: us(AT + HOUR)}
    made = service(origin=Delta(str(path)), arrives=Commit())
    with FeatureStore(definitions=[made], state_folder=tmp_path / "state") as store:
        store.apply()
        store.materialize(AT + HOUR)
        labels = [{"k": k, "event_timestamp": at} for at in (AT, AT + HOUR) for k in range(1, 4)]
        trained = store.get_historical_features(labels, "service")
        assert [row["n"] for row in trained.to_pylist()] == [1, 0, 0, 1, 1, 1]
        files = trained.manifest["sources"]["events"]["files"]
        assert sorted(file["arrived"] for file in files) == [
            AT.isoformat(), (AT + HOUR).isoformat(),
        ]  # fmt: skip
        for mode in ("history", "sample"):
            report = store.check_parity("service", mode=mode, budget=100)
            assert report.ok, report


def test_many_files_have_their_own_arrival(tmp_path: Path) -> None:
    path = lake(tmp_path / "lake", *(table(k) for k in range(40)))
    assert arrivals(committed(path)) == {k: us(AT + k * HOUR) for k in range(40)}


def test_a_commit_never_arrives_before_an_earlier_one(tmp_path: Path) -> None:
    path = lake(tmp_path / "lake", table(1), table(2), table(3))
    stamp(path, 1, AT - 5 * HOUR)  # by a clock that was behind
    assert arrivals(committed(path)) == {1: us(AT), 2: us(AT), 3: us(AT + 2 * HOUR)}


def test_arrivals_that_were_read_are_known_when_the_log_is_cut_off(tmp_path: Path) -> None:
    from deltalake import DeltaTable

    path, state = lake(tmp_path / "lake", table(1), table(2)), tmp_path / "state"
    found = arrivals(committed(path), state)
    DeltaTable(str(path)).create_checkpoint()
    for log in (path / "_delta_log").glob("*.json"):
        log.unlink()
    assert arrivals(committed(path), state) == found
    said = refused(committed(path), tmp_path / "other")
    assert "the log does not tell any more when " in said
    assert "name their column with created_timestamp_column=" in said
    (state / "arrivals" / "events.json").write_text("{")
    assert "events.json is damaged, which keeps when files of the table arrived" in refused(
        committed(path), state
    )


def test_a_plan_keeps_no_arrivals(tmp_path: Path) -> None:
    path = lake(tmp_path / "lake", table(1))
    made = service(origin=Delta(str(path)), arrives=Commit())
    with FeatureStore(definitions=[made], state_folder=tmp_path / "state") as store:
        (checked,) = store.check_sources()
        assert (checked.files, checked.faults) == (1, ())
        assert not [*(tmp_path / "state").rglob("arrivals/*")]


@pytest.mark.parametrize("how", ["optimize", "update", "overwrite", "restore"])
def test_a_commit_that_rewrites_rows_is_refused(tmp_path: Path, how: str) -> None:
    from deltalake import DeltaTable, write_deltalake

    path = lake(tmp_path / "lake", table(1), table(2))
    made = DeltaTable(str(path))
    if how == "optimize":
        made.optimize.compact()
    elif how == "restore":
        made.delete("k = 1")
        made.restore(1)  # it removes nothing, and adds what was deleted
    elif how == "update":
        made.update(updates={"x": "9.0"}, predicate="k = 1")
    else:
        write_deltalake(str(path), table(1, 2), mode="overwrite")
    said = refused(committed(path), tmp_path / "state")
    assert f"version {3 if how == 'restore' else 2} rewrote rows, and added " in said
    assert arrivals(committed(path, version=1)) == {1: us(AT), 2: us(AT + HOUR)}


def test_a_commit_that_only_deletes_takes_rows_away(tmp_path: Path) -> None:
    from deltalake import DeltaTable

    path = lake(tmp_path / "lake", table(1), table(2))
    DeltaTable(str(path)).delete("k = 1")  # all of a file, which is removed
    assert arrivals(committed(path)) == {2: us(AT + HOUR)}


# --- snapshots of Iceberg -------------------------------------------------------------------------


def test_a_row_counts_from_its_snapshot_on(tmp_path: Path) -> None:
    made = origins.iceberg_table(tmp_path, table().schema)
    for k in (1, 2):
        made.append(table(k))
    stamps = sorted(s.timestamp_ms * 1000 for s in made.snapshots())
    of = source(
        origin=Iceberg("shop.events", catalog=origins.iceberg_catalog(tmp_path)), arrives=Commit()
    )
    state = tmp_path / "state"
    assert arrivals(of, state) == {1: stamps[0], 2: stamps[1]}
    made.maintenance.expire_snapshots().by_id(min(made.snapshots(), key=_age).snapshot_id).commit()
    assert arrivals(of, state) == {1: stamps[0], 2: stamps[1]}
    assert "the log does not tell any more when " in refused(of)
    made.append(table(3, 4))
    made.delete("k == 4")
    assert "rewrote rows, and added " in refused(of, state)


def test_a_snapshot_never_arrives_before_an_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = origins.iceberg_table(tmp_path, table().schema)
    from pyiceberg.table.update import snapshot as update

    told = [AT, AT - 5 * HOUR, AT - HOUR, AT + 2 * HOUR]  # two by clocks that were behind
    kept = [AT, AT, AT, AT + 2 * HOUR]
    snapshot = update.Snapshot
    for k, at in enumerate(told):
        monkeypatch.setattr(
            update,
            "Snapshot",
            lambda at=at, **given: snapshot(**given, timestamp_ms=us(at) // 1000),
        )
        made.append(table(k))
    assert [one.timestamp_ms * 1000 for one in made.snapshots()] == [*map(us, told)]
    catalog = origins.iceberg_catalog(tmp_path)
    of = source(origin=Iceberg("shop.events", catalog=catalog), arrives=Commit())
    assert arrivals(of) == {k: us(at) for k, at in enumerate(kept)}
    as_it_was = made.snapshots()[1].snapshot_id
    of = Iceberg("shop.events", catalog=catalog, snapshot_id=as_it_was)
    assert arrivals(source(origin=of, arrives=Commit())) == {0: us(AT), 1: us(AT)}


def _age(snapshot: Any) -> int:
    return int(snapshot.timestamp_ms)


def test_rows_that_are_read_through_the_library_have_no_commit(tmp_path: Path) -> None:
    made = origins.iceberg_table(tmp_path, table().schema)
    made.append(table(1))
    with made.update_schema() as change:
        change.rename_column("x", "price")
    of = Iceberg("shop.events", catalog=origins.iceberg_catalog(tmp_path))
    schema = {"k": int, "price": float}
    renamed = EventSource(
        "events", schema=schema, timestamp_field="at", origin=of, arrives=Commit()
    )
    assert "then no commit is told of a row. Name a column" in refused(renamed)


@pytest.mark.parametrize("forged", ["", "delay", "delay x", "delay 0", "delay -1", "never"])
def test_a_plan_that_says_no_arrival_is_refused(forged: str) -> None:
    made = compile_service(service(path="x.parquet", arrives=Delay("6h")))
    verify_service(made)
    (view,) = made.views
    wrong = replace(view, source=replace(view.source, arrives=forged))
    with pytest.raises(Unsound, match="does not say when rows arrive"):
        verify_service(replace(made, views=(wrong,)))
