"""Turns an online result into an Arrow IPC stream, and such a stream into an online result.

The stream has one batch. Its schema's metadata say under `featurekit`, as JSON, which service and
version answered, what its columns are, and the statuses that are not all PRESENT; the instant is
beside the stream. Columns that lie in the store's reply as Arrow has them are not copied into
objects on either side.
"""

from __future__ import annotations

import datetime as dt
import json
import struct
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from featurekit.core.status import PRESENT
from featurekit.core.types import MICROSECOND, Type, instant
from featurekit.errors import OnlineError
from featurekit.language.wire import from_json, to_json
from featurekit.online.lookup.result import (
    OnlineResult,
    Shape,
    all_present,
    arrow_message,
    shape_of,
)
from featurekit.online.lookup.view import RowAnswer

if TYPE_CHECKING:
    import pyarrow as pa

_KEY = b"featurekit"
_END = b"\xff\xff\xff\xff\0\0\0\0"
_LENGTH = struct.Struct("<Ii")
_MOST_KEPT = 64


# --- a result as a stream -------------------------------------------------------------------------


def compact(statuses: Mapping[str, list[str]]) -> dict[str, str | list[str]]:
    """The statuses of each feature: one text where all rows have the same, else a list."""
    return {
        name: column[0] if column and column.count(column[0]) == len(column) else column
        for name, column in statuses.items()
    }


def stream(result: OnlineResult, service: str, version: str) -> bytes:
    """The result as an Arrow IPC stream."""
    shape, message = shape_of(result), arrow_message(result)
    if message is not None:
        return b"".join((_schema_message(shape, service, version), message, _END))
    table = result.to_arrow().combine_chunks()
    import pyarrow as pa

    batches = table.to_batches() or [pa.RecordBatch.from_pylist([], schema=table.schema)]
    head = (
        _schema_message(shape, service, version)
        if all_present(result)
        else _made_schema(shape, service, version, {"status": compact(result.status)})
    )
    return b"".join((head, batches[0].serialize().to_pybytes(), _END))


_kept: dict[tuple[int, str, str], tuple[Shape, bytes]] = {}


def _schema_message(shape: Shape, service: str, version: str) -> bytes:
    """The message of the schema where all is PRESENT; kept, since it is the same every time."""
    known = _kept.get((id(shape), service, version))
    if known is not None and known[0] is shape:
        return known[1]
    made = _made_schema(shape, service, version, {})
    if len(_kept) >= _MOST_KEPT:
        _kept.clear()
    _kept[id(shape), service, version] = shape, made
    return made


def _made_schema(shape: Shape, service: str, version: str, more: Mapping[str, Any]) -> bytes:
    said = {
        "service": service,
        "version": version,
        "keys": list(shape.keys),
        "request": list(shape.request),
        "types": {name: to_json(type_) for name, type_ in shape.types.items()},
        "lacking": list(shape.lacking),
        **more,
    }
    schema = shape.schema.with_metadata({_KEY: json.dumps(said).encode()})
    made: bytes = schema.serialize().to_pybytes()
    return made


# --- a stream as a result -------------------------------------------------------------------------


class Received(OnlineResult):
    """An online result that came as Arrow; its Python values are made when they are asked for."""

    __slots__ = ("_arrow", "_rows", "_said")

    def __init__(self, as_of: dt.datetime, batch: pa.RecordBatch, head: _Head) -> None:
        self.as_of, self._arrow, self._shape, self._said = as_of, batch, head.shape, head.status
        self._rows: list[RowAnswer] | None = None
        self._columns = self._status = None
        self.entities = self._read(head.shape.keys)
        self.request = self._read(head.shape.request)

    def _read(self, types: Mapping[str, Type]) -> dict[str, list[Any]]:
        column = self._arrow.column
        try:
            return {name: python_values(column(name), type_) for name, type_ in types.items()}
        except (ArithmeticError, ValueError) as error:
            raise OnlineError(
                f"the server's answer has a value that its type does not have: {error}"
            ) from None

    if not TYPE_CHECKING:  # for a type checker it is what it is in the class above

        @property
        def _answers(self) -> list[RowAnswer]:
            if self._rows is None:
                n, features = self._arrow.num_rows, self._shape.features
                columns = self._read(features).values()
                statuses = [
                    [said] * n if isinstance(said := self._said.get(name, PRESENT), str) else said
                    for name in features
                ]
                values = list(zip(*columns, strict=True)) or [()] * n
                states = list(zip(*statuses, strict=True)) or [()] * n
                self._rows = list(zip(values, states, strict=True))
            return self._rows

    def __len__(self) -> int:
        return int(self._arrow.num_rows)

    def to_arrow(self) -> pa.Table:
        """As `OnlineResult.to_arrow`."""
        import pyarrow as pa

        return pa.Table.from_batches([self._arrow]).replace_schema_metadata(None)


