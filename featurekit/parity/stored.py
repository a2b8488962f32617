"""The rows that files and log of pushes hold about an entity, and the scenario that they make of a
value that differs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from featurekit.core import tables
from featurekit.core.sql import quote
from featurekit.core.status import NEVER
from featurekit.core.types import INT
from featurekit.define.plan import Service, View
from featurekit.parity.report import Difference
from featurekit.parity.scenario import Delivery, Scenario, column_types, narrowed, unite
from featurekit.parity.taken import Wanted, bare, others_of, push_order
from featurekit.project.project import Project

_MOST = 2_000
"""A scenario of more rows takes too long to play again and again."""


def stored_scenario(
    project: Project,
    service: Service,
    difference: Difference,
    *,
    filled_until: int = NEVER,
    online_until: Mapping[str, int] | None = None,
) -> Scenario | None:
    """The rows that decide a value that differs, by arrival, and the question about it; None where
    they are more than can be tried out.

    What arrived by `filled_until` came online by a materialisation. `online_until` says of each
    view up to when its files are online: what arrived later lags, and is left out.
    """
    of_sources: dict[str, list[dict[str, Any]]] = {}
    con = project.connect()
    try:
        for view in narrowed(service, difference.feature).views:
            keys = view.entity(difference.row)
            if None in keys.values():
                continue  # no entity (S2)
            relation = project.snapshot(con, view, marked=True).events.relation
            if online_until is not None:
                upto = online_until[view.name]
                relation = f"(SELECT * FROM {relation} WHERE __pushed OR __created <= {upto})"
            found = _rows_of(con, view, relation, of_entity(con, view, relation, keys))
            others = others_of(view.source, found, partial(rows_of_others, project, con))
            for of, rows in [(view, found), *others.values()]:
                unite(of_sources.setdefault(of.source.name, []), bare(of.source, rows))
            if any(len(rows) > _MOST for rows in of_sources.values()):
                return None
    finally:
        con.close()
    deliveries = [Delivery(source, row) for source, own in of_sources.items() for row in own]
    above = push_order(service)
    deliveries.sort(key=lambda d: (int(d.row["__created"]), above[d.source]))
    filled = min(filled_until, difference.at)
    return Scenario(service, tuple(deliveries), difference.row, difference.at, filled)


def rows_of_others(project: Project, con: Any, view: View, wanted: Wanted) -> list[dict[str, Any]]:
    """The rows of files and log about entities of a view, from which others take something, as
    `others_of` fetches them."""
    relation = project.events(con, view).relation
    return _rows_of(con, view, relation, of_values(con, view, relation, wanted))


def _rows_of(con: Any, view: View, relation: str, own: str) -> list[dict[str, Any]]:
    """The newest of some rows of a relation, and of those that share an id with them (T7)."""
    if view.source.event_id is not None:
        name = quote(view.source.event_id)
        own = f"(SELECT * FROM {relation} WHERE {name} IN (SELECT {name} FROM {own}))"
    return rows_of(con, view, own, most=_MOST + 1)


def of_values(con: Any, view: View, relation: str, wanted: Wanted) -> str:
    """The rows of a relation each of whose join keys has one of the values that are wanted."""
    for key in view.join_keys:
        name, own = quote(key.name), f"__wanted_of_{view.name}_{key.name}"
        table = tables.temp_table(con, own, {key.name: key.type}, [[v] for v in wanted[key.name]])
        same = f"r.{name} = e.{name}"
        if key.name == view.explode:
            same = f"list_contains(r.{name}, e.{name})"
        relation = f"(SELECT * FROM {relation} r SEMI JOIN {table} e ON {same})"
    return relation


def of_entity(con: Any, view: View, relation: str, keys: Mapping[str, Any]) -> str:
    """The rows of a relation that belong to one entity of a view."""
    types = {p.name: p.type for p in view.join_keys}
    table = tables.temp_table(con, f"__entity_of_{view.name}", types, [[keys[n] for n in types]])
    same = " AND ".join(
        f"list_contains(r.{quote(name)}, e.{quote(name)})"
        if name == view.explode
        else f"r.{quote(name)} = e.{quote(name)}"
        for name in types
    )
    return f"(SELECT * FROM {relation} r SEMI JOIN {table} e ON {same})"


def rows_of(
    con: Any, view: View, relation: str, *, most: int, end: bool = False
) -> list[dict[str, Any]]:
    """The newest rows of a relation, at most so many, by arrival and as Python has them."""
    types = column_types(view) | ({"__end": INT} if end else {})
    newest = f"ORDER BY __created DESC, __ts DESC LIMIT {most}"
    return tables.rows(con, relation, types, then=newest)[::-1]
