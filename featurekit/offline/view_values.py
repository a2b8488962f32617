"""Turns a view's events and a table of labels into the view's result, whatever kind it is of."""

from __future__ import annotations

from typing import Any

from featurekit.define.plan import View
from featurekit.offline.events import EventRows
from featurekit.offline.labels import make_labels, with_newest
from featurekit.offline.latest import make_latest
from featurekit.offline.view_result import ViewSql
from featurekit.offline.windows import make_windows


def make_values(
    con: Any,
    view: View,
    events: EventRows,
    labels: str,
    name: str,
    *,
    statuses: bool,
    span: tuple[int, int] | None = None,
) -> ViewSql:
    """The view's result, as what it is a view of asks for."""
    match view.kind:
        case "latest":
            return make_latest(con, view, events, labels, statuses=statuses, name=name)
        case "window":
            return make_windows(con, view, events, labels, statuses=statuses, name=name, span=span)
        case "label":
            return make_labels(con, view, events, labels, name=name, span=span)


def known_events(con: Any, view: View, events: EventRows, known_at: int | None) -> EventRows:
    """The events that had arrived by `known_at`; applied before copies and versions are
    compared."""
    if known_at is not None:
        relation = f"(SELECT * FROM {events.relation} WHERE __created <= {known_at})"
        events = EventRows(relation, events.prompt)
    return with_newest(con, view, events) if view.kind == "label" else events
