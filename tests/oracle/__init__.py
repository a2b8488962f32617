"""Turns one view, all events and an instant into a feature's value, straight from the rules.

Naive on purpose, and never optimised: it reads every event for every entity and instant, calls
transforms as plain functions and sums in fractions. Of featurekit it knows only what users write.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import inspect
import itertools
import math
import operator
import re
import statistics
import struct
import zoneinfo
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, localcontext
from fractions import Fraction
from importlib import resources
from typing import Any, get_type_hints

from featurekit.aggregates import (
    Aggregate,
    All,
    ApproxCountDistinct,
    ApproxQuantile,
    BitAnd,
    BitOr,
    Correlation,
    Count,
    CountDistinct,
    Covariance,
    Distinct,
    Entropy,
    ExponentialDecay,
    First,
    FirstN,
    GeometricMean,
    Histogram,
    Kurtosis,
    Lag,
    LargestN,
    Last,
    LastN,
    LinearTrend,
    Max,
    Mean,
    Min,
    Mode,
    Quantile,
    Ratio,
    Skew,
    SmallestN,
    StdDev,
    Sum,
    SumOfSquares,
    TimeSince,
    TopK,
    ValueCounts,
    Variance,
)
from featurekit.aggregates import Any as AnyOf
from featurekit.core.types import Type, from_hint
from featurekit.define.arrivals import Delay
from featurekit.define.definitions import EventSource, FeatureView, Joined, Union
from featurekit.language.transform import Transform

PRESENT, NULL_VALUE, NOT_FOUND = "PRESENT", "NULL_VALUE", "NOT_FOUND"
OUTSIDE_MAX_AGE, ERROR, NOT_YET = "OUTSIDE_MAX_AGE", "ERROR", "NOT_YET"

Event = dict[str, Any]
"""The columns of a source's schema, and `__ts` and `__created` in microseconds UTC."""

_UNITS = {"us": "microseconds", "ms": "milliseconds", "s": "seconds", "m": "minutes"}
_UNITS |= {"h": "hours", "d": "days", "w": "weeks"}


class Erred(Exception):
    """The third state beside a value and None (R3)."""


def value(
    view: FeatureView,
    feature_name: str,
    events: Sequence[Event],
    key: Mapping[str, Any],
    t: int,
) -> tuple[Any, str]:
    """The value and status of one feature of one entity as of `t` µs."""
    return value_over(view, feature_name, known_events(view, events, key, t), t)


def label(
    view: FeatureView,
    name: str,
    events: Sequence[Event],
    key: Mapping[str, Any],
    t: int,
    known_at: int,
) -> tuple[Any, str]:
    """The value and status of one label of one entity at `t` µs, of what arrived by `known_at`
    (T10)."""
    definition = view.features[name]
    if isinstance(definition, Transform):
        taken = inspect.signature(definition.function).parameters
        inputs = {one: label(view, one, events, key, t, known_at) for one in taken}
        if any(status == NOT_YET for _, status in inputs.values()):
            return None, NOT_YET
        return request_value(definition, inputs)
    end = t + _us(definition.window)
    for source in view.event_sources:
        mine = [e for e in events if e.get("__source", source.name) == source.name]
        arrivals = [e["__created"] for e in mine if e["__created"] <= known_at]
        settle = definition.settle
        if settle is None:
            settle = source.arrives.by if isinstance(source.arrives, Delay) else "0s"
        if not arrivals or not end < min(known_at, max(arrivals)) - _us(settle):
            return None, NOT_YET
    return value_over(view, name, known_events(view, events, key, end, known_at=known_at), t)


def known_events(
    view: FeatureView,
    events: Sequence[Event],
    key: Mapping[str, Any],
    t: int,
    others: Mapping[str, Sequence[Event]] | None = None,
    *,
    known_at: int | None = None,
) -> list[Event]:
    """The events of one entity up to `t` µs that count as of then, or of those that had arrived by
    `known_at`, in the order of T6. `others` has the rows of every source, where rows of the view
    take features from other views (T11)."""
    return _known(view, events, key, t, t if known_at is None else known_at, others or {})


