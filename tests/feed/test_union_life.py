"""The life of a view over two sources, in a real Redis: files of other columns and zones, pushes to
either, increments, ids, forgetting, checks of parity (T11)."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from oracle import bits

from featurekit import FeatureStore
from featurekit.core.keys import state_prefix
from featurekit.core.types import micros
from featurekit.define.plan import View
from featurekit.errors import OnlineError
from featurekit.online.state.seal import opened
from featurekit.project.leases import alone

NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count, Last, LastN, Sum

customer = Entity("customer", {"customer": int})
screen = Entity("screen", {"screen": str})
web = EventSource(
    "web", path="web/*.parquet", timezone="Europe/London", on_bad_row="quarantine",
    schema={"customer": int | None, "amount": float, "url": str},
    timestamp_field="at", created_timestamp_column="known_at",
)
app = EventSource(
    "app", path="app.parquet", timezone="Asia/Kolkata",
    schema={"user": int | None, "screen": str, "price": float},
    timestamp_field="when", created_timestamp_column="stored_at",
)
both = [web, {app: {"customer": "user", "amount": "price"}}]
spent = FeatureView(
    "spent", entities=[customer], sources=both,
    features={"total": Sum("amount", window="7d"), "last": LastN("amount", n=3, window="7d")},
)
latest = FeatureView(
    "latest", entities=[customer], sources=both, features={"amount": "amount"},
)
screens = FeatureView(
    "screens", entities=[screen], source=app, features={"seen": Count(window="30d")},
)
shop = FeatureService("shop", features=[spent, latest])
screens_of = FeatureService("screens_of", features=[screens])

orders = EventSource(
    "orders", path="orders.csv",
    schema={"id": int, "change": str, "customer": int, "amount": float, "note": str | None},
    timestamp_field="at", event_id="id", op="change", dedupe_within="30d",
)
bookings = EventSource(
    "bookings", path="bookings.parquet",
    schema={"id": str, "kind": str, "customer": int, "amount": float},
    timestamp_field="at", event_id="id", op="kind", dedupe_within="30d",
)
ordered = FeatureView(
    "ordered", entities=[customer], sources=[orders, bookings],
    features={"sum": Sum("amount", window="30d"), "rows": Count(window="30d")},
)
ids = FeatureService("ids", features=[ordered])
"""


def web_rows(*rows: tuple[int | None, float, float], late: float = 0) -> pa.Table:
    """Rows of the web: a customer, an amount, and how many hours after NOON it happened."""
    at = [(NOON + h * HOUR).astimezone(dt.UTC).replace(tzinfo=None) for _, _, h in rows]
    return pa.table({
        "customer": pa.array([who for who, _, _ in rows], pa.int64()),
        "amount": pa.array([amount for _, amount, _ in rows], pa.float64()),
        "url": pa.array(["/"] * len(rows), pa.string()),
        "at": pa.array(at, pa.timestamp("us")),  # in winter London has the time of UTC
        "known_at": pa.array([t + late * HOUR for t in at], pa.timestamp("us")),
    })  # fmt: skip


