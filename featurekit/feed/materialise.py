"""Turns the events of sources into the online states of views: a backfill, whole or incremental.

A run covers an interval of arrivals, (after, until]. What the states knew of this interval is
replaced by what the files and the log have of it. So a run may be repeated, or die half way and be
run again, and it keeps the pushes that arrive meanwhile. An incremental run begins where the last
one ended, or before the first row that has come to the log since (`seen`).
"""

from __future__ import annotations

import datetime as dt
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from featurekit.core.attributes import Named
from featurekit.core.keys import clock_key, entity_key, entity_values, state_key, state_prefix
from featurekit.core.screen import Advance, Progress
from featurekit.core.sql import quote
from featurekit.core.status import NEVER, NEVER_VISIBLE
from featurekit.core.tables import temp_table
from featurekit.core.types import instant, micros
from featurekit.core.waiting import until as wait_until
from featurekit.define.definitions import EventSource
from featurekit.define.plan import View
from featurekit.define.proven import warn_unproven
from featurekit.errors import OnlineError, RegistryError, SourceError
from featurekit.feed.entity_events import Counts, Group, count, found, remembering
from featurekit.feed.remember import Lost, remember
from featurekit.feed.repair import Repair
from featurekit.feed.seen import LogNow, Names, logs_now
from featurekit.feed.selection import of_entities, of_names
from featurekit.log.ahead import set_ahead_aside
from featurekit.offline.buckets import explaining_disk
from featurekit.offline.counted_events import make_counted_rows, make_events
from featurekit.offline.events import EventRows, Snapshot, check_unchanged
from featurekit.offline.view_events import ViewEvents, view_events
from featurekit.online.state.encode_many import state_keys
from featurekit.online.state.replace_many import Replacing, some
from featurekit.online.state.state import State
from featurekit.online.state.update import update_states
from featurekit.online.store.marks import version_of
from featurekit.online.store.protocol import Health, OnlineStore
from featurekit.project.contracts import Passed, enforce, enforce_again
from featurekit.project.deployment import (
    materialized_until,
    promote,
    set_materialized,
    settled_for_first,
    step_back,
)
from featurekit.project.died import must_be_whole, set_whole
from featurekit.project.leases import LEASE_S, alone, settled_until
from featurekit.project.project import Project

_CHUNK = 250
_POLL_S, _PATIENCE_S = 0.05, 60.0
_AHEAD = 2
"""The number of groups that may wait to be written."""
_READINGS = 5


@dataclass(frozen=True, slots=True)
class Materialized:
    """What a run did to one view: the states it wrote, the `events` it read in the interval, how
    many of these had no entity (`null_keys`, S2), and how many an erring slot (`erring`, R3).

    `not_arrived` rows of the source's files arrive after the run's end. `repaired` states held an
    arrival after the store's clock, and were made anew (S3). `damaged` values in the store were
    written again from everything.
    """

    view: str
    entities: int
    events: int
    null_keys: int
    erring: int
    not_arrived: int = 0
    repaired: int = 0
    damaged: int = 0


@dataclass(frozen=True, slots=True)
class Materialization(Named):
    """What `materialize` did: each view's numbers, the instant up to which it read, and the
    services that went live.

    `asked` is the instant that was asked for; None where it was now. It is later than `until` where
    the run was cut: at the store's clock, or before a push that is under way. `stand_at` is the
    instant up to which all of the views are materialised now, which is later than `until` where
    they were ahead already; None where one is not. `set_aside` rows of the log had arrived after
    the store's clock; they were taken out of it, and kept with the other rows that were set aside
    (S3). `bad_rows` has, for each source that the run read, how many rows of its files are set
    aside since they break S1.
    """

    until: dt.datetime
    views: tuple[Materialized, ...]
    live: tuple[str, ...]
    asked: dt.datetime | None = None
    stand_at: dt.datetime | None = None
    set_aside: int = 0
    bad_rows: Mapping[str, int] = field(default_factory=dict)


