"""Turns a value of either path into one form, in which equal bits are equal, and knows how Feast's
stores change values."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import uuid
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

from feast.value_type import ValueType

from featurekit.core.types import EPOCH, MICROSECOND, as_float32, micros
from featurekit.parity.compare import bits

EXACT = 2**53
"""Up to here a double holds every int."""
_INTS = (ValueType.INT32, ValueType.INT64)
_FLOATS = (ValueType.FLOAT, ValueType.DOUBLE)
_PAIRS = (ValueType.MAP, ValueType.STRUCT, ValueType.SCALAR_MAP)


def same(one: Any, other: Any, type_: ValueType) -> bool:
    """Whether two values of a feature are one to the last bit, in the type that its view declares.

    An int that stands as a double beside nulls, as pandas has it, is that int while it is exact.
    """
    return bool(bits(plain(one, type_)) == bits(plain(other, type_)))


def plain(value: Any, type_: ValueType) -> Any:
    """A value in the one form of its type: instants in microseconds of UTC, sets sorted, maps
    without the keys that Arrow's structs add. A value of another type stays what it is."""
    item = _item(type_)
    if item is not None and isinstance(value, (list, tuple, set, frozenset)):
        made = [plain(one, item) for one in value]
        return sorted(made, key=repr) if type_.name.endswith("_SET") else made
    if type_ in _PAIRS and isinstance(value, (list, tuple)) and all(map(_is_pair, value)):
        value = {str(key): one for key, one in value}
    if type_ is ValueType.JSON and isinstance(value, str):
        value = _parsed(value)
    if type_ in _INTS and isinstance(value, float) and value.is_integer() and abs(value) <= EXACT:
        return int(value)
    if type_ in _FLOATS and isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) <= EXACT else value
    return _free(value)


@cache
def _item(type_: ValueType) -> ValueType | None:
    """The type of the elements of a list or a set."""
    for end in ("_LIST", "_SET"):
        if type_.name.endswith(end):
            return ValueType.__members__.get(type_.name.removesuffix(end))
    return None


def _is_pair(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _free(value: Any) -> Any:
    """The form of a value whose type nobody declared."""
    if isinstance(value, dict):
        named = {str(key): _free(one) for key, one in value.items() if one is not None}
        return dict(sorted(named.items()))
    if isinstance(value, (list, tuple)):
        return [_free(one) for one in value]
    if isinstance(value, (set, frozenset)):
        return sorted((_free(one) for one in value), key=repr)
    if isinstance(value, dt.datetime):
        return EPOCH + _us(value) * MICROSECOND
    if isinstance(value, dt.date):
        return dt.datetime(value.year, value.month, value.day, tzinfo=dt.UTC)
    if isinstance(value, (uuid.UUID, decimal.Decimal)):
        return str(value)
    return value


def _us(value: dt.datetime) -> int:
    return micros(value if value.tzinfo else value.replace(tzinfo=dt.UTC))


def column_values(column: Any) -> list[Any]:
    """An Arrow column as values of Python's, instants to the microsecond."""
    import pyarrow as pa

    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    found: list[Any] = column.to_pylist()
    return found


# --- how values are changed -----------------------------------------------------------------------


def _rounded(value: Any) -> Any:
    return as_float32(float(value))


def _doubled(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > EXACT:
        return int(float(value))
    return value


def _cut(value: Any) -> Any:
    return int(value) if isinstance(value, float) else value


def _to_seconds(value: Any) -> Any:
    return EPOCH + (_us(value) // 1_000_000) * dt.timedelta(seconds=1)


def _no_nan(value: Any) -> Any:
    return None if isinstance(value, float) and value != value else value


def _text(value: Any) -> Any:
    return str(value)


def _text_of_float(value: Any) -> Any:
    return str(float(value))


Change = Callable[[Any], Any]

CHANGES: Sequence[tuple[str, Iterable[ValueType], Change]] = (
    ("float32 rounding", (ValueType.FLOAT,), _rounded),
    ("int as a double", _INTS, _doubled),
    ("cut to an int", _INTS, _cut),
    ("cut to seconds", (ValueType.UNIX_TIMESTAMP, ValueType.ZONED_TIMESTAMP), _to_seconds),
    ("NaN as null", _FLOATS, _no_nan),
    ("text of a number", (ValueType.STRING,), _text),
    ("text of a number", (ValueType.STRING,), _text_of_float),
)
"""What may have been done to a value on the way to the online store: the name of the cause, the
declared types that it happens to, and the change itself."""


def change_of(offline: Any, online: Any, type_: ValueType) -> str | None:
    """The change that makes exactly the online value of the offline one; None where none does."""
    if offline is None:
        return None
    item = _item(type_) or type_
    for cause, types, change in CHANGES:
        if item not in types:
            continue
        try:
            made = [*map(change, offline)] if isinstance(offline, list) else change(offline)
        except (ArithmeticError, TypeError, ValueError, AttributeError):
            continue
        if bits(plain(made, type_)) == bits(plain(online, type_)):
            return cause
    return None
