"""The features of an online shop: its customers, its products, and a customer with a product.

The order lines are those of "Online Retail" (UCI Machine Learning Repository, D. Chen, 2015), or
generated ones with the same columns: `featurekit demo --write-data data` in this folder writes
them. Everything below is ordinary Python: a @feature can be called, stepped through and tested like
the function that it is.
"""

import math

from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import Count, CountDistinct, Last, Max, Mean, Min, Sum

SALES, PRICING = "sales-analytics@shop.example", "pricing@shop.example"

# ── Entities ──────────────────────────────────────────────────────────────────────────────────────

customer = Entity(
    "customer",
    join_keys={"customer_id": int},
    description="Somebody with an account; guests, a quarter of all lines, have none.",
    owner=SALES,
)
product = Entity(
    "product",
    join_keys={"stock_code": str},
    description="What a line sells; a few codes are services, such as postage.",
    owner=PRICING,
)

# ── Sources ───────────────────────────────────────────────────────────────────────────────────────

order_lines = EventSource(
    "order_lines",
    path="data/order_lines.parquet",
    schema={
        "invoice_no": str,
        "stock_code": str,
        "description": str | None,
        "quantity": int,
        "unit_price": float,
        "customer_id": int | None,
        "country": str,
    },
    timestamp_field="invoice_date",
    timezone="Europe/London",
    description="Lines of invoices, in the local time of the tills, to the minute.",
    owner=SALES,
    tags={"licence": "CC BY 4.0"},
)
price_list = EventSource(
    "price_list",
    path="data/price_list.parquet",
    schema={"stock_code": str, "list_price": float | None, "revision": int},
    timestamp_field="effective_from",
    created_timestamp_column="recorded_at",
    sequence="revision",
    description="Decisions on prices. Many are recorded days after they took effect, and some are "
    "corrected by a later revision; None withdraws a product from sale.",
    owner=PRICING,
)

# ── Customers ─────────────────────────────────────────────────────────────────────────────────────


@feature(owner=SALES, tags={"unit": "GBP"})
def amount(quantity: int, unit_price: float) -> float:
    """Value of the line in pounds; negative for a return."""
    return quantity * unit_price


@feature(owner=SALES)
def is_return(invoice_no: str) -> bool:
    """Whether the line takes goods back."""
    return invoice_no.startswith("C")


@feature(owner=SALES)
def log_amount(quantity: int, unit_price: float) -> float | None:
    """Natural logarithm of what a line brought in; None for returns and gifts."""
    value = quantity * unit_price
    if value <= 0.0:
        return None
    return math.log(value)


customer_orders = FeatureView(
    "customer_orders",
    entities=[customer],
    source=order_lines,
    features={
        "spend_7d": Sum(amount, window="7d", default=0.0),
        "spend_7d_before": Sum(amount, window="7d", offset="7d", default=0.0),
        "spend_30d": Sum(amount, window="30d", default=0.0),
        "lines_7d": Count(window="7d"),
        "orders_30d": CountDistinct("invoice_no", window="30d"),
        "largest_line_30d": Max(amount, window="30d"),
        "smallest_line_30d": Min(amount, window="30d"),
        "mean_log_line_90d": Mean(log_amount, window="90d"),
        "return_share_90d": Mean(is_return, window="90d", hop="1h"),
        "country": Last("country", window="365d"),
    },
    description="How much, how often and from where a customer buys.",
    owner=SALES,
    tags={"personal": "yes"},
)

# ── Products ──────────────────────────────────────────────────────────────────────────────────────

SERVICE_CODES = ("POST", "DOT", "D", "M", "S", "BANK CHARGES", "AMAZONFEE")


@feature(owner=PRICING)
def is_sale_of_goods(stock_code: str, quantity: int, unit_price: float) -> bool:
    """Whether the line sells goods for money: no service, no return, no gift."""
    return stock_code.strip() not in SERVICE_CODES and quantity > 0 and unit_price > 0.0


product_sales = FeatureView(
    "product_sales",
    entities=[product],
    source=order_lines,
    features={
        "units_sold_7d": Sum("quantity", window="7d", where=is_sale_of_goods, default=0),
        "revenue_28d": Sum(amount, window="28d", hop="1h", default=0.0),
        "mean_price_30d": Mean("unit_price", window="30d", where=is_sale_of_goods),
        "buyers_30d": CountDistinct("customer_id", window="30d"),
    },
    description="How well a product sells.",
    owner=PRICING,
)


@feature(owner=PRICING)
def price_band(list_price: float | None) -> str:
    """The shelf that a product's price puts it on."""
    if list_price is None:
        return "withdrawn"
    if list_price < 1.0:
        return "under a pound"
    elif list_price < 5.0:
        return "small"
    return "middle" if list_price < 20.0 else "large"


product_price = FeatureView(
    "product_price",
    entities=[product],
    source=price_list,
    features={"list_price": "list_price", "price_band": price_band, "price_revision": "revision"},
    ttl="60d",
    description="The latest decision on a product's price; after 60 days it no longer holds.",
    owner=PRICING,
)

# ── A customer with a product ─────────────────────────────────────────────────────────────────────

customer_product = FeatureView(
    "customer_product",
    entities=[customer, product],
    source=order_lines,
    features={
        "bought_90d": Sum("quantity", window="90d", default=0),
        "times_bought_90d": CountDistinct("invoice_no", window="90d"),
        "price_last_paid": Last("unit_price", window="365d"),
    },
    description="What this customer does with this product; returns count against purchases.",
    owner=SALES,
    tags={"personal": "yes"},
)

# ── At the time of the request ────────────────────────────────────────────────────────────────────


@feature(owner=SALES)
def basket_vs_habit(basket_value: float, spend_30d: float, orders_30d: int) -> float | None:
    """This basket against the customer's usual one; None for a customer without orders."""
    if orders_30d == 0 or spend_30d <= 0.0:
        return None
    return basket_value / (spend_30d / orders_30d)


@feature(owner=SALES)
def spend_trend(spend_7d: float, spend_7d_before: float) -> float:
    """Between -1 and 1 for buyers: how much more of two weeks' spending fell in the second."""
    both = abs(spend_7d) + abs(spend_7d_before)
    return 0.0 if both == 0.0 else (spend_7d - spend_7d_before) / both


@feature(owner=PRICING)
def discount(offered_price: float, list_price: float | None) -> float | None:
    """The part of the list price that an offer gives away, 0 to 1; None without a list price."""
    if list_price is None or list_price <= 0.0:
        return None
    return max(0.0, 1.0 - offered_price / list_price)


# ── Services ──────────────────────────────────────────────────────────────────────────────────────

checkout_v1 = FeatureService(
    "checkout_v1",
    features=[customer_orders, basket_vs_habit, spend_trend],
    request={"basket_value": float},
    description="Read when a customer checks out: is this order like the ones before?",
    owner=SALES,
    tags={"tier": "critical"},
)
offer_v1 = FeatureService(
    "offer_v1",
    features=[
        product_sales,
        product_price,
        customer_product,
        customer_orders[["spend_30d", "return_share_90d"]],
        discount,
    ],
    request={"offered_price": float},
    description="Read when a product page is shown to a customer: what to offer, at which price.",
    owner=PRICING,
)
