"""Operators on timedelta, an int64 of microseconds: beyond it is an error (R3)."""

from __future__ import annotations

import datetime as dt
from typing import Any

from featurekit.core.types import FLOAT, INT, INT_MAX, INT_MIN, TIMEDELTA
from featurekit.language.ops.instant import SECONDS
from featurekit.language.ops.number import given_between, int_sql
from featurekit.language.ops.table import Op, register

_S = TIMEDELTA
_UNITS = {
    "days": 86_400_000_000,
    "seconds": 1_000_000,
    "microseconds": 1,
    "milliseconds": 1_000,
    "minutes": 60_000_000,
    "hours": 3_600_000_000,
    "weeks": 604_800_000_000,
}
"""In the order of timedelta's parameters."""


def _like_int(name: str, python: str, result: Any = _S, second: Any = _S) -> Op:
    """An operator that does to microseconds what it does to ints."""
    params = (_S, second) if "{1}" in python else (_S,)
    shown = f"span({python})" if result == _S else python
    return Op(name, params, result, shown, int_sql(name), raises=True)


def _one_unit(*values: Any) -> str | None:
    """`timedelta(hours=n)`: one variable, and zeros for the others."""
    variable = [i for i, v in enumerate(values) if v is None]
    if len(variable) != 1 or any(values[i] != 0 for i in range(7) if i != variable[0]):
        return None
    place, unit = variable[0], list(_UNITS.values())[variable[0]]
    low, high = -(-INT_MIN // unit), INT_MAX // unit
    return given_between(f"{{{place}}}", low, high, f"{{{place}}} * {unit}")


_NEW = "span(dt.timedelta({0}, {1}, {2}, {3}, {4}, {5}, {6}))"
_DAY = _UNITS["days"]
_DAYS = f"xor(xor({{0}}, {{0}} >> 63) // {_DAY}, {{0}} >> 63)"  # see number.py
_REST = f"(xor(xor({{0}}, {{0}} >> 63) % {_DAY}, {{0}} >> 63) + ({_DAY} & ({{0}} >> 63)))"
_HALVES = tuple(
    (dt.timedelta(microseconds=us), n) for us in (5, -5, 7, 15, 25) for n in (2, -2, 10)
)

register(
    _like_int("+", "{0} + {1}"),
    _like_int("-", "{0} - {1}"),
    _like_int("*", "{0} * {1}", second=INT),
    Op("*", (INT, _S), _S, "span({0} * {1})", int_sql("*"), raises=True),
    _like_int("negative", "-{0}"),
    Op("positive", (_S,), _S, "+{0}", "{0}"),
    _like_int("abs", "abs({0})"),
    _like_int("//", "{0} // {1}", INT),
    _like_int("//", "{0} // {1}", second=INT),
    _like_int("%", "{0} % {1}"),
    _like_int("/", "{0} / {1}", FLOAT),
    # Halves go to the even microsecond.
    Op("/", (_S, INT), _S, "span({0} / {1})", raises=True, edges=_HALVES),
    Op(
        "/",
        (_S, FLOAT),
        _S,
        "span({0} / {1})",
        raises=True,
        promote="none",
        edges=tuple((s, float(n)) for s, n in _HALVES),
    ),
    Op("*", (_S, FLOAT), _S, "span({0} * {1})", raises=True, promote="none"),
    Op("*", (FLOAT, _S), _S, "span({0} * {1})", raises=True, promote="none"),
    Op(
        "timedelta.total_seconds",
        (_S,),
        FLOAT,
        "{0}.total_seconds()",
        SECONDS.replace("{us}", "{0}"),
    ),
    Op("timedelta.days", (_S,), INT, "{0}.days", _DAYS),
    Op("timedelta.seconds", (_S,), INT, "{0}.seconds", f"{_REST} // 1000000"),
    Op("timedelta.microseconds", (_S,), INT, "{0}.microseconds", f"{_REST} % 1000000"),
    Op(
        "timedelta",
        (INT,) * 7,
        _S,
        _NEW,
        raises=True,
        literal_sql=_one_unit,
        names=tuple(_UNITS),
        defaults=(0,) * 7,
        edges=tuple(
            tuple(n if i == place else 0 for i in range(7))
            for place in range(7)
            for n in (1, -3, 2**62)
        ),
    ),
    Op(
        "timedelta",
        (FLOAT,) * 7,
        _S,
        _NEW,
        raises=True,
        promote="none",
        names=tuple(_UNITS),
        defaults=(0.0,) * 7,
        edges=tuple(
            tuple(n if i == place else 0.0 for i in range(7))
            for place in range(7)
            for n in (0.1, -2.5, 1e-7, 1e9)
        ),
    ),
)
