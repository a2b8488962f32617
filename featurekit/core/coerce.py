"""Turns any given value into a value of its declared type, or says why it does not fit.

Three functions do so, each by a rule of its own. `canonical` reads pushed values and entity frames:
every value that equals a value of the type is accepted (S1). `asked` reads the rows of a lookup: it
accepts Python's own classes, and NumPy's scalars and arrays (S2). `returned` reads the result of a
function: there a bool is an int and either is a float, because Python computes with them in this
way (R3).
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from numbers import Integral
from typing import Any

from featurekit.core.formats import EpochFormat, Format, TextFormat, epoch_us, parsed
from featurekit.core.timezones import to_utc_us
from featurekit.core.types import (
    INSTANT_MAX,
    INSTANT_MIN,
    INT_MAX,
    INT_MIN,
    MICROSECOND,
    Type,
    as_float32,
    instant,
    micros,
)


class Misfit(Exception):
    """A value that does not fit; the text is the reason. The caller adds where the value stands."""


class _WrongList(Misfit):
    """The value is not a list, or not a vector, whatever its items are."""


def canonical(value: Any, type_: Type, *, zone_name: str) -> Any:
    """`value` in the form of its type; an instant is an aware UTC datetime, a duration is
    microseconds.

    Raises `Misfit` for a value of another type or outside its type (S1): a bool is not an int, an
    int fits into 64 bits, a text holds no lone surrogate.
    """
    if is_null(value):
        if type_.optional:
            return None
        raise Misfit(f"null in a column declared {type_}")
    if type_.item is not None:
        if not isinstance(value, (list, tuple)):
            raise _misfit(value, str(type_))
        try:
            read = reader(type_.item, zone_name=zone_name)
            return _listed(value, type_, lambda item, _: read(item))
        except _WrongList:
            raise
        except Misfit as reason:
            raise Misfit(f"in a list, {reason}") from None
    made = _CASES[type_.name](value, zone_name)
    if type_.choices is not None and made not in type_.choices:
        raise Misfit(not_among(type_))
    return made


def asked(value: Any, type_: Type) -> Any:
    """A value of a lookup's row in the form of its type; an instant is an aware UTC datetime. A
    NumPy scalar or array becomes the Python value that it holds, and so does a Timestamp or
    Timedelta of pandas, floored to microseconds (S1). Raises `Misfit`."""
    if type(value) is float and type_.name == "float":
        return value  # a vector has many values
    if type_.optional and is_null(value):
        return None
    numpy = type(value).__module__ == "numpy"
    if type_.item is not None:
        items = value.tolist() if numpy and hasattr(value, "tolist") else value
        try:
            return _listed(items if isinstance(items, list) else None, type_, asked)
        except _WrongList:
            raise _mistyped(items, type_) from None
    if type_.choices is not None:
        made = asked(value, type_.plain)
        if made not in type_.choices:
            raise _mistyped(value, type_)
        return made
    found: Any = value.item() if numpy and hasattr(value, "item") and value.ndim == 0 else value
    kind: Any = type_.python
    if numpy and type(found) is int and value.dtype.kind in "mM":  # it counts nanoseconds
        us = found // 1000
        found = _in_calendar(us) if value.dtype.kind == "M" else us * MICROSECOND
    if type(found) is not kind and isinstance(found, kind) and not is_null(found):
        if kind is dt.datetime:
            return _datetime(found, "UTC")
        if kind is dt.timedelta:
            return dt.timedelta(microseconds=_timedelta(found, ""))
    if kind is float and type(found) is int:
        return float(found) if abs(found) <= 2**53 else _float_of_int(found)
    if type(found) is not kind or (kind is int and not INT_MIN <= found <= INT_MAX):
        raise _mistyped(value, type_) if type(found) is not kind else _too_wide(found)
    if kind is str and not _is_text(found):
        raise Misfit(f"a lone surrogate in {found!r}")
    if kind is dt.datetime:
        return _in_calendar(micros(found))
    if kind is dt.timedelta:
        _timedelta(found, "")
    return found


def returned(value: Any, type_: Type) -> Any:
    """The result of a function in the form of its declared type; an instant is an aware UTC
    datetime. Raises `Misfit`, or what Python raises on the way."""
    if value is None and type_.optional:
        return None
    if type(value).__module__ == "numpy" and hasattr(value, "item"):
        value = value.item()
    kind = type(value)
    if type_.item is not None:
        return _listed(value if kind in (list, tuple) else None, type_, returned)
    if type_.choices is not None:
        made = returned(value, type_.plain)
        if made not in type_.choices:
            raise Misfit(not_among(type_))
        return made
    match type_.name:
        case "int" if kind in (int, bool) and INT_MIN <= value <= INT_MAX:
            return int(value)
        case "float" if kind in (int, float, bool):
            return float(value)
        case "str" if isinstance(value, str) and _is_text(value):
            return str.__str__(value)
        case "datetime" if kind is dt.datetime and value.tzinfo is not None:
            return value.astimezone(dt.UTC)
        case "timedelta" if kind is dt.timedelta:
            _timedelta(value, "")
            return value
        case "bool" | "bytes" | "date" if kind is type_.python:
            return value
    raise _misfit(value, str(type_))


def _listed(items: Any, type_: Type, part: Callable[[Any, Type], Any]) -> list[Any]:
    """A list or vector of what `part` makes of each item; raises `Misfit` for None."""
    assert type_.item is not None
    if items is None:
        raise _WrongList(f"no {type_}")
    if type_.size is not None and len(items) != type_.size:
        raise _WrongList(f"{len(items)} numbers in a Vector[{type_.size}]")
    made = [part(item, type_.item) for item in items]
    if type_.size is None:
        return made
    try:
        return [as_float32(item) for item in made]
    except OverflowError:
        raise _WrongList("a number beyond float32") from None


def timestamp(value: Any, type_: Type, format_: Format | None, *, zone_name: str) -> Any:
    """`canonical` for a column of timestamps: a text or number is read in the declared format, and
    a date is the midnight that begins it in the zone (T1)."""
    made = value
    if isinstance(format_, TextFormat) and isinstance(value, str):
        made = parsed(value, format_)
        if made is None:
            raise Misfit(format_.misfit)
    elif isinstance(format_, EpochFormat) and (
        isinstance(value, (str, Decimal)) or (isinstance(value, Integral) and not _is_bool(value))
    ):
        exact = f"{value:f}" if isinstance(value, Decimal) else value
        us = epoch_us(exact if isinstance(exact, str) else int(exact), format_)
        if us is None:
            raise Misfit(format_.misfit)
        made = _in_calendar(us)
    elif isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        made = dt.datetime(value.year, value.month, value.day)
    return canonical(made, type_, zone_name=zone_name)


def reader(
    type_: Type, *, zone_name: str, otherwise: Callable[[Any], Any] | None = None
) -> Callable[[Any], Any]:
    """`canonical` for the values of one column; fast, because most of them are canonical already.
    `otherwise` reads the ones that are not, in the place of `canonical`."""

    checked = otherwise or partial(canonical, type_=type_, zone_name=zone_name)

    exact = None if type_.item is not None or type_.choices is not None else _EXACT.get(type_.name)
    if exact is None:
        return checked
    kind, holds = exact

    def read(value: Any) -> Any:
        return value if type(value) is kind and holds(value) else checked(value)

    return read


def not_among(type_: Type) -> str:
    """The reason for refusing a value outside the choices of its type."""
    return f"a value that is not among {', '.join(map(repr, type_.choices or ()))}"


def is_null(value: Any) -> bool:
    """True for None, and for NaT and NA, the nulls of pandas."""
    if value is None:
        return True
    return type(value).__name__ in ("NaTType", "NAType") and type(value).__module__.startswith(
        "pandas"
    )


def _misfit(value: Any, wanted: str) -> Misfit:
    return Misfit(f"expected {wanted}, found {type(value).__name__}")


def _too_wide(value: int) -> Misfit:
    shown = str(value) if abs(value) < 10**40 else "a number"
    return Misfit(f"{shown} is outside of int64, from -2**63 to 2**63 - 1")


def _mistyped(value: Any, type_: Type) -> Misfit:
    shown = repr(value)
    shown = shown if len(shown) <= 80 else f"{shown[:77]}…"
    return Misfit(f"expected {type_}, found {shown} ({type(value).__name__})")


def _is_text(value: str) -> bool:
    """Whether the text has no lone surrogate."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool) or type(value).__name__ in ("bool", "bool_")


def _bool(value: Any, _: str) -> bool:
    if not _is_bool(value):
        raise _misfit(value, "bool")
    return bool(value)


def _int(value: Any, _: str) -> int:
    if isinstance(value, Decimal):
        # A warehouse writes whole numbers as decimals; one with digits after the point is no int.
        if value.is_finite() and value.adjusted() > 19:
            raise Misfit("an int outside 64 bits")  # its digits may be too many to write out
        if not value.is_finite() or value != value.to_integral_value():
            raise Misfit("a decimal that is no int")
    elif _is_bool(value) or not isinstance(value, Integral):
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
    if not _is_text(value):
        raise Misfit("a lone surrogate, which no text has")
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
    return _in_calendar(to_utc_us(plain, zone_name))


def _in_calendar(us: int) -> dt.datetime:
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
"""By type: the Python class, and a test that a value of this class is canonical already."""
