"""Turns JSON into Python and answers into JSON; the only module that loads orjson.

JSON has no NaN, no infinities, bytes, instants, dates and durations. Such floats are the texts
"NaN", "Infinity" and "-Infinity", dates are ISO 8601, durations are a text of microseconds, as in
"90000000us". In our own form, bytes are hexadecimal and instants ISO 8601; in Feast's, bytes are
base64 and instants whole seconds since 1970. The names in a dict are texts of the same forms.
"""

from __future__ import annotations

import base64
import datetime as dt
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import orjson

from featurekit.core import texts
from featurekit.core.status import PRESENT
from featurekit.core.types import MICROSECOND, Type, micros
from featurekit.define.plan import Service
from featurekit.online.lookup.result import (
    Batch,
    OnlineResult,
    all_present,
    batch_of,
    rows_of,
    shape_of,
)
from featurekit.online.wire.arrow import compact

_NUMPY = orjson.OPT_SERIALIZE_NUMPY
_EPOCH = "1970-01-01T00:00:00Z"
_ALIKE = bytes.maketrans(b"123456789", b"000000000")
_BEYOND = (b"0" * 20, b"-" + b"0" * 19)
"""What ints of more than 64 bits have in them, once all digits are alike."""
Write = Callable[[Any], Any]


def loads(data: bytes) -> Any:
    """The value of a text of JSON. ValueError, with the place, where it is none.

    orjson rounds ints of more than 64 bits to doubles, so a text that may have one is read again.
    """
    found = orjson.loads(data)
    alike = data.translate(_ALIKE)
    return texts.loads(data.decode()) if any(map(alike.__contains__, _BEYOND)) else found


def dumps(value: Any) -> bytes:
    """The text of a value of dicts, lists, texts, numbers and None."""
    return orjson.dumps(value)


# --- values ---------------------------------------------------------------------------------------


def _key(value: int) -> str:
    return orjson.dumps(value).decode()