def materialize(
    project: Project,
    end: dt.datetime | None,
    *,
    incremental: bool = False,
    views: Sequence[str] | None = None,
    entities: Sequence[Mapping[str, Any]] | None = None,
    restart_clock: bool = False,
    judged: bool = True,
    progress: Progress | None = None,
) -> Materialization:
    """Fill the states of every applied view with all that arrived up to `end`, now by default.

    `views` names the views to fill. With `incremental`, only what arrived since the last time is
    read. With `entities`, only the states of these are filled, and no view counts as filled by it.
    Services whose views are all filled go live. With `restart_clock`, a last stamp that is far
    after all clocks is left behind (S3). Where sources are not `judged`, their contracts are not
    asked.

    RegistryError for a view that was not applied, EntityFrameError for keys that no view has,
    ClocksApart where the store's clock cannot be right, EvictingStore where Redis may remove
    states; ContractBroken, before anything is written, where a source breaks its contract (S5).
    """
    passed = enforce(project, _sources(project, _chosen(project, views))) if judged else None
    begun = _begun(project, views)
    chosen, only = _limited(begun.views, entities)
    asked = {
        "views": [version_of(view) for view in chosen],
        "incremental": incremental,
        "entities": None if entities is None else len(entities),
        "restart_clock": restart_clock,
    }
    with project.audit.doing("materialize", asked) as found:
        now = _stamp(project, restart=restart_clock)
        until = now if end is None else micros(end)
        begun = replace(begun, views=chosen, until=until, waiting=end is None, judged=passed)
        done = _fill_all(project, begun, only, incremental=incremental, progress=progress)
        found |= {
            "until": done.until.isoformat(),
            "states": sum(one.entities for one in done.views),
            "events": sum(one.events for one in done.views),
            "live": list(done.live),
        }
    return replace(done, asked=None if end is None else instant(micros(end)))


def _sources(project: Project, views: Sequence[View]) -> list[EventSource]:
    names = {name for view in views for name in view.all_source_names}
    return [project.source(name) for name in sorted(names)]


def _fill_all(
    project: Project,
    begun: _Begun,
    only: Sequence[Any] | None,
    *,
    incremental: bool,
    progress: Progress | None,
) -> Materialization:
    """Fill the views, or with `only` the states of these entities in each of them."""
    chosen, until = begun.views, begun.until
    tell = progress or (lambda view, done, total: None)
    done: list[Materialized] = []
    bad: dict[str, int] = {}
    with ExitStack() as stack:
        stack.enter_context(explaining_disk(project.state_dir))
        held, settled = _held(stack, project, chosen, waiting=begun.waiting)
        until = min(until, settled)
        tombstones = project.registry.tombstones()
        aside = sum(_aside(project, name) for name in held)
        con = stack.enter_context(closing(project.connect()))
        judged = begun.judged
        if judged is not None:
            judged = enforce_again(project, con, _sources(project, chosen), judged)
        logs = {} if only is not None else logs_now(project, con, chosen, until)
        for i, view in enumerate(chosen):
            after = _after(project, logs, view, until) if incremental and logs else NEVER
            if after >= until:
                continue
            mine, some = held[view.source_names[0]], None if only is None else only[i]
            move = partial(tell, view.name)
            how: dict[str, Any] = {"after": after, "until": until, "only": some, "move": move}
            made = _fill(project, mine, con, view, judged=judged, bad=bad, **how)
            done.append(made)
            if only is None:
                _note_filled(project, mine, view, after, until, logs[view.all_source_names])
                project.marks.filled(
                    view,
                    begun.health,
                    begun.at,
                    whole=after == NEVER,
                    until=until,
                    tombstones=tombstones,
                )
    if judged is not None and only is None:
        judged.remember()
    return Materialization(
        instant(until),
        tuple(done),
        tuple(promote(project.online, project.name)),
        stand_at=_stand_at(project, chosen),
        set_aside=aside,
        bad_rows=bad,
    )


def _held(
    stack: ExitStack, project: Project, views: Sequence[View], *, waiting: bool
) -> tuple[dict[str, OnlineStore], int]:
    """The store by the name of each source that the views read, for this run alone, and the arrival
    up to which no push to any of them is under way. What is written of a source that stands in a
    union, or whose rows take features of another, is written while all of these are held."""
    held: dict[str, OnlineStore] = {}
    until = NEVER_VISIBLE
    for names in _together(views):
        store = project.online
        for name in names:
            store = stack.enter_context(alone(store, project.name, name, "materialize"))
            of_source = [view for view in views if name in view.all_source_names]
            until = min(until, _settled(project, name, of_source, waiting=waiting))
        held |= dict.fromkeys(names, store)
    return held, until


