"""Operators on datetime, an instant in UTC, and on date (T1)."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

from featurekit.core.types import (
    DATE,
    DATETIME,
    FLOAT,
    INSTANT_MAX,
    INSTANT_MIN,
    INT,
    INT_MAX,
    STR,
    TIMEDELTA,
    list_of,
)
from featurekit.core.values import Beyond
from featurekit.language.ops.table import (
    MAX_SPAN,
    MIN_SPAN,
    NAMESPACE,
    Op,
    Own,
    register,
    template_literal,
)

UTC = dt.UTC


def _aware(value: dt.datetime) -> dt.datetime:
    """The instant in UTC. ValueError for a text without an offset, which names no instant."""
    if value.tzinfo is None:
        raise Beyond("a local time without its zone is no instant")
    return value.astimezone(UTC)


def _at_utc(value: dt.datetime) -> dt.datetime:
    """The instant of a text in UTC. ValueError for another offset, where Python keeps the local
    fields."""
    if value.utcoffset():
        raise Beyond("an offset other than UTC's; write .astimezone(timezone.utc) after it")
    return _aware(value)


def _in_utc(value: dt.datetime) -> dt.datetime:
    """The result of `.replace(tzinfo=timezone.utc)`: the value's own fields, read as UTC."""
    return value.replace(tzinfo=UTC)


def _from_timestamp(seconds: float) -> dt.datetime:
    try:
        return dt.datetime.fromtimestamp(seconds, UTC)
    except OSError:  # the C library's error depends on the year
        raise ValueError("no such year") from None


def span(value: dt.timedelta) -> dt.timedelta:
    """The timedelta. OverflowError where its microseconds do not fit int64."""
    if not MIN_SPAN <= value <= MAX_SPAN:
        raise Beyond("a timedelta outside int64 microseconds")
    return value


NAMESPACE |= {
    "aware": _aware,
    "at_utc": _at_utc,
    "in_utc": _in_utc,
    "from_timestamp": _from_timestamp,
    "span": span,
    "UTC": UTC,
}

_DAY_US = 86_400_000_000
# Python divides whole microseconds and rounds once; so does a double up to 2**53.
SECONDS = (
    "CASE WHEN {us} BETWEEN -9007199254740992 AND 9007199254740992"
    " THEN {us}::DOUBLE / 1000000e0 WHEN {us} IS NOT NULL THEN {python} END"
)
_EPOCH_DAY = "DATE '1970-01-01'"


def _civil(year: str, month: str, day: str) -> str:
    """A DATE; NULL where there is no such day, for which make_date raises."""
    leap = f"({year} % 4 = 0 AND ({year} % 100 <> 0 OR {year} % 400 = 0))"
    last = (
        f"CASE WHEN {month} = 2 THEN CASE WHEN {leap} THEN 29 ELSE 28 END"
        f" WHEN {month} IN (4, 6, 9, 11) THEN 30 ELSE 31 END"
    )
    return (
        f"CASE WHEN {year} BETWEEN 1 AND 9999 AND {month} BETWEEN 1 AND 12 AND {day} >= 1"
        f" AND {day} <= {last} THEN make_date({year}, {month}, {day}) END"
    )


def _moment(day: str, hour: str, minute: str, second: str, micro: str) -> str:
    """A TIMESTAMP of the DATE `day`; NULL where there is no such time of day."""
    return (
        f"CASE WHEN {hour} BETWEEN 0 AND 23 AND {minute} BETWEEN 0 AND 59"
        f" AND {second} BETWEEN 0 AND 59 AND {micro} BETWEEN 0 AND 999999"
        f" THEN make_timestamp(({day} - {_EPOCH_DAY}) * {_DAY_US}::BIGINT"
        f" + {hour} * 3600000000 + {minute} * 60000000 + {second} * 1000000 + {micro}) END"
    )


_DATE_FIELDS = {"year": "year({0})", "month": "month({0})", "day": "day({0})"}
_TIME_FIELDS = {
    "hour": "hour({0})",
    "minute": "minute({0})",
    "second": "second({0})",
    "microsecond": "(microsecond({0}) % 1000000)",
}
_OF_DATES = {
    "weekday": ("{0}.weekday()", "(isodow({0}) - 1)"),
    "isoweekday": ("{0}.isoweekday()", "isodow({0})"),
    "toordinal": ("{0}.toordinal()", "({0}::DATE - DATE '0001-01-01' + 1)"),
    "isocalendar.year": ("{0}.isocalendar()[0]", "isoyear({0})"),
    "isocalendar.week": ("{0}.isocalendar()[1]", "week({0})"),
    "isocalendar.weekday": ("{0}.isocalendar()[2]", "isodow({0})"),
    "timetuple.tm_yday": ("{0}.timetuple().tm_yday", "dayofyear({0})"),
}
_OF_BOTH = {
    **{name: (f"{{0}}.{name}", sql) for name, sql in _DATE_FIELDS.items()},
    **_OF_DATES,
}
FIELDS = {**_OF_BOTH, **{name: (f"{{0}}.{name}", sql) for name, sql in _TIME_FIELDS.items()}}
"""The Python and the SQL of each int that a datetime gives."""