def _float(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def _duration(value: dt.timedelta) -> str:
    return f"{value // MICROSECOND}us"


def _seconds(value: dt.datetime) -> int:
    """Whole seconds since 1970, floored: Feast's client takes no others."""
    return micros(value) // 1_000_000


@dataclass(frozen=True, slots=True)
class Form:
    """How values are written that JSON does not have, by the names of their types."""

    bytes: Write
    datetime: Write

    def write(self, type_: Type) -> Write | None:
        """What writes the values of a type; None where JSON has them."""
        match type_.name:
            case "float":
                return _float
            case "bytes":
                return self.bytes
            case "datetime":
                return self.datetime
            case "date":
                return dt.date.isoformat
            case "timedelta":
                return _duration
            case "list":
                return self._list(type_)
            case "dict":
                return self._dict(type_)
            case _:
                return None

    def _list(self, type_: Type) -> Write | None:
        assert type_.item is not None
        item = self.write(type_.item)
        if item is None:
            return None
        return lambda values: [None if v is None else item(v) for v in values]

    def _dict(self, type_: Type) -> Write:
        assert type_.item is not None
        key, value = OWN.write(type_.item), self.write(type_.held)
        if type_.item.name in ("int", "bool"):
            key = _key
        if value is None:
            return lambda found: {k if key is None else key(k): v for k, v in found.items()}
        return lambda found: {k if key is None else key(k): value(v) for k, v in found.items()}

    def column(self, values: Sequence[Any], type_: Type) -> Sequence[Any]:
        """A column of a type."""
        write = self.write(type_)
        if write is None:
            return values
        if write is _float:
            try:
                if math.isfinite(sum(values)):  # so all of them are
                    return values
            except TypeError:  # one is None
                pass
        return [None if value is None else write(value) for value in values]


OWN = Form(bytes=bytes.hex, datetime=dt.datetime.isoformat)
FEAST = Form(bytes=lambda value: base64.b64encode(value).decode("ascii"), datetime=_seconds)


def _columns(result: OnlineResult, form: Form) -> list[Any]:
    """The columns of the features, for orjson."""
    batch = batch_of(result)
    if batch is not None:
        return _numbers(batch)
    shape, rows = shape_of(result), rows_of(result)
    if rows and shape.numeric and _finite([row[0] for row in rows]):
        return list(zip(*(row[0] for row in rows), strict=True))
    return list(map(form.column, result.columns.values(), shape.features.values()))


def _finite(rows: Sequence[Sequence[Any]]) -> bool:
    """Whether rows of numbers have neither None nor a float that JSON has not; False also where
    their sum has not."""
    try:
        return all(math.isfinite(sum(row)) for row in rows)
    except TypeError:  # one is None
        return False


def _numbers(batch: Batch) -> list[Any]:
    """The columns of numbers that lie in the store's reply, as arrays; as lists where a float has
    no form in JSON."""
    parts = [part for view in batch.packed() or () for part in view.columns()]
    columns: list[Any] = [column for part in parts for column in part]
    if not all(part.dtype.kind != "f" or np.isfinite(part).all() for part in parts):
        columns = [[_float(v) if type(v) is float else v for v in c.tolist()] for c in columns]
    return columns if batch.places is None else [columns[place] for place in batch.places]


# --- answers --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Said:
    """What an answer says beside the values: which service and version, and the request's id."""

    service: str
    version: Service
    request_id: str | None

    def document(self, result: OnlineResult) -> dict[str, Any]:
        """For an answer as of the result's instant."""
        said = {
            "service": self.service,
            "service_version": self.version.fingerprint,
            "as_of": result.as_of.isoformat(),
        }
        return said if self.request_id is None else {**said, "request_id": self.request_id}


@lru_cache(maxsize=64)
def _repeated(text: str, n: int) -> orjson.Fragment:
    return orjson.Fragment(orjson.dumps([text] * n))


def feast_answer(result: OnlineResult, said: Said, *, views: bool) -> bytes:
    """The answer in the form of Feast's feature server: the join keys and then the features, each
    with its values, statuses and instants. With `views`, the metadata name the views."""
    n = len(result)
    present, epoch = _repeated(PRESENT, n), _repeated(_EPOCH, n)
    instants = orjson.Fragment(orjson.dumps([_whole_second(result.as_of)] * n))
    shape = shape_of(result)
    found = [
        {"values": FEAST.column(v, shape.keys[k]), "statuses": present, "event_timestamps": epoch}
        for k, v in result.entities.items()
    ]
    columns, same = _columns(result, FEAST), all_present(result)
    if same and shape.numeric:
        results = _results_of_numbers(found, columns, present, instants)
    else:
        statuses = [present] * len(columns) if same else result.status.values()
        found += [
            {"values": values, "statuses": status, "event_timestamps": instants}
            for values, status in zip(columns, statuses, strict=True)
        ]
        results = [orjson.dumps(found, option=_NUMPY)]
    metadata = {
        "feature_names": [*result.entities, *shape.features],
        **said.document(result),
    }
    if views:
        # Feast counts versions; ours have fingerprints, and the number stands for none.
        metadata["feature_view_metadata"] = [
            {"name": view.name, "version": 0, "fingerprint": view.fingerprint}
            for view in said.version.views
        ]
    return b"".join([b'{"metadata":', orjson.dumps(metadata), b',"results":', *results, b"}"])


def _results_of_numbers(
    keys: list[Any], columns: list[Any], statuses: orjson.Fragment, instants: orjson.Fragment
) -> list[bytes]:
    """The parts of the text of the results: of the join keys, and of columns of numbers, whose
    statuses and instants are the same. No value has a bracket, so all columns are written at once
    and parted by theirs: that takes half the time of a result for each. An answer is large, so
    nothing of it is copied twice."""
    if not columns:
        return [orjson.dumps(keys)]
    told = orjson.dumps({"statuses": statuses, "event_timestamps": instants})
    begin, end = b'{"values":[', b"]," + told[1:]
    values = orjson.dumps(columns, option=_NUMPY)[2:-2].split(b"],[")
    comma = b"," if keys else b""
    told_keys = orjson.dumps(keys)[:-1]
    return [told_keys, comma, begin, (end + b"," + begin).join(values), end, b"]"]


def _whole_second(instant: dt.datetime) -> str:
    return instant.replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def own_answer(result: OnlineResult, said: Said) -> bytes:
    """The answer in our own form: columns by name, and the statuses of each feature, which are one
    text where all rows have the same."""
    shape = shape_of(result)
    given: Mapping[str, list[Any]] = {**result.entities, **result.request}
    columns = {name: OWN.column(values, shape.types[name]) for name, values in given.items()}
    columns |= zip(shape.features, _columns(result, OWN), strict=True)
    document = {**said.document(result), "columns": columns, "status": statuses(result)}
    return orjson.dumps(document, option=_NUMPY)


def statuses(result: OnlineResult) -> Mapping[str, Any]:
    """The statuses of each feature, in short."""
    if all_present(result):
        return dict.fromkeys(shape_of(result).features, PRESENT)
    return compact(result.status)