def _together(views: Sequence[View]) -> list[list[str]]:
    """The names of the sources, those together that decide the values of one view."""
    groups: list[set[str]] = []
    for view in views:
        mine = set(view.all_source_names)
        mine = mine.union(*(group for group in groups if not mine.isdisjoint(group)))
        groups = [group for group in groups if mine.isdisjoint(group)] + [mine]
    return sorted(map(sorted, groups))


@dataclass(frozen=True, slots=True)
class _Begun:
    """A run as it begins: what the server says of itself, the versions to fill, the instant from
    which damage that is seen is another one, the arrival up to which it is to read, whether it
    waits for pushes that are under way, and the contracts that were judged."""

    health: Health
    views: list[View]
    at: int
    until: int = 0
    waiting: bool = True
    judged: Passed | None = None


def _begun(project: Project, names: Sequence[str] | None) -> _Begun:
    """A run that begins; views that lost something are recorded as damaged."""
    warn_unproven(project.state_dir)
    health, chosen = project.refuse_eviction(), _chosen(project, names)
    project.record_if_behind()
    project.marks.check(chosen)
    return _Begun(health, chosen, project.online.now_us())


def _after(project: Project, logs: Mapping[Names, LogNow], view: View, until: int) -> int:
    """The arrival after which an incremental run up to `until` reads a view's events."""
    whole = view.dedupe_us is not None and any(
        must_be_whole(project.online, project.name, view, name, until) for name in view.source_names
    )
    return NEVER if whole else logs[view.all_source_names].after(view)


def _note_filled(
    project: Project, held: OnlineStore, view: View, after: int, until: int, log: LogNow
) -> None:
    """Record that a view was filled with what arrived in (after, until], by a run that saw so much
    of the log."""
    set_materialized(held, project.name, view, until, log.seen.written)
    if view.dedupe_us is not None and after == NEVER:
        set_whole(held, project.name, view, until)


def _aside(project: Project, source: str) -> int:
    """The rows of a source's log that are set aside: they arrived after the store's clock (S3)."""
    repair = Repair(project.online, project.name, project.tolerance_us)
    return set_ahead_aside(project.source(source), project.state_dir, repair.latest_now)


def _stamp(project: Project, *, restart: bool) -> int:
    """A stamp of the store's clock."""
    now = project.online.stamp(clock_key(project.name), restart=restart)
    if restart:
        step_back(project.online, project.name, now)
    return now


def _stand_at(project: Project, views: Sequence[View]) -> dt.datetime | None:
    """The instant up to which all of the views are materialised; None where one is not."""
    marks = [materialized_until(project.online, project.name, view) for view in views]
    known = [mark for mark in marks if mark is not None]
    return instant(min(known)) if known and len(known) == len(marks) else None


def _fill(
    project: Project,
    online: OnlineStore,
    con: Any,
    view: View,
    *,
    after: int,
    until: int,
    only: Sequence[Sequence[Any]] | None,
    move: Advance,
    judged: Passed | None,
    bad: dict[str, int],
) -> Materialized:
    """Fill a view's states, and count the bad rows of its source. States that hold an arrival after
    the clock are made anew, and damaged values are written again."""
    snapshot = _read(project, con, view, judged)
    bad |= {name: s.about["quarantined"] for name, s in snapshot.each(view.source.name).items()}
    repair, lost = Repair(project.online, project.name, project.tolerance_us), Lost()
    made = materialize_view(
        con,
        online,
        project.name,
        view,
        snapshot.events,
        after=after,
        until=until,
        only=only,
        repair=repair,
        lost=lost,
        progress=move,
    )
    check_unchanged(snapshot.each(view.source.name))
    if repair.keys:
        remake(project, online, con, view, repair)
    if lost.keys:
        _write_again(project, online, con, view, lost)
    left = 0 if only is not None else snapshot.arriving_after(con, until)
    return replace(made, not_arrived=left, repaired=len(repair.keys), damaged=len(lost.keys))


