"""What every aggregate is: its parameters, its result's type, its value in Python and its SQL.

An aggregate is a commutative monoid (A2): neither the order of its inputs nor their grouping leaves
a trace in its value, but for the order of T6 where it is `ordered`. It keeps no state of its own: a
path computes its value from the inputs of a window, or from what of them is known already.

To add an aggregate, write one class in a module beside this one, with `result`, `over` and `sql`,
and name it in `aggregates/__init__`, with its row in the table there: no other module knows the
aggregates by name. What it means is added to `tests/oracle/`, and its monoid to
`tests/monoids.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

from featurekit.aggregates import runs
from featurekit.aggregates.sql import AggregateSql, Finisher, InputColumn
from featurekit.aggregates.sums import SumField, Sums
from featurekit.core.durations import LIFETIME, Duration, duration_text, duration_us, window_us
from featurekit.core.types import Type
from featurekit.errors import DefinitionError


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

    # Whether the value depends on the order of T6, so that both paths must keep it.
    ordered: ClassVar[bool] = False
    # Whether rows can be counted without an input.
    counts_rows: ClassVar[bool] = False
    # Whether it is made of the instants of the events, in microseconds, not of its inputs.
    of_instants: ClassVar[bool] = False
    # The sums of a part of a window that stand for the part's inputs in `over_sums`.
    adds: ClassVar[tuple[SumField, ...]] = ()
    # Whether the value over a part of a window stands for the part's inputs in `over`.
    chooses: ClassVar[bool] = False
    # The field of `runs_of` that is the value over a run of doubles; of rows, "count" alone is.
    of_run: ClassVar[runs.RunField | None] = None
    # The Python functions that its SQL calls.
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

    def over(self, values: Sequence[Any], item: Type | None) -> Any:
        """The value over `values`, inputs of type `item` that are not None, in the order of T6;
        None where the window's value is None. ArithmeticError for the third state of R3.

        Where it is `of_instants`, `values` are the microseconds of the events instead.
        """
        raise NotImplementedError

    def over_sums(self, sums: Sums, values: Sequence[Any], item: Type | None) -> Any:
        """What `over` gives over all of some inputs and `values`; `sums` has of the former what
        `adds` names. Only an aggregate that names some has it."""
        raise NotImplementedError

    def as_of(self, found: Any, t: int) -> Any:
        """The value as of `t` µs, made of what `over` found: the same, unless it tells the time
        since then."""
        return found

    def sql(self, column: InputColumn | None, keep: str) -> AggregateSql:
        """The aggregate in DuckDB over the rows where the predicate `keep` holds; `column` is None
        where it counts rows."""
        raise NotImplementedError

    def refuse(self, item: Type | None, takes: str) -> DefinitionError:
        """The error for an input type that this aggregate does not take."""
        return DefinitionError(f"{type(self).__name__} takes {takes}, found {item}")

    def refuse_param(self, name: str, takes: str) -> DefinitionError:
        """The error for a parameter that is not what it must be."""
        found = getattr(self, name)
        return DefinitionError(f"{type(self).__name__}({name}=…) is {takes}, found {found!r}")


def plain(kind: Aggregate, item: Type | None) -> Type:
    """`item`, which is one value and no list; DefinitionError where it is none."""
    if item is None or item.item is not None:
        raise kind.refuse(item, "a column or transform of plain values")
    return item
