"""Turns the rows of a push into changes of online states, one event at a time or many."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from featurekit.compiled import View
from featurekit.online.codec import entity_key
from featurekit.online.state import Event, State, decode_state
from featurekit.online.store import OnlineStore
from featurekit.serve import state_key, state_prefix
from featurekit.to_python import ERROR, to_python

_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push did: rows taken, entities whose states changed, rows without an entity in some
    view (S2), rows with an erring slot (R3), rows set aside (S1), rows left out since their entity
    was forgotten after they arrived."""

    rows: int
    entities: int
    null_keys: int
    erring: int
    quarantined: int = 0
    forgotten: int = 0


class ViewWriter:
    """A view, made ready to take events."""

    def __init__(self, project: str, view: View) -> None:
        self.view = view
        self.prefix = state_prefix(project, view)
        self.keys = [(p.type, p.name) for p in view.join_keys]
        self.slots = [_slot_function(slot) for slot in view.slots]

    def key(self, row: Mapping[str, Any]) -> bytes | None:
        """The key of the row's entity; None for a row that belongs to none."""
        values = [(type_, row[name]) for type_, name in self.keys]
        if any(value is None for _, value in values):
            return None
        return state_key(self.prefix, entity_key(values))

    def event(self, row: Mapping[str, Any]) -> Event:
        """The row as the view's states keep it."""
        return row["__ts"], row["__created"], tuple(slot(row) for slot in self.slots)


def _slot_function(slot: Any) -> Callable[[Mapping[str, Any]], Any]:
    if slot.transform is None:
        column = slot.column
        return lambda row: row[column]
    function = to_python(slot.transform)
    names = [p.name for p in slot.transform.params]
    return lambda row: function(*[row[n] for n in names])


@dataclass(frozen=True, slots=True)
class Prepared:
    """The rows of a push as events of each view's entities: nothing is written yet."""

    events: list[tuple[View, dict[bytes, list[Event]]]]
    done: Pushed


def prepare(project: str, views: Iterable[View], rows: Sequence[Mapping[str, Any]]) -> Prepared:
    """The events that `rows` (a source's columns, `__ts`, `__created`) are to each of `views`."""
    null_keys = erring = 0
    found = []
    for view in views:
        writer = ViewWriter(project, view)
        grouped: dict[bytes, list[Event]] = {}
        for row in rows:
            key = writer.key(row)
            if key is None:
                null_keys += 1
                continue
            event = writer.event(row)
            erring += any(value is ERROR for value in event[2])
            grouped.setdefault(key, []).append(event)
        found.append((view, grouped))
    entities = sum(len(grouped) for _, grouped in found)
    return Prepared(found, Pushed(len(rows), entities, null_keys, erring))


def write(store: OnlineStore, prepared: Prepared) -> Pushed:
    """Add the events to the states, each entity's at once and a small push's all at once (A2)."""
    changes = [
        (view, key, events) for view, grouped in prepared.events for key, events in grouped.items()
    ]
    for first in range(0, len(changes), _CHUNK):
        _add(store, changes[first : first + _CHUNK])
    return prepared.done


def _add(store: OnlineStore, chunk: list[tuple[View, bytes, list[Event]]]) -> None:
    def change(blobs: list[bytes | None]) -> list[bytes | None]:
        out: list[bytes | None] = []
        for (view, _, events), blob in zip(chunk, blobs, strict=True):
            state = State(view) if blob is None else decode_state(view, blob)
            state.add(events)
            out.append(state.encode())
        return out

    store.update([key for _, key, _ in chunk], change)
