"""Tiled join: turns parts into one GROUP BY over labels joined with events of two tiles of time.

Chosen for the labels of crowded keys if an aggregate's parts are not made of terms, or if events
may be over by the label's instant (T7). It looks at each pair of a label and an event of its entity
that is no farther away than twice the longest window. That is less than the range join, if that
window is short compared to the history.
"""

from __future__ import annotations

from collections.abc import Sequence

from featurekit.define.plan import View
from featurekit.offline.window_plans.parts import (
    WindowParts,
    ends_us,
    events_sql,
    parts_sql,
    reach_sql,
    same_keys_sql,
)


def tiled_join(
    view: View, asked: Sequence[WindowParts], table: str, labels: str, lateness: int
) -> str:
    """For each label with an event in reach: __rid, the parts. A tile is as long as the reach
    of the windows, so an event is in one tile and a label asks for two."""
    nearest, farthest = ends_us(asked)
    wide = max(farthest - nearest, 1)
    events = events_sql(asked, table, f"fk_hop(__ts, {wide}) AS __tile")
    last, first = (f"fk_hop(__t - {at}, {wide})" for at in (nearest, farthest - 1))
    asking = (
        f"SELECT *, {last} AS __tile FROM {labels} UNION ALL "
        f"SELECT *, {first} FROM {labels} WHERE {first} <> {last}"
    )
    on = f"{same_keys_sql(view)} AND l.__tile = e.__tile AND {reach_sql(view, asked, lateness)}"
    return (
        f"(SELECT l.__rid, {parts_sql(asked)} FROM ({asking}) l "
        f"JOIN {events} e ON {on} GROUP BY l.__rid)"
    )
