"""Skews of which events count where a window says more than its length (T10)."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
import re
from collections.abc import Callable, Sequence

from featurekit.core import periods as calendars
from featurekit.core.periods import DAY_US
from featurekit.core.timezones import zone
from featurekit.core.types import EPOCH, MICROSECOND
from featurekit.define.frame import Frame
from featurekit.define.plan import Feature
from featurekit.offline import view_result
from featurekit.offline.window_plans import firsts, parts, periods
from tests.planted.skews import SKEWS, Patch, skew, wrapped

__all__ = ["SKEWS"]

Bounds = Callable[[Feature, int], tuple[int, int]]


def without(feature: Feature, **changes: object) -> Feature:
    """A feature whose frame says something else."""
    if feature.frame is None:
        return feature
    return dataclasses.replace(feature, frame=dataclasses.replace(feature.frame, **changes))


def bounds_online(patch: Patch, made: Callable[[Bounds, Feature, int], tuple[int, int]]) -> None:
    """Let lookups take other windows for the features that have a frame."""
    bounds = Feature.bounds

    def changed(f: Feature, t: int) -> tuple[int, int]:
        return bounds(f, t) if f.frame is None else made(bounds, f, t)

    patch.setattr(Feature, "bounds", changed)


# ── Without the instant ───────────────────────────────────────────────────────────────────────────


@skew("offline", "window edge", "frames")
def events_at_the_instant_counted_offline(patch):
    wrapped(patch, view_result, "in_window_sql", lambda keep, f: keep(without(f, exclude=None)))
    wrapped(patch, parts, "ends_us", lambda ends, asked: (0, ends(asked)[1]))


@skew("online", "window edge", "frames")
def events_at_the_instant_counted_online(patch):
    bounds_online(patch, lambda bounds, f, t: bounds(without(f, exclude=None), t))


@skew("online", "precision", "frames")
def events_of_the_instant_s_millisecond_left_out_online(patch):
    bounds_online(patch, lambda bounds, f, t: (
        bounds(f, t)[0], bounds(f, t)[1] - (999 if f.frame.exclude else 0)))  # fmt: skip


# ── Rows and sessions ─────────────────────────────────────────────────────────────────────────────


def first_online(patch: Patch, made: Callable[..., int]) -> None:
    """Let frames of rows and sessions begin elsewhere in lookups: `made(first, frame, …)`."""
    first = Frame.first
    patch.setattr(Frame, "first", lambda frame, *args: made(first, frame, *args))


@skew("online", "frame", "frames")
def a_row_more_than_are_asked_for_online(patch):
    first_online(patch, lambda first, frame, instants, t: max(
        first(frame, instants, t) - (frame.rows is not None), 0))  # fmt: skip


@skew("offline", "frame", "frames")
def rows_that_are_none_skipped_before_they_are_counted_offline(patch):
    wrapped(patch, firsts, "within_sql", lambda within, f: (
        within(f) if f.slot is None else f"{within(f)} AND e.s{f.slot} IS NOT NULL"))  # fmt: skip


@skew("offline", "frame", "frames")
def rows_counted_before_the_condition_offline(patch):
    wrapped(patch, firsts, "within_sql",
            lambda within, f: within(dataclasses.replace(f, where=None)))  # fmt: skip


@skew("offline", "frame", "frames")
def the_last_rows_by_their_instants_alone_offline(patch):
    wrapped(patch, firsts, "_first_sql", lambda first, f, name: (
        first(f, name)[0].replace("e.__o", "e.__ts"), first(f, name)[1]))  # fmt: skip
    wrapped(patch, view_result, "in_window_sql", lambda keep, f: keep(f).replace("__o", "__ts"))


@skew("online", "frame", "frames")
def a_gap_as_long_as_the_session_s_ends_it_online(patch):
    def made(first: Callable[..., int], frame: Frame, instants: Sequence[int], t: int) -> int:
        if frame.session_us is not None:
            frame = dataclasses.replace(frame, session_us=frame.session_us - 1)
        return first(frame, instants, t)

    first_online(patch, made)


@skew("offline", "frame", "frames")
def a_session_that_is_over_counted_offline(patch):
    wrapped(patch, firsts, "_first_sql", lambda first, f, name: (
        first(f, name)[0], re.sub("CASE WHEN .*? THEN", "CASE WHEN TRUE THEN", first(f, name)[1])
    ))  # fmt: skip


@skew("online", "frame", "frames")
def the_whole_window_taken_for_a_session_online(patch):
    def made(first: Callable[..., int], frame: Frame, instants: Sequence[int], t: int) -> int:
        found = first(frame, instants, t)
        return 0 if frame.session_us is not None and found < len(instants) else found

    first_online(patch, made)


@skew("online", "frame", "frames")
def the_longest_gap_taken_for_the_last_long_one_online(patch):
    def made(first: Callable[..., int], frame: Frame, instants: Sequence[int], t: int) -> int:
        found = first(frame, instants, t)
        if frame.session_us is None or found == len(instants):
            return found
        gaps = [b - a for a, b in itertools.pairwise(instants)]
        return gaps.index(max(gaps)) + 1 if gaps and max(gaps) > frame.session_us else 0

    first_online(patch, made)


# ── Ends at a hop ─────────────────────────────────────────────────────────────────────────────────


def ending(f: Feature) -> bool:
    return f.frame is not None and f.frame.ends is not None


@skew("online", "frame", "frames")
def a_window_that_ends_at_a_hop_goes_on_to_the_instant_online(patch):
    bounds_online(patch, lambda bounds, f, t: (
        bounds(f, t)[0], t if ending(f) else bounds(f, t)[1]))  # fmt: skip


@skew("offline", "frame", "frames")
def only_the_beginning_of_a_window_hops_offline(patch):
    wrapped(patch, view_result, "in_window_sql", lambda keep, f: keep(without(f, ends=None)))


@skew("online", "frame", "frames")
def the_beginning_of_a_window_that_ends_at_a_hop_is_aligned_online(patch):
    def made(bounds: Bounds, f: Feature, t: int) -> tuple[int, int]:
        low, high = bounds(f, t)
        return (low // f.hop_us * f.hop_us if ending(f) else low), high

    bounds_online(patch, made)


@skew("offline", "frame", "frames")
def the_end_of_a_window_hops_from_noon_offline(patch):
    half = 2 * 3_600_000_000 + 1_800_000_000
    wrapped(patch, parts, "_last_hop_sql",
            lambda hop, f: f"(fk_hop(l.__t - {half}, {f.hop_us}) + {half})")  # fmt: skip


# ── Periods ───────────────────────────────────────────────────────────────────────────────────────


def of_periods(f: Feature, calendar: str) -> bool:
    return f.frame is not None and f.frame.calendar == calendar and f.frame.periods is not None


@skew("offline", "frame", "frames")
def periods_of_utc_offline(patch):
    for name in ("begin_us", "period_at"):
        there = getattr(calendars, name)
        patch.setattr(periods, name, lambda kind, zone, at, there=there: there(kind, "UTC", at))


@skew("online", "time zone", "frames")
def days_of_24_hours_online(patch):
    def made(bounds: Bounds, f: Feature, t: int) -> tuple[int, int]:
        low, high = bounds(f, t)
        return (high - DAY_US if of_periods(f, "day") else low), high

    bounds_online(patch, made)


@skew("offline", "frame", "frames")
def months_of_30_days_offline(patch):
    def begin(kind: str, zone: str, index: int) -> int:
        if kind != "month":
            return calendars.begin_us(kind, zone, index)
        first = calendars.begin_us(kind, zone, index + 1)
        return first - 30 * DAY_US

    patch.setattr(periods, "begin_us", begin)


@skew("online", "frame", "frames")
def weeks_from_sunday_online(patch):
    def made(bounds: Bounds, f: Feature, t: int) -> tuple[int, int]:
        if not of_periods(f, "week"):
            return bounds(f, t)
        low, high = bounds(f, t + DAY_US)
        return low - DAY_US, high - DAY_US

    bounds_online(patch, made)


@skew("online", "frame", "frames")
def the_running_day_taken_for_the_last_full_one_online(patch):
    bounds_online(patch, lambda bounds, f, t: bounds(
        without(f, periods=None) if of_periods(f, "day") else f, t))  # fmt: skip


@skew("offline", "frame", "frames")
def the_later_of_two_midnights_offline(patch):
    def begin(kind: str, name: str, index: int) -> int:
        found = calendars.begin_us(kind, name, index)
        local = (EPOCH + found * MICROSECOND).astimezone(zone(name))
        later = dt.datetime.combine(local.date(), dt.time(), zone(name)).replace(fold=1)
        moved = (later.astimezone(dt.UTC) - EPOCH) // MICROSECOND
        return max(found, moved) if kind == "day" else found

    patch.setattr(periods, "begin_us", begin)


@skew("online", "window edge", "frames")
def the_first_microsecond_of_a_day_in_the_day_before_online(patch):
    bounds_online(patch, lambda bounds, f, t: (
        bounds(f, t)[0], bounds(f, t)[1] + (1 if of_periods(f, "day") else 0)))  # fmt: skip
