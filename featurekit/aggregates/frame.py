"""Checks what an aggregate says of the events that count, beside its window's length (T10).

The aggregates themselves are not imported: they import this.
"""

from __future__ import annotations

from typing import Any

from featurekit.core.durations import LIFETIME, duration_us, window_us
from featurekit.core.periods import CALENDARS
from featurekit.errors import DefinitionError

FRAMES = ("exclude", "ends", "calendar", "timezone", "running", "periods", "rows", "session")
"""The parameters that choose among events, by which a label cannot be said."""
MOST_PERIODS = 10_000
MOST_ROWS = 100_000


def check_frame(aggregate: Any) -> None:
    """DefinitionError for parameters that contradict each other, or have no meaning together."""
    what = type(aggregate).__name__
    if aggregate.ahead:
        _check_label(aggregate, what)
    _check_ends(aggregate, what)
    _check_calendar(aggregate, what)
    _check_exclude(aggregate, what)
    _check_session(aggregate, what)
    rows = aggregate.rows
    if rows is not None and (type(rows) is not int or not 1 <= rows <= MOST_ROWS):
        raise aggregate.refuse_param("rows", f"an int from 1 to {MOST_ROWS:,}")


def _check_label(aggregate: Any, what: str) -> None:
    for name in FRAMES:
        if getattr(aggregate, name) not in (None, False):
            raise DefinitionError(
                f"{what}: {name}= chooses among events up to the instant, and a label's window is "
                f"(t, t + window]; leave {name}= out"
            )


def _check_ends(aggregate: Any, what: str) -> None:
    if aggregate.ends is None:
        return
    if aggregate.ends != "hop":
        raise aggregate.refuse_param("ends", '"hop", or left out')
    if aggregate.hop is None:
        raise DefinitionError(
            f'{what}: ends="hop" ends the window at a multiple of the hop, and there is none; '
            'write it, as in hop="1h"'
        )


def _check_calendar(aggregate: Any, what: str) -> None:
    calendar = aggregate.calendar
    if not isinstance(aggregate.running, bool):
        raise aggregate.refuse_param("running", "True for the running period, or False")
    if calendar is None:
        for name in ("timezone", "running", "periods"):
            if getattr(aggregate, name) not in (None, False):
                raise DefinitionError(
                    f"{what}: {name}= is about the periods of a calendar; write one, as in "
                    f'calendar="day", or leave {name}= out'
                )
        return
    if calendar not in CALENDARS:
        raise aggregate.refuse_param("calendar", '"day", "week" or "month"')
    if aggregate.window != "" or aggregate.windows:
        raise DefinitionError(
            f'{what}: calendar="{calendar}" says how long the window is; leave window= out, or '
            "write two features"
        )
    for name in ("hop", "ends"):
        if getattr(aggregate, name) is not None:
            raise DefinitionError(
                f'{what}: {name}= moves the ends of a window, and calendar="{calendar}" says '
                f"where they are; leave {name}= out"
            )
    if aggregate.timezone is None:
        raise DefinitionError(
            f'{what}: calendar="{calendar}" needs to know where midnight is; write the zone, as '
            'in timezone="Europe/London", or timezone="UTC"'
        )
    from featurekit.core.timezones import zone

    zone(aggregate.timezone)
    periods = aggregate.periods
    if periods is None:
        return
    if aggregate.running:
        raise DefinitionError(
            f"{what}: running=True is the one period that has begun, and periods= a number of "
            "full ones; leave one of the two out"
        )
    if type(periods) is not int or not 1 <= periods <= MOST_PERIODS:
        raise aggregate.refuse_param("periods", f"an int from 1 to {MOST_PERIODS:,}")


def _check_session(aggregate: Any, what: str) -> None:
    if aggregate.session is None:
        return
    gap = duration_us(aggregate.session, what=f"{what}(session=…)")
    for name in ("calendar", "ends", "rows"):
        if getattr(aggregate, name) is not None:
            raise DefinitionError(
                f"{what}: session= keeps the run of events that is not over at the instant, and "
                f"{name}= takes others; leave {name}= out, or write two features"
            )
    for window in aggregate.windows or (aggregate.window,):
        if window in ("", LIFETIME):
            raise DefinitionError(
                f"{what}: session= needs to know how far back a session may begin; write it, as in "
                'window="1d"'
            )
        if window_us(window, what=f"{what}(window=…)") < gap:
            raise DefinitionError(
                f"{what}: window={window!r} is shorter than session={aggregate.session!r}, so "
                "each event would be in the session; leave session= out, or write a longer window"
            )


def _check_exclude(aggregate: Any, what: str) -> None:
    if aggregate.exclude is None:
        return
    if aggregate.exclude != "instant":
        raise aggregate.refuse_param("exclude", '"instant", or left out')
    already = None
    if aggregate.offset is not None and duration_us(aggregate.offset, what="offset", zero=True):
        already = f"with offset={aggregate.offset!r} the window"
    elif aggregate.calendar is not None and not aggregate.running:
        already = f'the last full {aggregate.calendar} of calendar="{aggregate.calendar}"'
    if already is not None:
        raise DefinitionError(
            f'{what}: exclude="instant" leaves out the events at the instant, and {already} ends '
            "before it; leave exclude= out"
        )


def needs_window(aggregate: Any) -> bool:
    """Whether nothing else says which events the aggregate is over."""
    return aggregate.calendar is None and aggregate.rows is None
