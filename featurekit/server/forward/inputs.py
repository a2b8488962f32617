"""Turns the features of rows into the columns that a model server reads: their order and types are
those of the service's version, whatever the values are.

What may lack a value has a type that can say so. A float is NaN where it is None. An int or a bool
that may be None is a float, which is NaN there, as in a model that was trained on floats; one that
may not is an int or a bool. No model server's protocol has a None of other types. Where a protocol
reads columns by the model's own signature, an int or a bool stays one, and has no None.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from featurekit.define.lacking import may_lack
from featurekit.define.plan import Output, Service
from featurekit.errors import ConfigError, RequestRefused
from featurekit.online.lookup.result import OnlineResult
from featurekit.server.forward.columns import Column, Input, Kind
from featurekit.server.forward.protocols import PROTOCOLS
from featurekit.server.forward.targets import Target

NAN = float("nan")
_KINDS: dict[str, Kind] = {"bool": "bool", "int": "int", "float": "float", "str": "str"}


def inputs_of(service: Service, target: Target) -> tuple[Input, ...]:
    """The columns of a service's version, in its order, called as the target calls them.
    ConfigError, which names the target and the feature, for a type that model servers do not
    read."""
    as_floats = PROTOCOLS[target.protocol].lacking_as_float
    return tuple(
        _input(
            output, target, as_float=lacks and as_floats, where=f"{target.title}, {service.name}"
        )
        for output, lacks in zip(service.outputs, may_lack(service), strict=True)
    )


def _input(output: Output, target: Target, *, as_float: bool, where: str) -> Input:
    kind = _KINDS.get(output.type.name)
    if kind is None:
        raise ConfigError(
            f"{where}: feature {output.name!r} is {output.type}, which model servers do not read; "
            "forward a service whose features are bool, int, float or str"
        )
    name = output.full_name if target.full_names else output.name
    if as_float and kind in ("bool", "int"):
        return Input(name, "float", output.name, whole=kind == "int")
    return Input(name, kind, output.name)


def columns_of(
    result: OnlineResult, inputs: Sequence[Input], rows: Sequence[int]
) -> tuple[Column, ...]:
    """The columns for some rows of a result. RequestRefused, which names the feature and the row,
    for a value that the column's type does not have."""
    return tuple(
        Column(one, _values(one, [column[i] for i in rows], result, rows))
        for one, column in zip(inputs, result.columns.values(), strict=True)
    )


def _values(one: Input, values: list[Any], result: OnlineResult, rows: Sequence[int]) -> list[Any]:
    if one.kind == "float":
        made = [NAN if value is None else float(value) for value in values]
        if one.whole:
            for i, value, sent in zip(rows, values, made, strict=True):
                if value is not None and value != sent:  # Python compares them exactly
                    raise _unfit(one, i, f"is {value}, which is no float")
        return made
    for i, value in zip(rows, values, strict=True):
        if value is None:
            status = result.status[one.feature][i]
            raise _unfit(one, i, f"is None ({status}), and a column of {one.kind} has none")
    return values


def _unfit(one: Input, row: int, why: str) -> RequestRefused:
    return RequestRefused(
        f"row {row}: feature {one.name!r} {why}; give the feature a default, or leave the row out",
        status=422,
        where=f"feature {one.name}",
    )
