"""Operators on str. Python's Unicode tables decide; DuckDB is used where it cannot differ (R4)."""

from __future__ import annotations

from typing import Any

from featurekit.core.types import BOOL, INT, STR, list_of
from featurekit.core.values import Beyond, WrongType
from featurekit.language.ops.table import NAMESPACE, Op, register, template_literal

LONGEST = 2**24
"""No operator makes a longer text: this is the error of a Python that runs out of memory (R3)."""


def _short(length: int) -> None:
    if length > LONGEST:
        raise Beyond(f"a text of more than {LONGEST} characters")


def _repeat(text: str, times: int) -> str:
    _short(len(text) * times)
    return text * times


def _just(method: Any, text: str, width: int, *fill: str) -> str:
    _short(width)
    made: str = method(text, width, *fill)
    return made


def _code(text: str) -> int:
    if len(text) != 1:
        raise WrongType("ord() of a text that is not one character")
    return ord(text)


def _character(code: int) -> str:
    if 0xD800 <= code <= 0xDFFF:
        raise Beyond("a lone surrogate")  # no text holds one (S1)
    return chr(code)


NAMESPACE |= {
    "repeat": _repeat,
    "just": _just,
    "code": _code,
    "character": _character,
}

_STRS = list_of(STR)
# strlen counts bytes and length counts characters: they are equal for ASCII alone, and quick.
ASCII = "strlen({0}) = length({0})"


def _some(places: int) -> str:
    return " AND ".join(f"{{{i}}} IS NOT NULL" for i in range(places))


def _else_python(when: str, places: int = 1) -> str:
    return f"CASE {when} WHEN {_some(places)} THEN {{python}} END"


# --- case -----------------------------------------------------------------------------------------

# Letters whose case DuckDB and every Python from 3.11 on map alike, and characters without case:
# Latin, Greek and Cyrillic that are old in Unicode, and East Asian. Left out are Greek letters that
# grow, or whose case depends on their neighbours.
_SAME_CASE = "[\\x00-´¶-ÞàáâãäåæçèéêëìíîïðñòóôõöøùúûüýþÿĀ-įĲ-ňŊ-žΆ-ΏΑ-ΡΤ-ΫЀ-џ぀-ヿ一-鿿가-힣]*"
_CASE = f"WHEN {ASCII} THEN %s WHEN regexp_full_match({{0}}, '{_SAME_CASE}') THEN %s"
_CASE_SQL = {
    "lower": _else_python(_CASE % ("lower({0})", "lower({0})")),
    "upper": _else_python(_CASE % ("upper({0})", "upper({0})")),
    "casefold": _else_python(_CASE % ("lower({0})", "lower({0})")),
    "capitalize": _else_python(
        f"WHEN {ASCII} THEN upper(left({{0}}, 1)) || lower(substring({{0}}, 2))"
    ),
}

# --- space ----------------------------------------------------------------------------------------

_ASCII_SPACES = "".join(chr(c) for c in range(128) if chr(c).isspace())
SPACES = _ASCII_SPACES + "\x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B)))
SPACES += "\u2028\u2029\u202f\u205f\u3000"
"""What Python calls space, in every version from 3.11 on."""
_SOLID = "({code} BETWEEN 33 AND 132 OR {code} BETWEEN 161 AND 5759 OR {code} > 12288)"
"""Codes of characters that are not space: nearly all that texts begin and end with, but not all."""


def _strip(method: str, sql: str) -> Op:
    """DuckDB's trim removes only the space character. Given a list of spaces it takes 13 times as
    long, and most texts do not need it."""

    def ends(place: str) -> list[str]:
        first, last = place, f"{place}[-1]"
        return {"lstrip": [first], "rstrip": [last]}.get(method, [first, last])

    def clean(place: str) -> str:
        tests = [f"strlen({place}) = length({place})", *(f"{end} >= '!'" for end in ends(place))]
        return " AND ".join(tests)

    solid = " AND ".join(_SOLID.format(code=f"unicode({end})") for end in ends("{1}"))
    return Op(
        f"str.{method}",
        (STR,),
        STR,
        f"{{0}}.{method}()",
        f"CASE WHEN {clean('{1}')} THEN {{1}} WHEN {solid} THEN {{1}}"
        f" ELSE {sql}({{0}}, {template_literal(SPACES)}) END",
        steps=(f"CASE WHEN {clean('{0}')} THEN {{0}} ELSE {sql}({{0}}) END",),
        platform="unicode",
        edges=tuple((f"{c}a{c}",) for c in SPACES + "\x7f\u1681\u200b\u3001\U0001f600"),
    )


# --- parts ----------------------------------------------------------------------------------------

_FAR = 2**31 - 2  # DuckDB's substring raises beyond its own limits


