"""Turns a CSV file of entities and instants into an Arrow table (S1, S4)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featurekit.core.texts import no_value
from featurekit.core.types import DATETIME, Type
from featurekit.define.dialect import Dialect, FixedDialect, ending_of, packed_as
from featurekit.errors import EntityFrameError, SourceError
from featurekit.sources.csv import copy_of, texts_of
from featurekit.sources.raw import value_of


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
    absolute = str(path.absolute())
    try:
        table, faults = texts_of(
            copy_of(absolute, FixedDialect(compression=packed_as(path.name)), None)
        )
    except SourceError as error:
        raise EntityFrameError(f"entity frame: {error}") from None
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
    """The value of a text, by the forms that a source's files have; no digits at all, quoted, are
    the empty bytes."""
    if text == "" and type_.name == "bytes":
        return b""
    if text is None or type_.name == "str":
        return text
    found = value_of(text, type_, Dialect())
    if found is text:
        raise no_value(text, type_, what=what)
    return found


def _array(values: list[Any], type_: Type, *, where: str) -> Any:
    import pyarrow as pa

    wanted = type_.arrow
    if type_ == DATETIME and not any(v is not None and v.tzinfo for v in values):
        wanted = pa.timestamp("us")  # a column of naive instants is read in the frame's time zone
    elif type_ == DATETIME and any(v is not None and not v.tzinfo for v in values):
        there = [None if v is None else v.tzinfo is not None for v in values]
        raise EntityFrameError(
            f"{where}: the instant of row {there.index(True)} has an offset from UTC, and that of "
            f"row {there.index(False)} has none (the first is 0); write one with each, as in "
            "2026-10-04T12:00:00+02:00 or 2026-10-04T12:00:00Z, or with none, and name their "
            'zone: timezone="Europe/London", on the command line --timezone Europe/London'
        )
    try:
        return pa.array(values, type=wanted)
    except (pa.ArrowInvalid, OverflowError) as error:
        raise EntityFrameError(f"{where}: {error}") from None
