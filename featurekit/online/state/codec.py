"""Turns columns of values into bytes and back: the wire form of online states.

The form has a version, and equal columns have equal bytes. A column of n values begins with one
byte: 0 where all values are present, 1 where none is (and n is at most `MOST_ABSENT`), 2 for both,
followed by n bytes (0 a value, 1 None, 2 an error). The values come next: 8 bytes for int, float,
datetime and timedelta (the last two in microseconds), 4 for date (in days), 1 for bool, a length
and the bytes for str and bytes. A list is the column of its lengths and the column of its items. A
vector takes 4 bytes for each of its numbers. An absent value is written as zero, and every NaN as
the same NaN.
"""

from __future__ import annotations

import datetime as dt
import itertools
import struct
from collections.abc import Callable, Sequence
from typing import Any, Literal

from featurekit.core.types import EPOCH, MICROSECOND, Type
from featurekit.core.values import ERROR

ALL_PRESENT, ALL_ABSENT, MIXED = 0, 1, 2
_NAN, _NAN32 = struct.pack("<d", float("nan")), struct.pack("<f", float("nan"))
FORMATS: dict[str, Literal["q", "d", "?", "i"]] = {
    "int": "q",
    "float": "d",
    "bool": "?",
    "datetime": "q",
    "timedelta": "q",
    "date": "i",
}
_SIZES = {code: struct.calcsize(code) for code in FORMATS.values()}
MOST_ABSENT = 1 << 25
"""The values that a column has at most where they take no bytes, since a damaged number of them
should not fill the memory of who reads it. A longer column of None alone is written with its
marks, so that its bytes grow with it: up to the 512 MB of a value in Redis, as those of any."""
EPOCH_DAY = dt.date(1970, 1, 1).toordinal()
"""The ordinal of 1970-01-01, from which dates count."""


def encode_column(type_: Type, values: Sequence[Any]) -> bytes:
    """The bytes of a column; `values` may hold None and `ERROR`."""
    if len(values) == 1 and values[0] is not ERROR:
        # Most states hold one event: this writes the same bytes with less work.
        if values[0] is None:
            return _ABSENT
        one = _ONE.get(type_.name)
        if one is not None:
            return one(values[0])
    marks = bytes(2 if v is ERROR else v is None for v in values)
    if not any(marks):
        return bytes((ALL_PRESENT,)) + _encode_values(type_, values)
    if len(marks) <= MOST_ABSENT and all(m == 1 for m in marks):
        return bytes((ALL_ABSENT,))
    zero = _zero(type_)
    filled = [zero if mark else value for mark, value in zip(marks, values, strict=True)]
    return bytes((MIXED,)) + marks + _encode_values(type_, filled)


def _one_text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return b"\0" + len(raw).to_bytes(4, "little") + raw


