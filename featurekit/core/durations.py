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
        if match is None and re.fullmatch(rf"-{_WRITTEN.pattern}", str(duration)):
            raise DefinitionError(_not_positive(duration, what, zero=zero))
        if match is None:
            raise DefinitionError(
                f"{what}: {duration!r} is not a duration; {_meant(duration)}rite a timedelta, or "
                'a number and a unit of us, ms, s, m, h, d or w, as in "90s", "6h" or "7d"'
            )
        us = int(match[1]) * _UNIT_US[match[2]]
    if us < 0 or (us == 0 and not zero):
        raise DefinitionError(_not_positive(duration, what, zero=zero))
    if us > 2**60:
        raise DefinitionError(f"{what}: {duration!r} is longer than 36,000 years")
    return us


def _not_positive(duration: Duration, what: str, *, zero: bool) -> str:
    said = f"{what}: a duration must {'not be negative' if zero else 'be positive'}"
    plain = str(duration).removeprefix("-")
    write = f'it without the minus, "{plain}"' if plain != str(duration) else 'one as in "1s"'
    return f"{said}, found {duration!r}; write {write}"


_WORDS = {
    "second": "s", "minute": "m", "min": "m", "hour": "h", "hr": "h", "day": "d", "dai": "d",
    "week": "w", "month": "30d", "year": "365d",
}  # fmt: skip


def _meant(written: object) -> str:
    """The duration that "7 days", "daily" or 7 probably stand for, as the beginning of
    "write …"."""
    text = str(written).strip().lower()
    found = re.fullmatch(r"(\d+|an?\b)?\s*([a-z]*?)(s|ly)?", text)
    if found is None or not text:
        return "w"
    number = found[1] if (found[1] or "").isdigit() else "1"
    unit = _WORDS.get(found[2], found[2] if found[2] in _UNIT_US else "")
    if not found[2] and found[1]:
        unit = "d"
    if not unit:
        return "w"
    fixed = unit[:-1].isdigit()  # a month has no fixed length
    meant = f"{int(number) * int(unit[:-1])}d" if fixed else f"{number}{unit}"
    return f'did you mean "{meant}"? W'


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
