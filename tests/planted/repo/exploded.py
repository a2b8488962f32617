"""Views of which each element of a list is an event."""

import datetime as dt

from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import Count, CountDistinct, FirstN, Last, LastN, Sum

from .everything import customer

article = Entity("article", {"article": str})

baskets = EventSource(
    "baskets",
    path="baskets.parquet",
    schema={
        "customer_id": int | None,
        "article": list[str | None] | None,
        "prices": list[float],
        "days": list[dt.date | None],
        "n": int,
        "amount": float,
    },
    timestamp_field="at",
    created_timestamp_column="known_at",
    timezone="Europe/London",
    sequence="n",
)
carts = EventSource(
    "carts",
    path="carts.parquet",
    schema={"amount": float, "cart": list[str | None] | None, "customer_id": int | None},
    timestamp_field="at",
    created_timestamp_column="known_at",
)
invoices = EventSource(
    "invoices",
    path="invoices.parquet",
    schema={
        "invoice": int, "change": str, "customer_id": int, "article": list[str], "amount": float,
    },
    timestamp_field="at",
    created_timestamp_column="known_at",
    event_id="invoice",
    op="change",
    dedupe_within="7d",
)  # fmt: skip
receipts = EventSource(
    "receipts",
    path="receipts.parquet",
    schema={"receipt": str, "customer_id": int, "lines": list[float | None]},
    timestamp_field="at",
    created_timestamp_column="known_at",
    event_id="receipt",
)


@feature
def per_basket(prices: float, amount: float) -> float:
    return prices / amount


paid = FeatureView(
    "paid",
    entities=[customer],
    source=baskets,
    explode="prices",
    features={
        "prices": Sum("prices", window="7d"),
        "last_prices": LastN("prices", n=5, window="7d"),
        "first_prices": FirstN("prices", n=3, window="1d"),
        "share": Last(per_basket, window="7d"),
    },
)
paid_last = FeatureView(
    "paid_last",
    entities=[customer],
    source=baskets,
    explode="days",
    features={"day": "days", "amount": "amount", "prices": "prices"},
    ttl="30d",
)
sold = FeatureView(
    "sold",
    entities=[article],
    sources=[baskets, {carts: {"article": "cart"}}],
    explode="article",
    features={
        "times": Count(window="7d"),
        "buyers": CountDistinct("customer_id", window="30d"),
        "last_amount": Last("amount", window="7d"),
    },
)
sold_last = FeatureView(
    "sold_last",
    entities=[article],
    source=baskets,
    explode="article",
    features={"article_amount": "amount", "n": "n"},
)
billed = FeatureView(
    "billed",
    entities=[article],
    source=invoices,
    explode="article",
    features={"billed_sum": Sum("amount", window="30d"), "billed": Count(window="lifetime")},
)
billed_last = FeatureView(
    "billed_last",
    entities=[customer],
    source=invoices,
    explode="article",
    features={"last_article": "article", "invoice": "invoice"},
)
lines = FeatureView(
    "lines",
    entities=[customer],
    source=receipts,
    explode="lines",
    features={"lines": Count("lines", window="1d"), "last_lines": LastN("lines", n=3, window="1d")},
)
exploded = FeatureService("exploded", features=[paid, paid_last, sold, sold_last])
exploded_ids = FeatureService("exploded_ids", features=[billed, billed_last, lines])
