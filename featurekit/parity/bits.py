"""The one comparison of parity: type, bits and status, with nothing between equal and different."""

from __future__ import annotations

import math
import struct
from typing import Any

NAN = "nan"


def bits(value: Any) -> Any:
    """A value in a form that is equal exactly where type and bits are; every NaN is one."""
    if isinstance(value, float):
        return ("float", NAN if value != value else struct.pack(">d", value).hex())
    if isinstance(value, (list, tuple)):
        return ("list", *(bits(v) for v in value))
    if isinstance(value, dict):
        return ("dict", *((bits(k), bits(v)) for k, v in value.items()))
    return (type(value).__name__, value)


def shown(value: Any) -> str:
    """A value for people: a float also in hexadecimal."""
    if isinstance(value, float) and value == value:
        return f"{value!r} ({value.hex()})"
    return repr(value)


def ulps(one: Any, other: Any) -> int | None:
    """How many doubles lie from one float to the other; None unless both are finite floats."""
    if not (isinstance(one, float) and isinstance(other, float)):
        return None
    if not (math.isfinite(one) and math.isfinite(other)):
        return None
    return abs(_place(one) - _place(other))


def _place(x: float) -> int:
    (found,) = struct.unpack(">q", struct.pack(">d", x))
    return int(found) if found >= 0 else -(2**63) - int(found) - 1
