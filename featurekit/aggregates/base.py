"""What every aggregate is: a commutative monoid with its result type, its SQL and its None rules.

To add an aggregate, write one class here beside the others and name it in `aggregates/__init__`:
no other module knows the aggregates by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from featurekit.aggregates.exact import FloatColumn
from featurekit.durations import Duration, duration_us
from featurekit.errors import DefinitionError
from featurekit.types import Type


@dataclass(frozen=True, slots=True)
class Column:
    """An aggregate's input in DuckDB: the SQL name of the column, and how its doubles add.

    `order` names the column that numbers an entity's events by T6.
    """

    sql: str
    type: Type
    order: str
    floats: FloatColumn | None = None


@dataclass(frozen=True, slots=True)
class AggregateSql:
    """An aggregate in DuckDB: `parts` stand in the GROUP BY, `value` and `error` read `{0}`, `{1}` ….

    `value` is of the result type; `error` is a predicate that is never NULL, or None where the
    aggregate cannot err.
    """

    parts: tuple[str, ...]
    value: str
    error: str | None = None


class State:
    """The state of a monoid: whatever `add` and `merge` fold into. Mutable, one per window."""

    def add(self, value: Any) -> None:
        """Take one input that is not None, in any order, except where T6 is the point."""
        raise NotImplementedError

    def merge(self, other: Any) -> None:
        """Take all that `other` has taken."""
        raise NotImplementedError

    def finish(self) -> Any:
        """The value; ArithmeticError for the third state of R3."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A window aggregate over a column or a transform (semantics, "Aggregates over a window").

    `input`: a column's name, a `@feature`, or None where the aggregate counts rows. None inputs
    are skipped, inputs that err are skipped and counted (R3). The window is (t - window, t] (T4);
    `offset` moves both ends back; `hop` moves the open end down to a multiple of itself (T5).
    `where`, a column or `@feature` of bool, keeps the rows where it is true. `default` replaces
    None, never an error (A4).
    """

    input: Any = None
    window: Duration = ""
    where: Any = None
    default: Any = None
    hop: Duration | None = None
    offset: Duration | None = None

    # Whether the result depends on the order of T6, so that states must keep it.
    ordered: ClassVar[bool] = False
    # Whether rows can be counted without an input.
    counts_rows: ClassVar[bool] = False

    def __post_init__(self) -> None:
        what = type(self).__name__
        if self.input is None and not self.counts_rows:
            raise DefinitionError(f"{what} needs an input: a column's name or a @feature")
        if self.window == "":
            raise DefinitionError(f'{what} needs a window, as in {what}(…, window="7d")')
        duration_us(self.window, what=f"{what}(window=…)")
        if self.hop is not None:
            duration_us(self.hop, what=f"{what}(hop=…)")
        if self.offset is not None:
            duration_us(self.offset, what=f"{what}(offset=…)", zero=True)

    def result(self, item: Type | None) -> Type:
        """The result's type for inputs of type `item` (never optional); optional where an empty
        window is None. DefinitionError for an input that this aggregate does not take."""
        raise NotImplementedError

    def state(self, item: Type | None) -> State:
        """A fresh state: the monoid's `empty`."""
        raise NotImplementedError

    def over(self, values: Sequence[Any], item: Type | None) -> Any:
        """The value over `values`, inputs that are not None in the order of T6.

        What `state` gives, by default; an aggregate may have a shorter way to the same bits.
        """
        state = self.state(item)
        for value in values:
            state.add(value)
        return state.finish()

    def sql(self, column: Column | None, keep: str) -> AggregateSql:
        """The aggregate in DuckDB over the rows where the predicate `keep` holds."""
        raise NotImplementedError

    def refuse(self, item: Type | None, takes: str) -> DefinitionError:
        """The error for an input type that this aggregate does not take."""
        return DefinitionError(f"{type(self).__name__} takes {takes}, found {item}")
