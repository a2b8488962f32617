"""Turns an entity's state into the values of a view's features as of an instant (T3 to T8, V1,
R3)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from featurekit.aggregates import Aggregate, runs
from featurekit.core.kept import Kept
from featurekit.core.status import ERROR_STATUS, NOT_FOUND, NULL_VALUE, OUTSIDE_MAX_AGE, PRESENT
from featurekit.core.types import instant
from featurekit.core.values import ERROR
from featurekit.define.plan import Feature, View, empty_value
from featurekit.errors import AsOfTooOld
from featurekit.language.to_python import to_python
from featurekit.online.state.inputs import inputs, item_type
from featurekit.online.state.state import Reader

Answer = list[tuple[Any, str]]
"""A value and its status for each feature of a view."""
UNASKED: tuple[Any, str] = (None, NULL_VALUE)
"""What stands for a feature that nobody asked for, and that was not computed."""


def unknown(view: View) -> Answer:
    """The answer for an entity without any event: empty windows, and no latest row (S2)."""
    return [(empty_value(f), NOT_FOUND) for f in view.features]


def answer(read: Reader | None, view: View, t: int, asked: Asked | None = None) -> Answer:
    """The view's values and statuses for one entity as of `t` (T3 to T8, V1, R3).

    `read` is None for an entity without a state. `t` is in microseconds UTC. Features that are not
    `asked` for, by default none, may be UNASKED. AsOfTooOld where `t` lies before the state's
    horizon.
    """
    if read is None:
        return unknown(view)
    check_age(view, read.newest_arrival, t)
    if not read.known(t):
        return unknown(view)
    asked = asked or _asked(view)
    return (_latest if view.kind == "latest" else _windows)(view, read, t, asked)


def check_age(view: View, newest_arrival: int, t: int) -> None:
    """AsOfTooOld where `t` lies before the horizon (T8)."""
    if t < newest_arrival - view.history_us:
        horizon = instant(newest_arrival - view.history_us)
        raise AsOfTooOld(
            f"view {view.name!r} cannot answer as of {instant(t).isoformat()}: it knows this "
            f"entity from {horizon.isoformat()} on; ask later, or declare history= on the view"
        )


def arrival_ahead(view: View, newest_arrival: int, clock: int) -> AsOfTooOld:
    """Why a state with an arrival after the clock does not answer (S3)."""
    return AsOfTooOld(
        f"view {view.name!r} cannot answer for this entity: its state holds an arrival of "
        f"{instant(newest_arrival).isoformat()}, after the store's clock, "
        f"{instant(clock).isoformat()}; no such row is taken any more. `featurekit materialize` "
        "remakes the state without it"
    )


def _latest(view: View, read: Reader, t: int, asked: Asked) -> Answer:
    row = next((k for k in range(read.n - 1, -1, -1) if read.counts(k, t)), None)
    if row is None:
        return unknown(view)
    if view.ttl_us is not None and read.ts[row] <= t - view.ttl_us:
        return [(None, OUTSIDE_MAX_AGE) for _ in view.features]
    out = [UNASKED] * len(view.features)
    functions = _functions(view)
    for f in asked.features:
        feature, function = view.features[f], functions[f]
        if feature.asked is None:
            assert feature.slot is not None
            out[f] = stated(read.column(feature.slot)[row])
            continue
        given = [instant(t) if i is None else read.column(i)[row] for i in feature.asked.inputs]
        # Reading an erring slot errs (R3).
        out[f] = stated(ERROR if any(v is ERROR for v in given) else function(*given))
    return out


def _made_functions(view: View) -> list[Callable[..., Any]]:
    """For each feature the function that runs when it is asked for (T9), or one that is not
    called."""
    asked = [feature.asked for feature in view.features]
    return [stated if one is None else to_python(one.function) for one in asked]


_functions = Kept(_made_functions)


def stated(value: Any) -> tuple[Any, str]:
    """A value with its status: None is NULL_VALUE, ERROR is None with the status ERROR (R3)."""
    if value is None:
        return None, NULL_VALUE
    return (None, ERROR_STATUS) if value is ERROR else (value, PRESENT)


class Asked:
    """Which of a view's features a service asks for, and the distinct windows and slots of these.

    `features` has their numbers. In a window view, what follows is about these. `windows` has one
    feature for each distinct window, and `of` the place of a feature's window in it. `slots` has
    the float slots for which `runs_of` computes fields, with these fields. `places` says where the
    value of a feature stands in the result of `_runs`. It is 0, where that result has None, for a
    feature that has to be computed from its inputs.
    """

    def __init__(self, view: View, features: Iterable[int]) -> None:
        self.features = sorted(features)
        some = [view.features[f] for f in self.features if view.kind == "window"]
        bounds = [(f.window_us, f.offset_us, f.hop_us, f.frame) for f in some]
        distinct = list(dict.fromkeys(bounds))
        self.windows = [some[bounds.index(one)] for one in distinct]
        self.of = [distinct.index(one) for one in bounds]
        of_runs = [_of_runs(view, feature) for feature in some]
        self.slots: dict[int, list[runs.RunField]] = {}
        for slot, name in filter(None, of_runs):
            if slot is not None and name not in self.slots.setdefault(slot, []):
                self.slots[slot].append(name)
        columns: list[tuple[int | None, runs.RunField] | None] = [(None, "count")]
        columns += [(slot, name) for slot, names in self.slots.items() for name in names]
        self.places = [
            0 if found is None else 1 + columns.index(found) * len(distinct) + window
            for found, window in zip(of_runs, self.of, strict=True)
        ]


def _of_runs(view: View, feature: Feature) -> tuple[int | None, runs.RunField] | None:
    """The slot and the field from which `_runs` answers a feature; None for a feature that has to
    be computed from its inputs."""
    slot, name = feature.slot, feature.implementation().of_run
    if name is None or feature.where is not None or feature.cuts:
        return None
    return (slot, name) if slot is None or view.slots[slot].type.name == "float" else None


def _made_asked(view: View) -> Asked:
    return Asked(view, range(len(view.features)))


_asked = Kept(_made_asked)


def _windows(view: View, read: Reader, t: int, asked: Asked) -> Answer:
    ts, late = read.ts, read.newest_arrival > t or read.ends is not None
    if view.ttl_us is not None:
        i, j = bisect_right(ts, t - view.ttl_us), bisect_right(ts, t)
        if not any(not late or read.counts(k, t) for k in range(i, j)):
            return [(None, OUTSIDE_MAX_AGE) for _ in view.features]
    spans = []
    for low, high in [feature.bounds(t) for feature in asked.windows]:
        spans.append((bisect_right(ts, low), bisect_right(ts, high)))
    if late:
        found: list[Any] = [None] * len(asked.features)
    else:
        every = _runs(asked, read, spans)
        found = [every[place] for place in asked.places]
    out = [UNASKED] * len(view.features)
    left: list[tuple[int, tuple[int, int]]] = []
    for f, value, window in zip(asked.features, found, asked.of, strict=True):
        if value is None:
            left.append((f, spans[window]))
        else:
            out[f] = stated(value)
    if left:
        _unpack(view, read, left)
        for f, span in left:
            out[f] = _window(view, view.features[f], read, span, t, late=late)
    return out


def _runs(asked: Asked, read: Reader, spans: Sequence[tuple[int, int]]) -> list[Any]:
    """None, the number of events in each window, and then each field of `asked.slots` over each
    window.

    A value is None where the feature has to be computed from its inputs.
    """
    counts = [j - i for i, j in spans]
    some = [span for span in spans if span[0] < span[1]]
    found: list[Any] = [None, *counts]
    for slot, names in asked.slots.items():
        column = read.column(slot) if max(counts) >= runs.WORTH else None
        if isinstance(column, memoryview):
            values = runs.runs_of(column, some, names)
            for name in names:
                each = iter(values[name])
                found += [next(each) if many else None for many in counts]
        else:  # few events, or some value is None or ERROR
            found += [None] * (len(counts) * len(names))
    return found


def _unpack(view: View, read: Reader, asked: Sequence[tuple[int, tuple[int, int]]]) -> None:
    """Make Python values of the columns that several features read."""
    taken: dict[int, int] = {}
    for f, (i, j) in asked:
        slot = view.features[f].slot
        if slot is not None:
            taken[slot] = taken.get(slot, 0) + j - i
    for slot, many in taken.items():
        if many > read.n:
            read.unpack(slot)


def _window(
    view: View, feature: Feature, read: Reader, span: tuple[int, int], t: int, *, late: bool
) -> tuple[Any, str]:
    """One aggregate over the events of a span. With `late`, an event of the span may have arrived
    after `t`, or may be over by then."""
    i, j = span
    if i >= j:
        return stated(empty_value(feature))
    aggregate = feature.implementation()
    values = inputs(feature, aggregate, read, i, j, t, late=late)
    return finished(
        feature, aggregate, t, aggregate.over, values, item_type(view, feature, aggregate)
    )


def finished(
    feature: Feature, aggregate: Aggregate, t: int, over: Callable[..., Any], *about: Any
) -> tuple[Any, str]:
    """The value of `over(*about)` as of `t`, and its status (R3, A4)."""
    try:
        value = aggregate.as_of(over(*about), t)
    except ArithmeticError:
        return None, ERROR_STATUS
    return stated(feature.default if value is None else value)