def _known(
    view: FeatureView,
    events: Sequence[Event],
    key: Mapping[str, Any],
    happened: int,
    arrived: int,
    others: Mapping[str, Sequence[Event]],
) -> list[Event]:
    """As `known_events`, of what had happened by one instant and had arrived by another."""
    known = [event for event in events if event["__created"] <= arrived]  # T3
    if isinstance(view.source, Union):
        known = _united(view, view.source, known, others)
    else:
        known = _enriched(view.source, _in_force(view, view.source, known), others)
    known = [event for event in known if event["__ts"] <= happened]
    if view.explode is not None:
        column = view.explode
        known = [
            {**event, column: element, "__position": position}
            for event in known
            for position, element in enumerate(event[column] or [])
        ]
    if view.where is not None:  # V1
        known = [event for event in known if _read(view.where, event) is True]
    wanted = {name: bits(key[name]) for name in view.join_keys}
    known = [event for event in known if _belongs(event, wanted)]
    return sorted(known, key=lambda event: _t6(event, view.source, view.explode))


def value_over(view: FeatureView, feature_name: str, known: list[Event], t: int) -> tuple[Any, str]:
    """As `value`, over the `known_events` of the entity."""
    definition = view.features[feature_name]
    try:
        if known and view.ttl is not None and known[-1]["__ts"] <= t - _us(view.ttl):  # T4
            return None, OUTSIDE_MAX_AGE
        if isinstance(definition, Aggregate):
            result = _over_window(definition, view.source, known, t)
        elif not known:
            return None, NOT_FOUND
        else:
            result = _read(definition, known[-1])  # V1
    except Erred:
        return None, ERROR
    return result, _status(result) if known else NOT_FOUND


def request_value(transform: Transform, inputs: Mapping[str, tuple[Any, str]]) -> tuple[Any, str]:
    """The value and status of a request-time transform over features and request fields (Q1)."""
    if any(inputs[name][1] == ERROR for name in inspect.signature(transform.function).parameters):
        return None, ERROR
    try:
        result = _read(transform, {name: found for name, (found, _) in inputs.items()})
    except Erred:
        return None, ERROR
    return result, _status(result)


def bits(value: Any) -> Any:
    """A hashable form that is equal for values of one type and one bit pattern, and only those.

    All NaNs are one, -0.0 is not 0.0, a bool is no int, and a datetime is its instant.
    """
    kind = type(value).__name__
    if isinstance(value, float):
        return kind, "nan" if math.isnan(value) else struct.pack(">d", value).hex()
    if isinstance(value, (list, tuple)):
        return kind, tuple(bits(item) for item in value)
    if isinstance(value, dict):
        return kind, tuple((bits(k), bits(v)) for k, v in value.items())
    if isinstance(value, dt.datetime):
        utc = value if value.tzinfo else value.replace(tzinfo=dt.UTC)
        epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
        return kind, (utc - epoch) // dt.timedelta(microseconds=1)
    return kind, value


def _status(result: Any) -> str:
    return NULL_VALUE if result is None else PRESENT


def _enriched(
    source: EventSource | Joined, events: Sequence[Event], others: Mapping[str, Sequence[Event]]
) -> list[Event]:
    """The events with what each takes: of the last row of the other view's entity that had happened
    by the event's instant and had arrived by the event's arrival (T11)."""
    made = [dict(event) for event in events]
    for view, on, takes in source.joins if isinstance(source, Joined) else ():
        rows = _rows_of(view, others)
        for event in made:
            key = {name: event[column] for name, column in on.items()}
            at, found = event["__ts"], []
            if None not in key.values():
                found = _known(view, rows, key, at, event["__created"], others)
            if found and view.ttl is not None and found[-1]["__ts"] <= at - _us(view.ttl):
                found = []
            for feature, name in takes.items():
                event[name] = _read(view.features[feature], found[-1]) if found else None
    return made


def _rows_of(view: FeatureView, every: Mapping[str, Sequence[Event]]) -> list[Event]:
    """The rows of a view's source, or of the sources of its union with their names."""
    if not isinstance(view.source, Union):
        return list(every[view.source.name])
    return [row | {"__source": one.name} for one in view.event_sources for row in every[one.name]]


