"""The real data is one training set and the same states, wherever it lies."""

from __future__ import annotations

import datetime as dt
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import origins
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from slow import slow_unless

from featurekit import Entity, EventSource, FeatureService, FeatureStore, FeatureView
from featurekit.aggregates import Count, CountDistinct, Last, Mean, Sum

RETAIL = Path(__file__).parents[3] / "shared" / "data" / "online_retail.parquet"
KINDS = [*origins.FILES, "s3", "postgres", "frame"]
customer = Entity("customer", {"customer_id": int})
SCHEMA: dict[str, Any] = {
    "country": str, "invoice_no": str, "description": str | None, "quantity": int,
    "unit_price": float, "customer_id": int | None,
}  # fmt: skip


@cache
def retail() -> pa.Table:
    if not RETAIL.exists():
        pytest.skip(f"the real data is not at {RETAIL}")
    return pq.read_table(RETAIL, columns=[*SCHEMA, "invoice_date"])


@cache
def labels() -> pa.Table:
    """The customers as of three instants, with those whom nobody knows."""
    known = pc.drop_null(retail()["customer_id"].unique()).take(list(range(0, 2_000, 4)))
    at = [dt.datetime(2011, month, 27, 1, 30, tzinfo=dt.UTC) for month in (3, 7, 11)]
    return pa.concat_tables(
        pa.table({"customer_id": known, "event_timestamp": [one] * len(known)}) for one in at
    )


def learned(options: dict[str, Any]) -> tuple[str, dict[bytes, bytes | None]]:
    """The hash of a training set, and the states."""
    how = {"timezone": "Europe/London", "timestamp_format": "iso", **options}
    made = EventSource("lines", schema=SCHEMA, timestamp_field="invoice_date", **how)
    features = {
        "lines_30d": Count(window="30d"), "paid_30d": Sum("unit_price", window="30d"),
        "mean_90d": Mean("unit_price", window="90d"), "last": Last("description", window="90d"),
        "invoices_90d": CountDistinct("invoice_no", window="90d"),
        "pieces_7d": Sum("quantity", window="7d"),
    }  # fmt: skip
    view = FeatureView("bought", entities=[customer], source=made, features=features)
    service = FeatureService("service", features=[view])
    with FeatureStore(definitions=[service]) as store:
        store.apply()
        store.materialize(dt.datetime(2011, 12, 10, tzinfo=dt.UTC))
        keys = sorted(key for key in store.online.keys(b"fk:") if b":state:" in key)
        states = dict(zip(keys, store.online.read(keys), strict=True))
        made_of = store.get_historical_features(labels(), "service")
        assert sum(row["lines_30d"] or 0 for row in made_of.to_pylist()) > 5_000
        return made_of.manifest["content_hash"], states


@cache
def expected() -> tuple[str, dict[bytes, bytes | None]]:
    with TemporaryDirectory() as folder:
        return learned(origins.to_parquet(retail(), Path(folder)))


@pytest.mark.parametrize("kind", slow_unless(lambda kind: kind == "hive", KINDS[1:]))
def test_the_real_data_is_one_training_set_and_the_same_states(write: Any, kind: str) -> None:
    options = {"frame": retail()} if kind == "frame" else write(kind, retail())
    found, states = learned(options)
    assert len(states) > 1_000
    assert (found, states) == expected()
