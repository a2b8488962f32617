"""The example shop on the real order lines: of more than 100,000 values no bit differs."""

from __future__ import annotations

import datetime as dt
import math
import random
import shutil
from bisect import bisect_left
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from oracle import bits
from streaming import stream_all

from featurekit.cli.demo.sample_data import write_price_list
from featurekit.store import FeatureStore

ROOT = Path(__file__).parents[2]
RETAIL = ROOT.parent / "shared" / "data" / "online_retail.parquet"
pytestmark = [
    pytest.mark.parallel,
    pytest.mark.skipif(not RETAIL.exists(), reason=f"the real order lines are not here: {RETAIL}"),
]

LONDON = ZoneInfo("Europe/London")
DAY = dt.timedelta(days=1)
LABELS = 20_000


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Iterator[FeatureStore]:
    folder = tmp_path_factory.mktemp("shop")
    for path in (ROOT / "feature_repo").glob("*.*"):
        if path.is_file():
            shutil.copy(path, folder)
    data = folder / "data"
    data.mkdir()
    (data / "order_lines.parquet").symlink_to(RETAIL)
    write_price_list(data / "order_lines.parquet", data)
    with FeatureStore(folder) as opened:
        yield opened


@pytest.fixture(scope="module")
def lines() -> list[dict[str, Any]]:
    """The order lines with their instants, as Python alone reads them."""
    rows = pq.read_table(RETAIL).to_pylist()
    for row in rows:
        row["at"] = row["invoice_date"].replace(tzinfo=LONDON).astimezone(dt.UTC)
    return rows


@pytest.fixture(scope="module")
def frame(lines) -> pa.Table:
    """Labels: real pairs of a customer and a product, at the line's instant, a window's end, or
    some other time."""
    rng = random.Random(11)
    rows = []
    for line in rng.sample([line for line in lines if line["customer_id"] is not None], LABELS):
        after = rng.choice((0, 7, 7, 30, 30, 90, rng.uniform(0, 200))) * DAY
        beside = dt.timedelta(microseconds=rng.choice((-1, 0, 1)))
        rows.append(
            {
                "customer_id": line["customer_id"],
                "stock_code": line["stock_code"],
                "event_timestamp": line["at"] + after + beside,
                "basket_value": round(rng.uniform(1, 500), 2),
                "offered_price": round(rng.uniform(0, 20), 2),
            }
        )
    return pa.Table.from_pylist(rows)


@pytest.fixture(scope="module")
def checkout(store, frame) -> list[dict[str, Any]]:
    kept = frame.select(["customer_id", "event_timestamp", "basket_value"])
    return store.get_historical_features(kept, "checkout_v1").to_arrow().to_pylist()


@pytest.fixture(scope="module")
def by_customer(lines) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for line in sorted(lines, key=lambda line: line["at"]):
        found.setdefault(line["customer_id"], []).append(line)
    return found


def within(lines: list[dict[str, Any]], after: dt.datetime, until: dt.datetime) -> Any:
    """The lines of (after, until]."""
    instants = [line["at"] for line in lines]
    just = dt.timedelta(microseconds=1)
    return lines[bisect_left(instants, after + just) : bisect_left(instants, until + just)]


def amount(line: dict[str, Any]) -> float:
    return line["quantity"] * line["unit_price"]


def signed(value: float) -> tuple[float, float]:
    """Orders -0.0, a gift taken back, before 0.0."""
    return value, math.copysign(1.0, value)


def exact_mean(found: list[float]) -> float | None:
    return float(sum(map(Fraction, found))) / len(found) if found else None


def test_every_label_has_its_row(checkout, frame):
    assert len(checkout) == LABELS
    assert [r["event_timestamp"] for r in checkout] == frame["event_timestamp"].to_pylist()


def test_spend_is_the_exact_sum_of_the_file_s_lines(checkout, by_customer):
    for row in checkout[:2_000]:
        t = row["event_timestamp"]
        found = within(by_customer[row["customer_id"]], t - 30 * DAY, t)
        expected = float(sum(Fraction(amount(line)) for line in found))
        assert bits(row["spend_30d"]) == bits(expected)


def test_orders_are_the_distinct_invoices_of_the_file(checkout, by_customer):
    for row in checkout[:2_000]:
        t = row["event_timestamp"]
        found = within(by_customer[row["customer_id"]], t - 30 * DAY, t)
        assert row["orders_30d"] == len({line["invoice_no"] for line in found})


def test_the_week_before_is_one_week_earlier(checkout, by_customer):
    for row in checkout[:2_000]:
        t = row["event_timestamp"]
        found = within(by_customer[row["customer_id"]], t - 14 * DAY, t - 7 * DAY)
        expected = float(sum(Fraction(amount(line)) for line in found))
        assert bits(row["spend_7d_before"]) == bits(expected)


def test_the_share_of_returns_is_of_whole_hours(checkout, by_customer):
    epoch, hour = dt.datetime(1970, 1, 1, tzinfo=dt.UTC), dt.timedelta(hours=1)
    for row in checkout[:2_000]:
        t = row["event_timestamp"]
        low = epoch + (t - 90 * DAY - epoch) // hour * hour
        found = within(by_customer[row["customer_id"]], low, t)
        expected = exact_mean([float(line["invoice_no"].startswith("C")) for line in found])
        assert bits(row["return_share_90d"]) == bits(expected)


def test_the_mean_of_logarithms_skips_returns_and_gifts(checkout, by_customer):
    for row in checkout[:2_000]:
        t = row["event_timestamp"]
        found = map(amount, within(by_customer[row["customer_id"]], t - 90 * DAY, t))
        expected = exact_mean([math.log(value) for value in found if value > 0.0])
        assert bits(row["mean_log_line_90d"]) == bits(expected)


def test_extremes_are_those_of_the_file(checkout, by_customer):
    for row in checkout[:2_000]:
        t = row["event_timestamp"]
        found = list(map(amount, within(by_customer[row["customer_id"]], t - 30 * DAY, t)))
        largest, smallest = (pick(found, key=signed, default=None) for pick in (max, min))
        assert bits(row["largest_line_30d"]) == bits(largest)
        assert bits(row["smallest_line_30d"]) == bits(smallest)


def test_offers_are_answered_for_every_label(store, frame):
    kept = frame.drop_columns(["basket_value"])
    table = store.get_historical_features(kept, "offer_v1").to_arrow()
    assert table.num_rows == LABELS
    assert table["price_band"].null_count < LABELS
    assert table["units_sold_7d"].null_count == 0


@pytest.mark.parametrize(("service", "values"), [("checkout_v1", 60_000), ("offer_v1", 20_000)])
def test_online_and_offline_agree_on_real_data(store, service, values):
    report = store.check_parity(service, values=values)
    assert [d.to_dict() for d in report.differences] == []
    assert report.compared >= values
    assert report.ok


def test_real_lines_pushed_one_invoice_at_a_time_while_lookups_run():
    assert stream_all("invoice", most=3_000, lookups=400, seed=3) == 0
