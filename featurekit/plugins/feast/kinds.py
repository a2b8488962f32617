"""Turns Feast's value types into featurekit's, and the values into Feast's protos and back."""

from __future__ import annotations

import datetime as dt
import decimal
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from feast.protos.feast.types import Value_pb2 as protos
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import (
    VALUE_TYPE_TO_PROTO_VALUE_MAP,
    feast_value_type_to_python_type,
    python_values_to_proto_values,
)
from feast.value_type import ValueType

from featurekit.core.sql import text_literal
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
from featurekit.plugins.feast.arrays import array_of

_NULL_INSTANT = -(2**63)
"""What Feast writes for a missing instant inside of a proto."""
_SECOND = dt.timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Kind:
    """A value type of Feast: the `type` in which featurekit keeps it, the `field` of Feast's proto,
    and the Arrow type in which values leave.

    `sql` makes the value that is kept of a checked column {x}, and `most` is the greatest one
    that the type holds, where it holds fewer than featurekit's. `to_proto` and `of_proto` turn a
    value into what the proto's field holds, and back.
    """

    value_type: ValueType
    type: Type
    field: str
    arrow: pa.DataType
    sql: str = "{x}"
    to_proto: Callable[[Any], Any] = lambda value: value
    of_proto: Callable[[Any], Any] = lambda value: value
    most: float | None = None

    @property
    def opaque(self) -> bool:
        """Whether the value that is kept is Feast's own proto, as bytes."""
        return False

    def kept_sql(self, x: str, what: str) -> str:
        """The value that is kept of a checked column. A query over it fails where the type cannot
        hold a value: `out_of_range` says of what."""
        made = self.sql.format(x=x)
        if self.most is None:
            return made
        least = -self.most - 1 if isinstance(self.most, int) else -self.most
        fits = f"{{v}} BETWEEN {least!r} AND {self.most!r}"
        if isinstance(self.most, float):
            fits += " OR isinf({v}) OR isnan({v})"
        bad = x
        if self.type.name == "list":
            found = f"list_filter({x}, lambda v: NOT ({fits.format(v='v')}))"
            fits, bad = f"len({found}) = 0", f"{found}[1]"
        told = text_literal(f"{_MARK}{what} is {self.value_type.name}, found ")
        error = f"error(concat({told}, {bad}::VARCHAR))"
        return f"CASE WHEN {x} IS NULL OR {fits.format(v=x)} THEN {made} ELSE {error} END"

    def python(self, value: Any) -> Any:
        """The value as Feast gives it to Python."""
        return value

    def key(self, value: Any) -> Any:
        """A value that is given for a join key of this kind: an int is its digits where the key is
        a text."""
        integral = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        return str(value) if integral and self.type == STR else value

    def array(self, values: Sequence[Any]) -> pa.Array:
        """Kept values as an array in the type in which they leave."""
        return pa.array(values, self.arrow)

    def held(self, column: pa.Array) -> pa.Array:
        """A column in the type in which values leave, each value as the declared type holds it: a
        Float32 is rounded. pa.ArrowInvalid for a number that it cannot hold."""
        if self.most is None:
            return column
        numbers = pc.list_flatten(column) if pa.types.is_list(column.type) else column
        least = -self.most - 1 if isinstance(self.most, int) else -self.most
        bad = pc.or_(pc.less(numbers, least), pc.greater(numbers, self.most))
        if not isinstance(self.most, int):
            bad = pc.and_(bad, pc.is_finite(numbers))
        if found := numbers.filter(bad).to_pylist():
            raise pa.ArrowInvalid(f"found {found[0]!r}, which it cannot hold")
        if isinstance(self.most, int):
            return column
        single = pa.float32() if numbers is column else pa.list_(pa.float32())
        return column.cast(single).cast(column.type)

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


_MARK = "featurekit: "


@contextmanager
def out_of_range() -> Iterator[None]:
    """Turns the failure of a query by `Kind.kept_sql` into a DataError, which names the column and
    the value."""
    import duckdb

    try:
        yield
    except duckdb.InvalidInputException as error:
        _, mark, told = str(error).partition(_MARK)
        if not mark:
            raise
        raise DataError(
            f"{told.splitlines()[0]}, which it cannot hold; declare the wider type, or mend the "
            "rows"
        ) from None


