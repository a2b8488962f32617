"""Turns Python hints into value types, and these into the types of DuckDB, Arrow and error
messages."""

from __future__ import annotations

import datetime as dt
import enum
import struct
import types as pytypes
import typing
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from featurekit.core.calls import found as found_value
from featurekit.errors import ArgumentError, DefinitionError

if TYPE_CHECKING:
    import ast

    import pyarrow as pa

INT_MIN, INT_MAX = -(2**63), 2**63 - 1
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
MICROSECOND = dt.timedelta(microseconds=1)
# T1 and S1: the instants that Python's datetime can hold, in microseconds since the epoch.
INSTANT_MIN = (dt.datetime.min.replace(tzinfo=dt.UTC) - EPOCH) // MICROSECOND
INSTANT_MAX = (dt.datetime.max.replace(tzinfo=dt.UTC) - EPOCH) // MICROSECOND

OPTIONAL = {"optional": True}
"""Marks a field that the JSON form leaves out if it is None. So a definition that does not use the
field keeps the fingerprint that it had before the field existed (F1)."""


@dataclass(frozen=True, slots=True)
class Type:
    """A value type. `optional` says whether None belongs to it. `item` is the type of a list's
    elements, or of a dict's keys; `value` is that of a dict's values, None for ints.

    Only aggregates give dicts. A dict keeps its order: it is a MAP in DuckDB and in Arrow.

    `choices` are the only values of a str or int (a Literal or Enum), `size` is the length of a
    list of float32 (a Vector). Both narrow a type without making it another one: types that differ
    only in them are equal, so that every operator takes them. `holds` tells them apart.
    """

    name: str
    optional: bool = False
    item: Type | None = None
    choices: tuple[Any, ...] | None = field(default=None, compare=False, metadata=OPTIONAL)
    size: int | None = field(default=None, compare=False, metadata=OPTIONAL)
    value: Type | None = field(default=None, metadata=OPTIONAL)

    def __str__(self) -> str:
        base = self.name
        if self.choices is not None:
            base = f"Literal[{', '.join(map(repr, self.choices))}]"
        elif self.size is not None:
            base = f"Vector[{self.size}]"
        elif self.item is not None:
            base = f"dict[{self.item}, {self.held}]" if base == "dict" else f"list[{self.item}]"
        return f"{base} | None" if self.optional and self.name != "None" else base

    @property
    def base(self) -> Type:
        """The same type without None."""
        if not self.optional:
            return self
        # Written out: lookups call it for every window, and `replace` takes four times as long.
        return Type(self.name, False, self.item, self.choices, self.size, self.value)

    def or_none(self) -> Type:
        """The same type with None."""
        if self.optional:
            return self
        return Type(self.name, True, self.item, self.choices, self.size, self.value)

    @property
    def held(self) -> Type:
        """The type of a dict's values."""
        return self.value or INT

    @property
    def plain(self) -> Type:
        """The same type without choices and size, which operators ignore."""
        item, value = self.item and self.item.plain, self.value and self.value.plain
        return replace(self, item=item, choices=None, size=None, value=value)

    def holds(self, other: Type) -> bool:
        """Whether every value of `other`, apart from None, is a value of this type."""
        if self.base != other.base:
            return False
        if self.choices is not None and not set(other.choices or (None,)) <= set(self.choices):
            return False
        if self.size is not None and self.size != other.size:
            return False
        return self.item is None or other.item is None or self.item.holds(other.item)

    @property
    def python(self) -> type:
        """The Python class of the values, apart from None."""
        return _PYTHON[self.name]

    @property
    def duckdb(self) -> str:
        """The DuckDB type of a column of these values. A timedelta is its microseconds; a vector is
        a list of doubles, each of which is a float32."""
        if self.item is not None:
            key = self.item.duckdb
            return f"MAP({key}, {self.held.duckdb})" if self.name == "dict" else f"{key}[]"
        return _DUCKDB[self.name]

    @property
    def arrow(self) -> pa.DataType:
        """The Arrow type in which values of this type leave featurekit."""
        import pyarrow as pa

        if self.size is not None:
            return pa.list_(pa.float32(), self.size)
        if self.item is not None:
            key = self.item.arrow
            return pa.map_(key, self.held.arrow) if self.name == "dict" else pa.list_(key)
        return {
            "bool": pa.bool_(),
            "int": pa.int64(),
            "float": pa.float64(),
            "str": pa.string(),
            "bytes": pa.binary(),
            "datetime": pa.timestamp("us", tz="UTC"),
            "date": pa.date32(),
            "timedelta": pa.duration("us"),
        }[self.name]

    @property
    def stored(self) -> pa.DataType:
        """The Arrow type in which DuckDB receives these values and the log keeps them. An instant
        has no zone, a duration is its microseconds; inside lists both are as in `arrow`."""
        import pyarrow as pa

        known = {"datetime": pa.timestamp("us"), "timedelta": pa.int64()}
        return known.get(self.name) or self.arrow


