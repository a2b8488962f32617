"""The life of a view whose rows take features from another one: fills, pushes to both sources in
either order, increments, ids, forgetting, checks of parity (T11)."""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from oracle import bits

from featurekit import (
    Entity,
    EventSource,
    FeatureService,
    FeatureStore,
    FeatureView,
    feature,
)
from featurekit.aggregates import Count, LastN, Sum
from featurekit.core.types import micros
from featurekit.errors import OnlineError
from featurekit.log.segments import log_folder

T = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
PERSON = Entity("person", {"person": int})
ITEM = Entity("item", {"item": int})


def at(minutes: float) -> dt.datetime:
    return T + dt.timedelta(minutes=minutes)


@feature
def worth(qty: int, price: float | None) -> float | None:
    if price is None:
        return None
    return qty * price


def frame(rows: list[dict[str, Any]], schema: dict[str, Any]) -> pa.Table:
    types = {
        int: pa.int64(),
        float: pa.float64(),
        str: pa.string(),
        dt.datetime: pa.timestamp("us", "UTC"),
    }
    fields = [pa.field(n, types[t]) for n, t in schema.items()]
    return pa.Table.from_pylist(rows, schema=pa.schema(fields))


PRICES = {"item": int, "price": float, "at": dt.datetime, "arrived": dt.datetime}
ORDERS = {"person": int, "item": int, "qty": int, "at": dt.datetime, "arrived": dt.datetime}
STAMPS = {"timestamp_field": "at", "created_timestamp_column": "arrived"}


def price(item: int, value: float, minutes: float, late: float = 0) -> dict[str, Any]:
    return {"item": item, "price": value, "at": at(minutes), "arrived": at(minutes + late)}


def order(person: int, item: int, qty: int, minutes: float, late: float = 0) -> dict[str, Any]:
    row = {"person": person, "item": item, "qty": qty}
    return row | {"at": at(minutes), "arrived": at(minutes + late)}


class Shop:
    """A store in memory whose clock a test sets, and what offline says of the same."""

    def __init__(self, tmp: Path, *, history: str | None = None, **options: Any) -> None:
        of_prices, of_orders = options.get("prices", {}), options.get("orders", {})
        prices = EventSource(
            "prices",
            frame=frame(options.get("known", []), PRICES | of_prices.get("schema", {})),
            schema={"item": int, "price": float} | of_prices.get("schema", {}),
            **STAMPS | {k: v for k, v in of_prices.items() if k != "schema"},
        )
        orders = EventSource(
            "orders",
            frame=frame(options.get("placed", []), ORDERS | of_orders.get("schema", {})),
            schema={"person": int, "item": int, "qty": int} | of_orders.get("schema", {}),
            **STAMPS | {k: v for k, v in of_orders.items() if k != "schema"},
        )
        products = FeatureView(
            "products", entities=[ITEM], source=prices, features={"price": "price"}, history=history
        )
        spent = FeatureView(
            "spent",
            entities=[PERSON],
            source=orders.join(products, on="item"),
            features={
                "sum": Sum(worth, window="1d"),
                "prices": LastN("price", n=9, window="1d"),
                "rows": Count(window="1d"),
            },
            history="2h",
        )
        self.service = FeatureService("s", features=[spent])
        self.store = FeatureStore(definitions=[self.service], state_folder=tmp / "state")
        self.now = T
        self.store.parts.clock = lambda: micros(self.now)
        self.store.parts.in_memory = True

    def at(self, minutes: float) -> Shop:
        self.now = at(minutes)
        return self

    def online(self, person: int) -> dict[str, Any]:
        return self.store.get_online_features("s", [{"person": person}]).to_pylist()[0]

    def offline(self, person: int, minutes: float | None = None) -> dict[str, Any]:
        when = self.now if minutes is None else at(minutes)
        labels = [{"person": person, "event_timestamp": when}]
        row = self.store.get_historical_features(labels, "s").to_pylist()[0]
        return {n: v for n, v in row.items() if n != "event_timestamp"}

    def same(self, person: int) -> dict[str, Any]:
        """What both paths say, which is one answer."""
        one, other = self.online(person), self.offline(person)
        assert {n: bits(v) for n, v in one.items()} == {n: bits(v) for n, v in other.items()}
        return one


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path, known=[price(1, 2.0, -60)], placed=[order(7, 1, 3, -30)])
    made.store.apply()
    made.store.materialize()
    return made


