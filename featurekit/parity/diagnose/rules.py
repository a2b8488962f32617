"""Turns an event and a feature into the rule that leaves the event out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from featurekit.core.values import ERROR, sort_value
from featurekit.define.explode import POSITION
from featurekit.define.plan import Feature, View
from featurekit.language.to_python import to_python


def slot_of(view: View, slot: int | None) -> Callable[[Mapping[str, Any]], Any]:
    """The value of a slot of a row, as a push works it out."""
    if slot is None:
        return lambda row: True
    made = view.slots[slot]
    if made.transform is None:
        column = made.column or ""
        return lambda row: row[column]
    function, names = to_python(made.transform), [p.name for p in made.transform.params]
    return lambda row: function(*[row[n] for n in names])


def order(view: View, row: Mapping[str, Any]) -> tuple[Any, ...]:
    """The sort key of T6 for a row of the source; of an exploded list, for one of its elements."""
    names = [p.name for p in view.source.schema if p.name != view.explode]
    names += [] if view.explode is None else [POSITION, view.explode]
    first = [view.source.sequence] if view.source.sequence is not None else []
    return row["__ts"], row["__created"], *[sort_value(row[n]) for n in (*first, *names)]


def interval(view: View, feature: Feature, t: int) -> tuple[int | None, int]:
    if feature.aggregate is None:
        return (None if view.ttl_us is None else t - view.ttl_us), t
    low, high = feature.bounds(t)
    return (None if feature.lifetime else low), high


def left_out(
    view: View,
    feature: Feature,
    row: Mapping[str, Any],
    t: int,
    keep: Callable[[Mapping[str, Any]], Any],
) -> str | None:
    """The rule that leaves an event out; None where it counts."""
    low, high = interval(view, feature, t)
    ts, created = row["__ts"], row["__created"]
    if ts > t:
        return f"T3: happens {span(ts - t)} after the instant asked"
    if created > t:
        return f"T3: arrives {span(created - t)} after the instant asked"
    outside = ts > high or (low is not None and ts <= low)
    if feature.frame is not None and outside:
        return _outside_frame(feature, ts, low, high, t)
    if ts > high:
        return f"T4: {span(ts - high)} after the window ends (offset)"
    if low is not None and ts <= low:
        what = "the ttl begins" if feature.aggregate is None else "the window begins"
        near = "at the open end, where" if ts == low else f"{span(low - ts)} before"
        return f"T4: {near} {what}"
    if feature.where is not None:
        kept = keep(row)
        if kept is not True:
            return f"where: the condition {'errs' if kept is ERROR else f'is {kept}'}"
    return None


def _outside_frame(feature: Feature, ts: int, low: int | None, high: int, t: int) -> str:
    """Why an event lies outside a window that more than its length decides (T10)."""
    assert feature.frame is not None
    if ts == t and feature.frame.exclude is not None:
        return "T10: at the instant asked, which the window leaves out"
    if ts > high:
        return f"T10: {span(ts - high)} after the window ({feature.span}) ends"
    return f"T10: {span((low or 0) + 1 - ts)} before the window ({feature.span}) begins"


def span(us: int) -> str:
    """A duration for people: "7d", "6h 30min", "1 µs"."""
    parts_ = []
    for unit, size in (("d", 86_400_000_000), ("h", 3_600_000_000), ("min", 60_000_000),
                       ("s", 1_000_000)):  # fmt: skip
        if us >= size:
            parts_.append(f"{us // size}{unit}")
            us %= size
    return " ".join([*parts_, *([f"{us} µs"] if us or not parts_ else [])])
