"""Computes a service's request-time features from columns, as an on-demand view of Feast asks."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from featurekit.core.values import ERROR
from featurekit.errors import EntityFrameError
from featurekit.language import wire
from featurekit.language.ir import Function
from featurekit.language.to_python import to_python
from featurekit.language.transform import INSTANT


@lru_cache(maxsize=256)
def _read(plan: str) -> tuple[list[Callable[..., Any]], list[Any], list[Any]]:
    read = json.loads(plan)
    functions = [to_python(wire.from_json(one, Function)) for one in read["functions"]]
    return functions, read["inputs"], read["outputs"]


def computed(plan: str, columns: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """The request-time features of a service for each row of `columns`, by name. None where one
    errs (R3). `plan` is what `shown` has written of the service.

    EntityFrameError where a column is missing.
    """
    functions, inputs, outputs = _read(plan)
    rows = len(next(iter(columns.values()), ()))
    made: list[list[Any]] = []
    for function, named in zip(functions, inputs, strict=True):
        given = [_column(one, columns, made, rows) for one in named]
        made.append([_called(function, row) for row in zip(*given, strict=True)])
    return {
        name: [None if value is ERROR else value for value in made[index]]
        for name, index in outputs
    }


def _called(function: Callable[..., Any], row: tuple[Any, ...]) -> Any:
    """The value for a row. Reading an erring feature errs (R3)."""
    return ERROR if any(value is ERROR for value in row) else function(*row)


def _column(
    one: Any, columns: Mapping[str, Sequence[Any]], made: Sequence[Sequence[Any]], rows: int
) -> Sequence[Any]:
    """The values of an input: those of an earlier transform, or of the first of its names that is a
    column."""
    if isinstance(one, int):
        return made[one]
    found = next((name for name in one if name in columns), None)
    if found is not None:
        return columns[found]
    if one == [INSTANT]:
        return [dt.datetime.now(dt.UTC)] * rows
    raise EntityFrameError(
        f"the request-time features need a column {one[-1]!r}; there are {', '.join(columns)}"
    )
