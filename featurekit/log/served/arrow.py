"""Turns a block's bytes into Arrow columns, without making a Python object for each value.

For most columns the wire form is Arrow's own: numbers one after another, texts as their lengths and
their bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from featurekit.core.status import LOGGED_STATUSES
from featurekit.core.types import INT, Type, list_of
from featurekit.log.served.block import HEADER, MIXED_STATUSES, ServedHead
from featurekit.online.state.codec import ALL_ABSENT, MIXED

_NUMBERS = {"int": "<i8", "float": "<f8", "datetime": "<i8", "timedelta": "<i8", "date": "<i4"}


def batch(head: ServedHead, data: bytes) -> pa.RecordBatch:
    """A block's rows: `served_at`, `as_of`, `request`, and structs of the join keys, the request
    fields, the values, what was predicted, the statuses and the newest arrivals."""
    _, n = HEADER.unpack_from(data)
    read = _Reader(data, n)
    instants = pa.timestamp("us", tz="UTC")
    columns = {
        "served_at": read.column(INT).cast(instants),
        "as_of": read.column(INT).cast(instants),
        "request": read.column(INT),
    }
    structs = {
        "newest_arrival": dict.fromkeys(head.views, INT),
        "key": head.keys,
        "request_field": head.request,
        "value": head.outputs,
        "predicted": head.predicted,
    }
    for name, types in structs.items():
        if types:
            arrays = [read.column(type_) for type_ in types.values()]
            columns[name] = pa.StructArray.from_arrays(arrays, names=list(types))
    statuses = [read.statuses() for _ in head.outputs]
    columns["status"] = pa.StructArray.from_arrays(statuses, names=list(head.outputs))
    return pa.RecordBatch.from_pydict(columns)


class _Reader:
    """A block's bytes, column after column."""

    def __init__(self, data: bytes, rows: int) -> None:
        self.data, self.rows, self.at = data, rows, HEADER.size

    def _take(self, dtype: str, n: int) -> Any:
        found = np.frombuffer(self.data, dtype, n, self.at)
        self.at += found.nbytes
        return found

    def statuses(self) -> Any:
        """A column of statuses."""
        same = self._take("u1", 1)[0]
        codes = self._take("u1", self.rows) if same == MIXED_STATUSES else np.full(self.rows, same)
        return pa.DictionaryArray.from_arrays(codes.astype("i1"), list(LOGGED_STATUSES)).cast(
            pa.string()
        )

    def column(self, type_: Type) -> Any:
        """A column of values."""
        if type_.name == "dict":
            assert type_.item is not None
            keys = self._values(list_of(type_.item), self.rows)
            held = self._values(list_of(type_.held), self.rows)
            if keys.null_count == self.rows:
                return pa.nulls(self.rows, type_.arrow)
            return pa.MapArray.from_arrays(
                keys.offsets, keys.values, held.values, type_.arrow, mask=keys.is_null()
            )
        return self._values(type_, self.rows)

    def _values(self, type_: Type, n: int) -> Any:
        kind = self._take("u1", 1)[0]
        if kind == ALL_ABSENT:
            return pa.nulls(n, type_.arrow)
        marks = self._take("u1", n) if kind == MIXED else None
        valid = None
        if marks is not None:
            valid = pa.py_buffer(np.packbits(marks == 0, bitorder="little").tobytes())
        return self._present(type_, n, valid)

    def _present(self, type_: Type, n: int, valid: Any) -> Any:
        if type_.name in _NUMBERS:
            values = pa.py_buffer(self._take(_NUMBERS[type_.name], n))
            return pa.Array.from_buffers(type_.arrow, n, [valid, values])
        if type_.name == "bool":
            bits = np.packbits(self._take("u1", n), bitorder="little").tobytes()
            return pa.Array.from_buffers(type_.arrow, n, [valid, pa.py_buffer(bits)])
        if type_.size is not None:
            values = pa.py_buffer(self._take("<f4", n * type_.size))
            items = pa.Array.from_buffers(pa.float32(), n * type_.size, [None, values])
            return pa.Array.from_buffers(type_.arrow, n, [valid], -1, 0, [items])
        offsets = np.zeros(n + 1, "<i4")
        np.cumsum(self._take("<u4", n), out=offsets[1:])
        if type_.name == "list":
            assert type_.item is not None
            items = self._values(type_.item, int(offsets[-1]))
            return pa.Array.from_buffers(
                type_.arrow, n, [valid, pa.py_buffer(offsets)], -1, 0, [items]
            )
        texts = pa.py_buffer(self._take("u1", int(offsets[-1])))
        return pa.Array.from_buffers(type_.arrow, n, [valid, pa.py_buffer(offsets), texts])
