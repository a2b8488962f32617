"""Turns pushed rows of a source into rows that have taken features of other views (T11).

`offline/enriched.py` does the same to relations. A row takes from the rows of the other view that
had happened by its own instant and had arrived by its own arrival the last one by T6. Mostly the
state of the other view's entity has that row. A state lets go of rows that count at no instant from
its horizon on (T8), and a row is known by two instants: where one that was let go of might be the
right one, all rows of the entity are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from featurekit.core.keys import entity_key
from featurekit.core.status import FOREVER
from featurekit.core.values import ERROR
from featurekit.define.plan import Join, Part, Source, View
from featurekit.define.union import number_of
from featurekit.errors import DamagedState
from featurekit.feed.events import ViewWriter, writer_of
from featurekit.online.state.blocks import Moved, Patience, open_state
from featurekit.online.state.ids import Row
from featurekit.online.state.seal import UNREADABLE, opened_state
from featurekit.online.state.state import Event, State, event_order, visible_from
from featurekit.online.store.protocol import OnlineStore

Entity = tuple[Any, ...]
"""The values of a view's join keys, in their order."""
AskLog = Callable[[View, Sequence[Entity]], Mapping[bytes, Sequence[Event]]]
"""Gives all events that count of some entities of a view, by `entity_key`, those that have arrived
later among them. It raises where nobody has them all."""


class Enricher:
    """What gives rows the features that they take, from a project's states in a store.

    `complete` says whether the states of a view have everything that arrived before the rows; where
    they may not, and where a state does not do, `ask_log` is asked. Where that lacks an event that
    a state has, `lacks` gives the error.
    """

    def __init__(
        self,
        store: OnlineStore,
        project: str,
        ask_log: AskLog,
        *,
        complete: Callable[[View], bool] = lambda view: True,
        lacks: Callable[[View, Entity], Exception] = lambda view, entity: LookupError(entity),
    ) -> None:
        self.store, self.project = store, project
        self.ask_log, self.complete, self.lacks = ask_log, complete, lacks

    def __call__(self, source: Source, name: str, rows: Sequence[Row]) -> Sequence[Row]:
        """The rows of the source `name`, as they stand in a union, with the columns that they take;
        the rows themselves where they take none."""
        if not source.joins:
            return rows
        assert source.parts is not None
        return self.enriched(source.parts[number_of(source, name)], rows)

    def enriched(self, part: Part, rows: Sequence[Row]) -> Sequence[Row]:
        """As a call, for the rows of a part."""
        if not part.joins:
            return rows
        made = [dict(row) for row in rows]
        for join in part.joins:
            self._take(join, made)
        return made

    def _take(self, join: Join, rows: Sequence[dict[str, Any]]) -> None:
        """Give rows what they take by one join."""
        found: list[Event | None] = [None] * len(rows)
        of_entities: dict[Entity, list[int]] = {}
        for i, row in enumerate(rows):
            entity = tuple(row[column] for column in join.keys)
            if None not in entity:
                of_entities.setdefault(entity, []).append(i)
        view, left = join.view, dict[Entity, State | None]()
        if of_entities:
            left = self._of_states(view, rows, of_entities, found)
        told = self.ask_log(view, list(left)) if left else {}
        for entity, state in left.items():
            events = _in_order(view, told.get(_name(view, entity), ()))
            if state is not None and _lacks(view, events, state):
                raise self.lacks(view, entity)
            for i in of_entities[entity]:
                found[i] = last_known(view, events, rows[i])
        for row, event in zip(rows, found, strict=True):
            row.update(_taken(join, row, event))

    def _of_states(
        self,
        view: View,
        rows: Sequence[Row],
        of_entities: Mapping[Entity, Sequence[int]],
        found: list[Event | None],
    ) -> dict[Entity, State | None]:
        """Put what the states tell into `found`; the entities of which they do not do, with their
        states, where these can be read."""
        writer, complete = writer_of(self.project, view), self.complete(view)
        keys = {e: writer.before_entity + _name(view, e) + b"}" for e in of_entities}
        values = self.store.read(list(keys.values()))
        left: dict[Entity, State | None] = {}
        for (entity, key), value in zip(keys.items(), values, strict=True):
            state = self._state(writer, key, value)
            told = [
                told_by(state, rows[i]) if complete and state is not None else None
                for i in of_entities[entity]
            ]
            if None in told:
                left[entity] = state
                continue
            for i, one in zip(of_entities[entity], told, strict=True):
                found[i] = one[0] if one is not None else None
        return left

    def _state(self, writer: ViewWriter, key: bytes, value: bytes | None) -> State | None:
        """The state under a key; None where it cannot be read."""
        patience = Patience()
        while True:
            try:
                return open_state(
                    writer.view, key, opened_state(writer.view, key, value), self.store.read
                )
            except Moved as moved:
                try:
                    patience.spend(moved)
                except DamagedState:
                    return None
                (value,) = self.store.read([key])
            except (DamagedState, *UNREADABLE):
                return None


