"""Cron expressions name instants, also where clocks change."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekit.core.cron import Cron
from featurekit.core.timezones import zone
from featurekit.core.types import instant, micros
from featurekit.errors import DefinitionError

SECOND = 1_000_000


def utc(text: str) -> int:
    return micros(dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC))


def times(cron: Cron, after: str, n: int) -> list[str]:
    """The next instants, in UTC."""
    found, at = [], utc(after)
    for _ in range(n):
        at = cron.after(at)
        found.append(instant(at).strftime("%d %H:%M"))
    return found


def test_a_schedule_is_in_local_time() -> None:
    cron = Cron("0 3 * * *", "Europe/London")
    assert times(cron, "2026-03-27T12:00", 3) == ["28 03:00", "29 02:00", "30 02:00"]
    assert times(Cron("0 3 * * *"), "2026-03-27T12:00", 3) == ["28 03:00", "29 03:00", "30 03:00"]


def test_a_time_of_day_that_a_change_leaves_out_comes_right_after_the_gap() -> None:
    """On 29 March 2026 London goes from 00:59 UTC, 00:59 local, to 01:00 UTC, 02:00 local."""
    cron = Cron("30 1 * * *", "Europe/London")
    assert times(cron, "2026-03-28T00:00", 3) == ["28 01:30", "29 01:00", "30 00:30"]


def test_a_time_of_day_that_comes_twice_counts_the_first_time() -> None:
    """On 25 October 2026 London has the hour from 01:00 local twice, from 00:00 and 01:00 UTC."""
    cron = Cron("30 1 * * *", "Europe/London")
    assert times(cron, "2026-10-24T12:00", 2) == ["25 00:30", "26 01:30"]


def test_an_expression_of_stars_goes_on_with_real_time() -> None:
    cron = Cron("*/30 * * * *", "Europe/London")
    spring = times(cron, "2026-03-29T00:00", 4)
    assert spring == ["29 00:30", "29 01:00", "29 01:30", "29 02:00"]
    autumn = times(cron, "2026-10-25T00:00", 4)
    assert autumn == ["25 00:30", "25 01:00", "25 01:30", "25 02:00"]


def test_half_an_hour_of_lord_howe_is_left_out_alike() -> None:
    """On 4 October 2026 Lord Howe Island goes from 02:00 to 02:30 local, at 15:30 UTC before."""
    cron = Cron("15 2 * * *", "Australia/Lord_Howe")
    assert times(cron, "2026-10-02T20:00", 2) == ["03 15:30", "04 15:15"]


def test_names_steps_ranges_and_lists_are_understood() -> None:
    cron = Cron("0,30 8-10/2 * jan-mar mon,wed")
    assert times(cron, "2027-01-01T00:00", 5) == [
        "04 08:00", "04 08:30", "04 10:00", "04 10:30", "06 08:00",
    ]  # fmt: skip


@given(
    st.sampled_from(["* * * * *", "*/7 3 * * *", "30 1 * * *", "0 0 29 2 *", "15 2 * * sun"]),
    st.sampled_from(["UTC", "Europe/London", "America/New_York", "Australia/Lord_Howe"]),
    st.integers(utc("2020-01-01"), utc("2035-01-01")),
)
def test_the_latest_instant_is_the_one_before_the_next(expression: str, name: str, us: int) -> None:
    cron = Cron(expression, name)
    latest, after = cron.latest(us), cron.after(us)
    assert latest <= us < after
    assert cron.after(latest) == after, "nothing lies between the two"
    assert cron.latest(latest) == latest
    assert cron.latest(after) == after
    assert instant(after).astimezone(zone(name)).second == 0


FAULTS = {
    "0 3 * *": "has not five fields",
    "0 0 3 * * *": "has not five fields",
    "60 3 * * *": "is no schedule: bad minute",
    "0 3 * * blursday": "is no schedule: bad day-of-week",
    "0 0 31 2 *": "is no schedule: bad day-of-month",
    "": "has not five fields",
}


@pytest.mark.parametrize("expression", FAULTS)
def test_another_expression_is_an_error_that_says_what_to_write(expression: str) -> None:
    with pytest.raises(DefinitionError, match=rf"{FAULTS[expression]}; write minute, hour, day"):
        Cron(expression)


def test_another_zone_is_an_error() -> None:
    with pytest.raises(DefinitionError, match=r"'London' is not a time zone .*Europe/London"):
        Cron("0 3 * * *", "London")


def test_settings_without_a_schedule_load_no_cron() -> None:
    code = (
        "import sys; from featurekit.project import config; "
        "config.FeaturekitConfig(triggers={'a': {'event': 'go', 'actions': [{'command': ['x']}]}});"
        "sys.exit('cronsim' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
