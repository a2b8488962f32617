"""Makes an entity frame if none is given: every entity that was known, at each of some instants.

An entity is known while it has an event that is visible (T3) and not deleted (T7). Rows are ordered
by instant, then by the join keys, so the same events give the same frame.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featurekit.core.durations import Duration, duration_us
from featurekit.core.examples import assigned
from featurekit.core.sql import quote, text_literal
from featurekit.core.status import FOREVER
from featurekit.core.timezones import to_utc_us
from featurekit.core.types import Type
from featurekit.define.plan import Service
from featurekit.errors import EntityFrameError
from featurekit.offline.counted_events import make_counted_rows, make_events
from featurekit.offline.events import EventRows


@dataclass(frozen=True, slots=True)
class KnownEntities:
    """A frame that is not made yet. `instants` is SQL of a relation with one column, `t`, in
    microseconds. `view` names the view whose events tell the entities; None means that all views
    do."""

    instants: str
    view: str | None

    def write(self, con: Any, service: Service, events: Sequence[EventRows], path: Path) -> None:
        """Write the frame as a Parquet file: the service's join keys and `event_timestamp`."""
        keys = service.join_keys
        places = [f"k{i}" for i in range(len(keys))]
        names = ", ".join(places)
        there = " AND ".join(f"{name} IS NOT NULL" for name in places)
        spans = {}
        for view, read in zip(service.views, events, strict=True):
            if self.view not in (None, view.title):
                continue
            columns = service.key_columns(view)
            known = (
                view.source.name,
                view.dedupe_us,
                view.explode,
                view.fingerprint if view.where is not None else None,
                *(columns[key] for key in keys),
            )
            if known not in spans:
                relation = make_events(con, view, make_counted_rows(con, view, read.relation))
                own = ", ".join(
                    f"{quote(columns[k])} AS {p}" for k, p in zip(keys, places, strict=True)
                )
                ends = "__end" if view.source.op is not None else FOREVER
                spans[known] = (
                    f"SELECT {own}, min(greatest(__ts, __created)) AS v, {ends} AS w "
                    f"FROM {relation} GROUP BY ALL"
                )
        every = f"(SELECT * FROM ({' UNION ALL '.join(spans.values())}) WHERE {there})"
        shown = ", ".join(_shown(p, n, keys[n]) for p, n in zip(places, keys, strict=True))
        con.execute(
            f"COPY (SELECT {shown}, make_timestamp(t)::TIMESTAMPTZ AS event_timestamp FROM "
            f"(SELECT DISTINCT {names}, t FROM {every} JOIN {self.instants} ON v <= t AND w > t) "
            f"ORDER BY t, {names}) TO {text_literal(str(path))} (FORMAT parquet)"
        )


def _shown(place: str, name: str, type_: Type) -> str:
    cast = "::TIMESTAMPTZ" if type_.name == "datetime" else ""
    return f"{place}{cast} AS {quote(name)}"


def known_entities(
    service: Service,
    *,
    at: Sequence[dt.datetime] | None,
    start: dt.datetime | None,
    end: dt.datetime | None,
    every: Duration | None,
    view: str | None,
    timezone: str,
) -> KnownEntities:
    """The frame of every entity at each instant of `at`; or at `start`, one `every` later, and so
    on up to `end`. EntityFrameError if the service's rows need more than its join keys, or if its
    views disagree on who their entities are."""
    if start is not None and end is not None:
        _check_order(start, end, timezone)
    if service.request:
        names = ", ".join(p.name for p in service.request)
        of_rows = ", ".join([*service.join_keys, "event_timestamp", *names.split(", ")])
        raise _refuse(
            f"service {service.name!r} takes request fields ({names}), which events do not hold, "
            f"so instants alone do not do; give a frame that has them, with {of_rows}"
        )
    if not service.join_keys:
        raise _refuse(
            f"service {service.name!r} reads no view, so there are no entities to ask about; give "
            "a frame with its instants"
        )
    _check_view(service, view)
    span = (start, end, every)
    if at is not None and any(part is not None for part in span):
        raise _refuse("found both at= and start=, end= or every=; leave out the one or the other")
    if at is None and all(part is None for part in span):
        raise _refuse(
            "give a frame of entities and instants; or instants for every known entity, as in "
            'at=[datetime(2026, 10, 4, tzinfo=UTC)], or start=, end= and every="1d"'
        )
    if at is not None:
        if not at:
            raise _refuse("at= is an empty list; write at=[datetime(2026, 10, 4, tzinfo=UTC)]")
        micros = sorted({to_utc_us(t, timezone) for t in at})
        return KnownEntities(f"(SELECT unnest({micros}::BIGINT[]) AS t)", view)
    if start is None or end is None or every is None:
        lacks = [n for n, v in zip(("start", "end", "every"), span, strict=True) if v is None]
        raise _refuse(
            "start=, end= and every= go together; write also "
            + ", ".join(assigned("get_historical_features", name) for name in lacks)
        )
    low, high = to_utc_us(start, timezone), to_utc_us(end, timezone)
    step = duration_us(every, what="every")
    return KnownEntities(f"(SELECT range AS t FROM range({low}, {high + 1}, {step}))", view)


def _check_order(start: dt.datetime, end: dt.datetime, timezone: str) -> None:
    if to_utc_us(start, timezone) > to_utc_us(end, timezone):
        raise EntityFrameError(
            f"start {start.isoformat()} lies after end {end.isoformat()}; exchange them, or write "
            "a later end"
        )


def _refuse(reason: str) -> EntityFrameError:
    return EntityFrameError(f"no entity frame was given: {reason}")


def _check_view(service: Service, name: str | None) -> None:
    """Check that the events that tell the entities hold all of the service's join keys."""
    keys = service.join_keys
    if name is None:
        if all({p.name for p in view.row_keys} == keys.keys() for view in service.views):
            return
        listed = "; ".join(
            f"{v.title} by {', '.join(p.name for p in v.row_keys)}" for v in service.views
        )
        raise _refuse(
            f"the views of service {service.name!r} are of different entities ({listed}); give a "
            'frame, or name a view whose events hold all join keys, as in entities="'
            f'{service.views[0].title}"'
        )
    chosen = {view.title: view for view in service.views}.get(name)
    if chosen is None:
        raise _refuse(
            f"entities={name!r} is no view of service {service.name!r}; it has "
            f"{', '.join(v.title for v in service.views)}"
        )
    types = {p.name: p.type.base for p in chosen.source.schema}
    columns = service.key_columns(chosen)
    missing = [k for k, type_ in keys.items() if types.get(columns.get(k, "")) != type_]
    if missing:
        raise _refuse(
            f"source {chosen.source.title!r} of view {name!r} has no {', '.join(missing)}, so its "
            "events do not tell which entities go together; give a frame, or another view"
        )
