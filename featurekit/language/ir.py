"""The typed IR of a transform: a few frozen node kinds, and nothing else.

Every expression knows its type. Statements keep the structure of the Python that was written, so
that `to_python` can print it again and `to_duckdb` can turn it into columns.

A new node is a class here, a handler in `parse`, a case in `to_python`, one in
`to_duckdb.function` and, for an expression, its text in `trace`: mypy names each that is missing.
The fields of the class tell the rest: `wire` writes any dataclass of this module, `walk` looks into
every field but those marked as `DATA`, and takes one marked by `names` for what the node binds, and
`trace` shows the steps of the code that `to_python` prints.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from featurekit.core.types import Type

DATA = {"data": True}
"""Marks a field that holds plain values, and no nodes."""


def names(*within: str) -> dict[str, Any]:
    """Marks a field that holds a name, or several, which the node binds after its other fields were
    evaluated; they hold in the fields `within` it, and, where there are none, from here on."""
    return {"within": within}


@dataclass(frozen=True, slots=True)
class Const:
    """A literal; `value` is of `type`, None included."""

    value: Any = field(metadata=DATA)
    type: Type


@dataclass(frozen=True, slots=True)
class Name:
    """A parameter or a local; `type` is what narrowing knows of it here (R2)."""

    name: str
    type: Type


@dataclass(frozen=True, slots=True)
class Call:
    """A row of the operator table, by its key, over arguments that are never None."""

    op: str
    args: tuple[Expr, ...]
    type: Type


@dataclass(frozen=True, slots=True)
class Choose:
    """`then if test else orelse`: the branch not taken is not evaluated (R3)."""

    test: Expr
    then: Expr
    orelse: Expr
    type: Type


@dataclass(frozen=True, slots=True)
class Both:
    """`left and right` of two bools; right is evaluated only where left is true."""

    left: Expr
    right: Expr
    type: Type


@dataclass(frozen=True, slots=True)
class Either:
    """`left or right` of two bools; right is evaluated only where left is false."""

    left: Expr
    right: Expr
    type: Type


@dataclass(frozen=True, slots=True)
class IsNone:
    """`value is None`."""

    value: Expr
    type: Type


@dataclass(frozen=True, slots=True)
class Let:
    """`value`, evaluated once under a name of its own, in `body`."""

    name: str = field(metadata=names("body"))
    value: Expr
    body: Expr
    type: Type


@dataclass(frozen=True, slots=True)
class Bind:
    """`(name := value)`: a local that holds from here on, where this is evaluated."""

    name: str = field(metadata=names())
    value: Expr
    type: Type


@dataclass(frozen=True, slots=True)
class Lookup:
    """`table[key]` of a constant dict, an error where the key is absent; with `default`, a Const or
    Name, `table.get(key, default)`."""

    key: Expr
    table: tuple[tuple[Any, Any], ...] = field(metadata=DATA)
    default: Expr | None
    type: Type


@dataclass(frozen=True, slots=True)
class Apply:
    """A call of another function, inlined: each argument is evaluated once."""

    function: Function
    args: tuple[Expr, ...]
    type: Type


@dataclass(frozen=True, slots=True)
class ListOf:
    """`[a, b, c]`."""

    items: tuple[Expr, ...]
    type: Type


@dataclass(frozen=True, slots=True)
class Zip:
    """What a loop runs over: lists in step; `start` numbers them first, as enumerate does."""

    sources: tuple[Expr, ...]
    start: int | None = None


@dataclass(frozen=True, slots=True)
class Unrolled:
    """What a loop runs over: so many rows of values, known when it was compiled."""

    rows: tuple[tuple[Expr, ...], ...]


@dataclass(frozen=True, slots=True)
class Each:
    """`[element for names in over if test]`; `kind` is "list", or "any" or "all" of the elements,
    which stop at the one that decides, or "flat", which joins elements that are lists."""

    kind: str
    names: tuple[str, ...] = field(metadata=names("test", "element"))
    over: Zip
    test: Expr | None
    element: Expr
    type: Type


Expr = (
    Const
    | Name
    | Call
    | Choose
    | Both
    | Either
    | IsNone
    | Let
    | Bind
    | Lookup
    | Apply
    | ListOf
    | Each
)


@dataclass(frozen=True, slots=True)
class Assign:
    """`name = value`."""

    name: str = field(metadata=names())
    value: Expr


@dataclass(frozen=True, slots=True)
class If:
    """`if test: then else: orelse`."""

    test: Expr
    then: tuple[Statement, ...]
    orelse: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Return:
    """`return value`; of the function's declared type."""

    value: Expr


@dataclass(frozen=True, slots=True)
class Evaluate:
    """An expression whose value is not used; its error is (R3)."""

    value: Expr


@dataclass(frozen=True, slots=True)
class For:
    """`for names in over: body`."""

    names: tuple[str, ...] = field(metadata=names("body"))
    over: Zip | Unrolled
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Break:
    """`break`."""


@dataclass(frozen=True, slots=True)
class Continue:
    """`continue`."""


@dataclass(frozen=True, slots=True)
class Fail:
    """`raise …`, and an assert that does not hold: the call errs (R3)."""


@dataclass(frozen=True, slots=True)
class Verbatim:
    """The whole function as its author's Python, for `on_unsupported="python"`: its source, and
    what it takes from its module: names of imports, constants, and the sources of its helpers.
    `field` is the one that is wanted of a result of several."""

    entry: str
    field: str
    sources: tuple[str, ...]
    imports: tuple[tuple[str, str, str], ...]
    constants: tuple[tuple[str, Any], ...]


Statement = Assign | If | Return | Evaluate | For | Break | Continue | Fail | Verbatim


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter: the column, feature or request field of that name, and its type."""

    name: str
    type: Type


@dataclass(frozen=True, slots=True)
class Function:
    """A whole transform. `name` is for messages and no part of the canonical form."""

    name: str
    params: tuple[Param, ...]
    body: tuple[Statement, ...]
    returns: Type