def _united(
    view: FeatureView,
    union: Union,
    arrived: Sequence[Event],
    others: Mapping[str, Sequence[Event]],
) -> list[Event]:
    """The events of a union that count: of each of its sources, whose name stands in `__source`,
    those in force, with the union's columns, `__sequence` and `__place` (T11)."""
    found: list[Event] = []
    for place, (source, columns) in enumerate(union.parts):
        mine = [event for event in arrived if event["__source"] == source.name]
        for event in _enriched(source, _in_force(view, source, mine), others):
            made = {name: event[column] for name, column in columns.items()}
            number = None if source.sequence is None else event[source.sequence]
            made |= {"__sequence": number, "__place": place}
            found.append(made | {"__ts": event["__ts"], "__created": event["__created"]})
    return found


def _in_force(
    view: FeatureView, source: EventSource | Joined, arrived: Sequence[Event]
) -> Sequence[Event]:
    """The events that count of all that arrived, which are taken one after another (T7)."""
    if source.event_id is None:
        return arrived
    within = _memory(view)
    counting: list[Event] = []
    first: dict[Any, int] = {}  # without an op: when the event arrived that copies are held against
    last: dict[Any, int] = {}  # with an op: when the newest version arrived
    held: dict[Any, Event] = {}  # and that version, where it is no deletion
    plain = source.source if isinstance(source, Joined) else source
    for row in sorted(arrived, key=lambda row: (row["__created"], *_t6(row, plain))):
        name, at = row[source.event_id], row["__created"]
        if source.op is None:
            if name not in first or at - first[name] > within:
                first[name] = at
                counting.append(row)
            continue
        if name in last and at - last[name] > within and name in held:
            counting.append(held[name])  # forgotten: nothing can correct it any more
        held.pop(name, None)
        last[name] = at
        if row[source.op] == "upsert":
            held[name] = row
    return [*counting, *held.values()]


def _memory(view: FeatureView) -> int:
    """How long ids are remembered: as stated, or as far as the view's windows or ttl reach (T7)."""
    if view.source.dedupe_within is not None:
        return _us(view.source.dedupe_within)
    reach = [_us(view.ttl)] if view.ttl is not None else []
    for definition in view.features.values():
        if isinstance(definition, Aggregate):
            parts = (definition.window, definition.offset, definition.hop)
            reach.append(sum(_us(part) for part in parts if part))
            if definition.calendar is not None:
                full = 0 if definition.running else definition.periods or 1
                longest = {"day": 1, "week": 7, "month": 31}[definition.calendar]
                reach[-1] += _us(f"{longest * (full + 1) + 2}d")
    return max(reach)


def _belongs(event: Event, wanted: Mapping[str, Any]) -> bool:
    """Whether the event is of the entity whose keys have these bits; a null key is of none, int 1
    is not True (S2)."""
    return all(
        event[name] is not None and bits(event[name]) == found for name, found in wanted.items()
    )


def _t6(
    event: Event, source: EventSource | Joined | Union, exploded: str | None = None
) -> tuple[Any, ...]:
    if isinstance(source, Union):  # its sequence, its own values, then the order of the sources
        columns = ["__sequence", *source.schema]
        last = ["__place"]
    else:
        columns = [*([source.sequence] if source.sequence is not None else []), *source.schema]
        last = []
    if exploded is not None:  # a row's elements follow one another, in the order of the list
        columns = [name for name in columns if name != exploded]
        last = ["__position", exploded, *last]
    columns += last
    return event["__ts"], event["__created"], *(_order(event[column]) for column in columns)


def _order(value: Any) -> tuple[Any, ...]:
    """Nulls first, -0.0 before 0.0, NaN last (T6)."""
    if value is None:
        return (0,)
    if isinstance(value, float):
        return (2,) if math.isnan(value) else (1, value, math.copysign(1, value))
    if isinstance(value, list):
        return 1, [_order(item) for item in value]
    return 1, value


def _read(definition: str | Transform, row: Mapping[str, Any]) -> Any:
    """A column, or what the plain function returns in its declared type."""
    if isinstance(definition, str):
        return row[definition]
    arguments = {name: row[name] for name in inspect.signature(definition.function).parameters}
    try:
        return _declared(definition.function(**arguments), _returns(definition))
    except Exception as error:
        raise Erred from error


def _returns(transform: Transform) -> Type:
    return _returned(transform.function)


@functools.cache
def _returned(function: Callable[..., Any]) -> Type:
    return from_hint(get_type_hints(function)["return"])


