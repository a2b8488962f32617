"""Quantile, which is exact, and ApproxQuantile, which is a sketch of logarithmic buckets."""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from featurekit.aggregates import exact
from featurekit.aggregates.base import Aggregate
from featurekit.aggregates.sql import AggregateSql, InputColumn, present
from featurekit.aggregates.tally import Tally, TallyKind
from featurekit.core.types import FLOAT, INT, Type


@dataclass(frozen=True, slots=True)
class _OfRank(Aggregate):
    q: float = field(kw_only=True)

    def check(self) -> None:
        if type(self.q) not in (int, float) or not 0 <= self.q <= 1:
            raise self.refuse_param("q", "a number from 0 to 1, as in 0.95")
        object.__setattr__(self, "q", float(self.q) + 0.0)

    def result(self, item: Type | None) -> Type:
        if item in (INT, FLOAT):
            return FLOAT.or_none()
        raise self.refuse(item, "int or float")


# --- Quantile -------------------------------------------------------------------------------------


def by_value(value: float) -> tuple[bool, float, float]:
    """-0.0 before 0.0, NaN last."""
    return (True, 0.0, 0.0) if value != value else (False, value, math.copysign(1.0, value))


def quantile(ordered: Sequence[Any], q: float) -> float | None:
    """The type-7 quantile of numbers sorted by value: lo + (hi - lo) * f. Here h = (n - 1) * q,
    rounded to a double; lo and hi are the numbers at the whole positions beside h, and f is h's
    fraction.

    NaN if one of them is NaN; None if there are none. If lo and hi are equal the result is lo, also
    for an infinity.
    """
    if not ordered:
        return None
    if ordered[-1] != ordered[-1]:
        return math.nan
    h = (len(ordered) - 1) * q
    lo, hi = ordered[math.floor(h)], ordered[math.ceil(h)]
    return float(lo) if lo == hi else lo + (hi - lo) * (h - math.floor(h))


@dataclass(frozen=True, slots=True)
class Quantile(_OfRank):
    """The exact `q`-quantile (type 7): lo + (hi - lo) * f between the two inputs beside h = (n - 1)
    * q, in the input's unit. None when empty, NaN if an input is NaN. 0.5 is the median."""

    tallies: ClassVar[TallyKind | None] = "counts"

    def over(self, values: Sequence[Any], item: Type | None) -> float | None:
        return quantile(sorted(values, key=by_value if item == FLOAT else None), self.q)

    def over_tally(self, tally: Tally, item: Type | None) -> float | None:
        return quantile(tally.ordered(), self.q)

    def sql(self, column: InputColumn | None, keep: str) -> AggregateSql:
        assert column is not None
        floats = column.floats
        h = f"((len({{0}}) - 1)::DOUBLE * {self.q!r}::DOUBLE)"
        lo, hi = (f"{{0}}[{rounded}({h})::BIGINT + 1]" for rounded in ("floor", "ceil"))
        fraction = f"({h} - floor({h}))"
        kept, helpers = column.sql, []
        if floats is None:
            apart = exact.round_hugeint_sql(f"({hi}::HUGEINT - {lo})")
            value = f"({lo}::DOUBLE + {apart} * {fraction})"
        else:
            if floats.minus_zero:
                # DuckDB does not order -0.0 and 0.0, so it sorts ints that are ordered like the
                # doubles.
                kept, helper = column.helper("rank", rank_sql(column.name))
                helpers = [helper]
                lo, hi = unrank_sql(lo), unrank_sql(hi)
            value = f"CASE WHEN {lo} = {hi} THEN {lo} ELSE {lo} + ({hi} - {lo}) * {fraction} END"
        parts = [f"list_sort(list({kept}) FILTER ({present(column, keep)}))"]
        if floats is not None and floats.specials:
            parts.append(f"bool_or(isnan({column.sql})) FILTER ({keep})")
            value = f"CASE WHEN {{1}} OR isnan({value}) THEN 'nan'::DOUBLE ELSE {value} END"
        return AggregateSql(tuple(parts), value, None, tuple(helpers))


def rank_sql(x: str) -> str:
    """A BIGINT that is ordered like the doubles, with -0.0 before 0.0; `unrank_sql` is the
    inverse."""
    bits = f"({x}::BIT)::BIGINT"
    return f"CASE WHEN signbit({x}) THEN xor({bits}, {2**63 - 1}) ELSE {bits} END"


def unrank_sql(rank: str) -> str:
    """The double that `rank_sql` made the BIGINT of."""
    bits = f"CASE WHEN {rank} < 0 THEN xor({rank}, {2**63 - 1}) ELSE {rank} END"
    return f"((({bits})::BIT)::DOUBLE)"


# --- ApproxQuantile -------------------------------------------------------------------------------

# Doubles that differ only in their last 45 bits share a bucket: 128 buckets an octave.
_SHIFT = 45
_INF = 0x7FF << (52 - _SHIFT)
_NAN = _INF + 1


def bucket(value: float) -> int:
    """The bucket of a double; buckets are ordered like values. 0 holds zero and, of both signs,
    what is below 2**-1029; infinities and NaN have buckets of their own."""
    if value != value:
        return _NAN
    index = struct.unpack("<q", struct.pack("<d", abs(value)))[0] >> _SHIFT
    return -index if value < 0 else int(index)