_DUCKDB = {
    "bool": "BOOLEAN",
    "int": "BIGINT",
    "float": "DOUBLE",
    "str": "VARCHAR",
    "bytes": "BLOB",
    "datetime": "TIMESTAMP",
    "date": "DATE",
    "timedelta": "BIGINT",
}
_HINTS: dict[Any, str] = {
    kind: kind.__name__
    for kind in (bool, int, float, str, bytes, dt.datetime, dt.date, dt.timedelta)
}
_PYTHON: dict[str, type] = {kind.__name__: kind for kind in (*_HINTS, list, dict)} | {
    "None": type(None)
}

BOOL, INT, FLOAT, STR, BYTES = (Type(n) for n in ("bool", "int", "float", "str", "bytes"))
DATETIME, DATE, TIMEDELTA = (Type(n) for n in ("datetime", "date", "timedelta"))
NONE = Type("None", optional=True)
WRITABLE = (
    "bool, int, float, str, bytes, datetime, date, timedelta, list[T], Vector[n], Literal[…], each "
    "optionally | None"
)
LONGEST_VECTOR = 65_536

if typing.TYPE_CHECKING:
    _Size = typing.TypeVar("_Size")

    class Vector(list[float], typing.Generic[_Size]):
        """`Vector[n]` for the type checker, which wants `Vector[Literal[384]]`."""
else:

    class Vector:
        """`Vector[n]`, a type: a list of n floats, each of them a float32 (an embedding).

        When it is read, on both paths, a double is rounded to the nearest float32 (ties to even).
        Another length, a null inside, and a finite number beyond float32 are bad values (S1). In a
        transform it is a list[float]. For a type checker, write `Vector[Literal[384]]`.
        """

        def __class_getitem__(cls, size):
            if isinstance(size, tuple) and len(size) == 1:
                (size,) = size  # typing.get_type_hints subscribes again
            if typing.get_origin(size) is typing.Literal:
                (size,) = typing.get_args(size)
            if type(size) is not int or not 1 <= size <= LONGEST_VECTOR:
                raise DefinitionError(
                    f"Vector[{size!r}]: the size is an int from 1 to {LONGEST_VECTOR}, as in "
                    "Vector[384]"
                )
            return pytypes.GenericAlias(cls, (size,))


def from_hint(hint: Any) -> Type:
    """The type of a Python annotation; `DefinitionError` if it is not in the list of R1."""
    if isinstance(hint, Hashable) and hint in _HINTS:
        return Type(_HINTS[hint])
    if hint is None or hint is type(None):
        return NONE
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return _of_values(hint, arguments)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        if not issubclass(hint, (str, int)):
            raise DefinitionError(
                f"{hint.__name__} is an Enum whose members are no str and no int; derive it from "
                "StrEnum or IntEnum, whose members equal what a column holds"
            )
        values = tuple(member.value for member in hint)
        if not values:
            raise DefinitionError(f"{hint.__name__} is an Enum without members")
        return Type("str" if issubclass(hint, str) else "int", choices=values)
    if hint is Vector:
        raise DefinitionError("Vector has no size; write Vector[384]")
    if origin is Vector:
        return Type("list", item=FLOAT, size=arguments[0])
    if origin is dict and len(arguments) == 2:
        return _dict_of_hints(hint, *arguments)
    if origin is list and len(arguments) == 1:
        return Type("list", item=from_hint(arguments[0]))
    if origin in (typing.Union, pytypes.UnionType):
        others = [a for a in arguments if a is not type(None)]
        if len(others) == 1 and len(others) < len(arguments):
            return from_hint(others[0]).or_none()
    if isinstance(hint, tuple) and len(hint) == 2 and hint[1] is None:
        raise DefinitionError(
            f"found a pair of {_shown(hint[0])} and None; write {from_hint(hint[0])} | None"
        )
    if isinstance(hint, str):
        what = "the type " if hint in _HINTS.values() else ""
        raise DefinitionError(f'found the text "{hint}"; write {what}{hint}, without quotes')
    raise DefinitionError(
        f"{_shown(hint)} is not a feature type{_instead(hint) or f'; write one of {WRITABLE}'}"
    )


def from_text(text: str) -> Type:
    """The type that `str` has written. ValueError for another text; nothing of it is run."""
    import ast

    try:
        return _of_node(ast.parse(text, mode="eval").body)
    except (SyntaxError, RecursionError, MemoryError, DefinitionError, ValueError) as error:
        raise ValueError(f"{text[:200]!r} is no type ({error})") from None


