"""The operator table: a new operator is one row for each tuple of types.

Beside the row, it needs its name in `docs/language.md`, its `platform` if libm, Unicode or tzdata
decide its value (R6), and a new proof of the versions of DuckDB (`python -m tests.prove`).

A row says what the operator means (`python`, a template that is also the online code), and how
DuckDB computes the same bits (`sql`). Where no SQL is proven identical, `sql` is None, and DuckDB
calls the Python meaning, vectorised over distinct inputs (R5).

Two rules hold for `sql`, and the tests check them for every row: it is NULL where Python raises,
and NULL where an argument is NULL. So, as no argument is ever None (R2), NULL *is* the error (R3).
A row writes the first rule; `Op.template` adds the second where DuckDB does not ensure it.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from featurekit.core.sql import text_literal
from featurekit.core.types import (
    BOOL,
    BYTES,
    DATE,
    DATETIME,
    EPOCH,
    FLOAT,
    INSTANT_MAX,
    INSTANT_MIN,
    INT,
    INT_MAX,
    INT_MIN,
    MICROSECOND,
    STR,
    TIMEDELTA,
    Type,
    dict_of,
    instant,
    list_of,
)
from featurekit.core.values import Beyond, NoAttribute, WrongType

# What a Python template may name besides its arguments.
NAMESPACE: dict[str, Any] = {"math": math, "dt": dt}

# What a well-typed expression of the language can raise. Anything else is a bug, not an error (R3).
ERRORS = (ArithmeticError, ValueError, LookupError, Beyond, WrongType, NoAttribute)


STRICT = frozenset(
    {
        *("abs", "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "ceil", "chr"),
        *("cos", "cosh", "day", "dayofyear", "encode", "ends_with", "epoch_us", "exp", "floor"),
        *("gcd", "hex", "hour", "isfinite", "isinf", "isnan", "isodow", "isoyear", "left", "len"),
        *("length", "ln", "log10", "log2", "lower", "ltrim", "make_date", "make_timestamp", "md5"),
        *("md5_number_upper", "microsecond", "minute", "month", "nullif", "octet_length", "pow"),
        *("regexp_full_match", "regexp_matches", "repeat", "replace", "right", "round"),
        *("round_even", "rtrim", "second", "sha1", "sha256", "signbit", "sin", "sinh", "sqrt"),
        *("starts_with", "strftime", "strlen", "strpos", "substring", "tan", "tanh", "trim"),
        *("trunc", "unicode", "upper", "week", "xor", "year"),
    }
)
"""DuckDB's functions that give NULL for NULL, so that a row may rely on it.

