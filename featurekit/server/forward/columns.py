"""The columns that a model server is sent, and how a NaN in them is written, since JSON has none.

A target says how: as null, which servers in Python read as NaN where a tensor is of floats, or as
the token NaN, which Python and Triton read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from featurekit.errors import RequestRefused
from featurekit.server.forward.targets import Target

Kind = Literal["bool", "int", "float", "str"]


@dataclass(frozen=True, slots=True)
class Input:
    """A column that a model server reads: its name, the type in which it is sent, and the `feature`
    that it has, as answers to lookups call it. `whole` says that it is an int that is sent as a
    float."""

    name: str
    kind: Kind
    feature: str
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """The values of an input, one for each row, none of which is None."""

    input: Input
    values: Sequence[Any]


def floats(target: Target, column: Column) -> Sequence[Any]:
    """The floats of a column, each NaN as the target reads it."""
    values = column.values
    if target.nan != "null" or all(map(math.isfinite, values)):
        return values
    infinite = next((i for i, value in enumerate(values) if math.isinf(value)), None)
    if infinite is not None:
        name = column.input.name
        raise RequestRefused(
            f"feature {name!r} is infinite, which JSON has no form for; write nan=NaN at target "
            f"{target.name} where its server reads the tokens of Python",
            status=422,
            where=f"feature {name}",
        )
    return [None if value != value else value for value in values]
