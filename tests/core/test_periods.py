"""Where days, weeks and months of a zone begin (T10), against dates and zoneinfo."""

from __future__ import annotations

import datetime as dt
import random

import pytest
from oracle import _midnight
from slow import slow_unless
from test_timezones import DISTINCT_ZONES, tzif_changes

from featurekit.core.periods import CALENDARS, DAY_US, begin_us, longest_us, period_at
from featurekit.core.types import INSTANT_MAX, INSTANT_MIN

EPOCH_DAY = dt.date(1970, 1, 1)


def first_days(around: dt.date, calendar: str) -> list[dt.date]:
    """The first days of the periods around a day, in order."""
    days = [around + dt.timedelta(days=by) for by in range(-70, 70)]
    if calendar == "week":
        return [day for day in days if day.weekday() == 0]
    return days if calendar == "day" else [day for day in days if day.day == 1]


def near_changes(zone: str) -> list[int]:
    """Instants around each change of a zone's clock, in microseconds."""
    steps = (-DAY_US, -3_600_000_000, -1, 0, 1, 3_600_000_000, DAY_US)
    return [at * 1_000_000 + step for at in tzif_changes(zone) for step in steps]


@pytest.mark.parametrize("part", slow_unless(lambda part: part == 0, range(8)))
@pytest.mark.parametrize("calendar", CALENDARS)
def test_an_instant_lies_in_the_last_period_that_has_begun(calendar: str, part: int) -> None:
    rng = random.Random(part)
    for zone in DISTINCT_ZONES[part::8]:
        asked = [rng.randrange(-(2**52), 2**52) for _ in range(20)]
        changes = near_changes(zone)
        for t in asked + rng.sample(changes, min(len(changes), 60)):
            day = EPOCH_DAY + dt.timedelta(days=t // DAY_US)
            begun = [at for one in first_days(day, calendar) if (at := _midnight(one, zone)) <= t]
            found = period_at(calendar, zone, t)
            assert [begin_us(calendar, zone, found - by) for by in (1, 0)] == begun[-2:], (zone, t)
            assert begin_us(calendar, zone, found + 1) > t, (zone, t)


@pytest.mark.parametrize("part", slow_unless(lambda part: part == 0, range(8)))
def test_no_period_begins_before_the_one_before_it_or_is_longer_than_said(part: int) -> None:
    for zone in DISTINCT_ZONES[part::8]:
        for calendar in CALENDARS:
            every = {period_at(calendar, zone, at) + by
                     for at in near_changes(zone) for by in (-2, -1, 0, 1, 2)}  # fmt: skip
            for index in every:
                length = begin_us(calendar, zone, index + 1) - begin_us(calendar, zone, index)
                assert 0 <= length <= longest_us(calendar, 1), (zone, calendar, index)


def test_a_day_that_a_zone_skipped_is_empty() -> None:
    day = (dt.date(2011, 12, 30) - EPOCH_DAY).days
    begins = [begin_us("day", "Pacific/Apia", day + by) for by in (0, 1, 2)]
    assert begins[1] == begins[0] == 1_325_239_200_000_000  # 2011-12-30T10:00:00Z
    assert begins[2] - begins[1] == DAY_US
    # At its instant, the last period that has begun is the one after it.
    assert period_at("day", "Pacific/Apia", begins[0]) == day + 1
    assert period_at("day", "Pacific/Apia", begins[0] - 1) == day - 1


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("America/Sao_Paulo", dt.date(2018, 11, 4), 23),  # its midnight did not exist
        ("America/Sao_Paulo", dt.date(2018, 2, 17), 25),
        ("Asia/Beirut", dt.date(2022, 3, 27), 23),
        ("America/Havana", dt.date(2023, 11, 5), 25),  # its midnight came twice
        ("Europe/London", dt.date(2024, 3, 31), 23),
        ("Europe/London", dt.date(2024, 10, 27), 25),
    ],
)
def test_a_day_is_as_long_as_its_zone_says(zone: str, day: dt.date, hours: int) -> None:
    number = (day - EPOCH_DAY).days
    length = begin_us("day", zone, number + 1) - begin_us("day", zone, number)
    assert length == hours * 3_600_000_000


def test_an_offset_may_have_seconds() -> None:
    day = (dt.date(1880, 1, 1) - EPOCH_DAY).days
    assert begin_us("day", "Europe/Amsterdam", day) % 60_000_000 != 0


@pytest.mark.parametrize("calendar", CALENDARS)
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York", "Pacific/Apia"])
@pytest.mark.parametrize("t", [INSTANT_MIN, INSTANT_MIN + 1, -1, 0, INSTANT_MAX - 1, INSTANT_MAX])
def test_every_instant_lies_in_a_period(calendar: str, zone: str, t: int) -> None:
    index = period_at(calendar, zone, t)
    assert begin_us(calendar, zone, index) <= t < begin_us(calendar, zone, index + 1)
    assert begin_us(calendar, zone, index - 1) < begin_us(calendar, zone, index)


def test_a_week_begins_on_monday_and_a_month_on_its_first() -> None:
    monday, first = dt.datetime(2024, 5, 13), dt.datetime(2024, 3, 1)
    epoch = dt.datetime(1970, 1, 1)
    for calendar, begins in (("week", monday), ("month", first)):
        us = (begins - epoch) // dt.timedelta(microseconds=1)
        assert begin_us(calendar, "UTC", period_at(calendar, "UTC", us)) == us
        assert begin_us(calendar, "UTC", period_at(calendar, "UTC", us - 1)) < us
