"""Checks the entity rows that a lookup is given (S2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from featurekit.core.coerce import Misfit, asked
from featurekit.core.types import INT_MAX, INT_MIN, Type
from featurekit.errors import EntityFrameError

EntityRow = Mapping[str, Any]
_PLAIN: dict[str, type] = {"int": int, "float": float, "bool": bool}


def typed(value: Any, type_: Type, name: str, row: int) -> Any:
    """`value`, checked to be of `type_` (S2). A scalar or array of NumPy becomes the Python value
    that it holds. EntityFrameError for a value of another type."""
    if (
        type(value) is _PLAIN.get(type_.name)
        and type_.choices is None
        and (type(value) is not int or INT_MIN <= value <= INT_MAX)
    ):
        return value
    try:
        return asked(value, type_)
    except Misfit as reason:
        raise EntityFrameError(
            f"row {row}, {name!r}: {reason}; give a value of type {type_.base}"
        ) from None
