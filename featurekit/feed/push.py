"""Takes the rows of a push to both paths: it announces, checks, logs and writes them."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from featurekit.core.keys import project_key
from featurekit.errors import OnlineError, RegistryError, StoreUnavailable
from featurekit.feed import events as events_module
from featurekit.feed import settle
from featurekit.feed.events import Pushed
from featurekit.log.compaction import compact
from featurekit.log.tombstones import Forgotten
from featurekit.project.deployment import locked, missed
from featurekit.project.project import Project
from featurekit.sources.rows import TakenRows, read_rows, stamped

if TYPE_CHECKING:
    from featurekit.define.definitions import EventSource
    from featurekit.define.plan import View


def take(project: Project, source: str, rows: Any) -> Pushed:
    """Take new events of `source`; see `FeatureStore.push`."""
    definition = project.source(source)
    taken = read_rows(definition, rows, state_dir=project.state_dir)
    online, work = project.online, _Push(project, definition, taken)
    own = work.own
    with locked(online, project.name, source) if own else nullcontext():
        pushes = project_key(project.name, "pushes", source)
        asked, marks = project.feeding.keys, project.marks.push_keys(source)
        opening = online.open_push(pushes, [*marks, *asked])
        try:
            if definition.event_id is None and not own:
                # These rows arrive now, so they are after every earlier tombstone, and a later
                # forgetting waits for this push. Rows with other arrivals are compared with the
                # tombstones that exist once the push is announced.
                work.find_forgotten()
            token, now, values = opening.result()
            # Read after the announcement: a version published later waits for this push.
            fed = project.feeding.views(asked, values[len(marks) :])
            of_source = [v for v in fed if v.source.name == source]
            store, before, damaged = project.marks.pushing(source, of_source, values)
            done = work.done(of_source, now, (pushes, token))
            if done.entities or (definition.event_id is not None and done.rows):
                project.marks.pushed(source, store, before)
        except BaseException:
            with suppress(StoreUnavailable):  # the first error is the one to report
                online.close_push(pushes, opening.result()[0])
            raise
    if work.due:
        # The push is done even if this fails: a later push tries again, and a reader of the log
        # is told what is wrong with it.
        with suppress(Exception):
            compact(project.state_dir, source)
    return replace(done, damaged=damaged) if damaged else done


class _Push:
    """A push that is under way. `due` says afterwards whether the log's files should be joined."""

    def __init__(self, project: Project, definition: EventSource, taken: TakenRows) -> None:
        self.project, self.definition, self.taken = project, definition, taken
        self.forgotten: Forgotten | None = None
        self.own = taken.own  # read before the rows are given arrivals
        self.kept: Any = None
        self.logged = self.due = False

    def done(self, of_source: list[View], now: int, opened: tuple[bytes, bytes]) -> Pushed:
        """Take the rows to the log and to those of the source's views that can be fed.

        The push was announced at `now`; `opened` is its key and token.
        """
        project, definition, taken = self.project, self.definition, self.taken
        views = [v for v in of_source if project.readable(v)]
        if not views:
            raise RegistryError(
                f"no applied service reads source {definition.name!r} as it is defined now; run "
                "`featurekit apply` first"
            )
        events: Any = taken.arrived(now)
        stamps = [now] * len(events)
        if definition.event_id is not None and not self.own:
            with settle.open_claim(project.online, project.name, views, events, now) as claiming:
                self.find_forgotten()
                stamps, events = claiming.result()
        arrived = len(events)
        forgotten = self.find_forgotten() if self.forgotten is None else self.forgotten
        events = forgotten.left(events)
        prepared = events_module.prepare(project.name, views, events)
        if self.own:
            settle.check(project.online, prepared)
        missed(project.online, project.name, [v for v in of_source if v not in views])
        self.kept = events
        if taken.rows is None and len(events) == arrived:
            self.kept = stamped(definition, taken.table, stamps)
        try:
            with settle.open_write(project.online, prepared, opened) as writing:
                self.due = project.log.keep(definition, self.kept)
                self.logged = True
                done = writing.result()
        except OnlineError as error:
            if not self.logged:
                raise
            again = "do not push them again: " if definition.event_id is None else ""
            raise type(error)(
                f"{error}\nThe {len(events)} rows are in the offline log; {again}"
                "`featurekit materialize` brings them online"
            ) from error
        left_out = arrived - len(events)
        if not taken.quarantined and not left_out:
            return done
        return replace(done, quarantined=taken.quarantined, forgotten=left_out)

    def find_forgotten(self) -> Forgotten:
        """The source's entities that are forgotten, as far as it is known now."""
        self.forgotten = self.project.forgotten(self.definition)
        return self.forgotten
