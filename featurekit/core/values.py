"""Defines the third state of a value, the error (R3), and the order of values (T6)."""

from __future__ import annotations

import math
from typing import Any


def sort_value(value: Any) -> tuple[Any, ...]:
    """A sort key for values of one type by T6: null, error, then by value, with -0.0 before 0.0 and
    NaN last."""
    if value is None:
        return (0,)
    if value is ERROR:
        return (1,)
    if isinstance(value, float):
        return (3,) if value != value else (2, value, math.copysign(1.0, value))
    if isinstance(value, list):
        return (2, [sort_value(v) for v in value])
    return (2, value)


class Err:
    """The class of the one object `ERROR`, which stands for the third state of R3 among values."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "ERROR"


class Beyond(Exception):
    """An error by a rule where Python itself raises nothing, as for an int outside int64. No
    handler in a transform's text catches it."""


class WrongType(TypeError):
    """What Python raises for a value of the declared type that it does not take."""


class NoAttribute(AttributeError):
    """What Python raises where a search found nothing, and its group is asked for."""


ERROR = Err()
