"""The window aggregates (rules, "Aggregates over a window"): one class each."""

from __future__ import annotations

import importlib
import typing

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

_HOMES = {
    "Aggregate": "base",
    "All": "booleans",
    "Any": "booleans",
    "Count": "counting",
    "CountDistinct": "counting",
    "TopK": "counting",
    "ValueCounts": "counting",
    "Max": "extremes",
    "Min": "extremes",
    "ApproxCountDistinct": "hyperloglog",
    "First": "ordered",
    "FirstN": "ordered",
    "Last": "ordered",
    "LastN": "ordered",
    "ApproxQuantile": "quantiles",
    "Quantile": "quantiles",
    "TimeSince": "since",
    "StdDev": "spread",
    "Variance": "spread",
    "Mean": "summing",
    "Sum": "summing",
}
__all__ = list(_HOMES)


def by_name(name: str) -> type[Aggregate]:
    """The aggregate of a name, for plans read back from JSON; a serving process loads those of its
    plan alone."""
    module = importlib.import_module(f"featurekit.aggregates.{_HOMES[name]}")
    found: type[Aggregate] = getattr(module, name)
    return found


def __getattr__(name: str) -> typing.Any:
    if name == "BY_NAME":
        return {kind: by_name(kind) for kind in _HOMES if kind != "Aggregate"}
    if name not in _HOMES:
        raise AttributeError(f"module 'featurekit.aggregates' has no attribute {name!r}")
    return by_name(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
