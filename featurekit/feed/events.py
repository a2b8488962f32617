"""Turns the rows of a push into the events of each view's entities."""

from __future__ import annotations

import datetime as dt
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
from featurekit.define.explode import exploded_rows
from featurekit.define.plan import Source, View
from featurekit.define.published import broken
from featurekit.define.union import united_rows
from featurekit.language.to_python import to_python
from featurekit.online.state.ids import Ids, Row
from featurekit.online.state.seal import marked
from featurekit.online.state.state import Event

_NO_EVENT: Event = (0, 0, ())
Enrich = Callable[[Source, str, Sequence[Row]], Sequence[Row]]
"""Gives the rows of one of the sources of a view what they take from other views (T11)."""


def nothing_taken(source: Source, name: str, rows: Sequence[Row]) -> Sequence[Row]:
    """As `Enrich`, of rows that take nothing."""
    assert not source.joins
    return rows


@dataclass(frozen=True, slots=True)
class Pushed(Named):
    """What a push did.

    `rows` were taken, and the states of `entities` entities changed. `null_keys` rows have no
    entity in some view (S2), and `erring` have an erring slot (R3). `quarantined` rows were set
    aside (S1), and `forgotten` were left out, since their entity was forgotten after they arrived.
    `repeated` rows are the same, value for value, as ones in force, and changed nothing (T7).
    `arrived` is the instant at which the rows arrived that have no arrival of their own (T3), and
    `newest` that of the latest event.
    `broken` has the number of rows that break each rule of the source's contract, by the rule's
    name: of those set aside, and of those that were taken (S5).
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
    repeated: int = 0
    arrived: dt.datetime | None = field(default=None, compare=False)
    newest: dt.datetime | None = field(default=None, compare=False)
    broken: Mapping[str, int] = field(default_factory=dict)


class ViewWriter:
    """A view, made ready to take events."""

    def __init__(self, project: str, view: View) -> None:
        self.view = view
        self.prefix = state_prefix(project, view)
        self.keys = [(key_encoder(p.type), p.name) for p in view.join_keys]
        self.joins = tuple((p.name, p.type.name) for p in view.join_keys)
        self.before_entity = state_key(self.prefix, b"")[:-1]
        self.slots = [_slot_function(slot) for slot in view.slots]
        columns = [slot.column or "" for slot in view.slots if slot.transform is None]
        whole = len(columns) == len(view.slots)
        self.columns: Any = _columns_function(columns) if whole else None
        self.ids = None if view.dedupe_us is None else Ids(view)
        self.ids_prefix = ids_prefix(project, view)
        self.floor_key = floor_key(project, view)

    def key(self, row: Mapping[str, Any]) -> bytes | None:
        """The key of the state of the row's entity; None for a row without an entity."""
        entity = self.entity(row)
        return None if entity is None else self.before_entity + entity + b"}"

    def entity(self, row: Mapping[str, Any]) -> bytes | None:
        """The bytes that name the row's entity, as of every view with the same `joins`; None for a
        row without an entity."""
        parts = []
        for encode, name in self.keys:
            value = row[name]
            if value is None:
                return None
            parts.append(encode(value))
        return joined_key(parts)

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

    def events(
        self, rows: Sequence[Mapping[str, Any]], keys: Sequence[bytes | None]
    ) -> list[Event]:
        """As `event`, for many rows; a row whose key is None has none that counts."""
        columns = self.columns
        if columns is None:
            return [
                _NO_EVENT if key is None else self.event(row)
                for row, key in zip(rows, keys, strict=True)
            ]
        return [(row["__ts"], row["__created"], columns(row)) for row in rows]

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


