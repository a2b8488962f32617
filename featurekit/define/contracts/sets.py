"""What users write of all rows of a source together: uniqueness, shares, freshness, counts (S5).

These rules are judged where a source is read as a whole, by `validate` and before `materialize` and
`get-historical`. `offline/contract.py` has how each is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from featurekit.core.durations import Duration, duration_text, duration_us
from featurekit.define.contracts.rules import NotNull, RowRule, Rule
from featurekit.errors import DefinitionError


@dataclass(frozen=True, slots=True)
class SetRule(Rule):
    """A rule of all rows that the source has and does not set aside."""


def _columns_of(given: str | Sequence[str], what: str) -> tuple[str, ...]:
    columns = (given,) if isinstance(given, str) else tuple(given)
    if not columns or not all(isinstance(one, str) for one in columns):
        raise DefinitionError(f'{what}: write a column or several, as in {what}(["a", "b"])')
    if len({*columns}) < len(columns):
        raise DefinitionError(f"{what}: a column stands twice among {', '.join(columns)}")
    return columns


def _as_given(columns: tuple[str, ...]) -> str | tuple[str, ...]:
    """The columns as they are written: one of them without a list."""
    return columns[0] if len(columns) == 1 else columns


def _check_share(share: Any, what: str) -> None:
    if type(share) not in (int, float) or not 0 <= share <= 1:
        raise DefinitionError(f"{what} is a share from 0 to 1, found {share!r}; write 0.99")


@dataclass(frozen=True, slots=True)
class Unique(SetRule):
    """No two rows have the same values in these columns. A row in which one of them is None is left
    out. −0.0 and 0.0 are one value, and so is every NaN."""

    key: str | Sequence[str] = field(kw_only=False)

    def check(self) -> None:
        object.__setattr__(self, "key", _as_given(_columns_of(self.key, "Unique")))

    @property
    def columns(self) -> tuple[str, ...]:
        return _columns_of(self.key, "Unique")

    @property
    def says(self) -> str:
        return f"no two rows have the same {', '.join(self.columns)}"


@dataclass(frozen=True, slots=True)
class Share(SetRule):
    """A rule of a row holds of at least this share of the rows. Rows of which it says nothing,
    since a value is None, are left out; `NotNull` says something of every row. Without
    rows it holds."""

    rule: RowRule = field(kw_only=False)
    at_least: float = 1.0

    def check(self) -> None:
        if not isinstance(self.rule, RowRule):
            raise DefinitionError(
                f"Share takes a rule of a row, found {self.rule!r}; write "
                'Share(Between("quantity", 0, 100), 0.99)'
            )
        _check_share(self.at_least, "Share: at_least")

    @property
    def columns(self) -> tuple[str, ...]:
        return self.rule.columns

    @property
    def default_name(self) -> str:
        return f"{self.rule.name}_share"

    @property
    def says(self) -> str:
        return f"for at least {self.at_least:.6g} of the rows, {self.rule.says}"


@dataclass(frozen=True, slots=True)
class NotNullShare(SetRule):
    """The value is there in at least this share of the rows."""

    column: str = field(kw_only=False)
    at_least: float = 1.0

    def check(self) -> None:
        _check_share(self.at_least, f'NotNullShare("{self.column}"): at_least')

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def says(self) -> str:
        return f"{self.column} is not null in at least {self.at_least:.6g} of the rows"

    @property
    def share(self) -> Share:
        """The same as a share of `NotNull`."""
        return Share(NotNull(self.column), self.at_least, severity=self.severity, name=self.name)


@dataclass(frozen=True, slots=True)
class Fresh(SetRule):
    """The newest event, or with `by="arrival"` the latest arrival, is at most `within` old. Without
    rows it is broken."""

    within: Duration = field(kw_only=False)
    by: Literal["event", "arrival"] = field(default="event", kw_only=True)

    def check(self) -> None:
        duration_us(self.within, what="Fresh(within=…)")
        if self.by not in ("event", "arrival"):
            raise DefinitionError(f'Fresh: by is "event" or "arrival", not {self.by!r}')

    @property
    def within_us(self) -> int:
        """The greatest age, in microseconds."""
        return duration_us(self.within, what="Fresh(within=…)")

    @property
    def columns(self) -> tuple[str, ...]:
        return ()

    @property
    def default_name(self) -> str:
        return "fresh" if self.by == "event" else "fresh_arrivals"

    @property
    def says(self) -> str:
        what = "the newest event" if self.by == "event" else "the latest arrival"
        return f"{what} is at most {duration_text(self.within_us)} old"


@dataclass(frozen=True, slots=True)
class RowCount(SetRule):
    """The source has so many rows: at least, at most, and with `change=0.5` at most half as many
    more or fewer than when it was materialised last."""

    at_least: int | None = field(default=None, kw_only=False)
    at_most: int | None = None
    change: float | None = field(default=None, kw_only=True)

    def check(self) -> None:
        limits = [n for n in (self.at_least, self.at_most) if n is not None]
        if any(type(n) is not int or n < 0 for n in limits):
            raise DefinitionError(
                f"RowCount: its limits are ints from 0 on, found {self.at_least!r} and "
                f"{self.at_most!r}; write RowCount(1), or RowCount(1_000, 50_000)"
            )
        if self.change is not None and (
            type(self.change) not in (int, float) or not 0 <= self.change < float("inf")
        ):
            raise DefinitionError(
                f"RowCount: change is a share from 0 on, found {self.change!r}; write change=0.5"
            )
        if not limits and self.change is None:
            raise DefinitionError(
                "RowCount has no limit; write RowCount(1), or RowCount(change=0.5)"
            )

    @property
    def columns(self) -> tuple[str, ...]:
        return ()

    @property
    def default_name(self) -> str:
        return "row_count"

    @property
    def says(self) -> str:
        parts = []
        if self.at_least is not None:
            parts.append(f"at least {self.at_least:,} rows")
        if self.at_most is not None:
            parts.append(f"at most {self.at_most:,} rows")
        if self.change is not None:
            parts.append(f"no change by more than {self.change:.6g} of the rows before")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class References(SetRule):
    """Every value of these columns is found in another source. `to` is that EventSource, and
    `found_in` names its columns where they are called otherwise. A row in which one of the columns
    is None is left out."""

    key: str | Sequence[str] = field(kw_only=False)
    to: Any = None
    found_in: str | Sequence[str] | None = field(default=None, kw_only=True)

    def check(self) -> None:
        object.__setattr__(self, "key", _as_given(_columns_of(self.key, "References")))
        if self.found_in is not None:
            there = _as_given(_columns_of(self.found_in, "References"))
            object.__setattr__(self, "found_in", there)
        if not hasattr(self.to, "schema"):
            raise DefinitionError(
                f"References({self.columns[0]!r}): to is an EventSource, found {self.to!r}; write "
                f'References("{self.columns[0]}", customers)'
            )
        if len(self.there) != len(self.columns):
            raise DefinitionError(
                f"References: {len(self.columns)} columns, and found_in has {len(self.there)}; "
                "write one for each"
            )

    @property
    def columns(self) -> tuple[str, ...]:
        return _columns_of(self.key, "References")

    @property
    def there(self) -> tuple[str, ...]:
        """The columns of the other source."""
        return _columns_of(self.key if self.found_in is None else self.found_in, "References")

    @property
    def says(self) -> str:
        return f"every {', '.join(self.columns)} is a {', '.join(self.there)} of {self.to.name}"


@dataclass(frozen=True, slots=True)
class Monotone(SetRule):
    """In the order of the events the value never falls, or with `strictly` always rises; with
    `per`, among the rows that have the same values in these columns. None is left out. Events of
    one instant are in the order of their arrival, the source's `sequence` and then the value."""

    column: str = field(kw_only=False)
    per: str | Sequence[str] = ()
    strictly: bool = field(default=False, kw_only=True)

    def check(self) -> None:
        per = _as_given(_columns_of(self.per, "Monotone")) if self.per else ()
        object.__setattr__(self, "per", per)

    @property
    def groups(self) -> tuple[str, ...]:
        """The columns of `per`."""
        return _columns_of(self.per, "Monotone") if self.per else ()

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column, *self.groups)

    @property
    def default_name(self) -> str:
        return f"{self.column}_monotone"

    @property
    def says(self) -> str:
        of = f" per {', '.join(self.groups)}" if self.groups else ""
        return f"{self.column} {'always rises' if self.strictly else 'never falls'}{of}"
