"""What the functions are about: parameters with awkward values, and the module around them."""

from __future__ import annotations

import datetime as dt
import random
from typing import Any

from featurekit.core.types import (
    BOOL,
    BYTES,
    DATE,
    DATETIME,
    FLOAT,
    INT,
    STR,
    TIMEDELTA,
    Type,
    dict_of,
    list_of,
)
from featurekit.language.ops.table import EDGES

PARAMETERS: dict[str, str] = {
    "a": "int",
    "b": "int",
    "k": "int",
    "x": "float",
    "y": "float",
    "p": "bool",
    "q": "bool",
    "s": "str",
    "u": "str",
    "oa": "int | None",
    "ox": "float | None",
    "os": "str | None",
    "op": "bool | None",
    "li": "list[int]",
    "lf": "list[float]",
    "ls": "list[str]",
    "w": "str",  # often a number or a time
    "r": "bytes",
    "t": "datetime",
    "e": "datetime",
    "d": "date",
    "g": "timedelta",
    "ob": "bytes | None",
    "ot": "datetime | None",
    "od": "date | None",
    "og": "timedelta | None",
    "lt": "list[datetime]",
    "ol": "list[int] | None",
    "lo": "list[float | None]",
    "dc": "dict[str, int]",
}
SCALARS = ("int", "float", "bool", "str", "bytes", "datetime", "date", "timedelta")
_TYPES = {
    "int": INT,
    "float": FLOAT,
    "bool": BOOL,
    "str": STR,
    "bytes": BYTES,
    "datetime": DATETIME,
    "date": DATE,
    "timedelta": TIMEDELTA,
}

MODULE = """\
import enum
from itertools import pairwise
from featurekit import bucket, cosine, dot, norm

RATES = {"a": 0.5, "b": -2.0, "": 1e308, "C536379": 0.1}
POINTS = {1: 7, 0: -1, -1: 2**62, 7: 0, 10: 3}
HOLIDAYS = {date(2024, 3, 31): "spring", date(2024, 12, 25): "xmas", date(2023, 12, 31): ""}
WORDS = ("a", "C", "", "b")
LEVELS = (0.5, 2.0, -1.0)
BANDS = ((1, 0.5), (2, 1.5), (7, -1.0))
LIMIT = 10
SCALE = 2.5
START = datetime(2024, 3, 31, 1, tzinfo=timezone.utc)
DAY = timedelta(days=1)
LONDON = ZoneInfo("Europe/London")
CODE = re.compile("([A-C])([0-9]*)", re.I)


class Shop(enum.StrEnum):
    WEB = "a"
    STORE = "C"


class Both(NamedTuple):
    low: float
    high: float | None


def ratio(n: float, d: float, empty: float = 0.0) -> float:
    if d == 0.0:
        return empty
    return n / d


def clip(n: int, low: int = 0, high: int = 100) -> int:
    return max(low, min(n, high))


def step(n: int, m: int | None) -> int | None:
    if m is None or m < 0:
        return None
    return n // m


def split(n: int, d: int) -> tuple[int, int]:
    return n // d, n % d


def bounds(v: float) -> Both:
    if v != v:
        return Both(0.0, None)
    return Both(low=v - 1.0, high=v + 1.0)


def age(until: datetime, since: datetime | None) -> float | None:
    if since is None or since > until:
        return None
    return (until - since).total_seconds() / 3600.0


def office(at: datetime) -> bool:
    local = at.astimezone(LONDON)
    if local.weekday() >= 5:
        return False
    return 9 <= local.hour < 17


@feature
def sign(x: float) -> int:
    assert x == x
    if x > 0.0:
        return 1
    elif x < 0.0:
        return -1
    return 0


"""


def _utc(*parts: int) -> dt.datetime:
    return dt.datetime(*parts[:6], parts[6] if len(parts) > 6 else 0, dt.UTC)  # type: ignore[arg-type]


def _around(*changes: dt.datetime) -> list[dt.datetime]:
    """Just before and after, and half an hour and an hour to both sides."""
    steps = [dt.timedelta(microseconds=-1), *(dt.timedelta(minutes=m) for m in (-60, 0, 30, 60))]
    return [change + step for change in changes for step in steps]


