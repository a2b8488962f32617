"""Skews of labels, which look ahead (T10); they join the catalogue of `skews`. No other path of
featurekit computes a label, so each is looked for beside the oracle."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from featurekit.core.status import FOREVER, NEVER
from featurekit.define.plan import View
from featurekit.offline import labels, training_set, windows
from tests.planted.skews import SKEWS, Patch, skew, wrapped

__all__ = ["SKEWS"]


def windows_of(patch: Patch, change: Callable[[View, Any], tuple[View, Any]]) -> None:
    """Have the windows of labels made of another view, or of other events."""

    def made(make: Any, con: Any, view: View, events: Any, *args: Any, **how: Any) -> Any:
        return make(con, *change(view, events), *args, **how)

    wrapped(patch, labels, "make_windows", made)


def reaching(patch: Patch, *, longer: int, later: int) -> None:
    """Have each window longer by some microseconds, and end some later."""

    def change(view: View, events: Any) -> tuple[View, Any]:
        features = tuple(
            replace(f, window_us=f.window_us + longer, offset_us=f.offset_us - later)
            for f in view.features
        )
        return replace(view, features=features, retain_us=view.retain_us + 1), events

    windows_of(patch, change)


def settling(patch: Patch, around: Callable[..., int]) -> None:
    """Have it otherwise until when labels are known."""
    wrapped(patch, labels, "settled_until", around)


def text(patch: Patch, owner: Any, name: str, old: str, new: str) -> None:
    """Change the columns that a function gives."""

    def changed(make: Any, *args: Any, **how: Any) -> Any:
        made = make(*args, **how)
        if isinstance(made, tuple):
            return [re.sub(old, new, one) for one in made[0]], *made[1:]
        return [re.sub(old, new, one) for one in made]

    wrapped(patch, owner, name, changed)


# --- the window -----------------------------------------------------------------------------------


@skew("offline", "label", mode="labels")
def a_label_s_window_begins_at_its_instant(patch):
    reaching(patch, longer=1, later=0)


@skew("offline", "label", mode="labels")
def a_label_s_window_begins_too_late(patch):
    reaching(patch, longer=-1, later=0)


@skew("offline", "label", mode="labels")
def a_label_s_window_ends_a_microsecond_late(patch):
    reaching(patch, longer=1, later=1)


@skew("offline", "label", mode="labels")
def a_label_s_window_ends_a_microsecond_early(patch):
    reaching(patch, longer=-1, later=-1)


@skew("offline", "label", mode="labels")
def a_label_s_window_read_up_to_the_last_instant_asked(patch):
    windows_of(patch, lambda view, events: (replace(view, retain_us=0), events))


# --- arrivals -------------------------------------------------------------------------------------


@skew("offline", "label", mode="labels")
def what_arrives_after_the_run_s_end_counted_in_labels(patch):
    original = training_set.known_events

    def all_known(con: Any, view: View, events: Any, known_at: int | None) -> Any:
        known = original(con, view, events, known_at)
        return known if view.kind != "label" else replace(events, newest=known.newest)

    patch.setattr(training_set, "known_events", all_known)


@skew("offline", "label", mode="labels")
def a_label_s_event_left_out_for_having_arrived_late(patch):
    def prompt(view: View, events: Any) -> tuple[View, Any]:
        in_time = f"(SELECT * FROM {events.relation} WHERE __created <= __ts + {3600 * 10**6})"
        return view, replace(events, relation=in_time)

    windows_of(patch, prompt)


@skew("offline", "label", mode="labels")
def versions_that_were_corrected_counted_in_labels(patch):
    def every(view: View, events: Any) -> tuple[View, Any]:
        over = f" WHERE __end = {FOREVER}"
        return view, replace(events, relation=events.relation.replace(over, ""))

    windows_of(patch, every)


# --- what is known --------------------------------------------------------------------------------


@skew("offline", "label", mode="labels")
def a_label_told_before_its_window_is_over(patch):
    settling(patch, lambda until, *args: FOREVER)


@skew("offline", "label", mode="labels")
def a_label_told_at_the_instant_at_which_it_settles(patch):
    settling(patch, lambda until, *args: until(*args) + 1)


@skew("offline", "label", mode="labels")
def a_label_s_settle_ignored(patch):
    def unsettled(until: Any, view: View, feature: Any, newest: Any) -> int:
        if feature.ahead.settle_us is None:
            return until(view, feature, newest)
        return until(view, replace(feature, ahead=replace(feature.ahead, settle_us=0)), newest)

    settling(patch, unsettled)


@skew("offline", "label", mode="labels")
def a_label_settles_without_its_source_s_delay(patch):
    patch.setattr(labels, "delay_us", lambda arrives: 0)


@skew("offline", "label", mode="labels")
def a_label_settled_by_the_newest_row_of_any_source(patch):
    settling(patch, lambda until, view, f, newest: until(view, f, [max(newest)] * len(newest)))


@skew("offline", "label", mode="labels")
def a_label_settled_by_the_sources_that_have_rows_alone(patch):
    def without_empty(until: Any, view: View, feature: Any, newest: Any) -> int:
        there = [at for at in newest if at != NEVER]
        return until(
            view, feature, [at if at != NEVER else min(there, default=at) for at in newest]
        )

    settling(patch, without_empty)


@skew("offline", "label", mode="labels")
def a_label_not_yet_known_given_as_what_was_counted_so_far(patch):
    def so_far(make: Any, i: int, feature: Any, value: Any, settled: str, status: Any) -> Any:
        counted, *_ = make(i, feature, value, "TRUE", status)
        return [counted, *make(i, feature, value, settled, status)[1:]]

    wrapped(patch, labels, "_columns", so_far)


@skew("offline", "label", mode="labels")
def a_label_not_yet_known_told_as_present(patch):
    text(patch, labels, "_columns", "NOT_YET", "PRESENT")


@skew("offline", "label", mode="labels")
def a_transform_of_labels_told_before_these(patch):
    def known(make: Any, i: int, feature: Any, value: Any, settled: str, status: Any) -> Any:
        return make(i, feature, value, settled if status else "TRUE", status)

    wrapped(patch, labels, "_columns", known)


@skew("offline", "label", mode="labels")
def a_label_of_whom_only_events_ahead_tell_not_found(patch):
    text(
        patch,
        windows,
        "_columns_sql",
        r"\(k\.__first <= [^)]*?\)?\) IS NOT",
        "(k.__first <= l.__t) IS NOT",
    )
