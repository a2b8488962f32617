"""What every aggregate is: a commutative monoid with its result type, its SQL and its None rules.

To add an aggregate, write one class in a module beside this one and name it in
`aggregates/__init__`: no other module knows the aggregates by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal

from featurekit.aggregates import runs
from featurekit.aggregates.exact import FloatColumn
from featurekit.aggregates.sums import SumField, Sums
from featurekit.core.durations import LIFETIME, Duration, duration_text, duration_us, window_us
from featurekit.core.types import Type
from featurekit.errors import DefinitionError

AGE_US = "(l.__t - e.__ts)"
"""The SQL of the microseconds from an event to the label's instant."""


@dataclass(frozen=True, slots=True)
class Column:
    """An aggregate's input in DuckDB: the SQL of the column where labels (`l`) and events (`e`) are
    joined, and how its doubles add.

    `order` is the column that numbers an entity's events by T6.
    """

    sql: str
    type: Type
    order: str
    floats: FloatColumn | None = None

    @property
    def name(self) -> str:
        """The column's name among the events."""
        return self.sql.rpartition(".")[2]

    def helper(self, suffix: str, sql: str) -> tuple[str, tuple[str, str]]:
        """A helper column of this one: how `parts` read it, and its entry among `helpers`."""
        return f"{self.sql}__{suffix}", (f"{self.name}__{suffix}", sql)


@dataclass(frozen=True, slots=True)
class Term:
    """What a part takes of each event that it keeps: a function of SQL over the event `e`, NULL for
    nothing.

    Of whole numbers, count and sum over a window are the difference of two running sums (A2); min,
    max and bool_or of some of its events and of the others make that of all.
    """

    function: Literal["count", "sum", "min", "max", "bool_or"]
    sql: str

    @property
    def adds(self) -> bool:
        """Whether it is a sum."""
        return self.function in ("count", "sum")


@dataclass(frozen=True, slots=True)
class AggregateSql:
    """An aggregate in DuckDB: `parts` stand in the GROUP BY; `value`, `error` read `{0}`, `{1}` ….

    `value` is of the result type; `error` is a predicate that is never NULL, or None where the
    aggregate cannot err. `helpers` are columns that each event needs once, however many windows it
    falls into: a name, by which `parts` read it as `e.name`, and SQL over the event's own columns.
    `terms`, where there are any, say what each of `parts` is made of; one that adds may be 0 in the
    place of NULL over no events, and `value` and `error` make no difference.
    """

    parts: tuple[str, ...]
    value: str
    error: str | None = None
    helpers: tuple[tuple[str, str], ...] = ()
    terms: tuple[Term, ...] = ()


@dataclass(frozen=True, slots=True)
class Finisher:
    """A Python function of whole Arrow columns that an aggregate's SQL calls as `name`, where no
    SQL has the same bits; `takes` and `gives` are DuckDB types."""

    name: str
    takes: tuple[str, ...]
    gives: str
    function: Callable[..., Any]


def each_list(column: Any) -> Iterator[list[Any] | None]:
    """The lists of an Arrow column of lists without nulls inside; None for a NULL."""
    import pyarrow.compute as pc

    flat = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    items = flat.flatten().to_numpy(zero_copy_only=False).tolist()
    at = 0
    for length in pc.list_value_length(flat).to_pylist():
        if length is None:
            yield None
            continue
        yield items[at : at + length]
        at += length