@dataclass(frozen=True, slots=True)
class OpaqueKind(Kind):
    """A type that featurekit has no values of, such as a map or a set. Its value is kept as the
    bytes of Feast's proto, in one form: the elements of a set are sorted, and so are keys."""

    @property
    def opaque(self) -> bool:
        """True."""
        return True

    def python(self, value: Any) -> Any:
        """As in `Kind`: what Feast makes of the proto, with the keys of maps sorted."""
        if value is None:
            return None
        return _sorted(feast_value_type_to_python_type(Value.FromString(value), self.value_type))

    def array(self, values: Sequence[Any]) -> pa.Array:
        """As in `Kind`: a UUID, a decimal and JSON are texts, a set is a sorted list, and a map is
        one of Arrow's. DataError where Arrow has no type for all of the values."""
        if self.value_type in _TEXTS:
            protos_ = [None if v is None else Value.FromString(v) for v in values]
            texts = [None if p is None else getattr(p, self.field) for p in protos_]
            return pa.array(texts, pa.string())
        if self.value_type is ValueType.JSON_LIST:
            lists = [
                None if v is None else list(Value.FromString(v).json_list_val.val) for v in values
            ]
            return pa.array(lists, pa.list_(pa.string()))
        found = [_listed(self.python(value)) for value in values]
        try:
            return array_of(found, self.value_type in _STRUCTS)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            raise DataError(
                f"values of {self.value_type.name} are of several types, for which Arrow has none "
                f"({error}); give them one type, or declare the feature Json"
            ) from None

    def written(self, value: Any) -> Value:
        """As in `Kind`."""
        return Value() if value is None else Value.FromString(value)

    def read(self, proto: Value, name: str) -> Any:
        """As in `Kind`; what is kept is bytes."""
        return self._read(proto, f"feature {name!r}")

    def _read(self, proto: Value, what: str) -> bytes | None:
        held = proto.WhichOneof("val")
        if held is None or held == "null_val":
            return None
        if held != self.field:
            raise DataError(
                f"{what} is {self.value_type.name}, found a value of {held}; give values of the "
                "declared type, or declare the type that they have"
            )
        try:
            return _one_form(proto, held)
        except (ValueError, ArithmeticError):
            found = getattr(proto, held)
            raise DataError(
                f"{what} is {self.value_type.name}, found {getattr(found, 'val', found)!r}; give "
                "values of the declared type, or declare the type that they have"
            ) from None

    def of_column(self, values: Sequence[Any], what: str) -> list[bytes | None]:
        """The values that are kept of those of a column, as Feast reads them. DataError, which
        says `what`, for a value of another type."""
        try:
            made = python_values_to_proto_values(list(values), self.value_type)
        except (TypeError, ValueError) as error:
            raise DataError(f"{what} is {self.value_type.name}: {error}") from None
        return [self._read(proto, what) for proto in made]

    def kept_array(self, values: Sequence[Any], what: str) -> pa.Array:
        """As `of_column`, as an array."""
        return pa.array(self.of_column(values, what), pa.binary())


def _one_form(proto: Value, held: str) -> bytes:
    """The bytes of a proto. ValueError or ArithmeticError for a text that is no value of its
    type."""
    made = Value()
    made.CopyFrom(proto)
    form = _FORMS.get(re.sub(r"(_list|_set)?_val$", "", held))
    is_set = held.endswith("set_val")
    if form is not None and not (is_set or held.endswith("_list_val")):
        setattr(made, held, form(getattr(made, held)))
    elif form is not None or is_set:
        elements = getattr(made, held).val
        formed = list(elements) if form is None else [form(one) for one in elements]
        if is_set:
            formed = sorted(formed if form is None else set(formed), key=_element_order)
        del elements[:]
        elements.extend(formed)
    found: bytes = made.SerializeToString(deterministic=True)
    return found