def _declared(value: Any, type_: Type) -> Any:
    """The value in its declared type (A3), raising for what no type holds (R3)."""
    if isinstance(value, complex):
        raise ArithmeticError("a complex result")
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise OverflowError("an int outside int64")
        return {"int": int, "float": float}.get(type_.name, type(value))(value)
    if isinstance(value, list) and type_.item is not None:
        return [_declared(item, type_.item) for item in value]
    return value


def _over_window(aggregate: Aggregate, source: EventSource, known: list[Event], t: int) -> Any:
    start, end = _window(aggregate, t)
    if aggregate.exclude == "instant":
        known = [event for event in known if event["__ts"] != t]  # T10
    inputs, instants, categories = [], [], []
    within = [event for event in known if start < event["__ts"] <= end]  # T4
    ago = 0 if aggregate.offset is None else _us(aggregate.offset)
    for event in _rows(within, aggregate, t - ago):
        try:
            if isinstance(aggregate, PAIRED):
                found = tuple(_read(one, event) for one in aggregate.input)
                found = None if None in found else found
            else:
                found = True if aggregate.input is None else _read(aggregate.input, event)
            category = None if aggregate.by is None else _read(aggregate.by, event)
        except Erred:
            continue
        if aggregate.by is not None and category is None:
            continue
        if found is not None or getattr(aggregate, "keep_none", False):
            inputs.append((event["__ts"], found) if isinstance(aggregate, TIMED) else found)
            instants.append(event["__ts"])
            categories.append(category)
    if aggregate.by is not None:
        return _by_category(aggregate, categories, inputs, instants, t)
    if isinstance(aggregate, TimeSince):
        result = _seconds(aggregate, instants, t)
    else:
        result = _finish(aggregate, inputs, t)
    return _declared(aggregate.default, _result(aggregate, source)) if result is None else result


def _by_category(
    aggregate: Aggregate, categories: list[Any], inputs: list[Any], instants: list[int], t: int
) -> dict[Any, Any]:
    """The value of each category, those with most inputs first (A6)."""
    counts = [(-categories.count(one), one) for one in set(categories)]
    found = {}
    for _, category in sorted(counts):
        places = [i for i, one in enumerate(categories) if one == category]
        if isinstance(aggregate, TimeSince):
            value = _seconds(aggregate, [instants[i] for i in places], t)
        else:
            value = _finish(aggregate, [inputs[i] for i in places], t)
        if value is not None:
            found[category] = value
    return dict([*found.items()][: aggregate.top])


PAIRED, TIMED = (Covariance, Correlation, Ratio), (LinearTrend, ExponentialDecay)


def _rows(within: list[Event], aggregate: Aggregate, t: int) -> list[Event]:
    """The events of a window that `where` keeps and, of these, the last `rows`, or those of the
    session at `t` (T10)."""
    kept = []
    for event in within:
        try:
            if aggregate.where is None or _read(aggregate.where, event) is True:
                kept.append(event)
        except Erred:
            continue
    if aggregate.session is not None:
        return _session(kept, t, _us(aggregate.session))
    return kept if aggregate.rows is None else kept[-aggregate.rows :]


def _session(events: list[Event], t: int, gap: int) -> list[Event]:
    """The last events that follow each other by at most `gap`, if the last one is no older."""
    run: list[Event] = []
    for event in reversed(events):
        if (run[-1]["__ts"] if run else t) - event["__ts"] > gap:
            break
        run.append(event)
    return run[::-1]


def _window(aggregate: Aggregate, t: int) -> tuple[float, float]:
    """The instant after which the window begins, and that with which it ends (T4, T5, T10)."""
    end = t - (_us(aggregate.offset) if aggregate.offset is not None else 0)
    if aggregate.calendar is not None:
        return _periods(aggregate, end)
    if aggregate.ends == "hop":
        end = end // _us(aggregate.hop) * _us(aggregate.hop)
        return end - _us(aggregate.window), end
    start = -math.inf if aggregate.window in ("lifetime", "") else end - _us(aggregate.window)
    if aggregate.ahead:
        start, end = t, t + _us(aggregate.window)
    if aggregate.hop is not None:
        start = start // _us(aggregate.hop) * _us(aggregate.hop)
    return start, end


