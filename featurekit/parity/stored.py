"""The rows that files and log of pushes hold about an entity, and the scenario that they make of a
value that differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from featurekit.core import tables
from featurekit.core.sql import quote
from featurekit.core.status import NEVER
from featurekit.core.types import INT
from featurekit.define.plan import Service, View
from featurekit.parity.report import Difference
from featurekit.parity.scenario import Delivery, Scenario, column_types, narrowed, unite
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
            own = of_entity(con, view, relation, keys)
            if view.source.event_id is not None:
                # Rows of other entities that share an id with the entity's decide, too (T7).
                name = quote(view.source.event_id)
                own = f"(SELECT * FROM {relation} WHERE {name} IN (SELECT {name} FROM {own}))"
            found = rows_of(con, view, own, most=_MOST + 1)
            if len(found) > _MOST:
                return None
            unite(of_sources.setdefault(view.source.name, []), found)
    finally:
        con.close()
    deliveries = [Delivery(source, row) for source, own in of_sources.items() for row in own]
    deliveries.sort(key=lambda d: int(d.row["__created"]))
    filled = min(filled_until, difference.at)
    return Scenario(service, tuple(deliveries), difference.row, difference.at, filled)


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
