"""Makes Arrow arrays of values whose type Feast does not declare in full, such as maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

import pyarrow as pa


class _Dicts(TypedDict):
    maps_as_pydicts: str


DICTS: _Dicts = {"maps_as_pydicts": "strict"}
"""Arrow's option by which a map becomes a dict of Python's."""


class _Mixed(Exception):
    """Values of several types, for which Arrow has none."""


def array_of(values: Sequence[Any], structs: bool = False) -> pa.Array:
    """The values as an array, dicts as maps: each row has its own keys. They are structs, which
    have the keys of all rows, where `structs` says so, and where a dict has values of several
    types."""
    if not structs:
        try:
            return pa.array(values, _type_of(values))
        except _Mixed:
            pass
    return pa.array(values)


def _type_of(values: Sequence[Any]) -> pa.DataType:
    """The type of values, of which lists and dicts may hold others."""
    there = [value for value in values if value is not None]
    classes = {type(value) for value in there}
    if len(classes) > 1:
        raise _Mixed
    if classes == {list}:
        return pa.list_(_type_of([one for value in there for one in value]))
    if classes == {dict}:
        keys = _type_of([key for value in there for key in value])
        # A map without keys has those of a text, as every Map of Feast's.
        keys = pa.string() if pa.types.is_null(keys) else keys
        return pa.map_(keys, _type_of([one for value in there for one in value.values()]))
    return pa.infer_type(there)
