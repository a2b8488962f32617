"""Makes arrays of Arrow: of values, and of others of the same shape whose innermost arrays differ.

Arrow's own casts between such types are not used: that of a list view drops elements.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from featurekit.core.types import MICROSECOND

if TYPE_CHECKING:
    import pyarrow as pa

Leaf = Callable[[Any], Any]
"""Makes an array of an array that has no arrays inside."""


class Unmapped(Exception):
    """A type that has no plain shape; the text is its name."""


def array_of(values: Sequence[Any], type_: pa.DataType) -> pa.Array:
    """An array of a type of values of Python. Raises what Arrow raises for one that does not fit.

    Arrow counts a duration from its days on, so it makes none of a timedelta that lies within a day
    of the least one. Where it fails, durations are given to it as numbers.
    """
    import pyarrow as pa

    try:
        return pa.array(values, type_)
    except pa.ArrowInvalid:
        numbers = _of_numbers(type_)
        if numbers.equals(type_):
            raise
        return pa.array([_in_numbers(value) for value in values], numbers).cast(type_)


def _of_numbers(type_: pa.DataType) -> pa.DataType:
    """The type with whole numbers for durations of microseconds."""
    import pyarrow as pa

    is_ = pa.types
    if is_.is_map(type_):
        return pa.map_(_of_numbers(type_.key_type), _of_numbers(type_.item_type))
    if is_.is_struct(type_):
        return pa.struct([field.with_type(_of_numbers(field.type)) for field in type_])
    if is_.is_list(type_):
        return pa.list_(type_.value_field.with_type(_of_numbers(type_.value_type)))
    return pa.int64() if type_.equals(pa.duration("us")) else type_


def _in_numbers(value: Any) -> Any:
    match value:
        case dt.timedelta():
            return value // MICROSECOND
        case list():
            return [_in_numbers(one) for one in value]
        case dict():
            return {_in_numbers(k): _in_numbers(v) for k, v in value.items()}
        case _:
            return value


def plain_type(type_: pa.DataType) -> pa.DataType:
    """The type of what `in_plain_shape` makes of an array of `type_`. Unmapped for a union."""
    import pyarrow as pa

    is_ = pa.types
    if is_.is_string_view(type_):
        return pa.large_string()
    if is_.is_binary_view(type_):
        return pa.large_binary()
    if is_.is_run_end_encoded(type_):
        return plain_type(type_.value_type)
    if is_.is_union(type_):
        raise Unmapped(str(type_))
    if is_.is_dictionary(type_):
        if is_.is_null(type_.value_type):  # Arrow crashes where it looks for values in one
            return pa.null()
        return pa.dictionary(type_.index_type, plain_type(type_.value_type), type_.ordered)
    if isinstance(type_, pa.BaseExtensionType):
        storage = plain_type(type_.storage_type)
        return type_ if storage.equals(type_.storage_type) else storage
    if is_.is_struct(type_):
        return pa.struct([_retyped(field) for field in type_])
    if is_.is_map(type_):
        key, item = _retyped(type_.key_field), _retyped(type_.item_field)
        return pa.map_(key, item, keys_sorted=type_.keys_sorted)
    if is_.is_fixed_size_list(type_):
        return pa.list_(_retyped(type_.value_field), type_.list_size)
    if is_.is_list(type_) or is_.is_list_view(type_):
        return pa.list_(_retyped(type_.value_field))
    if is_.is_large_list(type_) or is_.is_large_list_view(type_):
        return pa.large_list(_retyped(type_.value_field))
    return type_


def _retyped(field: pa.Field) -> pa.Field:
    return field.with_type(plain_type(field.type))


def in_plain_shape(array: pa.Array, leaf: Leaf = lambda array: array) -> pa.Array:
    """The same values without views, run-ends and views of lists, each innermost array as `leaf`
    makes it. A dictionary and an extension stay where their values are plain. Unmapped for a
    union."""
    import pyarrow as pa

    type_, is_ = array.type, pa.types
    if is_.is_union(type_):
        raise Unmapped(str(type_))
    if is_.is_run_end_encoded(type_):
        return in_plain_shape(array.values, leaf).take(_physical(array))
    if is_.is_dictionary(type_):
        if is_.is_null(type_.value_type):
            return pa.nulls(len(array))
        words = in_plain_shape(array.dictionary, leaf)
        return pa.DictionaryArray.from_arrays(array.indices, words, ordered=type_.ordered)
    if isinstance(type_, pa.BaseExtensionType):
        storage = in_plain_shape(array.storage, leaf)
        same = storage.type.equals(type_.storage_type)
        return pa.ExtensionArray.from_storage(type_, storage) if same else storage
    if is_.is_struct(type_):
        inner = [in_plain_shape(array.field(i), leaf) for i in range(type_.num_fields)]
        fields = [field.with_type(made.type) for field, made in zip(type_, inner, strict=True)]
        if not fields:
            return array
        return pa.StructArray.from_arrays(inner, fields=fields, mask=array.is_null())
    if is_.is_nested(type_):
        return _lists(array, leaf)
    return leaf(_without_view(array))


def _lists(array: pa.Array, leaf: Leaf) -> pa.Array:
    """A list of any kind, or a map."""
    import pyarrow as pa

    type_, is_, missing = array.type, pa.types, array.is_null()
    if is_.is_fixed_size_list(type_):
        values = array.values.slice(array.offset * type_.list_size, len(array) * type_.list_size)
        inner = in_plain_shape(values, leaf)
        made = pa.list_(type_.value_field.with_type(inner.type), type_.list_size)
        return pa.FixedSizeListArray.from_arrays(inner, type=made, mask=missing)
    offsets, flat = _flat(array)
    if is_.is_map(type_):
        keys, items = (in_plain_shape(flat.field(i), leaf) for i in (0, 1))
        key = type_.key_field.with_type(keys.type)
        made = pa.map_(key, type_.item_field.with_type(items.type), keys_sorted=type_.keys_sorted)
        return pa.MapArray.from_arrays(offsets, keys, items, type=made, mask=missing)
    inner = in_plain_shape(flat, leaf)
    field = type_.value_field.with_type(inner.type)
    if is_.is_large_list(type_) or is_.is_large_list_view(type_):
        large = pa.large_list(field)
        return pa.LargeListArray.from_arrays(offsets, inner, type=large, mask=missing)
    return pa.ListArray.from_arrays(offsets, inner, type=pa.list_(field), mask=missing)


def _flat(array: pa.Array) -> tuple[pa.Array, pa.Array]:
    """The offsets of the rows of a list or map, from 0 on, and the elements of all rows."""
    import numpy as np
    import pyarrow as pa

    is_, type_ = pa.types, array.type
    views = is_.is_list_view(type_) or is_.is_large_list_view(type_)
    wide = is_.is_large_list(type_) or is_.is_large_list_view(type_)
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    offsets = array.offsets.to_numpy().astype(np.int64)
    starts = offsets[: len(array)]
    sizes = array.sizes.to_numpy().astype(np.int64) if views else offsets[1:] - starts
    sizes = np.where(valid, sizes, 0)
    ends = np.cumsum(sizes)
    made = np.concatenate([[0], ends]).astype(np.int64 if wide else np.int32)
    total = int(ends[-1]) if len(ends) else 0
    elements = np.repeat(starts - (ends - sizes), sizes) + np.arange(total)
    elements_there = _entries(array) if is_.is_map(type_) else array.values
    return pa.array(made), _taken(elements_there, elements)


def _entries(array: pa.Array) -> pa.Array:
    """The keys and items of all rows of a map, unsliced, side by side."""
    import pyarrow as pa

    fields = [array.type.key_field, array.type.item_field]
    return pa.StructArray.from_arrays([array.keys, array.items], fields=fields)


def _taken(values: pa.Array, rows: Any) -> pa.Array:
    """The rows of an array by their numbers; a slice where they follow one another."""
    import numpy as np
    import pyarrow as pa

    if not len(rows):
        return values.slice(0, 0)
    if rows[-1] - rows[0] + 1 == len(rows) and bool(np.all(rows[1:] > rows[:-1])):
        return values.slice(int(rows[0]), len(rows))
    return in_plain_shape(values).take(pa.array(rows))


def _physical(array: pa.Array) -> pa.Array:
    """The run of each row of an array that is written as runs."""
    import numpy as np
    import pyarrow as pa

    ends = array.run_ends.to_numpy()
    rows = np.arange(array.offset, array.offset + len(array))
    return pa.array(np.searchsorted(ends, rows, side="right"))


def _without_view(array: pa.Array) -> pa.Array:
    import pyarrow as pa

    if pa.types.is_string_view(array.type):
        return array.cast(pa.binary_view()).cast(pa.large_binary()).view(pa.large_string())
    if pa.types.is_binary_view(array.type):
        return array.cast(pa.large_binary())
    return array


def holds(type_: pa.DataType, sought: Callable[[pa.DataType], bool]) -> bool:
    """Whether a type is, or has inside, one that is sought."""
    import pyarrow as pa

    if isinstance(type_, pa.BaseExtensionType):
        return holds(type_.storage_type, sought)
    if pa.types.is_dictionary(type_):
        return holds(type_.value_type, sought)
    inner = (type_.field(i).type for i in range(type_.num_fields))
    return sought(type_) or any(holds(one, sought) for one in inner)


def loses_nanoseconds(array: pa.Array) -> bool:
    """Whether Python's times of the day hold less than a value: Arrow drops what they lack without
    a word."""
    import pyarrow as pa

    if not holds(array.type, _is_time_ns):
        return False
    try:
        in_plain_shape(array, _whole_microseconds)
    except pa.ArrowInvalid:
        return True
    return False


def _is_time_ns(type_: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_time64(type_) and type_.unit == "ns")


def _whole_microseconds(array: pa.Array) -> pa.Array:
    import pyarrow as pa

    return array.cast(pa.time64("us")) if _is_time_ns(array.type) else array


def as_numbers(array: pa.Array) -> pa.Array:
    """The same values, with the integers that stand for instants, dates and times."""
    return in_plain_shape(array, _number)


def _number(array: pa.Array) -> pa.Array:
    import pyarrow as pa

    if pa.types.is_temporal(array.type) and not pa.types.is_interval(array.type):
        return array.view(pa.int32() if array.type.bit_width == 32 else pa.int64())
    return array
