"""Turns the text and the JSON of a command line and of files into values of declared types."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from featurekit.core.texts import loads, of_json, of_text
from featurekit.core.types import DATETIME, Type
from featurekit.errors import DataError, DefinitionError, EntityFrameError

_HINTS = {
    "bool": "write true or false",
    "int": "write a whole number",
    "float": "write a number",
    "bytes": "write hexadecimal digits",
    "datetime": "write 2011-09-30T12:00:00Z",
    "date": "write 2011-09-30",
    "timedelta": "write 90s, 6h or 7d",
    "list": "write a JSON array",
}


def read_text(text: str, type_: Type, *, what: str) -> Any:
    """The value that a text has in a type. EntityFrameError, which names `what`, where there is
    none."""
    try:
        return of_text(text, type_)
    except (ValueError, KeyError, DefinitionError):
        raise EntityFrameError(
            f"{what}: {text!r} is no {type_.base}; {_HINTS[type_.name]}"
        ) from None


def one_row(pairs: Sequence[tuple[str, str]], types: Mapping[str, Type]) -> dict[str, Any]:
    """A row of `key=value` pairs; what `types` does not name stays text. EntityFrameError where a
    key is given twice, or where its text is no value of its type."""
    row: dict[str, Any] = {}
    for key, text in pairs:
        if key in row:
            raise EntityFrameError(f"{key} is given twice; --rows takes many rows")
        row[key] = read_text(text, types[key], what=key) if key in types else text
    return row


def json_rows(where: str, types: Mapping[str, Type]) -> list[dict[str, Any]]:
    """A row for each JSON line of a file, or of standard input for "-"; empty lines are skipped.

    A column of `types` has its type's value; the others stay as JSON has them. DataError, which
    names the line, where it is no object.
    """
    rows = []
    with _lines(where) as (shown, file):
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = loads(line)
            except ValueError as error:
                raise DataError(
                    f"{shown}, line {number}: not JSON ({error}), found {line.strip()[:40]!r}; "
                    'write an object on each line, as in {"customer_id": 12347}'
                ) from None
            if not isinstance(row, dict):
                raise DataError(
                    f"{shown}, line {number}: found {line.strip()[:40]!r}; write an object, as in "
                    '{"customer_id": 12347}'
                )
            rows.append({k: of_json(v, types[k]) if k in types else v for k, v in row.items()})
    return rows


@contextmanager
def _lines(where: str) -> Iterator[tuple[str, IO[str]]]:
    if where == "-":
        yield "standard input", sys.stdin
        return
    try:
        with Path(where).open(encoding="utf-8-sig") as file:
            yield where, file
    except OSError as error:
        raise DataError(f"{where} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is not UTF-8: {error.reason} at byte {error.start}") from None


def csv_texts(path: Path, types: Mapping[str, Type]) -> Any:
    """A CSV file as an Arrow table.

    The columns of `types` hold the text as it is written, and null where an unquoted field is
    empty; Arrow chooses the types of the others by their values. DataError where the file cannot be
    read, or has two columns of one name.
    """
    import pyarrow as pa
    from pyarrow import csv

    texts = csv.ConvertOptions(
        column_types={name: pa.string() for name in types},
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
        null_values=[""],
    )
    if not path.is_file():
        raise DataError(f"{path} cannot be read: there is no such file here")
    try:
        table = csv.read_csv(path, convert_options=texts)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    except pa.ArrowInvalid as error:
        raise DataError(f"{path} cannot be read as CSV with a header: {error}") from None
    if twice := [n for n, k in Counter(table.column_names).items() if k > 1]:
        raise DataError(f"{path}: the header has {twice[0]!r} twice; give each column its own name")
    return table


def csv_frame(path: Path, types: Mapping[str, Type]) -> Any:
    """The entity frame that a CSV file holds, as an Arrow table.

    The columns of `types` and event_timestamp have the values that their texts say; none is rounded
    or guessed. EntityFrameError where a text is no value of its type.
    """
    import pyarrow as pa

    wanted = {**types, "event_timestamp": DATETIME}
    table = csv_texts(path, wanted)
    for i, name in enumerate(table.column_names):
        type_ = wanted.get(name)
        if type_ is None:
            continue
        values = [
            None if text is None else read_text(text, type_, what=f"{path}, row {row}, {name!r}")
            for row, text in enumerate(table[name].to_pylist())
        ]
        table = table.set_column(i, name, _array(values, type_, pa, where=f"{path}, {name!r}"))
    return table


def _array(values: list[Any], type_: Type, pa: Any, *, where: str) -> Any:
    wanted = type_.arrow
    if type_ == DATETIME and not any(v is not None and v.tzinfo for v in values):
        wanted = pa.timestamp("us")  # a column of naive instants is read in --timezone
    elif type_ == DATETIME and any(v is not None and not v.tzinfo for v in values):
        raise EntityFrameError(f"{where}: some instants have an offset and some have none")
    try:
        return pa.array(values, type=wanted)
    except (pa.ArrowInvalid, OverflowError) as error:
        raise EntityFrameError(f"{where}: {error}") from None