def _periods(aggregate: Aggregate, t: int) -> tuple[int, int]:
    """The window of whole days, weeks or months in a zone (T10)."""
    near = (dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=t)).date()
    first = near - dt.timedelta(days=32 * ((aggregate.periods or 1) + 1))
    days = [first + dt.timedelta(days=i) for i in range((near - first).days + 3)]
    if aggregate.calendar == "week":
        days = [day for day in days if day.isoweekday() == 1]
    if aggregate.calendar == "month":
        days = [day for day in days if day.day == 1]
    begun = [at for day in days if (at := _midnight(day, aggregate.timezone)) <= t]
    if aggregate.running:
        return begun[-1] - 1, t
    return begun[-1 - (aggregate.periods or 1)] - 1, begun[-1] - 1


def _midnight(day: dt.date, timezone: str) -> int:
    """The microsecond at which a day begins: fold=0, or the offset before a gap (T1)."""
    local = dt.datetime.combine(day, dt.time())
    epoch = dt.datetime(1970, 1, 1)
    offset = _zone(timezone).utcoffset(local)
    return (local - epoch - offset) // dt.timedelta(microseconds=1)


@functools.cache
def _zone(name: str) -> zoneinfo.ZoneInfo:
    """The zone of the tzdata package (T2)."""
    with resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return zoneinfo.ZoneInfo.from_file(file, key=name)


def _finish(aggregate: Aggregate, values: list[Any], t: int = 0) -> Any:
    """The table "Aggregates over a window", over inputs that are not None in the order of T6, as of
    `t`. Those of the PAIRED are pairs, those of the TIMED each with the microseconds before it."""
    if isinstance(aggregate, Count):
        return len(values)
    if isinstance(aggregate, CountDistinct):
        return len(_ranking(values))
    if isinstance(aggregate, ApproxCountDistinct):
        return _hyperloglog(values)
    if isinstance(aggregate, ValueCounts):
        return dict(_ranking(values))
    if isinstance(aggregate, TopK):
        return [value for value, _ in _ranking(values)][: aggregate.k]
    if isinstance(aggregate, SmallestN):
        return sorted(values, key=_order)[: aggregate.n]
    if isinstance(aggregate, LargestN):
        return sorted(values, key=_order, reverse=True)[: aggregate.n]
    if isinstance(aggregate, Distinct):
        most = len(values) if aggregate.top is None else aggregate.top
        return sorted([value for value, _ in _ranking(values)][:most], key=_order)
    if isinstance(aggregate, Histogram):
        return _binned(list(aggregate.edges), values)
    if isinstance(aggregate, FirstN):
        return (_occurring(values) if aggregate.distinct else values)[: aggregate.n]
    if isinstance(aggregate, LastN) and aggregate.distinct:
        return _occurring(values[::-1])[: aggregate.n][::-1]
    if isinstance(aggregate, LastN):
        return values[-aggregate.n :]
    if isinstance(aggregate, Lag):
        return values[-1 - aggregate.n] if len(values) > aggregate.n else None
    if not values:
        return None
    nan = any(isinstance(v, float) and math.isnan(v) for v in values)
    if isinstance(aggregate, Sum):
        return _total(values, int64=True)
    if isinstance(aggregate, Mean):
        return float(_total(values, int64=False)) / len(values)
    if isinstance(aggregate, Min):
        return math.nan if nan else min(values, key=_order)
    if isinstance(aggregate, Max):
        return math.nan if nan else max(values, key=_order)
    if isinstance(aggregate, Mode):
        return _ranking(values)[0][0]
    if isinstance(aggregate, First):
        return values[0]
    if isinstance(aggregate, Last):
        return values[-1]
    if isinstance(aggregate, AnyOf):
        return True in values
    if isinstance(aggregate, All):
        return False not in values
    if isinstance(aggregate, (Variance, StdDev)):
        return _spread(aggregate, values)
    if isinstance(aggregate, BitAnd):
        return functools.reduce(operator.and_, values)
    if isinstance(aggregate, BitOr):
        return functools.reduce(operator.or_, values)
    if isinstance(aggregate, SumOfSquares):
        return _squares(values)
    if isinstance(aggregate, (Skew, Kurtosis)):
        return _shape(aggregate, values)
    if isinstance(aggregate, GeometricMean):
        return _geometric_mean(values)
    if isinstance(aggregate, Entropy):
        return _entropy([count for _, count in _ranking(values)])
    if isinstance(aggregate, (Covariance, Correlation)):
        return _together(aggregate, values)
    if isinstance(aggregate, Ratio):
        return _ratio(values)
    if isinstance(aggregate, LinearTrend):
        return _trend(values)
    if isinstance(aggregate, ExponentialDecay):
        return _decayed(values, _us(aggregate.half_life), t)
    if isinstance(aggregate, Quantile):
        return math.nan if nan else _between(sorted(values, key=_order), aggregate.q)
    if isinstance(aggregate, ApproxQuantile):
        rank = math.floor((len(values) - 1) * aggregate.q)
        return math.nan if nan else _bucket(float(sorted(values, key=_order)[rank]))
    raise NotImplementedError(f"the oracle has no {type(aggregate).__name__}")


