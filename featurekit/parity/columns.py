"""Compares a whole column of answers at once, as exactly as `bits` compares two values.

Nearly all columns agree in all places, so what is asked first is whether any value differs at all,
of Arrow arrays; single values are looked at only where that cannot be told, or some do.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from featurekit.core.types import Type
from featurekit.parity.bits import bits

_NAN = 0x7FF8000000000000


def differing(type_: Type, offline: Any, online: Sequence[Any]) -> list[int]:
    """The places at which an Arrow array and Python values of one type differ in type or bits."""
    if _same(type_, offline, online):
        return []
    found = values(offline)
    return [i for i, value in enumerate(online) if bits(value) != bits(found[i])]


def values(offline: Any) -> list[Any]:
    """The array's values, as an answer has them; one that Python cannot hold, such as a date of
    the year 10000, says so."""
    try:
        made: list[Any] = offline.to_pylist(maps_as_pydicts="strict")
    except (OverflowError, ValueError):
        made = [_one(scalar) for scalar in offline]
    return made


def _one(scalar: Any) -> Any:
    try:
        return scalar.as_py(maps_as_pydicts="strict")
    except (OverflowError, ValueError):
        return f"a {scalar.type} that Python cannot hold"


def differing_statuses(offline: Any, online: Sequence[str]) -> list[int]:
    """The places at which an Arrow array of statuses and Python strings differ."""
    import pyarrow as pa

    if pa.array(online, pa.string()).equals(offline):
        return []
    return [i for i, (a, b) in enumerate(zip(offline.to_pylist(), online, strict=True)) if a != b]


def _same(type_: Type, offline: Any, online: Sequence[Any]) -> bool:
    """Whether the columns agree everywhere; False also where only single values can tell."""
    import pyarrow as pa

    wanted = type_.python
    if (
        wanted in (list, dict, type(None))
        or offline.type != type_.arrow
        or len(offline) != len(online)
    ):
        return False
    if not {*map(type, online)} <= {wanted, type(None)}:
        return False
    if wanted is dt.datetime and any(v is not None and v.tzinfo is None for v in online):
        return False
    try:
        made = pa.array(online, type_.arrow)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        return False
    if wanted is float:
        return _same_floats(offline, made)
    return bool(made.equals(offline))


def _same_floats(one: Any, other: Any) -> bool:
    """Bits, and which are null; every NaN is one."""
    import numpy as np

    if one.null_count != other.null_count:
        return False
    if one.null_count and not one.is_null().equals(other.is_null()):
        return False
    left, right = (a.fill_null(0.0).to_numpy(zero_copy_only=False) for a in (one, other))
    left, right = (np.where(np.isnan(a), _NAN, a.view(np.int64)) for a in (left, right))
    return bool(np.array_equal(left, right))
