"""The fields of a result type that holds several values: NamedTuple, TypedDict, dataclass,
tuple[…]."""

from __future__ import annotations

import dataclasses
import types as pytypes
import typing
from typing import Any


def result_fields(hint: Any) -> dict[str, Any] | None:
    """The name and type of each field; None for a result of one value.

    Every field of an optional result is optional. The parts of a plain tuple are named "0", "1" ….
    """
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, pytypes.UnionType):
        others = [a for a in arguments if a is not type(None)]
        if len(others) != 1:
            return None
        fields = result_fields(others[0])
        return fields and {name: inner | None for name, inner in fields.items()}
    if typing.get_origin(hint) is tuple and Ellipsis not in arguments:
        return {str(i): inner for i, inner in enumerate(arguments)}
    if isinstance(hint, type):
        named = issubclass(hint, tuple) and hasattr(hint, "_fields")
        if named or typing.is_typeddict(hint) or dataclasses.is_dataclass(hint):
            return typing.get_type_hints(hint)
    return None


def in_order(hint: Any) -> bool:
    """Whether Python unpacks such a result into its fields: a tuple or NamedTuple, which may be
    None."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, pytypes.UnionType):
        return all(a is type(None) or in_order(a) for a in arguments)
    return origin is tuple or (isinstance(hint, type) and issubclass(hint, tuple))


def field_of(result: Any, field: str) -> Any:
    """One field of a function's result; None where the result is None."""
    if result is None:
        return None
    if isinstance(result, dict):
        return result[field]
    return result[int(field)] if field.isdigit() else getattr(result, field)
