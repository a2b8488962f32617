"""Experiments on a window's edges: which events lie in it, and where a path's edge is elsewhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from featurekit.define.plan import Feature, View
from featurekit.parity.diagnose.diagnosis import when
from featurekit.parity.diagnose.shrink import changed, moved
from featurekit.parity.diagnose.trial import Trial
from featurekit.parity.scenario import Scenario

_HOUR, QUARTER = 3_600_000_000, 900_000_000
_MOVES = (1, 2, 1_000, 1_000_000, 60_000_000, QUARTER, _HOUR, 2 * _HOUR)
"""How far an edge may be misplaced: microseconds, a second, a minute, or a zone's offset."""


def window(view: View, feature: Feature, t: int) -> tuple[int | None, int]:
    """The window (low, high] as the rules have it; of a latest row its ttl's.

    It is reckoned here, since what the paths reckon with may be what is wrong."""
    if feature.aggregate is None:
        return (None if view.ttl_us is None else t - view.ttl_us), t
    high = t - feature.offset_us
    if feature.frame is not None and not feature.frame.steady:
        low, last = feature.frame.bounds(high, feature.window_us, feature.hop_us)
        return low, last if feature.frame.exclude is None else min(last, t - 1)
    high -= 0 if feature.frame is None or feature.frame.exclude is None else 1
    if feature.lifetime:
        return None, high
    low = high - feature.window_us
    return (low // feature.hop_us * feature.hop_us if feature.hop_us else low), high


def inside(of: tuple[int | None, int], ts: int) -> bool:
    """Whether an instant lies in a window."""
    low, high = of
    return (low is None or low < ts) and ts <= high


def place(row: dict[str, Any], view: View, feature: Feature, t: int) -> str:
    """Where an event stands in the window, for people."""
    low, high = window(view, feature, t)
    said = f"at {when(row['__ts'])}"
    if row["__created"] != row["__ts"]:
        said += f", arrived {when(row['__created'])}"
    if low is not None:
        said += f", {row['__ts'] - low:,} µs after the window begins"
    return f"{said}, {high - row['__ts']:,} µs before it ends"


def turns_on(trial: Trial, view: View, feature: Feature, change: str) -> bool:
    """Whether the paths agree where the window is defined without something that decides which
    of the events lie in it."""
    at = trial.scenario.at

    def of(one: Feature) -> list[bool]:
        there = window(view, one, at)
        return [inside(there, d.row["__ts"]) for d in trial.scenario.deliveries]

    without_it: dict[str, Any] = {change: 0}
    if of(feature) == of(replace(feature, **without_it)):
        return False
    return not trial.still(trial.with_feature(feature, **without_it))


def edge(
    trial: Trial, view: View, feature: Feature, number: int, most: int = 2 * _HOUR
) -> str | None:
    """The cause, where an edge is elsewhere on one path, by `most` microseconds at most: where the
    event is moved away from the edge, on the side of it on which it is, the paths agree."""
    low, high = window(view, feature, trial.scenario.at)
    of_ttl = feature.aggregate is None
    if view.ttl_us is not None and not of_ttl:
        ends = [(low, 1, False), (high, -1, False), (trial.scenario.at - view.ttl_us, 1, True)]
    else:
        ends = [(low, 1, of_ttl), (high, -1, False)]
    for by in (m for m in _MOVES if m <= most):
        for end, inwards, is_ttl in ends:
            said = _beyond(trial, number, end, inwards, by, (low, high))
            if said is None:
                continue
            trial.evidence.append(said)
            if by > 2 and feature.frame is not None and (feature.hop_us or feature.cuts):
                return "frame"
            if by >= QUARTER:
                return "time zone"
            if 1_000 <= by <= 1_000_000:
                return "precision"
            if is_ttl:
                return "ttl"
            return "hop" if _hops(feature) and by > 2 and inwards > 0 else "window edge"
        if by == 2 and _hops(feature) and low is not None:
            near = _hop(trial, feature, number, low, high)
            if near is not None:
                trial.evidence.append(near)
                return "hop"
    return None


def _hops(feature: Feature) -> bool:
    """Whether the open end of the window is aligned to a hop, and the closed end is not."""
    return bool(feature.hop_us) and feature.steady


def _beyond(
    trial: Trial,
    number: int,
    end: int | None,
    inwards: int,
    by: int,
    of: tuple[int | None, int],
) -> str | None:
    """Whether the event, nearer to an edge than `by`, is taken alike where it is so far on."""
    ts = trial.scenario.deliveries[number].row["__ts"]
    if end is None or abs(ts - end) >= by:
        return None
    within = ts > end if inwards > 0 else ts <= end
    move = by * inwards if within else -by * inwards
    if within and not inside(of, ts + move):
        return None
    others = [d.row["__ts"] for i, d in enumerate(trial.scenario.deliveries) if i != number]
    if any(_sign(ts - other) != _sign(ts + move - other) for other in others):
        return None  # another order of the events may be what makes them agree
    if trial.still(_nudged(trial.scenario, number, move)):
        return None
    return f"event {number + 1} moved by {move:+,} µs, away from the edge, is taken alike"


def _hop(trial: Trial, feature: Feature, number: int, low: int, high: int) -> str | None:
    """Whether the event, near the aligned beginning, is taken alike well within the window."""
    ts = trial.scenario.deliveries[number].row["__ts"]
    if abs(ts - low) > feature.hop_us:
        return None
    to = high - 1 if ts > low else low - feature.hop_us - 1
    if trial.still(_nudged(trial.scenario, number, to - ts)):
        return None
    return f"the window begins at {when(low)}, aligned to its hop; far from there it agrees"


def agrees_without_frame(trial: Trial, feature: Feature) -> bool:
    """Whether the paths agree about a window of which the length, the offset and the hop alone say
    which events count."""
    if feature.frame is None:
        return False
    return not trial.still(trial.with_feature(feature, frame=None))


def agrees_without_hop(trial: Trial, view: View, feature: Feature, ts: int) -> bool:
    """Whether the paths agree about a window without its hop, which holds the event too."""
    low, _ = window(view, replace(feature, hop_us=0), trial.scenario.at)
    if low is None or ts <= low:
        return False
    return not trial.still(trial.with_feature(feature, hop_us=0))


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)


def _nudged(scenario: Scenario, number: int, by: int) -> Scenario:
    """The scenario with one event moved, and its arrival only where it would come before."""
    row = scenario.deliveries[number].row
    if row["__created"] == row["__ts"]:
        return moved(scenario, number, by)
    return changed(scenario, [number], "__ts", lambda r: r["__ts"] + by)
