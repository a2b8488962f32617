"""Turns the instant of an event into the instants as of which it begins or ceases to count, where a
window follows a calendar or ends at a hop (T10)."""

from __future__ import annotations

from collections.abc import Callable

from featurekit.core.periods import begin_us, period_at
from featurekit.define.plan import Feature, View

Turn = Callable[[int], int]
"""From the instant of an event to one as of which a value may change, in microseconds."""


def turns_of(view: View) -> list[Turn]:
    """The turns of a view's windows, beside those at a fixed distance from an event."""
    found: list[Turn] = []
    for feature in view.features:
        if feature.frame is not None and feature.frame.ends is not None:
            found += [_to_hop(feature, 0), _to_hop(feature, feature.window_us)]
        if feature.frame is not None and feature.frame.calendar is not None:
            later = range((feature.frame.periods or 0) + 2)
            found += [_to_period(feature, by) for by in sorted({0, 1, *later[-2:]})]
    return found


def _to_hop(feature: Feature, after_us: int) -> Turn:
    """The first multiple of the hop at least so long after the event, with the offset."""
    hop = feature.hop_us
    return lambda ts: -(-(ts + after_us) // hop) * hop + feature.offset_us


def _to_period(feature: Feature, by: int) -> Turn:
    """The beginning of the period so many after that of the event, with the offset."""
    frame = feature.frame
    assert frame is not None
    assert frame.calendar is not None
    assert frame.timezone is not None
    calendar, timezone = frame.calendar, frame.timezone

    def turn(ts: int) -> int:
        return (
            begin_us(calendar, timezone, period_at(calendar, timezone, ts) + by) + feature.offset_us
        )

    return turn
