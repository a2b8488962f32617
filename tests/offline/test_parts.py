"""Labels, splits and samples of the real order lines: what a model is trained and judged on."""

from __future__ import annotations

import datetime as dt
import hashlib
import random
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit import Entity, EventSource, FeatureService, FeatureStore, FeatureView
from featurekit.aggregates import Sum
from featurekit.core.keys import entity_key
from featurekit.core.types import INT, STR
from featurekit.errors import ArgumentError, DataError
from featurekit.results import Splits, TrainingSet

ROOT = Path(__file__).parents[2]
RETAIL = ROOT.parent / "shared" / "data" / "online_retail.parquet"
pytestmark = [
    pytest.mark.parallel,
    pytest.mark.skipif(not RETAIL.exists(), reason=f"the real order lines are not here: {RETAIL}"),
]

FUTURE = """
from featurekit import FeatureService, FeatureView, feature
from featurekit.aggregates import CountDistinct, Sum
from shop import amount, customer, customer_orders, order_lines


@feature
def churned(orders_30d_ahead: int) -> bool:
    return orders_30d_ahead == 0


future = FeatureView("future", entities=[customer], source=order_lines, features={
    "orders_30d_ahead": CountDistinct("invoice_no", window="30d", ahead=True),
    "spend_30d": Sum(amount, window="30d", ahead=True, default=0.0),
    "churned": churned,
})
churn = FeatureService("churn", features=[customer_orders[["spend_30d", "orders_30d"]]])
"""
DAY = dt.timedelta(days=1)
US = dt.timedelta(microseconds=1)
FIRST = dt.datetime(2011, 5, 1, tzinfo=dt.UTC)
AT = [FIRST + 10 * n * DAY for n in range(15)]
VALID, TEST = AT[6], AT[10]
LAST = dt.datetime(2011, 9, 30, 16, 22, tzinfo=dt.UTC)
"""The last order line: 17:22 in London."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeatureStore]:
    folder = tmp_path_factory.mktemp("retail")
    for name in ("feature_store.yaml", "shop.py"):
        shutil.copy(ROOT / "feature_repo" / name, folder)
    (folder / "future.py").write_text(FUTURE, encoding="utf-8")
    (folder / "data").mkdir()
    (folder / "data" / "order_lines.parquet").symlink_to(RETAIL)
    with FeatureStore(folder) as opened:
        yield opened


@pytest.fixture(scope="module")
def lines() -> dict[int, list[tuple[dt.datetime, str]]]:
    """The instants and invoices of each customer, as Python alone reads them."""
    from zoneinfo import ZoneInfo

    found = defaultdict(list)
    table = pq.read_table(RETAIL, columns=["customer_id", "invoice_date", "invoice_no"])
    for row in table.to_pylist():
        if row["customer_id"] is not None:
            at = row["invoice_date"].replace(tzinfo=ZoneInfo("Europe/London")).astimezone(dt.UTC)
            found[row["customer_id"]].append((at, row["invoice_no"]))
    return dict(found)


@pytest.fixture(scope="module")
def frame(lines: dict[int, Any]) -> pa.Table:
    chosen = random.Random(5).sample(sorted(lines), 600)
    rows = [
        {"customer_id": key, "event_timestamp": at, "row": i * len(AT) + j}
        for i, key in enumerate(chosen)
        for j, at in enumerate(AT)
    ]
    random.Random(6).shuffle(rows)
    return pa.Table.from_pylist(rows)


def made(store: FeatureStore, frame: Any, **options: Any) -> TrainingSet:
    features = ["customer_orders:spend_30d", "customer_orders:orders_30d"]
    return store.get_historical_features(frame, features, labels=["future"], **options)


@pytest.fixture(scope="module")
def training(store: FeatureStore, frame: pa.Table) -> TrainingSet:
    return made(store, frame, statuses=True)


def test_labels_of_the_real_order_lines_are_what_python_counts(
    training: TrainingSet, lines: dict[int, Any]
) -> None:
    assert training.labels == ["orders_30d_ahead", "future__spend_30d", "churned"]
    seen = set()
    for row in training.to_pylist():
        t, end = row["event_timestamp"], row["event_timestamp"] + 30 * DAY
        invoices = {no for at, no in lines[row["customer_id"]] if t < at <= end}
        if not end < LAST:
            assert (row["churned"], row["churned__status"]) == (None, "NOT_YET")
            assert row["orders_30d_ahead"] is row["future__spend_30d"] is None
        else:
            known = any(at <= end for at, _ in lines[row["customer_id"]])
            assert row["orders_30d_ahead"] == len(invoices)
            assert row["orders_30d_ahead__status"] == ("PRESENT" if known else "NOT_FOUND")
            assert row["churned"] is (not invoices)
        seen.add((row["churned"], row["orders_30d_ahead__status"]))
    assert {(True, "PRESENT"), (False, "PRESENT"), (True, "NOT_FOUND"), (None, "NOT_YET")} <= seen


def test_the_manifest_has_statuses_and_classes(training: TrainingSet) -> None:
    rows = training.to_pylist()
    told = training.manifest["label_columns"]["churned"]
    for status, count in told["statuses"].items():
        assert count == sum(r["churned__status"] == status for r in rows)
    assert sum(told["statuses"].values()) == len(rows) == training.manifest["rows"]
    for one in told["classes"]:
        own = sum(r["churned"] is one["value"] for r in rows)
        known = sum(r["churned"] is not None for r in rows)
        assert (one["rows"], one["share"]) == (own, own / known)
        assert one["weight"] == known / (2 * own)
    assert "orders_30d_ahead" not in training.manifest["features"]


# --- by time --------------------------------------------------------------------------------------


def rows_of(part: TrainingSet) -> list[int]:
    return [int(n) for n in part.to_arrow()["row"].to_pylist()]


def test_a_split_by_time_leaves_out_what_reaches_over_a_border(
    training: TrainingSet, frame: pa.Table
) -> None:
    splits = training.split(valid_from=VALID, test_from=TEST)
    everything = training.to_arrow()
    at = {r["row"]: r["event_timestamp"] for r in frame.to_pylist()}
    wanted = {
        "train": [n for n in at if at[n] + 30 * DAY <= VALID],
        "valid": [n for n in at if at[n] >= VALID and at[n] + 30 * DAY <= TEST],
        "test": [n for n in at if at[n] >= TEST],
    }
    assert {name: rows_of(part) for name, part in splits.parts.items()} == wanted
    assert splits.left_out == len(at) - sum(map(len, wanted.values())) > 0
    place = {n: i for i, n in enumerate(at)}
    for name, part in splits.parts.items():
        assert part.to_arrow() == everything.take([place[n] for n in wanted[name]])
        assert part.manifest["part"]["name"] == name
        assert splits.report()[name]["rows"] == len(wanted[name])


@pytest.mark.parametrize("beside", [-US, dt.timedelta(0), US])
def test_a_label_may_end_at_a_border_and_not_a_microsecond_after_it(
    store: FeatureStore, beside: dt.timedelta
) -> None:
    rows = [{"customer_id": 12347, "event_timestamp": VALID - 30 * DAY + beside}]
    rows += [{"customer_id": 12347, "event_timestamp": t} for t in (FIRST, VALID - US, VALID)]
    splits = made(store, rows).split(valid_from=VALID)
    assert len(splits.train) == (1 if beside > dt.timedelta(0) else 2)
    assert [r["event_timestamp"] for r in splits.valid.to_pylist()] == [VALID]
    assert splits.left_out == 4 - len(splits.train) - 1


def test_a_gap_lies_between_the_end_of_a_label_and_the_border(store: FeatureStore) -> None:
    at = [VALID - 37 * DAY, VALID - 37 * DAY + US, VALID]
    asked = made(store, [{"customer_id": 12347, "event_timestamp": t} for t in at])
    assert [len(p) for p in asked.split(valid_from=VALID, gap="7d")] == [1, 1]
    assert [len(p) for p in asked.split(valid_from=VALID)] == [2, 1]


def test_a_border_without_a_zone_is_in_that_of_the_training_set(store: FeatureStore) -> None:
    at = [FIRST, dt.datetime(2011, 7, 1), dt.datetime(2011, 7, 1) - US]
    rows = [{"customer_id": 12347, "event_timestamp": t} for t in at]
    asked = store.get_historical_features(
        rows, ["customer_orders:spend_30d"], timezone="Europe/London"
    )
    assert [len(p) for p in asked.split(test_from="2011-07-01")] == [2, 1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "write where a part begins"),
        ({"valid_from": TEST, "test_from": VALID}, "is not before test_from"),
        ({"valid_from": TEST, "test_from": TEST}, "is not before test_from"),
        ({"valid_from": VALID, "test_from": dt.datetime(2011, 9, 1)}, "the other one has none"),
        ({"valid_from": "soon"}, "valid_from is an instant"),
        ({"valid_from": VALID, "test": 0.1}, 'by="time" takes no test='),
        ({"by": "entity", "gap": "1d", "test": 0.1}, "by='entity' takes no gap="),
        ({"by": "entity"}, "wants shares of the entities"),
        ({"by": "entity", "test": 1.5}, "above 0 and below 1"),
        ({"by": "entity", "test": True}, "a share from 0 to 1"),
        ({"by": "entity", "test": 0.5, "valid": 0.5}, "leave no entity for train"),
        ({"by": "customer", "test": 0.5}, "no join key; did you mean 'customer_id'"),
        ({"by": "entity", "test": 0.5, "seed": "a"}, "seed is an int"),
    ],
    ids=str,
)
def test_a_split_that_makes_no_sense_is_refused(
    training: TrainingSet, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ArgumentError, match=said):
        training.split(**options)


def test_a_part_without_rows_is_an_error(training: TrainingSet) -> None:
    with pytest.raises(DataError, match=r"no row is left for 'test' of 9,000 rows.*2011-05-01"):
        training.split(test_from="2012-01-01")
    with pytest.raises(DataError, match="no row is left for 'train'"):
        training.split(test_from=FIRST + 20 * DAY)
    with pytest.raises(DataError, match="there is no part 'valid'; there are train, test"):
        _ = training.split(test_from=TEST).valid


# --- by entity ------------------------------------------------------------------------------------


def test_a_split_by_entity_has_each_in_one_part_whatever_the_order(
    store: FeatureStore, frame: pa.Table
) -> None:
    split = {"by": "entity", "valid": 0.1, "test": 0.2, "seed": 7}
    splits = made(store, frame).split(**split)
    assert splits.left_out == 0
    of = {name: set(p.to_arrow()["customer_id"].to_pylist()) for name, p in splits.parts.items()}
    for name, keys in of.items():
        assert keys == {k for k in set(frame["customer_id"].to_pylist()) if part_of(k) == name}
    turned = made(store, frame.take(list(reversed(range(len(frame)))))).split(**split)
    for name, part in splits.parts.items():
        assert sorted(rows_of(part)) == sorted(rows_of(turned.parts[name]))


def part_of(customer_id: int) -> str:
    """The part of a customer, in plain Python: 64 bits of an MD5 as a share of all of them."""
    key = entity_key([(INT, customer_id)])
    bits = int.from_bytes(hashlib.md5(b"7:" + key).digest()[8:], "little") / 2**64
    return "test" if bits < 0.2 else "valid" if bits < 0.2 + 0.1 else "train"


def test_rows_without_an_entity_are_in_train(store: FeatureStore) -> None:
    rows = [{"customer_id": k, "event_timestamp": FIRST} for k in (None, *range(12347, 12400))]
    splits = made(store, rows).split(by="customer_id", test=0.5)
    assert None in splits.train.to_arrow()["customer_id"].to_pylist()
    assert None not in splits.test.to_arrow()["customer_id"].to_pylist()


def test_views_of_different_entities_name_the_key(store: FeatureStore) -> None:
    rows = [
        {"customer_id": c, "stock_code": str(s), "event_timestamp": FIRST}
        for c in range(20)
        for s in range(12)
    ]
    features = ["customer_orders:spend_30d", "product_sales:units_sold_7d"]
    asked = store.get_historical_features(rows, features)
    with pytest.raises(ArgumentError, match="name the join key whose rows are to stay together"):
        asked.split(by="entity", test=0.5)
    train, test = asked.split(by="stock_code", test=0.5, seed=1)
    codes = [set(p.to_arrow()["stock_code"].to_pylist()) for p in (train, test)]
    assert not codes[0] & codes[1]
    for code in codes[0] | codes[1]:
        low = hashlib.md5(b"1:" + entity_key([(STR, code)])).digest()[15] < 128
        assert low is (code in codes[1])


# --- samples --------------------------------------------------------------------------------------


def test_a_sample_does_not_depend_on_the_order_of_rows(
    store: FeatureStore, frame: pa.Table
) -> None:
    asked, turned = made(store, frame), made(store, frame.sort_by("row"))
    for how in ({"n": 100}, {"fraction": 0.05}):
        one, other = asked.sample(**how, seed=3), turned.sample(**how, seed=3)
        assert sorted(rows_of(one)) == rows_of(other)
        assert one.manifest["part"]["name"] == "sample"
        assert rows_of(one) != rows_of(asked.sample(**how, seed=4))
    assert len(asked.sample(100)) == 100
    assert 300 < len(asked.sample(fraction=0.05)) < 600


def test_rows_of_one_entity_and_instant_are_sampled_by_what_else_they_have(
    store: FeatureStore,
) -> None:
    rows = [{"customer_id": 12347, "event_timestamp": FIRST, "row": n} for n in range(9)]
    one, other = made(store, rows).sample(4), made(store, rows[::-1]).sample(4)
    assert sorted(rows_of(one)) == sorted(rows_of(other))


def test_a_sample_that_makes_no_sense_is_refused(training: TrainingSet) -> None:
    for how in ({}, {"n": 5, "fraction": 0.5}, {"n": 0}, {"n": True}, {"fraction": 2}):
        with pytest.raises(ArgumentError):
            training.sample(**how)
    with pytest.raises(DataError, match="10,000 of 9,000 rows"):
        training.sample(10_000)


# --- frames, files and remake ---------------------------------------------------------------------


def test_a_part_has_the_frame_s_own_kind(store: FeatureStore, frame: pa.Table) -> None:
    some = frame.slice(0, 500)
    given = some.to_pandas().set_index(pd.Index(range(1000, 1500)))
    part = made(store, given).split(test_from=TEST).test
    expected = given[given["event_timestamp"] >= TEST]
    pd.testing.assert_frame_equal(part.to_pandas()[list(given.columns)], expected)
    polars = pl.from_arrow(some)
    test = made(store, polars).split(test_from=TEST).test.to_polars()
    assert test["row"].to_list() == part.to_pandas()["row"].to_list()


def test_every_part_is_made_again_from_its_manifest(
    store: FeatureStore, frame: pa.Table, tmp_path: Path
) -> None:
    """Also after the labels are defined otherwise: by the version that was applied."""
    pq.write_table(frame.slice(0, 2000), tmp_path / "rows.parquet")
    store.apply()
    asked = store.get_historical_features(
        tmp_path / "rows.parquet", "churn", labels=["future"], statuses=True
    )
    splits: Splits = asked.split(valid_from=VALID, test_from=TEST)
    module = store.path / "future.py"
    told = {n: part.to_parquet(tmp_path / f"{n}.parquet") for n, part in splits.parts.items()}
    assert len({one["content_hash"] for one in told.values()}) == 3
    try:
        for text in (FUTURE, FUTURE.replace('"30d", ahead', '"31d", ahead')):
            module.write_text(text, encoding="utf-8")
            store.reload()
            for name, one in told.items():
                again = store.remake(tmp_path / f"{name}.parquet.manifest.json").manifest
                for what in ("content_hash", "label_columns", "part", "known_at"):
                    assert again[what] == one[what]
        manifest = tmp_path / "test.parquet.manifest.json"
        view = told["test"]["label_columns"]["churned"]["view"]
        manifest.write_text(manifest.read_text().replace(view, "0" * 32), encoding="utf-8")
        with pytest.raises(DataError, match="view 'future' of labels is another one now"):
            store.remake(manifest)
    finally:
        module.write_text(FUTURE, encoding="utf-8")
        store.reload()


def test_parts_of_files_that_changed_meanwhile_are_refused(frame: pa.Table, tmp_path: Path) -> None:
    def write(quantity: int) -> None:
        at = pa.array([FIRST, FIRST + DAY], pa.timestamp("us", "UTC"))
        pq.write_table(
            pa.table({"k": [1, 2], "n": [quantity] * 2, "at": at}), tmp_path / "e.parquet"
        )

    entity = Entity("entity", {"k": int})
    source = EventSource(
        "events",
        path=str(tmp_path / "e.parquet"),
        schema={"k": int, "n": int},
        timestamp_field="at",
    )
    features = {"n": Sum("n", window="7d")}
    view = FeatureView("view", entities=[entity], source=source, features=features)
    write(1)
    rows = [{"k": 1, "event_timestamp": FIRST + n * DAY} for n in range(4)]
    with FeatureStore(definitions=[FeatureService("service", features=[view])]) as opened:
        train, test = opened.get_historical_features(rows, "service").split(test_from=FIRST + DAY)
        assert train.to_pylist()[0]["n"] == 1
        write(2)
        with pytest.raises(DataError, match=r"part .test. .* source events has changed"):
            test.to_arrow()
