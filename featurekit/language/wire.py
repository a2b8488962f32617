"""Turns the IR into JSON and back, into canonical text and into a fingerprint (F1).

What is read back is data of others (F0): `from_json` takes nothing but the declared fields of the
known classes, each with a value of its declared type.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import types as pytypes
import typing
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, TypeVar

from featurekit.core.types import EPOCH, INT_MAX, INT_MIN, MICROSECOND, Type
from featurekit.language import ir

SEMANTICS_VERSION = 1
"""The version of the rules in force, which is part of every fingerprint (F1)."""
_Class = TypeVar("_Class", bound=type)
_CLASSES: dict[str, type] = {}
_NAMES: dict[type, str] = {}


class Malformed(ValueError):
    """JSON that is not the form of a value; the text says where and what was found."""


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
    kind: Any = type(value)
    if kind in _AS_THEY_ARE:
        return value
    if kind is tuple:
        return [to_json(v) for v in value]
    wire_name = _NAMES.get(kind)
    if wire_name is not None:
        made: dict[str, Any] = {"c": wire_name}
        for name, optional in _written(kind):
            held = getattr(value, name)
            if held is not None or not optional:
                made[name] = to_json(held)
        return made
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
        case _:
            raise TypeError(f"{type(value).__name__} has no JSON form")


_AS_THEY_ARE = frozenset((type(None), bool, int, str))


@cache
def _written(cls: Any) -> tuple[tuple[str, bool], ...]:
    """The names of a class's fields, and whether each is left out where it is None."""
    return tuple((f.name, bool(f.metadata.get("optional"))) for f in fields(cls))


def from_json(value: Any, hint: Any = Any) -> Any:
    """The value that `to_json` was given, of the type `hint`; lists come back as tuples.

    Malformed for anything that `to_json` does not write: another class, a field too many or too
    few, a value of another type than its field's, an int outside int64.
    """
    if hint is Any:
        hint = _CLASSES.get(value["c"], Any) if _is_class(value) else Any
    return _read(value, hint, hint if isinstance(hint, str) else getattr(hint, "__name__", "value"))


def _is_class(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("c"), str)


# --- reading, one frame of Python's stack for each level ------------------------------------------


@cache
def _fields(cls: type) -> dict[str, tuple[Any, bool]]:
    """The fields of a class by name: the type of each, and whether it may be left out."""
    hints = typing.get_type_hints(cls)
    return {f.name: (hints[f.name], bool(f.metadata.get("optional"))) for f in fields(cls)}


