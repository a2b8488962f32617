"""A service of visits and a scenario of it, for tests of what is wrong with one."""

from __future__ import annotations

from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import Count, Last, Sum
from featurekit.define.compile_service import compile_service
from featurekit.parity.scenario import Delivery, Scenario

SECOND = 1_000_000
customer = Entity("customer", {"customer_id": int})
orders = EventSource(
    "orders", path="orders.parquet", timestamp_field="at", created_timestamp_column="known_at",
    schema={"customer_id": int, "amount": float, "word": str | None},
)  # fmt: skip
visits = EventSource(
    "visits", path="visits.parquet", timestamp_field="at", schema={"customer_id": int, "page": str}
)


@feature
def half(amount: float) -> float:
    return amount / 2


spending = FeatureView(
    "spending", entities=[customer], source=orders,
    features={
        "spend": Sum("amount", window="1h"),
        "halves": Sum(half, window="1h", default=0.0),
        "orders": Count(window="1h"),
        "word": Last("word", window="1h"),
    },
)  # fmt: skip
latest_visit = FeatureView(
    "latest_visit", entities=[customer], source=visits, ttl="1h", features={"page": "page"}
)


@feature
def share(basket: float, spend: float | None) -> float:
    return 0.0 if spend is None else basket / spend


@feature
def doubled(share: float) -> float:
    return share * 2


SERVICE = compile_service(
    FeatureService(
        "service",
        features=[spending, latest_visit, share, doubled],
        request={"basket": float},
    )
)


def order(ts: int, amount: float, word: str | None = None, *, created: int | None = None,
          customer_id: int = 1) -> Delivery:  # fmt: skip
    row = {"customer_id": customer_id, "amount": amount, "word": word}
    return Delivery("orders", row | {"__ts": ts, "__created": ts if created is None else created})


def visit(ts: int, page: str) -> Delivery:
    return Delivery("visits", {"customer_id": 1, "page": page, "__ts": ts, "__created": ts})


SCENARIO = Scenario(
    SERVICE,
    (
        order(SECOND, 0.1, "a"),
        order(2 * SECOND, 0.2, created=9 * SECOND),
        visit(2 * SECOND, "/"),
        order(3 * SECOND, 0.3, "b"),
        order(4 * SECOND, 7.0, customer_id=2),
    ),
    {"customer_id": 1, "basket": 3.0},
    5 * SECOND,
)