def _total(values: list[Any], *, int64: bool) -> int | float:
    """The exact sum, rounded once where it is of floats (A1)."""
    if not isinstance(values[0], float):
        total = sum(values)
        if int64 and not -(2**63) <= total < 2**63:
            raise Erred
        return total
    specials = [v for v in values if not math.isfinite(v)]
    if specials:
        return sum(specials)  # Python's own: NaN for a NaN or both infinities, else the infinity.
    try:
        return float(sum(Fraction(v) for v in values))
    except OverflowError as error:
        raise Erred from error


def _spread(aggregate: Variance | StdDev, values: list[Any]) -> float | None:
    if len(values) <= aggregate.ddof:
        return None
    if not all(map(math.isfinite, values)):
        return math.nan
    try:
        if isinstance(aggregate, StdDev):
            numbers = [v if isinstance(v, float) else int(v) for v in values]
            return float(
                statistics.stdev(numbers) if aggregate.ddof else statistics.pstdev(numbers)
            )
        mean = sum(Fraction(v) for v in values) / len(values)
        squares = sum((Fraction(v) - mean) ** 2 for v in values)
        return float(squares / (len(values) - aggregate.ddof))
    except OverflowError as error:
        raise Erred from error


def _squares(values: list[Any]) -> int | float:
    if all(map(math.isfinite, values)):
        values = [Fraction(v) if isinstance(v, float) else int(v) for v in values]
    else:
        values = [abs(v) for v in values if not math.isfinite(v)]
        return sum(values)
    total = sum(v * v for v in values)
    return _rounded(total) if isinstance(total, Fraction) else _total([total], int64=True)


def _deviations(values: Sequence[Any]) -> list[Fraction]:
    exact = [Fraction(v) for v in values]
    mean = sum(exact) / len(exact)
    return [v - mean for v in exact]


def _shape(aggregate: Skew | Kurtosis, values: list[Any]) -> float | None:
    """By the textbook: Fisher and Pearson's, or with `ddof` the estimates G1 and G2 of a sample."""
    n, fewest = len(values), 3 if isinstance(aggregate, Skew) else 4
    if n < (fewest if aggregate.ddof else 2):
        return None
    if not all(map(math.isfinite, values)):
        return math.nan
    d = _deviations(values)
    if not any(d):
        return None
    m2, m3, m4 = (sum(x**k for x in d) / n for k in (2, 3, 4))
    if isinstance(aggregate, Skew):
        factor = Fraction(n * (n - 1), (n - 2) ** 2) if aggregate.ddof else 1
        return _signed_root(m3, m3**2 / m2**3 * factor)
    if not aggregate.ddof:
        return _rounded(m4 / m2**2 - 3)
    s2 = sum(x**2 for x in d) / (n - 1)
    fourths = sum(x**4 for x in d) / s2**2
    estimate = fourths * n * (n + 1) / ((n - 1) * (n - 2) * (n - 3))
    return _rounded(estimate - Fraction(3 * (n - 1) ** 2, (n - 2) * (n - 3)))


def _together(aggregate: Covariance | Correlation, pairs: list[Any]) -> float | None:
    if len(pairs) < (2 if isinstance(aggregate, Correlation) else aggregate.ddof + 1):
        return None
    if not all(math.isfinite(v) for pair in pairs for v in pair):
        return math.nan
    dx, dy = (_deviations([pair[i] for pair in pairs]) for i in (0, 1))
    both = sum(x * y for x, y in zip(dx, dy, strict=True))
    if isinstance(aggregate, Covariance):
        return _rounded(both / (len(pairs) - aggregate.ddof))
    spreads = sum(x * x for x in dx) * sum(y * y for y in dy)
    return _signed_root(both, both * both / spreads) if spreads else None


