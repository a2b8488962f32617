"""Entropy: how evenly the inputs are spread over their values (A5)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from featurekit.aggregates import logs
from featurekit.aggregates.base import Aggregate, plain
from featurekit.aggregates.counting import counts, one_value_sql
from featurekit.aggregates.sql import AggregateSql, Finisher, InputColumn, each_list, present
from featurekit.aggregates.tally import Tally, TallyKind
from featurekit.core.types import FLOAT, Type


def entropy(occurring: Iterable[int]) -> float | None:
    """The entropy in bits of values of which each occurs so often; None if there are none.

    It is (n L(n) - sum of c L(c)) / n, rounded once, where L is `logs.log2`.
    """
    found = list(occurring)
    n = sum(found)
    if not n:
        return None
    units = n * logs.log2(n) - sum(c * logs.log2(c) for c in found)
    return units / (n << logs.UNIT_BITS)


def _of_counts(lists: Any) -> Any:
    """The Finisher over lists of counts."""
    import pyarrow as pa

    return pa.array([entropy(one or ()) for one in each_list(lists)], type=pa.float64())


class Entropy(Aggregate):
    """Shannon's entropy of the distinct non-None inputs, in bits: 0.0 where all are one value,
    log2(k) where k values occur equally often. None when empty.

    -0.0 and 0.0 are one value, all NaNs are one.
    """

    __slots__ = ()
    tallies: ClassVar[TallyKind | None] = "counts"
    finishers: ClassVar[tuple[Finisher, ...]] = (
        Finisher("fk_entropy", ("BIGINT[]",), "DOUBLE", _of_counts),
    )

    def result(self, item: Type | None) -> Type:
        plain(self, item)
        return FLOAT.or_none()

    def over(self, values: Sequence[Any], item: Type | None) -> float | None:
        return entropy(counts(values, item).values())

    def over_tally(self, tally: Tally, item: Type | None) -> float | None:
        return entropy(tally.ranked().values())

    def sql(self, column: InputColumn | None, keep: str) -> AggregateSql:
        assert column is not None
        one, helper = column.helper("one", one_value_sql(column))
        part = f"map_values(histogram({one}) FILTER ({present(column, keep)}))::BIGINT[]"
        return AggregateSql((part,), "fk_entropy({0})", None, (helper,))
