"""Turns what a message of a stream holds, fields of text or an object, into a source's row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from featurekit.core.kept import Kept
from featurekit.core.texts import lenient, loads, of_json
from featurekit.define.definitions import EventSource
from featurekit.errors import SourceError
from featurekit.sources.written import written_types


def row_of_json(source: EventSource, raw: bytes, *, what: str) -> dict[str, Any]:
    """The row that a JSON object stands for. SourceError, which says `what` it is, where it is not
    one.

    A value that does not fit its column's type stays as it is: the push refuses it or sets it
    aside.
    """
    try:
        found = loads(raw.decode())
    except ValueError as error:
        raise SourceError(f"{what} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise SourceError(f"{what} is no object; write an object of columns")
    return row_of_object(source, found)


def row_of_object(source: EventSource, found: Mapping[str, Any]) -> dict[str, Any]:
    """The row that an object of columns stands for; an absent optional column is None."""
    typed = written_types(source)
    row = {k: of_json(v, typed[k]) if k in typed else v for k, v in found.items()}
    return absent_of(source) | row


def row_of_fields(source: EventSource, fields: Mapping[bytes, bytes]) -> dict[str, Any]:
    """The row that fields stand for: one for each column, as text, or one `json` with an object.
    SourceError for a field that is not text, or not a JSON object."""
    if fields.keys() == {b"json"}:
        return row_of_json(source, fields[b"json"], what="its field 'json'")
    typed, row = written_types(source), dict[str, Any]()
    for name, raw in fields.items():
        column = text_of(name)
        type_ = typed.get(column)
        if type_ is not None and type_.name == "bytes":
            row[column] = raw
            continue
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            raise SourceError(f"its field {column!r} is not UTF-8") from None
        row[column] = text if type_ is None else lenient(text, type_)
    return absent_of(source) | row


def _may_be_absent(source: EventSource) -> dict[str, None]:
    found = [name for name, type_ in source.schema.items() if type_.optional]
    absent = dict.fromkeys(name for name in found if name != source.timestamp_field)
    if source.created_timestamp_column is not None:
        absent[source.created_timestamp_column] = None
    return absent


absent_of = Kept(_may_be_absent)
"""The columns that a message may lack."""


def text_of(raw: bytes) -> str:
    """Bytes as text that can be shown."""
    return raw.decode(errors="backslashreplace")