# Clock changes of London, New York, Lord Howe, Samoa (which left out a day) and Casablanca.
_CHANGES = _around(
    _utc(2024, 3, 31, 1, 0, 0),
    _utc(2024, 10, 27, 1, 0, 0),
    _utc(2024, 11, 3, 6, 0, 0),
    _utc(2024, 4, 6, 15, 0, 0),
    _utc(2011, 12, 30, 10, 0, 0),
    _utc(2024, 4, 14, 2, 0, 0),
)
_TIMES = [
    *_CHANGES,
    *(_utc(*p, 0, 0) for p in ((2024, 2, 29, 12), (2023, 12, 31, 23), (2024, 1, 1, 0))),
    *(_utc(2024, 3, 29, 9, 30, 15, 250_000), _utc(1999, 12, 31, 23, 59, 59, 999_999)),
    *(_utc(2039, 7, 1, 0, 0, 0), _utc(1969, 12, 31, 23, 59, 59), _utc(1916, 5, 21, 2, 0, 0)),
]
_SPANS = [
    *(dt.timedelta(days=n) for n in (-7, -1, 0, 1, 1, 7, 30)),
    *(dt.timedelta(hours=n) for n in (-1, 1, 24, 36)),
    *(dt.timedelta(minutes=90), dt.timedelta(seconds=1.5), dt.timedelta(microseconds=-5)),
]
_PARSED = [
    *(
        "12",
        "-7",
        " 10 ",
        "1_000",
        "0",
        "007",
        "1e3",
        "0.5",
        "-2.5",
        "nan",
        "inf",
        "1.",
        "٣",
        "0x1f",
    ),
    *("2024-02-29", "2023-02-29", "2024-03-31", "2024-W13-7", "1999-12-31"),
    *("2024-03-31T01:30:00+00:00", "2024-03-31T01:30:00Z", "2024-10-27 00:30:00.250000+01:00"),
    *("2024-03-31 00:59:59", "2024-03-31T24:00:00", "20240331T010000Z", "31/03/2024 01:00"),
]
_SMALL: dict[str, list[Any]] = {
    "int": [-3, -2, -1, 0, 0, 1, 1, 2, 3, 4, 7, 10, 12],
    "float": [-2.5, -1.0, -0.0, 0.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 7.25, 10.0],
    "bool": [True, False],
    "str": ["", "a", "b", "C", "ab", "C1", " a "],
    "bytes": [b"", b"a", b"ab", b"C1", b"\xff", b"\xc3\xa9"],
    "datetime": _TIMES,
    "date": sorted({t.date() for t in _TIMES}),
    "timedelta": _SPANS,
}


def columns(rows: int, seed: int = 7) -> dict[str, tuple[Type, list[Any]]]:
    """Awkward values for every parameter: edges, and small ones that meet each other often."""
    chance = random.Random(seed)

    def one(kind: str) -> Any:
        edges = EDGES[_TYPES[kind]]
        near = chance.random() < (0.85 if kind in ("datetime", "date", "timedelta") else 0.65)
        return chance.choice(_SMALL[kind]) if near else chance.choice(edges)

    def value(hint: str) -> Any:
        if hint.endswith(" | None"):
            return None if chance.random() < 0.3 else value(hint.removesuffix(" | None"))
        if hint.startswith("dict["):
            return {value("str"): value("int") for _ in range(chance.choice((0, 1, 2, 4)))}
        if hint.startswith("list["):
            return [value(hint[5:-1]) for _ in range(chance.choice((0, 1, 2, 3, 5)))]
        return one(hint)

    def texts(hint: str) -> Any:
        return chance.choice(_PARSED) if chance.random() < 0.8 else value(hint)

    return {
        name: (type_of(hint), [(texts if name == "w" else value)(hint) for _ in range(rows)])
        for name, hint in PARAMETERS.items()
    }


def type_of(hint: str) -> Type:
    """The value type that an annotation names."""
    if hint.endswith(" | None"):
        return type_of(hint.removesuffix(" | None")).or_none()
    if hint == "dict[str, int]":
        return dict_of(STR)
    return list_of(type_of(hint[5:-1])) if hint.startswith("list[") else _TYPES[hint]
