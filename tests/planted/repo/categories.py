"""A view of aggregates by categories."""

from featurekit import FeatureService, FeatureView
from featurekit.aggregates import Count, Last, Max, Mean, StdDev, Sum

from .everything import is_large, payments, shop

sorted_out = FeatureView(
    "sorted_out",
    entities=[shop],
    source=payments,
    features={
        "times": Count(window="30d", by="word"),
        "top_kind": Count(window="30d", by="kind", top=1),
        "spent": Sum("amount", window="30d", by="word", where=is_large),
        "mean_tip": Mean("tip", window="7d", by="flag"),
        "last_tip": Last("tip", window="30d", by="kind"),
        "spread": StdDev("amount", window="30d", by="word"),
        "highest_day": Max("day", window="30d", by="pieces", top=3),
    },
)
categories = FeatureService("categories", features=[sorted_out])
