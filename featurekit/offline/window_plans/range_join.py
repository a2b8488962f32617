"""Range join: labels with the events in reach, and one GROUP BY."""

from __future__ import annotations

from collections.abc import Sequence

from featurekit.define.plan import View
from featurekit.offline.window_plans.asked import (
    Asked,
    parts_sql,
    reach_sql,
    same_keys,
    with_helpers,
)


def range_join(view: View, asked: Sequence[Asked], table: str, labels: str, lateness: int) -> str:
    """For each label with an event in reach: __rid, __in, the parts."""
    on = " AND ".join([*same_keys(view), *reach_sql(view, asked, lateness)])
    return (
        f"(SELECT l.__rid, TRUE AS __in, {parts_sql(asked)} FROM {labels} l "
        f"JOIN {with_helpers(asked, table)} e ON {on} GROUP BY l.__rid)"
    )
