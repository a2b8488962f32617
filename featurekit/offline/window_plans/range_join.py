"""Range join: turns parts into one GROUP BY over labels joined with the events in their reach.

It takes every aggregate, and is chosen for all labels except those of crowded keys. It looks at
each pair of a label and an event of its entity within the longest window: for a key with a third of
all events that is quadratic.
"""

from __future__ import annotations

from collections.abc import Sequence

from featurekit.define.plan import View
from featurekit.offline.window_plans.parts import (
    WindowParts,
    events_sql,
    parts_sql,
    reach_sql,
    same_keys_sql,
)


def range_join(
    view: View, asked: Sequence[WindowParts], table: str, labels: str, lateness: int
) -> str:
    """For each label with an event in reach: __rid, the parts."""
    on = f"{same_keys_sql(view)} AND {reach_sql(view, asked, lateness)}"
    return (
        f"(SELECT l.__rid, {parts_sql(asked)} FROM {labels} l "
        f"JOIN {events_sql(asked, table)} e ON {on} GROUP BY l.__rid)"
    )
