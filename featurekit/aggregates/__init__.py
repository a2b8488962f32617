"""The window aggregates (semantics, "Aggregates over a window"): one class each."""

from featurekit.aggregates.base import Aggregate as Aggregate
from featurekit.aggregates.booleans import All as All
from featurekit.aggregates.booleans import Any as Any
from featurekit.aggregates.counting import Count as Count
from featurekit.aggregates.counting import CountDistinct as CountDistinct
from featurekit.aggregates.counting import TopK as TopK
from featurekit.aggregates.counting import ValueCounts as ValueCounts
from featurekit.aggregates.extremes import Max as Max
from featurekit.aggregates.extremes import Min as Min
from featurekit.aggregates.hyperloglog import ApproxCountDistinct as ApproxCountDistinct
from featurekit.aggregates.ordered import First as First
from featurekit.aggregates.ordered import FirstN as FirstN
from featurekit.aggregates.ordered import Last as Last
from featurekit.aggregates.ordered import LastN as LastN
from featurekit.aggregates.quantiles import ApproxQuantile as ApproxQuantile
from featurekit.aggregates.quantiles import Quantile as Quantile
from featurekit.aggregates.since import TimeSince as TimeSince
from featurekit.aggregates.spread import StdDev as StdDev
from featurekit.aggregates.spread import Variance as Variance
from featurekit.aggregates.summing import Mean as Mean
from featurekit.aggregates.summing import Sum as Sum

_KINDS: tuple[type[Aggregate], ...] = (
    *(All, Any, ApproxCountDistinct, ApproxQuantile, Count, CountDistinct, First, FirstN, Last),
    *(LastN, Max, Mean, Min, Quantile, StdDev, Sum, TimeSince, TopK, ValueCounts, Variance),
)
BY_NAME: dict[str, type[Aggregate]] = {kind.__name__: kind for kind in _KINDS}
"""Every aggregate by its name, for plans read back from JSON."""
