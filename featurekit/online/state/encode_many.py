"""Turns columns of many entities' events into the bytes of all their states at once.

The bytes equal those of `State.encode` and `codec.encode_column`, which define them. A state is
joined from *parts*: for a column of numbers, an entity's part is a slice of the column's own
memory. So there is no work for each single row.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featurekit.core.keys import encode_key
from featurekit.core.types import Type
from featurekit.define.plan import View
from featurekit.online.state import codec, row
from featurekit.online.state.codec import ALL_ABSENT, ALL_PRESENT, MIXED
from featurekit.online.state.seal import MARK
from featurekit.online.state.state import VERSION

_EMPTY = pa.scalar(b"", pa.large_binary())
_NAN = np.frombuffer(struct.pack("<d", float("nan")), "<i8")[0]
_NAN32 = np.frombuffer(struct.pack("<f", float("nan")), "<i4")[0]
_CACHE = 2**17
_WHOLE = {1: "u1", 2: "<u2", 4: "<u4", 8: "<u8"}


@dataclass(frozen=True, slots=True)
class Part:
    """A slice of bytes for each of many values.

    The slice of value i is `data[bounds[i]:bounds[i + 1]]`. Where all slices have one `width` it is
    the i-th `width` bytes, and with `same` it is all of `data`.
    """

    data: Any
    bounds: Any = None
    width: int = 0
    same: bool = False

    def spread(self, held: Any) -> Part:
        """The same slices for the values that `held` marks, and nothing for the others."""
        m = int(held.sum())
        widths = np.zeros(len(held), np.int64)
        widths[held] = self.width if self.bounds is None else np.diff(self.bounds)
        return Part(np.tile(self.data, m) if self.same else self.data, _bounds(widths))


@dataclass(frozen=True, slots=True)
class Many:
    """Events of many entities that had no state before, as columns.

    Entity i has the events `starts[i]` up to `starts[i + 1]`, in the order of T6. `first` and
    `newest` have one instant for each entity. A slot is its type, its values, and which of them err
    (None where none does); an erring value is null.
    """

    slots: list[tuple[Any, pa.Array, Any]]
    first: Any
    newest: Any
    ts: Any
    created: Any
    starts: Any

    def encode(self, view: View) -> pa.LargeBinaryArray:
        """The bytes of each state, as `State.encode` writes them."""
        return self._of_latest(view) if view.kind == "latest" else self._states()

    def _of_latest(self, view: View) -> pa.LargeBinaryArray:
        """The states of a view of latest rows. A single row that does not err has a form of its
        own; every other state is visible from the first of its rows on."""
        counts = np.diff(self.starts)
        single = counts == 1
        if row.row_form(view) is None:
            single[:] = False
        for _, _, errs in self.slots:
            if errs is not None and single.any():
                single[np.repeat(np.arange(len(counts)), counts)[errs]] = False
        if single.all():
            return self._rows()
        others = self.of(~single)._seen()
        if not single.any():
            return others._states()
        made = pa.concat_arrays([self.of(single)._rows(), others._states()])
        at = np.empty(len(single), np.int64)
        at[single] = np.arange(int(single.sum()))
        at[~single] = np.arange(int(single.sum()), len(single))
        return made.take(pa.array(at))

    def _seen(self) -> Many:
        """The same events; each state that has rows is visible from the first of them on."""
        there = np.diff(self.starts) > 0
        if not there.any():
            return self
        first = self.first.copy()
        visible = np.maximum(self.ts, self.created)
        first[there] = np.minimum.reduceat(visible, self.starts[:-1][there])
        return replace(self, first=first)

    def between(self, first: int, last: int) -> Many:
        """The events of the entities from `first` up to `last`."""
        begin, end = int(self.starts[first]), int(self.starts[last])
        slots = [
            (type_, column[begin:end], None if errs is None else errs[begin:end])
            for type_, column, errs in self.slots
        ]
        return Many(
            slots, self.first[first:last], self.newest[first:last], self.ts[begin:end],
            self.created[begin:end], self.starts[first : last + 1] - begin,
        )  # fmt: skip

    def of(self, entities: Any) -> Many:
        """The events of the marked entities."""
        if entities.all():
            return self
        counts = np.diff(self.starts)
        rows = np.repeat(entities, counts)
        held = pa.array(rows)
        slots = [
            (type_, column.filter(held), None if errs is None else errs[rows])
            for type_, column, errs in self.slots
        ]
        starts = np.concatenate([[0], np.cumsum(counts[entities])])
        return Many(
            slots, self.first[entities], self.newest[entities], self.ts[rows], self.created[rows],
            starts,
        )  # fmt: skip

    def _states(self) -> pa.LargeBinaryArray:
        n = np.diff(self.starts).astype("<u4")
        count = _same(n[:1].tobytes()) if (n == n[:1]).all() else _of(n, 4)
        parts = [_same(bytes((VERSION,))), _of(self.first, 8), _of(self.newest, 8), count]
        parts += [_rows(self.ts, self.starts), _rows(self.created, self.starts)]
        for type_, values, errors in self.slots:
            parts += _column(type_, values, errors, self.starts)
        return joined(parts, len(self.starts) - 1)

    def _rows(self) -> pa.LargeBinaryArray:
        """The states of entities that have one row each, none of which errs, as `row.RowForm`
        writes them."""
        n = len(self.ts)
        each = np.arange(n + 1)
        nulls = [column.is_null().to_numpy(zero_copy_only=False) for _, column, _ in self.slots]
        absent = np.stack(nulls, axis=1) if nulls else np.zeros((n, 0), np.bool_)
        some = absent.any(axis=1)
        later = self.newest != self.created
        flags = np.where(later, row.FLAG_NEWEST, 0) | np.where(some, row.FLAG_NONE, 0)
        parts = [_same(bytes((row.VERSION,))), _of(flags.astype("u1"), 1)]
        parts += [_of(self.ts, 8), _of(self.created, 8)]
        parts += _where(later, np.ascontiguousarray(self.newest, "<i8").reshape(-1, 1))
        parts += _where(some, np.packbits(absent, axis=1, bitorder="little"))
        texts: list[Part] = []
        for (type_, column, _), gone in zip(self.slots, nulls, strict=True):
            filled = _filled(type_, column, gone) if gone.any() else column
            value, *text = _values(type_, filled, each)
            parts.append(value)
            texts += text
        return joined([*parts, *texts], n)


def _where(held: Any, values: Any) -> list[Part]:
    """A part with the rows of a matrix that `held` marks, and nothing for the others."""
    width = values.shape[1] * values.itemsize
    if not held.any():
        return []
    if held.all():
        return [_of(values, width)]
    return [Part(_bytes(values[held]), _bounds(np.where(held, width, 0)))]


def entity_keys(columns: Sequence[tuple[Type, pa.Array]]) -> pa.LargeBinaryArray:
    """The keys of entities as `entity_key` writes them, from columns of join keys without nulls."""
    parts: list[Any] = []
    for type_, column in columns:
        key = _keys(type_, column)
        parts += [
            _raw(pc.binary_length(key).cast(pa.string())),
            pa.scalar(b":", pa.large_binary()),
            key,
        ]
    return pc.binary_join_element_wise(*parts, _EMPTY)


def state_keys(prefix: bytes, entities: pa.LargeBinaryArray) -> pa.LargeBinaryArray:
    """The keys of the entities' states, as `state_key` writes them."""
    before, after = (pa.scalar(x, pa.large_binary()) for x in (prefix + b"{", b"}"))
    return pc.binary_join_element_wise(before, entities, after, _EMPTY)