def _read(project: Project, con: Any, view: View, judged: Passed | None) -> Snapshot:
    """The events of a view's sources as they were judged; what was written anew since is judged
    again. SourceError where it does not stay the same for as long as that takes."""
    for _ in range(_READINGS):
        snapshot = project.snapshot(con, view)
        each = snapshot.each(view.source.name)
        known = [(project.source(name), read) for name, read in each.items()]
        others = [] if judged is None else [s for s, read in known if not judged.of(s, read)]
        if judged is None or not others:
            return snapshot
        judged = enforce_again(project, con, others, judged)
    names = ", ".join(source.name for source in others)
    raise SourceError(
        f"the files of {names} were written again at each of {_READINGS} readings; run this again "
        "when whoever writes them is done"
    )


def remake(project: Project, online: OnlineStore, con: Any, view: View, repair: Repair) -> None:
    """Fill the states once more that held an arrival after the clock. A push to such a state was
    lost in it until the run made it anew, and is in the log since."""
    until = _settled_now(project, online, view)
    events, only = project.events(con, view), repair.entities(view)
    again = Repair(online, project.name, project.tolerance_us)
    materialize_view(con, online, project.name, view, events, until=until, only=only, repair=again)


def _settled_now(project: Project, online: OnlineStore, view: View) -> int:
    """An instant by which every push to the view's sources that is under way has ended."""
    since = online.stamp(clock_key(project.name)) - 1
    return wait_until(
        lambda: min(settled_until(online, project.name, name) for name in view.all_source_names),
        holds=lambda until: until >= since,
        within_s=_PATIENCE_S,
        every_s=_POLL_S,
        or_say=lambda _: OnlineError(
            f"a push to source {view.source.title!r} does not end, and states that are written "
            "again may lack its events; run this again when it is over"
        ),
    )


def _write_again(project: Project, online: OnlineStore, con: Any, view: View, lost: Lost) -> None:
    """Write damaged states and memories from everything that the files and the log have.

    No push has reached them since they were found to be damaged. So when all earlier pushes are
    over, the log has every row that was ever in them.
    """
    until = _settled_now(project, online, view)
    entities = None if lost.memories else [_entity_of(view, key) for key in sorted(lost.keys)]
    materialize_view(
        con,
        online,
        project.name,
        view,
        project.events(con, view),
        until=until,
        only=entities,
        repair=Repair(online, project.name, project.tolerance_us),
        lost=Lost(anew=True),
    )


def _entity_of(view: View, key: bytes) -> list[Any]:
    """The values of the join keys in a state's key."""
    return entity_values([p.type for p in view.join_keys], key[key.index(b"{") + 1 : -1])


def _chosen(project: Project, names: Sequence[str] | None) -> list[View]:
    """The versions to fill: all that are fed and can be read, or those of the named views."""
    project.check_owner()
    fed = project.fed()
    if not fed:
        _say_why_nothing_is_fed(project, names)
        return []
    known = {view.name for view in fed}
    for name in names or ():
        _refuse_labels(project, name)
        if name in project.repo.views and name not in known:
            raise RegistryError(
                f"view {name!r} is read by no service that was applied, so it has no states to "
                "fill; add it to a FeatureService, and run `featurekit apply`"
            )
    named = of_names(fed, names)
    chosen = [v for v in named if project.readable(v)]
    if names is not None and (lost := {v.name for v in named} - {v.name for v in chosen}):
        raise RegistryError(
            f"{', '.join(sorted(lost))}: no applied version reads its source as the repo "
            "defines it now; run `featurekit apply` first"
        )
    return chosen


def _refuse_labels(project: Project, name: str) -> None:
    """RegistryError where a view has labels, which are never served (T10)."""
    view = project.repo.compiled_views.get(name)
    if view is not None and view.kind == "label":
        raise RegistryError(
            f"view {name!r} has labels ({', '.join(f.name for f in view.features)}), which look "
            "ahead and are never served, so it has no states to fill; ask for it by "
            f'get_historical_features(…, labels=["{name}"])'
        )


def _say_why_nothing_is_fed(project: Project, names: Sequence[str] | None) -> None:
    """RegistryError where no version of a view is fed, unless services of transforms alone are
    served, which have no states."""
    if not project.repo.services:
        raise RegistryError(
            f"{project.path} defines no FeatureService, and states are filled for the views that "
            "services read; write one, as in FeatureService(…), and run `featurekit apply`"
        )
    if names is not None or not project.live():
        raise RegistryError("nothing was applied to this online store; run `featurekit apply`")


