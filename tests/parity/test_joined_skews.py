"""Skews of what rows take from other views, planted one by one: each is seen (T11)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import duckdb
import pytest
from paths import Paths, Question, connect, service_of

from featurekit import Entity, EventSource, FeatureView
from featurekit.aggregates import LastN
from featurekit.feed import enrich
from featurekit.offline import enriched

PERSON, ITEM = Entity("person", {"person": int}), Entity("item", {"item": int})
STAMPS = {"timestamp_field": "at", "created_timestamp_column": "arrived"}
IDS = {"event_id": "id", "op": "op", "dedupe_within": "1d"}
VERSION = {"id": int, "op": str}
orders = EventSource(
    "orders",
    path="o.parquet",
    schema={"person": int, "item": int | None, "qty": int},
    **STAMPS,
)
prices = EventSource("prices", path="p.parquet", schema={"item": int, "price": float}, **STAMPS)
revised = EventSource(
    "revised", path="r.parquet", schema={**VERSION, "item": int, "price": float}, **STAMPS, **IDS
)
products = FeatureView(
    "products", entities=[ITEM], source=prices, features={"price": "price"}, ttl="20us"
)
versions = FeatureView(
    "versions", entities=[ITEM], source=revised, features={"price": "price"}, history="1d"
)
taking = FeatureView(
    "taking",
    entities=[PERSON],
    source=orders.join(products, on="item").join(versions, on="item", take={"price": "other"}),
    features={
        "prices": LastN("price", n=50, window="1d"),
        "others": LastN("other", n=50, window="1d"),
    },
)
SERVICE = service_of(taking)


def row(ts: int, created: int, **values: Any) -> dict[str, Any]:
    return {**values, "__ts": ts, "__created": created}


def price(value: float, ts: int, created: int, item: int = 1) -> dict[str, Any]:
    return row(ts, created, item=item, price=value)


def version(id_: int, op: str, value: float, ts: int, created: int) -> dict[str, Any]:
    return row(ts, created, id=id_, op=op, item=1, price=value)


ROWS = {
    "orders": [
        row(5, 5, person=1, item=1, qty=0),
        row(10, 10, person=1, item=1, qty=1),
        row(12, 16, person=1, item=1, qty=2),
        row(20, 20, person=1, item=1, qty=3),
        row(21, 21, person=1, item=None, qty=4),
        row(22, 22, person=1, item=2, qty=5),
        row(41, 41, person=1, item=1, qty=6),
        row(50, 50, person=1, item=1, qty=7),
    ],
    "prices": [
        price(1.0, 5, 5),
        price(2.0, 10, 10),  # at the instant of an order
        price(3.0, 11, 16),  # known to the order that came late
        price(3.5, 11, 14),
        price(4.0, 12, 17),  # not known to it
        price(5.0, 14, 14),  # had not happened
        price(6.0, 20, 30),  # comes late
        price(7.0, 21, 21, item=2),
        price(8.0, 21, 21),  # as old as the ttl at 41
        price(0.5, 49, 49),
        price(0.25, 49, 49),  # tied
    ],
    "revised": [
        version(1, "upsert", 1.0, 4, 4),
        version(2, "upsert", 2.0, 9, 9),
        version(2, "upsert", 3.0, 9, 11),
        version(2, "delete", 0.0, 9, 18),
        version(3, "upsert", 4.0, 19, 19),
        version(3, "delete", 4.0, 19, 20),
        version(4, "upsert", 5.0, 30, 30),
    ],
}
QUESTIONS = [Question({"person": 1}, t) for t in (5, 10, 16, 20, 22, 41, 50, 60)]


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        yield connection


def parts(con: Any, path: str) -> list[Any]:
    """Where a path parts from the oracle."""
    paths = Paths(con, SERVICE, ROWS)
    expected = paths.oracle(QUESTIONS)
    asked = {
        "offline": paths.offline,
        "filled": paths.by_materialising,
        "pushed": paths.by_pushes_in_order,
    }
    found = paths.shown(QUESTIONS, expected, asked[path](QUESTIONS))
    paths.close()
    return found


@pytest.mark.parametrize("path", ["offline", "filled", "pushed"])
def test_without_a_skew_every_path_says_what_the_oracle_says(con: Any, path: str) -> None:
    assert parts(con, path) == []


def test_every_way_of_finding_a_row_is_taken(con: Any) -> None:
    paths = Paths(con, SERVICE, ROWS)
    paths.by_pushes_in_order(QUESTIONS[-1:])
    assert paths.asked > 0
    paths.close()


def known_if(condition: Callable[[Any, Any, int], bool]) -> Callable[..., bool]:
    """What takes another event for known, given the event, the row and the event's end."""
    return lambda view, event, of: condition(event, of, enrich._end(view, event))