_FORMS: dict[str, Callable[[str], str]] = {
    "uuid": lambda text: str(uuid.UUID(text)),
    "time_uuid": lambda text: str(uuid.UUID(text)),
    "decimal": lambda text: str(decimal.Decimal(text)),
}
"""The one form of a text in a proto."""


def _element_order(element: Any) -> Any:
    return element.SerializeToString(deterministic=True) if isinstance(element, Value) else element


def _sorted(value: Any) -> Any:
    """The value with the keys of its dicts in order: a proto has none."""
    if isinstance(value, dict):
        order = sorted(value, key=lambda key: (type(key).__name__, key))
        return {key: _sorted(value[key]) for key in order}
    return [_sorted(one) for one in value] if isinstance(value, list) else value


def _listed(value: Any) -> Any:
    """The value in what Arrow has a type for."""
    if isinstance(value, (set, frozenset)):
        return sorted(map(_listed, value))
    if isinstance(value, (list, tuple)):
        return [_listed(one) for one in value]
    if isinstance(value, dict):
        return {key: _listed(one) for key, one in value.items()}
    if isinstance(value, (uuid.UUID, decimal.Decimal)):
        return str(value)
    return value


_WIDER = {("int32_val", "int64_val"), ("float_val", "double_val")}
"""What a proto may hold instead, without a value that changes."""


def _instant(seconds: int) -> dt.datetime | None:
    return None if seconds == _NULL_INSTANT else EPOCH + seconds * _SECOND


def _seconds(value: dt.datetime) -> int:
    """Whole seconds, floored: Feast's proto holds no fraction."""
    return (value - EPOCH) // _SECOND


_INSTANT = pa.timestamp("us", tz="UTC")
_INT32 = 2**31 - 1
_FLOAT32 = float(np.finfo(np.float32).max)
_PLAIN: list[Kind] = [
    # An int32 leaves as an int64 and a float32 as a double: Feast makes no proto of a float32 in a
    # frame, and its own tests want both so.
    Kind(ValueType.INT32, INT, "int32_val", pa.int64(), most=_INT32),
    Kind(ValueType.INT64, INT, "int64_val", pa.int64()),
    # A double is rounded to the nearest float32 on both paths: a proto of Feast's holds no more.
    Kind(ValueType.FLOAT, FLOAT, "float_val", pa.float64(), "{x}::FLOAT::DOUBLE", most=_FLOAT32),
    Kind(ValueType.DOUBLE, FLOAT, "double_val", pa.float64()),
    Kind(ValueType.BOOL, BOOL, "bool_val", pa.bool_()),
    Kind(ValueType.STRING, STR, "string_val", pa.string()),
    Kind(ValueType.BYTES, BYTES, "bytes_val", pa.binary()),
    Kind(ValueType.PDF_BYTES, BYTES, "bytes_val", pa.binary()),
    Kind(ValueType.IMAGE_BYTES, BYTES, "bytes_val", pa.binary()),
    Kind(
        ValueType.UNIX_TIMESTAMP, DATETIME, "unix_timestamp_val", _INSTANT, "{x}",
        _seconds, _instant,
    ),
    # The type that Feast has for it in Arrow has no zone of its own, so neither path keeps one.
    Kind(
        ValueType.ZONED_TIMESTAMP, DATETIME, "zoned_timestamp_val", _INSTANT, "{x}",
        lambda value: protos.ZonedTimestamp(unix_timestamp=_seconds(value), zone="UTC"),
        lambda held: _instant(held.unix_timestamp),
    ),
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
        item.most,
    )


_TEXTS = (ValueType.JSON, ValueType.UUID, ValueType.TIME_UUID, ValueType.DECIMAL)
_STRUCTS = (ValueType.STRUCT, ValueType.STRUCT_LIST)
_OPAQUE = [
    OpaqueKind(value_type, BYTES, field, pa.null())
    for value_type, field in VALUE_TYPE_TO_PROTO_VALUE_MAP.items()
]


KINDS: dict[ValueType, Kind] = {kind.value_type: kind for kind in _OPAQUE}
KINDS |= {kind.value_type: kind for kind in _PLAIN}
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
