"""Views over several sources: a web shop and an app that call the same things by other names."""

import datetime as dt

from featurekit import EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import Count, CountDistinct, First, FirstN, Last, LastN, Max, Sum

from .everything import customer

web = EventSource(
    "web",
    path="web.parquet",
    schema={
        "customer_id": int | None,
        "amount": float,
        "word": str | None,
        "pieces": int,
        "url": str,
    },
    timestamp_field="at",
    created_timestamp_column="known_at",
    timezone="Europe/London",
)
app = EventSource(
    "app",
    path="app.parquet",
    schema={
        "price": float,
        "user": int | None,
        "word": str | None,
        "screen": int | None,
        "n": int,
        "taps": int,
    },
    timestamp_field="at",
    created_timestamp_column="stored_at",
    timezone="America/New_York",
    sequence="n",
)
SHARED = {"customer_id": "user", "amount": "price", "pieces": "taps"}


@feature
def each(amount: float, pieces: int) -> float:
    return amount / pieces


@feature
def is_large(amount: float) -> bool:
    return amount > 10.0


bought = FeatureView(
    "bought",
    entities=[customer],
    sources=[web, {app: SHARED}],
    features={
        "amount_sum": Sum("amount", window="7d"),
        "large": Count(where=is_large, window="30d"),
        "each_max": Max(each, window="1d"),
        "first_amount": First("amount", window="7d"),
        "last_amount": Last("amount", window="7d"),
        "last_words": LastN("word", n=4, window="7d"),
        "first_pieces": FirstN("pieces", n=3, window="1d"),
        "words": CountDistinct("word", window="7d"),
    },
    history="1d",
)
bought_last = FeatureView(
    "bought_last",
    entities=[customer],
    sources=[web, {app: SHARED}],
    features={"amount": "amount", "word": "word", "pieces": "pieces", "each": each},
    ttl="30d",
)
web_alone = FeatureView(
    "web_alone",
    entities=[customer],
    source=web,
    features={"url": Last("url", window="7d"), "web_sum": Sum("amount", window="7d")},
)
unions = FeatureService("unions", features=[bought, bought_last, web_alone])


# ── With ids and corrections ──────────────────────────────────────────────────────────────────────

shop_orders = EventSource(
    "shop_orders",
    path="shop_orders.parquet",
    schema={"order_id": int, "customer_id": int, "amount": float, "change": str, "day": dt.date},
    timestamp_field="at",
    created_timestamp_column="known_at",
    event_id="order_id",
    op="change",
    dedupe_within="7d",
)
app_orders = EventSource(
    "app_orders",
    path="app_orders.parquet",
    schema={"order_id": str, "kind": str, "user": int, "price": float, "known_at": dt.datetime},
    timestamp_field="at",
    created_timestamp_column="known_at",
    timezone="Asia/Kolkata",
    event_id="order_id",
    op="kind",
    dedupe_within="7d",
)
shop_clicks = EventSource(
    "shop_clicks",
    path="shop_clicks.parquet",
    schema={"click": bytes, "customer_id": int, "page": str, "seq": int},
    timestamp_field="at",
    created_timestamp_column="known_at",
    event_id="click",
    sequence="seq",
)
app_clicks = EventSource(
    "app_clicks",
    path="app_clicks.parquet",
    schema={"page": str, "click": bytes, "customer_id": int, "seconds": float},
    timestamp_field="at",
    created_timestamp_column="known_at",
    event_id="click",
)
ordered = FeatureView(
    "ordered",
    entities=[customer],
    sources=[shop_orders, {app_orders: {"customer_id": "user", "amount": "price"}}],
    features={
        "order_sum": Sum("amount", window="30d"),
        "orders": Count(window="lifetime"),
        "last_order": Last("amount", window="30d"),
    },
)
ordered_last = FeatureView(
    "ordered_last",
    entities=[customer],
    sources=[shop_orders, {app_orders: {"customer_id": "user", "amount": "price"}}],
    features={"order_amount": "amount"},
)
clicked = FeatureView(
    "clicked",
    entities=[customer],
    sources=[app_clicks, shop_clicks],
    features={"clicks": Count(window="1d"), "last_page": Last("page", window="1d")},
)
union_ids = FeatureService("union_ids", features=[ordered, ordered_last, clicked])