def _limited(
    views: list[View], entities: Sequence[Mapping[str, Any]] | None
) -> tuple[list[View], list[list[tuple[Any, ...]]] | None]:
    """The views that have some of the entities, and for each of them the entities' keys; all of the
    views, and None, without entities."""
    if entities is None:
        return views, None
    asked = [one for one in zip(views, of_entities(views, entities), strict=True) if one[1]]
    return [view for view, _ in asked], [found for _, found in asked]


def _settled(project: Project, source: str, views: Sequence[View], *, waiting: bool) -> int:
    """The arrival up to which no push to the source is under way.

    With `waiting`, and where a view was never materialised, it waits for pushes that began before.
    """
    online = project.online
    first = any(materialized_until(online, project.name, view) is None for view in views)
    if first and waiting:
        return settled_for_first(online, project.name, source)
    return settled_until(online, project.name, source)


def materialize_view(
    con: Any,
    store: OnlineStore,
    project: str,
    view: View,
    events: EventRows,
    *,
    after: int = NEVER,
    until: int,
    only: Sequence[Sequence[Any]] | None = None,
    repair: Repair | None = None,
    lost: Lost | None = None,
    progress: Advance = lambda done, total: None,
) -> Materialized:
    """Write the states of every entity with an arrival in (after, until], and what is remembered of
    their ids (T7).

    With `only`, which has the values of the view's join keys, it writes the states of these
    entities alone, and no memories of ids. With `repair`, what states and memories hold of arrivals
    after the clock is dropped, and these states are noted (S3). `lost` says what to do with damaged
    values; without it the first one is a DamagedState.
    """
    if view.dedupe_us is not None and after != NEVER:
        # A row may end or replace one that arrived up to dedupe_us before it, and none older.
        after = max(after - view.dedupe_us, NEVER + 1)
    arrived = f"(SELECT * FROM {events.relation} WHERE __created <= {until})"
    since = f"__created > {after}" if after != NEVER else "TRUE"
    relation = make_events(con, view, f"(SELECT * FROM {arrived} WHERE {since})")
    counting = make_counted_rows(con, view, arrived)
    made_of = make_events(con, view, f"(SELECT * FROM {counting} WHERE {since})")
    if only is not None:
        relation, made_of = _of_entities(con, view, only, relation, made_of)
    made = view_events(con, view, made_of)
    prefix = state_prefix(project, view)
    # A state that appears from now on is from a later push, and no leftover.
    left = set(_keys(store, view, prefix, only)) if after == NEVER else set()
    counts, groups = _groups(con, view, relation, made)
    done = 0
    run = _Run(store, view, prefix, after, until, repair, lost)
    for group in _written(run, groups, left):
        done += len(group)
        progress(done, counts.entities)
    if not done:
        progress(0, counts.entities)
    _empty(run, sorted(left))
    if view.dedupe_us is not None and only is None:
        remember(
            con,
            store,
            project,
            view,
            arrived,
            counting,
            after=after,
            until=until,
            repair=repair,
            lost=lost,
        )
    return Materialized(view.name, done, counts.events, counts.null_keys, counts.erring)


def _of_entities(con: Any, view: View, only: Sequence[Sequence[Any]], *relations: str) -> list[str]:
    """The rows of these entities in each relation."""
    types = {p.name: p.type for p in view.join_keys}
    listed = temp_table(con, f"__only_{view.name}", types, only)
    asked = f"SEMI JOIN {listed} USING ({', '.join(map(quote, types))})"
    return [f"(SELECT * FROM {relation} {asked})" for relation in relations]


def _groups(
    con: Any, view: View, relation: str, made: ViewEvents
) -> tuple[Counts, Iterator[Group]]:
    """The events by their entities, and how many there are of both."""
    if view.dedupe_us is None:
        return found(con, view, relation, made)
    return count(con, view, relation, made), remembering(con, view, relation, made)


def _keys(
    store: OnlineStore, view: View, prefix: bytes, entities: Sequence[Sequence[Any]] | None
) -> Iterable[bytes]:
    """The keys of the states of `entities`; without them, of all that the store has."""
    if entities is None:
        return store.keys(prefix)
    types = [p.type for p in view.join_keys]
    return [state_key(prefix, entity_key(list(zip(types, e, strict=True)))) for e in entities]


