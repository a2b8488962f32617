"""Functions of Python's standard library, which Python itself computes on both paths.

An argument beyond what a result in int64 needs is an error at once: Python would compute on without
an end (R3).
"""

from __future__ import annotations

import bisect
import math
import statistics
import unicodedata
import urllib.parse
import zlib
from dataclasses import replace
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
    list_of,
)
from featurekit.core.values import Beyond, NoAttribute, WrongType
from featurekit.language.ops.table import NAMESPACE, Op, register

_MOST_CHOSEN, _MOST_FACTORS = 63, 20
"""From so many on, a number of choices or a factorial leaves int64."""


def _beyond() -> Any:
    raise Beyond("an int outside int64")


def _comb(n: int, k: int) -> int:
    few = min(k, n - k)
    return _beyond() if few > _MOST_CHOSEN and k <= n else math.comb(n, k)


def _perm(n: int, k: int) -> int:
    return _beyond() if _MOST_FACTORS < k <= n else math.perm(n, k)


def _factorial(n: int) -> int:
    return _beyond() if n > _MOST_FACTORS else math.factorial(n)


def _category(text: str) -> str:
    if len(text) != 1:
        raise WrongType("the category of a text that is not one character")
    return unicodedata.category(text)


def _spread(name: str, values: list[float]) -> float:
    """stdev and pstdev, which raise AttributeError where a value is not finite."""
    if not all(map(math.isfinite, values)):
        raise NoAttribute("the spread of values that are not finite")
    made: float = getattr(statistics, name)(values)
    return made


NAMESPACE |= {
    "bisect": bisect,
    "statistics": statistics,
    "zlib": zlib,
    "unicodedata": unicodedata,
    "urllib": urllib,
    "comb": _comb,
    "perm": _perm,
    "factorial": _factorial,
    "category": _category,
    "spread": _spread,
}

# --- numbers --------------------------------------------------------------------------------------

_FLOATS, _INTS = list_of(FLOAT), list_of(INT)
_INT = (INT, INT)
_CHOICES = ((5, 2), (62, 31), (67, 33), (66, 33), (2, 5), (2**62, 1), (2**62, 2), (-1, 1), (1, -1))


def _special(name: str, edges: tuple[float, ...] = (), *, raises: bool = False) -> Op:
    return Op(
        f"math.{name}",
        (FLOAT,),
        FLOAT,
        f"math.{name}({{0}})",
        raises=raises,
        edges=tuple((e,) for e in edges),
        platform="libm",
    )


def _counted(name: str, params: tuple[Type, ...], python: str, edges: Any) -> Op:
    return Op(name, params, INT, python, raises=True, edges=edges)


register(
    _special("erf", (0.3, -2.5, 6.0)),
    _special("erfc", (0.3, 27.0, -6.0)),
    _special("gamma", (0.5, 171.6, 172.0, -1.5, -1.0), raises=True),
    _special("lgamma", (0.5, 1e306, -1.5, -1.0), raises=True),
    _counted("math.comb", _INT, "comb({0}, {1})", _CHOICES),
    _counted("math.perm", _INT, "perm({0}, {1})", ((20, 20), (21, 21), (3, 5), *_CHOICES)),
    _counted("math.factorial", (INT,), "factorial({0})", ((20,), (21,), (-1,))),
    _counted("math.lcm", _INT, "math.lcm({0}, {1})", ((4, 6), (0, 3), (2**62, 3), (-4, 6))),
    _counted("math.isqrt", (INT,), "math.isqrt({0})", ((10,), (2**62,), (-1,))),
    Op("float.is_integer", (FLOAT,), BOOL, "({0}).is_integer()"),
    Op("int.bit_length", (INT,), INT, "({0}).bit_length()"),
    Op("zlib.crc32", (BYTES,), INT, "zlib.crc32({0})", edges=((b"123456789",),)),
    Op("zlib.adler32", (BYTES,), INT, "zlib.adler32({0})", edges=((b"123456789",),)),
    Op(
        "bytes.fromhex",
        (STR,),
        BYTES,
        "bytes.fromhex({0})",
        raises=True,
        edges=(("00ff",), ("00 fF",), ("0",), ("0g",), (" ",)),
    ),
)

# --- lists ----------------------------------------------------------------------------------------

_NUMBERS: tuple[list[float], ...] = (
    *([], [1.0], [1.0, 2.0], [3.0, 1.0, 2.0], [0.1] * 3, [1e308, 1e308], [math.inf, -math.inf]),
    *([math.nan, 1.0, 2.0], [1.0, math.nan], [5e-324, 0.0], [-0.0], [2.0, 2.0, 1.0, 1.0]),
)


def _summary(name: str, values: Type = _FLOATS) -> Op:
    edges = tuple((e,) for e in _NUMBERS) if values == _FLOATS else ()
    return Op(
        f"statistics.{name}",
        (values,),
        FLOAT,
        f"statistics.{name}({{0}})",
        raises=True,
        edges=edges,
    )