They take a fixed number of plain values, and DuckDB itself passes NULL on before it calls them.
Functions of lists and maps, and those of any number of arguments, have rules of their own, which
changed from one release to the next: list_contains([], NULL) and map_contains(MAP {}, NULL) are
NULL in DuckDB 2.0.0 and FALSE in 2.0.1.
"""

# Keywords are written in capitals. A bracket after a value is a call, too: it takes an item.
_CALL = re.compile(r"\b([a-z_][a-z_0-9]*)\(|[\])}](\[)")


def lenient_calls(sql: str) -> set[str]:
    """The functions that a template calls and that are not in `STRICT`; "[" stands for access to an
    item."""
    calls = _CALL.findall(re.sub(r"'[^']*'", "''", sql))
    return {name or bracket for name, bracket in calls} - STRICT


@dataclass(frozen=True, slots=True)
class Own:
    """A default taken from a field of the first argument: `d.replace(hour=0)` keeps `d.year`."""

    attribute: str


@dataclass(frozen=True, slots=True)
class Op:
    """One row: `name` as written ("+", "math.log", "str.strip"), parameter and result types.

    - `{python}` in `sql` stands for a call of the Python meaning. `steps` are expressions of the
      arguments that DuckDB computes once; they are further arguments, as `{2}` in a row of two.
    - `literal_sql` is given the value of each argument that is a literal, else None. It gives a
      faster `sql` for these, or None.
    - `raises`: whether some input makes it an error.
    - `edges`: inputs worth a test, besides the edges of the types themselves.
    - `promote`: which ints the row takes as floats. "all"; "some", where at least one argument is a
      float already, since two ints mean something else; or "none", where the result would be the
      int itself.
    - `literals`: the positions of arguments that must be literals. `check` is given the same values
      as `literal_sql`, and gives the reason why these are not possible, or None.
    - `names`: the parameters' names as keywords, "" for one without. `defaults`: those of the last
      parameters.
    - `platform`: the part of the platform that decides a value: "libm", "unicode", "tzdata",
      "urllib" or "" (R6).
    """

    name: str
    params: tuple[Type, ...]
    result: Type
    python: str
    sql: str | None = None
    raises: bool = False
    edges: tuple[tuple[Any, ...], ...] = ()
    promote: str = "all"
    literals: tuple[int, ...] = ()
    check: Callable[..., str | None] | None = None
    literal_sql: Callable[..., str | None] | None = None
    steps: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    defaults: tuple[Any, ...] = ()
    platform: str = ""

    def template(self, literals: Sequence[Any] = ()) -> str:
        """The SQL of the row. `literals` has the values of literal arguments, None for the others.

        It is NULL where an argument is, whatever DuckDB's functions give for NULL: where it calls
        one that is not in `STRICT`, no argument that is NULL reaches it.
        """
        made = None
        if self.literal_sql is not None and any(v is not None for v in literals):
            made = self.literal_sql(*literals)
        made = made or self.sql or "{python}"
        if not lenient_calls("".join((made, *self.steps))):
            return made
        given = range(len(self.params))
        tests = [f"{{{i}}} IS NOT NULL" for i in given if i >= len(literals) or literals[i] is None]
        return f"CASE WHEN {' AND '.join(tests)} THEN {made} END" if tests else made

    @property
    def key(self) -> str:
        """The key that `ir.Call` has: the name with the types."""
        return f"{self.name}({','.join(map(str, self.params))})"

    def body(self) -> Callable[..., Any]:
        """The meaning, as a Python function that raises where the operator errs."""
        names = [f"a{i}" for i in range(len(self.params))]
        text = f"lambda {', '.join(names)}: {self.python.format(*names)}"
        function: Callable[..., Any] = eval(text, dict(NAMESPACE))
        if self.result.name != "int" or not self.raises:
            return function

        def checked(*args: Any) -> Any:
            result = function(*args)
            if not INT_MIN <= result <= INT_MAX:
                raise Beyond("an int outside int64")
            return result

        return checked


TABLE: dict[str, Op] = {}
"""Every operator by its key."""

BY_NAME: dict[str, list[Op]] = {}
"""The rows of each name, in the order of the table."""


def register(*rows: Op) -> None:
    """Add rows to the table. ValueError where a key has a row already."""
    for row in rows:
        if row.key in TABLE:
            raise ValueError(f"two rows for {row.key}")
        TABLE[row.key] = row
        BY_NAME.setdefault(row.name, []).append(row)


def find(name: str, types: tuple[Type, ...]) -> tuple[Op, tuple[str | None, ...]] | None:
    """The row for arguments of these types; None where there is no row.

    With it comes, for each argument, the key of the conversion that Python itself would apply first
    (bool to int, int to float), or None.
    """
    rows = [r for r in BY_NAME.get(name, ()) if len(r.params) == len(types)]
    best: tuple[int, Op, tuple[str | None, ...]] | None = None
    for row in rows:
        steps = [_step(a.base, p) for a, p in zip(types, row.params, strict=True)]
        if any(s is None for s in steps):
            continue
        costs = [s[0] for s in steps if s]
        if any(costs) and (row.promote == "none" or (row.promote == "some" and all(costs))):
            continue
        cost = sum(costs)
        if best is None or cost < best[0]:
            best = cost, row, tuple(s[1] for s in steps if s)
    return best and (best[1], best[2])


def _step(found: Type, wanted: Type) -> tuple[int, str | None] | None:
    if found == wanted:
        return 0, None
    if (found, wanted) == (BOOL, INT):
        return 1, "int(bool)"
    if (found, wanted) == (INT, FLOAT):
        return 2, "float(int)"
    if (found, wanted) == (BOOL, FLOAT):
        return 3, "float(bool)"
    return None


def template_literal(value: str) -> str:
    """A VARCHAR literal for a template, with its braces escaped."""
    return text_literal(value, apart="{}\0")


_DAY_US = 86_400_000_000
_INSTANTS = (
    *(0, 1, -1, 999_999, -_DAY_US, _DAY_US - 1, 951_782_400_000_000, 1_582_934_400_000_001),
    *(1_798_761_599_999_999, 1_711_846_799_999_999, 1_711_846_800_000_000, 1_729_990_800_000_000),
    *(INSTANT_MIN, INSTANT_MAX, -62_135_510_400_000_000, -30_610_224_000_000_001),
    *(2**53, -(2**53) - 1, 4_102_444_800_000_000, 32_503_680_000_123_456),
)
_SPANS_US = (
    *(0, 1, -1, 999_999, 1_000_000, -1_500_000, _DAY_US, -_DAY_US - 1, 2**53 + 1, -(2**62)),
    *(INT_MAX, INT_MIN, 36_000_000_000, INSTANT_MAX, INSTANT_MIN, 3, 7),
)
MIN_SPAN, MAX_SPAN = INT_MIN * MICROSECOND, INT_MAX * MICROSECOND
"""A timedelta is an int64 of microseconds, which is less than Python's range; outside is an error
(R3)."""

EDGES: dict[Type, tuple[Any, ...]] = {
    BOOL: (False, True),
    INT: (
        *(0, 1, -1, 2, -2, 3, 7, 10, 63, 64, 2**31, 2**53, 2**53 + 1, -(2**53) - 1, 2**62),
        *(2**63 - 1, -(2**63), -(2**63) + 1, 3037000500),
    ),
    FLOAT: (
        *(0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, 0.1, 1e-308, 5e-324, 1e16, 1e300, -1e300),
        *(2.0**53, 2.0**53 + 2, 2.0**63, -(2.0**63), 1.7976931348623157e308, 709.78, 710.0),
        *(math.inf, -math.inf, math.nan, 0.49999999999999994, 4503599627370497.5, 7.0, -7.0, 3.0),
    ),
    STR: (
        *("", "a", "A", " a ", "\t\n x\u00a0\u2003", "ß", "İ", "ı", "ﬁ", "é", "e\u0301", "C536379"),
        *("😀", "a😀b", "\x00", "'", '"', "%", "_", "\\", "0", "12", "-5", "1.5", "nan", "abcabc"),
        *("ΑΣ", "ǆ", "\x1c", "²", "१", "{python}", "{0}", "a,b,,c", "a\nb\n", "hello World"),
    ),
    BYTES: (b"", b"\x00", b"a", b"ab\xff", b"\xc3\xa9", b"\xed\xa0\x80", b"\\x41", b"'"),
    DATETIME: tuple(map(instant, _INSTANTS)),
    DATE: tuple(instant(us).date() for us in _INSTANTS),
    TIMEDELTA: tuple(us * MICROSECOND for us in _SPANS_US),
    list_of(BOOL): ([], [True], [False], [True, False]),
    list_of(INT): ([], [1], [2**63 - 1, 1], [2**63 - 1, 1, -1], [3, -1, 2], [0], [2**53 + 1, 1]),
    list_of(FLOAT): (
        *([], [0.1] * 10, [-0.0], [0.0, -0.0], [-0.0, 0.0], [math.nan, 1.0], [1.0, math.nan]),
        *([math.inf, -math.inf], [1e308, 1e308, -1e308], [1e308] * 2, [3.0, 4.0], [math.inf, 1.0]),
        *([1e16, 1.0, -1e16], [5e-324, 1.0], [2.0, 1.0, math.nan, 0.5]),
    ),
    list_of(STR): ([], ["a"], ["b", "a", "ß"], ["", " "], ["a", "a", "😀"]),
    list_of(BYTES): ([], [b""], [b"a", b"\x00"]),
    list_of(DATETIME): ([], [EPOCH], [instant(5), EPOCH], [instant(INSTANT_MAX)]),
    list_of(DATE): ([], [EPOCH.date()], [dt.date.max, dt.date.min]),
    list_of(TIMEDELTA): ([], [dt.timedelta(0)], [MICROSECOND, -MICROSECOND]),
    dict_of(BOOL): ({}, {False: 1}, {True: 5, False: 5}),
    dict_of(INT): ({}, {0: 1}, {2**53 + 1: 9, -1: 2, INT_MIN: 1}, {1: INT_MAX}),
    dict_of(STR): ({}, {"": 2}, {"a": 3, "ß": 1, "😀": 1}, {"A": 1}),
    dict_of(BYTES): ({}, {b"": 1}, {b"ab\xff": 4, b"a": 1}),
    dict_of(DATETIME): ({}, {EPOCH: 1}, {instant(5): 2, instant(INSTANT_MAX): 1}),
    dict_of(DATE): ({}, {EPOCH.date(): 3, dt.date.max: 1}),
    dict_of(TIMEDELTA): ({}, {dt.timedelta(0): 1}, {MICROSECOND: 2, -MICROSECOND: 1}),
}
"""The inputs of each type that every operator is tried on."""
