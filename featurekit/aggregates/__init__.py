"""The window aggregates (rules, "Aggregates over a window"): one class each.

How each is computed, where:

| aggregate           | crowded key      | in Python | block  | run   |
| ------------------- | ---------------- | --------- | ------ | ----- |
| All                 | running sums     |           | inputs |       |
| Any                 | running sums     |           | inputs |       |
| Count               | running sums     |           | sums   | count |
| CountDistinct       | tiled join       |           | inputs |       |
| TopK                | tiled join       |           | inputs |       |
| ValueCounts         | tiled join       |           | inputs |       |
| Max                 | running extremes |           | value  | high  |
| Min                 | running extremes |           | value  | low   |
| ApproxCountDistinct | tiled join       | value     | inputs |       |
| First               | tiled join       |           | value  |       |
| FirstN              | tiled join       |           | inputs |       |
| Last                | tiled join       |           | value  |       |
| LastN               | tiled join       |           | inputs |       |
| ApproxQuantile      | tiled join       |           | inputs |       |
| Quantile            | tiled join       |           | inputs |       |
| TimeSince           | tiled join       |           | inputs |       |
| StdDev              | running sums     | value     | sums   |       |
| Variance            | running sums     | value     | sums   |       |
| Mean                | running sums     | sums      | sums   | mean  |
| Sum                 | running sums     | sums      | sums   | total |

Offline, DuckDB computes `sql` over a join of labels and events. *Crowded key*: by which plan where
that join is too slow (`offline/window_plans`); doubles that are added as lists go by the tiled
join. *In Python*: what of it a Python function does, over whole Arrow columns; of sums, those that
DuckDB cannot round.

Online, `over` computes it from the inputs of the window. *Block*: what stands for a whole block of
a state that is kept in blocks: its sums in `over_sums`, its value in `over`, or all of its inputs.
*Run*: the field of `runs_of` that is the value over many doubles.
"""

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
