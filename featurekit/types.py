"""The value types: what a Python hint is called in DuckDB, in Arrow and in an error message."""

from __future__ import annotations

import datetime as dt
import enum
import types as pytypes
import typing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from featurekit.errors import DefinitionError

if TYPE_CHECKING:
    import pyarrow as pa

INT_MIN, INT_MAX = -(2**63), 2**63 - 1
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
MICROSECOND = dt.timedelta(microseconds=1)
# T1 and S1: the instants that Python's datetime can hold, in microseconds since the epoch.
INSTANT_MIN = (dt.datetime.min.replace(tzinfo=dt.UTC) - EPOCH) // MICROSECOND
INSTANT_MAX = (dt.datetime.max.replace(tzinfo=dt.UTC) - EPOCH) // MICROSECOND


@dataclass(frozen=True, slots=True)
class Type:
    """A value type; `optional` says whether None belongs to it, `item` is a list's element, or the
    key of a dict, whose values are ints.

    Only aggregates give dicts; they keep their order: a MAP in DuckDB and in Arrow.
    """

    name: str
    optional: bool = False
    item: Type | None = None

    def __str__(self) -> str:
        base = self.name
        if self.item is not None:
            base = f"dict[{self.item}, int]" if base == "dict" else f"list[{self.item}]"
        return f"{base} | None" if self.optional and self.name != "None" else base

    @property
    def base(self) -> Type:
        """The same type without None."""
        return replace(self, optional=False) if self.optional else self

    def or_none(self) -> Type:
        """The same type with None."""
        return self if self.optional else replace(self, optional=True)

    @property
    def duckdb(self) -> str:
        """The DuckDB type of a column of these values; a timedelta is its microseconds."""
        if self.item is not None:
            key = self.item.duckdb
            return f"MAP({key}, BIGINT)" if self.name == "dict" else f"{key}[]"
        return _DUCKDB[self.name]

    @property
    def arrow(self) -> pa.DataType:
        """The Arrow type in which values of this type leave featurekit."""
        import pyarrow as pa

        if self.item is not None:
            key = self.item.arrow
            return pa.map_(key, pa.int64()) if self.name == "dict" else pa.list_(key)
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
    bool: "bool",
    int: "int",
    float: "float",
    str: "str",
    bytes: "bytes",
    dt.datetime: "datetime",
    dt.date: "date",
    dt.timedelta: "timedelta",
}

BOOL, INT, FLOAT, STR, BYTES = (Type(n) for n in ("bool", "int", "float", "str", "bytes"))
DATETIME, DATE, TIMEDELTA = (Type(n) for n in ("datetime", "date", "timedelta"))
NONE = Type("None", optional=True)
WRITABLE = (
    "bool, int, float, str, bytes, datetime, date, timedelta, list[T], each optionally | None"
)


def from_hint(hint: Any) -> Type:
    """The type that a Python annotation names; `DefinitionError` for one outside R1's list."""
    if hint in _HINTS:
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
        return Type("str" if issubclass(hint, str) else "int")
    if origin is list and len(arguments) == 1:
        return Type("list", item=from_hint(arguments[0]))
    if origin in (typing.Union, pytypes.UnionType):
        others = [a for a in arguments if a is not type(None)]
        if len(others) == 1 and len(others) < len(arguments):
            return from_hint(others[0]).or_none()
    raise DefinitionError(f"{_shown(hint)} is not a feature type; write one of {WRITABLE}")


def _of_values(hint: Any, values: tuple[Any, ...]) -> Type:
    """The type of a Literal's values: one of bool, int and str."""
    kinds = {type(v.value) if isinstance(v, enum.Enum) else type(v) for v in values}
    optional = type(None) in kinds
    kinds.discard(type(None))
    if len(kinds) != 1 or not kinds <= {bool, int, str}:
        raise DefinitionError(f"{hint} mixes types; write values of one type, str or int")
    type_ = Type(kinds.pop().__name__)
    return type_.or_none() if optional else type_


def _shown(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint)


def list_of(item: Type) -> Type:
    """The type of lists of `item`."""
    return Type("list", item=item)


def dict_of(key: Type) -> Type:
    """The type of dicts from `key` to int, in an order that counts."""
    return Type("dict", item=key)


def micros(instant: dt.datetime) -> int:
    """Microseconds since the epoch of an instant; a naive one is read as UTC (T1)."""
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=dt.UTC)
    return (instant - EPOCH) // MICROSECOND


def instant(us: int) -> dt.datetime:
    """The UTC datetime at `us` microseconds since the epoch (T1)."""
    return EPOCH + us * MICROSECOND