@dataclass(frozen=True, slots=True)
class _Run:
    """Where a run writes, the interval of arrivals that it covers, what it repairs, and what it
    does with damaged states."""

    store: OnlineStore
    view: View
    prefix: bytes
    after: int
    until: int
    repair: Repair | None
    lost: Lost | None

    def update(
        self,
        keys: Sequence[bytes],
        change: Callable[[int, State], None],
        *,
        create: bool = True,
        quick: Callable[[Sequence[bytes | None]], Sequence[bytes | None]] | None = None,
    ) -> None:
        """As `update_states`."""
        lost = None if self.lost is None else self.lost.of_state
        update_states(self.store, self.view, keys, change, create=create, quick=quick, lost=lost)


def _written(run: _Run, groups: Iterator[Group], left: set[bytes]) -> Iterator[Group]:
    """Write the groups, and give back each one when it is written. Their keys are removed from
    `left`, which has the keys that exist.

    While groups are being written the next one is made. Two are written at a time, so that the
    store is busy while the bytes of one are put together.
    """
    with ThreadPoolExecutor(2) as pool:
        under_way: deque[tuple[Group, Future[None]]] = deque()
        for group in groups:
            keys = state_keys(run.prefix, group.keys)
            new = Replacing(run.view, keys, group.events, group.plain, run.after, run.until)
            known = [i for i, key in enumerate(new.names) if key in left] if left else []
            left.difference_update([new.names[i] for i in known])
            # In an incremental run most states exist, and have to be read anyway.
            absent = group.plain & (run.after == NEVER)
            absent[known] = False
            under_way.append((group, pool.submit(_write, run, group, new, absent)))
            if len(under_way) > _AHEAD:
                yield _waited(*under_way.popleft())
        while under_way:
            yield _waited(*under_way.popleft())


def _waited(group: Group, written: Future[None]) -> Group:
    written.result()
    return group


def _write(run: _Run, group: Group, new: Replacing, absent: Any) -> None:
    """Create the states of the entities that are `absent`, unless a push was faster. Read and write
    all others in transactions."""
    others = np.flatnonzero(~absent)
    if absent.any():
        numbers, keys, values = np.arange(len(absent)), new.keys, new.sealed
        if others.size:
            numbers = np.flatnonzero(absent)
            keys, values = keys.take(numbers), values.take(numbers)
        there = numbers[run.store.create(keys, values)]
        others = np.sort(np.concatenate([others, there]))
    for first in range(0, len(others), _CHUNK):
        _replace(run, group, new, others[first : first + _CHUNK])


def _replace(run: _Run, group: Group, new: Replacing, numbers: Any) -> None:
    view, after, until, repair = run.view, run.after, run.until, run.repair
    listed = numbers.tolist()
    keys = some(new.names, numbers)

    def change(i: int, state: State) -> None:
        entity = group.entities[listed[i]]
        if repair is not None and repair.ahead(state.newest_arrival):
            repair.keys.add(keys[i])
            if after != NEVER:
                return  # it is filled from everything afterwards
            state.drop_after(repair.latest)
        _check_memory(view, state, until)
        state.replace(after, until, list(entity.events), first=entity.first, newest=entity.newest)

    run.update(keys, change, quick=partial(new.values, numbers))


def _check_memory(view: View, state: State, until: int) -> None:
    """Refuse rows for a state that has already dropped others without knowing of these (T7)."""
    if view.dedupe_us is not None and state.newest_arrival - view.dedupe_us > until:
        newest = instant(state.newest_arrival).isoformat()
        raise OnlineError(
            f"view {view.name!r}: a state has pushed rows that arrived up to {newest}, more than "
            f"dedupe_within after {instant(until).isoformat()}, and no longer remembers the ids "
            "before them; materialise up to a later instant (a push that died delays it by "
            f"{LEASE_S:.0f} s)"
        )


def _empty(run: _Run, keys: list[bytes]) -> None:
    """Drop what states know of the time up to `until`, for entities that have left the files and
    the log."""
    repair = run.repair

    def change(i: int, state: State) -> None:
        if repair is not None and repair.ahead(state.newest_arrival):
            repair.keys.add(chunk[i])
            state.drop_after(repair.latest)
        state.replace(NEVER, run.until, [], first=NEVER_VISIBLE, newest=NEVER)

    for first in range(0, len(keys), _CHUNK):
        chunk = keys[first : first + _CHUNK]
        run.update(chunk, change, create=False)
