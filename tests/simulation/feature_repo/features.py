"""What the simulated shop knows of its customers: how they buy, and the newest line of each."""

from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import CountDistinct, Mean, TimeSince

customer = Entity("customer", join_keys={"customer_id": int})

order_lines = EventSource(
    "order_lines",
    path="data/order_lines.parquet",
    schema={
        "invoice_no": str,
        "stock_code": str,
        "quantity": int,
        "unit_price": float,
        "customer_id": int,
        "country": str,
    },
    timestamp_field="invoice_date",
)


@feature
def is_purchase(quantity: int) -> bool:
    """Whether the line sells something: it is no return."""
    return quantity > 0


@feature
def is_return(quantity: int) -> bool:
    """Whether the line takes goods back."""
    return quantity < 0


@feature
def amount(quantity: int, unit_price: float) -> float:
    """Value of the line in pounds; negative for a return."""
    return quantity * unit_price


buying = FeatureView(
    "buying",
    entities=[customer],
    source=order_lines,
    features={
        "seconds_since_order": TimeSince(window="90d", where=is_purchase),
        "orders_30d": CountDistinct("invoice_no", window="30d", where=is_purchase),
        "orders_90d": CountDistinct("invoice_no", window="90d", where=is_purchase),
        "products_90d": CountDistinct("stock_code", window="90d", where=is_purchase),
        "return_share_90d": Mean(is_return, window="90d"),
    },
)

last_line = FeatureView(
    "last_line",
    entities=[customer],
    source=order_lines,
    features={
        "quantity": "quantity",
        "unit_price": "unit_price",
        "amount": amount,
        "country": "country",
    },
)

churn_v1 = FeatureService("churn_v1", features=[buying])
lines_v1 = FeatureService("lines_v1", features=[last_line])
