"""Speaks the protocol of MLflow's scoring server (`mlflow models serve`): rows of the columns as
`dataframe_split`, and a prediction for each.

The server casts each column to the model's signature, where a None of an int is an error, and one
of a bool is silently False or True. So a column of these has no None. It serves one model, whose
version it does not tell.
"""

from __future__ import annotations

from collections.abc import Sequence

from featurekit.server.forward.columns import Column, floats
from featurekit.server.forward.replies import (
    Order,
    Predicted,
    for_each,
    member,
    read_json,
    write_json,
)
from featurekit.server.forward.targets import Target

ERRORS = ("message", "error_code", "detail")
"""Where an answer that is an error says why."""


def order(
    target: Target, columns: Sequence[Column], n: int, request_id: str, version: str
) -> Order:
    """What the server is asked for `n` rows. RequestRefused, which names the feature, for an
    infinity that the target has no form for."""
    values = [floats(target, c) if c.input.kind == "float" else c.values for c in columns]
    split = {
        "columns": [column.input.name for column in columns],
        "data": [list(row) for row in zip(*values, strict=True)],
    }
    return Order("/invocations", write_json({"dataframe_split": split}))


def predicted(target: Target, body: bytes, n: int, request_id: str) -> Predicted:
    """What the server answered for `n` rows. Garbled where it is no answer for each."""
    return Predicted(for_each(member(read_json(body), "predictions"), n, "`predictions`"), None)
