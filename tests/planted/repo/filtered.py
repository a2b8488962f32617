"""Views of the latest row among those that pass."""

from featurekit import FeatureService, FeatureView, feature

from .everything import customer, payments, shop
from .exploded import baskets, invoices


@feature
def is_few(pieces: int, word: str | None) -> bool | None:
    if word is None:
        return None
    return pieces in (1, 3) or word.startswith("a")


@feature
def is_dear(amount: float) -> bool:
    return amount > 0.5


@feature
def is_positive(prices: float) -> bool:
    return prices > 0.0


flagged = FeatureView(
    "flagged",
    entities=[customer],
    source=payments,
    where="flag",
    features={"word": "word", "tip": "tip", "flag": "flag"},
    ttl="30d",
)
odd = FeatureView(
    "odd",
    entities=[shop],
    source=payments,
    where=is_few,
    features={"pieces": "pieces", "kind": "kind"},
    history="1d",
)
positive = FeatureView(
    "positive",
    entities=[customer],
    source=baskets,
    explode="prices",
    where=is_positive,
    features={"price": "prices", "n": "n"},
)
dear = FeatureView(
    "dear",
    entities=[customer],
    source=invoices,
    where=is_dear,
    features={"dear": "amount", "dear_invoice": "invoice"},
)
filtered = FeatureService("filtered", features=[flagged, odd, positive])
filtered_ids = FeatureService("filtered_ids", features=[dear])
