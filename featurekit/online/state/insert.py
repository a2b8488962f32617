"""Puts an event into the columns of a state's bytes, at its place, and cuts dropped events from the
front.

The bytes equal those of `codec.encode_column` over the values of the events that are left, which
defines them. Columns of lists are left to it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from featurekit.core.types import Type
from featurekit.core.values import ERROR
from featurekit.online.state.codec import (
    ALL_ABSENT,
    ALL_PRESENT,
    FORMATS,
    MIXED,
    MOST_ABSENT,
    encode_column,
)

_TEXTS = ("str", "bytes")
Parts = list[bytes | memoryview]


@dataclass(frozen=True, slots=True)
class Spot:
    """Where in `n` events a new one belongs, and how many are dropped from the front."""

    n: int
    gone: int
    place: int

    def into(self, data: memoryview, at: int, width: int, value: bytes) -> Parts:
        """The values of a column of fixed width that begins at `at`, with the new one."""
        first, here, end = at + width * self.gone, at + width * self.place, at + width * self.n
        return [data[first:here], value, data[here:end]]


def is_insertable(type_: Type) -> bool:
    """Whether `inserted` takes columns of this type."""
    return type_.name in FORMATS or type_.name in _TEXTS or type_.size is not None


def inserted(
    types: Sequence[Type], data: memoryview, at: int, spot: Spot, values: Sequence[Any]
) -> Parts | None:
    """The columns that begin at `at`, up to the end of `data`, with a new event's values; None
    where the codec has to write them."""
    parts: Parts = []
    for type_, value in zip(types, values, strict=False):
        made = _column(type_, data, at, spot, value)
        if made is None:
            return None
        some, at = made
        parts += some
    return parts if at == len(data) else None


def _column(
    type_: Type, data: memoryview, at: int, spot: Spot, value: Any
) -> tuple[Parts, int] | None:
    """A column with the new value, and the place of the next one."""
    n, gone, place = spot.n, spot.gone, spot.place
    kind, at = data[at], at + 1
    absent = value is None or value is ERROR
    if kind == ALL_ABSENT:
        none = value is None and n + 1 - gone <= MOST_ABSENT
        return ([bytes((ALL_ABSENT,))], at) if none else None
    front: Parts = [bytes((ALL_PRESENT,))]
    if kind == MIXED or absent:
        marks = bytes(n)
        if kind == MIXED:
            marks, at = bytes(data[at : at + n]), at + n
        mark = bytes((2 if value is ERROR else int(absent),))
        marks = marks[gone:place] + mark + marks[place:]
        if marks.count(1) == len(marks):
            return None  # the codec leaves out the values of such a column
        if marks.count(0) < len(marks):
            front = [bytes((MIXED,)), marks]
    if type_.name in _TEXTS:
        lengths = data[at : at + 4 * n].cast("I")
        begin = at + 4 * n
        first = begin + sum(lengths[:gone])
        here = first + sum(lengths[gone:place])
        end = here + sum(lengths[place:])
        raw = b"" if absent else value.encode() if isinstance(value, str) else value
        longer = spot.into(data, at, 4, struct.pack("<I", len(raw)))
        return [*front, *longer, data[first:here], raw, data[here:end]], end
    width = 4 * type_.size if type_.size is not None else struct.calcsize(FORMATS[type_.name])
    new = bytes(width) if absent else encode_column(type_, [value])[1:]
    return [*front, *spot.into(data, at, width, new)], at + width * n
