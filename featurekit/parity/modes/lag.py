"""Tells lag from skew: what offline answers from no more than what was online.

A value that differs from offline's is *lag* if offline answers it, too, once the events that were
not online yet are left out; else it is *skew*. Of the files' events those are online that arrived
by the instant up to which the view is materialised, of pushed ones all that arrived by the state's
newest arrival, or that had the time to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from featurekit.core.sql import quote
from featurekit.core.status import FOREVER
from featurekit.core.tables import temp_table
from featurekit.core.types import INT
from featurekit.define.explode import event_schema
from featurekit.define.plan import Service, View
from featurekit.language.ir import Param
from featurekit.offline.counted_events import make_counted_rows, make_events
from featurekit.offline.events import EventRows, Snapshot
from featurekit.parity.compare import Answers
from featurekit.parity.paths import Asked, Offline
from featurekit.project.project import Project

_ROW = "__row"


@dataclass(frozen=True, slots=True)
class KnownEvents:
    """What of a view's events was online for some rows: of the files' those that arrived by
    `until`, of pushed ones for each row those that arrived by its `pushed`."""

    until: int
    pushed: Sequence[int]


@dataclass(slots=True)
class Lag:
    """What offline answers from what was online, and for each view, by row, when the oldest event
    arrived that was not."""

    answers: Answers
    waiting: list[dict[int, int]]

    def oldest(self, service: Service, output: int, row: int) -> int | None:
        """When the oldest event arrived that an output misses in a row."""
        found = [self.waiting[v][row] for v in inputs(service, output) if row in self.waiting[v]]
        return min(found, default=None)


def inputs(service: Service, output: int) -> set[int]:
    """The views that decide an output."""
    found = service.outputs[output]
    return {found.view} if found.view >= 0 else _inputs(service, found.index)


def _inputs(service: Service, transform: int) -> set[int]:
    views: set[int] = set()
    for given in service.transforms[transform].inputs:
        if given.kind == "feature":
            views.add(given.view)
        elif given.kind == "transform":
            views |= _inputs(service, given.index)
    return views


def from_online(
    project: Project, service: Service, asked: Asked, online: Sequence[KnownEvents]
) -> Lag:
    """What offline answers to the rows from no more than what was `online` of each view."""
    numbered = Asked({**asked.columns, _ROW: range(len(asked.at))}, asked.at)
    views = tuple(_numbered(view) for view in service.views)
    waiting: list[dict[int, int]] = [{} for _ in views]
    number = {view.source.name: v for v, view in enumerate(views)}  # which their titles name

    def snapshot(con: Any, view: View) -> Snapshot:
        v = number[view.source.name]
        original, known = service.views[v], online[v]
        rows = _rows(con, original, v, asked, known)
        marked = project.snapshot(con, original, marked=True).events.relation
        there = f"(NOT __pushed AND __created <= {known.until})"
        waiting[v] = _waiting(con, original, make_events(con, original, marked), rows, there)
        counting = make_counted_rows(
            con, original, f"(SELECT * FROM {marked} WHERE __pushed OR {there})"
        )
        counting = make_events(con, original, counting)
        keys = ", ".join(quote(p.name) for p in original.join_keys)
        shown = "e.* REPLACE (CASE WHEN e.__end > r.__n THEN "
        shown = f"{shown}{FOREVER} ELSE e.__end END AS __end)" if original.source.op else "e.*"
        relation = (
            f"(SELECT {shown}, r.{_ROW} FROM {counting} e "
            f"JOIN (SELECT {_ROW}, __n, {keys} FROM {rows}) r USING ({keys}) "
            "WHERE e.__created <= r.__n)"
        )
        return Snapshot(EventRows(relation, prompt=False), {"rows": None})

    path = Offline.over(project.connect, snapshot, buckets=1)
    return Lag(path.answers(replace(service, views=views), numbered), waiting)


def _numbered(view: View) -> View:
    """The view with the row among its join keys, so that each row has events of its own; which of
    them count (T7) is settled before."""
    source = replace(
        view.source,
        name=view.title,
        event_id=None,
        parts=None,  # its rows are made already
        schema=(*event_schema(view), Param(_ROW, INT)),
    )
    role = view.role and replace(view.role, keys=(*view.role.keys, _ROW))
    keys = (*view.join_keys, Param(_ROW, INT))
    return replace(view, source=source, join_keys=keys, role=role, explode=None, where=None)


def _rows(con: Any, view: View, v: int, asked: Asked, known: KnownEvents) -> str:
    """A temporary table of the rows: their number, the view's keys, their instant, and up to which
    arrival they are known (`__n`: of all events; no file's event is later than `until`)."""
    types = {p.name: p.type for p in view.join_keys} | dict.fromkeys((_ROW, "__at", "__n"), INT)
    keys = [asked.columns[p.name] for p in view.row_keys]
    upto = [max(n, known.until) for n in known.pushed]
    rows = zip(*keys, range(len(asked.at)), asked.at, upto, strict=True)
    return temp_table(con, f"__rows_{v}", types, rows)


def _waiting(con: Any, view: View, marked: str, rows: str, there: str) -> dict[int, int]:
    """For each row of which an event had arrived by its instant and was not online: the first such
    arrival."""
    keys = ", ".join(quote(p.name) for p in view.join_keys)
    found = con.execute(
        f"SELECT {_ROW}, min(__created) FROM {marked} JOIN {rows} USING ({keys}) "
        f"WHERE __created <= __at AND NOT ({there} OR (__pushed AND __created <= __n)) GROUP BY 1"
    ).fetchall()
    return dict(found)
