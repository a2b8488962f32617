"""The modes of parity play rows that take features from other views (T11), and see its skews."""

from __future__ import annotations

import datetime as dt
import random
from pathlib import Path
from typing import Any

import pytest
import test_joined_skews as skews
import test_joined_values as values
from slow import slow_unless

from featurekit import Entity, EventSource, FeatureService, FeatureStore, FeatureView
from featurekit.aggregates import LastN
from featurekit.define.compile_service import compile_service
from featurekit.online.store.memory import MemoryStore
from featurekit.parity.bench import bench
from featurekit.parity.diagnose.diagnose import diagnose
from featurekit.parity.modes.fuzz.fuzz import Fuzzer
from featurekit.parity.paths import Online
from featurekit.parity.scenario import Delivery, Scenario
from featurekit.parity.taken import bare, in_order
from featurekit.testing import ParityError, assert_parity
from tests.planted.catch import SKEWS, catch, repo

T = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def at(us: int) -> dt.datetime:
    return T + dt.timedelta(microseconds=us)


# --- fuzz -----------------------------------------------------------------------------------------

USUAL = ("two joins", "unions", "by what was taken")


@pytest.mark.parametrize("name", slow_unless(lambda name: name in USUAL, values.SERVICES))
def test_the_fuzz_plays_joins_and_the_paths_agree(name: str) -> None:
    definition = values.SERVICES[name]
    fuzzer = Fuzzer(compile_service(definition), values.sources_of(definition), 3)
    present = 0
    for world in range(3):
        found = fuzzer.play(world, MemoryStore(), questions=400)
        assert [d.to_dict() for d in found.differences] == []
        present += sum(statuses["PRESENT"] for statuses in found.statuses.values())
    assert present > 200


def test_rows_of_the_fuzz_take_something_and_ask_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    taken: list[Any] = []
    of_path = Online.taken

    def noted(self: Online, source: Any, rows: Any) -> Any:
        ask = self.ask_log
        self.ask_log = lambda view, some: (asked.append(len(some)), ask(view, some))[1]
        try:
            made = of_path(self, source, rows)
        finally:
            self.ask_log = ask
        if source.joins:
            taken.extend(row["price"] for row in made if "price" in row)
        return made

    monkeypatch.setattr(Online, "taken", noted)
    service = repo().compiled_services["joined"]
    fuzzer = Fuzzer(service, repo().sources, 0)
    for world in range(4):
        assert fuzzer.play(world, MemoryStore(), questions=800).compared
    assert sum(asked) > 10
    assert sum(value is not None for value in taken) > 20


OF_JOINS = [name for name, skew in SKEWS.items() if skew.service.startswith("joined")]
QUICK = (
    "a_row_of_the_other_view_taken_before_it_arrived_in_pushes",
    "a_row_of_the_other_view_taken_before_it_arrived_offline",
    "the_other_view_s_version_chosen_by_arrival_alone_in_pushes",
    "a_row_without_a_key_takes_what_the_row_before_it_took",
    "the_horizon_of_the_other_view_s_state_not_looked_at",
    "a_correction_keeps_what_its_first_version_took",
)


@pytest.mark.parametrize("name", slow_unless(lambda name: name in QUICK, OF_JOINS))
def test_the_fuzz_finds_a_skew_of_joins(name: str) -> None:
    assert catch(SKEWS[name]).values > 0


# --- assert_parity --------------------------------------------------------------------------------


