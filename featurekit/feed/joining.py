"""Readies what a push's rows take from other views, and refuses what could not be right (T11).

A row takes what had arrived before it. So a push waits until every announced push to the other
views' sources with an earlier stamp has ended. Their states tell the rows then, unless a push died
half way or the view was not filled yet: then the files and the log are asked, as they are where a
state does not reach back far enough.

The other way round, nothing may arrive at a view's source before what rows have taken from it
already: a push with arrivals of its own is refused where it would.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

from featurekit.core.keys import clock_key, project_key
from featurekit.core.tables import fetch
from featurekit.core.types import instant
from featurekit.core.waiting import until as wait_until
from featurekit.define.plan import View
from featurekit.errors import FeaturekitError, OnlineError, StoreUnavailable
from featurekit.feed.enrich import Enricher, Entity
from featurekit.log.relation import log_sql
from featurekit.log.segments import segments
from featurekit.online.state.ids import Row
from featurekit.online.state.state import Event
from featurekit.online.store.marks import damaged, damaged_key, version_of
from featurekit.online.store.notes import name_of, read_number
from featurekit.online.store.protocol import OnlineStore
from featurekit.project.deployment import damage, materialized_marks, materialized_until
from featurekit.project.died import died_key
from featurekit.project.leases import settled_until
from featurekit.project.project import Project

_POLL_S, _PATIENCE_S = 0.02, 60.0


def enricher(project: Project, source: str, views: Sequence[View], now: int) -> Enricher:
    """What gives rows of `source` that are pushed at `now` what they take, once every earlier push
    to the other views' sources has ended. StoreUnavailable where one does not end."""
    joined = {version_of(v): v for view in views for v in view.joined}
    names = sorted({name for view in joined.values() for name in view.source_names})
    for name in names:
        _wait(project, source, name, now)
    whole = _whole(project, list(joined.values()))
    asking = _Asking(project, source)
    return Enricher(
        project.online,
        project.name,
        asking.ask,
        complete=lambda view: whole[version_of(view)],
        lacks=asking.lacks,
    )


def _wait(project: Project, source: str, other: str, now: int) -> None:
    """Wait until every push to the source `other` that was announced before `now` has ended."""
    online, pushes = project.online, project_key(project.name, "pushes", other)
    if online.settled_until(pushes, clock=clock_key(project.name)) >= now - 1:
        return
    wait_until(
        lambda: settled_until(online, project.name, other),
        holds=lambda until: until >= now - 1,
        within_s=_PATIENCE_S,
        every_s=_POLL_S,
        or_say=lambda _: StoreUnavailable(
            f"push to {source!r}: its rows take features that are made of {other!r}, and an "
            "earlier push there does not end (`featurekit unlock` shows whose it is); nothing was "
            "written, so push them again when it is over"
        ),
    )


def _whole(project: Project, views: Sequence[View]) -> dict[str, bool]:
    """Which views' states have all that arrived: filled once, and not since then damaged nor left
    without the rows of a push that died."""
    online, name = project.online, project.name
    mark = materialized_marks(online, name)
    sources = sorted({one for view in views for one in view.all_source_names})
    keys = [died_key(name, one) for one in sources]
    broken, *values = online.read([damaged_key(name), *keys])
    died = {
        one: read_number(name_of(key), value)
        for one, key, value in zip(sources, keys, values, strict=True)
    }
    lost, found = damaged(broken), {}
    for view in views:
        until = mark(view)
        later = max(died[one] for one in view.all_source_names)
        found[version_of(view)] = (
            until is not None and later <= until and version_of(view) not in lost
        )
    return found


