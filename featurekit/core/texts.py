"""Turns text and JSON into values of declared types."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from decimal import Decimal
from typing import Any

from featurekit.core.durations import duration_us
from featurekit.core.types import MICROSECOND, Type
from featurekit.errors import DefinitionError, EntityFrameError

_INT = re.compile(r"([+-]?[0-9]+)([.]0+)?")
_MICROSECONDS = re.compile(r"(-?[0-9]{1,19})us")
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
_AS_TEXT = ("bytes", "datetime", "date", "timedelta")
"""The types that JSON writes as the texts that `of_text` reads."""
_FLOATS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def of_text(text: str, type_: Type) -> Any:
    """The value that `text` stands for; an empty text is None, except for a str. ValueError for a
    text that is no value of the type."""
    if type_.name == "str":
        return text
    if text == "":
        return None
    match type_.name:
        case "bool":
            return {"true": True, "false": False}[text.lower()]
        case "int":
            return _int(text)
        case "float":
            if "_" in text:
                raise ValueError(text)
            return float(text)
        case "bytes":
            return bytes.fromhex(text)
        case "datetime":
            return dt.datetime.fromisoformat(text)
        case "date":
            return dt.date.fromisoformat(text)
        case "timedelta":
            found = _MICROSECONDS.fullmatch(text)  # as a training set is written to CSV
            us = int(found[1]) if found else duration_us(text, what="a duration", zero=True)
            return us * MICROSECOND
        case "list":
            return of_json(loads(text), type_)
        case name:
            raise TypeError(f"{name} is no value type")


def read_text(text: str, type_: Type, *, what: str) -> Any:
    """The value that a text has in a type. EntityFrameError, which names `what`, where there is
    none."""
    try:
        return of_text(text, type_)
    except (ValueError, ArithmeticError, KeyError, DefinitionError):
        raise no_value(text, type_, what=what) from None


def no_value(text: str, type_: Type, *, what: str) -> EntityFrameError:
    """The error for a text that is no value of a type; `what` names the text."""
    return EntityFrameError(f"{what}: {text!r} is no {type_.base}; {_HINTS[type_.name]}")


def lenient(text: str | None, type_: Type) -> Any:
    """As `of_text`, but a text that is not a value stays text, so that the source's own check
    refuses or quarantines it."""
    if text is None:
        return None
    try:
        return of_text(text, type_)
    except (ValueError, ArithmeticError, KeyError, DefinitionError):
        return text


def of_json(value: Any, type_: Type) -> Any:
    """The value of a type that JSON can only write as a string or number. What does not fit the
    type stays as it is, and the receiver refuses it."""
    if type_.item is not None and isinstance(value, list):
        empty = b"" if type_.item.name == "bytes" else ""  # no digits; a list has no null
        return [empty if v == "" else of_json(v, type_.item) for v in value]
    if type_.name == "timedelta" and type(value) in (int, float):
        try:
            return dt.timedelta(seconds=value)
        except (ArithmeticError, ValueError):  # no duration is so long
            return value
    if type_.name == "float" and type(value) is int:
        return _float_of(value)
    if not isinstance(value, str):
        return value
    if type_.name == "float":
        return _FLOATS.get(value, value)
    return lenient(value, type_) if type_.name in _AS_TEXT else value


def _float_of(number: int) -> int | float:
    """The double that JSON writes so: JavaScript and others write 2.0**60 as 1152921504606847000.
    An int that is the text of no double stays an int."""
    if abs(number) <= 2**53:
        return float(number)
    try:
        found = float(number)
    except OverflowError:
        return number
    return found if int(Decimal(repr(found))) == number or int(found) == number else number


def loads(text: str) -> Any:
    """The value of a JSON text. ValueError also for a name that stands twice, a number beyond the
    doubles, and nesting that is too deep."""
    try:
        return _JSON.decode(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _int(text: str) -> int:
    """Digits, or digits with nothing but zeros after the point, which are exact up to 2**53."""
    found = _INT.fullmatch(text)
    if found is None or (found[2] and abs(int(found[1])) > 2**53):
        raise ValueError(text)
    return int(found[1])


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f'{text} is beyond the doubles; write "Infinity" if that is meant')
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a name stands twice")
    return made


_JSON = json.JSONDecoder(parse_float=_float, object_pairs_hook=_object)
