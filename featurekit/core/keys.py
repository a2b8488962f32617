"""Keys: an entity's key as bytes, and the keys of an online store."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from featurekit.core.types import EPOCH, MICROSECOND, Type


class Version(Protocol):
    """A version of a view, as keys of a store name it."""

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...


def encode_key(type_: Type, value: Any) -> bytes:
    """A join key's value, so that keys of two types never meet (S2): i1, s1, b1 …"""
    match value:
        case bool():
            return b"b1" if value else b"b0"
        case int():
            return b"i%d" % value
        case str():
            return b"s" + value.encode()
        case bytes():
            return b"x" + value
        case dt.datetime():
            return b"t%d" % ((value - EPOCH) // MICROSECOND)
        case dt.date():
            return b"d" + value.isoformat().encode()
        case _:
            raise TypeError(f"{value!r} is no join key")


def entity_key(values: Sequence[tuple[Type, Any]]) -> bytes:
    """The bytes that name an entity: its keys in order, each behind its length."""
    return joined_key([encode_key(type_, value) for type_, value in values])


def joined_key(parts: Sequence[bytes]) -> bytes:
    """The bytes that name an entity, of those of its keys."""
    if len(parts) == 1:
        return b"%d:%b" % (len(parts[0]), parts[0])
    return b"".join([b"%d:%b" % (len(p), p) for p in parts])


def key_encoder(type_: Type) -> Callable[[Any], bytes]:
    """As `encode_key`, for the values of one column."""
    match type_.name:
        case "int":
            return lambda value: b"i%d" % value
        case "str":
            return lambda value: b"s" + value.encode()
    return lambda value: encode_key(type_, value)


def encode_keys(type_: Type, values: Sequence[Any]) -> list[bytes]:
    """As `encode_key`, of many values, none of which is None."""
    match type_.name:
        case "int":
            return [b"i%d" % value for value in values]
        case "str":
            return [b"s" + value.encode() for value in values]
    return [encode_key(type_, value) for value in values]


def decode_key(type_: Type, raw: bytes) -> Any:
    """The join key's value that `encode_key` wrote."""
    text = raw[1:]
    match type_.name:
        case "bool":
            return text == b"1"
        case "int":
            return int(text)
        case "str":
            return text.decode()
        case "bytes":
            return text
        case "datetime":
            return EPOCH + int(text) * MICROSECOND
        case "date":
            return dt.date.fromisoformat(text.decode())
        case name:
            raise TypeError(f"{name} is no join key")


def entity_values(types: Sequence[Type], entity: bytes) -> list[Any]:
    """The keys that `entity_key` wrote, of these types."""
    found, at = [], 0
    for type_ in types:
        colon = entity.index(b":", at)
        end = colon + 1 + int(entity[at:colon])
        found.append(decode_key(type_, entity[colon + 1 : end]))
        at = end
    return found


def project_key(project: str, *parts: str) -> bytes:
    """A key of the project that belongs to no entity."""
    return ":".join(("fk", project, *parts)).encode()


def state_prefix(project: str, view: Version) -> bytes:
    """What the keys of every state of a view's version begin with."""
    return project_key(project, "state", view.name, view.fingerprint) + b":"


def state_key(prefix: bytes, entity: bytes) -> bytes:
    """The key of an entity's state; the hash tag puts all its states on one cluster slot."""
    return prefix + b"{" + entity + b"}"


def ids_prefix(project: str, view: Version) -> bytes:
    """What the keys of all that a view's version remembers of ids begin with (T7)."""
    return project_key(project, "ids", view.name, view.fingerprint) + b":"


def floor_key(project: str, view: Version) -> bytes:
    """The key of the instant before whose arrivals a view's version has let go of ids."""
    return project_key(project, "floor", view.name, view.fingerprint)
