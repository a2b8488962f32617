"""Profiles a source and proposes rules for its contract; each holds of the rows of now (S5)."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from featurekit.core.sql import quote
from featurekit.core.tables import fetch
from featurekit.core.types import Type
from featurekit.define.contracts.compiled import Contract, Judge
from featurekit.define.contracts.rules import (
    Between,
    Length,
    Matches,
    NotNull,
    OneOf,
    RowRule,
    Rule,
)
from featurekit.define.contracts.sets import Fresh, NotNullShare, RowCount, SetRule, Unique
from featurekit.define.definitions import EventSource
from featurekit.offline.contract import measure, outcomes

_MOST_CHOICES = 50
_ROWS_A_CHOICE = 50
"""How many rows there are at least for each value of a proposed choice."""
_LEAST_ROWS = 100
"""From so many rows on, a key without copies is no accident."""
_LONGEST_SHAPE = 12
_DAY_US = 86_400_000_000
_RUNS = (("A", "[A-Z]"), ("a", "[a-z]"), ("9", "[0-9]"))


@dataclass(frozen=True, slots=True)
class _Column:
    """What a column holds: its rows without null, distinct values, and extremes."""

    name: str
    type: Type
    rows: int
    there: int
    distinct: int
    low: Any
    high: Any


def propose(
    con: Any, source: EventSource, relation: str, *, now_us: int, severity: Any = "warn"
) -> list[Rule]:
    """Rules that hold of the rows of `relation`, which has a source's columns, __ts and __created;
    none without rows."""
    rows, newest = fetch(con, f"SELECT count(*), max(__ts) FROM {relation}")[0]
    if not rows:
        return []
    found = [
        rule
        for column in _profile(con, source, relation)
        for rule in _of_column(con, source, relation, column)
    ]
    found += [RowCount(1, change=0.5), *_of_age(now_us - newest)]
    made = [replace(rule, severity=severity) for rule in found]
    return _holding(con, source, relation, made, now_us)


def _holding(
    con: Any, source: EventSource, relation: str, rules: list[Rule], now_us: int
) -> list[Rule]:
    """The rules that hold: a proposal is measured like any contract."""
    what = f"EventSource {source.name!r}"
    judges = [Judge(r, r.compiled(source.schema, what)) for r in rules if isinstance(r, RowRule)]
    sets = tuple(rule for rule in rules if isinstance(rule, SetRule))
    contract = Contract(tuple(judges), sets)
    found = measure(con, source, contract, relation, other=lambda _: relation)
    made = outcomes(contract, found, now_us=now_us, rows_before=None)
    held = {outcome.rule for outcome in made if outcome.held}
    return [rule for rule in rules if rule.name in held]


def _profile(con: Any, source: EventSource, relation: str) -> Iterator[_Column]:
    """Each column that rules are proposed for, from one scan."""
    arrival = source.created_timestamp_column
    names = [n for n in source.schema if n not in (arrival, source.timestamp_field, source.op)]
    items = ["count(*)"]
    for name in names:
        column, type_ = quote(name), source.schema[name]
        plain = "NULL" if type_.item is not None else column
        if type_.name == "float":  # NaN is in no range, so that no range is proposed
            plain = f"CASE WHEN NOT isnan({column}) THEN {column} END"
        length = f"length({column})" if type_.name == "str" else plain
        of_bytes = "NULL" if type_.name == "bytes" else length
        items += [f"count({column})", f"approx_count_distinct({column})"]
        items += [f"min({of_bytes})", f"max({of_bytes})"]
    rows, *found = fetch(con, f"SELECT {', '.join(items)} FROM {relation}")[0]
    for place, name in enumerate(names):
        there, distinct, low, high = found[4 * place : 4 * place + 4]
        yield _Column(name, source.schema[name], rows, there, distinct, low, high)


def _of_column(con: Any, source: EventSource, relation: str, column: _Column) -> Iterator[Rule]:
    yield from _of_nulls(column)
    if not column.there:
        return
    choices = _choices(con, relation, column)
    if choices is not None:
        yield OneOf(column.name, choices)
    elif column.type.name == "str":
        shape = _shape(con, relation, column.name)
        if shape is not None:
            yield Matches(column.name, shape)
        yield Length(column.name, column.low, column.high)
    elif column.low is not None:
        yield from _of_range(column)
    key = column.type.name in ("int", "str", "bytes") and column.name != source.event_id
    if key and column.rows >= _LEAST_ROWS and column.distinct > 0.9 * column.there:
        yield Unique(column.name)


def _of_nulls(column: _Column) -> Iterator[Rule]:
    if not column.type.optional:
        return
    if column.there == column.rows:
        yield NotNull(column.name)
    elif column.there:
        yield NotNullShare(column.name, math.floor(column.there / column.rows * 100) / 100)


def _choices(con: Any, relation: str, column: _Column) -> list[Any] | None:
    """The values of a column that has few, each of many rows; None for another one."""
    few = column.distinct <= 2 * _MOST_CHOICES and column.type.name in ("str", "int", "date")
    if not few or column.type.choices is not None:
        return None
    name = quote(column.name)
    found = fetch(
        con,
        f"SELECT {name} FROM {relation} WHERE {name} IS NOT NULL GROUP BY {name} "
        f"ORDER BY {name} LIMIT {_MOST_CHOICES + 1}",
    )
    many = len(found) > _MOST_CHOICES or column.there < _ROWS_A_CHOICE * len(found)
    return None if many else [value for (value,) in found]


def _shape(con: Any, relation: str, column: str) -> str | None:
    """A regular expression of runs of letters and digits that every text has; None where texts have
    several shapes, or a long one."""
    shape = quote(column)
    for letter, kind in _RUNS:
        shape = f"regexp_replace({shape}, '{kind}+', '{letter}', 'g')"
    found = fetch(
        con,
        f"SELECT DISTINCT {shape} FROM {relation} WHERE {quote(column)} IS NOT NULL LIMIT 2",
    )
    if len(found) != 1 or not 0 < len(found[0][0]) <= _LONGEST_SHAPE or not found[0][0].isascii():
        return None
    kinds = {letter: f"{kind}+" for letter, kind in _RUNS}
    made = "".join(kinds.get(letter) or re.escape(letter) for letter in found[0][0])
    return made if any(kind in made for kind in kinds.values()) else None


def _of_range(column: _Column) -> Iterator[Rule]:
    """A range about the extremes: of numbers a round one, which is wider; of days and instants the
    first one alone, since later ones are to come."""
    low, high = column.low, column.high
    match column.type.name:
        case "int" | "float":
            ends = _rounded(low, up=False), _rounded(high, up=True)
            if all(map(math.isfinite, ends)):
                whole = column.type.name == "int"
                yield Between(column.name, *(int(end) if whole else float(end) for end in ends))
        case "date":
            yield Between(column.name, low)
        case "datetime":
            yield Between(column.name, low.replace(tzinfo=dt.UTC))


def _rounded(value: float, *, up: bool) -> float:
    """The next number of one digit, away from what lies between the extremes."""
    if value == 0 or not math.isfinite(value) or abs(value) > 2**62:
        return value
    if value > 0 and not up:
        return 0
    if value < 0 and up:
        return 0
    unit = 10 ** math.floor(math.log10(abs(value)))
    return math.copysign(math.ceil(abs(value) / unit) * unit, value)


def _of_age(age_us: int) -> Iterator[Rule]:
    """How fresh the source is to be: twice as old as it is now, in whole units."""
    if age_us > 60 * _DAY_US:
        return
    units: Mapping[str, int] = {"d": _DAY_US, "h": _DAY_US // 24}
    name = "d" if age_us > 12 * units["h"] else "h"
    yield Fresh(f"{max(1, math.ceil(2 * max(age_us, 0) / units[name]))}{name}")
