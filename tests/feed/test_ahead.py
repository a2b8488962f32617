"""Arrivals after the store's clock, as an earlier version took them: the harm and its cure (S3)."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feature_repos import MakeRepo
from slow import slow_unless

from featurekit import FeatureStore
from featurekit.core.keys import clock_key, project_key
from featurekit.core.types import micros
from featurekit.errors import AsOfTooOld, BadRowError, ClocksApart
from featurekit.feed import materialise, push
from featurekit.online.state.seal import is_sealed
from featurekit.online.state.seal import opened as opened_bytes
from featurekit.online.store.redis import RedisStore

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count, Sum

user, shop = Entity("user", {"key": int}), Entity("shop", {"shop": int})

def source(name, **options):
    schema = {"key": int, "shop": int, "n": int, "id": int}
    schema |= {"op": str} if "op" in options else {}
    return EventSource(name, path=f"data/{name}.parquet", schema=schema, timestamp_field="at",
                       created_timestamp_column="arrived", **options)

plain = source("plain")
named = source("named", event_id="id", dedupe_within="10d")
mended = source("mended", event_id="id", op="op", dedupe_within="10d")
WEEK = {"n": Sum("n", window="7d"), "rows": Count(window="7d")}
views = [
    FeatureView("row", entities=[user], source=plain, features={"n": "n"}),
    FeatureView("kept", entities=[user], source=plain, features={"n": "n"}, history="2000d"),
    FeatureView("week", entities=[user], source=plain, features=WEEK),
    FeatureView("both", entities=[user, shop], source=plain, features=WEEK),
    FeatureView("ids", entities=[user], source=named, features=WEEK),
    FeatureView("ops", entities=[user], source=mended, features=WEEK),
]
service = FeatureService("service", features=views)
rows = FeatureService("rows", features=views[:1])
"""
CONFIG = "project: {name}\nprovider: local\nonline_store:\n  type: redis\n"
SOURCES = ("plain", "named", "mended")
NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
FAR = [9 * HOUR, 1100 * DAY]


def event(
    source: str, key: int, number: int, ago: dt.timedelta, *, arrived: dt.timedelta | None = None
) -> dict[str, Any]:
    at = NOW - ago
    row = {"key": key, "shop": key % 2, "n": number, "id": number, "at": at}
    row |= {"arrived": at if arrived is None else NOW + arrived}
    return row | ({"op": "upsert"} if source == "mended" else {})


EVENTS = [
    (source, event(source, key, 10 * key + k, (9 - k) * HOUR))
    for source in SOURCES for key in range(4) for k in range(3)
]  # fmt: skip


def table(source: str, rows: list[dict[str, Any]]) -> pa.Table:
    types = {name: pa.int64() for name in ("key", "shop", "n", "id")}
    types |= dict.fromkeys(("at", "arrived"), pa.timestamp("us", "UTC"))
    types |= {"op": pa.string()} if source == "mended" else {}
    return pa.Table.from_pylist(rows, schema=pa.schema(list(types.items())))


Open = Callable[[str], FeatureStore]


@pytest.fixture
def opened(make_repo: MakeRepo, redis_store: RedisStore, tmp_path: Path) -> Iterator[Open]:
    """Opens the store of a project, which holds EVENTS: the oldest of each entity in files."""
    stores = []

    def open_(name: str) -> FeatureStore:
        files = {s: table(s, [r for of, r in EVENTS if of == s and r["n"] % 10 == 0])
                 for s in SOURCES}  # fmt: skip
        folder = make_repo(MODULE, files, CONFIG.format(name=name))
        folder = folder.rename(tmp_path / name)
        store = FeatureStore(folder, redis_url=redis_store.url)
        stores.append(store)
        store.apply()
        store.materialize(NOW - 30 * DAY)
        for source in SOURCES:
            store.push(source, [r for of, r in EVENTS if of == source and r["n"] % 10])
        return store

    yield open_
    for store in stores:
        store.close()


