"""Turns labels into labels that also have the beginnings of their periods of the calendar (T10).

Where periods begin is reckoned in Python, by the one time-zone database (T2). DuckDB only
finds, for each label, the last one that has begun.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from featurekit.core.periods import DAY_US, begin_us, period_at
from featurekit.core.tables import temp_table
from featurekit.core.types import INT
from featurekit.define.plan import Feature
from featurekit.offline.window_plans.parts import period_columns

_Calendar = tuple[str, str, int]
"""The kind of periods, their zone, and the offset that is taken off the instant first."""


def with_periods(con: Any, features: Iterable[Feature], labels: str, name: str) -> str:
    """Labels with the columns that `period_columns` names for the features; as they are where none
    is of periods. It makes a temporary table for each calendar, whose names begin with `name`."""
    calendars: dict[_Calendar, dict[str, int]] = {}
    for feature in features:
        frame = feature.frame
        if frame is None or frame.calendar is None:
            continue
        assert frame.timezone is not None
        columns = calendars.setdefault((frame.calendar, frame.timezone, feature.offset_us), {})
        first, running = period_columns(feature)
        columns |= {running: 0, first: frame.periods or 0}
    for number, (calendar, columns) in enumerate(calendars.items()):
        types = dict.fromkeys(("__begins", *columns), INT)
        begun = _begun(con, calendar, columns, labels)
        table = temp_table(con, f"{name.strip(chr(34))}_periods_{number}", types, begun)
        of = f"l.__t - {calendar[2]} >= p.__begins"
        labels = f"(SELECT l.*, p.* EXCLUDE (__begins) FROM {labels} l ASOF JOIN {table} p ON {of})"
    return labels


def _begun(
    con: Any, calendar: _Calendar, columns: dict[str, int], labels: str
) -> list[tuple[int, ...]]:
    """Where the periods of the labels begin, in order, each with what the columns have: where the
    period so many before it begins. Of periods that begin together it is the last one."""
    kind, timezone, offset = calendar
    found_days = f"SELECT DISTINCT fk_hop(__t - {offset}, {DAY_US}) FROM {labels}"
    near: set[int] = set()
    for (day,) in con.execute(found_days).fetchall():
        first, last = (period_at(kind, timezone, at) for at in (day, day + DAY_US))
        near.update(range(first, last + 1))
    found: dict[int, tuple[int, ...]] = {}
    for index in sorted(near):
        of_columns = (begin_us(kind, timezone, index - back) for back in columns.values())
        found[begin_us(kind, timezone, index)] = tuple(of_columns)
    return [(begins, *more) for begins, more in found.items()]
