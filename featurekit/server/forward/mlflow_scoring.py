"""Speaks with MLflow's scoring server: POST /invocations with `dataframe_split`, whose columns are
in the order of the service.

The server reads JSON by Python's own reader, so a NaN and an infinity are its tokens. A column of
floats is one of float64 there, whatever its values are, since each is written as a float.
"""

from __future__ import annotations

from collections.abc import Sequence

from featurekit.server.forward.inputs import Column
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

ERRORS = ("message", "detail")
"""Where an answer that is an error says why."""


def order(target: Target, columns: Sequence[Column], n: int, request_id: str) -> Order:
    """What the server is asked for `n` rows; it knows no ids of requests."""
    data = list(zip(*(column.values for column in columns), strict=True)) or [()] * n
    frame = {"columns": [column.input.name for column in columns], "data": data}
    return Order("/invocations", write_json({"dataframe_split": frame}))


def predicted(target: Target, body: bytes, n: int, request_id: str) -> Predicted:
    """What the server answered for `n` rows. A model that gives arrays by name has an object for
    each row. Garbled where it is no answer."""
    values = member(read_json(body), "predictions")
    if isinstance(values, dict):
        columns = [for_each(column, n, f"output {name!r}") for name, column in values.items()]
        if not columns:
            raise Garbled("its predictions are empty")
        names = list(values)
        values = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    return Predicted(for_each(values, n, "predictions"), target.model_version)
