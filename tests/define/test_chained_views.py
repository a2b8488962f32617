"""A view over another view's rows has the values of one view with the functions written out."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from featurekit import FeatureStore
from featurekit.errors import DefinitionError
from featurekit.parity.compare import bits

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import Count, Last, Max, Sum

user = Entity("user", join_keys={"user_id": int})
shop = Entity("shop", join_keys={"shop_id": str})
orders = EventSource(
    "orders", path="data/orders.parquet",
    schema={
        "user_id": int, "shop_id": str, "quantity": int, "price": float, "code": str | None,
    },
    timestamp_field="at", created_timestamp_column="arrived",
)

@feature
def amount(quantity: int, price: float) -> float:
    return quantity * price

@feature
def per_unit(quantity: int, price: float) -> float:
    return price / quantity

@feature
def discounted(code: str | None) -> bool:
    return code is not None and code.startswith("D")

rows = FeatureView(
    "rows", entities=[user], source=orders, ttl="2d",
    features={"shop_id": "shop_id", "value": amount, "per_unit": per_unit, "units": "quantity",
              "discounted": discounted},
)

@feature
def large(value: float, units: int) -> bool:
    return value > 20.0 and units > 1

@feature
def ratio(per_unit: float, value: float) -> float | None:
    return None if value < 0.0 else value / (1.0 + per_unit)

flagged = FeatureView(
    "flagged", entities=[user], source=rows,
    features={"large": large, "ratio": ratio, "units": "units", "value": "value"},
)
by_shop = FeatureView(
    "by_shop", entities=[shop], source=rows,
    features={
        "total": Sum("value", window="3d"),
        "large_total": Sum("value", where=large, window="3d", default=0.0),
        "most": Max("units", window="lifetime_or_9d"),
        "last_ratio": Last(ratio, window="9d"),
        "discounts": Count(where="discounted", window="3d"),
    },
)
of_flagged = FeatureView(
    "of_flagged", entities=[user], source=flagged,
    features={"larges": Count(where="large", window="5d"), "best": Max("ratio", window="5d")},
)

@feature
def large_written_out(quantity: int, price: float) -> bool:
    return quantity * price > 20.0 and quantity > 1

@feature
def ratio_written_out(quantity: int, price: float) -> float | None:
    unit = price / quantity
    value = quantity * price
    return None if value < 0.0 else value / (1.0 + unit)

flat = FeatureView(
    "flat", entities=[user], source=orders,
    features={"large": large_written_out, "ratio": ratio_written_out, "units": "quantity",
              "value": amount},
)
flat_by_shop = FeatureView(
    "flat_by_shop", entities=[shop], source=orders,
    features={
        "total": Sum(amount, window="3d"),
        "large_total": Sum(amount, where=large_written_out, window="3d", default=0.0),
        "most": Max("quantity", window="9d"),
        "last_ratio": Last(ratio_written_out, window="9d"),
        "discounts": Count(where=discounted, window="3d"),
    },
)
of_flat = FeatureView(
    "of_flat", entities=[user], source=orders,
    features={
        "larges": Count(where=large_written_out, window="5d"),
        "best": Max(ratio_written_out, window="5d"),
    },
)
service = FeatureService(
    "service", features=[flagged, by_shop, of_flagged, flat, flat_by_shop, of_flat],
)
""".replace("lifetime_or_9d", "9d")
START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
PAIRS = (("flagged", "flat"), ("by_shop", "flat_by_shop"), ("of_flagged", "of_flat"))


def order(rng: random.Random, at: dt.datetime) -> dict[str, Any]:
    return {
        "user_id": rng.randint(1, 5),
        "shop_id": rng.choice("abc"),
        "quantity": rng.choice((0, 1, 2, 3, -1)),  # 0 errs in per_unit, and so in ratio
        "price": round(rng.uniform(-5, 30), 2),
        "code": rng.choice((None, "D1", "X")),
        "at": at,
    }


