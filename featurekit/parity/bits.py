"""The one comparison of parity: type, bits and status, with nothing between equal and different."""

from __future__ import annotations

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
