"""The life of a view of which each element of a list is an event, in a real Redis."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from oracle import bits

from featurekit import FeatureStore

NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count, LastN, Sum

customer = Entity("customer", {"customer": int})
article = Entity("article", {"articles": str})
orders = EventSource(
    "orders", path="orders.parquet", timestamp_field="at", created_timestamp_column="known_at",
    schema={"customer": int, "articles": list[str] | None, "amount": float},
)
invoices = EventSource(
    "invoices", path="invoices.parquet", timestamp_field="at", event_id="id",
    op="change", dedupe_within="30d",
    schema={"id": int, "change": str, "customer": int, "articles": list[str]},
)
bought = FeatureView(
    "bought", entities=[customer], source=orders, explode="articles",
    features={"pieces": Count(window="7d"), "last": LastN("articles", n=3, window="7d")},
)
sold = FeatureView(
    "sold", entities=[article], source=orders, explode="articles",
    features={"times": Count(window="7d"), "revenue": Sum("amount", window="7d")},
)
billed = FeatureView(
    "billed", entities=[article], source=invoices, explode="articles",
    features={"billed": Count(window="30d")},
)
shop = FeatureService("shop", features=[bought])
articles = FeatureService("articles", features=[sold])
bills = FeatureService("bills", features=[billed])
"""


@pytest.fixture
def store(tmp_path: Path, redis_store: Any) -> Iterator[FeatureStore]:
    (tmp_path / "feature_store.yaml").write_text(
        "project: exploded\nprovider: local\nonline_store:\n  type: redis\n"
        "featurekit:\n  serving_log: {to: parquet}\n",
        encoding="utf-8",
    )
    (tmp_path / "definitions.py").write_text(MODULE, encoding="utf-8")
    at = pa.array([NOON, NOON, NOON + dt.timedelta(hours=1)], pa.timestamp("us", tz="UTC"))
    pq.write_table(
        pa.table({
            "customer": [1, 2, 1], "articles": [["tea", "cup"], None, ["tea"]],
            "amount": [5.0, 1.0, 2.5], "at": at, "known_at": at,
        }),
        tmp_path / "orders.parquet",
    )  # fmt: skip
    nothing = pa.schema([("id", pa.int64()), ("change", pa.string()), ("customer", pa.int64()),
                         ("articles", pa.list_(pa.string())), ("at", at.type)])  # fmt: skip
    pq.write_table(nothing.empty_table(), tmp_path / "invoices.parquet")
    with FeatureStore(tmp_path, redis_url=redis_store.url) as opened:
        opened.apply()
        opened.materialize()
        yield opened


def asked(store: FeatureStore, service: str, *rows: dict[str, Any]) -> list[dict[str, Any]]:
    """What both paths say as of now, once they agree in all bits."""
    online = store.get_online_features(service, rows)
    labels = [{**row, "event_timestamp": online.as_of} for row in rows]
    trained = store.get_historical_features(labels, service, statuses=True).to_arrow()
    found = trained.to_pylist(maps_as_pydicts="strict")
    for i, row in enumerate(found):
        for name in online.status:
            told = bits(online.columns[name][i]), online.status[name][i]
            assert told == (bits(row[name]), row[f"{name}__status"]), (rows[i], name)
    return [{name: row[name] for name in online.status} for row in found]


def test_files_pushes_and_fills_make_an_event_of_each_element(store: FeatureStore) -> None:
    labels = [{"articles": name, "event_timestamp": NOON + dt.timedelta(hours=2)}
              for name in ("tea", "cup", "jam")]  # fmt: skip
    trained = store.get_historical_features(labels, "articles").to_pylist()
    assert [(row["times"], row["revenue"]) for row in trained] == [(2, 7.5), (1, 5.0), (0, None)]
    now = dt.datetime.now(dt.UTC)
    order = {"customer": 1, "articles": ["jam", "tea", "jam"], "amount": 0.5, "at": now}
    store.push("orders", [order, order | {"customer": 3, "articles": None}])
    of_tags = [{"articles": name} for name in ("tea", "cup", "jam")]
    pushed = asked(store, "articles", *of_tags)
    assert [row["times"] for row in pushed] == [1, 0, 2]
    of_customers = [{"customer": n} for n in (1, 2, 3)]
    assert asked(store, "shop", *of_customers)[0] == {"pieces": 3, "last": ["jam", "tea", "jam"]}
    for fill in (store.materialize_incremental, store.materialize):
        fill()
        assert asked(store, "articles", *of_tags) == pushed
        assert asked(store, "shop", *of_customers)[0]["last"] == ["jam", "tea", "jam"]