def app_rows(*rows: tuple[int, float, float]) -> pa.Table:
    """Rows of the app, as `web_rows`, with local times of its own zone."""
    at = [(NOON + (h + 5.5) * HOUR).replace(tzinfo=None) for _, _, h in rows]
    return pa.table({
        "user": pa.array([who for who, _, _ in rows], pa.int64()),
        "screen": pa.array(["home"] * len(rows), pa.string()),
        "price": pa.array([amount for _, amount, _ in rows], pa.float64()),
        "when": pa.array(at, pa.timestamp("us")),
        "stored_at": pa.array(at, pa.timestamp("us")),
    })  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "feature_store.yaml").write_text(
        "project: unions\nprovider: local\nonline_store:\n  type: redis\n"
        "featurekit:\n  serving_log: {to: parquet}\n",
        encoding="utf-8",
    )
    (tmp_path / "definitions.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "web").mkdir()
    pq.write_table(web_rows((1, 1.0, 0), (2, 2.0, 0), (None, 9.0, 0)), tmp_path / "web/a.parquet")
    pq.write_table(app_rows((1, 10.0, 1), (3, 30.0, 1)), tmp_path / "app.parquet")
    (tmp_path / "orders.csv").write_text("id,change,customer,amount,note,at\n", encoding="utf-8")
    return tmp_path


@pytest.fixture
def store(folder: Path, redis_store: Any) -> Iterator[FeatureStore]:
    with FeatureStore(folder, redis_url=redis_store.url) as opened_store:
        opened_store.apply()
        opened_store.materialize()
        yield opened_store


def asked(store: FeatureStore, service: str, *who: int, at: dt.datetime | None = None) -> Any:
    """What both paths say of customers, as of now or an instant, once they agree in all bits."""
    rows = [{"customer": one} for one in who]
    online = store.get_online_features(service, rows, as_of=at)
    labels = [{**row, "event_timestamp": online.as_of} for row in rows]
    trained = store.get_historical_features(labels, service, statuses=True).to_arrow()
    found = trained.to_pylist(maps_as_pydicts="strict")
    for i, row in enumerate(found):
        for name in online.status:
            told = bits(online.columns[name][i]), online.status[name][i]
            assert told == (bits(row[name]), row[f"{name}__status"]), (who[i], name)
    return [{name: row[name] for name in online.status} for row in found]


def kept(store: FeatureStore, view: str) -> dict[bytes, bytes]:
    """The bytes of the view's states, by what names their entities."""
    fed = next(v for v in store.parts.fed() if v.name == view)
    return states(store, fed)


def states(store: FeatureStore, view: View) -> dict[bytes, bytes]:
    online, prefix = store.parts.online, state_prefix(store.parts.name, view)
    keys = list(online.keys(prefix))
    found = {
        key: opened(key, value or b"") for key, value in zip(keys, online.read(keys), strict=True)
    }
    return {key[len(prefix) :]: value for key, value in found.items() if value is not None}


AT = NOON + 2 * HOUR


def test_files_of_both_sources_are_events_of_the_view(store: FeatureStore) -> None:
    one, two, three, four = asked(store, "shop", 1, 2, 3, 4)
    assert (one["amount"], two["amount"], three["amount"], four["amount"]) == (
        10.0,
        2.0,
        30.0,
        None,
    )
    labels = [{"customer": n, "event_timestamp": AT} for n in (1, 2, 3, 4)]
    trained = store.get_historical_features(labels, "shop").to_pylist()
    assert [row["total"] for row in trained] == [11.0, 2.0, 30.0, None]
    assert [row["last"] for row in trained] == [[1.0, 10.0], [2.0], [30.0], []]


def test_a_push_to_either_source_reaches_the_view_and_is_kept_by_a_fill(
    store: FeatureStore,
) -> None:
    now = dt.datetime.now(dt.UTC)
    store.push("web", [{"customer": 1, "amount": 0.5, "url": "/x", "at": now}])
    store.push("app", [{"user": 1, "screen": "home", "price": 0.25, "when": now}])
    store.push("app", [{"user": 9, "screen": "home", "price": -0.0, "when": now}])
    pushed = asked(store, "shop", 1, 9, 2)
    assert [row["total"] for row in pushed] == [0.75, 0.0, None]
    assert [bits(row["amount"]) for row in pushed] == [bits(0.25), bits(-0.0), bits(2.0)]
    before = {name: kept(store, name) for name in ("spent", "latest")}
    store.materialize()
    assert asked(store, "shop", 1, 9, 2) == pushed
    assert {name: kept(store, name) for name in before} == before


def test_increments_bring_what_came_to_the_files_and_logs_of_each_source(
    store: FeatureStore, folder: Path
) -> None:
    late = (dt.datetime.now(dt.UTC) - NOON) / HOUR - 1.5  # it arrives now
    pq.write_table(web_rows((1, 5.0, 1.5), late=late), folder / "web/b.parquet")
    done = store.materialize_incremental()
    assert {one.view: one.events for one in done.views} == {
        "spent": 1, "latest": 1, "screens": 0, "ordered": 0,
    }  # fmt: skip
    assert asked(store, "shop", 1)[0]["amount"] == 5.0
    anew = {name: kept(store, name) for name in ("spent", "latest")}
    store.materialize()
    assert {name: kept(store, name) for name in anew} == anew


@pytest.mark.parametrize("source", ["web", "app"])
def test_an_increment_brings_what_only_the_log_of_one_source_has(
    store: FeatureStore, source: str
) -> None:
    """As where a push died between the log and the states, before the last fill."""
    at = micros(dt.datetime.now(dt.UTC)) - 60_000_000
    rows = {
        "web": {"customer": 2, "amount": 7.0, "url": "/"},
        "app": {"user": 2, "price": 7.0, "screen": "home"},
    }
    definition = store.parts.source(source)
    store.parts.log.keep(definition, [rows[source] | {"__ts": at, "__created": at}])
    done = {one.view: one.events for one in store.materialize_incremental().views}
    assert done["spent"] == done["latest"] == 1
    assert asked(store, "shop", 2)[0] == {"total": 7.0, "last": [7.0], "amount": 7.0}
    store.materialize_incremental()
    before = {name: kept(store, name) for name in ("spent", "latest")}
    store.materialize()
    assert {name: kept(store, name) for name in before} == before


def test_bad_rows_are_set_aside_by_source_and_stand_in_the_manifest(
    store: FeatureStore, folder: Path, tmp_path: Path
) -> None:
    broken = web_rows((4, 4.0, 0)).set_column(2, "url", pa.array([None], pa.string()))
    pq.write_table(broken, folder / "web/b.parquet")
    assert store.materialize().bad_rows["web"] == 1
    labels = [{"customer": 1, "event_timestamp": AT}]
    out = tmp_path / "train.parquet"
    store.get_historical_features(labels, "shop").to_parquet(out)
    manifest = json.loads(Path(f"{out}.manifest.json").read_text(encoding="utf-8"))
    assert {n: (s["rows"], s["quarantined"]) for n, s in manifest["sources"].items()} == {
        "web": (3, 1), "app": (2, 0),
    }  # fmt: skip
    store.remake(f"{out}.manifest.json").to_parquet(tmp_path / "again.parquet")
    again = json.loads((tmp_path / "again.parquet.manifest.json").read_text(encoding="utf-8"))
    assert again["content_hash"] == manifest["content_hash"]


def test_ids_are_per_source_and_a_correction_reaches_its_own_alone(store: FeatureStore) -> None:
    now = dt.datetime.now(dt.UTC)
    order = {"id": 7, "change": "upsert", "customer": 1, "amount": 1.0, "note": "a", "at": now}
    booking = {"id": "7", "kind": "upsert", "customer": 1, "amount": 10.0, "at": now}
    store.push("orders", [order])
    store.push("bookings", [booking])
    assert asked(store, "ids", 1)[0] == {"sum": 11.0, "rows": 2}
    assert store.push("orders", [order]).repeated == 1
    # A row that differs in a column that only its source has is another version.
    assert store.push("orders", [order | {"note": "b"}]).repeated == 0
    store.push("orders", [order | {"amount": 2.0}])
    assert asked(store, "ids", 1)[0] == {"sum": 12.0, "rows": 2}
    store.push("bookings", [booking | {"kind": "delete"}])
    assert asked(store, "ids", 1)[0] == {"sum": 2.0, "rows": 1}
    before = kept(store, "ordered")
    store.materialize()
    assert asked(store, "ids", 1)[0] == {"sum": 2.0, "rows": 1}
    assert kept(store, "ordered") == before


@pytest.mark.parametrize("mode", ["fuzz", "history", "sample"])
def test_the_modes_of_parity_check_a_union(store: FeatureStore, mode: str) -> None:
    now = dt.datetime.now(dt.UTC)
    store.push("app", [{"user": 2, "screen": "home", "price": 4.0, "when": now}])
    order = {"id": 7, "change": "upsert", "customer": 1, "amount": 1.0, "note": "a", "at": now}
    store.push("orders", [order, order | {"amount": 2.0, "id": 8}])
    store.push("bookings", [{"id": "7", "kind": "upsert", "customer": 2, "amount": 3.0, "at": now}])
    store.push("orders", [order | {"change": "delete"}])
    for service in ("shop", "ids"):
        report = store.check_parity(service, mode=mode, values=4_000)
        assert report.ok, str(report)
        assert report.compared > 0


def test_what_was_served_of_a_union_is_replayed(folder: Path, redis_store: Any) -> None:
    with FeatureStore(folder, redis_url=redis_store.url) as served:
        served.apply()
        served.materialize()
        for price in (4.0, -0.0, 2.5):
            now = dt.datetime.now(dt.UTC)
            served.push("app", [{"user": 2, "screen": "home", "price": price, "when": now}])
            served.push("web", [{"customer": 3, "amount": price, "url": "/", "at": now}])
            served.get_online_features("shop", [{"customer": n} for n in (1, 2, 3, 4)])
        served.close()
        report = served.check_parity("shop", mode="replay")
    assert report.ok, str(report)
    assert report.compared == 3 * 4 * 3


def test_a_row_of_a_file_that_came_after_the_fill_is_told_as_lag(
    folder: Path, redis_store: Any
) -> None:
    with FeatureStore(folder, redis_url=redis_store.url) as served:
        served.apply()
        served.materialize()
        late = (dt.datetime.now(dt.UTC) - NOON) / HOUR - 1.5  # it arrives now, and is not filled
        pq.write_table(web_rows((1, 5.0, 1.5), late=late), folder / "web/b.parquet")
        served.get_online_features("shop", [{"customer": n} for n in (1, 2)])
        served.close()
        report = served.check_parity("shop", mode="replay")
    assert report.ok, str(report)
    assert report.features["latest__amount"].lagging == 1


def test_forgetting_someone_removes_the_rows_of_each_source_by_its_own_column(
    store: FeatureStore, folder: Path, redis_store: Any
) -> None:
    now = dt.datetime.now(dt.UTC)
    store.push("web", [{"customer": 1, "amount": 0.5, "url": "/x", "at": now}])
    store.push("app", [
        {"user": 1, "screen": "home", "price": 0.25, "when": now},
        {"user": 2, "screen": "home", "price": 8.0, "when": now},
    ])  # fmt: skip
    done = store.forget("customer", {"customer": 1})
    assert {file.path.rpartition("/")[2]: file.rows for file in done.files} == {
        "a.parquet": 1, "app.parquet": 1,
    }  # fmt: skip
    assert done.log_rows == 2
    assert sorted(done.states.values()) == [1, 1]
    assert done.repaired[next(k for k in done.repaired if k.startswith("screens:"))] == 1
    assert asked(store, "shop", 1, 2)[0] == {"total": None, "last": [], "amount": None}
    assert asked(store, "shop", 1, 2)[1]["amount"] == 8.0
    seen = store.get_online_features("screens_of", [{"screen": "home"}])
    assert seen.columns["seen"] == [1]  # that of customer 2
    before = {name: kept(store, name) for name in ("spent", "latest")}
    store.materialize()
    assert {name: kept(store, name) for name in before} == before
    labels = [{"customer": 1, "event_timestamp": AT}]
    assert store.get_historical_features(labels, "shop").to_pylist()[0]["total"] is None
    for service in ("shop", "screens_of"):
        assert store.check_parity(service, mode="sample", values=2_000).ok


def test_forgetting_with_rewritten_files_takes_the_rows_out_of_both(
    store: FeatureStore, folder: Path
) -> None:
    store.forget("customer", {"customer": 1}, rewrite_files=True)
    assert pq.read_table(folder / "app.parquet").column("user").to_pylist() == [3]
    assert pq.read_table(folder / "web/a.parquet").column("customer").to_pylist() == [2, None]


def test_what_the_store_shows_of_a_union_names_its_sources(store: FeatureStore) -> None:
    items = {(one.kind, one.name): one for one in store.catalog()}
    assert items["view", "spent"].details["source"] == "web and app"
    assert items["source", "app"].details["views"] == ["spent", "latest", "screens"]
    assert [c.source for c in store.check_sources()] == ["app", "bookings", "orders", "web"]
    assert not any(check.faults for check in store.check_sources())
    explained = store.explain("shop", "total", {"customer": 1}, AT)
    assert [event.row["amount"] for event in explained.events if event.counts] == [1.0, 10.0]
    assert "over web and app" in explained.definition


@pytest.mark.parametrize("source", ["web", "app"])
def test_a_fill_does_not_begin_while_another_works_on_any_of_its_sources(
    store: FeatureStore, source: str
) -> None:
    parts = store.parts
    with (
        alone(parts.online, parts.name, source, "forget"),
        pytest.raises(OnlineError, match=f"source '{source}'"),
    ):
        store.materialize(views=["spent"])
