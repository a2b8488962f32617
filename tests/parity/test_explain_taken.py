"""`explain` of rows that take features from other views, and of elements of lists."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from featurekit import Entity, EventSource, FeatureService, FeatureStore, FeatureView
from featurekit.aggregates import LastN, Sum
from featurekit.cli import main
from featurekit.core.types import micros

T = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
STAMPS = {"timestamp_field": "at", "created_timestamp_column": "arrived"}
PERSON, ITEM = Entity("person", {"person": int}), Entity("item", {"item": int})
ELEMENT = Entity("element", {"items": int})


def at(minutes: float) -> dt.datetime:
    return T + dt.timedelta(minutes=minutes)


def frame(columns: dict[str, pa.DataType], rows: list[tuple[Any, ...]]) -> pa.Table:
    fields = [*columns.items(), *((n, pa.timestamp("us", "UTC")) for n in ("at", "arrived"))]
    names = [name for name, _ in fields]
    made = [
        {**dict(zip(names, row[:-2], strict=False)), "at": at(row[-2]), "arrived": at(row[-1])}
        for row in rows
    ]
    return pa.Table.from_pylist(made, schema=pa.schema(fields))


INT, FLOAT = pa.int64(), pa.float64()
prices = EventSource(
    "prices",
    frame=frame(
        {"item": INT, "price": FLOAT},
        [
            (1, 1.0, 0, 0), (1, 2.0, 5, 5), (1, 3.0, 8, 12), (1, 4.0, 11, 11), (2, 9.0, 2, 2),
        ],
    ),
    schema={"item": int, "price": float},
    **STAMPS,
)  # fmt: skip
orders = EventSource(
    "orders",
    frame=frame({"person": INT, "item": INT}, [(7, 1, 10, 10), (7, None, 13, 13), (7, 3, 14, 14)]),
    schema={"person": int, "item": int | None},
    **STAMPS,
)
baskets = EventSource(
    "baskets",
    frame=frame(
        {"items": pa.list_(INT), "amount": FLOAT},
        [([1, 2, 1], 2.5, 10, 10), ([1], 4.0, 12, 12), ([2], 8.0, 13, 13), ([1], 1.0, 30, 30)],
    ),
    schema={"items": list[int], "amount": float},
    **STAMPS,
)
bills = EventSource(
    "bills",
    frame=frame(
        {"bill": INT, "op": pa.string(), "person": INT, "parts": pa.list_(FLOAT)},
        [
            (1, "upsert", 7, [1.0, 1.0], 10, 10),
            (1, "upsert", 7, [2.0, 5.0], 10, 11),
            (2, "upsert", 7, [3.0], 12, 12),
        ],
    ),
    schema={"bill": int, "op": str, "person": int, "parts": list[float]},
    event_id="bill",
    op="op",
    dedupe_within="1d",
    **STAMPS,
)
products = FeatureView(
    "products", entities=[ITEM], source=prices, features={"price": "price"}, ttl="1d"
)
spent = FeatureView(
    "spent",
    entities=[PERSON],
    source=orders.join(products, on="item"),
    features={"prices": LastN("price", n=9, window="1d"), "sum": Sum("price", window="1d")},
)
sold = FeatureView(
    "sold",
    entities=[ELEMENT],
    source=baskets,
    explode="items",
    features={"sold_amount": Sum("amount", window="1d")},
)
billed = FeatureView(
    "billed",
    entities=[PERSON],
    source=bills,
    explode="parts",
    features={"parts": LastN("parts", n=9, window="1d")},
)
service = FeatureService("service", features=[spent, sold, billed])
ROW = {"person": 7, "items": 1}


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    made = FeatureStore(definitions=[service], state_folder=tmp_path / "state")
    made.parts.clock = lambda: micros(at(20))
    made.parts.in_memory = True
    made.apply()
    made.materialize()
    return made


def test_the_row_that_was_taken_is_named_and_why(store: FeatureStore) -> None:
    made = store.explain("service", "prices", ROW)
    assert made.agree
    assert made.offline == ([2.0], "PRESENT")
    assert [(e.counts, e.offline, e.online, e.known) for e in made.events] == [(True,) * 4] * 3
    assert [e.value for e in made.events] == [2.0, None, None]
    told = [(c.event, c.values["price"], c.taken, c.why) for c in made.taken]
    assert told == [
        (1, 1.0, False, "T6: behind a later row"),
        (1, 2.0, True, "T11: the last row that had happened and had arrived"),
        (1, 3.0, False, "T11: arrives 2min after the event arrived"),
        (1, 4.0, False, "T11: happens 1min after the event"),
        (2, None, False, "T11: a join key is None, so nothing is taken"),
        (3, None, False, "T11: the other view has no row of this entity"),
    ]
    assert {c.view for c in made.taken} == {"products"}
    assert made.taken[1].row["__ts"] == micros(at(5))
    document = made.to_dict()["taken"][1]
    assert document["happened"] == at(5)
    assert document["values"] == {"price": 2.0}


def test_a_price_that_is_too_old_is_named(tmp_path: Path) -> None:
    late = EventSource(
        "late", frame=frame({"person": INT, "item": INT}, [(7, 1, 1460, 1460)]),
        schema={"person": int, "item": int}, **STAMPS,
    )  # fmt: skip
    view = FeatureView(
        "of_late", entities=[PERSON], source=late.join(products, on="item"),
        features={"p": LastN("price", n=9, window="1d")},
    )  # fmt: skip
    made = FeatureStore(
        definitions=[FeatureService("s", features=[view])], state_folder=tmp_path / "state"
    )
    made.parts.clock = lambda: micros(at(1500))
    made.parts.in_memory = True
    made.apply()
    made.materialize()
    told = made.explain("s", "p", {"person": 7}).taken
    assert [c.taken for c in told] == [False] * len(told)
    assert told[-1].why == "T4: the last row, and outside the ttl 1d of products"


def test_elements_of_lists_are_explained(store: FeatureStore) -> None:
    made = store.explain("service", "sold_amount", ROW)
    assert made.agree
    assert made.offline == (9.0, "PRESENT")
    assert [(e.row["items"], e.row["amount"], e.counts, e.offline) for e in made.events] == [
        (1, 2.5, True, True), (1, 2.5, True, True), (1, 4.0, True, True), (1, 1.0, False, False),
    ]  # fmt: skip
    assert made.events[-1].why.startswith("T3: happens 9min")
    assert made.notes == []


def test_elements_of_a_row_that_was_corrected_are_explained(store: FeatureStore) -> None:
    made = store.explain("service", "parts", ROW)
    assert made.agree
    assert made.offline == ([2.0, 5.0, 3.0], "PRESENT")
    assert [(e.value, e.counts, e.offline) for e in made.events] == [
        (1.0, False, False), (1.0, False, False),
        (2.0, True, True), (5.0, True, True), (3.0, True, True),
    ]  # fmt: skip
    assert made.events[0].why == f"T7: corrected or deleted from {at(11).isoformat()} on"


def test_what_the_live_state_took_otherwise_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from featurekit.offline import enriched

    made = FeatureStore(definitions=[service], state_folder=tmp_path / "state")
    made.parts.clock = lambda: micros(at(20))
    made.parts.in_memory = True
    made.apply()
    with monkeypatch.context() as patch:
        patch.setattr(enriched, "_is_late", lambda view: "FALSE")
        made.materialize()
    told = made.explain("service", "prices", ROW)
    assert told.agree is False
    assert told.online == ([3.0], "PRESENT")
    assert not told.events[0].known
    assert any("are not in the live state" in note for note in told.notes)


def test_the_command_shows_what_was_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "feature_store.yaml").write_text("project: p\n")
    (tmp_path / "features.py").write_text(
        Path(__file__).read_text().partition("\n@pytest.fixture")[0].replace(
            "from featurekit.cli import main\n", ""
        )
    )  # fmt: skip
    arguments = ["explain", "service", "prices", "person=7", "items=1"]
    arguments += ["--as-of", "2026-01-01T00:20Z"]
    assert main(["--repo", str(tmp_path), *arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [one["taken"] for one in document["taken"]].count(True) == 1
    assert main(["--repo", str(tmp_path), *arguments]) == 0
    shown = capsys.readouterr().out
    assert "What the events take from other views" in shown
    assert "T11: arrives 2min after the event arrived" in shown
