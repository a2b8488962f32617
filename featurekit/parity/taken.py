"""Gives the rows of a check what they take from other views, as each path does (T11).

A check has rows of each source that a view reads. Of a source with joins they are *bare*: what they
would take is None. Offline they take it in DuckDB; online as a push does, from states and, where
these do not do, from all rows.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from featurekit.core.tables import Row, temp_table
from featurekit.core.types import INT
from featurekit.core.values import ERROR
from featurekit.define.plan import Join, Part, Service, Source, View
from featurekit.define.union import (
    FROM,
    bare_rows,
    origins,
    own_row,
    taken_from,
    taken_names,
    united_rows,
    united_sql,
)
from featurekit.feed.enrich import Enricher
from featurekit.language.to_python import to_python
from featurekit.offline.enriched import make_enriched
from featurekit.offline.events import EventRows
from featurekit.parity.scenario import Delivery, Scenario, unite

PLACE = "__place"
_INSTANTS = {"__ts": INT, "__created": INT}
Wanted = Mapping[str, Collection[Any]]
"""The values of each join key of a view, of which entities are asked for."""

_numbers = itertools.count()


def bare(source: Source, rows: Iterable[Row]) -> list[Row]:
    """Rows of a source, without what they have taken."""
    if not source.joins:
        return list(rows)
    made: list[Row] = []
    for row in rows:
        name, own = own_row(source, row)
        made += map(dict, bare_rows(source, name, [own]))
    return made


def as_given(service: Service, deliveries: Iterable[Delivery]) -> list[Delivery]:
    """The deliveries to show: of sources with joins, the rows as they were before they took."""
    joined = {v.source.name: v.source for v in service.fed if v.source.joins}
    return [
        Delivery(*own_row(joined[d.source], d.row)) if d.source in joined else d for d in deliveries
    ]


def _of_parts(source: Source, rows: Sequence[Row]) -> Iterator[tuple[Part, list[int], list[Row]]]:
    """For each part of a source: the places of its rows among `rows`, and what they are there."""
    for number, part in enumerate(source.parts or ()):
        places = [i for i, row in enumerate(rows) if row[FROM] == number]
        yield part, places, [own_row(source, rows[i])[1] for i in places]


# --- offline --------------------------------------------------------------------------------------


def make_united(
    con: Any, source: Source, events: Mapping[str, EventRows], also: Sequence[str] = ()
) -> str:
    """The relation of a union's rows with what they take, of the relations of its own sources and
    of those of the other views, by their names; and with the columns `also` of its sources."""
    assert source.parts is not None
    relations = [
        make_enriched(
            con,
            part,
            events[part.source.name].relation,
            lambda view: events[view.source.name],
            also,
        )
        for part in source.parts
    ]
    return united_sql(source, relations, also)


def make_taken(
    con: Any, source: Source, rows: Sequence[Row], others: Mapping[str, EventRows]
) -> str:
    """The relation of bare rows of a source with joins with what they take offline, and with each
    row's `PLACE` among them."""
    known = dict(others)
    for part, placed, own in _of_parts(source, rows):
        types = {p.name: p.type for p in part.source.schema} | _INSTANTS
        name = f"__taking_{next(_numbers)}"
        values = [[*(row[n] for n in types), i] for row, i in zip(own, placed, strict=True)]
        table = temp_table(con, name, types | {PLACE: INT}, values)
        known[part.source.name] = EventRows(table, False)
    return make_united(con, source, known, [PLACE])


# --- online ---------------------------------------------------------------------------------------


def taken_online(enricher: Enricher, source: Source, rows: Sequence[Row]) -> list[Row]:
    """Bare rows of a source with what they take as a push does."""
    if not source.joins:
        return list(rows)
    made: list[Row] = list(rows)
    for part, places, own in _of_parts(source, rows):
        enriched = enricher.enriched(part, own)
        united = united_rows(source, part.source.name, enriched)
        for place, row in zip(places, united, strict=True):
            made[place] = row
    return made


def push_order(service: Service) -> dict[str, int]:
    """For each source that a fed view of the service reads, a number that is above those of the
    sources from whose views its rows take something: what arrives at one instant is pushed in this
    order."""
    found: dict[str, int] = {}
    for view in service.fed:  # after those from which its rows take
        others = (found[join.view.source.name] for join in view.source.joins)
        found[view.source.name] = 1 + max(others, default=-1)
    return found


