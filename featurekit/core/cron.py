"""Turns a cron expression with a time zone into instants.

cronsim decides, as Debian's cron does. Where clocks are set forward, a time of day that is left out
comes right after the gap. Where they are set back, a time of day that comes twice counts once, the
first time. An expression whose minute or hour begins with `*` goes on with real time in both cases.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from featurekit.core.timezones import zone
from featurekit.core.types import instant, micros
from featurekit.errors import DefinitionError

_EXAMPLE = (
    'write minute, hour, day, month and weekday, as in "0 3 * * *" or "*/15 8-18 * * mon-fri"'
)


@dataclass(frozen=True, slots=True)
class Cron:
    """When something is to be done: `expression` has five fields, and its times are local ones of
    the zone `timezone`. DefinitionError for another expression, one that never comes, or another
    zone."""

    expression: str
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        from cronsim import CronSimError

        if len(self.expression.split()) != 5:
            raise DefinitionError(f"{self.expression!r} has not five fields; {_EXAMPLE}")
        zone(self.timezone)
        try:
            self.after(micros(dt.datetime(2024, 1, 1, tzinfo=dt.UTC)))
        except CronSimError as error:
            said = str(error).lower()
            raise DefinitionError(
                f"{self.expression!r} is no schedule: {said}; {_EXAMPLE}"
            ) from None
        except StopIteration:
            raise DefinitionError(
                f"{self.expression!r} never comes in 50 years; {_EXAMPLE}"
            ) from None

    def after(self, us: int) -> int:
        """The first instant of the schedule after `us`; both are microseconds UTC."""
        return self._next(us, reverse=False)

    def latest(self, until: int) -> int:
        """The last instant of the schedule at or before `until`; both are microseconds UTC."""
        return self._next(until + 1, reverse=True)

    def _next(self, us: int, *, reverse: bool) -> int:
        from cronsim import CronSim

        local = instant(us).astimezone(zone(self.timezone))
        found: dt.datetime = next(CronSim(self.expression, local, reverse=reverse))
        return micros(found)
