"""Turns the events of sources into the online states of views: a backfill, whole or incremental.

A run covers an interval of arrivals, (after, until]. What the states knew of this interval is
replaced by what the files and the log have of it. So a run may be repeated, or die half way and be
run again, and it keeps the pushes that arrive meanwhile.
"""

from __future__ import annotations

import datetime as dt
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from featurekit.core.keys import entity_key, entity_values, project_key, state_key, state_prefix
from featurekit.core.screen import Advance, Progress
from featurekit.core.sql import quote
from featurekit.core.status import NEVER, NEVER_VISIBLE
from featurekit.core.tables import temp_table
from featurekit.core.types import instant, micros
from featurekit.core.waiting import until as wait_until
from featurekit.define.plan import View
from featurekit.define.proven import warn_unproven
from featurekit.errors import OnlineError, RegistryError
from featurekit.feed.entity_events import Group, count, found, remembering
from featurekit.feed.remember import Lost, remember
from featurekit.feed.selection import of_entities, of_names
from featurekit.offline.counted_events import make_counted_rows
from featurekit.offline.events import EventRows
from featurekit.offline.view_events import view_events
from featurekit.online.state.blocks import is_head
from featurekit.online.state.encode_many import sealed_values, state_keys
from featurekit.online.state.state import State, newest_arrival
from featurekit.online.state.update import update_states
from featurekit.online.store.protocol import OnlineStore
from featurekit.project.deployment import (
    locked,
    materialized_until,
    promote,
    set_materialized,
    settled_for_first,
)
from featurekit.project.project import Project

_CHUNK = 500
_POLL_S, _PATIENCE_S = 0.05, 60.0
_AHEAD = 2
"""The number of groups that may wait to be written."""


@dataclass(frozen=True, slots=True)
class Materialized:
    """What a run did to one view: the states it wrote, the `events` it read in the interval, how
    many of these had no entity (`null_keys`, S2), how many an erring slot (`erring`, R3), and how
    many values in the store were `damaged` and were written again from everything."""

    view: str
    entities: int
    events: int
    null_keys: int
    erring: int
    damaged: int = 0


@dataclass(frozen=True, slots=True)
class Materialization:
    """What `materialize` did: each view's numbers, the instant, and the services that went live."""

    until: dt.datetime
    views: tuple[Materialized, ...]
    live: tuple[str, ...]


def materialize(
    project: Project,
    end: dt.datetime | None,
    *,
    incremental: bool = False,
    views: Sequence[str] | None = None,
    entities: Sequence[Mapping[str, Any]] | None = None,
    progress: Progress | None = None,
) -> Materialization:
    """Fill the states of every applied view with all that arrived up to `end`, now by default.

    `views` names the views to fill. With `incremental`, only what arrived since the last time is
    read. With `entities`, only the states of these are filled, and no view counts as filled by it.
    Services whose views are all filled go live.

    RegistryError for a view that was not applied, EntityFrameError for keys that no view has,
    EvictingStore where Redis may remove states.
    """
    warn_unproven(project.state_dir)
    online = project.online
    health, chosen = project.refuse_eviction(), _chosen(project, views)
    project.marks.check(chosen)
    began = online.now_us()
    only: list[list[tuple[Any, ...]]] | None = None
    if entities is not None:
        asked = [one for one in zip(chosen, of_entities(chosen, entities), strict=True) if one[1]]
        chosen, only = [view for view, _ in asked], [found for _, found in asked]
    until = online.now_us() if end is None else micros(end)
    tell = progress or (lambda view, done, total: None)
    done: list[Materialized] = []
    with ExitStack() as stack:
        for name in sorted({v.source.name for v in chosen}):
            stack.enter_context(locked(online, project.name, name))
            of_source = [v for v in chosen if v.source.name == name]
            until = min(until, _settled(project, name, of_source, waiting=end is None))
        con = stack.enter_context(closing(project.connect()))
        for i, view in enumerate(chosen):
            known = materialized_until(online, project.name, view)
            after = known if incremental and view.arrival_known and known is not None else NEVER
            if after >= until:
                continue
            of_view = None if only is None else only[i]
            done.append(
                _filled(project, con, view, after, until, of_view, partial(tell, view.name))
            )
            if only is None:
                set_materialized(online, project.name, view, until)
                project.marks.filled(view, health, began, whole=after == NEVER)
    return Materialization(instant(until), tuple(done), tuple(promote(online, project.name)))


