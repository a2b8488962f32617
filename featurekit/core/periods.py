"""Turns an instant into the period of a calendar that it lies in, and a period into its beginning
(T10).

Periods have numbers: of days since 1970-01-01, of weeks since that of Monday 1970-01-05, of months
since January of the year 0. Period i is [begin(i), begin(i + 1)), of local midnights by T1; so it
is empty where the zone skipped it.
"""

from __future__ import annotations

import datetime as dt
from functools import lru_cache
from typing import Literal, get_args

from featurekit.core.timezones import offset_us
from featurekit.core.types import EPOCH, MICROSECOND

Calendar = Literal["day", "week", "month"]
CALENDARS: tuple[str, ...] = get_args(Calendar)

DAY_US = 86_400_000_000
_DAYS = {"day": 1, "week": 7, "month": 31}
_FIRST_MONDAY = 4  # 1970-01-01 is a Thursday
_YEARS, _DAYS_OF_YEARS = 400, 146_097  # after so many years the calendar begins again
_NAIVE_EPOCH = EPOCH.replace(tzinfo=None)
_EPOCH_DAY = _NAIVE_EPOCH.toordinal()
_FIRST = (dt.datetime.min - _NAIVE_EPOCH) // MICROSECOND
_LAST = (dt.datetime.max - _NAIVE_EPOCH) // MICROSECOND


def longest_us(calendar: str, periods: int) -> int:
    """A length that `periods` successive ones do not exceed in any zone, in microseconds. No zone
    has two offsets that are two days apart."""
    return (periods * _DAYS[calendar] + 2) * DAY_US


@lru_cache(maxsize=65536)
def begin_us(calendar: str, timezone: str, index: int) -> int:
    """The instant at which a period begins: the local midnight of its first day, by T1. Beyond the
    calendar of datetime a zone has the offset that it has at that end."""
    local = _first_day(calendar, index) * DAY_US
    within = _NAIVE_EPOCH + min(max(local, _FIRST), _LAST) * MICROSECOND
    return local - offset_us(within, timezone)


def period_at(calendar: str, timezone: str, t: int) -> int:
    """The number of the period that the instant `t` lies in: the last one that has begun."""
    index = _of_day(calendar, t // DAY_US + 1)
    while begin_us(calendar, timezone, index) > t:
        index -= 1
    return index


def _first_day(calendar: str, index: int) -> int:
    """The first day of a period, in days since 1970-01-01."""
    if calendar == "day":
        return index
    if calendar == "week":
        return 7 * index + _FIRST_MONDAY
    year, month = divmod(index, 12)
    cycles, year = divmod(year, _YEARS)
    first = dt.date(year + _YEARS, month + 1, 1).toordinal() - _EPOCH_DAY
    return first + (cycles - 1) * _DAYS_OF_YEARS


def _of_day(calendar: str, day: int) -> int:
    """The period that a day, counted from 1970-01-01, is of."""
    if calendar == "day":
        return day
    if calendar == "week":
        return (day - _FIRST_MONDAY) // 7
    cycles, ordinal = divmod(day + _EPOCH_DAY - 1, _DAYS_OF_YEARS)
    found = dt.date.fromordinal(ordinal + 1)
    return (cycles * _YEARS + found.year) * 12 + found.month - 1
