"""Turns the IR into JSON and back, into canonical text and into a fingerprint (F1)."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from featurekit.core.types import EPOCH, MICROSECOND, Type
from featurekit.language import ir

SEMANTICS_VERSION = 1
"""The version of the rules in force, which is part of every fingerprint (F1)."""
_Class = TypeVar("_Class", bound=type)
_CLASSES: dict[str, type] = {}
_NAMES: dict[type, str] = {}


def portable(cls: _Class, *, name: str = "") -> _Class:
    """Let a frozen dataclass of these values be written to JSON and read back. Its name there is
    its own, or the `name` under which it was first published."""
    wire_name = name or cls.__name__
    _CLASSES[wire_name] = cls
    _NAMES[cls] = wire_name
    return cls


portable(Type)
for _found in list(vars(ir).values()):
    if is_dataclass(_found) and isinstance(_found, type) and _found.__module__ == ir.__name__:
        portable(_found, name="Rows" if _found is ir.Unrolled else "")


def to_json(value: Any) -> Any:
    """A JSON value that `from_json` turns back into an equal `value`; floats keep every bit."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return {"f": value.hex()}
        case bytes():
            return {"b": value.hex()}
        case dt.datetime():
            return {"t": (value - EPOCH) // MICROSECOND}
        case dt.timedelta():
            return {"d": value // MICROSECOND}
        case dt.date():
            return {"date": value.isoformat()}
        case tuple() | list():
            return [to_json(v) for v in value]
        case dict():
            return {"m": [[to_json(k), to_json(v)] for k, v in value.items()]}
        case _ if (wire_name := _NAMES.get(type(value))) is not None:
            names = [
                f.name
                for f in fields(value)
                if not (f.metadata.get("optional") and getattr(value, f.name) is None)
            ]
            return {"c": wire_name, **{n: to_json(getattr(value, n)) for n in names}}
        case _:
            raise TypeError(f"{type(value).__name__} has no JSON form")


def from_json(value: Any) -> Any:
    """The value that `to_json` was given; lists come back as tuples."""
    match value:
        case list():
            return tuple(from_json(v) for v in value)
        case {"f": str(text)}:
            return float.fromhex(text)
        case {"b": str(text)}:
            return bytes.fromhex(text)
        case {"t": int(us)}:
            return EPOCH + us * MICROSECOND
        case {"d": int(us)}:
            return us * MICROSECOND
        case {"date": str(text)}:
            return dt.date.fromisoformat(text)
        case {"m": list(pairs)}:
            return {from_json(k): from_json(v) for k, v in pairs}
        case {"c": str(name), **rest}:
            return _CLASSES[name](**{str(k): from_json(v) for k, v in rest.items()})
        case _:
            return value


def canonical(value: Any) -> str:
    """The only text of a definition: JSON with sorted keys and no spaces (F1)."""
    return json.dumps(to_json(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def fingerprint(value: Any) -> str:
    """32 hexadecimal digits that stand for a canonical form under the rules in force (F1)."""
    return text_fingerprint(canonical(value))


def text_fingerprint(text: str) -> str:
    """The `fingerprint` of the value that has this canonical text."""
    return hashlib.sha256(f"{SEMANTICS_VERSION}:{text}".encode()).hexdigest()[:32]
