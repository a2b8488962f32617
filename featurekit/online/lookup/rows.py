"""Checks the rows that a lookup is asked about (S2)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from featurekit.core.types import FLOAT, INT, INT_MAX, INT_MIN, Type, as_float32, instant, micros
from featurekit.errors import EntityFrameError

EntityRow = Mapping[str, Any]
_PLAIN: dict[str, type] = {"int": int, "float": float, "bool": bool}


def typed(value: Any, type_: Type, name: str, row: int) -> Any:
    """`value` if it is of `type_`; a NumPy scalar or array as the Python value it holds (S2)."""
    if type_.choices is not None or type_.item is not None:
        return _narrow(value, type_, name, row)
    plain = _PLAIN.get(type_.name)
    if type(value) is plain and (not isinstance(value, int) or INT_MIN <= value <= INT_MAX):
        return value
    if value is None and type_.optional:
        return None
    found: Any = value
    if type(value).__module__ == "numpy" and hasattr(value, "item"):
        found = value.item() if value.ndim == 0 else value
    wanted = type_.base
    if wanted == INT and type(found) is int and INT_MIN <= found <= INT_MAX:
        return found
    if wanted == FLOAT and type(found) is int and abs(found) <= 2**53:
        return float(found)
    kinds: dict[str, type] = {"float": float, "str": str, "bool": bool, "bytes": bytes}
    kinds |= {"datetime": dt.datetime, "date": dt.date, "timedelta": dt.timedelta}
    if wanted != INT and type(found) is kinds[wanted.name]:
        if isinstance(found, dt.datetime):
            return instant(micros(found))
        if isinstance(found, str):
            try:
                found.encode()
            except UnicodeEncodeError:
                raise EntityFrameError(
                    f"row {row}, {name!r}: a lone surrogate in {found!r}"
                ) from None
        return found
    raise _mistyped(value, type_, name, row)


def _narrow(value: Any, type_: Type, name: str, row: int) -> Any:
    """A value of a type with choices, a list or a vector."""
    if value is None and type_.optional:
        return None
    if type_.item is None:
        made = typed(value, type_.plain, name, row)
        if made in (type_.choices or ()):
            return made
        raise _mistyped(value, type_, name, row)
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        value = value.tolist()
    if not isinstance(value, list) or (type_.size is not None and len(value) != type_.size):
        raise _mistyped(value, type_, name, row)
    items = [typed(item, type_.item, name, row) for item in value]
    if type_.size is None:
        return items
    try:
        return [as_float32(item) for item in items]
    except OverflowError:
        raise _mistyped(value, type_, name, row) from None


def _mistyped(value: Any, type_: Type, name: str, row: int) -> EntityFrameError:
    shown = repr(value)
    shown = shown if len(shown) <= 80 else f"{shown[:77]}…"
    found = f"{shown} ({type(value).__name__})"
    return EntityFrameError(f"row {row}, {name!r}: expected {type_}, found {found}")
