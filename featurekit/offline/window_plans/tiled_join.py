"""Tiled join: labels with whole tiles and with the events at the ends of windows."""

from __future__ import annotations

from collections.abc import Sequence

from featurekit.define.plan import View
from featurekit.offline.window_plans.asked import (
    Asked,
    ends_sql,
    parts_sql,
    reach_sql,
    same_keys,
    with_helpers,
)


def tiled_join(view: View, asked: Sequence[Asked], table: str, labels: str, lateness: int) -> str:
    """As `_range_join`, within tiles of time as long as the windows reach: an event stands in one
    and a label asks for two."""
    nearest, farthest = ends_sql(asked)
    wide = max(farthest - nearest, 1)
    events = with_helpers(asked, table, f"fk_hop(__ts, {wide}) AS __tile")
    last, first = (f"fk_hop(__t - {at}, {wide})" for at in (nearest, farthest - 1))
    asking = (
        f"SELECT *, {last} AS __tile FROM {labels} UNION ALL "
        f"SELECT *, {first} FROM {labels} WHERE {first} <> {last}"
    )
    on = [*same_keys(view), "l.__tile = e.__tile", *reach_sql(view, asked, lateness)]
    return (
        f"(SELECT l.__rid, TRUE AS __in, {parts_sql(asked)} FROM ({asking}) l "
        f"JOIN {events} e ON {' AND '.join(on)} GROUP BY l.__rid)"
    )