class _Head:
    """What a stream's schema says."""

    def __init__(self, schema: pa.Schema) -> None:
        said = json.loads(schema.metadata[_KEY])
        types = {name: from_json(type_, Type) for name, type_ in said["types"].items()}
        shown = {*said["keys"], *said["request"]}
        self.shape = Shape(
            {name: types[name] for name in said["keys"]},
            {name: type_ for name, type_ in types.items() if name not in shown},
            {name: types[name] for name in said["request"]},
            tuple(said["lacking"]),
        )
        self.status: dict[str, str | list[str]] = dict(said.get("status", {}))
        self.service, self.version = str(said["service"]), str(said["version"])
        self.schema: pa.Schema = schema.remove_metadata()
        if not self.schema.equals(self.shape.schema):
            raise ValueError("its columns are not those that it says it has")

    def fits(self, rows: int) -> bool:
        """Whether what is said of so many rows is a status, or one for each row."""
        return all(
            isinstance(said, str)
            or (isinstance(said, list) and len(said) == rows and all(type(s) is str for s in said))
            for said in self.status.values()
        )


@lru_cache(maxsize=_MOST_KEPT)
def _head(message: bytes) -> _Head:
    import pyarrow as pa

    return _Head(pa.ipc.read_schema(pa.py_buffer(message)))


def read(data: bytes, as_of: dt.datetime) -> tuple[OnlineResult, str]:
    """The result in a stream that `stream` has made, and the version of the service that answered.
    ValueError for other bytes."""
    import pyarrow as pa

    try:
        _, size = _LENGTH.unpack_from(data)
        end = _LENGTH.size + size
        head = _head(data[:end])
        batch = pa.ipc.read_record_batch(pa.py_buffer(data).slice(end), head.schema)
        batch.validate(full=True)  # else Arrow reads wherever an offset in the bytes leads
        if not head.fits(batch.num_rows):
            raise ValueError("its statuses are none of its rows")
        return Received(as_of, batch, head), head.version
    except (
        pa.ArrowException,
        OSError,
        EOFError,
        struct.error,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        RecursionError,
    ) as error:
        raise ValueError(f"no stream of an online result: {error}") from None


# --- Arrow's values as Python's -------------------------------------------------------------------


def python_values(array: pa.Array, type_: Type) -> list[Any]:
    """The values of an array as lookups give them: instants in UTC, dicts in their order."""
    make = _maker(type_)
    if make is None:
        return array.to_pylist()  # type: ignore[no-any-return]
    plain = array.cast(_counted(type_)).to_pylist()
    return [None if value is None else make(value) for value in plain]


def _counted(type_: Type) -> pa.DataType:
    """The Arrow type with numbers in the place of instants and durations."""
    import pyarrow as pa

    if type_.name in ("datetime", "timedelta"):
        return pa.int64()
    if type_.item is None or type_.size is not None:
        return type_.arrow
    key = _counted(type_.item)
    return pa.map_(key, _counted(type_.held)) if type_.name == "dict" else pa.list_(key)


def _maker(type_: Type) -> Callable[[Any], Any] | None:
    """What makes a value of a type of what Arrow gives; None where they are the same."""
    match type_.name:
        case "datetime":
            return instant
        case "timedelta":
            return lambda us: us * MICROSECOND
        case "dict":
            assert type_.item is not None
            key = _maker(type_.item) or (lambda value: value)
            held = _maker(type_.held) or (lambda value: value)
            return lambda pairs: {key(k): held(v) for k, v in pairs}
        case "list":
            assert type_.item is not None
            item = _maker(type_.item)
            if item is None:
                return None
            return lambda values: [None if v is None else item(v) for v in values]
        case _:
            return None
