"""What decides which events count in a window, beside its length, its offset and its hop (T10)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from featurekit.aggregates import Aggregate
from featurekit.core.durations import LIFETIME, duration_text, duration_us, window_us
from featurekit.core.periods import Calendar, begin_us, longest_us, period_at
from featurekit.core.types import OPTIONAL
from featurekit.language import wire


@wire.portable
@dataclass(frozen=True, slots=True)
class Frame:
    """Where a window ends and begins, where T4 and T5 do not say it.

    `exclude` leaves out the events at the instant asked. With `ends` the window ends at a multiple
    of the feature's hop, and is as long as it says. With a `calendar` it consists of periods in the
    zone `timezone`: of the last full ones, as many as `periods` says, or where this is None of the
    running one up to the instant. Of the events of the window that the condition keeps, `rows` are
    the last so many in the order of T6, and with `session_us` the last that follow each other by
    at most so long, if that time has not passed since the last one.
    """

    exclude: Literal["instant"] | None = field(default=None, metadata=OPTIONAL)
    ends: Literal["hop"] | None = field(default=None, metadata=OPTIONAL)
    calendar: Calendar | None = field(default=None, metadata=OPTIONAL)
    timezone: str | None = field(default=None, metadata=OPTIONAL)
    periods: int | None = field(default=None, metadata=OPTIONAL)
    rows: int | None = field(default=None, metadata=OPTIONAL)
    session_us: int | None = field(default=None, metadata=OPTIONAL)

    @property
    def written(self) -> dict[str, str]:
        """What it says, by the names under which it is written."""
        running = self.calendar is not None and self.periods is None
        said = {
            "exclude": self.exclude,
            "ends": self.ends,
            "calendar": self.calendar,
            "timezone": self.timezone,
            "running": "True" if running else None,
            "periods": None if self.periods is None else str(self.periods),
            "rows": None if self.rows is None else str(self.rows),
            "session": None if self.session_us is None else duration_text(self.session_us),
        }
        return {name: text for name, text in said.items() if text is not None}

    @property
    def said(self) -> list[str]:
        """What it says beside the length of the window, for people."""
        found = [] if self.timezone is None else [f"in {self.timezone}"]
        found += [] if self.ends is None else ["ending at a step"]
        found += [] if self.rows is None else [f"the last {self.rows} rows"]
        if self.session_us is not None:
            found.append(f"the session with gaps up to {duration_text(self.session_us)}")
        return found + ([] if self.exclude is None else ["without the instant itself"])

    @property
    def steady(self) -> bool:
        """Whether the ends of the window are those of T4 and T5, but for the events that `exclude`
        leaves out."""
        return self.ends is None and self.calendar is None

    @property
    def cuts(self) -> bool:
        """Whether not all events of the window count that the condition keeps."""
        return self.rows is not None or self.session_us is not None

    def first(self, instants: Sequence[int], t: int) -> int:
        """The place of the first event that counts, of those of the window that the condition
        keeps, or their number where none does. `instants` are theirs, in the order of T6; `t` is
        the instant asked less the offset."""
        n = len(instants)
        if self.rows is not None:
            return max(n - self.rows, 0)
        gap = self.session_us
        assert gap is not None
        if not n or t - instants[-1] > gap:
            return n
        return next((k for k in range(n - 1, 0, -1) if instants[k] - instants[k - 1] > gap), 0)

    def bounds(self, t: int, window_us: int, hop_us: int) -> tuple[int, int]:
        """The window (low, high] in microseconds as of `t`, which is the instant asked less the
        offset; `exclude` is not applied."""
        if self.calendar is None:
            high = t // hop_us * hop_us
            return high - window_us, high
        assert self.timezone is not None
        running = period_at(self.calendar, self.timezone, t)
        begin = begin_us(self.calendar, self.timezone, running)
        if self.periods is None:
            return begin - 1, t
        return begin_us(self.calendar, self.timezone, running - self.periods) - 1, begin - 1


def frame_of(aggregate: Aggregate) -> Frame | None:
    """The frame of an aggregate as it is written; None where its window is all that it says."""
    periods = aggregate.periods
    if aggregate.calendar is not None and not aggregate.running:
        periods = periods or 1
    made = Frame(
        aggregate.exclude,
        aggregate.ends,
        aggregate.calendar,
        aggregate.timezone,
        periods,
        aggregate.rows,
        None if aggregate.session is None else duration_us(aggregate.session, what="session"),
    )
    return None if made == Frame() else made


def length_us(aggregate: Aggregate) -> int:
    """The length of an aggregate's window in microseconds; of periods one that is never less."""
    if aggregate.calendar is None:
        return window_us(aggregate.window if aggregate.window != "" else LIFETIME, what="window")
    full = 0 if aggregate.running else aggregate.periods or 1
    return longest_us(aggregate.calendar, full + 1)
