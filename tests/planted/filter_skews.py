"""Skews of the latest row among those that pass; they join the catalogue of `skews`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from featurekit.define import explode
from featurekit.feed import materialise
from featurekit.offline import counted_events
from tests.planted.skews import SKEWS, Patch, everywhere, skew, wrapped

__all__ = ["SKEWS"]


def in_pushes(patch: Patch, change: Callable[[Any], Callable[[Any], bool]]) -> None:
    """Have rows pass in pushes by another function, made of the view's own."""
    own = explode.passing
    patch.setattr(explode, "passing", lambda view: None if own(view) is None else change(view))


@skew("push", "condition", "filtered")
def a_condition_of_none_passes_in_pushes(patch):
    def changed(view: Any) -> Any:
        function, names = explode.to_python(view.where.function), view.where.columns
        return lambda row: function(*[row[name] for name in names]) is not False

    in_pushes(patch, changed)


@skew("push", "condition", "filtered")
def a_condition_ignored_in_pushes(patch):
    in_pushes(patch, lambda view: lambda row: True)


@skew("offline", "condition", "filtered")
def a_condition_of_none_passes_offline(patch):
    everywhere(patch, counted_events.make_events, lambda made, con, view, relation: (
        made(con, view, relation).replace(", FALSE))", ", TRUE))")))  # fmt: skip


@skew("offline", "condition", "filtered")
def a_condition_ignored_offline(patch):
    everywhere(patch, counted_events.make_events, lambda made, con, view, relation: (
        made(con, replace(view, where=None), relation)))  # fmt: skip


@skew("backfill", "condition", "filtered")
def a_condition_ignored_by_a_backfill(patch):
    wrapped(patch, materialise, "make_events", lambda made, con, view, relation: (
        made(con, replace(view, where=None), relation)))  # fmt: skip


@skew("offline", "correction ignored", "filtered_ids")
def rows_that_do_not_pass_left_out_before_versions_are_settled_offline(patch):
    wrapped(patch, counted_events, "make_counted_rows", lambda counted, con, view, rows: (
        counted(con, view, counted_events.make_events(con, view, rows))))  # fmt: skip
