"""Something of everything: the sources, views and functions on which skews are planted."""

import datetime as dt
import math
from typing import Literal
from zoneinfo import ZoneInfo

from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import (
    All,
    Any,
    ApproxCountDistinct,
    ApproxQuantile,
    BitAnd,
    BitOr,
    Correlation,
    Count,
    CountDistinct,
    Covariance,
    Entropy,
    ExponentialDecay,
    First,
    FirstN,
    GeometricMean,
    Kurtosis,
    Last,
    LastN,
    LinearTrend,
    Max,
    Mean,
    Min,
    Quantile,
    Skew,
    StdDev,
    Sum,
    SumOfSquares,
    TimeSince,
    TopK,
    ValueCounts,
    Variance,
)
from featurekit.core.types import Vector

LONDON = ZoneInfo("Europe/London")

customer = Entity("customer", {"customer_id": int})
shop = Entity("shop", {"shop": str})

# ── Sources ───────────────────────────────────────────────────────────────────────────────────────

payments = EventSource(
    "payments",
    path="payments.parquet",
    schema={
        "customer_id": int | None,
        "shop": str,
        "amount": float,
        "tip": float | None,
        "pieces": int,
        "word": str | None,
        "kind": Literal["cash", "Card", "straße"],
        "flag": bool | None,
        "day": dt.date,
        "took": dt.timedelta,
        "raw": bytes,
        "line": int,
    },
    timestamp_field="at",
    created_timestamp_column="known_at",
    timezone="Europe/London",
    sequence="line",
)
orders = EventSource(
    "orders",
    path="orders.parquet",
    schema={"order_id": str, "op": str, "customer_id": int | None, "value": float, "items": int},
    timestamp_field="ordered_at",
    created_timestamp_column="known_at",
    timezone="America/New_York",
    event_id="order_id",
    dedupe_within="2d",
    op="op",
)
clicks = EventSource(
    "clicks",
    path="clicks.parquet",
    schema={"click": int, "customer_id": int, "page": str, "tags": list[str], "v": Vector[4]},
    timestamp_field="at",
    created_timestamp_column="known_at",
    event_id="click",
)
readings = EventSource(
    "readings",
    path="readings.parquet",
    schema={"shop": str, "degrees": float, "at": dt.datetime},
    timestamp_field="at",
    timezone="Asia/Kolkata",
)

# ── Windows ───────────────────────────────────────────────────────────────────────────────────────


@feature
def is_large(amount: float) -> bool | None:
    if amount == 0.0:
        return None
    return amount > 10.0


@feature
def each(amount: float, pieces: int) -> float:
    return amount / pieces


windows = FeatureView(
    "windows",
    entities=[customer],
    source=payments,
    features={
        "sum_7d": Sum("amount", window="7d"),
        "sum_0": Sum("amount", window="1d", default=0.0),
        "sum_large": Sum("amount", window="30d", where=is_large),
        "sum_hop": Sum("amount", window="1d", hop="6h"),
        "sum_ago": Sum("amount", window="1d", offset="1d"),
        "sum_ever": Sum("amount", window="lifetime"),
        "each_sum": Sum(each, window="7d"),
        "pieces": Sum("pieces", window="7d"),
        "mean": Mean("amount", window="7d"),
        "tip_mean": Mean("tip", window="7d"),
        "variance": Variance("amount", window="7d"),
        "deviation": StdDev("amount", window="7d", ddof=0),
        "least": Min("amount", window="7d"),
        "most": Max("tip", window="7d"),
        "count": Count(window="1d"),
        "tips": Count("tip", window="7d"),
        "count_large": Count(window="7d", where=is_large),
        "since": TimeSince(window="30d"),
    },
)
shapes = FeatureView(
    "shapes",
    entities=[customer],
    source=payments,
    features={
        "squares": SumOfSquares("amount", window="7d"),
        "skew": Skew("amount", window="30d"),
        "kurtosis": Kurtosis("pieces", window="30d"),
        "covariance": Covariance("amount", "tip", window="30d"),
        "correlation": Correlation("pieces", "tip", window="30d"),
        "trend": LinearTrend("pieces", window="30d"),
        "decay": ExponentialDecay("tip", half_life="1d", window="30d"),
        "geometric": GeometricMean("pieces", window="30d"),
        "entropy": Entropy("word", window="30d"),
        "common": BitAnd("pieces", window="7d"),
        "bits": BitOr("pieces", window="7d", where=is_large),
    },
)
values = FeatureView(
    "values",
    entities=[shop],
    source=payments,
    features={
        "first": First("word", window="7d"),
        "last": Last("tip", window="7d"),
        "first_3": FirstN("pieces", n=3, window="7d"),
        "last_3": LastN("amount", n=3, window="7d"),
        "distinct": CountDistinct("tip", window="7d"),
        "words": CountDistinct("word", window="7d"),
        "about": ApproxCountDistinct("word", window="30d"),
        "median": Quantile("amount", q=0.5, window="7d"),
        "third": Quantile("amount", q=0.3, window="30d"),
        "about_median": ApproxQuantile("amount", q=0.5, window="7d"),
        "kinds": ValueCounts("kind", window="30d"),
        "top": TopK("pieces", k=2, window="30d"),
        "any_flag": Any("flag", window="7d"),
        "all_flags": All("flag", window="7d"),
        "longest": Max("took", window="7d"),
        "earliest": Min("day", window="7d"),
    },
    ttl="90d",
)

