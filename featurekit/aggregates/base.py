"""The base of every aggregate: its parameters, its result's type, its value in Python and its SQL.

An aggregate is a commutative monoid (A2): its value depends neither on the order of its inputs nor
on their grouping, except that an `ordered` one depends on the order of T6. It keeps no state: a
path computes the value from the inputs of a window, or from what is known of them already.

To add an aggregate, write one class in a module beside this one, with `result`, `over` and `sql`,
and add it to `aggregates/__init__` and to the table there. No path knows the aggregates by name;
only the diagnosis of a difference does, in `parity/diagnose/aggregates.py` and `steps.py`, and the
proof of a DuckDB, by `SAMPLES` in `define/proven.py`. Add its meaning to `tests/oracle/`, and its
monoid to `tests/monoids.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, ClassVar, Literal

from featurekit.aggregates import runs
from featurekit.aggregates.frame import check_frame, needs_window
from featurekit.aggregates.sql import AggregateSql, Finisher, InputColumn
from featurekit.aggregates.sums import SumField, Sums
from featurekit.aggregates.tally import Tally, TallyKind
from featurekit.core.durations import LIFETIME, Duration, duration_text, duration_us, window_us
from featurekit.core.periods import Calendar
from featurekit.core.types import OPTIONAL, Type
from featurekit.core.written import Defined, Place
from featurekit.errors import DefinitionError

_MOST_AHEAD_US = 2**53
"""The longest window of a label: the microseconds of a TimeSince in it are exact as a double."""


@dataclass(frozen=True, slots=True)
class Aggregate(metaclass=Defined):
    """A window aggregate over a column or a transform (rules, "Aggregates over a window").

    `input` is a column's name, a `@feature`, or None if the aggregate counts rows. Inputs that are
    None are skipped; inputs that err are skipped and counted (R3). The window is (t - window, t]
    (T4), or everything up to t for "lifetime". `offset` moves both ends back. `hop` moves the open
    end down to a multiple of itself (T5); a lifetime has no open end, and so no hop.

    `where`, a column or `@feature` of bool, keeps the rows in which it is true. `default` replaces
    None, never an error (A4). `windows=["1h", "7d"]` instead of `window` makes one feature for
    each: "spend" becomes "spend_1h" and "spend_7d".

    `by`, a column or `@feature`, makes it a dict: the aggregate of the events of each category, by
    the number of its inputs descending, then by category (A6). Categories over which it is None are
    left out; with `top`, so are those after the first so many.

    With `ahead=True` it is a label: its window is (t, t + window], of events that arrived by the
    run's `known_at` (T10). `settle` is how long after the end of the window events of it may still
    arrive, by default the delay that the source declares. A label takes no hop, offset or lifetime.

    Other events count where these are written (T10). `exclude="instant"` leaves out events at t.
    With `ends="hop"` the window ends at the last multiple of `hop`, and is as long as it says.
    `calendar` ("day", "week" or "month") in the zone `timezone` takes the place of the window: it
    is the last full period before that of t, or the last `periods` of them; with `running=True` it
    is the period of t, up to t. `rows=n` keeps the last n events of the window, or of all where
    there is no window; those that `where` leaves out are none of them, and those whose input is
    None are. `session="30m"` keeps the last events of the window that follow each other by at most
    so long, and none where the last one is older than that.
    """

    input: Any = None
    window: Duration = ""
    where: Any = None
    default: Any = None
    hop: Duration | None = None
    offset: Duration | None = None
    windows: Sequence[Duration] = field(default=(), kw_only=True)
    ahead: bool = field(default=False, kw_only=True)
    settle: Duration | None = field(default=None, kw_only=True)
    exclude: Literal["instant"] | None = field(default=None, kw_only=True)
    ends: Literal["hop"] | None = field(default=None, kw_only=True)
    calendar: Calendar | None = field(default=None, kw_only=True)
    timezone: str | None = field(default=None, kw_only=True)
    running: bool = field(default=False, kw_only=True)
    periods: int | None = field(default=None, kw_only=True)
    rows: int | None = field(default=None, kw_only=True)
    session: Duration | None = field(default=None, kw_only=True)
    by: Any = field(default=None, kw_only=True)
    top: int | None = field(default=None, kw_only=True)
    place: Place | None = field(default=None, init=False, repr=False, compare=False)

    # Whether the value depends on the order of T6; then both paths must keep that order.
    ordered: ClassVar[bool] = False
    # Whether rows can be counted without an input.
    counts_rows: ClassVar[bool] = False
    # Whether it is computed from the instants of the events, in microseconds, instead of its
    # inputs.
    of_instants: ClassVar[bool] = False
    # Whether it is computed from pairs, each of an event's instant in microseconds and its input.
    timed: ClassVar[bool] = False
    # Whether it takes two inputs, as one that is a list of both.
    paired: ClassVar[bool] = False
    # Whether these two may not be swapped.
    directed: ClassVar[bool] = False
    # The sums that can replace the inputs of a part of a window, in `over_sums`.
    adds: ClassVar[tuple[SumField, ...]] = ()
    # Whether the value over a part of a window can replace the inputs of that part, in `over`.
    # That value is an input or, of an aggregate `of_instants`, an instant.
    chooses: ClassVar[bool] = False
    # The kind of tally that can replace the inputs of a part of a window, in `over_tally`.
    tallies: ClassVar[TallyKind | None] = None
    # The field of `runs_of` that is the value over a run of doubles; for rows only "count" is.
    of_run: ClassVar[runs.RunField | None] = None
    # Whether the value over some events is an error.
    raises: ClassVar[bool] = False
    # The Python functions that its SQL calls.
    finishers: ClassVar[tuple[Finisher, ...]] = ()
    # Whether DuckDB collects the inputs of each window, and Python computes the value from them.
    listed: ClassVar[bool] = False

    def __post_init__(self) -> None:
        what = type(self).__name__
        if self.input is None and not self.counts_rows:
            some, given = "an input:", '"amount"'
            if self.paired:
                some, given = "two inputs, each", '"amount", "quantity"'
            raise DefinitionError(
                f"{what} needs {some} a column's name or a @feature, as in "
                f'{what}({given}, window="7d")'
            )
        if isinstance(self.windows, str) or (self.windows and self.window != ""):
            raise DefinitionError(
                f'{what} takes one window, as in window="7d", or a list, as in '
                'windows=["1h", "7d"]; leave one of the two out'
            )
        if self.window == "" and not self.windows and needs_window(self):
            raise DefinitionError(f'{what} needs a window, as in {what}(…, window="7d")')
        object.__setattr__(self, "windows", tuple(self.windows))
        for window in self.lengths:
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
        check_frame(self)
        self._check_by(what)
        self._check_ahead(what)
        self.check()

    def _check_by(self, what: str) -> None:
        if self.top is None or any(f.name == "top" for f in own_fields(type(self))):
            return
        if self.by is None:
            raise DefinitionError(
                f"{what}: top= says how many categories a dict has, and there is no by=; write "
                f'one, as in {what}(…, by="category", top={self.top!r}), or leave it out'
            )
        if type(self.top) is not int or not 1 <= self.top < 2**31:
            raise self.refuse_param("top", "a whole number, at least 1, or None for all")

    def _check_ahead(self, what: str) -> None:
        """Whether a label is one that can be known some day (T10)."""
        if not isinstance(self.ahead, bool):
            raise DefinitionError(
                f"{what}: ahead is True for a label, which looks ahead, or False, found "
                f"{self.ahead!r}"
            )
        if not self.ahead:
            if self.settle is not None:
                raise DefinitionError(
                    f"{what}: settle= says when a label is known, and this looks back; write "
                    "ahead=True with it, or leave it out"
                )
            return
        for name in ("hop", "offset"):
            if getattr(self, name) is not None:
                raise DefinitionError(
                    f"{what}: {name}= moves a window that looks back, and a label's window is "
                    f"(t, t + window]; leave {name}= out"
                )
        if LIFETIME in (self.window, *self.windows):
            raise DefinitionError(
                f'{what}: the window of a label ends some day, and window="{LIFETIME}" does not; '
                'write one as in window="90d"'
            )
        for window in self.lengths:
            if window_us(window, what=f"{what}(window=…)") > _MOST_AHEAD_US:
                raise DefinitionError(
                    f"{what}: window={window!r} is longer than 285 years, and no label waits so "
                    "long; write a shorter one"
                )
        if self.settle is not None:
            duration_us(self.settle, what=f"{what}(settle=…)", zero=True)

    @property
    def lengths(self) -> tuple[Duration, ...]:
        """The lengths of its windows, as they are written; none where a calendar says them."""
        return tuple(self.windows) or ((self.window,) if self.window != "" else ())

    def check(self) -> None:
        """Raises DefinitionError if one of the aggregate's own parameters is wrong."""

    @property
    def suffice(self) -> int | None:
        """How many inputs at one end of a window decide the value: the last so many or, where the
        number is negative, the first. None where every input may matter."""
        return None

    @property
    def keeps_none(self) -> bool:
        """Whether inputs that are None are among its inputs; those that err never are."""
        return False

    @property
    def inputs(self) -> tuple[Any, ...]:
        """What it takes of an event: one column or transform, two if it is `paired`, or none if it
        counts rows."""
        if self.input is None:
            return ()
        return self.input if self.paired and isinstance(self.input, tuple) else (self.input,)

    @property
    def params(self) -> tuple[tuple[str, Any], ...]:
        """The aggregate's own parameters, by name. They decide values, so every fingerprint
        includes them (F1)."""
        own = own_fields(type(self))
        given = [(f, getattr(self, f.name)) for f in own]
        # One that came later is left out unless it is used, so that fingerprints stay.
        return tuple(
            (f.name, value) for f, value in given if f.metadata != OPTIONAL or value != f.default
        )

    def each_window(self, name: str) -> dict[str, Aggregate]:
        """The aggregates that the definition of feature `name` stands for, by feature name: one for
        each of `windows`."""
        if not self.windows:
            return {name: self}
        made: dict[str, Aggregate] = {}
        for window in self.windows:
            us = window_us(window, what="windows")
            shown = window if isinstance(window, str) else duration_text(us)
            if f"{name}_{shown}" in made:
                raise DefinitionError(f"{type(self).__name__}: windows= names {shown!r} twice")
            one = made[f"{name}_{shown}"] = replace(self, window=window, windows=())
            object.__setattr__(one, "place", self.place)
        return made

    def result(self, item: Type | None) -> Type:
        """The result's type for inputs of type `item` (never optional); it is optional if an empty
        window gives None. DefinitionError for an input that this aggregate does not take."""
        raise NotImplementedError

    def over(self, values: Sequence[Any], item: Type | None) -> Any:
        """The value over `values`, inputs of type `item` that are not None, in the order of T6.
        None if the window's value is None. ArithmeticError for the third state of R3.

        If the aggregate is `of_instants`, `values` are the microseconds of the events; if it is
        `timed`, they are pairs of these and the inputs.
        """
        raise NotImplementedError

    def over_sums(self, sums: Sums, values: Sequence[Any], item: Type | None) -> Any:
        """What `over` gives over the inputs that `sums` stands for, together with `values`. `sums`
        holds the fields in `adds`; only an aggregate with some has this method."""
        raise NotImplementedError

    def over_tally(self, tally: Tally, item: Type | None) -> Any:
        """What `over` gives over the inputs that `tally` stands for. Only an aggregate that names
        a kind of `tallies` has this method."""
        raise NotImplementedError

    def as_of(self, found: Any, t: int) -> Any:
        """The value as of `t` µs, made of what `over` found. It is the same, unless the aggregate
        gives a time that has passed until `t`."""
        return found

    def sql(self, column: InputColumn | None, keep: str) -> AggregateSql:
        """The aggregate in DuckDB, over the rows for which the predicate `keep` holds; `column` is
        None if it counts rows."""
        raise NotImplementedError

    def refuse(self, item: Type | None, takes: str) -> DefinitionError:
        """The error for an input type that this aggregate does not take."""
        return DefinitionError(f"{type(self).__name__} takes {takes}, found {item}")

    def refuse_param(self, name: str, takes: str) -> DefinitionError:
        """The error for a parameter with a wrong value."""
        found = getattr(self, name)
        return DefinitionError(f"{type(self).__name__}({name}=…) is {takes}, found {found!r}")


def own_fields(kind: type[Aggregate]) -> list[Field[Any]]:
    """The parameters that a kind of aggregate declares itself."""
    of_all: dict[str, Field[Any]] = Aggregate.__dataclass_fields__
    return [f for f in fields(kind) if f is not of_all.get(f.name)]


def plain(kind: Aggregate, item: Type | None) -> Type:
    """`item`, if it is the type of single values; DefinitionError if it is a list or missing."""
    if item is None or item.item is not None:
        raise kind.refuse(item, "a column or transform of plain values")
    return item
