"""The typed IR of a transform: a few frozen node kinds, and nothing else.

Every expression knows its type. Statements keep the structure of the Python that was written, so
that `to_python` can print it again and `to_duckdb` can turn it into columns.

A new node is a class here, a handler in `parse`, a case in `to_python`, one in `verify`, which
says what a sound one is (F0), one in `to_duckdb.function` and, for an expression, its text in
`trace`; mypy finds a missing case.
Everything else follows from the fields of the class. `wire` writes any dataclass of this module.
`walk` looks into every field that is not marked by `DATA`, and a field marked by `names` has the
names that the node binds. `trace` shows the steps of the code that `to_python` prints.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from featurekit.core.types import Type

DATA = {"data": True}
"""Marks a field that holds plain values, and no nodes."""


def names(*within: str) -> dict[str, Any]:
    """Marks a field that holds a name, or several, which the node binds after its other fields were
    evaluated. The names are valid in the fields `within`; without any, from here on."""
    return {"within": within}


@dataclass(frozen=True, slots=True)
class Const:
    """A literal; `value` is of `type`, and may be None."""

    value: Any = field(metadata=DATA)
    type: Type


@dataclass(frozen=True, slots=True)
class Name:
    """A parameter or a local; `type` is its type as narrowing knows it here (R2)."""

    name: str
    type: Type


@dataclass(frozen=True, slots=True)
class Call:
    """An operator, by the key of its row in the table, over arguments that are never None."""

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
    """`body`, in which `name` is `value`, evaluated once."""

    name: str = field(metadata=names("body"))
    value: Expr
    body: Expr
    type: Type


@dataclass(frozen=True, slots=True)
class Bind:
    """`(name := value)`: a local that is bound from here on, if this is evaluated."""

    name: str = field(metadata=names())
    value: Expr
    type: Type


@dataclass(frozen=True, slots=True)
class Lookup:
    """`table[key]` of a constant dict, an error where the key is absent. With `default`, a Const or
    Name, `table.get(key, default)`."""

    key: Expr
    table: tuple[tuple[Any, Any], ...] = field(metadata=DATA)
    default: Expr | None
    type: Type


@dataclass(frozen=True, slots=True)
class Apply:
    """A call of another function, inlined; each argument is evaluated once."""

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
    """What a loop runs over: lists in step. With `start`, the steps are numbered first, as by
    enumerate."""

    sources: tuple[Expr, ...]
    start: int | None = None


@dataclass(frozen=True, slots=True)
class Unrolled:
    """What a loop runs over: a fixed number of rows of values, known at compile time."""

    rows: tuple[tuple[Expr, ...], ...]


@dataclass(frozen=True, slots=True)
class Each:
    """`[element for names in over if test]`.

    `kind` is "list"; or "any" or "all" of the elements, which stop at the one that decides; or
    "flat", which joins elements that are lists.
    """

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
    """An expression whose value is not used, but whose error is (R3)."""

    value: Expr


@dataclass(frozen=True, slots=True)
class For:
    """`for names in over: body`."""

    names: tuple[str, ...] = field(metadata=names("body"))
    over: Zip | Unrolled
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class While:
    """`while test: body`. A call of the function errs whose loops of this kind take more than
    `MOST_TURNS` turns together."""

    test: Expr
    body: tuple[Statement, ...]


MOST_TURNS = 1_000_000


@dataclass(frozen=True, slots=True)
class Try:
    """`try: body`, and for each handler the classes of errors that it catches."""

    body: tuple[Statement, ...]
    caught: tuple[tuple[str, ...], ...] = field(metadata=DATA)
    handlers: tuple[tuple[Statement, ...], ...]


CATCHABLE = frozenset(
    {
        *("ArithmeticError", "AttributeError", "IndexError", "KeyError", "LookupError"),
        *("OverflowError", "TypeError", "UnicodeDecodeError", "UnicodeEncodeError"),
        *("UnicodeError", "ValueError", "ZeroDivisionError"),
    }
)
"""The classes that a handler may catch: those that an operator of a well-typed function raises.
What is an error by a rule alone (`core.values.Beyond`) is of none of them."""


@dataclass(frozen=True, slots=True)
class Break:
    """`break`."""


@dataclass(frozen=True, slots=True)
class Continue:
    """`continue`."""


@dataclass(frozen=True, slots=True)
class Fail:
    """`raise …`, or an assert that does not hold: the call errs (R3)."""


@dataclass(frozen=True, slots=True)
class Verbatim:
    """The whole function as its author's Python, for `on_unsupported="python"`.

    It has the source, and what the source takes from its module: names of imports, constants, and
    the sources of its helpers. `field` is the field wanted, where the function returns several.
    """

    entry: str
    field: str
    sources: tuple[str, ...]
    imports: tuple[tuple[str, str, str], ...]
    constants: tuple[tuple[str, Any], ...]


Statement = Assign | If | Return | Evaluate | For | While | Try | Break | Continue | Fail | Verbatim


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter: its type, and its name, which is that of a column, a feature or a request
    field."""

    name: str
    type: Type


@dataclass(frozen=True, slots=True)
class Function:
    """A whole transform. `name` is for messages, and is not part of the canonical form."""

    name: str
    params: tuple[Param, ...]
    body: tuple[Statement, ...]
    returns: Type
