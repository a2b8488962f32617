"""Views of lists and of values by their rank."""

from featurekit import FeatureService, FeatureView
from featurekit.aggregates import Distinct, FirstN, Histogram, Lag, LargestN, LastN, Mode, SmallestN

from .everything import each, is_large, payments, shop

listings = FeatureView(
    "listings",
    entities=[shop],
    source=payments,
    features={
        "before": Lag("amount", window="30d"),
        "before_or_none": Lag("tip", n=2, keep_none=True, window="30d"),
        "tips": LastN("tip", n=4, keep_none=True, window="30d"),
        "each_or_none": FirstN(each, n=3, keep_none=True, window="30d"),
        "words": LastN("word", n=3, distinct=True, window="30d"),
        "first_tips": FirstN("tip", n=2, distinct=True, window="30d"),
        "largest": LargestN("tip", n=3, window="30d"),
        "smallest": SmallestN("tip", n=3, window="30d", where=is_large),
        "kinds": Distinct("word", top=2, window="30d"),
        "mode": Mode("pieces", window="30d"),
        "bins": Histogram("tip", edges=[0, 1, 10], window="30d"),
        "bins_of_ints": Histogram("pieces", edges=[0, 3, 10], window="30d"),
    },
)
lists = FeatureService("lists", features=[listings])
