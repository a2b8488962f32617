"""Turns the rows of a training set into a CSV file that reads back as labels with the same values
(S1, S4)."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from featurekit.core import conversions
from featurekit.core.types import MICROSECOND

if TYPE_CHECKING:
    import pyarrow as pa

_PLAIN = re.compile(r'[^",\r\n\ufeff][^",\r\n]*')


class CsvWriter:
    """Writes batches to a CSV file in UTF-8, with a header: a comma between fields, a line feed
    after each line, and `text_of` each value."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path, self._names = path, schema.names

    def __enter__(self) -> Self:
        self._file = self._path.open("w", encoding="utf-8", newline="")
        self._file.write(",".join(map(_field, self._names)) + "\n")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def write_batch(self, batch: pa.RecordBatch) -> None:
        """Write the rows of a batch. DataError for a value that has no form in Python."""
        import pyarrow as pa

        columns = conversions.to_dict(pa.Table.from_batches([batch])).values()
        texts = [["" if v is None else _field(text_of(v)) for v in column] for column in columns]
        self._file.writelines(",".join(row) + "\n" for row in zip(*texts, strict=True))


def _field(text: str) -> str:
    """A text as a field; the empty one is quoted, since an unquoted empty field is null."""
    return text if _PLAIN.fullmatch(text) else '"' + text.replace('"', '""') + '"'


def text_of(value: Any) -> str:
    """The text of a value, from which it can be read bit by bit.

    A float has the fewest digits that only it is read from, or is nan, inf or -inf; bytes are
    hexadecimal digits; an instant is ISO 8601, with its offset if it has one; a duration is its
    microseconds, as in 90000000us; a list or a dict is JSON.
    """
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case float():
            return repr(value)
        case bytes():
            return value.hex()
        case dt.date() | dt.time():
            return value.isoformat()
        case dt.timedelta():
            fine: Any = value
            if getattr(fine, "nanoseconds", 0):  # of pandas
                return f"{fine.value}ns"
            return f"{value // MICROSECOND}us"
        case list() | dict():
            return json.dumps(_json(value), ensure_ascii=False)
    return str(value)


def _json(value: Any) -> Any:
    """A value in the types of JSON."""
    if isinstance(value, list):
        return [_json(one) for one in value]
    if isinstance(value, Mapping):
        return {text_of(key): _json(one) for key, one in value.items()}
    if isinstance(value, float) and not abs(value) < float("inf"):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    return value if value is None or isinstance(value, (bool, int, float)) else text_of(value)
