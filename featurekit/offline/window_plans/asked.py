"""What a plan of windows is asked for, and the SQL that plans share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from featurekit.aggregates.sql import AggregateSql
from featurekit.core.sql import quote
from featurekit.define.plan import Feature, View


@dataclass(frozen=True, slots=True)
class Asked:
    """An aggregate over the window of `feature`, and the names of its parts' columns."""

    feature: Feature
    sql: AggregateSql
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Grouped:
    """A relation with __rid, the parts of all that was asked, and `__in`. A label without a row has
    empty windows; one with a row has the parts of what is in `summed`, and of what is not where
    `__in` is true."""

    sql: str
    summed: frozenset[int]


def low_sql(feature: Feature) -> str:
    """The open end of the feature's window at label `l` (T4, T5)."""
    low = f"l.__t - {feature.offset_us + feature.window_us}"
    return f"fk_hop({low}, {feature.hop_us})" if feature.hop_us else low


def high_sql(feature: Feature) -> str:
    """The closed end of the feature's window at label `l` (T4)."""
    return f"l.__t - {feature.offset_us}"


def shortest(asked: Sequence[Asked]) -> int:
    """The shortest way from an instant to the open end of a window, in microseconds."""
    return min(a.feature.offset_us + a.feature.window_us for a in asked)


def parts_sql(asked: Sequence[Asked]) -> str:
    return ", ".join(
        f"{part} AS {name}" for a in asked for part, name in zip(a.sql.parts, a.names, strict=True)
    )


def reach_sql(view: View, asked: Sequence[Asked], lateness: int) -> list[str]:
    """That an event lies in some window of the label, had arrived, and was not over."""
    nearest, farthest = ends_sql(asked)
    reach = [f"e.__ts <= l.__t - {nearest}", f"e.__ts > l.__t - {farthest}"]
    if lateness > 0:
        reach.append("e.__created <= l.__t")
    if view.source.op is not None:
        reach.append("e.__end > l.__t")
    return reach


def ends_sql(asked: Sequence[Asked]) -> tuple[int, int]:
    """How far back of an instant the windows end and begin, in microseconds."""
    nearest = min(a.feature.offset_us for a in asked)
    return nearest, max(a.feature.offset_us + a.feature.window_us + a.feature.hop_us for a in asked)


def same_keys(view: View, alias: str = "e") -> list[str]:
    return [f"l.{quote(k.name)} = {alias}.k{i}" for i, k in enumerate(view.join_keys)]


def with_helpers(asked: Sequence[Asked], table: str, *more: str) -> str:
    """The events, with the columns that the parts of `asked` read."""
    helpers = {name: made_of for a in asked for name, made_of in a.sql.helpers}
    columns = ["*", *(f"{made_of} AS {name}" for name, made_of in helpers.items()), *more]
    return f"(SELECT {', '.join(columns)} FROM {table})"