def _of_node(node: ast.expr) -> Type:
    import ast

    match node:
        case ast.Constant(value=None):
            return NONE
        case ast.Name(id=name) if name in _HINTS.values():
            return Type(name)
        case ast.BinOp(left=left, op=ast.BitOr(), right=ast.Constant(value=None)):
            return _of_node(left).or_none()
        case ast.Subscript(value=ast.Name(id="list"), slice=item):
            return list_of(_of_node(item))
        case ast.Subscript(value=ast.Name(id="dict"), slice=ast.Tuple(elts=[key, held])):
            return dict_of(_of_node(key), _of_node(held))
        case ast.Subscript(value=ast.Name(id="Vector"), slice=ast.Constant(value=int(size))) if (
            1 <= size <= LONGEST_VECTOR
        ):
            return Type("list", item=FLOAT, size=size)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=choices):
            found = ast.literal_eval(choices)
            return _of_values("Literal", found if isinstance(found, tuple) else (found,))
        case _:
            raise ValueError(ast.unparse(node))


def _instead(hint: Any) -> str:
    """The type that was probably meant, where the hint tells."""
    if hint is list or hint is tuple or hint is set:
        return "; write list[int], with the type of its elements"
    module, name = getattr(hint, "__module__", ""), getattr(hint, "__name__", "")
    plain = next((n for n in ("int", "float", "bool", "str", "datetime") if n in name.lower()), "")
    return f"; write {plain}" if module in ("numpy", "pyarrow", "decimal") and plain else ""


def _of_values(hint: Any, values: tuple[Any, ...]) -> Type:
    """The type of a Literal's values: one of bool, int and str."""
    kinds = {type(v.value) if isinstance(v, enum.Enum) else type(v) for v in values}
    optional = type(None) in kinds
    kinds.discard(type(None))
    if len(kinds) != 1 or not kinds <= {bool, int, str}:
        raise DefinitionError(f"{hint} mixes types; write values of one type, str or int")
    plain = (v.value if isinstance(v, enum.Enum) else v for v in values)
    choices = tuple(dict.fromkeys(v for v in plain if v is not None))
    type_ = Type(kinds.pop().__name__, choices=choices)
    return type_.or_none() if optional else type_


def _dict_of_hints(hint: Any, key: Any, value: Any) -> Type:
    """The type of a dict of counts, which transforms may take."""
    made = from_hint(key)
    if value is not int or made.optional or made.item is not None or made == FLOAT:
        raise DefinitionError(
            f"{hint} is not a feature type; a dict is what ValueCounts gives: dict[str, int], its "
            "keys bool, int, str, bytes, date, datetime or timedelta"
        )
    return dict_of(made)


def _shown(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint)


def list_of(item: Type) -> Type:
    """The type of lists of `item`."""
    return Type("list", item=item)


def dict_of(key: Type, value: Type | None = None) -> Type:
    """The type of dicts from `key` to `value`, by default int; their order matters."""
    return Type("dict", item=key, value=None if value == INT else value)


BEYOND_FLOAT32 = 2.0**128 - 2.0**103
"""The least magnitude that rounds to no finite float32: halfway from the greatest one to 2**128."""


def as_float32(value: float) -> float:
    """The nearest float32, ties to even; OverflowError for a finite number beyond the float32s."""
    rounded: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return rounded


def micros(instant: dt.datetime) -> int:
    """An instant in microseconds since the epoch; a naive one is read as UTC (T1)."""
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=dt.UTC)
    return (instant - EPOCH) // MICROSECOND


Instant = dt.datetime | dt.date | str
"""An instant as callers write it: a datetime (a naive one is UTC), a date, which is its midnight in
UTC, or a text of ISO 8601."""


def as_instant(given: Any, *, what: str) -> dt.datetime:
    """The datetime that an `Instant` stands for, in UTC where it has no zone. ArgumentError, which
    names `what`, for anything else."""
    found = as_written(given, what=what)
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def as_written(given: Any, *, what: str) -> dt.datetime:
    """As `as_instant`, but naive where it has no zone: for callers that know its zone (T1)."""
    found = given
    if isinstance(given, str):
        try:
            found = dt.datetime.fromisoformat(given)
        except ValueError:
            found = None
    elif isinstance(given, dt.date) and not isinstance(given, dt.datetime):
        found = dt.datetime(given.year, given.month, given.day)
    if not isinstance(found, dt.datetime) or found != found:  # pandas' NaT is a datetime
        raise ArgumentError(
            f"{what} is an instant, found {found_value(given)}; write a datetime, or a text as in "
            '"2026-12-01" or "2026-12-01T12:00:00+01:00" (without an offset it is UTC)'
        )
    if not INSTANT_MIN <= micros(found) <= INSTANT_MAX:
        raise ArgumentError(
            f"{what} is an instant, found {found.isoformat()}, which in UTC lies outside the years "
            "1 to 9999; write one that lies inside"
        )
    return found


def instant(us: int) -> dt.datetime:
    """The UTC datetime at `us` microseconds since the epoch (T1)."""
    return EPOCH + us * MICROSECOND
