"""Compares what the two paths say, by type, bits and status: values, columns, answers of a service.

There is nothing between equal and different. Nearly all columns agree in all places, so what is
asked first is whether any value of one differs at all, of Arrow arrays; single values are looked at
only where that cannot be told, or some do.
"""

from __future__ import annotations

import datetime as dt
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from featurekit.core.arrays import array_of
from featurekit.core.types import Type
from featurekit.define.plan import Service

Stated = tuple[Any, str]
"""A value and its status."""

NAN = "nan"
_ROWS = 2_000


def bits(value: Any) -> Any:
    """A value in a form that is equal exactly where type and bits are; every NaN is one."""
    if isinstance(value, float):
        return ("float", NAN if value != value else struct.pack(">d", value).hex())
    if isinstance(value, (list, tuple)):
        return ("list", *(bits(v) for v in value))
    if isinstance(value, dict):
        return ("dict", *((bits(k), bits(v)) for k, v in value.items()))
    return (type(value).__name__, value)


def parts(one: Stated, other: Stated) -> bool:
    """Whether two opinions of one value differ."""
    return one[1] != other[1] or bits(one[0]) != bits(other[0])


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


# --- columns --------------------------------------------------------------------------------------

_NAN_BITS = 0x7FF8000000000000


def differing_values(type_: Type, offline: Any, online: Sequence[Any]) -> list[int]:
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
    if wanted in (list, dict, type(None)):
        return False
    if offline.type != type_.arrow or len(offline) != len(online):
        return False
    if not {*map(type, online)} <= {wanted, type(None)}:
        return False
    if wanted is dt.datetime and any(v is not None and v.tzinfo is None for v in online):
        return False
    try:
        made = array_of(online, type_.arrow)
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
    left, right = (np.where(np.isnan(a), _NAN_BITS, a.view(np.int64)) for a in (left, right))
    return bool(np.array_equal(left, right))


# --- answers --------------------------------------------------------------------------------------


@dataclass(slots=True)
class Answers:
    """For each output of a service, a column of values and one of statuses: Arrow arrays where
    offline answered, sequences of Python values where online did."""

    values: Sequence[Any]
    statuses: Sequence[Any]

    def some(self, rows: Sequence[int]) -> Answers:
        """The answers to the rows of these numbers."""
        return Answers(
            [_some(c, rows) for c in self.values], [_some(c, rows) for c in self.statuses]
        )

    def rows(self) -> Iterator[list[Stated]]:
        """Offline's outputs row by row: some rows at a time become values of Python's."""
        for first in range(0, len(self.values[0]), _ROWS):
            made = [values(c.slice(first, _ROWS)) for c in self.values]
            statuses = [c.slice(first, _ROWS).to_pylist() for c in self.statuses]
            columns = [zip(*one, strict=True) for one in zip(made, statuses, strict=True)]
            yield from map(list, zip(*columns, strict=True))

    def offline(self, output: int, row: int) -> Stated:
        """One value of offline's, as Python has it, and its status."""
        return (
            values(self.values[output].slice(row, 1))[0],
            self.statuses[output][row].as_py(),
        )

    def online(self, output: int, row: int) -> Stated:
        """One value of online's and its status."""
        return self.values[output][row], self.statuses[output][row]


def _some(column: Any, rows: Sequence[int]) -> Any:
    import pyarrow as pa

    if isinstance(column, pa.Array):
        return column.take(pa.array(rows, pa.int64()))
    return [column[i] for i in rows]


def parting(service: Service, offline: Answers, online: Answers) -> list[list[int]]:
    """For each output, the numbers of the rows whose type, bits or status differ."""
    found = []
    for o, output in enumerate(service.outputs):
        of_values = differing_values(output.type, offline.values[o], online.values[o])
        of_statuses = differing_statuses(offline.statuses[o], online.statuses[o])
        found.append(sorted({*of_values, *of_statuses}))
    return found
