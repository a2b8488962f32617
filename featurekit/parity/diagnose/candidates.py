"""Turns an event into the rows of other views from which it may take something, and what the rules
make of each (T11)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from featurekit.define.plan import Join, Source, View
from featurekit.define.union import FROM
from featurekit.parity.diagnose.explanation import Candidate
from featurekit.parity.diagnose.joins import keys_taken
from featurekit.parity.diagnose.known import KnownRows
from featurekit.parity.diagnose.rules import order, slot_of, span
from featurekit.project.project import Project

_MOST_OTHERS = 4
Row = Mapping[str, Any]


def candidates(project: Project, view: View, events: Sequence[tuple[int, Row]]) -> list[Candidate]:
    """For each of some events of a view, with its number: of every join the row that it takes, and
    the nearest of the others of that entity, oldest first."""
    known: dict[Any, KnownRows] = {}
    made: list[Candidate] = []
    for number, event in events:
        part = (view.source.parts or ())[event[FROM]]
        for join in part.joins or ():
            made += _of_join(project, view.source, join, number, event, known)
    return made


def _of_join(
    project: Project,
    source: Source,
    join: Join,
    number: int,
    event: Row,
    known: dict[Any, KnownRows],
) -> list[Candidate]:
    other = join.view
    keys = dict(
        zip((p.name for p in other.join_keys), keys_taken(join, source, dict(event)), strict=True)
    )
    nothing = dict.fromkeys(join.names)
    if None in keys.values():
        told = "T11: a join key is None, so nothing is taken"
        return [Candidate(number, other.name, None, nothing, False, told)]
    name = other.fingerprint, *keys.values()
    if name not in known:
        known[name] = KnownRows(project, other, keys)
    rows = known[name].events(keys)
    if not rows:
        told = "T11: the other view has no row of this entity"
        return [Candidate(number, other.name, None, nothing, False, told)]
    rows.sort(key=lambda one: order(other, one[1]))
    whys = [
        _left_out(other, row, event) or known[name].left_out(i, int(event["__created"]))
        for i, row in rows
    ]
    last = max((n for n, why in enumerate(whys) if why is None), default=None)
    found = []
    for n, ((_, row), why) in enumerate(zip(rows, whys, strict=True)):
        values = {
            column: slot_of(other, other.features[index].slot)(row)
            for index, column in zip(join.takes, join.names, strict=True)
        }
        if n == last:
            expired = _expired(other, row, event)
            told = expired or "T11: the last row that had happened and had arrived"
            found.append(Candidate(number, other.name, row, values, expired is None, told))
        else:
            told = why or "T6: behind a later row"
            found.append(Candidate(number, other.name, row, values, False, told))
    place = len(rows) - 1 if last is None else last
    return found[max(place - _MOST_OTHERS // 2, 0) : place + _MOST_OTHERS // 2 + 1]


def _left_out(view: View, row: Row, event: Row) -> str | None:
    """The rule by which an event does not know a row of the other view; None where it does."""
    if row["__ts"] > event["__ts"]:
        return f"T11: happens {span(row['__ts'] - event['__ts'])} after the event"
    if row["__created"] > event["__created"]:
        return f"T11: arrives {span(row['__created'] - event['__created'])} after the event arrived"
    return None


def _expired(view: View, row: Row, event: Row) -> str | None:
    """Why nothing is taken of the last row that is known: the ttl of its view (T4)."""
    if view.ttl_us is None or row["__ts"] > event["__ts"] - view.ttl_us:
        return None
    return f"T4: the last row, and outside the ttl {span(view.ttl_us)} of {view.name}"