def _bound(place: str, length: str) -> str:
    below = f"greatest({place} + {length}, 0)"
    return f"CASE WHEN {place} < 0 THEN {below} ELSE least({place}, {length}) END"


def _slice_sql(
    start: str | None, stop: str | None, length: str, part: str = "substring({0}, {a} + 1, {n})"
) -> str:
    a = _bound(start, length) if start else "0"
    b = _bound(stop, length) if stop else length
    return part.replace("{a}", f"({a})").replace("{n}", f"greatest(({b}) - ({a}), 0)")


def _near(*places: Any) -> bool:
    return all(p is None or abs(p) <= _FAR for p in places)


def _slice_literal(text: Any, start: Any, stop: Any) -> str | None:
    if start is None or stop is None or start < 0 or stop < 0 or not _near(start, stop):
        return None
    return f"substring({{0}}, {start + 1}, {max(stop - start, 0)})"


def _from_literal(text: Any, start: Any) -> str | None:
    if start is None or not _near(start):
        return None
    return f"substring({{0}}, {start + 1})" if start >= 0 else f"right({{0}}, {-start})"


def _to_literal(text: Any, stop: Any) -> str | None:
    if stop is None or not _near(stop):
        return None
    return f"substring({{0}}, 1, {stop})" if stop >= 0 else f"left({{0}}, {stop})"


def _item_literal(text: Any, index: Any) -> str | None:
    if index is None:
        return None
    if not _near(index):
        return "NULL::VARCHAR"  # no text is so long, and DuckDB computes index + 1 in advance
    place = index + 1 if index >= 0 else index
    if index >= 0:
        return f"nullif(substring({{0}}, {place}, 1), '')"
    return f"CASE WHEN length({{0}}) >= {-index} THEN substring({{0}}, {place}, 1) END"


_ITEM = (
    f"CASE WHEN {{1}} BETWEEN 0 AND {_FAR} THEN nullif(substring({{0}}, {{1}} + 1, 1), '')"
    f" WHEN {{1}} BETWEEN -{_FAR} AND -1 AND length({{0}}) >= -{{1}}"
    " THEN substring({0}, {1}, 1) END"
)


# --- building -------------------------------------------------------------------------------------

_REPEAT = (
    "CASE WHEN {1} <= 0 OR {0} = '' THEN CASE WHEN {0} IS NOT NULL AND {1} IS NOT NULL THEN '' END"
    f" WHEN {{1}} <= {LONGEST} AND length({{0}}) * {{1}} <= {LONGEST} THEN repeat({{0}}, {{1}}) END"
)
_REPEATED = _REPEAT.replace("{0}", "{x}").replace("{1}", "{0}").replace("{x}", "{1}")
_PADDED = (
    f"CASE WHEN {{1}} > {LONGEST} THEN NULL WHEN {{1}} <= length({{0}}) THEN"
    " CASE WHEN {2} IS NOT NULL THEN {0} END"
    " WHEN {1} IS NOT NULL THEN %s END"
)
_PAD = "repeat({2}, {1} - length({0}))"
_ZEROS = "repeat('0', {1} - length({0}))"
_ZFILL = (
    f"CASE WHEN {{1}} > {LONGEST} THEN NULL WHEN {{1}} <= length({{0}}) THEN {{0}}"
    " WHEN starts_with({0}, '-') OR starts_with({0}, '+')"
    f" THEN left({{0}}, 1) || {_ZEROS} || substring({{0}}, 2) ELSE {_ZEROS} || {{0}} END"
)


def _fill_check(text: Any, width: Any, fill: Any) -> str | None:
    return None if fill is None or len(fill) == 1 else "the fill must be one character"


def _pad(method: str, sql: str | None) -> Op:
    return Op(
        f"str.{method}",
        (STR, INT, STR),
        STR,
        f"just(str.{method}, {{0}}, {{1}}, {{2}})",
        sql and _PADDED % sql,
        raises=True,
        literals=(2,),
        check=_fill_check,
        edges=tuple((t, n, f) for t in ("a", "äö") for n in (-1, 1, 5, LONGEST + 1) for f in " ß"),
        defaults=(" ",),
    )


# --- tests of characters --------------------------------------------------------------------------


def _is(method: str, characters: str) -> Op:
    sql = _else_python(f"WHEN {ASCII} THEN regexp_full_match({{0}}, '{characters}+')")
    return Op(f"str.{method}", (STR,), BOOL, f"{{0}}.{method}()", sql, platform="unicode")


def _plain(
    name: str, params: tuple[Any, ...], result: Any, sql: str | None = None, **more: Any
) -> Op:
    method = name.split(".")[1]
    rest = ", ".join(f"{{{i}}}" for i in range(1, len(params)))
    return Op(name, params, result, f"{{0}}.{method}({rest})", sql, **more)


