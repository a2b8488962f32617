"""Adds the events of a relation to the online states of a view of latest rows.

What the states hold already stays, and finds its place among the events by T6 (A2). So a run may be
repeated, and runs may overlap. It is for events that no log of ours has: a materialisation replaces
what it covers, and this does not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from featurekit.core.keys import state_prefix
from featurekit.core.screen import Advance
from featurekit.define.plan import View
from featurekit.feed.entity_events import Counts, Group, found
from featurekit.offline.view_events import view_events
from featurekit.online.state.add_many import Adding
from featurekit.online.state.encode_many import state_keys
from featurekit.online.state.replace_many import some
from featurekit.online.state.state import Event, State
from featurekit.online.state.update import update_states
from featurekit.online.store.protocol import OnlineStore

_CHUNK = 250
_AHEAD = 2
"""The number of groups that may wait to be written."""


def add_relation(
    con: Any,
    store: OnlineStore,
    project: str,
    view: View,
    relation: str,
    *,
    progress: Advance = lambda done, total: None,
) -> Counts:
    """Add the events of `relation` to the states of their entities; a row without a key is counted
    and belongs to none (S2). `relation` has the columns of the view's source, __ts and __created.
    """
    made = view_events(con, view, relation)
    counts, groups = found(con, view, relation, made)
    done = 0
    for group in _written(store, view, state_prefix(project, view), groups):
        done += len(group)
        progress(done, counts.entities)
    return counts


def add_events(state: State, events: list[Event]) -> None:
    """Add events to a state. Those of one instant get one arrival, so that T6 goes on to what the
    rows themselves say: one may have been written before its instant, and another after it."""
    arrivals = {ts: created for ts, created, _ in state.events}
    state.add([(ts, arrivals.setdefault(ts, created), slots) for ts, created, slots in events])


def _written(
    store: OnlineStore, view: View, prefix: bytes, groups: Iterator[Group]
) -> Iterator[Group]:
    """Write the groups, and give back each one when it is written; the next one is made meanwhile,
    and two are written at a time."""
    with ThreadPoolExecutor(2) as pool:
        under_way: deque[tuple[Group, Future[None]]] = deque()
        for group in groups:
            new = Adding(view, state_keys(prefix, group.keys), group.events, group.plain)
            under_way.append((group, pool.submit(_write, store, view, group, new)))
            if len(under_way) > _AHEAD:
                yield _waited(*under_way.popleft())
        while under_way:
            yield _waited(*under_way.popleft())


def _waited(group: Group, written: Future[None]) -> Group:
    written.result()
    return group


def _write(store: OnlineStore, view: View, group: Group, new: Adding) -> None:
    """Create the states that are absent; read and write all others in transactions."""
    plain = np.flatnonzero(group.plain)
    others = np.flatnonzero(~group.plain)
    if len(plain):
        keys, values = new.keys, new.sealed
        if len(others):
            keys, values = keys.take(plain), values.take(plain)
        others = np.sort(np.concatenate([others, plain[store.create(keys, values)]]))
    for first in range(0, len(others), _CHUNK):
        numbers = others[first : first + _CHUNK].astype(np.int64)
        listed = numbers.tolist()

        def change(i: int, state: State, listed: list[int] = listed) -> None:
            add_events(state, list(group.entities[listed[i]].events))

        keys = some(new.names, numbers)
        update_states(store, view, keys, change, quick=partial(new.values, numbers))
