"""T11: what a view says whose rows take features from other views, held to the oracle.

Both sides have few keys, instants and arrivals, so that ties, rows that come late and rows that
arrive together are the rule.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterator
from typing import Any

import awkward
import duckdb
import pytest
from agreeing import agree, in_turns
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import Paths, Question, connect, service_of
from slow import slow_unless

from featurekit import Entity, EventSource, FeatureView, feature
from featurekit.aggregates import Count, FirstN, Last, LastN, Sum
from featurekit.core.types import instant
from featurekit.define.definitions import FeatureService

EXAMPLES = settings().max_examples
PERSON = Entity("person", {"person": int})
ITEM = Entity("item", {"item": int})
PAIR = Entity("pair", {"item": int, "shop": str})
KIND = Entity("kind", {"kind": str})
ARRIVES = {"timestamp_field": "at", "created_timestamp_column": "arrived"}


def source(name: str, schema: dict[str, Any], **options: Any) -> EventSource:
    return EventSource(name, path=f"{name}.parquet", schema=schema, **ARRIVES | options)


def view(name: str, of: Any, entity: Entity, features: Any, **options: Any) -> FeatureView:
    how = {"sources": of} if isinstance(of, list) else {"source": of}
    return FeatureView(name, entities=[entity], features=features, **how, **options)


@feature
def worth(qty: int, price: float | None) -> float | None:
    if price is None:
        return None
    return qty * price


@feature
def dear(price: float | None) -> bool:
    return price is not None and price > 1.0


@feature
def with_tax(price: float) -> float:
    return price * 1.2


ORDER = {"person": int | None, "item": int | None, "qty": int}
orders = source("orders", ORDER)
prices = source("prices", {"item": int, "price": float, "kind": str | None})
products = view("products", prices, ITEM, {"price": "price", "kind": "kind", "taxed": with_tax})
kept = view("kept", prices, ITEM, {"price": "price"}, history="7d", ttl="1d")
OF_PRICES = {
    "sum": Sum(worth, window="7d"),
    "rows": Count(window="1d", where=dear),
    "last": LastN("price", n=4, window="7d"),
    "first": FirstN("taxed", n=3, window="1d"),
}
dated = source("dated", {"item": int, "shop": str, "price": float, "arrived": dt.datetime})
at_shops = view("at_shops", dated, PAIR, {"price": "price"}, ttl="7d")
raw = source("raw", {"blob": bytes | None, "shop": str | None, "person": int, "qty": int})
BLOB = Entity("blob", {"shop": str, "blob": bytes})
blobs = source("blobs", {"shop": str, "blob": bytes, "price": float})
of_blobs = view("of_blobs", blobs, BLOB, {"price": "price"})

# --- ids and corrections on both sides ------------------------------------------------------------

IDS = {"event_id": "id", "dedupe_within": "1d"}
named = source("named", {"id": int, **ORDER}, **IDS)
changed = source("changed", {"id": str, "op": str, **ORDER}, **IDS, op="op")
listed = source("listed", {"id": int, "item": int, "price": float}, **IDS)
revised = source("revised", {"id": int, "op": str, "item": int, "price": float}, **IDS, op="op")
by_ids = view("by_ids", listed, ITEM, {"price": "price"})
by_versions = view("by_versions", revised, ITEM, {"price": "price"}, ttl="7d")
OF_IDS = {"sum": Sum(worth, window="7d"), "lasts": LastN("price", n=4, window="7d")}

# --- lists, unions, joins of joined views ---------------------------------------------------------

baskets = source("baskets", {"person": int, "items": list[int], "item": int, "qty": int})
ELEMENT = Entity("element", {"items": int})
tagged = source("tagged", {"item": int, "tags": list[int], "price": float})
ITEMS = Entity("items", {"tags": int})
of_tags = view("of_tags", tagged, ITEMS, {"price": "price"}, explode="tags")
till = source("till", {"who": int | None, "qty": int, "code": int | None})
vendors = source("vendors", {"kind": str, "rate": float})
rates = view("rates", vendors, KIND, {"rate": "rate"})
rated = view(
    "rated",
    prices.join(rates, on="kind"),
    ITEM,
    {"price": "price", "rate": "rate", "kind": "kind"},
)
both_prices = view("both_prices", [prices, {dated: {}}], ITEM, {"price": "price"})


def spent(name: str, of: Any, features: Any = OF_IDS, **options: Any) -> FeatureView:
    return view(name, of, PERSON, features, **options)


SERVICES = {
    "windows": service_of(spent("spent", orders.join(products, on="item"), OF_PRICES)),
    "latest rows": service_of(
        spent(
            "last_order",
            orders.join(kept, on={"item": "item"}, take={"price": "price"}),
            {"price": "price", "worth": worth, "qty": "qty"},
            ttl="7d",
        ),
        view("products", prices, ITEM, {"price": "price"})[["price"]],
    ),
    "by what was taken": service_of(
        view(
            "of_kinds",
            orders.join(products, on="item", take=["kind", "price"]),
            KIND,
            {"rows": Count(window="7d"), "price": Last("price", window="1d")},
        )
    ),
    "two joins": service_of(
        spent(
            "twice",
            orders.join(products, on="item", take=["price", "kind"])
            .join(rates, on="kind")
            .join(kept, on="qty", take={"price": "other"}),
            {
                "lasts": LastN("rate", n=3, window="7d"),
                "others": LastN("other", n=3, window="7d"),
                "sum": Sum(worth, window="1d"),
            },
        )
    ),
    "several keys, bytes": service_of(
        spent(
            "of_raw",
            raw.join(of_blobs, on={"blob": "blob", "shop": "shop"}).join(
                at_shops, on={"item": "qty", "shop": "shop"}, take={"price": "there"}
            ),
            {"lasts": LastN("price", n=3, window="7d"), "there": LastN("there", n=3, window="7d")},
        )
    ),
    "ids": service_of(spent("named_sums", named.join(by_ids, on="item"))),
    "versions of rows": service_of(
        spent("changed_sums", changed.join(by_ids, on="item")),
        spent("changed_last", changed.join(products, on="item", take=["price"]),
              {"price": "price", "qty": "qty"}, ttl="7d")[["price", "qty"]],
    ),
    "versions of the other side": service_of(
        spent("of_versions", orders.join(by_versions, on="item"))
    ),
    "versions of both": service_of(spent("all_versions", changed.join(by_versions, on="item"))),
    "lists": service_of(
        view("of_elements", baskets.join(kept, on="item"), ELEMENT, OF_IDS, explode="items"),
        spent("of_tagged", orders.join(of_tags, on="item")),
    ),
    "unions": service_of(
        spent(
            "united",
            [
                orders.join(kept, on="item"),
                {till.join(products, on="code", take=["price"]): {"person": "who"}},
            ],
        ),
        spent("of_united", orders.join(both_prices, on="item")),
    ),
    "joins of joined rows": service_of(
        spent(
            "of_rated",
            orders.join(rated, on="item"),
            {"rates": LastN("rate", n=4, window="7d"), "sum": Sum(worth, window="7d")},
        )
    ),
}  # fmt: skip
FEW = {
    "person": (1, 2),
    "who": (1, 2),
    "item": (1, 2),
    "code": (1, 2),
    "qty": (1, 2),
    "shop": ("a", "b"),
    "blob": (b"\x00", b"\xff"),
    "kind": ("k", "l"),
    "id": (1, 2, 3),
    "op": ("upsert", "upsert", "delete"),
    "price": (1.0, 2.5, -0.0, 0.1),
    "rate": (0.5, 3.0),
}


def sources_of(service: FeatureService) -> dict[str, EventSource]:
    views = [getattr(v, "view", v) for v in service.features]
    return {name: s for v in views for name, s in v.all_event_sources.items()}


@st.composite
def cases(draw: st.DrawFn, service: FeatureService) -> tuple[Any, list[Question], random.Random]:
    """Rows of every source about few keys at few instants, and questions about these."""
    views = [getattr(v, "view", v) for v in service.features]
    rows: dict[str, list[dict[str, Any]]] = {}
    for name, one in sources_of(service).items():
        rows[name] = draw(awkward.source_events(one, max_size=7, bases=(0,)))
        for row in rows[name]:
            for column, type_ in one.schema.items():
                if column in FEW:
                    pool = FEW[column]
                    if column == "id" and type_.name == "str":
                        pool = tuple(map(str, pool))
                    null = type_.optional and draw(st.integers(0, 5)) == 0
                    row[column] = None if null else draw(st.sampled_from(pool))
                elif type_.item is not None:
                    row[column] = draw(st.lists(st.sampled_from((1, 2)), max_size=3))
            if draw(st.integers(0, 2)):  # near one another, and late by little, so that many meet
                row["__ts"] = draw(st.integers(0, 6))
                row["__created"] = row["__ts"] + draw(st.sampled_from((0, 0, 0, 1, 3, 6, -1)))
            if "arrived" in row:
                row["arrived"] = instant(row["__created"])
    everything = [row for found in rows.values() for row in found]
    at = awkward.instants(everything, awkward.windows(*views))
    ts = sorted(draw(st.lists(at, min_size=1, max_size=3, unique=True)))
    keys = sorted({name for v in views for name in v.join_keys})
    pools = {key: st.sampled_from((*FEW.get(key, (1, 2)), None)) for key in keys}
    who = draw(st.lists(st.fixed_dictionaries(pools), min_size=1, max_size=3))
    questions = [Question(dict(row), t) for t in ts for row in who]
    return rows, questions, random.Random(draw(st.integers(0, 2**32)))


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        yield connection


USUAL = ("versions of both", "two joins")


@pytest.mark.parametrize("name", slow_unless(lambda name: name in USUAL, SERVICES))
def test_what_is_taken_is_what_the_oracle_says_on_both_paths(con: Any, name: str) -> None:
    service = SERVICES[name]

    @settings(max_examples=max(10, EXAMPLES // 6), deadline=None)
    @given(cases(service))
    def check(case: Any) -> None:
        rows, questions, _ = case
        paths = Paths(con, service, rows)
        expected = paths.oracle(questions)
        agree(paths, questions, "offline", expected, paths.offline(questions))
        agree(paths, questions, "filled", expected, paths.by_materialising(questions))
        agree(paths, questions, "pushed", expected, paths.by_pushes_in_order(questions))
        paths.close()

    check()


WITHOUT_IDS = ("windows", "latest rows", "by what was taken", "two joins", "several keys, bytes",
               "lists", "unions", "joins of joined rows")  # fmt: skip


@pytest.mark.parametrize("name", slow_unless(lambda name: name in USUAL, SERVICES))
def test_pushes_and_fills_in_turns_take_what_the_oracle_says(con: Any, name: str) -> None:
    service = SERVICES[name]
    in_order = name not in WITHOUT_IDS

    @settings(max_examples=max(10, EXAMPLES // 6), deadline=None)
    @given(cases(service))
    def check(case: Any) -> None:
        rows, questions, shuffler = case
        paths = Paths(con, service, rows)
        found = in_turns(paths, questions, shuffler, in_order=in_order)
        agree(paths, questions, "in turns", paths.oracle(questions), found)
        paths.close()

    check()
