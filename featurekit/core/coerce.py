"""Turns one Python value into its canonical form, or says why it does not fit its type (S1, S2)."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable
from numbers import Integral
from typing import Any

from featurekit.core.timezones import to_utc_us
from featurekit.core.types import (
    INSTANT_MAX,
    INSTANT_MIN,
    INT_MAX,
    INT_MIN,
    Type,
    as_float32,
    instant,
)


class Misfit(Exception):
    """A value that does not fit; its text is the reason. Never leaves `sources`."""


def canonical(value: Any, type_: Type, *, zone_name: str) -> Any:
    """`value` as its type holds it; an instant is an aware UTC datetime, a duration its µs.

    Raises `Misfit` for a value of another type or outside its type (S1): a bool is no int, an int
    stays within 64 bits, a text holds no lone surrogate.
    """
    if is_null(value):
        if type_.optional:
            return None
        raise Misfit(f"null in a column declared {type_}")
    if type_.item is not None:
        made = _list(value, type_, zone_name)
        return made if type_.size is None else _vector(made, type_.size)
    made = _CASES[type_.name](value, zone_name)
    if type_.choices is not None and made not in type_.choices:
        raise Misfit(not_among(type_))
    return made


def reader(type_: Type, *, zone_name: str) -> Callable[[Any], Any]:
    """`canonical` for the values of one column, most of which are canonical already."""

    def checked(value: Any) -> Any:
        return canonical(value, type_, zone_name=zone_name)

    exact = None if type_.item is not None or type_.choices is not None else _EXACT.get(type_.name)
    if exact is None:
        return checked
    kind, holds = exact

    def read(value: Any) -> Any:
        return value if type(value) is kind and holds(value) else checked(value)

    return read


def not_among(type_: Type) -> str:
    """What is wrong with a value outside the choices of its type."""
    return f"a value that is not among {', '.join(map(repr, type_.choices or ()))}"


def is_null(value: Any) -> bool:
    """True for None, and for pandas' NaT and NA, which are nulls of their own."""
    if value is None:
        return True
    return type(value).__name__ in ("NaTType", "NAType") and type(value).__module__.startswith(
        "pandas"
    )


def _misfit(value: Any, wanted: str) -> Misfit:
    return Misfit(f"expected {wanted}, found {type(value).__name__}")


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool) or type(value).__name__ in ("bool", "bool_")


def _bool(value: Any, _: str) -> bool:
    if not _is_bool(value):
        raise _misfit(value, "bool")
    return bool(value)


def _int(value: Any, _: str) -> int:
    if _is_bool(value) or not isinstance(value, Integral):
        raise _misfit(value, "int")
    number = int(value)
    if not INT_MIN <= number <= INT_MAX:
        raise Misfit("an int outside 64 bits")
    return number


def _float(value: Any, _: str) -> float:
    if _is_bool(value):
        raise _misfit(value, "float")
    if isinstance(value, float):
        return math.nan if value != value else float(value)
    if isinstance(value, Integral):
        return _float_of_int(int(value))
    if type(value).__module__ == "numpy" and type(value).__name__ in ("float32", "float16"):
        return math.nan if value != value else float(value)
    raise _misfit(value, "float")


def _float_of_int(number: int) -> float:
    try:
        exact = float(number)
    except OverflowError:
        raise Misfit("an int that no float equals") from None
    if exact != number:
        raise Misfit("an int that no float equals")
    return exact


def _str(value: Any, _: str) -> str:
    if not isinstance(value, str):
        raise _misfit(value, "str")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Misfit("a lone surrogate, which no text has") from None
    return str(value)


def _bytes(value: Any, _: str) -> bytes:
    if not isinstance(value, (bytes, bytearray)):
        raise _misfit(value, "bytes")
    return bytes(value)


def _datetime(value: Any, zone_name: str) -> dt.datetime:
    if not isinstance(value, dt.datetime):
        raise _misfit(value, "datetime")
    # A pandas Timestamp keeps its nanoseconds beside the microseconds: dropping them floors.
    plain = dt.datetime(
        value.year,
        value.month,
        value.day,
        value.hour,
        value.minute,
        value.second,
        value.microsecond,
        tzinfo=value.tzinfo,
        fold=value.fold,
    )
    us = to_utc_us(plain, zone_name)
    if not INSTANT_MIN <= us <= INSTANT_MAX:
        raise Misfit("an instant outside the years 1 to 9999")
    return instant(us)


def _date(value: Any, _: str) -> dt.date:
    if not isinstance(value, dt.date) or isinstance(value, dt.datetime):
        raise _misfit(value, "date")
    return value


def _timedelta(value: Any, _: str) -> int:
    if not isinstance(value, dt.timedelta):
        raise _misfit(value, "timedelta")
    us = (value.days * 86_400 + value.seconds) * 1_000_000 + value.microseconds
    if not INT_MIN <= us <= INT_MAX:
        raise Misfit("a duration outside 64-bit microseconds")
    return us


def _list(value: Any, type_: Type, zone_name: str) -> list[Any]:
    assert type_.item is not None
    if not isinstance(value, (list, tuple)):
        raise _misfit(value, str(type_))
    try:
        return [canonical(item, type_.item, zone_name=zone_name) for item in value]
    except Misfit as reason:
        raise Misfit(f"in a list, {reason}") from None


def _vector(values: list[float], size: int) -> list[float]:
    if len(values) != size:
        raise Misfit(f"{len(values)} numbers in a Vector[{size}]")
    try:
        return [as_float32(v) for v in values]
    except OverflowError:
        raise Misfit("a number beyond float32") from None


_CASES: dict[str, Callable[[Any, str], Any]] = {
    "bool": _bool,
    "int": _int,
    "float": _float,
    "str": _str,
    "bytes": _bytes,
    "datetime": _datetime,
    "date": _date,
    "timedelta": _timedelta,
}

_EXACT: dict[str, tuple[type, Callable[[Any], bool]]] = {
    "bool": (bool, lambda value: True),
    "int": (int, lambda value: INT_MIN <= value <= INT_MAX),
    "float": (float, lambda value: bool(value == value)),
    "str": (str, str.isascii),
    "bytes": (bytes, lambda value: True),
    "datetime": (dt.datetime, lambda value: value.tzinfo is dt.UTC and not value.fold),
}
"""Of a type, the Python type whose values are canonical as they are, where this is true of them."""
