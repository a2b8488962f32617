"""An order to a model server, what it predicts, and a reply that is none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from featurekit.core.calls import found

_LONGEST = 300


@dataclass(frozen=True, slots=True)
class Order:
    """What a model server is asked: a path and a body of JSON."""

    path: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Predicted:
    """A prediction for each row, as values of JSON, and the version of the model that the server
    names; None where it names none."""

    values: list[Any]
    model_version: str | None


class Garbled(ValueError):
    """A reply is not what the protocol says, for the reason that the text gives."""


def read_json(body: bytes) -> Any:
    """The value of a reply. A NaN or an infinity may be written as Python and C++ write it. Garbled
    where it is no JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Garbled(f"it is no JSON ({error})") from None


def write_json(value: Any) -> bytes:
    """A value as JSON, with the tokens NaN and Infinity, which Python and C++ read. Every float is
    the shortest text that is read as the same bits."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def for_each(values: Any, n: int, what: str) -> list[Any]:
    """A list with a value for each of `n` rows. Garbled for another one."""
    if not isinstance(values, list):
        raise Garbled(f"{what} is {found(values)}, and no list")
    if len(values) != n:
        raise Garbled(f"{what} has {len(values)} values for {n} rows")
    return values


def member(value: Any, name: str) -> Any:
    """A member of an object. Garbled where it has none."""
    if not isinstance(value, dict):
        raise Garbled(f"it is {found(value)}, and no object")
    if name not in value:
        raise Garbled(f"it lacks {name!r}")
    return value[name]


def said_of(body: bytes, names: Sequence[str]) -> str:
    """What an error says of itself under one of the names, in short; "" where it says nothing."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(value, dict):
        return ""
    told = next((value[name] for name in names if isinstance(value.get(name), str)), "")
    line = " ".join(told.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
