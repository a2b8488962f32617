"""Turns how a source writes its timestamps into patterns, and texts and numbers into instants (T1).

A pattern has the same groups in Python and in SQL, so that both paths take a text apart alike.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from featurekit.errors import DefinitionError

_SIXTY, _HOUR = "[0-5][0-9]", "(?:[01][0-9]|2[0-3])"
_OFFSET = f"Z|z|[+-]{_HOUR}(?::?{_SIXTY}(?::?{_SIXTY})?)?"
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_LONG = ("uary", "ruary", "ch", "il", "", "e", "y", "ust", "tember", "ober", "ember", "ember")
_DAYS = [
    "mon(day)?",
    "tue(sday)?",
    "wed(nesday)?",
    "thu(rsday)?",
    "fri(day)?",
    "sat(urday)?",
    "sun(day)?",
]


def _any_case(word: str) -> str:
    return "".join(f"[{c.upper()}{c}]" if c.isalpha() else c for c in word)


_MONTH = "|".join(
    f"{_any_case(m)}(?:{_any_case(rest)})?" for m, rest in zip(MONTHS, _LONG, strict=True)
)
_DAY = "|".join(_any_case(day).replace("(", "(?:") for day in _DAYS)
_DIRECTIVES = {
    "Y": "([0-9]{4})",
    "y": "([0-9]{2})",
    "m": "(1[0-2]|0?[1-9])",
    "d": "(3[01]|[12][0-9]|0?[1-9])",
    "b": f"({_MONTH})",
    "H": "(2[0-3]|[01]?[0-9])",
    "I": "(1[0-2]|0?[1-9])",
    "p": "([AaPp][Mm])",
    "M": "([0-5]?[0-9])",
    "S": "([0-5]?[0-9])",
    "f": "([0-9]+)",
    "z": f"({_OFFSET})",
    "a": f"(?:{_DAY})",
    "%": "%",
}
_SHORT = {"B": "%b", "A": "%a", "F": "%Y-%m-%d", "T": "%H:%M:%S", "R": "%H:%M", "D": "%m/%d/%y"}
_PIECE = re.compile(r"%-?(.?)|([^%]+)", re.S)
_NAMED = "Y, y, m, d, b, B, H, I, p, M, S, f, z, a, A, F, T, R, D"


@dataclass(frozen=True, slots=True)
class TextFormat:
    """A pattern of timestamps in text, with a group for each of `names`. A group that is absent or
    empty stands for zero, and for no offset. `misfit` is what a text of another form is."""

    misfit: str
    pattern: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EpochFormat:
    """Numbers since 1970-01-01 UTC, of which `per_us` make a microsecond, or each is `us`."""

    misfit: str
    us: int
    per_us: int = 1
    digits: int = 0
    """The digits after the point that a microsecond can hold."""


Format = TextFormat | EpochFormat

ISO = TextFormat(
    "no ISO 8601 instant; for another form write timestamp_format= at the source, as in "
    'timestamp_format="%d/%m/%Y %H:%M", and ISO is 2011-03-27 01:30:00 or '
    "2011-03-27T01:30:00+01:00",
    f"([0-9]{{4}})-([0-9]{{2}})-([0-9]{{2}})(?:[ T]({_HOUR}):({_SIXTY})"
    f"(?::({_SIXTY})(?:[.,]([0-9]+))?)? ?({_OFFSET})?)?",
    ("Y", "m", "d", "H", "M", "S", "f", "z"),
)
_NAMES: dict[str, Format] = {
    "iso": ISO,
    "epoch_s": EpochFormat("no number of seconds since 1970", 1_000_000, digits=6),
    "epoch_ms": EpochFormat("no number of milliseconds since 1970", 1000, digits=3),
    "epoch_us": EpochFormat("no number of microseconds since 1970", 1),
    "epoch_ns": EpochFormat("no number of nanoseconds since 1970", 1, per_us=1000),
}
WRITABLE = '"%Y-%m-%d %H:%M:%S" with the directives of the text, "iso", "epoch_s", "epoch_ms", '
WRITABLE += '"epoch_us" or "epoch_ns"'


def format_of(text: str) -> Format:
    """The format that a source names. DefinitionError for one that is none."""
    if not isinstance(text, str) or not text:
        raise DefinitionError(f"timestamp_format is {text!r}; write {WRITABLE}")
    return _format_of(text)


@lru_cache(maxsize=256)
def _format_of(text: str) -> Format:
    if "%" not in text:
        if text not in _NAMES:
            raise DefinitionError(f"timestamp_format {text!r} is none; write {WRITABLE}")
        return _NAMES[text]
    for short, long in _SHORT.items():
        text_ = text.replace("%%", "\0")
        text = text_.replace(f"%{short}", long).replace("\0", "%%")
    names, pattern = [], ""
    for directive, plain in _PIECE.findall(text):
        if plain:
            pattern += re.escape(plain)
            continue
        if directive not in _DIRECTIVES:
            raise DefinitionError(
                f"timestamp_format {text!r}: %{directive} is none of its directives, {_NAMED}"
            )
        pattern += _DIRECTIVES[directive]
        if directive not in "a%":
            names.append(directive)
    _check(text, names)
    return TextFormat(f"no instant of the form {text}", pattern, tuple(names))


def _check(text: str, names: list[str]) -> None:
    for one in names:
        if names.count(one) > 1:
            raise DefinitionError(f"timestamp_format {text!r} has %{one} twice")
    for group in (("Y", "y"), ("m", "b"), ("d",)):
        if sum(one in names for one in group) != 1:
            shown = " or ".join(f"%{one}" for one in group)
            raise DefinitionError(
                f"timestamp_format {text!r} needs a year, a month and a day; it has {shown} "
                f"{'twice' if any(one in names for one in group) else 'nowhere'}"
            )
    if ("I" in names) != ("p" in names) or ("I" in names and "H" in names):
        raise DefinitionError(
            f"timestamp_format {text!r}: an hour is %H, or %I with %p, its half of the day"
        )


def parsed(text: str, format_: TextFormat) -> dt.datetime | None:
    """The instant that a text stands for, naive where it has no offset; None if there is none.
    Digits beyond the microsecond are dropped."""
    found = re.fullmatch(format_.pattern, text)
    if found is None:
        return None
    groups = dict(zip(format_.names, found.groups(), strict=True))
    number = {name: int(value or 0) for name, value in groups.items() if name in "YymdHIMS"}
    year = number.get("Y", 0)
    if "y" in number:
        year = number["y"] + (2000 if number["y"] <= 68 else 1900)
    month = number.get("m") or MONTHS.index(groups["b"][:3].lower()) + 1
    hour = number.get("H", 0)
    if "I" in number:
        hour = number["I"] % 12 + 12 * (groups["p"].lower() == "pm")
    micro = int((groups.get("f") or "")[:6].ljust(6, "0"))
    try:
        local = dt.datetime(
            year, month, number["d"], hour, number.get("M", 0), number.get("S", 0), micro
        )
    except ValueError:
        return None
    offset = groups.get("z")
    return local.replace(tzinfo=_zone(offset)) if offset else local


def _zone(offset: str) -> dt.tzinfo:
    if offset in "Zz":
        return dt.UTC
    digits = re.sub("[^0-9]", "", offset).ljust(6, "0")
    hours, minutes, seconds = (int(digits[at : at + 2]) for at in (0, 2, 4))
    span = dt.timedelta(hours=hours, minutes=minutes, seconds=seconds)
    return dt.timezone(-span if offset[0] == "-" else span)


EPOCH_TEXT = "([+-]?[0-9]{1,19})(?:[.]([0-9]+))?"
"""A whole number, or one with digits after the point."""


def epoch_us(value: int | str, format_: EpochFormat) -> int | None:
    """Microseconds since 1970 of a number, or of its text, floored; None for a text that is no
    number."""
    if not isinstance(value, str):
        return value * format_.us // format_.per_us
    found = re.fullmatch(EPOCH_TEXT, value)
    if found is None:
        return None
    after, digits = found[2] or "", format_.digits
    units = abs(int(found[1])) * format_.us + int(after[:digits].ljust(digits, "0") or 0)
    if value[0] == "-":
        units = -units - bool(after[digits:].strip("0"))
    return units // format_.per_us


def formats_of(
    given: str | Mapping[str, str] | None, columns: tuple[str, ...]
) -> dict[str, Format]:
    """The format of each column that has one; a text is the format of all `columns`.
    DefinitionError for a format that is none."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        given = dict.fromkeys(columns, given)
    unknown = [name for name in given if name not in columns]
    if unknown:
        raise DefinitionError(
            f"timestamp_format names {unknown[0]!r}, which is no timestamp of the source; it has "
            f"{', '.join(columns)}"
        )
    return {name: format_of(text) for name, text in given.items()}
