"""Turns one view, all events and an instant into a feature's value, straight from the semantics.

Naive on purpose, and never optimised: it reads every event for every value, calls transforms as
plain functions and sums in fractions. Of featurekit it knows only what users write.
"""

from __future__ import annotations

import datetime as dt
import inspect
import math
import re
import struct
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, get_type_hints

from featurekit.aggregates import Aggregate, Count, CountDistinct, Last, Max, Mean, Min, Sum
from featurekit.define import EventSource, FeatureView, Transform
from featurekit.types import Type, from_hint

PRESENT, NULL_VALUE, NOT_FOUND = "PRESENT", "NULL_VALUE", "NOT_FOUND"
OUTSIDE_MAX_AGE, ERROR = "OUTSIDE_MAX_AGE", "ERROR"

Event = dict[str, Any]
"""The columns of a source's schema, and `__ts` and `__created` in microseconds UTC."""

_UNITS = {"us": "microseconds", "ms": "milliseconds", "s": "seconds", "m": "minutes"}
_UNITS |= {"h": "hours", "d": "days", "w": "weeks"}


class Erred(Exception):
    """The third state beside a value and None (R3)."""


def value(
    view: FeatureView, feature_name: str, events: Sequence[Event], key: Mapping[str, Any], t: int
) -> tuple[Any, str]:
    """The value and status of one feature of one entity as of `t` µs."""
    definition = view.features[feature_name]
    known = [event for event in events if event["__ts"] <= t and event["__created"] <= t]  # T3
    known = [event for event in known if _belongs(event, view, key)]
    known.sort(key=lambda event: _t6(event, view.source))
    try:
        if isinstance(definition, Aggregate):
            result = _over_window(definition, view.source, known, t)
        elif not known:
            return None, NOT_FOUND
        elif view.ttl is not None and known[-1]["__ts"] <= t - _us(view.ttl):  # T4
            return None, OUTSIDE_MAX_AGE
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
        utc = value if value.tzinfo else value.replace(tzinfo=dt.timezone.utc)
        epoch = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
        return kind, (utc - epoch) // dt.timedelta(microseconds=1)
    return kind, value


def _status(result: Any) -> str:
    return NULL_VALUE if result is None else PRESENT


def _belongs(event: Event, view: FeatureView, key: Mapping[str, Any]) -> bool:
    """Whether the event is of this entity; a null key is of none, int 1 is not True (S2)."""
    return all(
        key[name] is not None and bits(event[name]) == bits(key[name]) for name in view.join_keys
    )


def _t6(event: Event, source: EventSource) -> tuple[Any, ...]:
    first = [source.sequence] if source.sequence is not None else []
    columns = [*first, *source.schema]
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
    return from_hint(get_type_hints(transform.function)["return"])


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
    end = t - (_us(aggregate.offset) if aggregate.offset is not None else 0)
    start = end - _us(aggregate.window)
    if aggregate.hop is not None:
        start = start // _us(aggregate.hop) * _us(aggregate.hop)  # T5
    inputs = []
    for event in known:
        try:
            if not start < event["__ts"] <= end:  # T4
                continue
            if aggregate.where is not None and _read(aggregate.where, event) is not True:
                continue
            inputs.append(True if aggregate.input is None else _read(aggregate.input, event))
        except Erred:
            continue
    result = _finish(aggregate, [value for value in inputs if value is not None])
    return _declared(aggregate.default, _result(aggregate, source)) if result is None else result


def _finish(aggregate: Aggregate, values: list[Any]) -> Any:
    """The table "Aggregates over a window", over inputs that are not None in the order of T6."""
    if isinstance(aggregate, Count):
        return len(values)
    if isinstance(aggregate, CountDistinct):
        return len({bits(v + 0.0 if isinstance(v, float) else v) for v in values})
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
    if isinstance(aggregate, Last):
        return values[-1]
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


def _result(aggregate: Aggregate, source: EventSource) -> Type:
    """The type that a default takes (A3)."""
    if isinstance(aggregate, (Count, CountDistinct)):
        return Type("int")
    if isinstance(aggregate, Mean):
        return Type("float")
    if isinstance(aggregate.input, str):
        type_ = source.schema[aggregate.input]
    else:
        type_ = _returns(aggregate.input)
    return Type("int") if isinstance(aggregate, Sum) and type_.name == "bool" else type_


def _us(duration: str | dt.timedelta) -> int:
    """Microseconds of "90s", "6h", "7d" or a timedelta."""
    if isinstance(duration, str):
        number, unit = re.fullmatch(r"(\d+)([a-z]+)", duration).groups()
        duration = dt.timedelta(**{_UNITS[unit]: int(number)})
    return duration // dt.timedelta(microseconds=1)
