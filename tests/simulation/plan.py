"""What is planted, and what must come of it: fixed before a run, which changes none of it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

FIRST_DAY = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
HISTORY_DAYS, LEARNT_DAYS = 180, 60
"""How many days lie before the first one, and in how many of them the first model learns."""
KNOWN_AFTER = 2
"""After how many days an outcome is known."""
QUIET_DAYS, MOST_FALSE = 90, 1
"""So many false alarms of a service may there be in so many quiet days, wherever they begin."""
MOST_WINDOWS = 2


@dataclass(frozen=True)
class Change:
    """A planted change: it holds from day `first` on, for so many days (None: to the end), and the
    trigger that must fire, whose window has so many days. What it does can be known
    `known_after` days later."""

    name: str
    about: str
    first: int
    days: int | None
    trigger: str
    window_days: int
    known_after: int = 0

    def holds(self, day: int) -> bool:
        """Whether a day has the change."""
        return self.first <= day and (self.days is None or day < self.first + self.days)

    @property
    def last_day(self) -> int:
        """The last day on which it is found in time."""
        return self.first + self.known_after + MOST_WINDOWS * self.window_days - 1


@dataclass(frozen=True)
class Plan:
    """The days of a run and its changes."""

    days: int
    changes: tuple[Change, ...]

    def holds(self, name: str, day: int) -> bool:
        """Whether a day has a change, if that is planted."""
        return any(one.holds(day) for one in self.changes if one.name == name)

    def quiet(self, day: int) -> bool:
        """Whether the lines of a day are as before. A change of the concept leaves them so."""
        return not any(self.holds(name, day) for name in ("currency", "country", "feed"))


def _changes(currency: int, country: int, feed: int, concept: int) -> tuple[Change, ...]:
    return (
        Change("currency", "prices in pence instead of pounds", currency, 3, "prices", 1),
        Change("country", "six lines of ten of a new country", country, 4, "countries", 1),
        Change("feed", "no lines for three days", feed, 3, "feed", 1),
        Change(
            "concept", "who bought often stayed, and now leaves", concept, None, "predictions", 7,
            KNOWN_AFTER,
        ),
    )  # fmt: skip


PLANS = {
    "year": Plan(365, _changes(100, 160, 220, 300)),
    "month": Plan(40, _changes(5, 9, 14, 18)),
    "week": Plan(4, (_changes(2, 9, 9, 9)[0],)),
}
"""A year for the proof, and shorter runs to try the parts out."""
