"""Describes an aggregate in DuckDB: an input, the parts of a GROUP BY, and the value made of
them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from featurekit.aggregates.exact import FloatColumn
from featurekit.core.types import Type

AGE_US = "(l.__t - e.__ts)"
"""SQL for the microseconds from an event to the label's instant."""

NEVER = "FALSE"
"""The `error` of an aggregate that could err, but not over the values that its column has."""


@dataclass(frozen=True, slots=True)
class InputColumn:
    """An aggregate's input in DuckDB: the SQL of its column in a join of labels (`l`) and events
    (`e`), and how its doubles are added.

    `order` is the column that numbers an entity's events by T6. `error` is the one that says
    whether the input errs, which only an aggregate that keeps None has to ask; None where no input
    can.
    """

    sql: str
    type: Type
    order: str
    floats: FloatColumn | None = None
    error: str | None = None

    @property
    def name(self) -> str:
        """The column's name among the events."""
        return self.sql.rpartition(".")[2]

    def helper(self, suffix: str, sql: str) -> tuple[str, tuple[str, str]]:
        """A helper column made from this one: how `parts` read it, and its entry in `helpers`."""
        return f"{self.sql}__{suffix}", (f"{self.name}__{suffix}", sql)


@dataclass(frozen=True, slots=True)
class Term:
    """What a part takes from each event that it keeps: a SQL aggregate over an expression on the
    event `e`, which is NULL to take nothing.

    For whole numbers, a count or sum over a window is the difference of two running sums (A2). For
    min, max and bool_or, the results over two groups of events give the result over both.
    """

    function: Literal["count", "sum", "min", "max", "bool_or"]
    sql: str

    @property
    def adds(self) -> bool:
        """Whether it is a sum."""
        return self.function in ("count", "sum")


@dataclass(frozen=True, slots=True)
class AggregateSql:
    """An aggregate in DuckDB: `parts` stand in the GROUP BY; `value` and `error` read them as
    `{0}`, `{1}` ….

    `value` has the result type; where all parts are NULL, it is that of an empty window. `error` is
    a predicate that is never NULL, or None if the aggregate cannot err. `helpers` are columns that
    are computed once for each event, however many windows it falls into: a name, which `parts` read
    as `e.name`, and SQL over the event's own columns.

    `terms`, if there are any, say what each of `parts` is made of. A part that adds may be 0
    instead of NULL over no events; `value` and `error` treat both alike.
    """

    parts: tuple[str, ...]
    value: str
    error: str | None = None
    helpers: tuple[tuple[str, str], ...] = ()
    terms: tuple[Term, ...] = ()

    @property
    def adds(self) -> bool:
        """Whether every part is a sum."""
        return bool(self.terms) and self.terms[0].adds


def of_terms(
    terms: Sequence[Term],
    keep: str,
    value: str,
    error: str | None = None,
    helpers: Sequence[tuple[str, str]] = (),
) -> AggregateSql:
    """The aggregate whose parts are made of `terms`, over the rows for which the predicate `keep`
    holds."""
    parts = tuple(f"{s.function}(CASE WHEN {keep} THEN {s.sql} END)" for s in terms)
    return AggregateSql(parts, value, error, tuple(helpers), tuple(terms))


def sound(column: InputColumn, keep: str) -> str:
    """The predicate that a row is kept and that its input is no error; it may be None."""
    return keep if column.error is None else f"{keep} AND {column.error} IS NOT TRUE"


def present(column: InputColumn, keep: str) -> str:
    """The predicate that a row is kept and that its input is neither None nor an error."""
    return f"{keep} AND {column.sql} IS NOT NULL"


@dataclass(frozen=True, slots=True)
class Finisher:
    """A Python function over whole Arrow columns that an aggregate's SQL calls as `name`, because
    no SQL gives the same bits. `takes` and `gives` are DuckDB types."""

    name: str
    takes: tuple[str, ...]
    gives: str
    function: Callable[..., Any]


def each_list(column: Any) -> Iterator[list[Any] | None]:
    """The lists of an Arrow column; None for a NULL. The lists contain no nulls, and may contain
    lists, or tuples that stand for structs."""
    import pyarrow.compute as pc

    flat = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    items = _python(flat.flatten())
    at = 0
    for length in pc.list_value_length(flat).to_pylist():
        if length is None:
            yield None
            continue
        yield items[at : at + length]
        at += length


def _python(column: Any) -> list[Any]:
    """The values of an Arrow column without nulls."""
    import pyarrow as pa

    if pa.types.is_struct(column.type):
        return list(zip(*map(_python, column.flatten()), strict=True))
    if pa.types.is_list(column.type):
        return list(each_list(column))
    values: list[Any] = column.to_numpy(zero_copy_only=False).tolist()
    return values