_ABSENT = bytes((ALL_ABSENT,))
_pack_int, _pack_float = struct.Struct("<Bq").pack, struct.Struct("<Bd").pack
_pack_float32 = struct.Struct("<f").pack
_ONE: dict[str, Callable[[Any], bytes]] = {
    "int": lambda v: _pack_int(ALL_PRESENT, v),
    "float": lambda v: _pack_float(ALL_PRESENT, v) if v == v else b"\0" + _NAN,
    "bool": lambda v: b"\0\1" if v else b"\0\0",
    "str": _one_text,
    "bytes": _one_text,
    "datetime": lambda v: _pack_int(ALL_PRESENT, (v - EPOCH) // MICROSECOND),
    "timedelta": lambda v: _pack_int(ALL_PRESENT, v // MICROSECOND),
}


def one_value(type_: Type) -> Callable[[Any], bytes]:
    """A function that encodes a column of one value, as `encode_column` would."""
    one = _ONE.get(type_.name)
    if one is None:
        return lambda value: encode_column(type_, [value])

    def encode(value: Any, one: Callable[[Any], bytes] = one) -> bytes:
        if value is None:
            return _ABSENT
        return one(value) if value is not ERROR else encode_column(type_, [value])

    return encode


def _zero(type_: Type) -> Any:
    if type_.size is not None:
        return [0.0] * type_.size
    return {
        "list": [],
        "str": "",
        "bytes": b"",
        "datetime": EPOCH,
        "timedelta": dt.timedelta(0),
        "date": dt.date(1970, 1, 1),
    }.get(type_.name, 0)


def _encode_values(type_: Type, values: Sequence[Any]) -> bytes:
    n = len(values)
    match type_.name:
        case "int" | "bool":
            return struct.pack(f"<{n}{FORMATS[type_.name]}", *values)
        case "float":
            return b"".join(_NAN if v != v else struct.pack("<d", v) for v in values)
        case "datetime":
            return struct.pack(f"<{n}q", *((v - EPOCH) // MICROSECOND for v in values))
        case "timedelta":
            return struct.pack(f"<{n}q", *(v // MICROSECOND for v in values))
        case "date":
            return struct.pack(f"<{n}i", *(v.toordinal() - EPOCH_DAY for v in values))
        case "str" | "bytes":
            raw = [v.encode() if isinstance(v, str) else v for v in values]
            return struct.pack(f"<{n}I", *map(len, raw)) + b"".join(raw)
        case "list" if type_.size is not None:
            numbers = (_NAN32 if v != v else _pack_float32(v) for value in values for v in value)
            return b"".join(numbers)
        case "list":
            assert type_.item is not None
            items = [item for value in values for item in value]
            lengths = struct.pack(f"<{n}I", *map(len, values))
            return lengths + encode_column(type_.item, items)
        case name:
            raise TypeError(f"{name} has no wire form")


def decode_column(type_: Type, data: memoryview, at: int, n: int) -> tuple[Any, Any, int]:
    """The values of a column, its marks (None where all are present), and the place of the next
    column.

    The values may be a view of `data`. An int or a float is as it was stored, another type a Python
    value. None and `ERROR` stand where the marks say so.
    """
    kind = data[at]
    at += 1
    if kind == ALL_ABSENT:
        if n > MOST_ABSENT:
            raise ValueError(f"{n} values of which none is stored")
        return [None] * n, bytes((1,)) * n, at
    marks = None
    if kind == MIXED:
        marks, at = data[at : at + n], at + n
    values, at = _decode_values(type_, data, at, n)
    if marks is not None:
        absent = (None, None, ERROR)
        values = [absent[m] if m else v for m, v in zip(marks, values, strict=True)]
    return values, marks, at


def raw_column(type_: Type, data: memoryview, at: int, n: int) -> tuple[Any, Any]:
    """A column as it is stored, and its marks as an array, or None where all are present: an array
    of the numbers, or a list of the bytes of texts. What stands where nothing is present counts for
    nothing."""
    import numpy as np

    kind, marks = data[at], None
    at += 1
    if kind == MIXED:
        marks, at = np.frombuffer(data[at : at + n], np.uint8), at + n
    if type_.name in FORMATS:
        dtype = np.dtype(FORMATS[type_.name] if type_.name != "bool" else "u1")
        if kind == ALL_ABSENT:
            return np.zeros(n, dtype), np.ones(n, np.uint8)
        return np.frombuffer(data[at : at + n * dtype.itemsize], dtype), marks
    if kind == ALL_ABSENT:
        return [b""] * n, np.ones(n, np.uint8)
    ends = list(itertools.accumulate(data[at : at + 4 * n].cast("I"), initial=at + 4 * n))
    return [bytes(data[i:j]) for i, j in itertools.pairwise(ends)], marks


def skip_column(type_: Type, data: memoryview, at: int, n: int) -> int:
    """The place of the next column; no value of this one is made."""
    kind = data[at]
    at += 1
    if kind == ALL_ABSENT:
        return at
    if kind == MIXED:
        at += n
    if type_.name in FORMATS:
        return at + n * _SIZES[FORMATS[type_.name]]
    if type_.size is not None:
        return at + 4 * type_.size * n
    total = sum(data[at : at + 4 * n].cast("I"))
    at += 4 * n
    if type_.name == "list":
        assert type_.item is not None
        return skip_column(type_.item, data, at, total)
    return at + total


def _decode_values(type_: Type, data: memoryview, at: int, n: int) -> tuple[Any, int]:
    name = type_.name
    if name in FORMATS:
        code = FORMATS[name]
        end = at + n * _SIZES[code]
        values: Any = data[at:end].cast(code)
        if name == "datetime":
            values = [EPOCH + v * MICROSECOND for v in values]
        elif name == "timedelta":
            values = [v * MICROSECOND for v in values]
        elif name == "date":
            values = [dt.date.fromordinal(v + EPOCH_DAY) for v in values]
        return values, end
    if type_.size is not None:
        size, end = type_.size, at + 4 * type_.size * n
        numbers = data[at:end].cast("f").tolist()
        return [numbers[i : i + size] for i in range(0, size * n, size)], end
    lengths = data[at : at + 4 * n].cast("I")
    at += 4 * n
    out: list[Any] = []
    if name == "list":
        assert type_.item is not None
        items, _, at = decode_column(type_.item, data, at, sum(lengths))
        first = 0
        for length in lengths:
            out.append(list(items[first : first + length]))
            first += length
        return out, at
    for length in lengths:
        raw = bytes(data[at : at + length])
        out.append(raw.decode() if name == "str" else raw)
        at += length
    return out, at
