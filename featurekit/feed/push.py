"""Takes the rows of a push to both paths: it announces, checks, logs and writes them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from featurekit.core.keys import clock_key, project_key
from featurekit.core.types import instant
from featurekit.errors import OnlineError, RegistryError, StoreUnavailable
from featurekit.feed import events as events_module
from featurekit.feed import settle
from featurekit.feed.events import Enrich, Pushed, nothing_taken
from featurekit.feed.joining import check_arrivals, enricher, note_repeated, watching
from featurekit.feed.once import Key, Once, once, open_claims
from featurekit.log.compaction import compact
from featurekit.log.tombstones import Forgotten
from featurekit.online.store.protocol import Closing, OnlineStore, Pending
from featurekit.project.deployment import missed
from featurekit.project.died import note_died
from featurekit.project.leases import alone, check_if_late, fence_key, holder, pushing
from featurekit.project.project import Project
from featurekit.sources.arrivals import bound_arrivals
from featurekit.sources.rows import TakenRows, read_rows, stamped

if TYPE_CHECKING:
    from featurekit.define.definitions import EventSource
    from featurekit.define.plan import View


@dataclass(frozen=True, slots=True)
class Taken:
    """What a push with a key did; `again` says whether an earlier one with it did that."""

    pushed: Pushed
    again: bool


def take_once(project: Project, source: str, rows: Any, key: Key) -> Taken:
    """As `take`, for a push that may come again with its key (see `featurekit.feed.once`).

    A source with an `event_id` needs no key, and none is noted: equal rows are the same rows (T7).
    RequestRefused where the key was used for another push.
    """
    definition = project.source(source)
    if definition.event_id is not None:
        return Taken(take(project, source, rows), again=False)
    with once(project, definition, key) as work:
        work.look(rows)
        if work.again is not None:
            return Taken(work.again, again=True)
        return Taken(take(project, source, rows, work), again=False)


def take(project: Project, source: str, rows: Any, work_once: Once | None = None) -> Pushed:
    """Take new events of `source`; see `FeatureStore.push`. With `work_once` they are taken under a
    key, which is held."""
    definition = project.source(source)
    taken = read_rows(definition, rows, state_dir=project.state_dir)
    tally = project.audit.pushing(source)
    online, work = project.online, _Push(project, definition, taken, work_once)
    own = work.own
    with alone(online, project.name, source, "push") if own else nullcontext(online) as online:
        pushes, clock = project_key(project.name, "pushes", source), clock_key(project.name)
        asked, marks = project.feeding.keys, project.marks.push_keys(source)
        work.begun = time.monotonic()
        also = [*marks, *asked, fence_key(project.name, source)]
        opening = online.open_push(pushes, also, clock=clock, holder=holder("push"))
        try:
            if definition.event_id is None and not own:
                # These rows arrive now, so they are after every earlier tombstone, and a later
                # forgetting waits for this push. Rows with other arrivals are compared with the
                # tombstones that exist once the push is announced.
                work.find_forgotten()
            token, now, (*values, fence) = opening.result()
            # Read after the announcement: a version published later waits for this push.
            fed = project.feeding.views(asked, values[len(marks) :])
            with pushing(online, project.name, source, token, fence) as fenced:
                of_source = [v for v in fed if source in v.source_names]
                work.watching = watching(fed, source)
                store, before, work.damaged = project.marks.pushing(source, of_source, values)
                done = work.done(fenced, of_source, now, Closing(pushes, token, clock, now))
                if done.entities or (definition.event_id is not None and done.rows):
                    project.marks.pushed(source, store, before)
        except BaseException as error:
            # What was logged and is not in the states is missed by who takes from these.
            half = bool(work.watching) if work.logged else work.claimed
            # Where the store is lost, whoever lets go of this push notes it.
            if not (half and isinstance(error, StoreUnavailable)):
                with suppress(OnlineError):  # the first error is the one to report
                    token, now, _ = opening.result()
                    if half:
                        note_died(online, project.name, source, now)
                    online.close_push(pushes, token)
            raise
    tally.took(done.rows)
    if work.due:
        # The push is done even if this fails: a later push tries again, and a reader of the log
        # is told what is wrong with it.
        with suppress(Exception):
            compact(
                project.state_dir,
                source,
                open_claims=lambda claims: open_claims(project, source, claims),
            )
    return done


class _Push:
    """A push that is under way. `due` says afterwards whether the log's files should be joined."""

    def __init__(
        self, project: Project, definition: EventSource, taken: TakenRows, work_once: Once | None
    ) -> None:
        self.project, self.definition, self.taken = project, definition, taken
        self.once, self.damaged = work_once, tuple[str, ...]()
        self.forgotten: Forgotten | None = None
        self.own = taken.own  # read before the rows are given arrivals
        self.watching: list[View] = []
        """The views whose rows take features that are made of the source's."""
        self.enrich: Enrich = nothing_taken
        self.kept: Any = None
        self.claimed = self.logged = self.due = False
        self.begun = 0.0

    def done(self, online: OnlineStore, of_source: list[View], now: int, opened: Closing) -> Pushed:
        """Take the rows to the log and to those of the source's views that can be fed.

        The push was announced at `now`, as `opened`. `online` is the store, which this push writes
        to while its lease lasts.
        """
        project, definition, taken = self.project, self.definition, self.taken
        views = [v for v in of_source if project.readable(v)]
        if not views:
            raise RegistryError(
                f"no applied service reads source {definition.name!r} as it is defined now; run "
                "`featurekit apply` first"
            )
        bound_arrivals(taken, now, project.tolerance_us, project.state_dir)
        events: Any = taken.arrived(now)
        stamps = [now] * len(events)
        self._ready(views, events, now)
        if definition.event_id is not None and not self.own:
            self.claimed = True
            with self._claim(online, views, events, now) as claiming:
                self.find_forgotten()
                stamps, events = claiming.result()
            if self.watching and set(stamps) - {now}:
                note_repeated(project, online, definition.name, self.watching, stamps, now)
        arrived, repeated = len(events), len(events) - stamps.count(now)
        forgotten = self.find_forgotten() if self.forgotten is None else self.forgotten
        left = forgotten.left(events)
        whole, events = left is events, left
        prepared = events_module.prepare(
            project.name, views, events, source=definition.name, enrich=self.enrich
        )
        if self.own:
            settle.check(online, prepared)
        missed(online, project.name, [v for v in of_source if v not in views])
        self.kept = events
        if taken.rows is None and whole:
            self.kept = stamped(definition, taken.table, stamps)
        gone = arrived - len(events)
        done = replace(self.told(prepared.done, events, now), forgotten=gone, repeated=repeated)
        ending, claim = online, None
        if self.once is not None:
            self.once.note(opened.token, done)
            ending, claim = self.once.ending(online), self.once.claim
        try:
            with settle.open_write(ending, prepared, opened) as writing:
                # What is logged too late is missed by a run that did not wait for it.
                check_if_late(online, self.begun)
                self.due = project.log.keep(definition, self.kept, claim)
                self.logged = True
                writing.result()
        except OnlineError as error:
            if not self.logged:
                raise
            again = "do not push them again: " if definition.event_id is None else ""
            raise type(error)(
                f"{error}\nThe {len(events)} rows are in the offline log; {again}"
                "`featurekit materialize` brings them online"
            ) from error
        return done

    def _ready(self, views: Sequence[View], events: Any, now: int) -> None:
        """Wait for what the rows take from other views, and refuse rows that would change what
        others have taken of these (T11)."""
        project, name = self.project, self.definition.name
        if any(view.source.joins for view in views):
            self.enrich = enricher(project, name, views, now)
        if self.own and self.watching:
            check_arrivals(project, name, self.watching, events, now)

    def _claim(
        self, online: OnlineStore, views: list[View], events: list[Any], now: int
    ) -> Pending[tuple[list[int], list[Any]]]:
        """The arrivals of rows with ids, and the rows that have them (T7)."""
        name = self.project.name
        source, enrich = self.definition.name, self.enrich
        return settle.open_claim(online, name, views, events, now, source=source, enrich=enrich)

    def told(self, done: Pushed, events: Any, now: int) -> Pushed:
        """What a push of these events at `now` did, with what is known of all of its rows."""
        return replace(
            done,
            quarantined=self.taken.quarantined,
            broken=self.taken.broken,
            damaged=self.damaged,
            arrived=instant(now),
            newest=instant(max(row["__ts"] for row in events)) if events else None,
        )

    def find_forgotten(self) -> Forgotten:
        """The source's entities that are forgotten, as far as it is known now."""
        self.forgotten = self.project.forgotten(self.definition)
        return self.forgotten
