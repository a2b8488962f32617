"""`bool`, `int`, `float`, `str` and `format` of a value, as Python parses and prints."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

from featurekit.core.types import BOOL, DATE, DATETIME, FLOAT, INT, STR, TIMEDELTA, Type
from featurekit.language.ops.table import Op, register


def _narrow(spec: str) -> bool:
    return all(int(number) <= 1000 for number in re.findall(r"\d+", spec))


# Python itself reads texts of more than plain digits (spaces, underscores, all scripts).
_INT_TEXT = (
    "CASE WHEN {1}::VARCHAR = {0} THEN {1}"
    " WHEN regexp_full_match({0}, '[+-]?[0-9]{{1,18}}') THEN TRY_CAST({0} AS BIGINT)"
    " WHEN {0} IS NOT NULL THEN {python} END"
)
_FLOAT_TEXT = (
    "CASE WHEN regexp_full_match({0}, '[+-]?[0-9]{{1,17}}([.][0-9]{{0,17}})?')"
    " THEN TRY_CAST({0} AS DOUBLE) WHEN {0} IS NOT NULL THEN {python} END"
)
_NUMBERS = tuple(
    (t,)
    for t in (
        *("12", " -7\n", "+5", "1_000", "1__0", "٣", "9223372036854775807", "9223372036854775808"),
        *("0x10", "1e3", ".5", "5.", "-.5e-3", "Infinity", "-nan", "1e400", "0.1", "007", "-0"),
        *("123456789.125", "2.2250738585072011e-308", f"17976931348623157{'0' * 292}", "_1", "+-1"),
    )
)

register(
    Op("bool", (BOOL,), BOOL, "{0}", "{0}"),
    Op("bool", (INT,), BOOL, "{0} != 0", "({0} <> 0)"),
    Op("bool", (FLOAT,), BOOL, "{0} != 0.0", "({0} <> 0)"),  # NaN is true in both
    Op("bool", (STR,), BOOL, "{0} != ''", "({0} <> '')"),
    Op("bool", (TIMEDELTA,), BOOL, "bool({0})", "({0} <> 0)"),
    Op("int", (BOOL,), INT, "int({0})", "{0}::BIGINT"),
    Op("int", (INT,), INT, "{0}", "{0}"),
    Op(
        "int",
        (STR,),
        INT,
        "int({0})",
        _INT_TEXT,
        raises=True,
        edges=_NUMBERS,
        steps=("TRY_CAST({0} AS BIGINT)",),
        platform="unicode",
    ),
    Op(
        "int",
        (STR, INT),
        INT,
        "int({0}, {1})",
        raises=True,
        literals=(1,),
        check=lambda text, base: (
            None if base is None or base == 0 or 2 <= base <= 36 else "a base is 0 or from 2 to 36"
        ),
        edges=(("ff", 16), ("0b101", 0), ("zz", 36), ("12", 10), ("777", 8)),
        platform="unicode",
        names=("", "base"),
    ),
    Op("float", (BOOL,), FLOAT, "float({0})", "{0}::BIGINT::DOUBLE"),
    Op("float", (INT,), FLOAT, "float({0})", "{0}::DOUBLE"),
    Op("float", (FLOAT,), FLOAT, "{0}", "{0}"),
    Op(
        "float",
        (STR,),
        FLOAT,
        "float({0})",
        _FLOAT_TEXT,
        raises=True,
        edges=_NUMBERS,
        platform="unicode",
    ),
    Op("str", (BOOL,), STR, "str({0})", "CASE WHEN {0} THEN 'True' WHEN NOT {0} THEN 'False' END"),
    Op("str", (INT,), STR, "str({0})", "{0}::VARCHAR"),
    # Both print the shortest digits that give the same float; DuckDB also prints -nan.
    Op("str", (FLOAT,), STR, "str({0})", "CASE WHEN isnan({0}) THEN 'nan' ELSE {0}::VARCHAR END"),
    Op("str", (STR,), STR, "{0}", "{0}"),
    Op("str", (DATE,), STR, "str({0})", "strftime({0}, '%Y-%m-%d')"),
    Op("str", (TIMEDELTA,), STR, "str({0})"),
    Op(
        "str",
        (DATETIME,),
        STR,
        "str({0})",
        "CASE WHEN microsecond({0}) % 1000000 = 0 THEN strftime({0}, '%Y-%m-%d %H:%M:%S+00:00')"
        " ELSE strftime({0}, '%Y-%m-%d %H:%M:%S.%f+00:00') END",
    ),
)

# --- f-strings ------------------------------------------------------------------------------------

_SAMPLES: dict[Type, Any] = {
    BOOL: True,
    INT: 12,
    FLOAT: 1.5,
    STR: "a",
    DATE: dt.date(2024, 1, 1),
    DATETIME: dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
}


def _spec_check(type_: Type) -> Any:
    def check(value: Any, spec: Any) -> str | None:
        if spec is None:
            return None
        if "n" in spec or not spec.isascii() or not _narrow(spec):
            return "a format that is not plain ASCII, depends on a locale or is wider than 1000"
        try:
            format(_SAMPLES[type_], spec)
        except ValueError as error:
            return f"not a format of {type_}: {error}"
        return None

    return check


def _float_spec(value: Any, spec: Any) -> str | None:
    """Below 10**15 DuckDB prints up to ten places exactly; above, it prints 17 digits and zeros."""
    found = spec is not None and re.fullmatch(r"(,?)\.(\d+)f", spec)
    if not found or int(found[2]) > 10:
        return None
    shown = f"format('{{{{:{spec}}}}}', {{0}})"
    return f"CASE WHEN abs({{0}}) < 1e15 THEN {shown} WHEN {{0}} IS NOT NULL THEN {{python}} END"


def _int_spec(value: Any, spec: Any) -> str | None:
    if spec in ("", "d"):
        return "{0}::VARCHAR"
    if spec is not None and re.fullmatch(r",d?|0\d{1,2}d?", spec):
        return f"format('{{{{:{spec}}}}}', {{0}})"
    return None


def _formats(type_: Type, specs: tuple[str, ...], literal_sql: Any, *, raises: bool = False) -> Op:
    return Op(
        "format",
        (type_, STR),
        STR,
        "format({0}, {1})",
        raises=raises,
        literals=(1,),
        check=_spec_check(type_),
        literal_sql=literal_sql,
        edges=tuple((_SAMPLES[type_], spec) for spec in specs),
        promote="none",
    )


register(
    _formats(
        INT, ("", "d", ",", ",d", "05d", "03", "x", "b", "+d", ">8", "_", ".2f", "%"), _int_spec
    ),
    _formats(
        FLOAT,
        (
            *("", *(f".{n}f" for n in (0, 1, 2, 3, 6, 10, 15)), ",.2f", ",.0f", ".3e", "g", ".1%"),
            *("+.2f", "08.3f", ">10.2f", ".3"),
        ),
        _float_spec,
    ),
    _formats(
        STR,
        ("", "s", ">10", "<5", "^7", "*^9", ".2", "10.3"),
        lambda value, spec: "{0}" if spec in ("", "s") else None,
    ),
    _formats(
        BOOL,
        ("", "d", ">3"),
        lambda value, spec: (
            "CASE WHEN {0} THEN 'True' WHEN NOT {0} THEN 'False' END" if spec == "" else None
        ),
    ),
)