register(
    *(Op(f"date.{n}", (DATE,), INT, p, f"{s}::BIGINT") for n, (p, s) in _OF_BOTH.items()),
    *(Op(f"datetime.{n}", (DATETIME,), INT, p, f"{s}::BIGINT") for n, (p, s) in FIELDS.items()),
    *(
        Op(
            f"{type_}.isocalendar",
            (type_,),
            list_of(INT),
            "list({0}.isocalendar())",
            "CASE WHEN {0} IS NOT NULL THEN [isoyear({0}), week({0}), isodow({0})]::BIGINT[] END",
        )
        for type_ in (DATE, DATETIME)
    ),
    Op("datetime.date", (DATETIME,), DATE, "{0}.date()", "{0}::DATE"),
    Op(
        "datetime.timestamp",
        (DATETIME,),
        FLOAT,
        "{0}.timestamp()",
        SECONDS.replace("{us}", "epoch_us({0})"),
    ),
)

# --- arithmetic -----------------------------------------------------------------------------------


def _moved(sign: str) -> str:
    """The instant, where a datetime can hold it. The outer limit keeps the sum within int64."""
    us, limit = "epoch_us({0})", INSTANT_MAX - INSTANT_MIN
    made = f"{us} {sign} {{1}}"
    return (
        f"CASE WHEN {{1}} BETWEEN -{limit} AND {limit} THEN CASE WHEN {made} BETWEEN"
        f" {INSTANT_MIN} AND {INSTANT_MAX} THEN make_timestamp({made}) END END"
    )


_FLOOR_DAYS = f"xor(xor({{1}}, {{1}} >> 63) // {_DAY_US}, {{1}} >> 63)"  # see number.py


def _swapped(template: str) -> str:
    return template.replace("{0}", "{x}").replace("{1}", "{0}").replace("{x}", "{1}")


def _moved_date(sign: str) -> str:
    """Only a timedelta's whole days count, and `date - delta` adds -delta.days."""
    made = f"({{0}} - DATE '0001-01-01') {sign} {_FLOOR_DAYS}"
    return f"CASE WHEN {made} BETWEEN 0 AND 3652058 THEN DATE '0001-01-01' + ({made})::INTEGER END"


_D, _T, _S = DATE, DATETIME, TIMEDELTA

register(
    Op("+", (_T, _S), _T, "{0} + {1}", _moved("+"), raises=True),
    Op("+", (_S, _T), _T, "{0} + {1}", _swapped(_moved("+")), raises=True),
    Op("-", (_T, _S), _T, "{0} - {1}", _moved("-"), raises=True),
    Op("-", (_T, _T), _S, "{0} - {1}", "(epoch_us({0}) - epoch_us({1}))"),
    Op("+", (_D, _S), _D, "{0} + {1}", _moved_date("+"), raises=True),
    Op("+", (_S, _D), _D, "{0} + {1}", _swapped(_moved_date("+")), raises=True),
    Op("-", (_D, _S), _D, "{0} - {1}", _moved_date("-"), raises=True),
    Op("-", (_D, _D), _S, "{0} - {1}", f"(({{0}} - {{1}}) * {_DAY_US}::BIGINT)"),
)

# --- construction ---------------------------------------------------------------------------------

_YMD = ("year", "month", "day")
_HMS = ("hour", "minute", "second", "microsecond")
_INTS7 = (INT,) * 7
_GOOD = ((2024, 2, 29, 23, 59, 59, 999_999), (1, 1, 1, 0, 0, 0, 0), (9999, 12, 31, 0, 0, 0, 1))
_BAD = ((2023, 2, 29, 0, 0, 0, 0), (2024, 13, 1, 0, 0, 0, 0), (2024, 1, 1, 24, 0, 0, 0))
_CIVIL = (
    _GOOD
    + _BAD
    + ((1900, 2, 29, 1, 1, 1, 1), (2024, 4, 31, 0, 0, 0, 0), (2024, 4, 30, 0, 60, 0, 0))
)
_DAY_OF = _civil("{0}", "{1}", "{2}")
_NEW_DAY = _civil("{1}", "{2}", "{3}")
_SOME = dt.datetime(2024, 2, 29, 12, 30, 45, 123, tzinfo=UTC)