def _chosen(project: Project, names: Sequence[str] | None) -> list[View]:
    """The versions to fill: all that are fed and can be read, or those of the named views."""
    fed = project.fed()
    if not fed:
        raise RegistryError("nothing was applied to this online store; run `featurekit apply`")
    named = of_names(fed, names)
    chosen = [v for v in named if project.readable(v)]
    if names is not None and (lost := {v.name for v in named} - {v.name for v in chosen}):
        raise RegistryError(
            f"{', '.join(sorted(lost))}: no applied version reads its source as the repo "
            "defines it now; run `featurekit apply` first"
        )
    return chosen


def _filled(
    project: Project,
    con: Any,
    view: View,
    after: int,
    until: int,
    only: Sequence[Sequence[Any]] | None,
    progress: Advance,
) -> Materialized:
    """Fill a view as `materialize_view` does, and write damaged values again."""
    lost = Lost()
    done = materialize_view(
        con,
        project.online,
        project.name,
        view,
        project.events(con, view),
        after=after,
        until=until,
        only=only,
        lost=lost,
        progress=progress,
    )
    if lost.keys:
        _write_again(project, con, view, lost)
    return replace(done, damaged=len(lost.keys))


def _write_again(project: Project, con: Any, view: View, lost: Lost) -> None:
    """Write damaged states and memories from everything that the files and the log have.

    No push has reached them since they were found to be damaged. So when all earlier pushes are
    over, the log has every row that was ever in them.
    """
    pushes = project_key(project.name, "pushes", view.source.name)
    now = project.online.now_us()
    settled = wait_until(
        lambda: project.online.settled_until(pushes),
        holds=lambda settled: settled >= now,
        within_s=_PATIENCE_S,
        every_s=_POLL_S,
        or_say=lambda _: OnlineError(
            f"view {view.name!r}: {len(lost.keys)} damaged states wait for a push to source "
            f"{view.source.name!r} that is under way; run this again when it is over (a dead push "
            "is given up after ten minutes)"
        ),
    )
    entities = None if lost.memories else [_entity_of(view, key) for key in sorted(lost.keys)]
    materialize_view(
        con,
        project.online,
        project.name,
        view,
        project.events(con, view),
        until=settled,
        only=entities,
        lost=Lost(anew=True),
    )


def _entity_of(view: View, key: bytes) -> list[Any]:
    """The values of the join keys in a state's key."""
    return entity_values([p.type for p in view.join_keys], key[key.index(b"{") + 1 : -1])


def _settled(project: Project, source: str, views: Sequence[View], *, waiting: bool) -> int:
    """The arrival up to which no push to the source is under way.

    With `waiting`, and where a view was never materialised, it waits for pushes that began before.
    """
    online = project.online
    first = any(materialized_until(online, project.name, view) is None for view in views)
    if first and waiting:
        return settled_for_first(online, project.name, source)
    return online.settled_until(project_key(project.name, "pushes", source))


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
    lost: Lost | None = None,
    progress: Advance = lambda done, total: None,
) -> Materialized:
    """Write the states of every entity with an arrival in (after, until], and what is remembered of
    their ids (T7).

    With `only`, which has the values of the view's join keys, it writes the states of these
    entities alone, and no memories of ids. `lost` says what to do with damaged values; without it
    the first one is a DamagedState.
    """
    if view.dedupe_us is not None and after != NEVER:
        # A row may end or replace one that arrived up to dedupe_us before it, and none older.
        after = max(after - view.dedupe_us, NEVER + 1)
    arrived = f"(SELECT * FROM {events.relation} WHERE __created <= {until})"
    since = f"__created > {after}" if after != NEVER else "TRUE"
    relation = f"(SELECT * FROM {arrived} WHERE {since})"
    counting = make_counted_rows(con, view, arrived)
    made_of = f"(SELECT * FROM {counting} WHERE {since})"
    if only is not None:
        types = {p.name: p.type for p in view.join_keys}
        listed = temp_table(con, f"__only_{view.name}", types, only)
        asked = f"SEMI JOIN {listed} USING ({', '.join(map(quote, types))})"
        relation, made_of = (f"(SELECT * FROM {r} {asked})" for r in (relation, made_of))
    made = view_events(con, view, made_of)
    prefix = state_prefix(project, view)
    # A state that appears from now on is from a later push, and no leftover.
    left: set[bytes] = set()
    if after == NEVER:
        left = set(store.keys(prefix) if only is None else _keys(view, prefix, only))
    if view.dedupe_us is None:
        counts, groups = found(con, view, relation, made)
    else:
        counts = count(con, view, relation, made)
        groups = remembering(con, view, relation, made)
    done = 0
    run = _Run(store, view, prefix, after, until, lost)
    for group in _written(run, groups, left):
        done += len(group)
        progress(done, counts.entities)
    if not done:
        progress(0, counts.entities)
    _empty(run, sorted(left))
    if view.dedupe_us is not None and only is None:
        remember(con, store, project, view, arrived, counting, after=after, until=until, lost=lost)
    return Materialized(view.name, done, counts.events, counts.null_keys, counts.erring)


