"""TimeSince: the time from an event of the window to the instant asked about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from featurekit.aggregates.base import Aggregate
from featurekit.aggregates.sql import AGE_US, AggregateSql, InputColumn, present
from featurekit.core.types import FLOAT, Type


@dataclass(frozen=True, slots=True)
class TimeSince(Aggregate):
    """Seconds from the last event of the window to t, or from the first with `since="first"`; None
    when empty.

    Events are the rows that `where` keeps and, if an input is given, whose input is not None. The
    value is the exact quotient of microseconds by 1,000,000, rounded once.
    """

    since: Literal["last", "first"] = field(default="last", kw_only=True)

    counts_rows: ClassVar[bool] = True
    of_instants: ClassVar[bool] = True
    chooses: ClassVar[bool] = True

    def check(self) -> None:
        if self.since not in ("last", "first"):
            raise self.refuse_param("since", '"last" or "first"')

    def result(self, item: Type | None) -> Type:
        return FLOAT.or_none()

    def over(self, values: Sequence[int], item: Type | None) -> int | None:
        if not values:
            return None
        return max(values) if self.since == "last" else min(values)

    def as_of(self, found: Any, t: int) -> float | None:
        return None if found is None else (t - found) / 1_000_000

    def sql(self, column: InputColumn | None, keep: str) -> AggregateSql:
        function = "min" if self.since == "last" else "max"
        kept = keep if column is None else present(column, keep)
        return AggregateSql((f"{function}({AGE_US}) FILTER ({kept})",), "fk_seconds({0})")


def macros_sql() -> list[str]:
    """The DuckDB macro that `TimeSince` calls."""
    # A BIGINT of 53 bits is exact as a double, so its quotient is rounded once. A longer one is
    # shifted first: then the whole quotient has at least 57 bits, and its remainder becomes a
    # sticky bit.
    shifted = f"(us::HUGEINT * {2**24})"
    sticky = f"CASE WHEN {shifted} % 1000000 <> 0 THEN 1 ELSE 0 END"
    long = f"(fk_round(({shifted} // 1000000) | {sticky}::HUGEINT) / {2**24}.0::DOUBLE)"
    return [
        f"CREATE OR REPLACE MACRO fk_seconds(us) AS "
        f"CASE WHEN us < {2**53} THEN us::DOUBLE / 1000000.0::DOUBLE ELSE {long} END"
    ]