def in_order(service: Service, deliveries: Sequence[Delivery]) -> list[Delivery]:
    """The deliveries in their order, but that each stands behind all that it may take something
    from: rows of other views that had arrived by its own arrival. A real push waits for these."""
    above = push_order(service)
    if not any(above.values()):
        return list(deliveries)
    needs = {v.source.name: {j.view.source.name for j in v.source.joins} for v in service.fed}
    turns = [0] * len(deliveries)
    of_source: dict[str, tuple[list[int], list[int]]] = {}
    for name in sorted(above, key=lambda name: above[name]):
        own = [i for i, d in enumerate(deliveries) if d.source == name]
        for i in own:
            created = deliveries[i].row["__created"]
            turns[i] = max([i, *(_turn(*of_source[other], created) for other in needs[name])])
        own.sort(key=lambda i: int(deliveries[i].row["__created"]))
        latest = list(itertools.accumulate((turns[i] for i in own), max))
        of_source[name] = [deliveries[i].row["__created"] for i in own], latest
    ordered = sorted(
        range(len(deliveries)), key=lambda i: (turns[i], above.get(deliveries[i].source, 0), i)
    )
    return [deliveries[i] for i in ordered]


def in_turns(scenario: Scenario) -> list[Scenario]:
    """The scenario pushed in two orders, if rows of its service take something from other views: in
    the order of their arrival, and those that take behind all others. Else it alone."""
    above = push_order(scenario.service)
    if not any(above.values()):
        return [scenario]
    first, last = (
        sorted(scenario.deliveries, key=key)
        for key in (
            lambda d: (d.row["__created"], above[d.source]),
            lambda d: (above[d.source],),
        )
    )
    return [replace(scenario, deliveries=tuple(first)), replace(scenario, deliveries=tuple(last))]


def _turn(arrivals: Sequence[int], latest: Sequence[int], created: int) -> int:
    """The last turn of what had arrived by then."""
    known = bisect_right(arrivals, created)
    return latest[known - 1] if known else 0


# --- which columns hold the same ------------------------------------------------------------------


def plain_columns(source: Source, column: str) -> list[tuple[str, str]]:
    """The names of sources, and the column of each, whose values a column of `source` holds."""
    found = [(of.name, own) for of, own in origins(source, column)]
    for join, index in taken_from(source, column):
        found += _plain_feature(join, index)
    return found


def plain_columns_of(part: Part, column: str) -> list[tuple[str, str]]:
    """As `plain_columns`, of a column of a part's rows."""
    if column not in taken_names(part):
        return [(part.source.name, column)]
    named = ((j, i, n) for j in part.joins or () for i, n in zip(j.takes, j.names, strict=True))
    join, index = next((join, index) for join, index, name in named if name == column)
    return _plain_feature(join, index)


def _plain_feature(join: Join, index: int) -> list[tuple[str, str]]:
    """The columns of a feature that is one; none for a transform."""
    place = join.view.features[index].slot
    assert place is not None
    column = join.view.slots[place].column
    return [] if column is None else plain_columns(join.view.source, column)


# --- which rows of other views --------------------------------------------------------------------


def others_of(
    source: Source, rows: Sequence[Row], fetch: Callable[[View, Wanted], list[Row]]
) -> dict[str, tuple[View, list[Row]]]:
    """For the source of each other view the rows from which rows of `source` may take something,
    and those from which these may.

    `rows` and what `fetch` gives, the rows of a view about some entities, have what they take
    offline. Rows of more entities may come than are needed.
    """
    found: dict[str, tuple[View, list[Row]]] = {}

    def add(view: View, more: Sequence[Row]) -> None:
        unite(found.setdefault(view.source.name, (view, []))[1], more)

    for part, _, own in _of_parts(source, rows):
        values: dict[str, set[Any]] = {}
        for join in part.joins or ():
            wanted = {
                key.name: values.get(column, {row.get(column) for row in own} - {None})
                for key, column in zip(join.view.join_keys, join.keys, strict=True)
            }
            fetched = fetch(join.view, wanted) if all(wanted.values()) else []
            add(join.view, fetched)
            for view, more in others_of(join.view.source, fetched, fetch).values():
                add(view, more)
            values |= _values(join, fetched)
    return found


def _values(join: Join, rows: Sequence[Row]) -> dict[str, set[Any]]:
    """What rows of the other view hold for each column that is taken."""
    found: dict[str, set[Any]] = {}
    for index, name in zip(join.takes, join.names, strict=True):
        place = join.view.features[index].slot
        assert place is not None
        slot = join.view.slots[place]
        if slot.transform is None:
            column = slot.column or ""
            given = [row[column] for row in rows]
        else:
            function, names = to_python(slot.transform), [p.name for p in slot.transform.params]
            given = [function(*[row[n] for n in names]) for row in rows]
        hashable = (v for v in given if not isinstance(v, (list, dict)))
        found[name] = {v for v in hashable if v is not None and v is not ERROR}
    return found
