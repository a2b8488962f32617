"""Views whose rows take features of other views: late rows on both sides, ties, corrections."""

from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import Count, FirstN, LastN, Sum

from .everything import customer

product = Entity("product", {"product_id": int})
brand = Entity("brand", {"brand": str})
STAMPS = {"timestamp_field": "at", "created_timestamp_column": "known_at"}

price_list = EventSource(
    "price_list",
    path="price_list.parquet",
    schema={"product_id": int, "price": float, "brand": str | None},
    **STAMPS,
)
brand_list = EventSource(
    "brand_list",
    path="brand_list.parquet",
    schema={"brand": str, "share": float},
    **STAMPS,
)
price_tags = EventSource(
    "price_tags",
    path="price_tags.parquet",
    schema={"tag": int, "change": str, "product_id": int, "tagged": float},
    event_id="tag",
    op="change",
    dedupe_within="7d",
    **STAMPS,
)
sales = EventSource(
    "sales",
    path="sales.parquet",
    schema={"customer_id": int | None, "product_id": int | None, "pieces": int},
    **STAMPS,
)
bills = EventSource(
    "bills",
    path="bills.parquet",
    schema={"bill": str, "kind": str, "customer_id": int, "product_id": int, "pieces": int},
    event_id="bill",
    op="kind",
    dedupe_within="7d",
    **STAMPS,
)


@feature
def paid(pieces: int, price: float | None) -> float | None:
    return None if price is None else pieces * price


@feature
def is_dear(price: float | None) -> bool:
    return price is not None and price > 10.0


listed = FeatureView(
    "listed",
    entities=[product],
    source=price_list,
    features={"price": "price", "brand": "brand"},
    ttl="7d",
)
shares = FeatureView(
    "shares", entities=[brand], source=brand_list, features={"share": "share"}, history="1d"
)
tags = FeatureView("tags", entities=[product], source=price_tags, features={"tagged": "tagged"})

sold_at = sales.join(listed, on="product_id").join(shares, on="brand")
sums_of_sales = FeatureView(
    "sums_of_sales",
    entities=[customer],
    source=sold_at,
    features={
        "paid_7d": Sum(paid, window="7d"),
        "dear_1d": Count(where=is_dear, window="1d"),
        "last_prices": LastN("price", n=5, window="30d"),
        "first_prices": FirstN("price", n=3, window="7d"),
        "last_shares": LastN("share", n=4, window="30d"),
    },
)
last_sale = FeatureView(
    "last_sale",
    entities=[customer],
    source=sales.join(tags, on="product_id"),
    features={"tagged": "tagged", "pieces": "pieces"},
    ttl="30d",
)
of_brands = FeatureView(
    "of_brands",
    entities=[brand],
    source=sold_at,
    features={"brand_rows": Count(window="30d"), "brand_prices": LastN("price", n=3, window="7d")},
)
billed_at = FeatureView(
    "billed_at",
    entities=[customer],
    source=bills.join(tags, on="product_id").join(listed, on="product_id", take=["price"]),
    features={
        "tagged_30d": LastN("tagged", n=5, window="30d"),
        "bills_paid": Sum(paid, window="30d"),
    },
)
joined = FeatureService("joined", features=[sums_of_sales, last_sale, of_brands])
joined_ids = FeatureService("joined_ids", features=[billed_at, tags])