framed = FeatureView(
    "framed",
    entities=[customer],
    source=payments,
    features={
        "before": Sum("amount", window="7d", exclude="instant"),
        "before_last": Last("pieces", window="7d", exclude="instant"),
        "hourly": Sum("amount", window="2h", hop="1h", ends="hop"),
        "by_5h": Count(window="12h", hop="5h", ends="hop"),
        "yesterday": Sum("pieces", calendar="day", timezone="America/Havana"),
        "today": Count(calendar="day", timezone="America/Havana", running=True),
        "week": Max("tip", calendar="week", timezone="Europe/London"),
        "last_3": Sum("amount", rows=3),
        "large_2": Mean("tip", window="30d", rows=2, where=is_large),
        "last_row": LastN("pieces", n=5, rows=4),
        "session": Count(window="1d", session="1h"),
        "in_session": Sum("pieces", window="2d", session="6h", where=is_large),
        "months": Mean("amount", calendar="month", timezone="Asia/Tokyo", periods=2),
    },
)

# ── Latest rows ───────────────────────────────────────────────────────────────────────────────────


@feature
def share(amount: float, tip: float | None) -> float | None:
    if tip is None:
        return None
    return tip / amount


@feature
def in_tens(pieces: int) -> int:
    return pieces // 10


@feature
def rest(pieces: int) -> int:
    return pieces % 7


@feature
def whole(amount: float) -> int:
    return round(amount) if abs(amount) < 1e15 else 0


@feature
def squared(pieces: int) -> int:
    return pieces * pieces


@feature
def growth(amount: float) -> float:
    return math.exp(amount / 100.0) if amount < 50.0 else math.log(amount)


@feature
def folded(word: str | None) -> str:
    return "" if word is None else word.lower()


@feature
def trimmed(word: str | None) -> str:
    return (word or "").strip()


@feature
def part(word: str | None) -> str:
    return (word or "")[1:3]


@feature
def letters(word: str | None) -> int:
    return len(word or "")


@feature
def next_day(day: dt.date) -> dt.date:
    return day + dt.timedelta(days=1)


@feature
def minutes(took: dt.timedelta) -> float:
    return took.total_seconds() / 60.0


@feature
def is_cash(kind: str) -> bool:
    return kind == "cash"


@feature
def weekday(day: dt.date) -> int:
    return day.weekday()


latest = FeatureView(
    "latest",
    entities=[customer, shop],
    source=payments,
    features={
        "amount": "amount",
        "tip": "tip",
        "pieces_then": "pieces",
        "word": "word",
        "raw": "raw",
        "share": share,
        "in_tens": in_tens,
        "rest": rest,
        "whole": whole,
        "squared": squared,
        "growth": growth,
        "folded": folded,
        "trimmed": trimmed,
        "part": part,
        "letters": letters,
        "next_day": next_day,
        "minutes": minutes,
        "is_cash": is_cash,
        "weekday": weekday,
    },
    ttl="1d",
)

# ── Ids, and instants ─────────────────────────────────────────────────────────────────────────────

order_windows = FeatureView(
    "order_windows",
    entities=[customer],
    source=orders,
    features={
        "orders": Count(window="7d"),
        "order_value": Sum("value", window="7d"),
        "items": Last("items", window="7d"),
    },
)
order_latest = FeatureView(
    "order_latest", entities=[customer], source=orders, features={"last_value": "value"}, ttl="7d"
)
click_windows = FeatureView(
    "click_windows",
    entities=[customer],
    source=clicks,
    features={
        "clicks": Count(window="1d"),
        "pages": CountDistinct("page", window="1d"),
        "last_tags": Last("tags", window="1d"),
        "last_v": Last("v", window="1d"),
    },
)


@feature
def local_hour(at: dt.datetime) -> int:
    return at.astimezone(LONDON).hour


@feature
def year(at: dt.datetime) -> int:
    return at.year


reading = FeatureView(
    "reading",
    entities=[shop],
    source=readings,
    features={"degrees": "degrees", "local_hour": local_hour, "year": year},
    history="1d",
)

# ── At the time of the request ────────────────────────────────────────────────────────────────────


@feature
def per_piece(basket: float, pieces_then: int | None) -> float:
    if pieces_then is None:
        return basket
    return basket / pieces_then


@feature
def with_tip(amount: float | None, tip: float | None, basket: float) -> float:
    if amount is None:
        return basket
    return amount + (tip or 0.0)


sums = FeatureService("sums", features=[windows])
sets = FeatureService("sets", features=[values])
shapes_of_customers = FeatureService("shapes", features=[shapes])
frames = FeatureService("frames", features=[framed])
rows = FeatureService("rows", features=[latest, per_piece, with_tip], request={"basket": float})
ids = FeatureService("ids", features=[order_windows, order_latest, click_windows])
instants = FeatureService("instants", features=[reading])