def sealed_values(
    keys: pa.LargeBinaryArray, values: pa.LargeBinaryArray, crcs: Iterable[int] | None = None
) -> pa.LargeBinaryArray:
    """The values to keep under the keys, as `seal.sealed` makes them. `crcs` are the checksums of
    the keys, where they are known."""
    mark = pa.scalar(bytes((MARK,)), pa.large_binary())
    marked = pc.binary_join_element_wise(mark, values, _EMPTY)
    # Two calls in C for each value; a CRC-32 in NumPy would look up every byte by itself.
    made = map(crc32, marked.to_pylist(), map(crc32, keys.to_pylist()) if crcs is None else crcs)
    ends = _array(_of(np.fromiter(made, "<u4", len(keys)), 4), len(keys))
    return pc.binary_join_element_wise(marked, ends, _EMPTY)


def _keys(type_: Type, column: pa.Array) -> pa.Array:
    text: Any
    match type_.name:
        case "int":
            tag, text = b"i", column.cast(pa.string())
        case "str":
            tag, text = b"s", column
        case "bytes":
            tag, text = b"x", column
        case "datetime":
            tag, text = b"t", column.cast(pa.int64()).cast(pa.string())
        case _:
            values = column.cast(type_.arrow).to_pylist()
            return pa.array([encode_key(type_, v) for v in values], pa.large_binary())
    tagged = pa.scalar(tag, pa.large_binary())
    return pc.binary_join_element_wise(tagged, _raw(text), _EMPTY)


