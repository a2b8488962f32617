"""What files and log hold of an entity, and what of it its live state holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from featurekit.core.keys import entity_key, state_key, state_prefix
from featurekit.core.status import FOREVER
from featurekit.core.types import instant
from featurekit.define.explode import exploded_rows
from featurekit.define.plan import Service, View
from featurekit.define.union import told_by_rows
from featurekit.offline.counted_events import make_counted_rows
from featurekit.online.state.blocks import Moved, Patience, open_state
from featurekit.online.state.seal import opened_state
from featurekit.parity.compare import bits
from featurekit.parity.stored import of_entity, rows_of
from featurekit.project.project import Project

_MOST = 5_000


class KnownRows:
    """The entity's rows in files and log, and which of them rule T7 leaves out."""

    def __init__(self, project: Project, view: View, keys: Mapping[str, Any]) -> None:
        self.view = view
        con = project.connect()
        try:
            relation = project.events(con, view).relation
            self.rows = rows_of(con, view, of_entity(con, view, relation, keys), most=_MOST)
            everything = of_entity(con, view, project.all_events(con, view), keys)
            self.forgotten = 0
            if told_by_rows(view):  # else what is read without joins does not tell the entity
                total = con.execute(f"SELECT count(*) FROM {everything}").fetchall()[0][0]
                present = con.execute(
                    f"SELECT count(*) FROM {of_entity(con, view, relation, keys)}"
                ).fetchall()[0][0]
                self.forgotten = total - present
            self.ends: dict[Any, list[int]] | None = None
            if view.source.event_id is not None:
                counting = of_entity(con, view, make_counted_rows(con, view, relation), keys)
                self.ends = {}
                deletes = view.source.op is not None
                for row in rows_of(con, view, counting, most=_MOST, end=deletes):
                    end = row.pop("__end", FOREVER)
                    self.ends.setdefault(_hashable(row), []).append(end)
        finally:
            con.close()

    def events(self, keys: Mapping[str, Any]) -> list[tuple[int, dict[str, Any]]]:
        """The entity's events, each with the number of its row: the rows, or of a list that is
        exploded its elements."""
        if self.view.each_row_an_event:
            return list(enumerate(self.rows))
        own = self.view.explode
        return [
            (i, event)
            for i, row in enumerate(self.rows)
            for event in exploded_rows(self.view, [row])
            if own is None or own not in keys or bits(event[own]) == bits(keys[own])
        ]

    def left_out(self, number: int, t: int) -> str | None:
        """What T7 says of a row that is no event, or is over."""
        if self.ends is None:
            return None
        found = self.ends.get(_hashable(self.rows[number]))
        if not found:
            return "T7: a copy, a deletion, or a version that another one replaced at once"
        if max(found) <= t:
            return f"T7: corrected or deleted from {instant(max(found)).isoformat()} on"
        return None


def held_online(
    project: Project, live: Service | None, view: View, keys: Mapping[str, Any]
) -> set[Any] | None:
    """The events that the live state of the entity holds; None where there is no state of it.
    OnlineError for one that is not whole."""
    fed = next((v for v in (live.views if live else ()) if v.name == view.name), None)
    if fed is None or fed.fingerprint != view.fingerprint:
        return None
    entity = entity_key([(p.type, keys[p.name]) for p in fed.join_keys])
    key = state_key(state_prefix(project.name, fed), entity)
    patience = Patience()
    while True:
        blob = project.online.read([key])[0]
        if blob is None:
            return None
        try:
            whole = opened_state(fed, key, blob)
            events = open_state(fed, key, whole, project.online.read).events
        except Moved as moved:
            patience.spend(moved)  # a push was faster than the second read of a large state
            continue
        width = len(fed.slots)  # with an `op` the end of each stands behind
        return {_hashable([ts, created, *slots[:width]]) for ts, created, slots in events}


def identity(row: Mapping[str, Any], slots: list[Any]) -> Any:
    return _hashable([row["__ts"], row["__created"], *slots])


def _hashable(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple((n, _hashable(v)) for n, v in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(_hashable(v) for v in value)
    return bits(value)