class _Asking:
    """Reads rows of other views from files and log, for a push to `source`."""

    def __init__(self, project: Project, source: str) -> None:
        self.project, self.source = project, source

    def ask(self, view: View, entities: Sequence[Entity]) -> Mapping[bytes, Sequence[Event]]:
        """All events of some entities; the error of who cannot read them says that nothing was
        written."""
        # Most pushes ask nothing, and load no DuckDB.
        from featurekit.feed.entity_events import events_of_entities

        try:
            with closing(self.project.connect()) as con:
                events = self.project.events(con, view)
                return events_of_entities(con, view, events, entities)
        except FeaturekitError as error:
            raise type(error)(f"{self._begin(view)}, which cannot be read: {error}") from error

    def lacks(self, view: View, entity: Entity) -> OnlineError:
        """The error for a state that has rows which the files and the log here have not."""
        keys = ", ".join(
            f"{p.name}={value!r}" for p, value in zip(view.join_keys, entity, strict=True)
        )
        return OnlineError(
            f"{self._begin(view)}, and these lack rows that its state of {keys} has; push from "
            f"where the log of {view.source.title!r} is, or put the rows into the source's files; "
            "then run `featurekit materialize`, which takes back what a push left that died"
        )

    def _begin(self, view: View) -> str:
        return (
            f"push to {self.source!r}: nothing was written. A row takes features of view "
            f"{view.name!r} as of an instant that its state does not reach (a longer history= "
            f"there reaches further), so the files and the log of {view.source.title!r} are asked"
        )


# --- the other way round --------------------------------------------------------------------------


def watching(views: Sequence[View], source: str) -> list[View]:
    """The views whose rows take features from a view of the source."""
    return [v for v in views if source in v.all_source_names and source not in v.source_names]


def check_arrivals(
    project: Project, source: str, views: Sequence[View], rows: Sequence[Row], now: int
) -> None:
    """OnlineError for rows with arrivals of their own before what rows of other sources have taken
    from a view of `source` already, or may have."""
    first = min((row["__created"] for row in rows), default=now)
    taken = _taken_until(project, views, now)
    if first <= taken:
        named = ", ".join(sorted({v.name for v in views}))
        raise OnlineError(
            f"push to {source!r}: nothing was written. A row arrived at "
            f"{instant(first).isoformat()}, and rows that arrived up to "
            f"{instant(taken).isoformat()} have taken features that are made of {source!r} (view "
            f"{named}); what they took would change. Push rows in the order of their arrival over "
            "both sources, or put these into the source's files and run `featurekit materialize`"
        )


def _taken_until(project: Project, views: Sequence[View], now: int) -> int:
    """The latest arrival of a row that may have taken something, by a fill or by a push that began
    before `now`."""
    marks = [materialized_until(project.online, project.name, view) for view in views]
    latest = max((mark for mark in marks if mark is not None), default=-(2**63))
    with closing(project.connect()) as con:
        for name in sorted({n for view in views for n in view.source_names}):
            _wait(project, name, name, now)
            logged = segments(project.state_dir, name)
            if logged:
                relation = log_sql(con, logged, project.source(name))
                ((found,),) = fetch(con, f"SELECT max(__created) FROM {relation}")
                latest = max(latest, found if found is not None else latest)
    return latest


def note_repeated(
    project: Project,
    online: OnlineStore,
    source: str,
    views: Sequence[View],
    stamps: Sequence[int],
    now: int,
) -> None:
    """Where rows keep the arrival of a push that died before it logged them (T7), what other rows
    have taken since then lacks them: such views are damaged until they are filled again."""
    key, earlier = died_key(project.name, source), sorted({*stamps} - {now})
    (died,) = online.read([key])
    if read_number(name_of(key), died) < earlier[0]:
        return
    with closing(project.connect()) as con:
        logged = segments(project.state_dir, source)
        there: set[Any] = set()
        if logged:
            relation = log_sql(con, logged, project.source(source))
            wanted = ", ".join(map(str, earlier))
            sql = f"SELECT DISTINCT __created FROM {relation} WHERE __created IN ({wanted})"
            there = {found for (found,) in fetch(con, sql)}
    if there < {*earlier}:
        damage(
            online,
            project.name,
            views,
            f"a push to {source!r} that had died came again, and rows may have taken features "
            "meanwhile that lack its rows",
        )