PUSHED: dict[str, tuple[str, Any]] = {
    "the arrival is not looked at": (
        "_is_known",
        known_if(lambda e, r, end: e[0] <= r["__ts"] and end > r["__created"]),
    ),
    "the instant is not looked at": (
        "_is_known",
        known_if(lambda e, r, end: e[1] <= r["__created"] < end),
    ),
    "an event of the same instant is left out": (
        "_is_known",
        known_if(lambda e, r, end: e[0] < r["__ts"] and e[1] <= r["__created"] < end),
    ),
    "one that arrives together is left out": (
        "_is_known",
        known_if(lambda e, r, end: e[0] <= r["__ts"] and e[1] < r["__created"] < end),
    ),
    "the arrival is compared with the instant": (
        "_is_known",
        known_if(lambda e, r, end: e[0] <= r["__ts"] and e[1] <= r["__ts"] < end),
    ),
    "the end is not looked at": (
        "_is_known",
        known_if(lambda e, r, end: e[0] <= r["__ts"] and e[1] <= r["__created"]),
    ),
    "what is over at the arrival still counts": (
        "_is_known",
        known_if(lambda e, r, end: e[0] <= r["__ts"] and e[1] <= r["__created"] <= end),
    ),
    "the horizon is not looked at": (
        "told_by",
        lambda state, of: (enrich.last_known(state.view, state.events, of),),
    ),
    "the first one is taken": (
        "last_known",
        lambda view, events, of: next((e for e in events if enrich._is_known(view, e, of)), None),
    ),
    "the ttl is not looked at": (
        "_taken",
        lambda join, of, event: dict.fromkeys(join.names, None if event is None else event[2][0]),
    ),
    "ties are in the order of the log": ("_in_order", lambda view, events: list(events)),
}


@pytest.mark.parametrize("name", PUSHED)
def test_a_skew_of_pushes_is_seen(con: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    target, planted = PUSHED[name]
    if name == "the first one is taken" or name == "ties are in the order of the log":
        monkeypatch.setattr(enrich, "told_by", lambda state, of: None)
    monkeypatch.setattr(enrich, target, planted)
    assert parts(con, "pushed")


def text(target: str, old: str, new: str) -> tuple[str, Callable[..., str]]:
    """What changes the SQL that a function gives."""
    made = getattr(enriched, target)

    def changed(*arguments: Any) -> str:
        return re.sub(old, new, made(*arguments))

    return target, changed


OFFLINE = {
    "late rows are not compared": text("_is_late", "^.+$", "FALSE"),
    "what is over is not compared": text("_is_late", r" OR __end <= __b", ""),
    "one that arrives together is left out": text(
        "_general_sql", r"e\.__created <= q", "e.__created < q"
    ),
    "an event of the same instant is left out": text("_last_sql", r"q\.__a >= e\.", "q.__a > e."),
    "the general join has no arrival": text("_general_sql", r" AND e\.__created <= q\.__b", ""),
    "the general join has no instant": text("_general_sql", r" AND e\.__ts <= q\.__a", ""),
    "the general join has no end": text("_general_sql", r" AND e\.__end > q\.__b", ""),
    "the ttl is not looked at": text("_taken_sql", r"CASE WHEN .* THEN (s\d+) END", r"\1"),
    "as old as the ttl is taken": text("_taken_sql", "__ts > ", "__ts >= "),
    "the first of tied rows is taken": text("_last_sql", r"(s\d) DESC", r"\1 ASC"),
}


@pytest.mark.parametrize("name", OFFLINE)
def test_a_skew_of_relations_is_seen(con: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    target, planted = OFFLINE[name]
    monkeypatch.setattr(enriched, target, planted)
    assert parts(con, "offline")
    assert parts(con, "filled")