def poison(store: FeatureStore, key: int, ahead: dt.timedelta, *, sources: Any = SOURCES) -> None:
    """Take a row of each source as an earlier version did, which believed every arrival."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(push, "bound_arrivals", lambda *_: None)
        for source in sources:
            row = event(source, key, 10 * key + 1, HOUR, arrived=ahead)
            # For a source with an op this ends an event from its arrival on.
            store.push(source, [row | {"n": 999}])


def states(store: FeatureStore) -> dict[bytes, bytes | None]:
    """What Redis holds of states and memories, by key without the project's name, and without the
    checksums, which are of the key too."""
    found = {}
    for kind in ("state", "block", "ids"):
        keys = list(store.online.keys(project_key(store.project, kind) + b":"))
        for key, value in zip(keys, store.online.read(keys), strict=True):
            assert value is not None
            found[key.split(b":", 2)[2]] = opened_bytes(key, value) if is_sealed(value) else value
    return found


def answers(store: FeatureStore, keys: list[int]) -> list[dict[str, Any]]:
    return store.get_online_features(
        "service", [{"key": k, "shop": k % 2} for k in keys]
    ).to_pylist()


@pytest.mark.parametrize("ahead", FAR)
def test_one_entity_with_such_an_arrival_does_not_change_what_others_are_answered(
    opened: Open, ahead: dt.timedelta
) -> None:
    store = opened("shop")
    before = answers(store, [0, 1, 2, 3])
    poison(store, 1, ahead)
    rows = [{"key": k, "shop": k % 2} for k in (0, 1, 2, 3)]
    found = store.get_online_features("service", rows)
    clock = store.online.read_at((), clock_key("shop"))[1]
    assert NOW - HOUR < found.as_of <= dt.datetime.fromtimestamp(clock / 1e6 + 1, dt.UTC)
    assert [found.to_pylist()[i] for i in (0, 2, 3)] == [before[i] for i in (0, 2, 3)]
    assert {name: status[1] for name, status in found.status.items()} == {
        name: "PRESENT" if name.startswith("kept") else "ERROR" for name in found.status
    }
    kept = next(name for name in found.status if name.startswith("kept"))
    assert found.columns[kept][1] == before[1][kept]  # its history reaches back to before

    async def awaited() -> Any:
        made = await store.get_online_features_async("service", rows)
        await store.close_async()
        return made

    assert asyncio.run(awaited()).to_pylist() == found.to_pylist()
    # Rows that are read at once, and an instant that the caller names.
    plain = [{"key": k} for k in (0, 1, 2, 3)]
    for as_of in (None, NOW - HOUR):
        found = store.get_online_features("rows", plain, as_of=as_of)
        assert found.columns["n"] == [
            before[0]["row__n"],
            None,
            before[2]["row__n"],
            before[3]["row__n"],
        ]
        assert found.status["n"] == ["PRESENT", "ERROR", "PRESENT", "PRESENT"]
    with pytest.raises(AsOfTooOld, match=r"view 'row'.*after the store's clock.*materialize"):
        store.get_online_features("rows", [{"key": 1}])


@pytest.mark.parametrize("ahead", slow_unless(lambda ahead: ahead == FAR[0], FAR))
def test_a_materialisation_remakes_the_states_and_sets_the_rows_aside(
    opened: Open, ahead: dt.timedelta
) -> None:
    store, twin = opened("shop"), opened("twin")
    poison(store, 1, ahead)
    late = event("plain", 1, 17, HOUR)  # a push that was lost in the state
    for one in (store, twin):
        one.push("plain", [late])
    assert states(store) != states(twin)
    done = store.materialize()
    twin.materialize(done.until)
    assert done.set_aside == 3
    assert {v.view: v.repaired for v in done.views} == dict.fromkeys(
        ("row", "kept", "week", "both", "ids", "ops"), 1
    )
    assert states(store) == states(twin)
    files = (store.state_dir / "quarantine").glob("*.pushed-*.parquet")
    aside = [row for path in files for row in pq.read_table(path).to_pylist()]
    assert [row["n"] for row in aside] == [999] * 3
    assert all("after the store's clock" in row["reason"] for row in aside)
    again = store.materialize()
    assert (again.set_aside, {v.repaired for v in again.views}) == (0, {0})
    assert answers(store, [0, 1, 2, 3]) == answers(twin, [0, 1, 2, 3])
    for mode in ("sample", "history"):
        assert store.check_parity("service", mode=mode, values=2_000).ok


def test_an_incremental_materialisation_remakes_the_states_that_it_comes_by(opened: Open) -> None:
    store, twin = opened("shop"), opened("twin")
    for one in (store, twin):
        one.materialize()
    poison(store, 1, 1100 * DAY)
    late = event("plain", 1, 17, HOUR)
    for one in (store, twin):
        one.push("plain", [{k: v for k, v in late.items() if k != "arrived"}])
    done = store.materialize_incremental()
    assert {v.view: v.repaired for v in done.views}["week"] == 1
    twin.materialize()
    key = [{"key": 1}]
    assert (
        store.get_online_features("rows", key).to_pylist()
        == twin.get_online_features("rows", key).to_pylist()
    )


def test_a_push_to_such_a_state_during_the_run_is_not_lost(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened("shop")
    poison(store, 1, 1100 * DAY)
    real, pushed = materialise._written, []

    def slow(run: Any, *about: Any) -> Any:
        """The run has read the log; a push comes before the state is replaced."""
        if not pushed:
            pushed.append(1)
            for source in SOURCES:
                row = event(source, 1, 18, HOUR)
                store.push(source, [{k: v for k, v in row.items() if k != "arrived"}])
        return real(run, *about)

    monkeypatch.setattr(materialise, "_written", slow)
    store.materialize()
    monkeypatch.undo()
    assert store.check_parity("service", mode="sample", values=2_000).ok
    (found,) = answers(store, [1])
    assert {n: v for n, v in found.items() if n.endswith("rows")} == {
        f"{view}__rows": 4 for view in ("week", "both", "ids", "ops")
    }


def test_forgetting_someone_leaves_no_row_that_arrives_after_the_clock(opened: Open) -> None:
    store, twin = opened("shop"), opened("twin")
    poison(store, 1, 1100 * DAY)
    for one in (store, twin):
        one.forget("user", {"key": 1})
    con = store.parts.connect()
    for view in store.parts.fed():
        relation = store.parts.all_events(con, view)
        held = con.execute(f"SELECT count(*) FROM {relation} WHERE key = 1 AND n = 999").fetchone()
        assert held == (0,)
    con.close()
    for one in (store, twin):
        found = answers(one, [0, 1, 2, 3])
        assert found[1]["week__rows"] == 0
        assert found == answers(twin, [0, 1, 2, 3])


@pytest.mark.parametrize("ahead", FAR)
def test_a_sample_does_not_call_it_agreement(opened: Open, ahead: dt.timedelta) -> None:
    store = opened("shop")
    store.materialize()
    assert store.check_parity("rows", mode="sample", values=100).ok
    poison(store, 1, ahead, sources=["plain"])
    report = store.check_parity("rows", mode="sample", values=100)
    assert not report.ok
    assert {difference.row["key"] for difference in report.differences} == {1}
    assert any("after the store's clock" in note for note in report.notes)


def test_after_a_clock_that_ran_ahead_nothing_is_taken_until_it_is_restarted(opened: Open) -> None:
    store, ahead = opened("shop"), micros(NOW + 1100 * DAY)
    store.materialize()
    before = answers(store, [0, 1, 2, 3])
    row, other = (
        {k: v for k, v in event(source, 2, 19, HOUR).items() if k != "arrived"}
        for source in ("plain", "named")
    )
    store.online.clock = lambda: ahead
    store.apply()
    store.materialize()
    store.push("plain", row)
    store.push("named", other)
    pushes = project_key("shop", "pushes", "plain")
    store.online.open_push(pushes, clock=clock_key("shop")).result()  # and dies
    store.online.clock = None
    held = states(store)
    for refused in (
        lambda: store.push("plain", [row]),
        store.materialize,
        store.apply,
        lambda: store.forget("user", {"key": 3}),
    ):
        with pytest.raises(ClocksApart, match="--restart-clock"):
            refused()
    assert states(store) == held
    found = store.get_online_features("rows", [{"key": 0}, {"key": 2}])
    assert (found.as_of < NOW + HOUR, found.status["n"]) == (True, ["PRESENT", "ERROR"])
    done = store.materialize(restart_clock=True)
    assert (done.set_aside, done.until < NOW + HOUR) == (2, True)
    assert answers(store, [0, 1, 2, 3]) == before
    store.push("plain", [row])
    store.push("named", [other])
    (found,) = answers(store, [2])
    assert (found["week__rows"], found["ids__rows"]) == (4, 4)
    assert store.check_parity("service", mode="sample", values=100).ok
    assert store.materialize_incremental().until < NOW + HOUR
    with pytest.raises(BadRowError):
        store.push("plain", [event("plain", 1, 20, HOUR, arrived=9 * HOUR)])
