"""Skews of what rows take from other views (T11), which join the catalogue of `skews`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from featurekit.feed import enrich
from featurekit.offline import enriched
from tests.planted.skews import SKEWS, Patch, skew, wrapped

__all__ = ["SKEWS"]

Known = Callable[[Any, Any, int], bool]


def known_if(patch: Patch, known: Known) -> None:
    """Let pushes take another event for known, given it, the row and the event's end."""
    patch.setattr(
        enrich, "_is_known", lambda view, event, row: known(event, row, enrich._end(view, event))
    )


def in_sql(patch: Patch, name: str, old: str, new: str) -> None:
    """Change the text that a function of the relation of enriched rows gives."""
    wrapped(patch, enriched, name, lambda made, *args: re.sub(old, new, made(*args)))


# --- which row of the other view is known ---------------------------------------------------------


@skew("push", "late event", "joined")
def a_row_of_the_other_view_taken_before_it_arrived_in_pushes(patch):
    known_if(patch, lambda e, row, end: e[0] <= row["__ts"] and end > row["__created"])


@skew("offline", "late event", "joined")
def a_row_of_the_other_view_taken_before_it_arrived_offline(patch):
    in_sql(patch, "_is_late", "^.+$", "FALSE")


@skew("push", "join", "joined")
def the_other_view_s_version_chosen_by_arrival_alone_in_pushes(patch):
    known_if(patch, lambda e, row, end: e[1] <= row["__created"] < end)


@skew("offline", "join", "joined")
def the_other_view_s_version_chosen_by_arrival_alone_offline(patch):
    in_sql(patch, "_general_sql", r" AND e\.__ts <= q\.__a", "")


@skew("push", "join", "joined")
def a_row_of_the_same_instant_not_taken_in_pushes(patch):
    known_if(patch, lambda e, row, end: e[0] < row["__ts"] and e[1] <= row["__created"] < end)


@skew("offline", "join", "joined")
def a_row_of_the_same_instant_not_taken_offline(patch):
    in_sql(patch, "_last_sql", r"q\.__a >= e\.", "q.__a > e.")


@skew("push", "join", "joined")
def a_row_that_arrives_together_not_taken_in_pushes(patch):
    known_if(patch, lambda e, row, end: e[0] <= row["__ts"] and e[1] < row["__created"] < end)


@skew("offline", "join", "joined")
def a_row_that_arrives_together_not_taken_offline(patch):
    in_sql(patch, "_general_sql", r"e\.__created <= q", "e.__created < q")


@skew("push", "join", "joined")
def a_row_known_by_the_instant_of_what_takes_it_only_in_pushes(patch):
    known_if(patch, lambda e, row, end: e[0] <= row["__ts"] and e[1] <= row["__ts"] < end)


# --- what a state does not tell -------------------------------------------------------------------


@skew("push", "join", "joined")
def the_horizon_of_the_other_view_s_state_not_looked_at(patch):
    patch.setattr(
        enrich, "told_by", lambda state, row: (enrich.last_known(state.view, state.events, row),)
    )


@skew("push", "join", "joined")
def a_state_of_the_other_view_asked_for_its_last_row_alone(patch):
    patch.setattr(
        enrich, "told_by", lambda state, row: (state.events[-1] if state.events else None,)
    )


@skew("push", "tie", "joined")
def tied_rows_of_the_other_view_in_the_order_of_the_log(patch):
    patch.setattr(enrich, "told_by", lambda state, row: None)
    patch.setattr(enrich, "_in_order", lambda view, events: list(events))


@skew("offline", "tie", "joined")
def the_first_of_tied_rows_of_the_other_view_taken_offline(patch):
    in_sql(patch, "_last_sql", r"(s\d) DESC", r"\1 ASC")


# --- what is taken --------------------------------------------------------------------------------


@skew("push", "ttl", "joined")
def the_ttl_of_the_other_view_not_looked_at_in_pushes(patch):
    def taken(made: Any, join: Any, row: Any, event: Any) -> Any:
        if event is not None and join.view.ttl_us is not None:
            event = (row["__ts"], *event[1:])
        return made(join, row, event)

    wrapped(patch, enrich, "_taken", taken)


@skew("offline", "ttl", "joined")
def the_ttl_of_the_other_view_not_looked_at_offline(patch):
    in_sql(patch, "_taken_sql", r"CASE WHEN .*? THEN (s\d+) END", r"\1")


@skew("offline", "ttl", "joined")
def a_row_as_old_as_the_ttl_of_the_other_view_taken_offline(patch):
    in_sql(patch, "_taken_sql", "__ts > ", "__ts >= ")


@skew("push", "key", "joined")
def a_row_without_a_key_takes_what_the_row_before_it_took(patch):
    before: dict[str, Any] = {}

    def taken(made: Any, join: Any, row: Any, event: Any) -> Any:
        if any(row[column] is None for column in join.keys):
            event = before.get(join.view.name)
        before[join.view.name] = event
        return made(join, row, event)

    wrapped(patch, enrich, "_taken", taken)


# --- corrections and deletions --------------------------------------------------------------------


@skew("push", "correction ignored", "joined_ids")
def a_corrected_row_of_the_other_view_still_taken_in_pushes(patch):
    known_if(patch, lambda e, row, end: e[0] <= row["__ts"] and e[1] <= row["__created"])


@skew("offline", "correction ignored", "joined_ids")
def a_corrected_row_of_the_other_view_still_taken_offline(patch):
    in_sql(patch, "_is_late", r" OR __end <= __b", "")


@skew("push", "join", "joined_ids")
def a_row_of_the_other_view_that_ends_together_still_taken(patch):
    known_if(patch, lambda e, row, end: e[0] <= row["__ts"] and e[1] <= row["__created"] <= end)


@skew("push", "join", "joined_ids")
def a_correction_keeps_what_its_first_version_took(patch):
    kept: dict[Any, Any] = {}

    def taken(made: Any, join: Any, row: Any, event: Any) -> Any:
        found = made(join, row, event)
        return kept.setdefault((join.view.name, row["bill"]), found) if "bill" in row else found

    wrapped(patch, enrich, "_taken", taken)
