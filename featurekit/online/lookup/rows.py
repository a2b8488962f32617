"""Checks the rows that a lookup is asked about (S2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from featurekit.core.coerce import Misfit, asked
from featurekit.core.types import INT_MAX, INT_MIN, Type
from featurekit.errors import EntityFrameError

EntityRow = Mapping[str, Any]
_PLAIN: dict[str, type] = {"int": int, "float": float, "bool": bool}


def typed(value: Any, type_: Type, name: str, row: int) -> Any:
    """`value` if it is of `type_`; a NumPy scalar or array as the Python value it holds (S2)."""
    if (
        type(value) is _PLAIN.get(type_.name)
        and type_.choices is None
        and (type(value) is not int or INT_MIN <= value <= INT_MAX)
    ):
        return value
    try:
        return asked(value, type_)
    except Misfit as reason:
        raise EntityFrameError(f"row {row}, {name!r}: {reason}") from None
