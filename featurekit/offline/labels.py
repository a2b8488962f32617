"""Turns a view of labels into a relation of values, errors and statuses, one row per label (T10).

A label counts the events of (t, t + W] that had arrived by the run's end, so its window is one that
ends after the instant, and no arrival is compared with the instant. What is not known yet is null.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from featurekit.core.status import ERROR_STATUS, FOREVER, NEVER, NOT_YET, NULL_VALUE, PRESENT
from featurekit.core.types import FLOAT
from featurekit.define.arrivals import delay_us
from featurekit.define.plan import Feature, View
from featurekit.define.union import FROM
from featurekit.language.python_calls import register_python_ops
from featurekit.language.to_duckdb import Lowering, Sql, Value, lower
from featurekit.offline.events import EventRows
from featurekit.offline.view_result import ViewSql
from featurekit.offline.windows import make_windows


def with_newest(con: Any, view: View, arrived: EventRows) -> EventRows:
    """The rows that had arrived by the run's end, with the newest arrival of each source."""
    sources = view.source.sources
    if view.source.parts is None:
        asked = f"SELECT 0, max(__created) FROM {arrived.relation}"
    else:
        asked = f"SELECT {FROM}, max(__created) FROM {arrived.relation} GROUP BY 1"
    found = dict(con.execute(asked).fetchall())
    newest = [found.get(number) for number in range(len(sources))]
    return replace(arrived, newest=tuple(NEVER if at is None else at for at in newest))


def settled_until(view: View, feature: Feature, newest: Sequence[int]) -> int:
    """The instant before which a label's window has to end for it to be known: for each source its
    newest arrival, or the run's end, less the time in which events may still arrive; the earliest
    of these. `newest` has no arrival after the run's end."""
    ends = []
    for source, at in zip(view.source.sources, newest, strict=True):
        assert feature.ahead is not None
        settle = feature.ahead.settle_us
        if settle is None:
            settle = delay_us(source.arrives) or 0
        ends.append(at if at == NEVER else at - settle)
    return min(ends)


def make_labels(
    con: Any,
    view: View,
    events: EventRows,
    labels: str,
    *,
    name: str,
    span: tuple[int, int] | None = None,
) -> ViewSql:
    """Join labels with every aggregate of the view over its window ahead, then call the transforms
    of these. `events` are those that count at the run's end. `name` and `span` are as in
    `make_windows`. The relation has statuses, and `x` for each label that may err.
    """
    windows = [i for i, feature in enumerate(view.features) if feature.aggregate is not None]
    relation = events.relation
    if view.source.op is not None:
        relation = f"(SELECT * EXCLUDE (__end) FROM {relation} WHERE __end = {FOREVER})"
    in_force = replace(
        view,
        source=replace(view.source, op=None),
        features=tuple(view.features[i] for i in windows),
    )
    prompt = replace(events, relation=relation, prompt=True)
    found = make_windows(con, in_force, prompt, labels, statuses=True, name=name, span=span)
    lowering = Lowering("__a")
    values, columns = dict[int, Value](), ["l.__rid"]
    settled: dict[int, str] = {}
    for place, i in enumerate(windows):
        failed = Sql(f"e{place}") if place in found.erring else None
        values[i] = Value(Sql(f"v{place}"), failed is not None, failed)
        until = settled_until(view, view.features[i], events.newest)
        # As a difference it stays within int64, whatever the instant of the label is.
        settled[i] = f"l.__t < {max(until - view.features[i].window_us, NEVER)}"
    read = ", ".join(
        ["m.__rid", "l.__t"]
        + [f"m.f{p} AS v{p}, m.t{p} AS s{p}" for p in range(len(windows))]
        + [f"m.x{p} AS e{p}" for p in sorted(found.erring)]
    )
    erring = set()
    for i, feature in enumerate(view.features):
        status = f"s{windows.index(i)}" if feature.aggregate is not None else None
        if feature.ahead is not None and feature.ahead.function is not None:
            taken = feature.ahead.labels
            values[i] = lower(lowering, feature.ahead.function, [values[j] for j in taken])
            settled[i] = " AND ".join(dict.fromkeys(settled[j] for j in taken)) or "TRUE"
        made = _columns(i, feature, values[i], settled[i], status)
        columns += made
        if values[i].error is not None:
            erring.add(i)
    register_python_ops(con, lowering.python_ops)
    joined = f"(SELECT {read} FROM {found.sql} m JOIN {labels} l USING (__rid))"
    return replace(
        found,
        sql=f"(SELECT {', '.join(columns)} FROM {lowering.wrap(joined)} l)",
        erring=frozenset(erring),
    )


def _columns(i: int, feature: Feature, value: Value, settled: str, status: str | None) -> list[str]:
    """The value, the status and, if it may err, the error of a label; `status` is that of the
    window, and None for a transform of labels."""
    text, failed = value.sql.text, None if value.error is None else value.error.text
    shown = text
    if feature.type.base == FLOAT:  # one NaN, whatever payload the arithmetic left (S1)
        shown = f"CASE WHEN isnan({text}) THEN 'nan'::DOUBLE ELSE {text} END"
    kept = settled if failed is None else f"{settled} AND NOT ({failed})"
    if status is None:
        status = (
            f"CASE WHEN {failed or 'FALSE'} THEN '{ERROR_STATUS}' "
            f"WHEN {text} IS NULL THEN '{NULL_VALUE}' ELSE '{PRESENT}' END"
        )
    made = [
        f"CASE WHEN {kept} THEN {shown} END AS f{i}",
        f"CASE WHEN {settled} THEN {status} ELSE '{NOT_YET}' END AS t{i}",
    ]
    return made if failed is None else [*made, f"({settled} AND {failed}) AS x{i}"]