def _ratio(pairs: list[Any]) -> float | None:
    if not pairs:
        return None
    if not all(math.isfinite(v) for pair in pairs for v in pair):
        return math.nan
    above, below = (sum(Fraction(pair[i]) for pair in pairs) for i in (0, 1))
    return _rounded(above / below) if below else None


def _trend(timed: list[Any]) -> float | None:
    """The slope of the least-squares line, per day."""
    if len(timed) < 2:
        return None
    if not all(math.isfinite(v) for _, v in timed):
        return math.nan
    days = _deviations([Fraction(us, 86_400_000_000) for us, _ in timed])
    values = [Fraction(v) for _, v in timed]
    if not any(days):
        return None
    rise = sum(day * v for day, v in zip(days, values, strict=True))
    return _rounded(rise / sum(day * day for day in days))


def _decayed(timed: list[Any], half_life: int, t: int) -> float:
    if not all(math.isfinite(v) for _, v in timed):
        return math.nan
    total = Fraction(0)
    for us, v in timed:
        j = 1024 * t // half_life - 1024 * us // half_life
        if j < 1000 * 1024:
            total += Fraction(v) * Fraction(_weight(j % 1024)) / 2 ** (j // 1024)
    return _rounded(total)


@functools.cache
def _weight(i: int) -> float:
    """The double nearest to 2**(-i / 1024), by way of 60 digits."""
    with localcontext() as context:
        context.prec = 60
        return float(Decimal(2) ** (Decimal(-i) / 1024))


def _log2(x: float) -> Fraction:
    """The base-2 logarithm, rounded to 2**-60 by way of 80 digits."""
    with localcontext() as context:
        context.prec = 80
        units = Decimal(x).ln() / Decimal(2).ln() * 2**60
        return Fraction(int(units.to_integral_value()), 2**60)


def _geometric_mean(values: list[Any]) -> float:
    if not all(map(math.isfinite, values)) or min(values) < 0:
        return math.nan
    if 0 in values:
        return 0.0
    return _power_of_two(sum(map(_log2, values)) / len(values))


def _power_of_two(x: Fraction) -> float:
    with localcontext() as context:
        context.prec = 80
        return float(Decimal(2) ** (Decimal(x.numerator) / x.denominator))


def _entropy(counts: list[int]) -> float:
    n = sum(counts)
    return _rounded((n * _log2(n) - sum(c * _log2(c) for c in counts)) / n)


def _rounded(x: Fraction | int) -> float:
    try:
        return float(x)
    except OverflowError as error:
        raise Erred from error


def _signed_root(sign: Fraction, x: Fraction) -> float:
    """The root of `x`, correctly rounded: of its first bits the last is set where more follow."""
    bits = 2 * 1100
    whole, rest = divmod(x.numerator << 2 * bits, x.denominator)
    root = math.isqrt(whole)
    found = _rounded(Fraction(2 * root + (rest != 0 or root * root != whole), 1 << (bits + 1)))
    return -found if sign < 0 else found


def _between(ordered: list[Any], q: float) -> float:
    """Type 7."""
    h = (len(ordered) - 1) * q
    lo, hi = ordered[math.floor(h)], ordered[math.ceil(h)]
    return float(lo) if lo == hi else lo + (hi - lo) * (h - math.floor(h))


def _bucket(value: float) -> float:
    """The middle of the value's bucket, of which an octave has 128; below 2**-1022 all are equally
    wide, and the first one stands for zero."""
    if math.isinf(value):
        return value
    width = Fraction(2) ** max(math.frexp(value)[1] - 8, -1029)
    number = Fraction(abs(value)) // width
    return math.copysign(float((number + Fraction(1, 2)) * width), value) if number else 0.0


def _hyperloglog(values: list[Any]) -> int:
    registers = [0] * 4096
    for value in values:
        where, rank = _register(value)
        registers[where] = max(registers[where], rank)
    return _estimate(registers)


def _register(value: Any) -> tuple[int, int]:
    """The one of 4,096 registers to which a value belongs, and its rank there: 52 bits of MD5."""
    kind, content = bits(value + 0.0 if isinstance(value, float) else value)
    if kind == "float":
        shape = "7ff8000000000000" if content == "nan" else content
        content = int(shape, 16) - (2**64 if int(shape, 16) >= 2**63 else 0)
    elif kind in ("date", "timedelta"):
        zero = dt.date(1970, 1, 1) if kind == "date" else dt.timedelta(0)
        unit = dt.timedelta(days=1) if kind == "date" else dt.timedelta(microseconds=1)
        content = (content - zero) // unit
    elif kind == "bool":
        content = int(content)
    text = content if isinstance(content, bytes) else str(content).encode()
    hashed = "".join(f"{byte:08b}" for byte in reversed(hashlib.md5(text).digest()[8:]))
    return int(hashed[:12], 2), (hashed[12:] + "1").index("1") + 1


def _estimate(registers: list[int]) -> int:
    """The estimate as a series (Ertl 2017, equation 37)."""
    share = {rank: registers.count(rank) / 4096 for rank in range(54)}
    if share[0] == 1:
        return 0
    below = 1 - share[53]
    low = share[0] + sum(share[0] ** 2**k * 2 ** (k - 1) for k in range(1, 40))
    high = (1 - below - sum((1 - below**2**-k) ** 2 * 2**-k for k in range(1, 60))) / 3
    total = low + sum(share[k] * 2.0**-k for k in range(1, 53)) + high * 2.0**-52
    return round(4096 / (2 * math.log(2)) / total)


def _binned(edges: list[Any], values: list[Any]) -> list[int]:
    """How many values lie below the first edge, between each two, and from the last one on."""
    ends = [-math.inf, *edges, None]
    return [
        sum(low <= value and (high is None or value < high) for value in values)
        for low, high in itertools.pairwise(ends)
    ]


def _occurring(values: list[Any]) -> list[Any]:
    """The distinct values, each where it occurs first; one zero and one NaN."""
    found: list[Any] = []
    for value in values:
        if isinstance(value, float):
            value = math.nan if math.isnan(value) else value + 0.0
        if bits(value) not in map(bits, found):
            found.append(value)
    return found


def _ranking(values: list[Any]) -> list[tuple[Any, int]]:
    """Distinct values and their counts, by count descending, then value; one zero and one NaN."""
    found: list[list[Any]] = []
    for value in values:
        if isinstance(value, float):
            value = math.nan if math.isnan(value) else value + 0.0
        for pair in found:
            if bits(pair[0]) == bits(value):
                pair[1] += 1
                break
        else:
            found.append([value, 1])
    return _ranked([(value, count) for value, count in found])


def _ranked(pairs: list[tuple[Any, int]]) -> list[tuple[Any, int]]:
    """Distinct values and their counts, by count descending, then value."""
    by_value = sorted(pairs, key=lambda pair: _order(pair[0]))
    return sorted(by_value, key=lambda pair: pair[1], reverse=True)


def _seconds(aggregate: TimeSince, instants: list[int], t: int) -> float | None:
    """From the first or last event of the window to t."""
    if not instants:
        return None
    event = max(instants) if aggregate.since == "last" else min(instants)
    return float(Fraction(t - event, 1_000_000))


def _result(aggregate: Aggregate, source: EventSource) -> Type:
    """The type that a default takes (A3)."""
    if isinstance(aggregate, (Count, CountDistinct, ApproxCountDistinct)):
        return Type("int")
    floats = (Mean, Variance, StdDev, Quantile, ApproxQuantile, TimeSince, Skew, Kurtosis)
    floats += (GeometricMean, Entropy)
    if isinstance(aggregate, (*floats, *PAIRED, *TIMED)):
        return Type("float")
    if isinstance(aggregate.input, str):
        type_ = source.schema[aggregate.input]
    else:
        type_ = _returns(aggregate.input)
    adds = isinstance(aggregate, (Sum, SumOfSquares))
    return Type("int") if adds and type_.name == "bool" else type_


def _us(duration: str | dt.timedelta) -> int:
    """Microseconds of "90s", "6h", "7d" or a timedelta."""
    if isinstance(duration, str):
        number, unit = re.fullmatch(r"(\d+)([a-z]+)", duration).groups()
        duration = dt.timedelta(**{_UNITS[unit]: int(number)})
    return duration // dt.timedelta(microseconds=1)