class State:
    """The state of a commutative monoid: a fresh one is `empty`, and the order and grouping of
    `add` and `merge` leave no trace in what `finish` gives (A2). Mutable, one per window."""

    def add(self, value: Any, order: Any = None) -> None:
        """Take one input that is not None. `order`, where the aggregate is `ordered`, is what
        compares the event with others by T6, and equal ones are of equal events; without it, inputs
        and states must come in that order."""
        raise NotImplementedError

    def merge(self, other: Any) -> None:
        """Take all that `other` has taken."""
        raise NotImplementedError

    def finish(self) -> Any:
        """The value; ArithmeticError for the third state of R3."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A window aggregate over a column or a transform (rules, "Aggregates over a window").

    `input`: a column's name, a `@feature`, or None where the aggregate counts rows. None inputs
    are skipped, inputs that err are skipped and counted (R3). The window is (t - window, t] (T4),
    or, for "lifetime", everything up to t; `offset` moves both ends back; `hop` moves the open end
    down to a multiple of itself (T5), which a lifetime does not have.
    `where`, a column or `@feature` of bool, keeps the rows where it is true. `default` replaces
    None, never an error (A4). `windows=["1h", "7d"]`, in place of `window`, makes a feature of
    each: "spend" becomes "spend_1h" and "spend_7d".
    """

    input: Any = None
    window: Duration = ""
    where: Any = None
    default: Any = None
    hop: Duration | None = None
    offset: Duration | None = None
    windows: Sequence[Duration] = field(default=(), kw_only=True)

    # Whether the result depends on the order of T6, so that states must keep it.
    ordered: ClassVar[bool] = False
    # Whether rows can be counted without an input.
    counts_rows: ClassVar[bool] = False
    # Whether it is made of the instants of the events, in microseconds, not of its inputs.
    of_instants: ClassVar[bool] = False
    # The sums of parts of a window that are enough for `over_sums`.
    adds: ClassVar[tuple[SumField, ...]] = ()
    # Whether the value over a part of a window can stand for all of the part's inputs in `over`.
    chooses: ClassVar[bool] = False
    # What of a run of inputs is the value: of rows "count", of doubles any.
    of_run: ClassVar[runs.RunField | None] = None
    # What its SQL calls.
    finishers: ClassVar[tuple[Finisher, ...]] = ()

    def __post_init__(self) -> None:
        what = type(self).__name__
        if self.input is None and not self.counts_rows:
            raise DefinitionError(f"{what} needs an input: a column's name or a @feature")
        if isinstance(self.windows, str) or (self.windows and self.window != ""):
            raise DefinitionError(f'{what} takes window="7d" or windows=["1h", "7d"]')
        if self.window == "" and not self.windows:
            raise DefinitionError(f'{what} needs a window, as in {what}(…, window="7d")')
        object.__setattr__(self, "windows", tuple(self.windows))
        for window in self.windows or (self.window,):
            window_us(window, what=f"{what}(window=…)")
        if self.hop is not None:
            duration_us(self.hop, what=f"{what}(hop=…)")
            if LIFETIME in (self.window, *self.windows):
                raise DefinitionError(
                    f'{what}: hop= moves the open end of a window, and window="{LIFETIME}" has '
                    "none; leave hop= out, or write two features"
                )
        if self.offset is not None:
            duration_us(self.offset, what=f"{what}(offset=…)", zero=True)
        self.check()

    def check(self) -> None:
        """DefinitionError where a parameter of the aggregate's own is wrong."""

    @property
    def params(self) -> tuple[tuple[str, Any], ...]:
        """The parameters of the aggregate's own, by name: they decide values, so they are part of
        every fingerprint (F1)."""
        own = [f.name for f in fields(self) if f.name not in Aggregate.__dataclass_fields__]
        return tuple((name, getattr(self, name)) for name in own)

    def each_window(self, name: str) -> dict[str, Aggregate]:
        """The features that the definition of feature `name` makes: one for each of `windows`."""
        if not self.windows:
            return {name: self}
        made: dict[str, Aggregate] = {}
        for window in self.windows:
            us = window_us(window, what="windows")
            shown = window if isinstance(window, str) else duration_text(us)
            if f"{name}_{shown}" in made:
                raise DefinitionError(f"{type(self).__name__}: windows= names {shown!r} twice")
            made[f"{name}_{shown}"] = replace(self, window=window, windows=())
        return made

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
        for order, value in enumerate(values):
            state.add(value, order)
        return state.finish()

    def over_sums(self, sums: Sums, values: Sequence[Any], item: Type | None) -> Any:
        """The value over inputs that add up to `sums`, which has what `adds` names, and `values`
        beside them: what `over` gives over all of them."""
        raise NotImplementedError

    def as_of(self, found: Any, t: int) -> Any:
        """The value as of `t` µs of what `over` found: the same, unless it tells the time."""
        return found

    def sql(self, column: Column | None, keep: str) -> AggregateSql:
        """The aggregate in DuckDB over the rows where the predicate `keep` holds."""
        raise NotImplementedError

    def refuse(self, item: Type | None, takes: str) -> DefinitionError:
        """The error for an input type that this aggregate does not take."""
        return DefinitionError(f"{type(self).__name__} takes {takes}, found {item}")

    def refuse_param(self, name: str, takes: str) -> DefinitionError:
        """The error for a parameter that is not what it must be."""
        found = getattr(self, name)
        return DefinitionError(f"{type(self).__name__}({name}=…) is {takes}, found {found!r}")


def present(column: Column, keep: str) -> str:
    """The predicate that a row is kept and its input is neither None nor an error."""
    return f"{keep} AND {column.sql} IS NOT NULL"


def of_terms(
    terms: Sequence[Term],
    keep: str,
    value: str,
    error: str | None = None,
    helpers: Sequence[tuple[str, str]] = (),
) -> AggregateSql:
    """The aggregate whose parts are of `terms`, over the rows where the predicate `keep` holds."""
    parts = tuple(f"{s.function}({s.sql}) FILTER ({keep})" for s in terms)
    return AggregateSql(parts, value, error, tuple(helpers), tuple(terms))


def plain(kind: Aggregate, item: Type | None) -> Type:
    """`item`, which is one value and no list."""
    if item is None or item.item is not None:
        raise kind.refuse(item, "a column or transform of plain values")
    return item
