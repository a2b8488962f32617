"""Turns the types of a row into a row to copy, for errors about rows: in Python, in JSON and as the
words of a command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from featurekit.core.types import Type


class _Written(NamedTuple):
    python: str
    json: str
    word: str


_WRITTEN = {
    "bool": _Written("True", "true", "true"),
    "int": _Written("1", "1", "1"),
    "float": _Written("1.5", "1.5", "1.5"),
    "str": _Written('"a"', '"a"', "a"),
    "bytes": _Written('b"a"', '"61"', "61"),
    "datetime": _Written(
        "datetime(2026, 10, 4, tzinfo=UTC)", '"2026-10-04T00:00:00Z"', "2026-10-04T00:00:00Z"
    ),
    "date": _Written("date(2026, 10, 4)", '"2026-10-04"', "2026-10-04"),
    "timedelta": _Written("timedelta(hours=6)", "21600", "6h"),
}
_TO_GIVE = {
    "bool": "write True or False",
    "int": "write a whole number, as in 1",
    "float": "write a number, as in 1.5",
    "str": 'write a text, as in "a"',
    "bytes": 'write bytes, as in b"a"',
    "datetime": "write an instant, as in datetime(2026, 10, 4, tzinfo=UTC)",
    "date": "write a date, as in date(2026, 10, 4)",
    "timedelta": "write a duration, as in timedelta(hours=6)",
}


def to_give(type_: Type) -> str:
    """What to write where a value of a type is wanted: "write a whole number, as in 1"."""
    if type_.choices is not None:
        return f"write one of {', '.join(map(repr, type_.choices))}"
    return _TO_GIVE.get(type_.name) or f"write a value of {type_.base}, as in {_python(type_)}"


def row_in_python(types: Mapping[str, Type]) -> str:
    """A row as a dict of Python."""
    return _braced(f'"{n}": {_python(t)}' for n, t in types.items())


def row_in_json(types: Mapping[str, Type]) -> str:
    """A row as an object of JSON."""
    return _braced(f'"{n}": {_json(t)}' for n, t in types.items())


def row_in_words(types: Mapping[str, Type]) -> str:
    """A row as the key=value pairs of a command line."""
    return " ".join(f"{n}={_word(t)}" for n, t in types.items())


def _braced(fields: Iterable[str]) -> str:
    return "{" + ", ".join(fields) + "}"


def _python(type_: Type) -> str:
    if type_.choices is not None:
        return repr(type_.choices[0])
    if type_.item is not None:
        return f"[{_python(type_.item)}]"
    return _WRITTEN[type_.name].python


def _json(type_: Type) -> str:
    if type_.choices is not None:
        import json

        return json.dumps(type_.choices[0])
    if type_.item is not None:
        return f"[{_json(type_.item)}]"
    return _WRITTEN[type_.name].json


def _word(type_: Type) -> str:
    if type_.choices is not None:
        return str(type_.choices[0])
    return _json(type_) if type_.item is not None else _WRITTEN[type_.name].word