def _join_sql(separator: Any, parts: Any) -> str | None:
    """Of no parts DuckDB joins NULL."""
    if separator is None:
        return None
    joined = f"array_to_string({{1}}, {template_literal(separator)})"
    return f"coalesce({joined}, CASE WHEN len({{1}}) = 0 THEN '' END)"


_NO_PREFIX = "WHEN {1} IS NOT NULL THEN {0} END"
_FOUND = "strpos({0}, {1})"
_PARTITION = (
    "CASE WHEN {1} = '' THEN NULL"
    " WHEN {2} > 0 THEN [left({0}, {2} - 1), {1}, substring({0}, {2} + length({1}))]"
    " WHEN {2} = 0 THEN [{0}, '', ''] END"
)
_TWO = (STR, STR)

register(
    Op("+", _TWO, STR, "{0} + {1}", "({0} || {1})"),
    Op("*", (STR, INT), STR, "repeat({0}, {1})", _REPEAT, raises=True, edges=(("ab", 2**62),)),
    Op("*", (INT, STR), STR, "repeat({1}, {0})", _REPEATED, raises=True, edges=((2**62, "ab"),)),
    Op("in", _TWO, BOOL, "{0} in {1}", "contains({1}, {0})"),
    Op("len", (STR,), INT, "len({0})", "length({0})"),
    Op(
        "list",
        (STR,),
        _STRS,
        "list({0})",
        "CASE WHEN {0} = '' THEN []::VARCHAR[] ELSE string_split({0}, '') END",
    ),
    Op("getitem", (STR, INT), STR, "{0}[{1}]", _ITEM, raises=True, literal_sql=_item_literal),
    Op(
        "slice",
        (STR, INT, INT),
        STR,
        "{0}[{1}:{2}]",
        _slice_sql("{1}", "{2}", "{3}"),
        steps=("length({0})",),
        literal_sql=_slice_literal,
    ),
    Op(
        "slice.from",
        (STR, INT),
        STR,
        "{0}[{1}:]",
        _slice_sql("{1}", None, "{2}"),
        steps=("length({0})",),
        literal_sql=_from_literal,
    ),
    Op(
        "slice.to",
        (STR, INT),
        STR,
        "{0}[:{1}]",
        _slice_sql(None, "{1}", "{2}"),
        steps=("length({0})",),
        literal_sql=_to_literal,
    ),
    Op("slice.every", (STR, INT), STR, "{0}[::{1}]", raises=True),
    Op("slice", (STR, INT, INT, INT), STR, "{0}[{1}:{2}:{3}]", raises=True),
    *(
        Op(
            f"str.{name}",
            (STR,),
            STR,
            f"{{0}}.{name}()",
            _CASE_SQL.get(name),
            platform="unicode",
            edges=(("ÀÉ ñ",), ("µ",), ("ЖЯ",), ("Straße",), ("ΟΔΟΣ",), ("漢字ab",)),
        )
        for name in ("lower", "upper", "casefold", "title", "capitalize", "swapcase")
    ),
    _strip("strip", "trim"),
    _strip("lstrip", "ltrim"),
    _strip("rstrip", "rtrim"),
    *(
        _plain(f"str.{name}", _TWO, STR, f"{sql}({{0}}, {{1}})", edges=(("xxaxx", "x"),))
        for name, sql in (("strip", "trim"), ("lstrip", "ltrim"), ("rstrip", "rtrim"))
    ),
    _plain("str.startswith", _TWO, BOOL, "starts_with({0}, {1})"),
    _plain("str.endswith", _TWO, BOOL, "ends_with({0}, {1})"),
    _plain(
        "str.removeprefix",
        _TWO,
        STR,
        "CASE WHEN starts_with({0}, {1}) THEN substring({0}, length({1}) + 1) " + _NO_PREFIX,
        edges=(("abc", "ab"), ("abc", "")),
    ),
    _plain(
        "str.removesuffix",
        _TWO,
        STR,
        "CASE WHEN ends_with({0}, {1}) THEN left({0}, length({0}) - length({1})) " + _NO_PREFIX,
        edges=(("abc", "bc"), ("abc", ""), ("", "")),
    ),
    _plain(
        "str.replace",
        (STR, STR, STR),
        STR,
        _else_python("WHEN {1} <> '' THEN replace({0}, {1}, {2})", 3),
        literal_sql=lambda s, old, new: "replace({0}, {1}, {2})" if old else None,
        edges=(("aaa", "aa", "b"), ("abc", "", "-"), ("aXbX", "X", "")),
    ),
    _plain("str.replace", (STR, STR, STR, INT), STR, edges=(("aaa", "a", "b", 2),)),
    # Python refuses an empty separator; from the right, "---" parts at another "--".
    *(
        _plain(
            f"str.{name}",
            _TWO,
            _STRS,
            sql,
            raises=True,
            literal_sql=lambda s, sep, most=most: (
                "string_split({0}, {1})" if sep and len(sep) <= most else None
            ),
            edges=(("a,b,,c", ","), ("a--b---c", "--")),
            names=("", "sep"),
        )
        for name, most, sql in (
            ("split", 2**31, "CASE WHEN {1} <> '' THEN string_split({0}, {1}) END"),
            ("rsplit", 1, _else_python("WHEN length({1}) = 1 THEN string_split({0}, {1})", 2)),
        )
    ),
    *(_plain(f"str.{n}", (STR,), _STRS, platform="unicode") for n in ("split", "rsplit")),
    *(
        _plain(
            f"str.{name}",
            (STR, STR, INT),
            _STRS,
            raises=True,
            edges=(("a,b,c", ",", 1),),
            names=("", "sep", "maxsplit"),
        )
        for name in ("split", "rsplit")
    ),
    *(
        Op(
            f"str.{name}.spaces",
            (STR, INT),
            _STRS,
            f"{{0}}.{name}(None, {{1}})",
            edges=((" a b  c ", 1), (" a b  c ", 0), ("a\x1cb\u2003c", -1)),
            platform="unicode",
        )
        for name in ("split", "rsplit")
    ),
    _plain("str.splitlines", (STR,), _STRS),
    Op(
        "str.partition",
        _TWO,
        _STRS,
        "list({0}.partition({1}))",
        _PARTITION,
        raises=True,
        steps=(_FOUND,),
        edges=(("a@b@c", "@"), ("ab", "@"), ("äöü", "öü")),
    ),
    Op("str.rpartition", _TWO, _STRS, "list({0}.rpartition({1}))", raises=True),
    _plain(
        "str.join",
        (STR, _STRS),
        STR,
        # DuckDB takes a literal separator only.
        literal_sql=_join_sql,
        edges=((",", ["a", "b"]), ("", ["a", "", "b"])),
    ),
    _plain("str.find", _TWO, INT, f"({_FOUND} - 1)", edges=(("äb", "b"), ("ab", ""), ("", ""))),
    _plain("str.rfind", _TWO, INT, edges=(("abab", "ab"),)),
    _plain("str.index", _TWO, INT, f"(nullif({_FOUND}, 0) - 1)", raises=True),
    _plain(
        "str.count",
        _TWO,
        INT,
        "CASE WHEN {1} <> '' THEN"
        " (strlen({0}) - strlen(replace({0}, {1}, ''))) // strlen({1})"
        " WHEN {1} = '' THEN length({0}) + 1 END",
        edges=(("aaaa", "aa"), ("abab", "ab")),
    ),
    Op(
        "str.zfill",
        (STR, INT),
        STR,
        "just(str.zfill, {0}, {1})",
        _ZFILL,
        raises=True,
        edges=(("-1", 5), ("+", 3), ("é", 4), ("1", LONGEST + 1)),
    ),
    _pad("ljust", f"{{0}} || {_PAD}"),
    _pad("rjust", f"{_PAD} || {{0}}"),
    _pad("center", None),
    _is("isdigit", "[0-9]"),
    _is("isdecimal", "[0-9]"),
    _is("isnumeric", "[0-9]"),
    _is("isalpha", "[A-Za-z]"),
    _is("isalnum", "[0-9A-Za-z]"),
    _is("isspace", "[\\t-\\r\\x1c-\\x20]"),
    *(
        _plain(
            f"str.{name}",
            (STR,),
            BOOL,
            _else_python(f"WHEN {ASCII} THEN {{0}} = {same}({{0}}) AND {{0}} <> {other}({{0}})"),
            platform="unicode",
        )
        for name, same, other in (("isupper", "upper", "lower"), ("islower", "lower", "upper"))
    ),
    _plain("str.istitle", (STR,), BOOL, platform="unicode"),
    _plain("str.isascii", (STR,), BOOL, f"({ASCII})"),
    Op(
        "ord",
        (STR,),
        INT,
        "code({0})",
        "CASE WHEN length({0}) = 1 THEN unicode({0})::BIGINT END",
        raises=True,
    ),
    Op(
        "chr",
        (INT,),
        STR,
        "character({0})",
        "CASE WHEN {0} BETWEEN 0 AND 55295 OR {0} BETWEEN 57344 AND 1114111"
        " THEN chr({0}::INTEGER) END",
        raises=True,
        edges=((0xD7FF,), (0xD800,), (0xDFFF,), (0xE000,), (0x10FFFF,), (0x110000,), (65,)),
    ),
)
