"""Turns Feast's value types into featurekit's, and the values into Feast's protos and back."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from feast.protos.feast.types import Value_pb2 as protos
from feast.protos.feast.types.Value_pb2 import Value
from feast.value_type import ValueType

from featurekit.core.types import (
    BOOL,
    BYTES,
    DATETIME,
    EPOCH,
    FLOAT,
    INT,
    STR,
    Type,
    list_of,
)
from featurekit.errors import DataError, DefinitionError

_NULL_INSTANT = -(2**63)
"""What Feast writes for a missing instant inside of a proto."""
_SECOND = dt.timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Kind:
    """A value type of Feast: the `type` in which featurekit keeps it, the `field` of Feast's proto,
    and the Arrow type in which values leave.

    `sql` makes the value that is kept of a checked column {x}. `to_proto` and `of_proto` turn a
    value into what the proto's field holds, and back.
    """

    value_type: ValueType
    type: Type
    field: str
    arrow: pa.DataType
    sql: str = "{x}"
    to_proto: Callable[[Any], Any] = lambda value: value
    of_proto: Callable[[Any], Any] = lambda value: value

    def written(self, value: Any) -> Value:
        """The value as a proto; an empty one for None."""
        return Value() if value is None else Value(**{self.field: self.to_proto(value)})

    def read(self, proto: Value, name: str) -> Any:
        """The value of a proto; None for an empty one. DataError, which says `name`, for one of
        another type."""
        held = proto.WhichOneof("val")
        if held is None or held == "null_val":
            return None
        if held != self.field and (held, self.field) not in _WIDER:
            raise DataError(
                f"feature {name!r} is {self.value_type.name}, found a value of {held}; give values "
                "of the declared type, or declare the type that they have"
            )
        return self.of_proto(getattr(proto, held))


_WIDER = {("int32_val", "int64_val"), ("float_val", "double_val")}
"""What a proto may hold instead, without a value that changes."""


def _instant(seconds: int) -> dt.datetime | None:
    return None if seconds == _NULL_INSTANT else EPOCH + seconds * _SECOND


def _seconds(value: dt.datetime) -> int:
    """Whole seconds, floored: Feast's proto holds no fraction."""
    return (value - EPOCH) // _SECOND


_INSTANT = pa.timestamp("us", tz="UTC")
_PLAIN: list[Kind] = [
    Kind(ValueType.INT32, INT, "int32_val", pa.int32()),
    Kind(ValueType.INT64, INT, "int64_val", pa.int64()),
    # A double is rounded to the nearest float32 on both paths.
    Kind(ValueType.FLOAT, FLOAT, "float_val", pa.float32(), "{x}::FLOAT::DOUBLE"),
    Kind(ValueType.DOUBLE, FLOAT, "double_val", pa.float64()),
    Kind(ValueType.BOOL, BOOL, "bool_val", pa.bool_()),
    Kind(ValueType.STRING, STR, "string_val", pa.string()),
    Kind(ValueType.BYTES, BYTES, "bytes_val", pa.binary()),
    Kind(ValueType.PDF_BYTES, BYTES, "bytes_val", pa.binary()),
    Kind(ValueType.IMAGE_BYTES, BYTES, "bytes_val", pa.binary()),
    Kind(ValueType.UNIX_TIMESTAMP, DATETIME, "unix_timestamp_val", _INSTANT, "{x}", _seconds, _instant),
]  # fmt: skip
_LISTS = {
    ValueType.INT32: protos.Int32List,
    ValueType.INT64: protos.Int64List,
    ValueType.FLOAT: protos.FloatList,
    ValueType.DOUBLE: protos.DoubleList,
    ValueType.BOOL: protos.BoolList,
    ValueType.STRING: protos.StringList,
    ValueType.BYTES: protos.BytesList,
    ValueType.UNIX_TIMESTAMP: protos.Int64List,
}


def _list_kind(item: Kind, made: Any) -> Kind:
    return Kind(
        ValueType[f"{item.value_type.name}_LIST"],
        list_of(item.type),
        item.field.replace("_val", "_list_val"),
        pa.list_(item.arrow),
        "{x}::FLOAT[]::DOUBLE[]" if item.value_type is ValueType.FLOAT else "{x}",
        lambda values: made(val=[item.to_proto(v) for v in values]),
        lambda held: [item.of_proto(v) for v in held.val],
    )


KINDS = {kind.value_type: kind for kind in _PLAIN}
KINDS |= {
    kind.value_type: kind
    for kind in [_list_kind(KINDS[item], made) for item, made in _LISTS.items()]
}


def kind_of(feast_type: Any, *, what: str) -> Kind:
    """The kind of a field's declared type. DefinitionError, which says `what`, for a type that is
    none of these."""
    value_type = feast_type if isinstance(feast_type, ValueType) else feast_type.to_value_type()
    found = KINDS.get(value_type)
    if found is None:
        known = ", ".join(t.name for t in KINDS)
        raise DefinitionError(f"{what} is {value_type.name}; featurekit keeps {known}")
    return found
