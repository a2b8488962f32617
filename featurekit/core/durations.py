"""Turns a duration as users write it ("90s", "6h", a timedelta) into microseconds, and back."""

from __future__ import annotations

import datetime as dt
import re

from featurekit.errors import DefinitionError

Duration = str | dt.timedelta

_UNIT_US = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
}
LIFETIME = "lifetime"
"""The window without a beginning, as users write it."""
# Longer than the time between the first and the last instant, and still far from the ends of int64.
LIFETIME_US = 2**61

_WRITTEN = re.compile(r"(\d+)(us|ms|s|m|h|d|w)")


def duration_us(duration: Duration, *, what: str, zero: bool = False) -> int:
    """Microseconds of `duration`. It must be positive, or may also be 0 if `zero` is true. `what`
    names the duration in errors; DefinitionError if it is not a duration."""
    if isinstance(duration, dt.timedelta):
        us = duration // dt.timedelta(microseconds=1)
    else:
        match = _WRITTEN.fullmatch(duration) if isinstance(duration, str) else None
        if match is None:
            raise DefinitionError(
                f"{what}: {duration!r} is not a duration; write a timedelta, or a number and a "
                'unit of us, ms, s, m, h, d or w, as in "90s", "6h" or "7d"'
            )
        us = int(match[1]) * _UNIT_US[match[2]]
    if us < 0 or (us == 0 and not zero):
        raise DefinitionError(f"{what}: a duration must be positive, found {duration!r}")
    if us > 2**60:
        raise DefinitionError(f"{what}: {duration!r} is longer than 36,000 years")
    return us


def window_us(window: Duration, *, what: str) -> int:
    """Microseconds of a window's length; `LIFETIME_US` for "lifetime"."""
    if window == LIFETIME:
        return LIFETIME_US
    try:
        return duration_us(window, what=what)
    except DefinitionError as error:
        raise DefinitionError(f'{error}; a window may also be "{LIFETIME}"') from None


def duration_text(us: int) -> str:
    """The shortest way to write `us` microseconds as a duration: 3,600,000,000 is "1h"."""
    for unit in ("w", "d", "h", "m", "s", "ms"):
        if us and us % _UNIT_US[unit] == 0:
            return f"{us // _UNIT_US[unit]}{unit}"
    return f"{us}us"
