"""What a model of churn learns from: how a customer has bought, and whether they buy again.

The order lines are those of "Online Retail" (UCI Machine Learning Repository, D. Chen, 2015), or
generated ones with the same columns.
"""

from featurekit import (
    Between,
    Entity,
    EventSource,
    FeatureService,
    FeatureView,
    NotNullShare,
    RowCount,
    Share,
    feature,
)
from featurekit.aggregates import Any, Count, CountDistinct, Mean, Sum, TimeSince

customer = Entity("customer", join_keys={"customer_id": int})

order_lines = EventSource(
    "order_lines",
    path="data/order_lines.parquet",
    schema={
        "invoice_no": str,
        "stock_code": str,
        "quantity": int,
        "unit_price": float,
        "customer_id": int | None,
        "country": str,
    },
    timestamp_field="invoice_date",
    timezone="Europe/London",
    expect=[
        RowCount(100),
        NotNullShare("customer_id", 0.5),
        Share(Between("unit_price", 0.0, 1_000.0), 0.99),
        Between("quantity", -100_000, 100_000),
    ],
)


@feature
def amount(quantity: int, unit_price: float) -> float:
    """Value of the line in pounds; negative for a return."""
    return quantity * unit_price


@feature
def is_purchase(quantity: int) -> bool:
    """Whether the line sells something: it is no return."""
    return quantity > 0


@feature
def is_return(quantity: int) -> bool:
    """Whether the line takes goods back."""
    return quantity < 0


@feature
def is_abroad(country: str) -> bool:
    """Whether the goods leave the country."""
    return country != "United Kingdom"


buying = FeatureView(
    "buying",
    entities=[customer],
    source=order_lines,
    features={
        "seconds_since_order": TimeSince(window="180d", where=is_purchase),
        "orders_30d": CountDistinct("invoice_no", window="30d", where=is_purchase),
        "orders_90d": CountDistinct("invoice_no", window="90d", where=is_purchase),
        "orders_180d": CountDistinct("invoice_no", window="180d", where=is_purchase),
        "spend_90d": Sum(amount, window="90d", default=0.0),
        "mean_price_90d": Mean("unit_price", window="90d", where=is_purchase),
        "products_90d": CountDistinct("stock_code", window="90d", where=is_purchase),
        "return_share_180d": Mean(is_return, window="180d"),
        "abroad_180d": Any(is_abroad, window="180d"),
    },
)


@feature
def spend_an_order(spend_90d: float, orders_90d: int) -> float | None:
    """What an order brings in, in pounds; None without one."""
    return None if orders_90d == 0 else spend_90d / orders_90d


@feature
def churned(purchases_next_90d: int) -> bool:
    """Whether the customer buys nothing for 90 days."""
    return purchases_next_90d == 0


future = FeatureView(
    "future",
    entities=[customer],
    source=order_lines,
    features={
        "purchases_next_90d": Count(window="90d", where=is_purchase, ahead=True),
        "churned": churned,
    },
)

churn_v1 = FeatureService("churn_v1", features=[buying, spend_an_order])