register(
    Op(
        "datetime",
        _INTS7,
        DATETIME,
        "dt.datetime({0}, {1}, {2}, {3}, {4}, {5}, {6}, tzinfo=UTC)",
        _moment("{7}", "{3}", "{4}", "{5}", "{6}"),
        raises=True,
        steps=(_DAY_OF,),
        edges=_CIVIL,
        names=_YMD + _HMS,
        defaults=(0, 0, 0, 0),
    ),
    Op(
        "date",
        (INT, INT, INT),
        DATE,
        "dt.date({0}, {1}, {2})",
        _DAY_OF,
        raises=True,
        edges=tuple(row[:3] for row in _CIVIL),
        names=_YMD,
    ),
    Op(
        "datetime.replace",
        (DATETIME, *_INTS7),
        DATETIME,
        "{0}.replace({1}, {2}, {3}, {4}, {5}, {6}, {7})",
        f"CASE WHEN {{0}} IS NOT NULL THEN {_moment('{8}', '{4}', '{5}', '{6}', '{7}')} END",
        raises=True,
        steps=(_NEW_DAY,),
        edges=tuple((_SOME, *row) for row in _CIVIL),
        names=("", *_YMD, *_HMS),
        defaults=tuple(map(Own, _YMD + _HMS)),
    ),
    Op(
        "date.replace",
        (DATE, INT, INT, INT),
        DATE,
        "{0}.replace({1}, {2}, {3})",
        f"CASE WHEN {{0}} IS NOT NULL THEN {_NEW_DAY} END",
        raises=True,
        edges=tuple((_SOME.date(), *row[:3]) for row in _CIVIL),
        names=("", *_YMD),
        defaults=tuple(map(Own, _YMD)),
    ),
    Op(
        "datetime.fromtimestamp",
        (FLOAT,),
        DATETIME,
        "from_timestamp({0})",
        raises=True,
        edges=((0.5,), (1e9 + 1e-6,), (-1.5,), (253402300799.9999,), (1.0000005,)),
        promote="none",
    ),
    Op(
        "datetime.fromtimestamp",
        (INT,),
        DATETIME,
        "from_timestamp({0})",
        f"CASE WHEN {{0}} BETWEEN {INSTANT_MIN // 10**6} AND {INSTANT_MAX // 10**6}"
        " THEN make_timestamp({0} * 1000000) END",
        raises=True,
        edges=((1_700_000_000,), (INSTANT_MIN // 10**6,), (INSTANT_MAX // 10**6 + 1,)),
        promote="none",
    ),
)

# --- text -----------------------------------------------------------------------------------------

_ISO = tuple(
    (t,)
    for t in (
        *("2024-02-29T12:30:45Z", "2024-02-29 12:30:45.123456+00:00", "2024-02-29"),
        *("2024-02-29T12:30:45", "20240229T123045+0530", "2023-02-29T00:00:00Z", "2024-W09-4T01"),
        *("2024-02-29T12:30:45.1Z", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"),
        *("2024-02-29T24:00:00Z", "2024-02-29T12:30:60Z", "2024-13-01T00:00:00Z"),
        "1999-12-31 23:59:59",
    )
)
_TIME = "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
_PLAIN_DAY = "(1[6-9]|20)[0-9][0-9]-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])"


def _iso_sql(offset: str) -> str:
    """For plain texts of a day that every month has. Python reads the others."""
    shown = template_literal(f"{_PLAIN_DAY}[T ]{_TIME}{offset}")
    return (
        f"CASE WHEN regexp_full_match({{0}}, {shown}) THEN TRY_CAST(left({{0}}, 19) AS TIMESTAMP)"
        " WHEN {0} IS NOT NULL THEN {python} END"
    )


_ISO_DAY = (
    f"CASE WHEN regexp_full_match({{0}}, '{_PLAIN_DAY}') THEN TRY_CAST({{0}} AS DATE)"
    " WHEN {0} IS NOT NULL THEN {python} END"
)

# Directives that Python and DuckDB print alike from the year 1000 on; before it C libraries differ.
# Names of days and months are English: Python's follow the locale, which is never set here.
_DIRECTIVES = "YmdHMSfyjaAbBpIuwVG%"
_SOME_FORMATS = (
    *("%Y-%m-%d", "%d/%m/%Y %H:%M:%S.%f", "%A %B %d", "%a %b", "%I:%M %p", "%j", "%G-W%V-%u", "%w"),
    *("%y%%", "", "week %U of %W", "'{0}'", "%Y", "é %H"),
)


def _directives(format_: str) -> list[str]:
    return re.findall(r"%(.?)", format_, re.DOTALL)


def format_check(value: Any, format_: Any, *others: Any) -> str | None:
    if format_ is None:
        return None
    bad = [d for d in _directives(format_) if d == "" or d not in _DIRECTIVES + "UW"]
    if bad:
        return f"%{bad[0]} is no directive of the language: use %{' %'.join(_DIRECTIVES + 'UW')}"
    if "\0" in format_ or len(format_) > 200:
        return "a format with a NUL, or of more than 200 characters"
    return None


def strftime_sql(value: str, format_: str) -> str | None:
    """`value.strftime(format_)`; None where DuckDB's result may differ."""
    if (
        not format_
        or not format_.isascii()
        or any(d not in _DIRECTIVES for d in _directives(format_))
    ):
        return None
    return f"strftime({value}, {template_literal(format_)})"


def _strftime(value: Any, format_: Any) -> str | None:
    shown = None if format_ is None else strftime_sql("{0}", format_)
    if shown is None:
        return None
    return (
        f"CASE WHEN {{0}} >= DATE '1000-01-01' THEN {shown}"
        " WHEN {0} IS NOT NULL THEN {python} END"
    )


_PARSED = tuple(
    (t, f)
    for t, f in (
        ("2024-02-29", "%Y-%m-%d"),
        ("29/02/2024 12:30", "%d/%m/%Y %H:%M"),
        ("2024-02-30", "%Y-%m-%d"),
        ("2024-02-29 12:30:45.5 +0100", "%Y-%m-%d %H:%M:%S.%f %z"),
        ("Feb 29 2024", "%b %d %Y"),
        ("x", "%Y"),
    )
)


def _parse_check(text: Any, format_: Any) -> str | None:
    return None if format_ is None else format_check(None, format_.replace("%z", ""))


register(
    Op(
        "date.fromisoformat",
        (STR,),
        DATE,
        "dt.date.fromisoformat({0})",
        _ISO_DAY,
        raises=True,
        edges=_ISO,
    ),
    Op(
        "datetime.fromisoformat",
        (STR,),
        DATETIME,
        "at_utc(dt.datetime.fromisoformat({0}))",
        _iso_sql("(Z|[+]00:00)"),
        raises=True,
        edges=_ISO,
    ),
    # datetime.fromisoformat(text).astimezone(…)
    Op(
        "datetime.fromisoformat.instant",
        (STR,),
        DATETIME,
        "aware(dt.datetime.fromisoformat({0}))",
        _iso_sql("(Z|[+]00:00)"),
        raises=True,
        edges=_ISO,
    ),
    # datetime.fromisoformat(text).replace(tzinfo=timezone.utc)
    Op(
        "datetime.fromisoformat.utc",
        (STR,),
        DATETIME,
        "in_utc(dt.datetime.fromisoformat({0}))",
        _iso_sql(""),
        raises=True,
        edges=_ISO,
    ),
    *(
        Op(
            f"datetime.strptime{suffix}",
            (STR, STR),
            DATETIME,
            f"{helper}(dt.datetime.strptime({{0}}, {{1}}))",
            raises=True,
            literals=(1,),
            check=_parse_check,
            edges=_PARSED,
        )
        for suffix, helper in (("", "at_utc"), (".instant", "aware"), (".utc", "in_utc"))
    ),
    Op("date.isoformat", (DATE,), STR, "{0}.isoformat()", "strftime({0}, '%Y-%m-%d')"),
    Op(
        "datetime.isoformat",
        (DATETIME,),
        STR,
        "{0}.isoformat()",
        "CASE WHEN microsecond({0}) % 1000000 = 0 THEN strftime({0}, '%Y-%m-%dT%H:%M:%S+00:00')"
        " ELSE strftime({0}, '%Y-%m-%dT%H:%M:%S.%f+00:00') END",
    ),
    *(
        Op(
            name,
            (type_, STR),
            STR,
            # An empty format means str() in `format`, and an empty text in `strftime`.
            "format({0}, {1})" if name == "format" else "{0}.strftime({1})",
            literals=(1,),
            check=format_check,
            literal_sql=_strftime,
            edges=tuple((value, f) for f in _SOME_FORMATS),
        )
        for type_, value in ((DATE, _SOME.date()), (DATETIME, _SOME))
        for name in (f"{type_}.strftime", "format")
    ),
)
assert INT_MAX > INSTANT_MAX - INSTANT_MIN
