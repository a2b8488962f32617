"""Turns an entity's join keys into bytes, in Python and in SQL, and these into the keys of an
online store."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from featurekit.core.sql import quote
from featurekit.core.types import EPOCH, MICROSECOND, Type


class Version(Protocol):
    """What the keys of a store need to know of a version of a view."""

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...


@dataclass(frozen=True, slots=True)
class _Key:
    """How the values of a type are written as a key and read back. `encode` does it in Python and
    `sql` in DuckDB, with `{x}` for the column; `decode` takes the bytes after the first one."""

    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]
    sql: str


_KEYS = {
    "bool": _Key(
        lambda value: b"b1" if value else b"b0",
        lambda text: text == b"1",
        "encode(CASE WHEN {x} THEN 'b1' WHEN NOT {x} THEN 'b0' END)",
    ),
    "int": _Key(lambda value: b"i%d" % value, int, "encode('i' || {x})"),
    "str": _Key(lambda value: b"s" + value.encode(), bytes.decode, "encode('s' || {x})"),
    "bytes": _Key(lambda value: b"x" + value, lambda text: text, "(encode('x') || {x})"),
    "datetime": _Key(
        lambda value: b"t%d" % ((value - EPOCH) // MICROSECOND),
        lambda text: EPOCH + int(text) * MICROSECOND,
        "encode('t' || epoch_us({x}))",
    ),
    "date": _Key(
        lambda value: b"d" + value.isoformat().encode(),
        lambda text: dt.date.fromisoformat(text.decode()),
        "encode('d' || {x})",  # DuckDB also writes a year with four digits
    ),
}


def encode_key(type_: Type, value: Any) -> bytes:
    """A join key's value as bytes, as in i1, s1 or b1; the first byte keeps keys of two types apart
    (S2)."""
    return key_encoder(type_)(value)


def entity_key(values: Sequence[tuple[Type, Any]]) -> bytes:
    """The bytes that name an entity: its encoded keys in order, each preceded by its length."""
    return joined_key([encode_key(type_, value) for type_, value in values])


def joined_key(parts: Sequence[bytes]) -> bytes:
    """The bytes that name an entity, made of its encoded keys."""
    if len(parts) == 1:
        return b"%d:%b" % (len(parts[0]), parts[0])
    return b"".join([b"%d:%b" % (len(p), p) for p in parts])


def key_encoder(type_: Type) -> Callable[[Any], bytes]:
    """As `encode_key`, for the values of one column."""
    return _key(type_).encode


def encode_keys(type_: Type, values: Sequence[Any]) -> list[bytes]:
    """As `encode_key`, for many values, none of which is None."""
    match type_.name:  # one call per value takes a third longer
        case "int":
            return [b"i%d" % value for value in values]
        case "str":
            return [b"s" + value.encode() for value in values]
    return list(map(_key(type_).encode, values))


def decode_key(type_: Type, raw: bytes) -> Any:
    """The join key's value that `encode_key` wrote."""
    return _key(type_).decode(raw[1:])


def entity_key_sql(columns: Mapping[str, Type]) -> str:
    """As `entity_key`, in SQL over columns in their order; NULL if one of them is NULL."""
    keys = [_key(type_).sql.format(x=quote(name)) for name, type_ in columns.items()]
    return " || ".join(f"encode(octet_length({key}) || ':') || {key}" for key in keys)


def _key(type_: Type) -> _Key:
    found = _KEYS.get(type_.name)
    if found is None:
        raise TypeError(f"a {type_.name} is no join key")
    return found


def entity_values(types: Sequence[Type], entity: bytes) -> list[Any]:
    """The values that `entity_key` wrote, given the types of the join keys."""
    found, at = [], 0
    for type_ in types:
        colon = entity.index(b":", at)
        end = colon + 1 + int(entity[at:colon])
        found.append(decode_key(type_, entity[colon + 1 : end]))
        at = end
    return found


def project_key(project: str, *parts: str) -> bytes:
    """A store's key that belongs to the project and to no entity."""
    return ":".join(("fk", project, *parts)).encode()


def names_key(project: str) -> bytes:
    """The key of the services' names: an index, since a SCAN would read every state's key."""
    return project_key(project, "services")


def clock_key(project: str) -> bytes:
    """The key of the last stamp that the project's clock gave (S3)."""
    return project_key(project, "clock")


def state_prefix(project: str, view: Version) -> bytes:
    """The prefix of the keys of all states of a view's version."""
    return project_key(project, "state", view.name, view.fingerprint) + b":"


def state_key(prefix: bytes, entity: bytes) -> bytes:
    """The key of an entity's state; the hash tag puts all states of an entity on one cluster
    slot."""
    return prefix + b"{" + entity + b"}"


def entity_tags(types: Sequence[Type], columns: Sequence[Sequence[Any]]) -> list[bytes]:
    """What follows the prefix in the keys that `state_key` writes, for entities whose join keys are
    given by column, without a None."""
    if len(types) > 1:
        parts = [encode_keys(t, column) for t, column in zip(types, columns, strict=True)]
        return [state_key(b"", joined_key(row)) for row in zip(*parts, strict=True)]
    (type_,), (column,) = types, columns
    if type_.name != "int":
        return [b"{%d:%b}" % (len(key), key) for key in encode_keys(type_, column)]
    # One format for all takes a third of the time of one for each.
    ends = (b"i%d}\n" * len(column) % tuple(column)).split(b"\n")[:-1]
    return [_OPENING[len(end)] + end for end in ends]


_OPENING = [b"{%d:" % (size - 1) for size in range(24)]
"""What stands before an int's key and the closing brace, by the length of both."""


def ids_prefix(project: str, view: Version) -> bytes:
    """The prefix of the keys under which a view's version remembers event ids (T7)."""
    return project_key(project, "ids", view.name, view.fingerprint) + b":"


def floor_key(project: str, view: Version) -> bytes:
    """The key of the settled floor: a view's version has forgotten the ids of earlier arrivals
    (T7)."""
    return project_key(project, "floor", view.name, view.fingerprint)