def as_given(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    named = [{n: v for n, v in row.items() if not n.startswith("__")} for row in rows]
    instants = [{"at": at(row["__ts"]), "arrived": at(row["__created"])} for row in rows]
    return [row | more for row, more in zip(named, instants, strict=True)]


EVENTS = {name: as_given(rows) for name, rows in skews.ROWS.items()}


def test_assert_parity_plays_joins() -> None:
    rows = [{"person": 1, "event_timestamp": at(t)} for t in (5, 16, 60)]
    found = assert_parity(skews.SERVICE, EVENTS, rows)
    assert found == [
        {"prices": [1.0], "others": [1.0]},
        {"prices": [1.0, 2.0, 3.0], "others": [1.0, 2.0, 3.0]},
        {
            "prices": [1.0, 2.0, 3.0, 5.0, 7.0, 0.5],
            "others": [1.0, 2.0, 3.0, 1.0, 5.0, 5.0],
        },
    ]


FEW = {
    "orders": as_given([skews.row(12, 16, person=1, item=1, qty=2)]),
    "prices": as_given([skews.price(2.0, 10, 10), skews.price(4.0, 12, 17)]),
}
CAUSES = {
    "the arrival is not looked at": "late event",
    "the instant is not looked at": "join",
}


@pytest.mark.parametrize("name", CAUSES)
def test_assert_parity_names_what_a_row_takes_wrongly(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    events = dict(FEW)
    if name == "the instant is not looked at":
        events["prices"] = [FEW["prices"][0], *as_given([skews.price(4.0, 14, 15)])]
    rows = [{"person": 1, "event_timestamp": at(30)}]
    assert assert_parity(skews.SERVICE, events, rows, features=["prices"]) == [{"prices": [2.0]}]
    monkeypatch.setattr(skews.enrich, *skews.PUSHED[name])
    with pytest.raises(ParityError) as error:
        assert_parity(skews.SERVICE, events, rows, features=["prices"])
    told = error.value.diagnosis
    assert told.cause == CAUSES[name]
    assert "takes price: offline" in told.where
    assert "the row of products that happened" in told.where
    # What is shown, and pasted, has the rows as they were given.
    assert {d.source for d in told.given} <= {"orders", "prices"}
    assert all("price" not in d.row for d in told.given if d.source == "orders")
    assert "'prices': [" in told.case


def test_a_wrong_aggregate_over_what_was_taken_is_told_as_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = repo().compiled_services["joined"]
    sales, prices = service.stored[0].source, "price_list"
    cells = [(1e16, 1), (1.0, 2), (0.1, 3), (1.0, 4)]
    given = [
        Delivery(prices, {"product_id": k, "price": p, "brand": None, "__ts": k, "__created": k})
        for p, k in cells
    ]
    rows = [
        {"customer_id": 1, "product_id": k, "pieces": 1, "__ts": 10 + k, "__created": 10 + k}
        for _, k in cells
    ]
    given += [Delivery(sales.name, row) for row in _bare(sales, rows)]
    scenario = Scenario(service, tuple(given), {"customer_id": 1, "brand": "b"}, 100)
    SKEWS["plain_sum_online"].plant(monkeypatch)
    told = diagnose(scenario, "sums_of_sales__paid_7d", seconds=10)
    assert told.cause == "float order"
    assert "every row takes the same on both paths" in told.evidence


def _bare(source: Any, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    from featurekit.define.union import bare_rows

    return [dict(row) for row in bare_rows(source, source.sources[0].name, rows)]


def test_a_row_stands_behind_what_it_may_take() -> None:
    service = compile_service(skews.SERVICE)
    (view,) = service.stored
    orders = _bare(view.source, skews.ROWS["orders"])
    assert bare(view.source, orders) == orders
    given = [Delivery(view.source.name, row) for row in orders]
    given += [Delivery("prices", row) for row in skews.ROWS["prices"]]
    given += [Delivery("revised", row) for row in skews.ROWS["revised"]]
    ordered = in_order(service, given)
    assert sorted(map(id, ordered)) == sorted(map(id, given))
    for i, one in enumerate(ordered):
        later = [d for d in ordered[i:] if d.source in ("prices", "revised")]
        if one.source == view.source.name:
            assert all(d.row["__created"] > one.row["__created"] for d in later)
    with bench() as opened:
        scenario = Scenario(service, tuple(given), {"person": 1}, 60)
        one, other = opened.both(scenario)["taking__prices"]
        assert one == other == ([1.0, 2.0, 3.0, 5.0, 7.0, 0.5], "PRESENT")


# --- history --------------------------------------------------------------------------------------

PERSON, ITEM = Entity("person", {"person": int}), Entity("item", {"item": int})


def store_of(tmp: Path, *, changes: bool) -> FeatureStore:
    """A store of orders and prices that happened, late and tied, with corrections or without."""
    import pyarrow as pa

    chance = random.Random(4)
    versions = {"event_id": "id", "op": "op", "dedupe_within": "1d"} if changes else {}
    more = {"id": int, "op": str} if changes else {}

    def source(name: str, schema: dict[str, Any], of: Any) -> EventSource:
        rows = []
        for i in range(150):
            happened = chance.randint(0, 90)
            row = of() | {"at": at(happened)}
            row["arrived"] = at(happened + chance.choice((0, 0, 1, 5, 20)))
            if changes:
                row |= {"id": i // 2, "op": chance.choice(("upsert", "upsert", "delete"))}
            rows.append(row)
        types = {int: pa.int64(), float: pa.float64(), str: pa.string()}
        fields = [(n, types.get(t, pa.int64())) for n, t in (schema | more).items()]
        fields += [(n, pa.timestamp("us", "UTC")) for n in ("at", "arrived")]
        table = pa.Table.from_pylist(rows, schema=pa.schema(fields))
        return EventSource(
            name,
            frame=table,
            schema=schema | more,
            timestamp_field="at",
            created_timestamp_column="arrived",
            **versions,
        )

    prices = source(
        "prices",
        {"item": int, "price": float},
        lambda: {"item": chance.choice((1, 2, 3)), "price": chance.choice((1.0, 2.5, 0.1, 7.0))},
    )
    orders = source(
        "orders",
        {"person": int, "item": int | None},
        lambda: {"person": chance.choice((1, 2, 3)), "item": chance.choice((1, 2, 3, None))},
    )
    products = FeatureView(
        "products", entities=[ITEM], source=prices, features={"price": "price"}, ttl="50us"
    )
    spent = FeatureView(
        "spent",
        entities=[PERSON],
        source=orders.join(products, on="item"),
        features={"prices": LastN("price", n=100, window="1d")},
    )
    service = FeatureService("s", features=[spent, products])
    return FeatureStore(definitions=[service], state_folder=tmp / "state")


@pytest.mark.parametrize("changes", [False, True], ids=["rows", "versions"])
def test_the_history_plays_joins_and_finds_their_skews(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: bool
) -> None:
    with store_of(tmp_path, changes=changes) as store:
        report = store.check_parity("s", mode="history", budget=300)
        assert report.ok
        assert report.compared >= 300
        assert report.features["spent__prices"].statuses["PRESENT"] > 50
        for name in ("the arrival is not looked at", "the instant is not looked at"):
            with monkeypatch.context() as patch:
                patch.setattr(skews.enrich, *skews.PUSHED[name])
                patch.setattr("featurekit.parity.modes.history.diagnose_report", unasked)
                report = store.check_parity("s", mode="history", budget=300)
            assert report.features["spent__prices"].differing > 0


def unasked(report: Any, scenario_of: Any, **options: Any) -> None:
    """Holds that a difference comes with the rows of both sides that make it."""
    if report.differences:
        scenario = scenario_of(report.differences[0])
        assert {d.source.split("_")[0] for d in scenario.deliveries} == {"orders", "prices"}
        with bench() as opened:
            one, other = opened.both(scenario)["spent__prices"]
        assert one == report.differences[0].offline
        assert other != one


def test_the_sample_tells_the_rows_of_both_sides(tmp_path: Path) -> None:
    from featurekit.parity.report import Difference
    from featurekit.parity.stored import stored_scenario

    with store_of(tmp_path, changes=False) as store:
        service = store.repo.compiled_services["s"]
        difference = Difference("spent__prices", {"person": 1, "item": 1}, at(60).isoformat(),
                                (None, ""), (None, ""))  # fmt: skip
        scenario = stored_scenario(store.parts, service, difference)
        labels = [{"person": 1, "item": 1, "event_timestamp": at(60)}]
        training = store.get_historical_features(labels, "s").to_pylist()[0]
    assert scenario is not None
    with bench() as opened:
        one, other = opened.both(scenario)["spent__prices"]
    assert one == other == (training["prices"], "PRESENT")
