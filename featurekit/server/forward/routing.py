"""Turns an entity's key into the target that answers for it: the same one on every machine, in
every worker and at every time, for as long as the route stays.

An entity has a place in a model's 10,000, by a hash of the model's name and of the entity's key.
Targets take the places in the order of the route. So where two targets share a model and the second
one's weight grows, entities only go over to it, and none comes back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from featurekit.core.keys import encode_key
from featurekit.core.types import Type
from featurekit.server.forward.targets import UNITS, Model

_ABSENT = b"-"


def key_of(types: Mapping[str, Type], values: Mapping[str, Any]) -> bytes:
    """The bytes that name an entity, by its join keys in the order of their names; a key may be
    None. They do not depend on the order in which a service lists its keys."""
    parts = []
    for name in sorted(types):
        value = values[name]
        part = _ABSENT if value is None else encode_key(types[name], value)
        parts.append(b"%d:%b" % (len(part), part))
    return b"".join(parts)


def place(model: str, key: bytes) -> int:
    """The entity's place, from 0 to 9,999."""
    digest = hashlib.blake2b(b"%b\0%b" % (model.encode(), key), digest_size=8).digest()
    return int.from_bytes(digest, "big") * UNITS >> 64


def chosen(model: Model, key: bytes) -> str:
    """The name of the target that answers for an entity."""
    if len(model.route) == 1:
        return model.route[0][0]
    at = place(model.name, key)
    for name, weight in model.route:
        at -= weight
        if at < 0:
            return name
    raise AssertionError("the weights of a route add up")


def choices(
    model: Model, types: Mapping[str, Type], entities: Mapping[str, Sequence[Any]], n: int
) -> list[str]:
    """The target of each of `n` rows, whose join keys are `entities`."""
    if len(model.route) == 1:
        return [model.route[0][0]] * n
    rows = [{name: entities[name][i] for name in types} for i in range(n)]
    return [chosen(model, key_of(types, row)) for row in rows]