def orders(rng: random.Random) -> pa.Table:
    made = [order(rng, START + dt.timedelta(hours=rng.randint(0, 240))) for _ in range(150)]
    columns: dict[str, Any] = {n: [r[n] for r in made] for n in made[0]}
    late = [r["at"] + dt.timedelta(hours=rng.choice((0, 0, 5))) for r in made]
    for name, values in (("at", columns["at"]), ("arrived", late)):
        columns[name] = pa.array(values, pa.timestamp("us", tz="UTC"))
    return pa.table(columns)


def test_a_chain_is_what_its_functions_are_written_out(
    make_repo: Callable[..., Path], redis_url: str
) -> None:
    rng = random.Random(11)
    folder = make_repo(MODULE, {"orders": orders(rng)})
    with FeatureStore(folder, redis_url=redis_url) as store:
        store.online.client.flushall()  # type: ignore[attr-defined]
        store.apply()
        store.materialize()
        now = dt.datetime.now(dt.UTC)
        store.push("orders", [order(rng, now) for _ in range(6)])
        later = dt.datetime.now(dt.UTC)
        asked = [
            {"user_id": u, "shop_id": s, "event_timestamp": at}
            for u in range(7)
            for s in "abz"
            for at in (START, START + dt.timedelta(days=5, hours=1), later)
        ]
        training = store.get_historical_features(asked, "service", statuses=True).to_arrow()
        latest = [{k: r[k] for k in ("user_id", "shop_id")} for r in asked[2::3]]
        served = store.get_online_features("service", latest, as_of=later)
        seen = set()
        for chained, flat in PAIRS:
            for name in training.column_names:
                if not name.startswith(f"{chained}__"):
                    continue
                other = f"{flat}{name.removeprefix(chained)}"
                offline = training[name].to_pylist()
                assert list(map(bits, offline)) == list(map(bits, training[other].to_pylist()))
                if name.endswith("__status"):
                    seen |= set(offline)
                    continue
                online = served.columns[name]
                assert list(map(bits, online)) == list(map(bits, offline[2::3]))
                assert list(map(bits, online)) == list(map(bits, served.columns[other]))
                assert served.status[name] == served.status[other]
        assert seen >= {"PRESENT", "ERROR", "NULL_VALUE", "NOT_FOUND"}
        report = store.check_parity("service")
        assert report.ok
        assert report.compared > 1000


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("source=flagged", "source=by_shop", "whose features are aggregates"),
        ('"shop_id": "shop_id", "value"', '"value"', "'shop_id' is not in the features of view"),
        ('"shop_id": "shop_id", "value"', '"shop_id": "code", "value"', "a key is a column"),
        ('Sum("value", window', 'Sum("price", window', "view 'rows' has no column 'price'"),
        ("ratio(per_unit: float", "ratio(code: str, per_unit: float", "no column of view 'rows'"),
        ("value: float, units: int", "value: int, units: int", "'value' is declared int"),
        ("@feature\ndef per", '@feature(on_unsupported="python")\ndef per', "is not composed"),
    ],
)  # fmt: skip
def test_chains_that_do_not_fit_are_refused(
    make_repo: Callable[..., Path], old: str, new: str, reason: str
) -> None:
    folder = make_repo(MODULE.replace(old, new), {})
    assert old in MODULE
    with pytest.raises(DefinitionError, match=reason):
        FeatureStore(folder).plan()


def test_a_change_above_is_a_new_version_below(make_repo: Callable[..., Path]) -> None:
    def fingerprints(text: str) -> dict[str, str]:
        with FeatureStore(make_repo(text, {})) as store:
            return {n: v.fingerprint for n, v in store.repo.compiled_views.items()}

    before = fingerprints(MODULE)
    after = fingerprints(MODULE.replace("return price / quantity", "return price / quantity + 1.0"))
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"rows", "flagged", "by_shop", "of_flagged"}
