"""Real order lines, cut into two files that call their columns otherwise: the view over both has
the values of the view over one file, bit for bit, and its states have the same bytes."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from featurekit import FeatureStore
from featurekit.core.keys import state_prefix
from featurekit.offline.manifest import ContentHash
from featurekit.online.state.blocks import open_state
from featurekit.online.state.seal import opened

ROOT = Path(__file__).parents[2]
FOUND = [folder / "shared" / "data" / "online_retail.parquet" for folder in ROOT.parents[:2]]
RETAIL = next((path for path in FOUND if path.exists()), FOUND[0])
pytestmark = pytest.mark.skipif(
    not RETAIL.exists(), reason=f"the real order lines are not here: {RETAIL}"
)
LINES, LABELS = 60_000, 8_000
LONDON = ZoneInfo("Europe/London")
MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import CountDistinct, LastN, Max, Mean, StdDev, Sum, ValueCounts

customer = Entity("customer", {"customer_id": int})
lines = EventSource(
    "lines", path="lines.parquet", timestamp_field="invoice_date", timezone="Europe/London",
    schema={"customer_id": int | None, "stock_code": str, "quantity": int, "unit_price": float,
            "country": str},
)
web = EventSource(
    "web", path="web.parquet", timestamp_field="invoice_date", timezone="Europe/London",
    schema={"invoice_no": str, "customer_id": int | None, "stock_code": str, "quantity": int,
            "unit_price": float, "country": str},
)
app = EventSource(
    "app", path="app.parquet", timestamp_field="sold_at",
    schema={"land": str, "pieces": int, "price": float, "buyer": int | None, "article": str,
            "words": str | None},
)
both = [web, {app: {"customer_id": "buyer", "stock_code": "article", "quantity": "pieces",
                    "unit_price": "price", "country": "land"}}]

@feature
def spent(quantity: int, unit_price: float) -> float:
    return quantity * unit_price

@feature
def returned(quantity: int) -> bool:
    return quantity < 0

def features():
    return {
        "spent_7d": Sum(spent, window="7d"), "spread_30d": StdDev(spent, window="30d"),
        "mean_30d": Mean("unit_price", window="30d"), "most_7d": Max(spent, window="7d"),
        "returns_30d": Sum("quantity", where=returned, window="30d"),
        "articles_30d": CountDistinct("stock_code", window="30d"),
    }

def ordered():
    return {
        "last_articles": LastN("stock_code", n=5, window="90d"),
        "last_spent": LastN(spent, n=5, window="90d"),
        "countries": ValueCounts("country", window="90d"),
    }

def views(suffix, **of):
    made = {"entities": [customer], **of}
    row = {"stock_code": "stock_code", "spent": spent, "country": "country"}
    return [
        FeatureView(f"windows_{suffix}", features=features(), **made),
        FeatureView(f"ordered_{suffix}", features=ordered(), **made),
        FeatureView(f"latest_{suffix}", features=row, ttl="60d", **made),
    ]

one = FeatureService("one", features=views("one", source=lines))
two = FeatureService("two", features=views("two", sources=both))
"""


@pytest.fixture(scope="module")
def lines() -> pa.Table:
    table = pq.read_table(RETAIL).slice(100_000, LINES)
    return table.filter(pc.is_valid(table["unit_price"]))


@pytest.fixture(scope="module")
def store(lines: pa.Table, tmp_path_factory: Any) -> Iterator[FeatureStore]:
    folder = tmp_path_factory.mktemp("split")
    (folder / "feature_store.yaml").write_text(
        "project: split\nprovider: local\nonline_store:\n  type: redis\n", encoding="utf-8"
    )
    (folder / "definitions.py").write_text(MODULE, encoding="utf-8")
    pq.write_table(lines, folder / "lines.parquet")
    # By the price: of the lines of one invoice, which have one instant, some stand in either file.
    app = pc.greater(lines["unit_price"], 2.0)
    pq.write_table(lines.filter(pc.invert(app)), folder / "web.parquet")
    mine = lines.filter(app)
    sold = [at.replace(tzinfo=LONDON).astimezone(dt.UTC) for at in mine["invoice_date"].to_pylist()]
    pq.write_table(
        pa.table({
            "sold_at": pa.array(sold, pa.timestamp("ms", tz="Asia/Tokyo")),
            "price": mine["unit_price"], "buyer": mine["customer_id"], "land": mine["country"],
            "pieces": mine["quantity"].cast(pa.int64()), "article": mine["stock_code"],
            "words": mine["description"],
        }),
        folder / "app.parquet",
    )  # fmt: skip
    with FeatureStore(folder) as made:
        made.apply()
        made.materialize()
        yield made


@pytest.fixture(scope="module")
def frame(lines: pa.Table) -> pa.Table:
    """Labels at the lines' own instants, at the ends of windows, and beside both."""
    rng = random.Random(3)
    known = [row for row in lines.select(["customer_id", "invoice_date"]).to_pylist()
             if row["customer_id"] is not None]  # fmt: skip
    rows = []
    for line in rng.choices(known, k=LABELS):
        at = line["invoice_date"].replace(tzinfo=LONDON).astimezone(dt.UTC)
        at += rng.choice((0, 0, 7, 30, 60, 90)) * dt.timedelta(days=1)
        at += dt.timedelta(microseconds=rng.choice((-1, 0, 1)))
        rows.append({"customer_id": line["customer_id"], "event_timestamp": at})
    return pa.Table.from_pylist(rows)


def content(store: FeatureStore, service: str, frame: pa.Table) -> tuple[str, pa.Table]:
    """The hash of a training set with its statuses."""
    table = store.get_historical_features(frame, service, statuses=True).to_arrow()
    digest = ContentHash(table.schema)
    for batch in table.to_batches():
        digest.update(batch)
    return digest.hexdigest(), table


def states(store: FeatureStore, name: str) -> dict[bytes, Any]:
    """The bytes of a view's states by entity; of those in blocks, their events."""
    online = store.parts.online
    view = next(v for v in store.parts.fed() if v.name == name)
    prefix = state_prefix(store.parts.name, view)
    keys = list(online.keys(prefix))
    found: dict[bytes, Any] = {}
    for key, value in zip(keys, online.read(keys), strict=True):
        blob = opened(key, value or b"")
        state = open_state(view, key, blob, online.read)
        found[key[len(prefix) :]] = blob[:40] if len(state.events) > 400 else blob, state.events
    return found


def test_the_training_sets_have_one_content(store: FeatureStore, frame: pa.Table) -> None:
    one, table = content(store, "one", frame)
    two, other = content(store, "two", frame)
    assert table.num_rows == LABELS
    assert one == two
    assert table.equals(other)
    assert pc.sum(pc.is_valid(table["spent_7d"])).as_py() > LABELS // 4


@pytest.mark.parametrize("kind", ["windows", "ordered", "latest"])
def test_the_states_have_the_same_bytes(store: FeatureStore, kind: str) -> None:
    one, two = states(store, f"{kind}_one"), states(store, f"{kind}_two")
    assert len(one) > 500
    assert one == two


def test_no_bit_differs_from_a_replay(store: FeatureStore) -> None:
    report = store.check_parity("two", mode="history", values=20_000, seed=2)
    assert report.ok, str(report)
    assert report.compared >= 20_000