def _raw(column: pa.Array) -> pa.LargeBinaryArray:
    """A column of texts or bytes, as bytes."""
    if pa.types.is_string(column.type):
        return column.cast(pa.binary()).cast(pa.large_binary())
    if pa.types.is_binary(column.type):
        return column.cast(pa.large_binary())
    return column.cast(pa.large_string()).cast(pa.large_binary())


# --- columns --------------------------------------------------------------------------------------


def _column(type_: Type, column: pa.Array, errors: Any, starts: Any) -> list[Part]:
    """The parts of a slot's column, as `codec.encode_column` writes it for the rows of each
    entity."""
    if not column.null_count and (errors is None or not errors.any()):
        return [_same(bytes((ALL_PRESENT,))), *_values(type_, column, starts)]
    marks = column.is_null().to_numpy(zero_copy_only=False).astype("u1")
    if errors is not None:
        marks[errors] = 2
    n = np.diff(starts)
    none = (_counts(marks == 1, starts) == n) & (n <= codec.MOST_ABSENT)
    kind = np.where(
        _counts(marks != 0, starts) == 0, ALL_PRESENT, np.where(none, ALL_ABSENT, MIXED)
    )
    mixed, held = kind == MIXED, kind != ALL_ABSENT
    rows = np.repeat(held, n)
    filled = _filled(type_, column, marks != 0).filter(pa.array(rows))
    values = _values(type_, filled, _bounds(n[held]))
    return [
        _of(kind.astype("u1"), 1),
        Part(marks[np.repeat(mixed, n)], _bounds(np.where(mixed, n, 0))),
        *(part.spread(held) for part in values),
    ]


def _values(type_: Type, column: pa.Array, starts: Any) -> list[Part]:
    """The parts of a column's values, which follow its marks; the column has no nulls."""
    match type_.name:
        case "int" | "datetime" | "timedelta":
            return [_rows(column.cast(pa.int64()).to_numpy(), starts)]
        case "float":
            return [_rows(_one_nan(column.to_numpy(), "<i8", _NAN), starts)]
        case "bool":
            return [_rows(column.to_numpy(zero_copy_only=False).view("u1"), starts)]
        case "date":
            return [_rows(column.cast(pa.int32()).to_numpy(), starts)]
        case "str" | "bytes":
            raw = _raw(column)
            at = np.frombuffer(raw.buffers()[1], "<i8")[raw.offset : raw.offset + len(raw) + 1]
            data = np.frombuffer(raw.buffers()[2] or b"", "u1")
            return [_rows(np.diff(at).astype("<u4"), starts), Part(data, at[starts])]
        case "list" if type_.size is not None:
            numbers = column.cast(type_.arrow).flatten().to_numpy()
            return [_rows(_one_nan(numbers, "<i4", _NAN32), starts, type_.size)]
        case "list":
            assert type_.item is not None
            lengths = pc.list_value_length(column).to_numpy().astype("<u4")
            items = _bounds(lengths)[starts]
            return [_rows(lengths, starts), *_column(type_.item, column.flatten(), None, items)]
        case name:
            raise TypeError(f"{name} has no wire form")


def _one_nan(values: Any, whole: str, nan: Any) -> Any:
    """The values, with every NaN replaced by `nan`."""
    odd = np.isnan(values)
    if not odd.any():
        return values
    values = values.copy()
    values.view(whole)[odd] = nan
    return values


