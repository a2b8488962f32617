"""Local time: the fields of an instant in a named zone of the pinned tzdata (T2).

`t.astimezone(ZoneInfo("Europe/London")).hour` is the row `zoned.hour` of t and the zone's name. Its
SQL is a tree of CASEs over the zone's clock changes, so that DuckDB's own zones are never used.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from featurekit.core.timezones import zone
from featurekit.core.types import DATE, DATETIME, INT, MICROSECOND, STR, TIMEDELTA, Type, list_of
from featurekit.errors import DefinitionError
from featurekit.language.ops.instant import FIELDS, UTC, format_check, strftime_sql
from featurekit.language.ops.table import NAMESPACE, Op, register

_zone = lru_cache(maxsize=None)(zone)
_last: tuple[dt.datetime | None, str, dt.datetime] = (None, "", dt.datetime.min)


def _zoned(value: dt.datetime, name: str) -> dt.datetime:
    """The local time. It is kept for the next call, since a feature reads several fields of one."""
    global _last
    known = _last  # read as one tuple, so that threads see a consistent pair
    if known[0] is value and known[1] == name:
        return known[2]
    local = value.astimezone(_zone(name))
    _last = value, name, local
    return local


NAMESPACE["zoned"] = _zoned

# SQL has the clock changes of this range; Python answers outside it.
_FROM, _UNTIL = dt.datetime(1970, 1, 1, tzinfo=UTC), dt.datetime(2038, 1, 1, tzinfo=UTC)
_PROBE, _SECOND = dt.timedelta(days=2), dt.timedelta(seconds=1)  # see timezones.py


@lru_cache(maxsize=64)
def _changes(name: str) -> tuple[tuple[dt.datetime, int], ...]:
    """The instants at which the offset changes, each with its microseconds; the first one is
    _FROM."""
    found = [(_FROM, _offset_us(name, _FROM))]
    at = _FROM
    while at < _UNTIL:
        until = min(at + _PROBE, _UNTIL)
        if _offset_us(name, until) != found[-1][1]:
            found.append((_first_change(name, at, until), _offset_us(name, until)))
        at = until
    return tuple(found)


def _first_change(name: str, low: dt.datetime, high: dt.datetime) -> dt.datetime:
    before = _offset_us(name, low)
    while high - low > _SECOND:
        middle = low + ((high - low) // 2 // _SECOND) * _SECOND
        if _offset_us(name, middle) == before:
            low = middle
        else:
            high = middle
    return high


def _offset_us(name: str, at: dt.datetime) -> int:
    offset = _zoned(at, name).utcoffset()
    assert offset is not None
    return offset // MICROSECOND


def _tree(changes: Sequence[tuple[dt.datetime, int]]) -> str:
    if len(changes) == 1:
        return f"'{changes[0][1]}'::BIGINT"
    middle = len(changes) // 2
    at = changes[middle][0].replace(tzinfo=None)
    return (
        f"CASE WHEN {{0}} < TIMESTAMP '{at}' THEN {_tree(changes[:middle])}"
        f" ELSE {_tree(changes[middle:])} END"
    )


def _sql(expression: str) -> Any:
    """`expression` of the local TIMESTAMP, or of the {offset} itself, for a literal zone."""

    def sql(value: Any, name: Any, *others: Any) -> str | None:
        if name is None:
            return None
        shown = expression
        if others:
            formatted = None if others[0] is None else strftime_sql("{local}", others[0])
            if formatted is None:
                return None
            shown = formatted
        offset = _tree(_changes(name))
        local = f"make_timestamp(epoch_us({{0}}) + {offset})"
        shown = shown.replace("{local}", local).replace("{offset}", offset)
        return (
            f"CASE WHEN {{0}} >= TIMESTAMP '{_FROM.replace(tzinfo=None)}'"
            f" AND {{0}} < TIMESTAMP '{_UNTIL.replace(tzinfo=None)}' THEN {shown}"
            " WHEN {0} IS NOT NULL THEN {python} END"
        )

    return sql


def _check(value: Any, name: Any, *others: Any) -> str | None:
    if name is None:
        return None
    try:
        zone(name)
    except DefinitionError as error:
        return str(error)
    return format_check(value, *others) if others else None


_NAMES = (
    *("Europe/London", "America/New_York", "Asia/Kolkata", "UTC", "Africa/Casablanca"),
    *("Australia/Lord_Howe", "Pacific/Apia", "America/St_Johns"),
)
_TIMES = tuple(
    dt.datetime.combine(dt.date(*parts[:3]), dt.time(*parts[3:]), UTC)
    for parts in (
        *((2024, 3, 31, 1), (2024, 3, 31, 0, 59, 59, 999_999), (2024, 10, 27, 1), (2500, 7, 1)),
        *((1969, 12, 31, 23), (2037, 12, 31, 23, 59), (2038, 1, 1), (1883, 11, 18, 17)),
        (2011, 12, 30, 10),
    )
)


def _row(name: str, result: Type, python: str, sql: str | None) -> Op:
    return Op(
        f"zoned.{name}",
        (DATETIME, STR),
        result,
        python.replace("{0}", "zoned({0}, {1})"),
        raises=True,
        literals=(1,),
        check=_check,
        literal_sql=None if sql is None else _sql(sql),
        edges=tuple((at, z) for z in _NAMES for at in _TIMES),
        platform="tzdata",
    )


register(
    *(_row(n, INT, p, f"{s.replace('{0}', '{local}')}::BIGINT") for n, (p, s) in FIELDS.items()),
    _row("isocalendar", list_of(INT), "list({0}.isocalendar())", None),
    _row("date", DATE, "{0}.date()", "{local}::DATE"),
    _row("utcoffset", TIMEDELTA, "{0}.utcoffset()", "{offset}"),
    _row("dst", TIMEDELTA, "{0}.dst()", None),
    _row("isoformat", STR, "{0}.isoformat()", None),
    Op(
        "zoned.strftime",
        (DATETIME, STR, STR),
        STR,
        "zoned({0}, {1}).strftime({2})",
        raises=True,
        literals=(1, 2),
        check=_check,
        literal_sql=_sql(""),
        edges=tuple(
            (_TIMES[i % len(_TIMES)], z, f)
            for i, (z, f) in enumerate(
                (z, f) for z in _NAMES for f in ("%Y-%m-%d %H:%M:%S.%f", "%A %B %j %p", "%G-W%V")
            )
        ),
        platform="tzdata",
    ),
)
