"""The typed IR of a transform: a few frozen node kinds, their printing, and their JSON form.

Every node knows its type. Statements keep the structure of the Python that was written, so that
`to_python` can print it again and `to_duckdb` can turn it into columns.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, TypeVar

from featurekit.types import EPOCH, MICROSECOND, Type

SEMANTICS_VERSION = 1
"""The version of the rules in force; part of every fingerprint (F1)."""


@dataclass(frozen=True, slots=True)
class Const:
    """A literal; `value` is of `type`, None included."""

    value: Any
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

    name: str
    value: Expr
    body: Expr
    type: Type


@dataclass(frozen=True, slots=True)
class Bind:
    """`(name := value)`: a local that holds from here on, where this is evaluated."""

    name: str
    value: Expr
    type: Type


@dataclass(frozen=True, slots=True)
class Lookup:
    """`table[key]` of a constant dict, an error where the key is absent; with `default`, a Const or
    Name, `table.get(key, default)`."""

    key: Expr
    table: tuple[tuple[Any, Any], ...]
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
class Rows:
    """What a loop runs over: so many rows of values, known when it was compiled."""

    rows: tuple[tuple[Expr, ...], ...]


@dataclass(frozen=True, slots=True)
class Each:
    """`[element for names in over if test]`; `kind` is "list", or "any" or "all" of the elements,
    which stop at the one that decides, or "flat", which joins elements that are lists."""

    kind: str
    names: tuple[str, ...]
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

    name: str
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

    names: tuple[str, ...]
    over: Zip | Rows
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


# --- JSON -----------------------------------------------------------------------------------------

_Class = TypeVar("_Class", bound=type)
_CLASSES: dict[str, type] = {}


def portable(cls: _Class) -> _Class:
    """Let a frozen dataclass of these values be written to JSON and read back."""
    _CLASSES[cls.__name__] = cls
    return cls


_NODES: tuple[type, ...] = (
    *(Type, Param, Function),
    *(Const, Name, Call, Choose, Both, Either, IsNone, Let, Bind, Lookup, Apply, ListOf, Each),
    *(Zip, Rows),
    *(Assign, If, Return, Evaluate, For, Break, Continue, Fail, Verbatim),
)
for _node in _NODES:
    portable(_node)


def to_json(value: Any) -> Any:
    """A JSON value that `from_json` turns back into an equal `value`, floats bit for bit."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return {"f": value.hex()}
        case bytes():
            return {"b": value.hex()}
        case dt.datetime():
            return {"t": (value - EPOCH) // MICROSECOND}
        case dt.timedelta():
            return {"d": value // MICROSECOND}
        case dt.date():
            return {"date": value.isoformat()}
        case tuple() | list():
            return [to_json(v) for v in value]
        case dict():
            return {"m": [[to_json(k), to_json(v)] for k, v in value.items()]}
        case _ if is_dataclass(value) and type(value).__name__ in _CLASSES:
            names = [
                f.name
                for f in fields(value)
                if not (f.metadata.get("optional") and getattr(value, f.name) is None)
            ]
            return {"c": type(value).__name__, **{n: to_json(getattr(value, n)) for n in names}}
        case _:
            raise TypeError(f"{type(value).__name__} has no JSON form")


def from_json(value: Any) -> Any:
    """What `to_json` was given; lists come back as tuples."""
    match value:
        case list():
            return tuple(from_json(v) for v in value)
        case {"f": str(text)}:
            return float.fromhex(text)
        case {"b": str(text)}:
            return bytes.fromhex(text)
        case {"t": int(us)}:
            return EPOCH + us * MICROSECOND
        case {"d": int(us)}:
            return us * MICROSECOND
        case {"date": str(text)}:
            return dt.date.fromisoformat(text)
        case {"m": list(pairs)}:
            return {from_json(k): from_json(v) for k, v in pairs}
        case {"c": str(name), **rest}:
            return _CLASSES[name](**{str(k): from_json(v) for k, v in rest.items()})
        case _:
            return value


def canonical(value: Any) -> str:
    """The one text of a definition: JSON with sorted keys and no spaces (F1)."""
    return json.dumps(to_json(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def fingerprint(value: Any) -> str:
    """32 hexadecimal digits that name a canonical form under the rules in force (F1)."""
    text = f"{SEMANTICS_VERSION}:{canonical(value)}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def rename(function: Function) -> Function:
    """The function with its own name and its locals' names taken out, for its fingerprint.

    Parameters keep theirs: they say which columns and features are read.
    """
    return Function("", function.params, _anonymous(function, keep=True), function.returns)


def _anonymous(function: Function, *, keep: bool) -> Any:
    """The body with its locals numbered, and its parameters too unless they are kept."""
    names: dict[str, str] = {}
    for param in function.params:
        names[param.name] = param.name if keep else f"_{len(names)}"

    def new(name: str) -> str:
        return names.setdefault(name, f"_{len(names)}")

    def walk(node: Any) -> Any:
        match node:
            case Name(name, type_):
                return Name(new(name), type_)
            case Let(name, value, body, type_):
                value = walk(value)
                return Let(new(name), value, walk(body), type_)
            case Assign(name, value):
                value = walk(value)
                return Assign(new(name), value)
            case Bind(name, value, type_):
                value = walk(value)
                return Bind(new(name), value, type_)
            case For(loop_names, over, body):
                over = walk(over)
                return For(tuple(new(n) for n in loop_names), over, walk(body))
            case Each(kind, loop_names, over, test, element, type_):
                over = walk(over)
                renamed = tuple(new(n) for n in loop_names)
                return Each(kind, renamed, over, walk(test), walk(element), type_)
            case Apply(callee, args, type_):
                # A helper's parameters are names of its own.
                params = tuple(Param(f"_{i}", p.type) for i, p in enumerate(callee.params))
                inner = Function("", params, _anonymous(callee, keep=False), callee.returns)
                return Apply(inner, walk(args), type_)
            case tuple():
                return tuple(walk(n) for n in node)
            case _ if is_dataclass(node) and not isinstance(node, (Type, Const, Param, Verbatim)):
                changed = {f.name: walk(getattr(node, f.name)) for f in fields(node)}
                return _CLASSES[type(node).__name__](**changed)
            case _:
                return node

    return walk(function.body)


def children(node: Any) -> list[Any]:
    """The nodes right below a node or a tuple of them, constants and types left out."""
    if isinstance(node, tuple):
        return [n for n in node if isinstance(n, tuple) or is_dataclass(n)]
    if isinstance(node, (Const, Type, Param, Verbatim)):
        return []
    below = [getattr(node, f.name) for f in fields(node) if f.name != "table"]
    return [
        n for n in below if isinstance(n, tuple) or (is_dataclass(n) and not isinstance(n, Type))
    ]


def depth(node: Any) -> int:
    """How many nodes stand in one another at most, in it or in a function that it calls."""
    deepest, todo = 0, [(node, 0)]
    called = set()
    while todo:
        one, above = todo.pop()
        level = above + (not isinstance(one, tuple))
        deepest = max(deepest, level)
        if isinstance(one, Apply):
            todo.append((one.args, level))
            if id(one.function) not in called:
                called.add(id(one.function))
                todo.append((one.function.body, 0))
        else:
            todo += [(child, level) for child in children(one)]
    return deepest


def free(node: Any) -> dict[str, Type]:
    """The names that `node` reads and does not bind itself, with None wherever some read has it."""
    found: dict[str, Type] = {}

    def read(node: Any, bound: frozenset[str]) -> None:
        match node:
            case Name(name, type_):
                if name not in bound:
                    known = found.get(name, type_)
                    found[name] = known if known.optional else type_
            case Let(name, value, body, _):
                read(value, bound)
                read(body, bound | {name})
            case Each(_, names, over, test, element, _):
                read(over, bound)
                for inner in (test, element):
                    read(inner, bound | set(names))
            case Apply(_, args, _):
                read(args, bound)
            case _ if isinstance(node, tuple) or is_dataclass(node):
                for child in children(node):
                    read(child, bound)

    read(node, frozenset())
    return found
