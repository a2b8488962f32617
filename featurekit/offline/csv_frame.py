"""Turns a CSV file of entities and instants into an Arrow table (S1, S4)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from featurekit.core.texts import read_text
from featurekit.core.types import DATETIME, Type
from featurekit.define.dialect import Dialect, ending_of, packed_as
from featurekit.errors import EntityFrameError, SourceError
from featurekit.sources.csv import copy_of, looks_like, texts_of
from featurekit.sources.decoded import pieces, shown

_DELIMITERS = (";", "\t", "|")


def is_csv(path: Path) -> bool:
    """Whether the name of a file says that it is CSV, packed or not."""
    return ending_of(path.name) == "csv"


def csv_frame(path: Path, types: Mapping[str, Type]) -> Any:
    """The frame that a CSV file in UTF-8 holds, as an Arrow table.

    The columns of `types`, event_timestamp among them, have the values that their texts say; none
    is rounded or guessed. Every other column is text, as it is written; an unquoted empty field is
    null. EntityFrameError for a file that is no CSV, a record with too few or too many fields, and
    a text that is no value of its type.
    """
    dialect = Dialect(compression=packed_as(path.name))
    try:
        table, faults = texts_of(copy_of(str(path.absolute()), dialect, None))
    except SourceError as error:
        told = _written_otherwise(path, dialect, types)
        raise EntityFrameError(f"entity frame: {told or error}") from None
    if faults or not types.keys() <= {*table.column_names}:
        told = _written_otherwise(path, dialect, types)
        if told:
            raise EntityFrameError(f"entity frame: {told}")
    if faults:
        raise EntityFrameError(f"entity frame: {path}, {faults[0]}; mend the line or take it out")
    for i, name in enumerate(table.column_names):
        type_ = types.get(name)
        if type_ is not None:
            values = [
                _value(text, type_, what=f"{path}, row {row}, {name!r}")
                for row, text in enumerate(table[name].to_pylist())
            ]
            table = table.set_column(i, name, _array(values, type_, where=f"{path}, {name!r}"))
    return table


def _value(text: str | None, type_: Type, *, what: str) -> Any:
    """The value of a text; no digits at all, quoted, are the empty bytes."""
    if text == "" and type_.name == "bytes":
        return b""
    return None if text is None else read_text(text, type_, what=what)


def _written_otherwise(path: Path, dialect: Dialect, types: Mapping[str, Type]) -> str:
    """How the file is written, where that is not as labels are, and what to do about it; "" where
    it seems to be as they are."""
    try:
        sign = looks_like(path, dialect)
        if sign is not None and sign[2]:
            return f"{path}: {sign[0]}; {sign[2]}"
        encoding, how = "utf-16" if sign else "utf-8", [sign[0]] if sign else []
        line = None if sign else _undecodable(pieces(path, dialect))
        if line is not None:
            encoding, how = "latin-1", [f"its line {line} has bytes that are no UTF-8"]
        first = next(pieces(path, replace(dialect, encoding=encoding)), "")
    except SourceError:
        return ""
    options = [f"encoding={encoding!r}"] if how else []
    delimiter = _delimiter(first.partition("\n")[0], types)
    if delimiter is not None:
        how.append(f"its fields are divided by {delimiter!r}")
        options.insert(0, f"sep={delimiter!r}")
    if not how:
        return ""
    instants = [name for name, type_ in types.items() if type_.base == DATETIME]
    given = ", ".join([repr(str(path)), *options, f"parse_dates={instants!r}"])
    return (
        f"{path}: {' and '.join(how)}; labels are CSV in UTF-8 with commas. Write the file so, or "
        f"read it as what it is and give the frame: pandas.read_csv({given})"
    )


def _delimiter(header: str, types: Mapping[str, Type]) -> str | None:
    """What divides a header with some of the names, where that is no comma."""
    for delimiter in _DELIMITERS:
        names = {name.strip("\ufeff\"' \r") for name in header.split(delimiter)}
        if delimiter in header and types.keys() & names:
            return delimiter
    return None


def _undecodable(texts: Iterable[str]) -> int | None:
    """The number of the first line with bytes that the encoding does not have."""
    number = 1
    for text in texts:
        if shown(text) != text:
            for line in text.splitlines():
                if shown(line) != line:
                    return number
                number += 1
        number += text.count("\n")
    return None


def _array(values: list[Any], type_: Type, *, where: str) -> Any:
    import pyarrow as pa

    wanted = type_.arrow
    if type_ == DATETIME and not any(v is not None and v.tzinfo for v in values):
        wanted = pa.timestamp("us")  # a column of naive instants is read in the frame's time zone
    elif type_ == DATETIME and any(v is not None and not v.tzinfo for v in values):
        raise EntityFrameError(f"{where}: some instants have an offset and some have none")
    try:
        return pa.array(values, type=wanted)
    except (pa.ArrowInvalid, OverflowError) as error:
        raise EntityFrameError(f"{where}: {error}") from None