def _keys(view: View, prefix: bytes, entities: Sequence[Sequence[Any]]) -> list[bytes]:
    """The keys of the states of `entities`."""
    types = [p.type for p in view.join_keys]
    return [state_key(prefix, entity_key(list(zip(types, e, strict=True)))) for e in entities]


@dataclass(frozen=True, slots=True)
class _Run:
    """Where a run writes, the interval of arrivals that it covers, and what it does with damaged
    states."""

    store: OnlineStore
    view: View
    prefix: bytes
    after: int
    until: int
    lost: Lost | None

    def update(
        self,
        keys: Sequence[bytes],
        change: Callable[[int, State], None],
        *,
        create: bool = True,
        whole: Callable[[int, bytes | None], bytes | None] = lambda i, blob: None,
    ) -> None:
        """As `update_states`."""
        lost = None if self.lost is None else self.lost.of_state
        update_states(self.store, self.view, keys, change, create=create, whole=whole, lost=lost)


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
            known = [i for i, key in enumerate(keys.to_pylist()) if key in left] if left else []
            left.difference_update(keys[i].as_py() for i in known)
            # In an incremental run most states exist, and have to be read anyway.
            absent = group.plain & (run.after == NEVER)
            absent[known] = False
            made = group.states if group.plain.any() else None
            under_way.append((group, pool.submit(_write, run, group, keys, made, absent)))
            if len(under_way) > _AHEAD:
                yield _waited(*under_way.popleft())
        while under_way:
            yield _waited(*under_way.popleft())


def _waited(group: Group, written: Future[None]) -> Group:
    written.result()
    return group


def _write(run: _Run, group: Group, keys: Any, made: Any, absent: Any) -> None:
    """Create the states of the entities that are `absent`, unless a push was faster. Read and write
    all others in transactions."""
    others = np.flatnonzero(~absent)
    if absent.any():
        numbers, keys_of, made_of = np.arange(len(keys)), keys, made
        if others.size:
            numbers = np.flatnonzero(absent)
            keys_of, made_of = keys.take(numbers), made.take(numbers)
        there = numbers[run.store.create(keys_of, sealed_values(keys_of, made_of))]
        others = np.sort(np.concatenate([others, there]))
    for first in range(0, len(others), _CHUNK):
        _replace(run, group, keys, made, others[first : first + _CHUNK].tolist())


def _replace(run: _Run, group: Group, keys: Any, made: Any, numbers: list[int]) -> None:
    view, after, until = run.view, run.after, run.until

    def whole(i: int, blob: bytes | None) -> bytes | None:
        """The bytes from the run, for an entity of which nothing else is known and no later
        arrival."""
        if not group.plain[numbers[i]]:
            return None
        known = blob is not None and (after != NEVER or is_head(blob))
        if known or (blob is not None and newest_arrival(blob) > until):
            return None
        value: bytes = made[numbers[i]].as_py()
        return value

    def change(i: int, state: State) -> None:
        entity = group.entities[numbers[i]]
        _check_memory(view, state, until)
        state.replace(after, until, list(entity.events), first=entity.first, newest=entity.newest)

    run.update([keys[i].as_py() for i in numbers], change, whole=whole)


def _check_memory(view: View, state: State, until: int) -> None:
    """Refuse rows for a state that has already dropped others without knowing of these (T7)."""
    if view.dedupe_us is not None and state.newest_arrival - view.dedupe_us > until:
        newest = instant(state.newest_arrival).isoformat()
        raise OnlineError(
            f"view {view.name!r}: a state has pushed rows that arrived up to {newest}, more than "
            f"dedupe_within after {instant(until).isoformat()}, and no longer remembers the ids "
            "before them; materialise up to a later instant (a push that died delays it by ten "
            "minutes)"
        )


def _empty(run: _Run, keys: list[bytes]) -> None:
    """Drop what states know of the time up to `until`, for entities that have left the files and
    the log."""

    def change(_: int, state: State) -> None:
        state.replace(NEVER, run.until, [], first=NEVER_VISIBLE, newest=NEVER)

    for first in range(0, len(keys), _CHUNK):
        run.update(keys[first : first + _CHUNK], change, create=False)
