"""Turns Feast's value types into the hints of a schema."""

from __future__ import annotations

from typing import Any

from feast.value_type import ValueType

_PLAIN = {
    ValueType.INT32: "int",
    ValueType.INT64: "int",
    ValueType.FLOAT: "float",
    ValueType.DOUBLE: "float",
    ValueType.BOOL: "bool",
    ValueType.STRING: "str",
    ValueType.BYTES: "bytes",
    ValueType.PDF_BYTES: "bytes",
    ValueType.IMAGE_BYTES: "bytes",
    ValueType.UNIX_TIMESTAMP: "datetime",
    ValueType.ZONED_TIMESTAMP: "datetime",
}
_HINTS = _PLAIN | {
    ValueType[f"{one.name}_LIST"]: f"list[{hint}]"
    for one, hint in _PLAIN.items()
    if f"{one.name}_LIST" in ValueType.__members__
}
_TEXTS = (ValueType.JSON, ValueType.UUID, ValueType.TIME_UUID, ValueType.DECIMAL)
_INSTEAD = {
    "MAP": "write a column for each key of it into the file",
    "STRUCT": "write a column for each of its fields into the file",
    "SET": "write it as a list that is sorted",
}


def value_type(dtype: Any) -> ValueType:
    """The value type of a field's declared type."""
    found: ValueType = dtype if isinstance(dtype, ValueType) else dtype.to_value_type()
    return found


def hint_of(dtype: Any) -> str | None:
    """The hint, as "float"; None for a type that featurekit does not have. Texts stand for JSON,
    UUID and Decimal."""
    found = value_type(dtype)
    return "str" if found in _TEXTS else _HINTS.get(found)


def field_hint(field: Any) -> str | None:
    """The hint of a feature; a vector that can be searched has its length."""
    hint = hint_of(field.dtype)
    length = getattr(field, "vector_length", 0)
    return f"Vector[{length}]" if hint == "list[float]" and length else hint


def is_text(dtype: Any) -> bool:
    """Whether Feast's type is kept as a text here."""
    return value_type(dtype) in _TEXTS


def instead_of(dtype: Any) -> str:
    """What to do about a type that featurekit does not have."""
    name = value_type(dtype).name
    found = next((said for part, said in _INSTEAD.items() if part in name), None)
    return found or "write it as a column of a type that docs/language.md names"
