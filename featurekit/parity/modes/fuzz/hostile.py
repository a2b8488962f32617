"""Values of every type of the language, hostile on purpose: edges, neighbours of edges, and the odd
corners of floats, calendars and Unicode. Nothing that a source would refuse (S1)."""

from __future__ import annotations

import datetime as dt
import math
import random
import struct
from collections.abc import Callable
from typing import Any

from featurekit.core.types import (
    EPOCH,
    INSTANT_MAX,
    INSTANT_MIN,
    INT_MAX,
    INT_MIN,
    MICROSECOND,
    Type,
)
from featurekit.core.types import instant as instant_of
from featurekit.language.ops.table import EDGES


def value(type_: Type, rng: random.Random) -> Any:
    """Any value of the type, hostile on purpose; None at times where the type has it."""
    if type_.optional:
        return None if rng.random() < 0.3 else value(type_.base, rng)
    if type_.item is not None:
        item, size = type_.item, rng.choice((0, 1, 1, 2, 3, 5, 9))
        if type_.name == "dict":
            return {value(item, rng): rng.randint(1, 9) for _ in range(size)}
        pool = [value(item, rng) for _ in range(rng.randint(1, 4))]
        mixed = rng.random() < 0.5
        return [rng.choice(pool) if mixed else value(item, rng) for _ in range(size)]
    if rng.random() < 0.15:
        return rng.choice(EDGES[type_])
    return _VALUES[type_.name](rng)


def _int(rng: random.Random) -> int:
    match rng.randrange(5):
        case 0:
            return rng.randint(-20, 20)
        case 1:
            return _clamp(rng.choice((1, -1)) * rng.getrandbits(rng.randint(1, 64)))
        case 2:
            return _clamp(rng.choice((1, -1)) * (1 << rng.randint(0, 63)) + rng.randint(-2, 2))
        case 3:
            return _clamp(rng.choice((1, -1)) * 10 ** rng.randint(0, 18) + rng.randint(-2, 2))
        case _:
            return rng.randint(-1_000_000, 1_000_000)


def _clamp(number: int) -> int:
    return min(max(number, INT_MIN), INT_MAX)


def _float(rng: random.Random) -> float:
    match rng.randrange(8):
        case 0:
            return struct.unpack("<d", rng.randbytes(8))[0]  # type: ignore[no-any-return]
        case 1:
            return rng.randint(-40, 40) / 4
        case 2:
            return rng.randint(-(10**7), 10**7) / 100
        case 3:
            return rng.uniform(-1, 1)
        case 4:
            return rng.uniform(-800, 800)
        case 5:
            return math.nextafter(rng.choice(EDGES[Type("float")]), rng.choice((-1, 1)) * math.inf)
        case 6:
            return rng.randint(-(10**6), 10**6) / 1000 + 0.0005
        case _:
            return rng.choice((1, -1)) * rng.uniform(1, 10) * 10.0 ** rng.randint(-30, 30)


_ALPHABETS = (
    "abcABCxyz 019_",
    "aA \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2003\u2028\u2029\u202f\u205f\u3000",
    "b \u200b\ufeff\u180e\u2060",
    "aßẞſİıiIKKÅåΣσςΑα\u0301\u0345\u0307ﬁﬃŉǰΐǆǅǄᾳᾼ",
    "0123456789+-._eE ",
    "0٣९²½Ⅷ①\u0660\U0001d7d8",
    "😀👩\u200d👧🏳️\U0010ffff\U00010400\U00010428\uffff\x00\x7f\x80",
    "a,b;c/d:e@f.g-h%_'\"\\{}",
    "éèüöñçøÆœŠžčЖжЯяΩωҐґ",
)
_WORDS = ("the", "Quick", "BROWN", "foo@bar.com", "O'Neil", "it's", "x1y", "nan", "-inf", "True")


def _str(rng: random.Random) -> str:
    match rng.randrange(6):
        case 0:
            return "".join(_character(rng) for _ in range(rng.randint(0, 6)))
        case 1:
            return rng.choice((" ", "", "-", ", ")).join(rng.choices(_WORDS, k=rng.randint(1, 3)))
        case 2:
            mixed = rng.choice(_ALPHABETS) + rng.choice(_ALPHABETS)
            return "".join(rng.choices(mixed, k=rng.randint(0, 10)))
        case 3:
            number = rng.choice((_int, _float))(rng)
            return rng.choice(("{}", " {} ", "+{}", "{:_}", "0{}", "{}\n")).format(number)
        case _:
            return "".join(rng.choices(rng.choice(_ALPHABETS), k=rng.randint(0, 9)))


def _character(rng: random.Random) -> str:
    limit = rng.choice((0x80, 0x100, 0x600, 0x3000, 0x10000, 0x110000))
    point = rng.randrange(limit)
    return chr(point) if not 0xD800 <= point <= 0xDFFF else "\ufffd"


def _bytes(rng: random.Random) -> bytes:
    return rng.choice((rng.randbytes(rng.randint(0, 6)), _str(rng).encode()))


def _instant(rng: random.Random) -> dt.datetime:
    day = 86_400_000_000
    match rng.randrange(5):
        case 0:
            return instant_of(rng.randint(INSTANT_MIN, INSTANT_MAX))
        case 1:
            us = rng.randint(INSTANT_MIN // day + 1, INSTANT_MAX // day) * day
            return instant_of(us + rng.choice((-1, 0, 1)))
        case 2:
            return instant_of(rng.randint(0, 2_000_000_000) * 1_000_000)
        case 3:  # clock changes fall on whole hours of the last Sundays
            hours = rng.randint(-600_000, 1_200_000) * 3_600_000_000
            return instant_of(hours + rng.choice((-1, 0, 1, 1_800_000_000)))
        case _:
            return instant_of(rng.randint(-3_000_000_000_000_000, 3_000_000_000_000_000))


def _span(rng: random.Random) -> dt.timedelta:
    match rng.randrange(3):
        case 0:
            return dt.timedelta(days=rng.randint(-400, 400), seconds=rng.choice((0, 0, 3600, -1)))
        case 1:
            return rng.randint(-(10**10), 10**10) * MICROSECOND
        case _:
            return _int(rng) * MICROSECOND


_VALUES: dict[str, Callable[[random.Random], Any]] = {
    "bool": lambda rng: rng.random() < 0.5,
    "int": _int,
    "float": _float,
    "str": _str,
    "bytes": _bytes,
    "datetime": _instant,
    "date": lambda rng: _instant(rng).date(),
    "timedelta": _span,
}


def mutated(value: Any, rng: random.Random) -> Any:
    """The value itself, a neighbour or a part of it."""
    if rng.random() < 0.4:
        return value
    match value:
        case bool():
            return not value
        case int():
            return _clamp(rng.choice((value + 1, value - 1, -value, value * 2)))
        case float():
            near = math.nextafter(value, rng.choice((-1, 1)) * math.inf)
            return rng.choice((near, -value, value * 2))
        case str() | bytes() | list() if value and rng.random() < 0.6:
            start = rng.randrange(len(value))
            return value[start : start + rng.randint(0, len(value))]
        case str():
            at = rng.randint(0, len(value))
            return value[:at] + _character(rng) + value[at + rng.randint(0, 1) :]
        case dt.datetime():
            us = (value - EPOCH) // MICROSECOND + rng.choice((-1, 1, 86_400_000_000))
            return instant_of(min(max(us, INSTANT_MIN), INSTANT_MAX))
        case dt.timedelta():
            return _clamp(-(value // MICROSECOND)) * MICROSECOND
        case _:
            return value
