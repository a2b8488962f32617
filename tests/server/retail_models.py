"""A feature repo of real order lines, whose features model servers read."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import serving

from featurekit import FeatureStore

ROOT = Path(__file__).parents[2]
FOUND = [above / "shared" / "data" / "online_retail.parquet" for above in ROOT.parents]
RETAIL = next((path for path in FOUND if path.exists()), FOUND[0])
LINES = 60_000
AS_OF = "2011-01-17T18:00:00Z"
"""After the last of these lines."""

COLUMNS = [
    "spend", "n", "mean_price", "last_quantity", "country", "abroad",
    "basket_share", "basket_itself",
]  # fmt: skip
KINDS = ["FP64", "INT64", "FP64", "FP64", "BYTES", "FP64", "FP64", "FP64"]
"""The features of churn_v1 in their order, and the type of each at a server of the Open Inference
Protocol: the last quantity and `abroad` may be None, so that they are sent as floats."""

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import Any, Count, Last, Mean, Sum

customer = Entity("customer", {"customer_id": int})
lines = EventSource("lines", path="lines.parquet", timestamp_field="invoice_date",
                    timezone="Europe/London",
                    schema={"customer_id": int | None, "quantity": int, "unit_price": float,
                            "country": str})

@feature
def amount(quantity: int, unit_price: float) -> float:
    return quantity * unit_price

@feature
def is_abroad(country: str) -> bool:
    return country != "United Kingdom"

@feature
def basket_share(spend: float | None, basket: float) -> float | None:
    return None if spend is None or spend == 0.0 else basket / spend

@feature
def basket_itself(basket: float) -> float:
    return basket

spending = FeatureView("spending", entities=[customer], source=lines, features={
    "spend": Sum(amount, window="60d"), "n": Count(window="60d"),
    "mean_price": Mean("unit_price", window="60d"),
    "last_quantity": Last("quantity", window="30d"),
    "country": Last("country", window="60d", default="nowhere"),
    "abroad": Any(is_abroad, window="60d")})

churn_v1 = FeatureService("churn_v1", features=[spending, basket_share, basket_itself],
                          request={"basket": float})
churn_v2 = FeatureService("churn_v2", features=[spending[["n", "spend"]]])
"""


def make(folder: Path, url: str) -> None:
    """Write the repo, apply it, and fill its states."""
    (folder / "feature_store.yaml").write_text(serving.CONFIG.format(url=f'"{url}"'))
    (folder / "definitions.py").write_text(MODULE)
    table = pq.read_table(RETAIL).slice(0, LINES)
    pq.write_table(
        table.select(["customer_id", "quantity", "unit_price", "country", "invoice_date"]),
        folder / "lines.parquet",
    )
    with FeatureStore(folder) as store:
        store.apply()
        store.materialize()


def customers(most: int) -> list[int]:
    """Customers of these lines, in the order in which they came."""
    found = pq.read_table(RETAIL, columns=["customer_id"]).slice(0, LINES)["customer_id"]
    return [one for one in dict.fromkeys(found.to_pylist()) if one is not None][:most]


def rows(most: int) -> list[dict[str, Any]]:
    """A row for each of so many customers, and one for a customer who is unknown."""
    known = [{"customer_id": one, "basket": 0.1 * one} for one in customers(most - 1)]
    return [*known, {"customer_id": 1, "basket": 3.0}]


def instant() -> dt.datetime:
    """AS_OF."""
    return dt.datetime.fromisoformat(AS_OF)
