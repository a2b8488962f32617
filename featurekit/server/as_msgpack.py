"""Turns an online result into an answer of MessagePack: the same document as in JSON, with typed
values."""

from __future__ import annotations

from typing import Any

from featurekit.core.types import Type
from featurekit.online.lookup.result import OnlineResult
from featurekit.online.wire import msgpack
from featurekit.server.as_json import Said, statuses


def answer(result: OnlineResult, said: Said) -> bytes:
    """Columns by name, and the statuses of each feature, which are one text where all rows have the
    same. A dict is a list of pairs, in its order."""
    types = result.types
    columns = {name: _column(v, types[name]) for name, v in result.to_dict().items()}
    document = {**said.document(result), "columns": columns, "status": statuses(result)}
    return msgpack.pack(document)


def _column(values: list[Any], type_: Type) -> list[Any]:
    if type_.name != "dict":
        return values
    return [None if v is None else [list(pair) for pair in v.items()] for v in values]
