"""The window aggregates (rules, "Aggregates over a window"): one class each."""

from __future__ import annotations

import typing

from featurekit.core.names import Names

if typing.TYPE_CHECKING:
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

    BY_NAME: dict[str, type[Aggregate]]
    """Every aggregate by its name."""

_names = Names(__name__)


def by_name(name: str) -> type[Aggregate]:
    """The aggregate of a name, for plans read back from JSON; a serving process loads those of its
    plan alone."""
    found: type[Aggregate] = _names.get(name)
    return found


if not typing.TYPE_CHECKING:

    def __getattr__(name: str) -> typing.Any:
        if name == "BY_NAME":
            return {kind: by_name(kind) for kind in _names.homes if kind != "Aggregate"}
        return _names.get(name)

    __dir__ = _names.dir
