"""Histogram: how many inputs lie between given edges."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from featurekit.aggregates.base import Aggregate
from featurekit.aggregates.sql import AggregateSql, InputColumn, Term, of_terms
from featurekit.aggregates.tally import Tally, TallyKind
from featurekit.core.sql import literal
from featurekit.core.types import FLOAT, INT, INT_MAX, INT_MIN, Type, list_of

_MOST = 100
"""More edges than these would make a plan of more columns than DuckDB plans fast."""


@dataclass(frozen=True, slots=True)
class Histogram(Aggregate):
    """How many non-None inputs lie in each bin, as a list of one count more than there are `edges`:
    below the first edge, from each edge up to the next, which is not in it, and from the last edge
    on. All are 0 when empty.

    Infinities lie in the first or the last bin. NaN lies in no bin: their number is Count of the
    input less the sum of the list. An int and an edge are compared exactly.
    """

    edges: Sequence[float] = field(kw_only=True)

    tallies: ClassVar[TallyKind | None] = "counts"

    def check(self) -> None:
        given = self.edges
        if isinstance(given, (str, bytes)) or not isinstance(given, Sequence):
            raise self.refuse_param("edges", "a list of numbers, as in [0, 10, 100]")
        if not all(type(e) in (int, float) and _is_number(e) for e in given):
            raise self.refuse_param("edges", "a list of ints of 64 bits and finite floats")
        edges = tuple(_edge(e) for e in given)
        if not 1 <= len(edges) <= _MOST:
            raise self.refuse_param("edges", f"a list of 1 to {_MOST} numbers")
        if any(high <= low for low, high in itertools.pairwise(edges)):
            raise self.refuse_param("edges", "a list in which each number is above the one before")
        object.__setattr__(self, "edges", edges)

    def result(self, item: Type | None) -> Type:
        if item not in (INT, FLOAT):
            raise self.refuse(item, "int or float")
        return list_of(INT)

    def over(self, values: Sequence[Any], item: Type | None) -> list[int]:
        return self._binned((value, 1) for value in values)

    def over_tally(self, tally: Tally, item: Type | None) -> list[int]:
        return self._binned(tally.counted())

    def _binned(self, counted: Any) -> list[int]:
        found = [0] * (len(self.edges) + 1)
        for value, count in counted:
            if value == value:
                found[bisect_right(self.edges, value)] += count
        return found

    def sql(self, column: InputColumn | None, keep: str) -> AggregateSql:
        assert column is not None
        edges = [_from_sql(column, edge) for edge in self.edges]
        whole = f"NOT isnan({column.sql})" if column.type == FLOAT else f"{column.sql} IS NOT NULL"
        lows, highs = ["TRUE", *edges], [*edges, "FALSE"]
        bins = [f"{whole} AND {low} AND NOT {high}" for low, high in zip(lows, highs, strict=True)]
        terms = [Term("count", f"CASE WHEN {one} THEN 1 END") for one in bins]
        counts = ", ".join(f"coalesce({{{i}}}, 0)" for i in range(len(terms)))
        return of_terms(terms, keep, f"[{counts}]")


def _is_number(edge: float) -> bool:
    return INT_MIN <= edge <= INT_MAX if isinstance(edge, int) else math.isfinite(edge)


def _edge(given: float) -> int | float:
    """The edge as a float, unless it is an int that no float equals: equal edges are one."""
    return float(given) + 0.0 if float(given) == given else given


def _from_sql(column: InputColumn, edge: float) -> str:
    """The predicate that the input is at least the edge. DuckDB would round an int to compare it
    with a double."""
    if column.type == FLOAT:
        near = float(edge)  # the least double that is at least the edge
        near = near if near >= edge else math.nextafter(near, math.inf)
        return f"{column.sql} >= {literal(near, FLOAT)}"
    least = math.ceil(edge)
    if least > INT_MAX:
        return "FALSE"
    return f"{column.sql} >= {literal(max(least, INT_MIN), INT)}"
