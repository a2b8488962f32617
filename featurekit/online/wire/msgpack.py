"""Turns Python values into MessagePack and back; the only module that loads the library.

Of the types of featurekit, MessagePack has no instants, dates and durations. They are extensions:
1 is an instant and 3 a duration, in microseconds; 2 is a date, in days since 1970-01-01; each is an
int64, big-endian. 4 is a decimal, as its text, and 5 an instant without a zone, as if it were in
UTC. A dict whose keys are not texts is a list of pairs.
"""

from __future__ import annotations

import datetime as dt
import decimal
import struct
from typing import Any

import ormsgpack

from featurekit.core.calls import found
from featurekit.core.types import MICROSECOND, instant, micros

_INSTANT, _DATE, _DURATION, _DECIMAL, _NAIVE = 1, 2, 3, 4, 5
_INT64 = struct.Struct(">q")
_DAY_0 = dt.date(1970, 1, 1).toordinal()
_OPTIONS = ormsgpack.OPT_PASSTHROUGH_DATETIME | ormsgpack.OPT_PASSTHROUGH_BIG_INT
MOST_DEPTH = 64


def pack(value: Any) -> bytes:
    """The bytes of a value. TypeError for a value of a type that has no form here."""
    try:
        return ormsgpack.packb(value, default=_extension, option=_OPTIONS)
    except ormsgpack.MsgpackEncodeError as error:
        raise TypeError(str(error.__cause__ or error)) from None


def unpack(data: bytes) -> Any:
    """The value of bytes that `pack`, or a program in another language, has made. ValueError where
    they are not whole, or hold an extension that is not listed above."""
    try:
        return ormsgpack.unpackb(data, ext_hook=_value)
    except (ArithmeticError, struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"an extension has a value that is none: {error}") from None


def _extension(value: Any) -> Any:
    """What MessagePack has in the place of a value that it does not know."""
    match value:
        case dt.datetime():
            if value != value:  # NaT of pandas
                return None
            kind = _NAIVE if value.tzinfo is None else _INSTANT
            return ormsgpack.Ext(kind, _INT64.pack(micros(value)))
        case dt.date():
            return ormsgpack.Ext(_DATE, _INT64.pack(value.toordinal() - _DAY_0))
        case dt.timedelta():
            if value != value:
                return None
            return ormsgpack.Ext(_DURATION, _INT64.pack(value // MICROSECOND))
        case decimal.Decimal():
            return ormsgpack.Ext(_DECIMAL, str(value).encode())
        case int():
            return str(value)  # beyond 64 bits; whoever reads it refuses it for its type
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        kind = value.dtype.kind
        return (value.astype(f"{kind}8[us]") if kind in "mM" else value).tolist()
    raise TypeError(f"{found(value)} cannot be sent")


def _value(tag: int, data: bytes) -> Any:
    if tag == _DECIMAL:
        return decimal.Decimal(data.decode("ascii"))
    (number,) = _INT64.unpack(data)
    match tag:
        case 1:
            return instant(number)
        case 2:
            return dt.date.fromordinal(number + _DAY_0)
        case 3:
            return number * MICROSECOND
        case 5:
            return instant(number).replace(tzinfo=None)
        case _:
            raise ValueError(f"an extension {tag}, which is none")