def test_pushes_take_what_had_arrived_before_them(shop: Shop) -> None:
    assert shop.same(7)["prices"] == [2.0]
    shop.at(1).store.push("orders", [{"person": 7, "item": 1, "qty": 1, "at": at(1)}])
    shop.at(2).store.push("prices", [{"item": 1, "price": 5.0, "at": at(2)}])
    assert shop.same(7)["prices"] == [2.0, 2.0]
    shop.at(3).store.push("orders", [{"person": 7, "item": 1, "qty": 1, "at": at(3)}])
    assert shop.same(7) == {"person": 7, "sum": 13.0, "prices": [2.0, 2.0, 5.0], "rows": 3}
    shop.at(4).store.push("orders", [{"person": 7, "item": 2, "qty": 1, "at": at(4)}])
    assert shop.same(7)["rows"] == 4


def test_a_late_order_takes_what_was_before_it_and_the_log_is_asked(shop: Shop) -> None:
    shop.at(2).store.push("prices", [{"item": 1, "price": 5.0, "at": at(2)}])
    shop.at(3).store.push("orders", [{"person": 7, "item": 1, "qty": 1, "at": at(1)}])
    assert shop.same(7)["prices"] == [2.0, 2.0]


def test_a_late_price_is_taken_from_its_arrival_on(shop: Shop) -> None:
    shop.at(5).store.push("prices", [{"item": 1, "price": 5.0, "at": at(5)}])
    shop.at(6).store.push("orders", [{"person": 7, "item": 1, "qty": 1, "at": at(4)}])
    shop.at(7).store.push("prices", [{"item": 1, "price": 9.0, "at": at(3)}])
    shop.at(8).store.push("orders", [{"person": 7, "item": 1, "qty": 1, "at": at(4.5)}])
    assert shop.same(7)["prices"] == [2.0, 2.0, 9.0]


def test_a_fill_gives_the_states_of_pushes(shop: Shop) -> None:
    for minute in range(1, 8):
        rows = [{"person": 7, "item": 1, "qty": minute, "at": at(minute - minute % 3)}]
        shop.at(minute).store.push("orders", rows)
        shop.at(minute + 0.5)
        late = minute % 2
        shop.store.push("prices", [{"item": 1, "price": float(minute), "at": at(minute - late)}])
    pushed = states(shop)
    shop.at(20).store.materialize()
    assert states(shop) == pushed
    shop.at(21).store.materialize_incremental()
    assert states(shop) == pushed
    assert len(shop.same(7)["prices"]) == 8


def states(shop: Shop) -> dict[bytes, bytes]:
    online = shop.store.parts.online
    keys = sorted(
        k
        for kind in ("state", "ids")
        for k in online.keys(f"fk:{shop.store.project}:{kind}:".encode())
    )
    return dict(zip(keys, online.read(keys), strict=True))


IDS = {"event_id": "id", "dedupe_within": "1d", "schema": {"id": int}}
VERSIONS = {"event_id": "id", "op": "op", "dedupe_within": "1d", "schema": {"id": int, "op": str}}


def test_a_row_that_is_pushed_again_takes_what_it_took(tmp_path: Path) -> None:
    shop = Shop(tmp_path, orders=IDS, known=[price(1, 2.0, -60)], history="1d")
    shop.store.apply()
    shop.store.materialize()
    row = {"id": 5, "person": 7, "item": 1, "qty": 2, "at": at(1)}
    shop.at(1).store.push("orders", [row])
    shop.at(2).store.push("prices", [{"item": 1, "price": 9.0, "at": at(0.5)}])
    before = states(shop)
    assert shop.at(3).store.push("orders", [row, row]).repeated == 2
    assert states(shop) == before
    assert shop.same(7)["prices"] == [2.0]


