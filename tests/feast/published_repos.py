"""Feature repos whose definitions are published to a Feast registry."""

from __future__ import annotations

import datetime as dt
import struct
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

STORES = """\
offline_store:
  type: featurekit.plugins.feast.FeaturekitOfflineStore
batch_engine:
  type: featurekit.plugins.feast.FeaturekitEngine
online_store:
  type: featurekit.plugins.feast.FeaturekitOnlineStore
"""
AT = dt.datetime(2026, 3, 1, 12, 0, 0, 123_457, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)

DEFINITIONS = '''
import datetime as dt
import math

from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import Count, Last, Max, Sum

user = Entity("user", join_keys={"user_id": int}, description="Somebody.", owner="ann",
              tags={"team": "core"})
shop = Entity("shop", join_keys={"country": str, "number": int})
orders = EventSource(
    "orders",
    path="data/orders.parquet",
    schema={"user_id": int, "country": str, "number": int, "amount": float, "units": int,
            "note": str | None},
    timestamp_field="at",
    description="What was ordered.",
    owner="ann",
)


@feature(owner="bob")
def rounded(amount: float) -> float | None:
    """The amount, or None for what is no amount."""
    return None if math.isnan(amount) else amount * 1.1


windows = FeatureView(
    "windows", entities=[user], source=orders,
    features={"spend_1d": Sum(rounded, window="1d", default=0.0), "orders_7d": Count(window="7d"),
              "most_7d": Max("amount", window="7d")},
    description="How much a user buys.", owner="ann", tags={"tier": "gold"},
)
latest = FeatureView(
    "latest", entities=[user], source=orders,
    features={"amount": "amount", "units": "units", "note": "note"}, ttl="2d",
)
shops = FeatureView(
    "shops", entities=[shop], source=orders, features={"units_7d": Sum("units", window="7d")},
)


@feature(owner="bob")
def share(basket: float, spend_1d: float) -> float | None:
    """The basket against what was spent in a day."""
    return None if spend_1d == 0.0 else basket / spend_1d


@feature
def far(share: float | None, units: int | None) -> bool:
    return share is not None and units is not None and share > units


checkout = FeatureService(
    "checkout", features=[windows, latest[["units", "note"]], share, far],
    request={"basket": float}, description="At the till.", owner="ann", tags={"model": "till@3"},
)
'''
LABELS = """
bought = FeatureView(
    "bought", entities=[user], source=orders,
    features={"bought_1d": Count(window="1d", ahead=True)},
)
"""
ROLES = """
pair = FeatureService(
    "pair",
    features=[windows[["spend_1d"]].as_("payer", join_keys={"user_id": "payer_id"}),
              windows[["spend_1d", "orders_7d"]].as_("payee", join_keys={"user_id": "payee_id"})],
)
"""


def rows(count: int = 60) -> pa.Table:
    """Orders of six users, some with values that a detour would change."""
    amounts = [0.1, float("nan"), -0.0, 1e300, 5e-324, 2.5, 1 / 3]
    return pa.table({
        "user_id": [i % 6 for i in range(count)],
        "country": [["de", "fr", "ü"][i % 3] for i in range(count)],
        "number": [i % 2 for i in range(count)],
        "amount": [amounts[i % 7] for i in range(count)],
        "units": [9007199254740993 if i % 11 == 3 else i for i in range(count)],
        "note": [None if i % 4 == 0 else f"n{i}" for i in range(count)],
        "at": pa.array([AT + i * HOUR for i in range(count)], pa.timestamp("us", tz="UTC")),
    })  # fmt: skip


def write_repo(
    folder: Path,
    url: str,
    *,
    project: str,
    definitions: str = DEFINITIONS,
    registry: str = "feast.db",
    more: str = "",
    table: pa.Table | None = None,
) -> Path:
    """A repo in `folder` whose definitions are published to the registry."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    pq.write_table(rows() if table is None else table, folder / "data/orders.parquet")
    (folder / "feature_store.yaml").write_text(
        f"project: {project}\nprovider: local\nregistry: {registry}\n"
        f"entity_key_serialization_version: 3\n{STORES}  redis_url: {url}\n{more}"
        "featurekit:\n  publish: feast\n",
        encoding="utf-8",
    )
    (folder / "shop.py").write_text(textwrap.dedent(definitions), encoding="utf-8")
    return folder


def bits(values: Sequence[Any]) -> list[Any]:
    """Values of a column, of which floats are their bits."""
    return [struct.pack("<d", v) if isinstance(v, float) else v for v in values]


def columns(found: Mapping[str, Sequence[Any]], names: Sequence[str]) -> dict[str, list[Any]]:
    """The columns of these names, by their bits."""
    return {name: bits(found[name]) for name in names}
