"""The window aggregates (rules, "Aggregates over a window"): one class each.

How each aggregate is computed, and where:

| aggregate           | crowded key      | in Python | block  | run   |
| ------------------- | ---------------- | --------- | ------ | ----- |
| Histogram           | running sums     |           | tally  |       |
| BitAnd              | tiled join       |           | value  |       |
| BitOr               | tiled join       |           | value  |       |
| All                 | running sums     |           | sums   |       |
| Any                 | running sums     |           | sums   |       |
| Count               | running sums     |           | sums   | count |
| CountDistinct       | tiled join       |           | tally  |       |
| TopK                | tiled join       |           | tally  |       |
| ValueCounts         | tiled join       |           | tally  |       |
| ExponentialDecay    | tiled join       | value     | inputs |       |
| Entropy             | tiled join       | value     | tally  |       |
| Max                 | running extremes |           | value  | high  |
| Min                 | running extremes |           | value  | low   |
| GeometricMean       | tiled join       | value     | sums   |       |
| ApproxCountDistinct | tiled join       | value     | tally  |       |
| Kurtosis            | tiled join       | value     | sums   |       |
| Skew                | tiled join       | value     | sums   |       |
| SumOfSquares        | tiled join       | value     | sums   |       |
| First               | tiled join       |           | value  |       |
| FirstN              | tiled join       |           | ends   |       |
| Lag                 | tiled join       |           | ends   |       |
| Last                | tiled join       |           | value  |       |
| LastN               | tiled join       |           | ends   |       |
| Correlation         | tiled join       | value     | inputs |       |
| Covariance          | tiled join       | value     | inputs |       |
| Ratio               | tiled join       | value     | inputs |       |
| ApproxQuantile      | tiled join       |           | tally  |       |
| Quantile            | tiled join       |           | tally  |       |
| Distinct            | tiled join       |           | tally  |       |
| LargestN            | tiled join       |           | tally  |       |
| Mode                | tiled join       |           | tally  |       |
| SmallestN           | tiled join       |           | tally  |       |
| TimeSince           | tiled join       |           | value  |       |
| StdDev              | running sums     | value     | sums   |       |
| Variance            | running sums     | value     | sums   |       |
| Mean                | running sums     | sums      | sums   | mean  |
| Rate                | running sums     | sums      | sums   | mean  |
| Sum                 | running sums     | sums      | sums   | total |
| LinearTrend         | tiled join       | value     | inputs |       |

Offline, DuckDB computes `sql` over a join of labels and events. *Crowded key*: the plan used where
that join is too slow (`offline/window_plans`); doubles that are added as lists take the tiled join.
*In Python*: the part that a Python function computes, over whole Arrow columns; of the sums, only
those that DuckDB cannot round.

Online, `over` computes the value from the inputs of the window. *Block*: in a state that is kept in
blocks, what stands for a whole block: its sums in `over_sums`, its value in `over`, its tally in
`over_tally`, or only the inputs of the blocks at one end of the window (all inputs with
`distinct=True`). *Run*: the field of
`runs_of` that is the value over many doubles.
"""

from __future__ import annotations

import typing

from featurekit.core.names import Names

if typing.TYPE_CHECKING:
    from featurekit.aggregates.base import Aggregate as Aggregate
    from featurekit.aggregates.bins import Histogram as Histogram
    from featurekit.aggregates.bits import BitAnd as BitAnd
    from featurekit.aggregates.bits import BitOr as BitOr
    from featurekit.aggregates.booleans import All as All
    from featurekit.aggregates.booleans import Any as Any
    from featurekit.aggregates.counting import Count as Count
    from featurekit.aggregates.counting import CountDistinct as CountDistinct
    from featurekit.aggregates.counting import TopK as TopK
    from featurekit.aggregates.counting import ValueCounts as ValueCounts
    from featurekit.aggregates.decay import ExponentialDecay as ExponentialDecay
    from featurekit.aggregates.entropy import Entropy as Entropy
    from featurekit.aggregates.extremes import Max as Max
    from featurekit.aggregates.extremes import Min as Min
    from featurekit.aggregates.geometric import GeometricMean as GeometricMean
    from featurekit.aggregates.hyperloglog import ApproxCountDistinct as ApproxCountDistinct
    from featurekit.aggregates.moments import Kurtosis as Kurtosis
    from featurekit.aggregates.moments import Skew as Skew
    from featurekit.aggregates.moments import SumOfSquares as SumOfSquares
    from featurekit.aggregates.ordered import First as First
    from featurekit.aggregates.ordered import FirstN as FirstN
    from featurekit.aggregates.ordered import Lag as Lag
    from featurekit.aggregates.ordered import Last as Last
    from featurekit.aggregates.ordered import LastN as LastN
    from featurekit.aggregates.pairs import Correlation as Correlation
    from featurekit.aggregates.pairs import Covariance as Covariance
    from featurekit.aggregates.pairs import Ratio as Ratio
    from featurekit.aggregates.quantiles import ApproxQuantile as ApproxQuantile
    from featurekit.aggregates.quantiles import Quantile as Quantile
    from featurekit.aggregates.ranked import Distinct as Distinct
    from featurekit.aggregates.ranked import LargestN as LargestN
    from featurekit.aggregates.ranked import Mode as Mode
    from featurekit.aggregates.ranked import SmallestN as SmallestN
    from featurekit.aggregates.since import TimeSince as TimeSince
    from featurekit.aggregates.spread import StdDev as StdDev
    from featurekit.aggregates.spread import Variance as Variance
    from featurekit.aggregates.summing import Mean as Mean
    from featurekit.aggregates.summing import Rate as Rate
    from featurekit.aggregates.summing import Sum as Sum
    from featurekit.aggregates.trend import LinearTrend as LinearTrend

    BY_NAME: dict[str, type[Aggregate]]
    """Every aggregate by its name."""

_names = Names(__name__)


def by_name(name: str) -> type[Aggregate]:
    """The aggregate class of a name, for plans read back from JSON. It loads one module, so a
    serving process loads only the aggregates of its plan."""
    found: type[Aggregate] = _names.get(name)
    return found


if not typing.TYPE_CHECKING:

    def __getattr__(name: str) -> typing.Any:
        if name == "BY_NAME":
            return {kind: by_name(kind) for kind in _names.homes if kind != "Aggregate"}
        return _names.get(name)

    __dir__ = _names.dir