def _ordered(item: Type) -> tuple[Op, ...]:
    """Where a value belongs in a sorted list; in another list, where Python's search ends."""
    values = list_of(item)
    return tuple(
        Op(f"bisect.{name}", (values, item), INT, f"bisect.{name}({{0}}, {{1}})")
        for name in ("bisect_left", "bisect_right")
    )


register(
    *(
        _summary(name)
        for name in (
            *("mean", "fmean", "median", "median_low", "median_high"),
            *("variance", "pvariance"),
        )
    ),
    *(replace(_summary(name), python=f"spread({name!r}, {{0}})") for name in ("stdev", "pstdev")),
    _summary("fmean", _INTS),
)

for _item in (INT, FLOAT, STR, BYTES, DATETIME, DATE, TIMEDELTA):
    register(*_ordered(_item))

# --- texts ----------------------------------------------------------------------------------------


def _from(method: str, result: Type) -> tuple[Op, ...]:
    """A method of str that looks for another text from a place on, and up to another place."""
    raises = method.endswith("index")
    edges = (
        ("abcabc", "b", 2),
        ("abcabc", "b", -2),
        ("abc", "", 3),
        ("abc", "", 4),
        ("a😀b", "b", 2),
    )
    return (
        Op(
            f"str.{method}",
            (STR, STR, INT),
            result,
            f"{{0}}.{method}({{1}}, {{2}})",
            raises=raises,
            edges=edges,
        ),
        Op(
            f"str.{method}",
            (STR, STR, INT, INT),
            result,
            f"{{0}}.{method}({{1}}, {{2}}, {{3}})",
            raises=raises,
            edges=tuple((*e, 3) for e in edges),
        ),
    )


register(
    *(row for m in ("find", "rfind", "index", "rindex", "count") for row in _from(m, INT)),
    *(row for m in ("startswith", "endswith") for row in _from(m, BOOL)),
    Op(
        "unicodedata.category",
        (STR,),
        STR,
        "category({0})",
        raises=True,
        platform="unicode",
        edges=tuple((c,) for c in "aA1 .,é😀\u4e2d\u00ad\x00"),
    ),
    Op(
        "unicodedata.normalize",
        (STR, STR),
        STR,
        "unicodedata.normalize({0}, {1})",
        platform="unicode",
        literals=(0,),
        check=lambda form, text: (
            None
            if form in ("NFC", "NFD", "NFKC", "NFKD")
            else f"the form {form!r}: write NFC, NFD, NFKC or NFKD"
        ),
        edges=tuple((f, t) for f in ("NFC", "NFD", "NFKC", "NFKD") for t in ("é", "e\u0301", "ﬁ²")),
    ),
)

# --- URLs -----------------------------------------------------------------------------------------

URLS = (
    *("", "a", "http://a.b/c;d?e=f#g", "HTTP://User:Pw@HOST.example:8080/p/q?x=1&y=%20#z", "//h/p"),
    *(
        "http://[::1]:80/",
        "http://[::1",
        "http://h:99999/",
        "http://h:x/",
        "mailto:a@b",
        "a b\tc\n",
    ),
    *(" \x00http://h/", "http://h/\r\np", "http://\u2100.example/", "1http://h", "x:80", "h:80/p"),
    *("http:///p", "http://a@b@c/", "//[v1.a]/", "//[1.2.3.4]/", "http://\u212a/", "%41?%zz#+"),
)
"""Texts in which releases of `urllib.parse` differ, among others: they are in the fingerprint of
what a service takes from its platform (R6)."""
_URL_EDGES = tuple((u,) for u in URLS)


def _part(name: str, result: Type, python: str) -> Op:
    return Op(
        f"urllib.parse.urlparse.{name}",
        (STR,),
        result,
        python.format(f"urllib.parse.urlparse({{0}}).{name.rstrip('?')}"),
        raises=True,
        edges=_URL_EDGES,
        platform="urllib",
    )


def _quoting(name: str) -> Op:
    return Op(
        f"urllib.parse.{name}",
        (STR, STR),
        STR,
        f"urllib.parse.{name}({{0}}, safe={{1}})",
        names=("string", "safe"),
        defaults=("/",) if name == "quote" else ("",),
        edges=tuple((u, s) for u in URLS for s in ("/", "")),
        platform="urllib",
    )


register(
    *(
        _part(name, STR, "{}")
        for name in ("scheme", "netloc", "path", "params", "query", "fragment")
    ),
    *(_part(f"{name}?", BOOL, "{} is not None") for name in ("hostname", "username", "password")),
    *(_part(name, STR, "({} or '')") for name in ("hostname", "username", "password")),
    _part("port?", BOOL, "{} is not None"),
    _part("port", INT, "({} or 0)"),
    *map(_quoting, ("quote", "quote_plus")),
    *(
        Op(
            f"urllib.parse.{name}",
            (STR,),
            STR,
            f"urllib.parse.{name}({{0}})",
            edges=_URL_EDGES,
            platform="urllib",
        )
        for name in ("unquote", "unquote_plus")
    ),
)
