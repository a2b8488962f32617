"""Forgetting an entity that is an element of a list: the rows stay, and their lists lose it."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from oracle import bits

from featurekit import FeatureStore

NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count, LastN, Sum

customer = Entity("customer", {"customer": int})
article = Entity("article", {"articles": str})
orders = EventSource(
    "orders", path="orders/*.parquet", timestamp_field="at", created_timestamp_column="known_at",
    schema={"customer": int, "articles": list[str] | None, "amount": float},
)
invoices = EventSource(
    "invoices", path="invoices/*.parquet", timestamp_field="at", event_id="id",
    created_timestamp_column="known_at", op="change", dedupe_within="3000d",
    schema={"id": int, "change": str, "customer": int, "articles": list[str]},
)
bought = FeatureView(
    "bought", entities=[customer], source=orders, explode="articles",
    features={"pieces": Count(window="3000d"), "last": LastN("articles", n=3, window="3000d")},
)
ordered = FeatureView(
    "ordered", entities=[customer], source=orders, history="3000d",
    features={"newest": "articles", "paid": "amount"},
)
sold = FeatureView(
    "sold", entities=[article], source=orders, explode="articles",
    features={
        "times": Count(window="3000d"), "revenue": Sum("amount", window="3000d"),
        "amounts": LastN("amount", n=5, window="3000d"),
    },
)
billed = FeatureView(
    "billed", entities=[article], source=invoices, explode="articles",
    features={"billed": Count(window="3000d")},
)
billed_to = FeatureView(
    "billed_to", entities=[customer], source=invoices, explode="articles",
    features={"bills": LastN("articles", n=9, window="3000d")},
)
shop = FeatureService("shop", features=[bought, ordered, billed_to])
articles = FeatureService("articles", features=[sold, billed])
"""

Row = dict[str, Any]
ORDERS = [
    (1, ["tea", "cup", "tea", "jam"], 5.0, 0),
    (1, ["cup", "tea"], 5.0, 0),  # one instant: T6 orders by the list
    (2, None, 1.0, 0),
    (2, ["tea"], 2.0, 1),
    (3, [], 3.0, 1),
    (1, ["jam"], 0.1, 2),
]
INVOICES = [
    (1, "upsert", 1, ["tea", "cup"], 0),
    (1, "upsert", 1, ["tea", "jam"], 1),
    (2, "upsert", 2, ["cup"], 1),
    (2, "upsert", 2, ["tea"], 2),
    (3, "upsert", 3, ["tea", "tea", "cup"], 2),
]


def orders(without: str | None = None) -> list[Row]:
    return [
        {"customer": c, "articles": cut(a, without), "amount": m, "at": NOON + DAY * d,
         "known_at": NOON + DAY * d}
        for c, a, m, d in ORDERS
    ]  # fmt: skip


def invoices(without: str | None = None) -> list[Row]:
    return [
        {"id": i, "change": o, "customer": c, "articles": cut(a, without), "at": NOON + DAY * d,
         "known_at": NOON + DAY * d}
        for i, o, c, a, d in INVOICES
    ]  # fmt: skip


def cut(elements: list[str] | None, without: str | None) -> list[str] | None:
    return None if elements is None else [one for one in elements if one != without]


SCHEMAS = {
    "orders": pa.schema([
        ("customer", pa.int64()), ("articles", pa.list_(pa.string())), ("amount", pa.float64()),
        ("at", pa.timestamp("us", "UTC")), ("known_at", pa.timestamp("us", "UTC"))]),
    "invoices": pa.schema([
        ("id", pa.int64()), ("change", pa.string()), ("customer", pa.int64()),
        ("articles", pa.list_(pa.string())),
        ("at", pa.timestamp("us", "UTC")), ("known_at", pa.timestamp("us", "UTC"))]),
}  # fmt: skip


def write(folder: Path, name: str, rows: list[Row], file: str = "a") -> None:
    (folder / name).mkdir(exist_ok=True)
    table = pa.Table.from_pylist(rows, SCHEMAS[name])
    pq.write_table(table, folder / name / f"{file}.parquet", row_group_size=2)


Make = Callable[..., FeatureStore]


@pytest.fixture
def make(tmp_path: Path, redis_store: Any) -> Iterator[Make]:
    opened: list[FeatureStore] = []
    numbers = itertools.count()

    def made(module: str = MODULE, **rows: list[Row]) -> FeatureStore:
        n = next(numbers)
        folder = tmp_path / str(n)
        folder.mkdir()
        (folder / "feature_store.yaml").write_text(
            f"project: elements{n}\nprovider: local\nonline_store:\n  type: redis\n",
            encoding="utf-8",
        )
        (folder / "definitions.py").write_text(module, encoding="utf-8")
        for name, schema in SCHEMAS.items():
            write(folder, name, rows.get(name, []))
            assert schema
        store = FeatureStore(folder, redis_url=redis_store.url)
        opened.append(store)
        store.apply()
        store.materialize()
        return store

    yield made
    for store in opened:
        store.close()


ASKED = {
    "articles": [{"articles": name} for name in ("tea", "cup", "jam", "none")],
    "shop": [{"customer": n} for n in (1, 2, 3, 4)],
}


def values(store: FeatureStore) -> list[Any]:
    """What both paths say as of now, in bits, once they agree."""
    found = []
    for service, rows in ASKED.items():
        online = store.get_online_features(service, rows)
        labels = [{**row, "event_timestamp": online.as_of} for row in rows]
        trained = store.get_historical_features(labels, service, statuses=True).to_arrow()
        made = trained.to_pylist()
        for i, row in enumerate(made):
            told = {n: (bits(online.columns[n][i]), online.status[n][i]) for n in online.status}
            assert told == {n: (bits(row[n]), row[f"{n}__status"]) for n in told}, (rows[i], told)
            found.append((service, rows[i], told))
    return found


def dates(store: FeatureStore) -> list[Any]:
    """The training set at each instant of the data."""
    found = []
    for (service, rows), day in itertools.product(ASKED.items(), range(4)):
        labels = [{**row, "event_timestamp": NOON + DAY * day} for row in rows]
        made = store.get_historical_features(labels, service, statuses=True).to_arrow()
        found += [{k: bits(v) for k, v in row.items()} for row in made.to_pylist()]
    return found


def check(store: FeatureStore, expected: FeatureStore) -> None:
    assert values(store) == values(expected)
    assert dates(store) == dates(expected)
    for mode, service in itertools.product(("sample", "history", "replay"), ASKED):
        if mode != "replay":
            report = store.check_parity(service, mode=mode, values=500)
            assert report.ok, str(report)


@pytest.mark.parametrize("pushed", ["orders", "invoices", "both", "none"])
def test_both_paths_are_as_if_the_element_had_never_been_in_the_lists(
    make: Make, pushed: str
) -> None:
    """What is expected comes from rows whose lists were written without the element."""
    rows = {"orders": orders(), "invoices": invoices()}
    filed = {n: all_ for n, all_ in rows.items() if pushed not in (n, "both")}
    store = make(**filed)
    for name, all_ in rows.items():
        if name not in filed:
            store.push(name, all_)
    done = store.forget("article", {"articles": "tea"})
    logged = [row for n, all_ in rows.items() if n not in filed for row in all_]
    assert done.log_rows == sum("tea" in (row["articles"] or ()) for row in logged)
    expected = make(orders=orders("tea"), invoices=invoices("tea"))
    check(store, expected)
    store.materialize()
    check(store, expected)
