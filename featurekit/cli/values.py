"""Turns the text and the JSON of a command line and of files into values of declared types."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from featurekit.core.calls import found
from featurekit.core.missing import no_file
from featurekit.core.texts import loads, of_json, read_text
from featurekit.core.types import Type
from featurekit.errors import DataError, EntityFrameError


def one_row(pairs: Sequence[tuple[str, str]], types: Mapping[str, Type]) -> dict[str, Any]:
    """A row of `key=value` pairs; what `types` does not name stays text. EntityFrameError where a
    key is given twice, or where its text is no value of its type."""
    row: dict[str, Any] = {}
    for key, text in pairs:
        if key in row:
            raise EntityFrameError(f"{key} is given twice; --rows takes many rows")
        row[key] = _value(key, text, types[key]) if key in types else text
    return row


def _value(key: str, text: str, type_: Type) -> Any:
    try:
        return read_text(text, type_, what=key)
    except EntityFrameError as error:
        many = "," in text and type_.name in ("int", "float")
        more = f"; one row has one {key}, and --rows takes a file with many rows" if many else ""
        raise EntityFrameError(f"{error}{more}") from None


def check_file(path: str | Path, *, named: str, holds: str) -> None:
    """DataError where nothing is at the path that `named` gives, an option or a word; `holds` says
    what such a file is."""
    if str(path) != "-" and not Path(path).exists():
        raise DataError(f"{named}, {holds}: {no_file(path)}")


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
                    f"{shown}, line {number}: not JSON ({error}), found {found(line.strip())}; "
                    'write an object on each line, as in {"customer_id": 12347}'
                ) from None
            if not isinstance(row, dict):
                raise DataError(
                    f"{shown}, line {number}: found {found(line.strip())}; write an object, as in "
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


def parquet_rows(path: Path) -> Any:
    """The rows of a Parquet file, as a table. DataError where it cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    except pa.ArrowException as error:
        raise DataError(f"{path} is no Parquet file: {error}") from None
