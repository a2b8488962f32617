"""Turns the rows of a push into the events of each view's entities."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import Any

from featurekit.core.attributes import Named
from featurekit.core.kept import Kept
from featurekit.core.keys import (
    floor_key,
    ids_prefix,
    joined_key,
    key_encoder,
    state_key,
    state_prefix,
)
from featurekit.core.values import ERROR
from featurekit.define.plan import View
from featurekit.define.published import broken
from featurekit.language.to_python import to_python
from featurekit.online.state.ids import Ids, Row
from featurekit.online.state.state import Event

_NO_EVENT: Event = (0, 0, ())


@dataclass(frozen=True, slots=True)
class Pushed(Named):
    """What a push did.

    `rows` were taken, and the states of `entities` entities changed. `null_keys` rows have no
    entity in some view (S2), and `erring` have an erring slot (R3). `quarantined` rows were set
    aside (S1), and `forgotten` were left out, since their entity was forgotten after they arrived.
    `damaged` names views of which Redis has lost states: lookups refuse these until they are filled
    again, which takes the rows from the log.
    """

    rows: int
    entities: int
    null_keys: int
    erring: int
    quarantined: int = 0
    forgotten: int = 0
    damaged: tuple[str, ...] = ()


class ViewWriter:
    """A view, made ready to take events."""

    def __init__(self, project: str, view: View) -> None:
        self.view = view
        self.prefix = state_prefix(project, view)
        self.keys = [(key_encoder(p.type), p.name) for p in view.join_keys]
        self.slots = [_slot_function(slot) for slot in view.slots]
        columns = [slot.column for slot in view.slots if slot.transform is None]
        whole = len(columns) == len(view.slots) > 1
        self.columns: Any = itemgetter(*columns) if whole else None
        self.ids = None if view.dedupe_us is None else Ids(view)
        self.ids_prefix = ids_prefix(project, view)
        self.floor_key = floor_key(project, view)

    def key(self, row: Mapping[str, Any]) -> bytes | None:
        """The key of the state of the row's entity; None for a row without an entity."""
        parts = []
        for encode, name in self.keys:
            value = row[name]
            if value is None:
                return None
            parts.append(encode(value))
        return state_key(self.prefix, joined_key(parts))

    def event(self, row: Mapping[str, Any]) -> Event:
        """The row as an event of the view's states, without the end that a source with an `op`
        gives it."""
        if self.columns is not None:
            return row["__ts"], row["__created"], self.columns(row)
        try:
            values = tuple([slot(row) for slot in self.slots])
        except Exception as error:
            raise broken(f"view {self.view.name!r}", error) from error
        return row["__ts"], row["__created"], values

    def ending(self, event: Event, end: int) -> Event:
        """The event with its end, the instant from which it no longer counts, where the view keeps
        ends."""
        if self.view.source.op is None:
            return event
        return event[0], event[1], (*event[2], end)


@functools.cache
def _writers(project: str) -> Kept[View, ViewWriter]:
    return Kept(partial(ViewWriter, project))


def writer_of(project: str, view: View) -> ViewWriter:
    """The view's writer. It is made once, since its transforms are compiled."""
    return _writers(project)(view)


def _slot_function(slot: Any) -> Callable[[Mapping[str, Any]], Any]:
    if slot.transform is None:
        column = slot.column
        return lambda row: row[column]
    function = to_python(slot.transform)
    names = [p.name for p in slot.transform.params]
    return lambda row: function(*[row[n] for n in names])


class RowEvents:
    """The entity and the event of each row, computed once."""

    def __init__(self, writer: ViewWriter) -> None:
        self.writer = writer
        self.made: dict[int, tuple[Row, bytes | None, Event]] = {}

    def __call__(self, row: Row) -> tuple[bytes | None, Event]:
        found = self.made.get(id(row))  # `made` holds the row, so its id is not used again
        if found is None:
            key = self.writer.key(row)
            event = _NO_EVENT if key is None else self.writer.event(row)
            found = self.made[id(row)] = row, key, event
        return found[1], found[2]

    def entities(self, rows: Iterable[Row]) -> set[bytes]:
        """The keys of the states of the rows' entities."""
        return {key for row in rows if (key := self(row)[0]) is not None}


@dataclass(frozen=True, slots=True)
class Prepared:
    """The rows of a push as events of each view's entities. Nothing is written yet."""

    events: list[tuple[View, dict[bytes, list[Event]]]]
    done: Pushed
    rows: list[tuple[ViewWriter, dict[bytes, list[Row]]]] = field(default_factory=list)
    """For views whose source has an `event_id`: the rows of each id (T7)."""
    made: list[RowEvents] = field(default_factory=list)
    """For each entry of `rows`, the events that its rows have become."""


def prepare(project: str, views: Iterable[View], rows: Sequence[Mapping[str, Any]]) -> Prepared:
    """The events of `rows` for each of `views`. A row has a source's columns, and `__ts` and
    `__created` in microseconds UTC."""
    null_keys = erring = entities = 0
    found: list[tuple[View, dict[bytes, list[Event]]]] = []
    by_id: list[tuple[ViewWriter, dict[bytes, list[Row]]]] = []
    made: list[RowEvents] = []
    for view in views:
        writer = writer_of(project, view)
        events = RowEvents(writer)
        grouped: dict[bytes, list[Event]] = {}
        of_ids: dict[bytes, list[Row]] = {}
        for row in rows:
            if writer.ids is not None:
                of_ids.setdefault(writer.ids_prefix + writer.ids.name(row), []).append(row)
            key, event = events(row)
            if key is None:
                null_keys += 1
                continue
            erring += ERROR in event[2]
            grouped.setdefault(key, []).append(event)
        entities += len(grouped)
        if writer.ids is None:
            found.append((view, grouped))
        else:
            by_id.append((writer, of_ids))
            made.append(events)
    return Prepared(found, Pushed(len(rows), entities, null_keys, erring), by_id, made)
