"""Turns a transform into its IR, and checks its parameters against what they read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from featurekit.core.types import Type
from featurekit.language import ir
from featurekit.language.transform import Transform


def read_transform(
    transform: Transform, *, columns: Mapping[str, Type] | None = None
) -> ir.Function:
    """The transform's IR. CompileError if it is outside the language; `columns`, which its
    parameters are to read, have the types of its examples."""
    from featurekit.language.parse import parse  # slow to load, and many repos have no transforms
    from featurekit.language.parse.context import reading

    with reading(columns or {}):
        return parse(transform)


def slow_patterns(transforms: Iterable[Transform]) -> list[str]:
    """The patterns of these transforms that may take long, each as text that shows its
    place; none of a transform that cannot be compiled."""
    from featurekit.language.parse.slow_patterns import noting

    with noting() as found:
        for transform in transforms:
            read_transform(transform)
    return found


def misfit(name: str, param: ir.Param, found: Type, what: str, *, there: str = "") -> str | None:
    """The fault, as text, if `param` of the transform `name` reads `what` of type `found`; None if
    the types fit (S1, R2). `there` is how the other one is declared so that they fit."""
    declared = f"@feature {name}: {param.name!r} is declared {param.type}, and {what}"
    if not param.type.holds(found):
        hint = f"; write {param.name}: {found} here"
        if param.type.base == found.base:
            hint = "; declare it so there, and reading checks it"
        elif there:
            hint += f", or {there}"
        return f"{declared} is {found}{hint}"
    if found.optional and not param.type.optional:
        return (
            f"{declared} may be None ({found}); "
            f"write {param.name}: {found} here, and test it for None"
        )
    return None


def shadowed(name: str, param: str, what: str) -> str:
    """The fault, as text, of a parameter of the transform `name` that has a default and is also
    `what`."""
    return (
        f"@feature {name}: {param!r} has a default, which makes it a constant, and is "
        f"also {what}; leave the default out to read it (for a missing value, take T | None and "
        "test it), or rename the parameter"
    )