def test_each_version_takes_anew_as_of_its_own_arrival(tmp_path: Path) -> None:
    shop = Shop(tmp_path, orders=VERSIONS, prices=VERSIONS)
    shop.store.apply()
    shop.store.materialize()
    cheap = {"id": 1, "op": "upsert", "item": 1, "price": 2.0, "at": at(0)}
    row = {"id": 5, "op": "upsert", "person": 7, "item": 1, "qty": 2, "at": at(2)}
    shop.at(1).store.push("prices", [cheap])
    shop.at(3).store.push("orders", [row])
    shop.at(4).store.push("prices", [cheap | {"price": 3.0}])
    assert shop.same(7)["prices"] == [2.0]
    shop.at(5).store.push("orders", [row | {"qty": 3}])
    assert shop.same(7)["prices"] == [3.0]
    shop.at(6).store.push("prices", [cheap | {"op": "delete"}])
    shop.at(7).store.push("orders", [row | {"qty": 4}])
    assert shop.same(7) == {"person": 7, "sum": None, "prices": [], "rows": 1}
    shop.at(8).store.push("orders", [row | {"op": "delete"}])
    assert shop.same(7)["rows"] == 0
    pushed = states(shop)
    shop.at(9).store.materialize()
    assert states(shop) == pushed


def test_what_was_taken_of_who_is_forgotten_is_remade(shop: Shop) -> None:
    shop.at(1).store.push("prices", [{"item": 2, "price": 4.0, "at": at(1)}])
    rows = [{"person": 7, "item": item, "qty": 1, "at": at(2)} for item in (1, 2)]
    shop.at(2).store.push("orders", rows)
    assert shop.same(7)["prices"] == [2.0, 2.0, 4.0]
    shop.at(3).store.forget("item", {"item": 2})
    assert shop.same(7)["prices"] == [2.0, 2.0]
    assert states(shop) == (shop.at(4).store.materialize(), states(shop))[1]


def test_an_arrival_before_what_was_taken_is_refused(shop: Shop) -> None:
    shop.at(1).store.push("orders", [{"person": 7, "item": 1, "qty": 1, "at": at(1)}])
    before = states(shop)
    late = {"item": 1, "price": 9.0, "at": at(0), "arrived": at(0.5)}
    with pytest.raises(OnlineError, match="Push rows in the order of their arrival"):
        shop.at(2).store.push("prices", [late])
    assert states(shop) == before
    shop.store.push("prices", [late | {"arrived": at(1.5)}])
    shop.at(3).store.push("orders", [{"person": 7, "item": 1, "qty": 1, "at": at(1)}])
    assert shop.same(7)["prices"] == [2.0, 2.0, 9.0]


def test_where_the_log_lacks_rows_nothing_is_written(shop: Shop) -> None:
    shop.at(2).store.push("prices", [{"item": 1, "price": 5.0, "at": at(2)}])
    shop.store.parts.log.close()
    folder, away = log_folder(shop.store.state_dir, "prices"), shop.store.state_dir / "away"
    shutil.move(folder, away)
    before, row = states(shop), {"person": 7, "item": 1, "qty": 1, "at": at(1)}
    with pytest.raises(OnlineError, match="lack rows that its state of item=1 has"):
        shop.at(3).store.push("orders", [row])
    assert states(shop) == before
    shutil.move(away, folder)
    shop.at(4).store.push("orders", [row])
    assert shop.same(7)["prices"] == [2.0, 2.0]


def test_before_the_first_fill_files_are_asked(tmp_path: Path) -> None:
    shop = Shop(tmp_path, known=[price(1, 2.0, -60)])
    shop.store.apply()
    shop.at(1).store.push("orders", [{"person": 7, "item": 1, "qty": 1, "at": at(1)}])
    shop.store.materialize()
    assert shop.same(7)["prices"] == [2.0]


def test_lineage_goes_to_the_columns_of_the_other_view(shop: Shop) -> None:
    touched = shop.store.lineage("spent:sum").to_dict()
    shown = str(touched)
    assert "prices.price" in shown
    assert "orders.qty" in shown
    assert "spent" in str(shop.store.impact("prices.price"))


def test_the_manifest_has_the_sources_of_the_other_view(shop: Shop) -> None:
    labels = [{"person": 7, "event_timestamp": shop.now}]
    training = shop.store.get_historical_features(labels, "s")
    training.to_arrow()
    assert sorted(training.manifest["sources"]) == ["orders", "prices"]


def test_the_other_view_is_fed_though_no_service_reads_it(shop: Shop) -> None:
    assert [view.name for view in shop.store.parts.fed()] == ["products", "spent"]
    assert shop.store.gc().removed == ()