def test_a_correction_concerns_all_elements_of_its_row(store: FeatureStore) -> None:
    now = dt.datetime.now(dt.UTC)
    row = {"id": 1, "change": "upsert", "customer": 1, "articles": ["tea", "cup", "tea"], "at": now}
    of_tags = [{"articles": name} for name in ("tea", "cup", "jam")]
    assert store.push("invoices", [row]).repeated == 0
    assert store.push("invoices", [row]).repeated == 1
    assert [r["billed"] for r in asked(store, "bills", *of_tags)] == [2, 1, 0]
    store.push("invoices", [row | {"articles": ["jam"]}])
    assert [r["billed"] for r in asked(store, "bills", *of_tags)] == [0, 0, 1]
    store.push("invoices", [row | {"articles": [], "change": "delete"}])
    gone = asked(store, "bills", *of_tags)
    assert [r["billed"] for r in gone] == [0, 0, 0]
    store.materialize()
    assert asked(store, "bills", *of_tags) == gone


@pytest.mark.parametrize("mode", ["fuzz", "history", "sample"])
def test_the_modes_of_parity_check_exploded_lists(store: FeatureStore, mode: str) -> None:
    now = dt.datetime.now(dt.UTC)
    row = {"id": 1, "change": "upsert", "customer": 1, "articles": ["tea", "cup"], "at": now}
    store.push("invoices", [row, row | {"id": 2}])
    store.push("invoices", [row | {"articles": ["cup"]}])
    store.push("orders", [{"customer": 4, "articles": ["cup"], "amount": 1.0, "at": now}])
    for service in ("shop", "articles", "bills"):
        report = store.check_parity(service, mode=mode, values=3_000)
        assert report.ok, str(report)
        assert report.compared > 0


def test_an_order_that_came_to_a_file_after_the_fill_is_told_as_lag(
    store: FeatureStore, tmp_path: Path
) -> None:
    at = pa.array([dt.datetime.now(dt.UTC)], pa.timestamp("us", tz="UTC"))
    more = {"customer": [1], "articles": [["tea", "tea"]], "amount": [1.0], "at": at}
    path = tmp_path / "orders.parquet"
    known = pq.read_table(path)
    added = pa.table(more | {"known_at": at}).select(known.column_names).cast(known.schema)
    pq.write_table(pa.concat_tables([known, added]), path)
    store.get_online_features("articles", [{"articles": "tea"}, {"articles": "cup"}])
    store.close()
    report = store.check_parity("articles", mode="replay")
    assert report.ok, str(report)
    assert {n: f.lagging for n, f in report.features.items()} == {
        "sold__times": 1, "sold__revenue": 1,
    }  # fmt: skip


def test_someone_is_forgotten_with_all_elements(store: FeatureStore) -> None:
    now = dt.datetime.now(dt.UTC)
    store.push("orders", [{"customer": 2, "articles": ["tea"], "amount": 1.0, "at": now}])
    store.push("orders", [{"customer": 1, "articles": ["tea", "cup"], "amount": 9.0, "at": now}])
    done = store.forget("customer", {"customer": 1})
    assert done.log_rows == 1
    of_tags = [{"articles": name} for name in ("tea", "cup")]
    assert [r["times"] for r in asked(store, "articles", *of_tags)] == [1, 0]
    assert asked(store, "shop", {"customer": 1})[0] == {"pieces": 0, "last": []}
    assert store.check_parity("articles", mode="sample", values=1_000).ok


def test_a_value_of_elements_is_explained(store: FeatureStore) -> None:
    row = {"customer": 1, "articles": ["tea", "cup"], "amount": 9.0, "at": dt.datetime.now(dt.UTC)}
    store.push("orders", [row])
    made = store.explain("shop", "pieces", {"customer": 1})
    assert made.agree
    assert made.steps[0] == ("events in the window", made.offline[0])
    assert sum(event.counts for event in made.events) == made.offline[0] > 0
