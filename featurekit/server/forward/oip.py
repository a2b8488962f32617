"""Speaks the Open Inference Protocol (version 2, over HTTP) as KServe, MLServer, Seldon and Triton
do: a tensor of shape [rows, 1] for each column, in the order of the service.

Each order says of which version its features are, so that a server that knows what its model learnt
from can refuse others.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from math import prod
from typing import Any
from urllib.parse import quote

from featurekit.core.calls import found
from featurekit.server.forward.columns import Column, floats
from featurekit.server.forward.replies import (
    Garbled,
    Order,
    Predicted,
    for_each,
    member,
    read_json,
    write_json,
)
from featurekit.server.forward.targets import Target

ERRORS = ("error", "detail")
"""Where an answer that is an error says why."""

VERSION = "featurekit_version"
"""The parameter of a request that says of which version its features are."""

_DATATYPES = {"bool": "BOOL", "int": "INT64", "float": "FP64", "str": "BYTES"}
_NARROW = {"FP32": "<f", "FP16": "<e"}
_INTS = {f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)}


def order(
    target: Target, columns: Sequence[Column], n: int, request_id: str, version: str
) -> Order:
    """What the server is asked for `n` rows of features of a `version`, as in "churn_v1@3f2a…",
    which it is told. RequestRefused, which names the feature, for an infinity that the target has
    no form for."""
    number = target.model_version
    versions = "" if number is None else f"/versions/{quote(number, safe='')}"
    path = f"/v2/models/{quote(target.model, safe='')}{versions}/infer"
    inputs = []
    for column in columns:
        kind = column.input.kind
        tensor: dict[str, Any] = {
            "name": column.input.name,
            "shape": [n, 1],
            "datatype": _DATATYPES[kind],
            "data": floats(target, column) if kind == "float" else column.values,
        }
        if kind == "str":
            tensor["parameters"] = {"content_type": "str"}
        inputs.append(tensor)
    parameters = {"content_type": "pd", VERSION: version}
    body = {"id": request_id, "parameters": parameters, "inputs": inputs}
    return Order(path, write_json(body))


def predicted(target: Target, body: bytes, n: int, request_id: str) -> Predicted:
    """What the server answered for `n` rows. Garbled where it is another model's answer, that of
    another request, or none."""
    reply = read_json(body)
    outputs = member(reply, "outputs")
    _same(reply, "id", request_id)
    _same(reply, "model_name", target.model)
    if target.model_version is not None:
        _same(reply, "model_version", target.model_version)
    if not isinstance(outputs, list) or not outputs:
        raise Garbled(f"its outputs are {found(outputs)}; it needs one at least")
    made = [_rows(output, n) for output in outputs]
    names = [output.get("name") for output in outputs]
    version = reply.get("model_version")
    values = made[0]
    if len(made) > 1:
        if not all(isinstance(name, str) for name in names) or len({*names}) < len(names):
            raise Garbled("its outputs have no names of their own")
        values = [dict(zip(names, row, strict=True)) for row in zip(*made, strict=True)]
    return Predicted(values, version if isinstance(version, str) and version else None)


def _same(reply: dict[str, Any], name: str, wanted: str) -> None:
    """Garbled where the reply says something else of whose it is; it may say nothing."""
    told = reply.get(name)
    if told not in (None, "", wanted):
        raise Garbled(f"its {name} is {found(told)}, and {wanted!r} was asked")


def _rows(output: Any, n: int) -> list[Any]:
    """The values of an output, one for each row: a list for each where a row has several."""
    shape, data, datatype = (member(output, name) for name in ("shape", "data", "datatype"))
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise Garbled(f"an output has the shape {found(shape)}")
    if not shape or shape[0] != n:
        raise Garbled(f"an output has the shape {shape} for {n} rows")
    if not isinstance(data, list):
        raise Garbled(f"an output has the data {found(data)}, and no list")
    flat = _flat(data)
    if len(flat) != prod(shape):
        raise Garbled(f"an output of the shape {shape} has {len(flat)} values")
    values = [_value(value, datatype) for value in flat]
    width = prod(shape[1:])
    if width == 1:
        return for_each(values, n, "an output")
    return [values[i * width : (i + 1) * width] for i in range(n)]


def _flat(data: list[Any]) -> list[Any]:
    """The values of a list that may hold lists."""
    if not any(isinstance(one, list) for one in data):
        return data
    return [value for one in data for value in (_flat(one) if isinstance(one, list) else [one])]


def _value(value: Any, datatype: Any) -> Any:
    """A value of a tensor. A float is a double with the bits that the tensor's type has: a narrow
    one may be written by a shorter text."""
    kind = type(value)
    if datatype == "BOOL" and kind is bool:
        return value
    if datatype in _INTS and kind is int:
        return value
    if datatype == "BYTES" and kind is str:
        return value
    if datatype in ("FP64", "FP32", "FP16", "BF16") and kind in (int, float, type(None)):
        number = float("nan") if value is None else float(value)
        form = _NARROW.get(datatype)
        try:
            return number if form is None else struct.unpack(form, struct.pack(form, number))[0]
        except OverflowError:
            raise Garbled(f"an output of {datatype} has the value {number}") from None
    raise Garbled(f"an output of {found(datatype)} has the value {found(value)}")