@cache
def _alternatives(hint: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The classes among the alternatives of a type, and the others."""
    union = typing.get_origin(hint) in (typing.Union, pytypes.UnionType)
    parts = typing.get_args(hint) if union else (hint,)
    classes = tuple(p for p in parts if isinstance(p, type) and is_dataclass(p))
    return classes, tuple(p for p in parts if p not in classes)


@cache
def _items(hint: Any) -> tuple[Any, ...] | None:
    """What a tuple of a type holds: its one type and an ellipsis, or the type of each; None for a
    type that is no tuple."""
    return typing.get_args(hint) if typing.get_origin(hint) is tuple else None


def _read(value: Any, hint: Any, where: str) -> Any:
    if hint is Any:
        return _plain(value, where)
    classes, others = _alternatives(hint)
    if classes and _is_class(value):
        cls: Any = _CLASSES.get(value["c"])
        if cls not in classes:
            raise Malformed(f"{where} holds {_shown(value['c'])}, not {_named(hint)}")
        known = _fields(cls)
        given = {}
        for name, part in value.items():
            if name == "c":
                continue
            if name not in known:
                raise Malformed(f"{where}: {cls.__name__} has no field {_shown(name)}")
            given[name] = _read(part, known[name][0], f"{where}.{name}")
        for name, (_, optional) in known.items():
            if name not in given and not optional:
                raise Malformed(f"{where}: {cls.__name__} lacks its field {name!r}")
        return cls(**given)
    for one in others:
        items = _items(one)
        if items is None:
            if _is_of(value, one):
                return value
        elif isinstance(value, list):
            if items[-1] is Ellipsis:
                types: Any = (items[0],) * len(value)
            elif len(items) == len(value):
                types = items
            else:
                continue
            made = []
            for i, part in enumerate(value):
                made.append(_read(part, types[i], f"{where}[{i}]"))
            return tuple(made)
    raise Malformed(f"{where} holds {_shown(value)}, not {_named(hint)}")


def _is_of(value: Any, hint: Any) -> bool:
    """Whether a JSON value is of a type that is no class and no tuple."""
    if typing.get_origin(hint) is typing.Literal:
        return isinstance(value, str) and value in typing.get_args(hint)
    if hint is type(None):
        return value is None
    if type(value) is not hint or hint not in (bool, int, str):
        return False
    return hint is bool or (_is_int64(value) if hint is int else _is_text(value))


def _plain(value: Any, where: str) -> Any:
    """A value of a transform: a scalar, or a list or dict of them."""
    match value:
        case None | bool():
            return value
        case int() if _is_int64(value):
            return value
        case str() if _is_text(value):
            return value
        case list():
            made = []
            for i, part in enumerate(value):
                made.append(_plain(part, f"{where}[{i}]"))
            return tuple(made)
        case {"m": list(pairs), **rest} if not rest:
            if any(not isinstance(pair, list) or len(pair) != 2 for pair in pairs):
                raise Malformed(f"{where}: a dict is a list of pairs")
            found = {}
            for i, (key, held) in enumerate(pairs):
                read = _plain(key, f"{where}[{i}]")
                if isinstance(read, (tuple, dict)):
                    raise Malformed(f"{where}: a {type(read).__name__} is no key")
                found[read] = _plain(held, f"{where}[{i}]")
            return found
        case dict() if len(value) == 1:
            ((kind, text),) = value.items()
            try:
                made_of = _SCALARS[kind](text)
                again = to_json(made_of)
                # One text for a value, so that a hash means it. True and 1.0 are no 1.
                if again == value and type(again[kind]) is type(text):
                    return made_of
            except (KeyError, TypeError, ValueError, OverflowError):
                pass
    raise Malformed(f"{where} holds {_shown(value)}, which is no value")


_SCALARS: dict[str, Any] = {
    "f": float.fromhex,
    "b": bytes.fromhex,
    "t": lambda us: EPOCH + us * MICROSECOND,
    "d": lambda us: us * MICROSECOND,
    "date": dt.date.fromisoformat,
}


def _is_int64(value: int) -> bool:
    return INT_MIN <= value <= INT_MAX


def _is_text(value: str) -> bool:
    """Whether a str has a form in UTF-8: no lone surrogate."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _named(hint: Any) -> str:
    classes, others = _alternatives(hint)
    names = [one.__name__ if isinstance(one, type) else str(one) for one in (*classes, *others)]
    return " or ".join(name.rpartition(".")[2] for name in names)


def _shown(value: Any) -> str:
    text = ascii(value) if isinstance(value, (str, int, float, bool, type(None))) else ""
    if len(text) > 60:
        text = f"{text[:60]}…"
    return text or f"a {type(value).__name__}"


def canonical(value: Any) -> str:
    """The only text of a definition: JSON with sorted keys and no spaces (F1)."""
    return json.dumps(to_json(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def canonical_list(texts: list[str]) -> str:
    """The canonical text of a list whose parts have these canonical texts."""
    return f"[{','.join(texts)}]"


def fingerprint(value: Any) -> str:
    """32 hexadecimal digits that stand for a canonical form under the rules in force (F1)."""
    return fingerprint_of(canonical(value))


def fingerprint_of(text: str) -> str:
    """The fingerprint of the value with this canonical text."""
    return hashlib.sha256(f"{SEMANTICS_VERSION}:{text}".encode()).hexdigest()[:32]