def buckets(values: Any) -> Any:
    """`bucket` of every number of an array."""
    import numpy as np

    doubles = values.astype(np.float64)
    index = np.abs(doubles).view(np.int64) >> _SHIFT
    return np.where(np.isnan(doubles), _NAN, np.where(doubles < 0, -index, index))


def bucket_sql(x: str) -> str:
    """`bucket` in SQL over a DOUBLE column."""
    index = f"(((abs({x})::BIT)::BIGINT >> {_SHIFT})::INTEGER)"
    return f"CASE WHEN isnan({x}) THEN {_NAN} WHEN {x} < 0 THEN -{index} ELSE {index} END"


def is_nan(index: int) -> bool:
    """Whether it is the bucket of NaN."""
    return index == _NAN


def is_finite(index: int) -> bool:
    """Whether a bucket holds finite numbers."""
    return abs(index) < _INF


def edges(index: int) -> tuple[float, float]:
    """The least and the greatest double of a bucket, both in it."""
    if index == 0:
        tiny = struct.unpack("<d", struct.pack("<q", (1 << _SHIFT) - 1))[0]
        return -tiny, tiny
    if not is_finite(index):
        return middle(index), middle(index)
    bits = abs(index) << _SHIFT
    low, high = struct.unpack("<dd", struct.pack("<qq", bits, bits | ((1 << _SHIFT) - 1)))
    return (low, high) if index > 0 else (-high, -low)


def middle(index: int) -> float:
    """The double in the middle of a bucket."""
    if index == _NAN:
        return math.nan
    if abs(index) == _INF:
        return math.copysign(math.inf, index)
    if index == 0:
        return 0.0
    bits = (abs(index) << _SHIFT) | (1 << (_SHIFT - 1))
    return math.copysign(struct.unpack("<d", struct.pack("<q", bits))[0], index)


def middle_sql(index: str) -> str:
    """`middle` in SQL; NULL for NULL."""
    bits = f"((abs({index})::BIGINT << {_SHIFT}) | {1 << (_SHIFT - 1)})"
    sign = f"CASE WHEN {index} < 0 THEN -1.0::DOUBLE ELSE 1.0::DOUBLE END"
    return (
        f"CASE {index} WHEN {_NAN} THEN 'nan'::DOUBLE WHEN {_INF} THEN 'inf'::DOUBLE "
        f"WHEN -{_INF} THEN '-inf'::DOUBLE WHEN 0 THEN 0.0::DOUBLE "
        f"ELSE (({bits}::BIT)::DOUBLE) * {sign} END"
    )


class BucketCounts:
    """A sketch of values: the count of each bucket. It does not depend on the order or grouping of
    values and merges (A2)."""

    __slots__ = ("counts",)

    def __init__(self, values: Iterable[float] = ()) -> None:
        self.counts = Counter(map(bucket, values))

    def merge(self, other: BucketCounts) -> None:
        """Take the values that the other sketch took."""
        self.counts.update(other.counts)

    def quantile(self, q: float) -> float | None:
        """The middle of the bucket that holds the value with floor((n - 1) * q) values before it.
        None if there are no values, NaN if one is NaN."""
        if not self.counts:
            return None
        if _NAN in self.counts:
            return math.nan
        rank = math.floor((self.counts.total() - 1) * q)
        for index in sorted(self.counts):
            rank -= self.counts[index]
            if rank < 0:
                return middle(index)
        raise AssertionError("a rank lies within the counts")


@dataclass(frozen=True, slots=True)
class ApproxQuantile(_OfRank):
    """About the `q`-quantile, in the input's unit: the middle of the bucket that holds the input
    with floor((n - 1) * q) inputs before it. None when empty, NaN if an input is NaN.

    It differs from that input by at most one part in 256. The sketch keeps one count per bucket,
    128 buckets an octave, however many inputs it takes.
    """

    tallies: ClassVar[TallyKind | None] = "buckets"

    def over(self, values: Sequence[Any], item: Type | None) -> float | None:
        return BucketCounts(map(float, values)).quantile(self.q)

    def over_tally(self, tally: Tally, item: Type | None) -> float | None:
        found = tally.ordered()
        if not found:
            return None
        return middle(_NAN if found[-1] == _NAN else found[math.floor((len(found) - 1) * self.q)])

    def sql(self, column: InputColumn | None, keep: str) -> AggregateSql:
        assert column is not None
        read, helper = column.helper("bucket", bucket_sql(f"{column.name}::DOUBLE"))
        rank = f"floor((len(__y) - 1)::DOUBLE * {self.q!r}::DOUBLE)::BIGINT"
        ordered = f"list_sort(list({read}) FILTER ({present(column, keep)}))"
        # NaN has the last bucket, and one NaN is enough.
        index = f"CASE WHEN __y[-1] = {_NAN} THEN {_NAN} ELSE __y[{rank} + 1] END"
        part = f"list_transform([{ordered}], lambda __y: {index})[1]"
        return AggregateSql((part,), middle_sql("{0}"), None, (helper,))