def _filled(type_: Type, column: pa.Array, absent: Any) -> pa.Array:
    """The column, with zeros in the place of absent values."""
    zero: Any = {"bool": False, "str": "", "bytes": b"", "float": 0.0, "list": []}.get(
        type_.name, 0
    )
    if type_.size is not None:
        zero = [0.0] * type_.size
    elif type_.name in ("datetime", "date", "timedelta") and not pa.types.is_integer(column.type):
        zero = pa.array([0], pa.int32() if type_.name == "date" else pa.int64())
        zero = zero.cast(column.type)[0].as_py()
    with_zero = pa.concat_arrays([column, pa.array([zero], column.type)])
    return with_zero.take(pa.array(np.where(absent, len(column), np.arange(len(column)))))


# --- parts ----------------------------------------------------------------------------------------


def _of(data: Any, width: int) -> Part:
    return Part(_bytes(data), width=width)


def _same(data: bytes) -> Part:
    return Part(np.frombuffer(data, "u1"), width=len(data), same=True)


def _bytes(data: Any) -> Any:
    return np.ascontiguousarray(data).view("u1").reshape(-1)


def _rows(values: Any, starts: Any, items: int = 1) -> Part:
    """The bytes of each entity's rows, in a column that has `items` numbers for each row."""
    size = values.itemsize * items
    data = _bytes(values)[starts[0] * size : starts[-1] * size]
    n = (starts[-1] - starts[0]) / max(len(starts) - 1, 1)
    if (np.diff(starts) == n).all():
        return Part(data, width=int(n) * size)
    return Part(data, (starts - starts[0]) * size)


def _bounds(widths: Any) -> Any:
    return np.concatenate([[0], np.cumsum(widths, dtype=np.int64)])


def _counts(flags: Any, starts: Any) -> Any:
    """How many rows of each entity are flagged."""
    return np.diff(_bounds(flags)[starts])


def joined(parts: Sequence[Part], m: int) -> pa.LargeBinaryArray:
    """The `m` values that consist of these parts, one after the other."""
    arrays: list[pa.Array] = []
    run: list[Part] = []
    for part in [*parts, None]:
        if part is not None and part.bounds is None:
            run.append(part)
            continue
        if run:
            arrays.append(_array(_side_by_side(run, m), m))
            run = []
        if part is not None:
            arrays.append(_array(part, m))
    return arrays[0] if len(arrays) == 1 else pc.binary_join_element_wise(*arrays, _EMPTY)


def _side_by_side(parts: Sequence[Part], m: int) -> Part:
    """One part for several parts of fixed widths."""
    width = sum(part.width for part in parts)
    out = np.empty((m, width), "u1")
    template = np.zeros(width, "u1")
    columns, at = [], 0
    for part in parts:
        if part.same:
            template[at : at + part.width] = part.data
        elif part.width and m:
            kind = _WHOLE.get(part.width, f"V{part.width}")
            into: Any = np.ndarray((m,), kind, out.data, offset=at, strides=(width,))
            columns.append((into, part.data.view(kind)))
        at += part.width
    # A few values at a time: they stay in the processor's cache while their parts are copied.
    step = max(_CACHE // max(width, 1), 1)
    for first in range(0, m, step):
        out[first : first + step] = template
        for into, data in columns:
            into[first : first + step] = data[first : first + step]
    return Part(out.reshape(-1), width=width)


def _array(part: Part, m: int) -> pa.LargeBinaryArray:
    bounds = np.arange(m + 1) * part.width if part.bounds is None else part.bounds
    at = pa.py_buffer(np.ascontiguousarray(bounds, np.int64))
    return pa.Array.from_buffers(
        pa.large_binary(), m, [None, at, pa.py_buffer(np.ascontiguousarray(part.data))]
    )


# --- a stream of them -----------------------------------------------------------------------------


def framed(keys: pa.LargeBinaryArray, values: pa.LargeBinaryArray) -> tuple[memoryview, list[int]]:
    """The keys and values as arguments of a Redis command, and where they begin.

    A value follows its key. The places are those where each pair begins, and the end of the last.
    """
    line = pa.scalar(b"\r\n", pa.large_binary())
    parts: list[Any] = []
    for column in (keys, values):
        length = _raw(pc.binary_length(column).cast(pa.string()))
        parts += [pa.scalar(b"$", pa.large_binary()), length, line, column, line]
    stream = pc.binary_join_element_wise(*parts, _EMPTY)
    bounds = np.frombuffer(stream.buffers()[1], "<i8")[: len(keys) + 1]
    return memoryview(stream.buffers()[2] or b""), bounds.tolist()