def places_of_sources(views: Iterable[View]) -> dict[str, int]:
    """For each source of the views a number that is above those of the sources from which its rows
    take something: rows that arrive at one instant are pushed in this order."""
    needs: dict[str, set[str]] = {}
    for view in views:
        for name in view.source_names:
            others = set(view.all_source_names) - {*view.source_names}
            needs.setdefault(name, set()).update(others)

    def place(name: str, above: tuple[str, ...] = ()) -> int:
        # Two sources may take from one another, by different views.
        others = (n for n in needs.get(name, ()) if n not in above)
        return 1 + max((place(n, (*above, name)) for n in others), default=-1)

    return {name: place(name) for name in needs}


def _name(view: View, entity: Entity) -> bytes:
    types = (p.type for p in view.join_keys)
    return entity_key(list(zip(types, entity, strict=True)))


def _in_order(view: View, events: Sequence[Event]) -> list[Event]:
    return sorted(events, key=event_order(view))


def _lacks(view: View, events: Sequence[Event], state: State) -> bool:
    """Whether a state has an event that is none of these, whatever its end."""
    order = event_order(view)
    known: dict[tuple[int, int], list[Any]] = {}
    for event in events:
        known.setdefault((event[0], event[1]), []).append(order(event))
    return any(order(e) not in known.get((e[0], e[1]), ()) for e in state.events)


def _end(view: View, event: Event) -> int:
    """The instant from which the event no longer counts."""
    return FOREVER if view.source.op is None else int(event[2][-1])


def _is_known(view: View, event: Event, row: Row) -> bool:
    """Whether an event had happened by the row's instant, and had arrived and was not over by its
    arrival."""
    ts, created = row["__ts"], row["__created"]
    return bool(event[0] <= ts and event[1] <= created < _end(view, event))


def last_known(view: View, events: Sequence[Event], row: Row) -> Event | None:
    """The last of all of an entity's events, in the order of T6, that was known for a row."""
    return next((e for e in reversed(events) if _is_known(view, e, row)), None)


def told_by(state: State, row: Row) -> tuple[Event | None] | None:
    """The event of a state that was known last for a row, in a tuple, which has None where none
    was; None where the state may have let go of a later one.

    A state lets go of an event where a later one by T6, which still is in it or was let go of for
    another such, was visible by the horizon, or as soon as the event was. So if what was let go of
    was known for the row, a later event is left that was not known, and that was visible by the
    horizon or by the later of the row's two instants.
    """
    view, horizon = state.view, state.horizon
    if view.source.op is not None and row["__created"] < horizon:
        return None  # what was over by the horizon is gone, and may have counted then
    by = max(horizon, row["__ts"], row["__created"])
    for event in reversed(state.events):
        if _is_known(view, event, row):
            return (event,)
        if _end(view, event) == FOREVER and visible_from(event) <= by:
            return None
    return (None,)


def _taken(join: Join, row: Row, event: Event | None) -> dict[str, Any]:
    """The columns that a row takes of an event, None outside the other view's ttl (T4)."""
    view = join.view
    if event is not None and view.ttl_us is not None and event[0] <= row["__ts"] - view.ttl_us:
        event = None
    made: dict[str, Any] = {}
    for index, name in zip(join.takes, join.names, strict=True):
        slot = view.features[index].slot
        assert slot is not None
        value = None if event is None else event[2][slot]
        made[name] = None if value is ERROR else value
    return made
