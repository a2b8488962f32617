"""The window aggregates (semantics, "Aggregates over a window"): one class each."""

from featurekit.aggregates.base import Aggregate as Aggregate
from featurekit.aggregates.counting import Count as Count
from featurekit.aggregates.counting import CountDistinct as CountDistinct
from featurekit.aggregates.extremes import Last as Last
from featurekit.aggregates.extremes import Max as Max
from featurekit.aggregates.extremes import Min as Min
from featurekit.aggregates.summing import Mean as Mean
from featurekit.aggregates.summing import Sum as Sum

BY_NAME: dict[str, type[Aggregate]] = {
    kind.__name__: kind for kind in (Count, CountDistinct, Last, Max, Mean, Min, Sum)
}
"""Every aggregate by its name, for plans read back from JSON."""
