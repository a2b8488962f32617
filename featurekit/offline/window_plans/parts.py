"""What the window plans share: an aggregate over a window as parts, and the SQL that reads labels
and events.

Labels `l` are a table with __rid (row number), __t (instant in microseconds) and the join keys.
Events `e` are a table with the same keys as k0 …, __ts, __created, the slots s0 …, and __o, their
number by T6. A plan gives a relation with __rid and a column for each part. A label that has no
event in reach may be missing there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from featurekit.aggregates.sql import AggregateSql
from featurekit.core.sql import quote
from featurekit.define.plan import Feature, View


@dataclass(frozen=True, slots=True)
class WindowParts:
    """The aggregate `sql` over the window of `feature`, and the names of the columns of its
    parts."""

    feature: Feature
    sql: AggregateSql
    names: tuple[str, ...]

    @property
    def runs(self) -> bool:
        """Whether the running plans take it: its parts are terms, and its window has all events
        between two ends that move with the instant."""
        return bool(self.sql.terms) and self.feature.steady and not self.feature.cuts


@dataclass(frozen=True, slots=True)
class WindowTerm:
    """A term of some parts, over the events that the slot `where` keeps. Equal terms are computed
    once, however many windows use them."""

    function: str
    sql: str
    where: int | None

    @property
    def value(self) -> str:
        """The SQL of what the term takes from event `e`; NULL for nothing."""
        if self.where is None:
            return self.sql
        return f"CASE WHEN e.s{self.where} THEN {self.sql} END"


def terms_of(asked: WindowParts) -> list[tuple[str, WindowTerm]]:
    """The terms of an aggregate's parts, each with the name of the part's column."""
    where = asked.feature.where
    terms = (WindowTerm(t.function, t.sql, where) for t in asked.sql.terms)
    return list(zip(asked.names, terms, strict=True))


def low_sql(feature: Feature) -> str:
    """The open end of the feature's window at label `l` (T4, T5, T10)."""
    frame = feature.frame
    if frame is not None and frame.calendar is not None:
        begins, _ = period_columns(feature)
        return f"l.{quote(begins)} - 1"
    if frame is not None and frame.ends is not None:
        return f"{_last_hop_sql(feature)} - {feature.window_us}"
    low = f"l.__t - {feature.offset_us + feature.window_us}"
    return f"fk_hop({low}, {feature.hop_us})" if feature.hop_us else low


def high_sql(feature: Feature) -> str:
    """The closed end of the feature's window at label `l` (T4, T10)."""
    frame, latest = feature.frame, f"l.__t - {feature.nearest_us}"
    if frame is not None and frame.periods is not None:
        _, ends = period_columns(feature)
        return f"l.{quote(ends)} - 1"
    if frame is not None and frame.ends is not None:
        return f"least({_last_hop_sql(feature)}, {latest})"
    return latest


def _last_hop_sql(feature: Feature) -> str:
    """The last multiple of the feature's hop at label `l`."""
    return f"fk_hop(l.__t - {feature.offset_us}, {feature.hop_us})"


def period_columns(feature: Feature) -> tuple[str, str]:
    """The columns of labels in which the first of the feature's periods begins and the
    running one does; `periods` makes them."""
    frame = feature.frame
    assert frame is not None
    about = f"{frame.calendar} {frame.timezone} {feature.offset_us}"
    return f"__begins {frame.periods or 0} {about}", f"__begins 0 {about}"


def within_sql(feature: Feature) -> str:
    """The predicate that an event of the join lies in the feature's window and passes its
    `where`."""
    terms = [f"e.__ts > {low_sql(feature)}", f"e.__ts <= {high_sql(feature)}"]
    if feature.where is not None:
        terms.append(f"coalesce(e.s{feature.where}, FALSE)")
    return " AND ".join(terms)


def first_column(feature: Feature) -> str:
    """The column of labels that says where the events of the feature's window begin that count;
    `firsts` makes it. It is named by what decides it, so that equal ones are computed once."""
    frame = feature.frame
    assert frame is not None
    about = (feature.window_us, feature.offset_us, feature.hop_us, feature.where)
    said = ", ".join(f"{name} {text}" for name, text in frame.written.items())
    return f"__first {about} {said}"


def shortest_us(asked: Sequence[WindowParts]) -> int:
    """The shortest distance from an instant back to the open end of a window, in microseconds."""
    return min(a.feature.offset_us + a.feature.window_us for a in asked)


def parts_sql(asked: Sequence[WindowParts]) -> str:
    """The parts as columns of a GROUP BY."""
    parts = {name: part for a in asked for name, part in zip(a.names, a.sql.parts, strict=True)}
    return ", ".join(f"{part} AS {name}" for name, part in parts.items())


def reach_sql(view: View, asked: Sequence[WindowParts], lateness: int) -> str:
    """The predicate that an event lies in some window of the label, had arrived, and was not over.
    `lateness` is the longest time from an event to its arrival, in microseconds."""
    nearest, farthest = ends_us(asked)
    reach = [f"e.__ts <= l.__t - {nearest}", f"e.__ts > l.__t - {farthest}"]
    if lateness > 0:
        reach.append("e.__created <= l.__t")
    if view.source.op is not None:
        reach.append("e.__end > l.__t")
    return " AND ".join(reach)


def ends_us(asked: Sequence[WindowParts]) -> tuple[int, int]:
    """How far back from an instant the windows end and begin, in microseconds."""
    return min(a.feature.nearest_us for a in asked), max(a.feature.farthest_us for a in asked)


def same_keys_sql(view: View, alias: str = "e") -> str:
    """The predicate that a label and an event, or the row `alias`, belong to one entity."""
    return " AND ".join(f"l.{quote(k.name)} = {alias}.k{i}" for i, k in enumerate(view.join_keys))


def events_sql(asked: Sequence[WindowParts], table: str, *more: str) -> str:
    """The events of `table`, with the helper columns that the parts of `asked` read, and `more`."""
    helpers = {name: made_of for a in asked for name, made_of in a.sql.helpers}
    columns = ["*", *(f"{made_of} AS {name}" for name, made_of in helpers.items()), *more]
    return f"(SELECT {', '.join(columns)} FROM {table})"