def _columns_function(columns: Sequence[str]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """The values of columns as a tuple."""
    if not columns:
        return lambda row: ()
    if len(columns) == 1:
        (column,) = columns
        return lambda row: (row[column],)
    return itemgetter(*columns)


def _slot_function(slot: Any) -> Callable[[Mapping[str, Any]], Any]:
    if slot.transform is None:
        column = slot.column
        return lambda row: row[column]
    function = to_python(slot.transform)
    names = [p.name for p in slot.transform.params]
    return lambda row: function(*[row[n] for n in names])


class RowEvents:
    """The entity and the event of each row of a view, and what is remembered of it, made once.

    `rows` are those of a push, with their `keys` and `events`. Views of one push share the numbers
    of its rows, and those of one source what is remembered of a row.
    """

    def __init__(
        self,
        writer: ViewWriter,
        rows: Sequence[Row] = (),
        keys: Sequence[bytes | None] = (),
        events: Sequence[Event] = (),
        *,
        numbers: Mapping[int, int] | None = None,
        memories: dict[int, bytes] | None = None,
    ) -> None:
        self.writer, self.rows, self.keys, self.events = writer, rows, keys, events
        # By the identity of a row that is held here, so no other object has it.
        self.numbers = {} if numbers is None else numbers
        self.memories = {} if memories is None else memories
        self.more: dict[int, tuple[Row, bytes | None, Event]] = {}
        self.exploded: dict[int, tuple[Row, list[tuple[bytes | None, Event]]]] = {}

    def __call__(self, row: Row) -> tuple[bytes | None, Event]:
        number = self.numbers.get(id(row))
        if number is not None:
            return self.keys[number], self.events[number]
        found = self.more.get(id(row))
        if found is None:
            key = self.writer.key(row)
            event = _NO_EVENT if key is None else self.writer.event(row)
            found = self.more[id(row)] = row, key, event
        return found[1], found[2]

    def each(self, row: Row) -> Sequence[tuple[bytes | None, Event]]:
        """The entities and the events of a row: one of each, of a list that is exploded as many as
        it has elements, none where it does not pass."""
        if self.writer.view.each_row_an_event:
            return (self(row),)
        found = self.exploded.get(id(row))
        if found is None:
            writer = self.writer
            made = exploded_rows(writer.view, [row])
            found = self.exploded[id(row)] = (
                row, [(writer.key(one), writer.event(one)) for one in made]
            )  # fmt: skip
        return found[1]

    def memory(self, row: Row) -> bytes:
        """The bytes by which an id is remembered that has this row alone, as `sealed_marked` takes
        them."""
        found = self.memories.get(id(row))
        if found is None:
            assert self.writer.ids is not None
            if self.writer.view.each_row_an_event:
                self(row)  # it holds the row
            else:
                self.each(row)
            found = self.memories[id(row)] = marked(self.writer.ids.encode([row]))
        return found

    def entities(self, rows: Sequence[Row]) -> list[bytes]:
        """The keys of the states of the rows' entities, each once."""
        numbers, keys = self.numbers, self.keys
        if not self.writer.view.each_row_an_event:
            of_rows = (self.each(row) for row in rows)
            return [k for k in dict.fromkeys(k for one in of_rows for k, _ in one) if k is not None]
        try:
            found = [keys[numbers[id(row)]] for row in rows]
        except KeyError:  # they are not those of a push
            found = [self(row)[0] for row in rows]
        return [key for key in dict.fromkeys(found) if key is not None]


@dataclass(frozen=True, slots=True)
class Prepared:
    """The rows of a push as events of each view's entities. Nothing is written yet."""

    events: list[tuple[View, dict[bytes, list[Event]]]]
    done: Pushed
    rows: list[tuple[ViewWriter, dict[bytes, list[Row]]]] = field(default_factory=list)
    """For views whose source has an `event_id`: the rows of each id (T7)."""
    made: list[RowEvents] = field(default_factory=list)
    """For each entry of `rows`, the events that its rows have become."""


def prepare(
    project: str,
    views: Iterable[View],
    rows: Sequence[Row],
    *,
    source: str | None = None,
    enrich: Enrich = nothing_taken,
) -> Prepared:
    """The events of `rows` for each of `views`. A row has a source's columns, and `__ts` and
    `__created` in microseconds UTC.

    With `source`, the rows are of the source of that name, which may stand in the union of a view
    (T11), where they get what they take by `enrich`. Without it they are rows of what the views
    read, a union's those of `united_row`.
    """
    null_keys = erring = entities = 0
    found: list[tuple[View, dict[bytes, list[Event]]]] = []
    by_id: list[tuple[ViewWriter, dict[bytes, list[Row]]]] = []
    made: list[RowEvents] = []
    given = _AllGiven(rows, source, enrich)
    for view in views:
        writer = writer_of(project, view)
        plain = view.source.parts is None and view.each_row_an_event
        mine = given.rows if plain else given.of(view)
        named, grouped = mine.entities(writer)
        first = writer.before_entity
        keys = [None if name is None else first + name + b"}" for name in named]
        events = writer.events(mine.rows, keys)
        null_keys += keys.count(None)
        if writer.columns is None:
            erring += sum(ERROR in event[2] for event in events)
        entities += len(grouped)
        if writer.ids is None:
            of_entities = {
                first + name + b"}": [events[i] for i in of_name]
                for name, of_name in grouped.items()
            }
            found.append((view, of_entities))
            continue
        whole = mine if view.each_row_an_event else given.whole(view)
        of_names, memories = whole.names(writer.ids)
        prefix = writer.ids_prefix
        by_id.append((writer, {prefix + name: of_name for name, of_name in of_names.items()}))
        kept = whole is mine  # else each of its rows makes events of its own
        made.append(
            RowEvents(
                writer,
                whole.rows,
                keys if kept else (),
                events if kept else (),
                numbers=whole.numbers,
                memories=memories,
            )
        )
    return Prepared(found, Pushed(len(rows), entities, null_keys, erring), by_id, made)


class _AllGiven:
    """The rows of a push as each view takes them, made once for all that take them alike."""

    def __init__(self, rows: Sequence[Row], source: str | None, enrich: Enrich) -> None:
        self._source, self.rows, self._enrich = source, _Given(rows), enrich
        self._united: dict[str, _Given] = {}
        self._exploded: dict[tuple[str, str | None, str], _Given] = {}

    def whole(self, view: View) -> _Given:
        """The rows of what the view reads: of its source, or of its union (T11)."""
        name = view.source.name
        if view.source.parts is None or self._source is None:
            return self.rows
        if name not in self._united:
            taken = self._enrich(view.source, self._source, self.rows.rows)
            self._united[name] = _Given(united_rows(view.source, self._source, taken))
        return self._united[name]

    def of(self, view: View) -> _Given:
        """The rows as the view's events: those of `whole`, the elements of their lists, or those of
        them that pass."""
        whole = self.whole(view)
        if view.each_row_an_event:
            return whole
        passed = "" if view.where is None else view.fingerprint
        kind = view.source.name, view.explode, passed
        if kind not in self._exploded:
            self._exploded[kind] = _Given(exploded_rows(view, whole.rows))
        return self._exploded[kind]


class _Given:
    """Rows of a source or of a union, and what is made of them alone.

    Many views have the same join keys, and most have the same source: what depends on these is made
    once. So a push to many views makes few objects for each of its rows.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.numbers = {id(row): i for i, row in enumerate(rows)}
        self._entities: dict[Any, tuple[list[bytes | None], dict[bytes, list[int]]]] = {}
        self._names: tuple[dict[bytes, list[Row]], dict[int, bytes]] | None = None

    def entities(self, writer: ViewWriter) -> tuple[list[bytes | None], dict[bytes, list[int]]]:
        """The names of the rows' entities, and the numbers of the rows of each."""
        if writer.joins not in self._entities:
            self._entities[writer.joins] = _entities(writer, self.rows)
        return self._entities[writer.joins]

    def names(self, ids: Ids) -> tuple[dict[bytes, list[Row]], dict[int, bytes]]:
        """The rows of each id, by its name, and what is remembered of a row."""
        if self._names is None:
            self._names = _named(ids, self.rows), {}
        return self._names


def _entities(
    writer: ViewWriter, rows: Sequence[Row]
) -> tuple[list[bytes | None], dict[bytes, list[int]]]:
    """The names of the rows' entities, and the numbers of the rows of each."""
    named = [writer.entity(row) for row in rows]
    grouped: dict[bytes, list[int]] = {}
    for i, name in enumerate(named):
        if name is not None:
            grouped.setdefault(name, []).append(i)
    return named, grouped


def _named(ids: Ids, rows: Sequence[Row]) -> dict[bytes, list[Row]]:
    """The rows of each id, by its name."""
    found: dict[bytes, list[Row]] = {}
    for row in rows:
        found.setdefault(ids.name(row), []).append(row)
    return found
