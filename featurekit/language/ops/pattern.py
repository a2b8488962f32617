"""Regular expressions of Python's `re`, with a literal pattern.

DuckDB's RE2 decides whether a pattern matches, where both engines agree on its meaning: a regular
expression without look-around, back-references or flags. Classes such as \\d cover all scripts in
Python and only ASCII in RE2, so they need an ASCII text. Python decides what a group holds.

Whether a pattern matches at all, `linear` decides where Python could take long.
"""

from __future__ import annotations

import re
import re._parser as parser  # type: ignore[import-not-found]
from typing import Any

from featurekit.core.types import BOOL, INT, STR, list_of
from featurekit.core.values import Beyond, NoAttribute
from featurekit.language.ops.ambiguity import judged
from featurekit.language.ops.linear import decider
from featurekit.language.ops.table import NAMESPACE, Op, register, template_literal
from featurekit.language.ops.text import ASCII


def _matched(method: str, pattern: str, text: str) -> bool:
    return decider(method, pattern)(text)


def _group(method: str, pattern: str, text: str, group: int) -> str:
    """The group's text. ValueError where the pattern does not match, or the group took no part."""
    quick = judged(method, pattern).kind == "quick"
    sure = quick or decider(method, pattern)(text)  # a match is found sooner
    found = getattr(re, method)(pattern, text) if sure else None
    if found is None:
        raise NoAttribute("no such match")
    made = found.group(group)
    if made is None:
        raise Beyond("a group that took no part in the match")
    return str(made)


def _end_of(method: str, pattern: str, text: str, end: str) -> int:
    if not decider(method, pattern)(text):
        raise NoAttribute("no such match")
    made: int = getattr(getattr(re, method)(pattern, text), end)()
    return made


def _groups(pattern: str, text: str, group: int) -> list[str]:
    made = [m.group(group) for m in re.finditer(pattern, text)]
    if None in made:
        raise Beyond("a group that took no part in the match")
    return made


NAMESPACE |= {"re": re, "matched": _matched, "group": _group, "groups": _groups, "end_of": _end_of}

_CLASSES = {
    "CATEGORY_DIGIT": "0-9",
    "CATEGORY_SPACE": "\\t-\\r\\x1c-\\x20",
    "CATEGORY_WORD": "0-9A-Za-z_",
}
_NEGATED = {f"CATEGORY_NOT_{name[9:]}": shown for name, shown in _CLASSES.items()}


class _Unlike(Exception):
    """The engines may differ on the pattern, or their agreement was not studied."""


class _Translation:
    """One parsed pattern, written for RE2; `ascii_only` where they agree only on ASCII texts."""

    def __init__(self, *, whole: bool) -> None:
        self.whole = whole
        self.ascii_only = False

    def sequence(self, items: Any, *, last: bool) -> str:
        items = list(items)
        return "".join(
            self.item(str(op), value, last=last and i + 1 == len(items))
            for i, (op, value) in enumerate(items)
        )

    def item(self, op: str, value: Any, *, last: bool) -> str:
        match op:
            case "LITERAL":
                return self.character(value)
            case "NOT_LITERAL":
                return f"[^{self.character(value)}]"
            case "ANY":
                return "[^\\n]"
            case "IN":
                return self.members(value)
            case "BRANCH":
                return f"(?:{'|'.join(self.sequence(b, last=last) for b in value[1])})"
            case "SUBPATTERN" if not value[1] and not value[2]:
                return f"(?:{self.sequence(value[3], last=last)})"
            case "MAX_REPEAT" | "MIN_REPEAT":
                low, high, inner = value
                unbounded = high == parser.MAXREPEAT
                if low > 100 or (not unbounded and high > 100):
                    raise _Unlike
                most = "" if unbounded else str(high)
                return f"(?:{self.sequence(inner, last=False)}){{{low},{most}}}"
            case "AT":
                return self.place(str(value), last=last)
            case _:
                raise _Unlike

    def place(self, where: str, *, last: bool) -> str:
        match where:
            case "AT_BEGINNING" | "AT_BEGINNING_STRING":
                return "\\A"
            case "AT_END_STRING":
                return "\\z"
            case "AT_END" if last:  # also matches before a last newline
                return "\\z" if self.whole else "\\n?\\z"
            case _:
                raise _Unlike

    def character(self, code: int) -> str:
        if not 0 < code < 0xD800:
            raise _Unlike
        plain = chr(code).isalnum() and code < 128
        return chr(code) if plain or code > 127 else f"\\x{code:02x}"

    def members(self, members: Any) -> str:
        shown, negated = "", False
        for op, value in members:
            match str(op):
                case "NEGATE":
                    negated = True
                case "LITERAL":
                    shown += self.character(value)
                case "RANGE":
                    shown += f"{self.character(value[0])}-{self.character(value[1])}"
                case "CATEGORY" if str(value) in _CLASSES:
                    self.ascii_only = True
                    shown += _CLASSES[str(value)]
                case "CATEGORY" if str(value) in _NEGATED and len(members) == 1:
                    self.ascii_only = True
                    return f"[^{_NEGATED[str(value)]}]"
                case _:
                    raise _Unlike
        return f"[{'^' if negated else ''}{shown}]"


def _in_re2(method: str, pattern: str) -> tuple[str, bool] | None:
    """The pattern for `regexp_matches`, and whether it is for ASCII texts only. None where only
    Python can decide."""
    parsed = parser.parse(pattern)
    if parsed.state.flags != re.UNICODE.value:
        return None
    translation = _Translation(whole=method == "fullmatch")
    try:
        made = translation.sequence(parsed, last=True)
    except _Unlike:
        return None
    if method == "fullmatch" or (method == "match" and made):  # DuckDB finds no \\A(?:)
        made = f"\\A(?:{made})" + ("\\z" if method == "fullmatch" else "")
    return made, translation.ascii_only


def _matches_sql(method: str) -> Any:
    def sql(pattern: Any, text: Any) -> str | None:
        found = None if pattern is None else _in_re2(method, pattern)
        if found is None:
            return None
        shown, ascii_only = found
        plain = f"regexp_matches({{1}}, {template_literal(shown)})"
        if not ascii_only:
            return plain
        ascii_text = ASCII.replace("{0}", "{1}")
        return f"CASE WHEN {ascii_text} THEN {plain} WHEN {{1}} IS NOT NULL THEN {{python}} END"

    return sql


def _pattern_check(pattern: Any, *others: Any) -> str | None:
    if pattern is None:
        return None
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        return f"not a regular expression: {error}"
    return None


def _group_check(pattern: Any, text: Any, group: Any) -> str | None:
    bad = _pattern_check(pattern)
    if bad or pattern is None or group is None:
        return bad
    groups = re.compile(pattern).groups
    return None if 0 <= group <= groups else f"the pattern has {groups} groups"


def _replacement_check(pattern: Any, new: Any, *others: Any) -> str | None:
    bad = _pattern_check(pattern)
    if bad or pattern is None or new is None:
        return bad
    try:
        parser.parse_template(new, re.compile(pattern))
    except (re.error, IndexError) as error:
        return f"not a replacement: {error}"
    return None


def _one_group_check(pattern: Any, *others: Any) -> str | None:
    bad = _pattern_check(pattern)
    if bad or pattern is None or re.compile(pattern).groups <= 1:
        return bad
    return "findall of several groups gives tuples: use one group"


def _split_check(pattern: Any, *others: Any) -> str | None:
    bad = _pattern_check(pattern)
    if bad or pattern is None or not re.compile(pattern).groups:
        return bad
    return "groups in a split may be None: write (?:…) for a group"


_PATTERNS = (
    *("a", "^C", "b$", r"^\d+$", r"[A-Z]{2,3}", r"foo|bar$", r"\w+@\w+\.com", r"(?i)quick", "^$"),
    *(
        r"^(a|b)*c?$",
        r"[^a-c]",
        r"\s",
        r"\bx",
        r"(\d+)-(\d+)",
        "é+",
        "a.c",
        r"\.",
        r"\Aab\Z",
        "x*?y",
    ),
    *(r"[\d.]+", r"\S+\s\S", "[😀a]", r"\\", r"(?:ab){2}", r"(?P<n>a)(?P=n)", "a{,2}b", "'", "{0}"),
    *("a\nb", "[-a]", "[]]", "", r"(a)|b", r"a$|b", r"(?=a)", "\\x00", "ß", "a|", "(a$)b"),
)
_TEXTS = (
    "a",
    "C536",
    "ab",
    "ab\n",
    "12",
    "१२",
    "AB",
    "foo@bar.com",
    "abab",
    "a\nc",
    "12-3",
    "xy",
    "aa",
)
_EDGES = tuple((p, t) for p in _PATTERNS for t in _TEXTS)
_STR_LIST = list_of(STR)

register(
    *(
        Op(
            f"re.{method}",
            (STR, STR),
            BOOL,
            f"matched({method!r}, {{0}}, {{1}})",
            literals=(0,),
            check=_pattern_check,
            literal_sql=_matches_sql(method),
            edges=_EDGES,
            platform="unicode",
        )
        for method in ("search", "match", "fullmatch")
    ),
    *(
        Op(
            f"re.{method}.group",
            (STR, STR, INT),
            STR,
            f"group({method!r}, {{0}}, {{1}}, {{2}})",
            raises=True,
            literals=(0, 2),
            check=_group_check,
            edges=(*((p, t, 0) for p, t in _EDGES[::7]), (r"(\d+)-(\d+)", "12-3", 2)),
            defaults=(0,),
            platform="unicode",
        )
        for method in ("search", "match", "fullmatch")
    ),
    *(
        Op(
            f"re.{method}.{end}",
            (STR, STR),
            INT,
            f"end_of({method!r}, {{0}}, {{1}}, {end!r})",
            raises=True,
            literals=(0,),
            check=_pattern_check,
            edges=_EDGES[::3],
            platform="unicode",
        )
        for method in ("search", "match", "fullmatch")
        for end in ("start", "end")
    ),
    *(
        Op(
            f"re.finditer.{end}",
            (STR, STR),
            list_of(INT),
            f"[m.{end}() for m in re.finditer({{0}}, {{1}})]",
            literals=(0,),
            check=_pattern_check,
            edges=_EDGES[::3],
            platform="unicode",
        )
        for end in ("start", "end")
    ),
    Op(
        "re.finditer.group",
        (STR, STR, INT),
        _STR_LIST,
        "groups({0}, {1}, {2})",
        raises=True,
        literals=(0, 2),
        check=_group_check,
        edges=(*((p, t, 0) for p, t in _EDGES[::7]), (r"(\d)|(\w)", "1a2", 2)),
        platform="unicode",
    ),
    Op(
        "re.sub",
        (STR, STR, STR),
        STR,
        "re.sub({0}, {1}, {2})",
        literals=(0, 1),
        check=_replacement_check,
        edges=tuple(
            (p, n, t) for (p, t), n in zip(_EDGES[::3], ("", "x", r"\g<0>-") * 300, strict=False)
        ),
        platform="unicode",
    ),
    Op(
        "re.sub",
        (STR, STR, STR, INT),
        STR,
        "re.sub({0}, {1}, {2}, count={3})",
        literals=(0, 1),
        check=_replacement_check,
        edges=tuple((p, "x", t, n % 4 - 1) for n, (p, t) in enumerate(_EDGES[::5])),
        platform="unicode",
        names=("", "repl", "string", "count"),
    ),
    Op(
        "re.split",
        (STR, STR),
        _STR_LIST,
        "re.split({0}, {1})",
        literals=(0,),
        check=_split_check,
        edges=_EDGES,
        platform="unicode",
    ),
    Op(
        "re.split",
        (STR, STR, INT),
        _STR_LIST,
        "re.split({0}, {1}, maxsplit={2})",
        literals=(0,),
        check=_split_check,
        edges=tuple((p, t, n % 4 - 1) for n, (p, t) in enumerate(_EDGES[::5])),
        platform="unicode",
        names=("", "string", "maxsplit"),
    ),
    Op(
        "re.findall",
        (STR, STR),
        _STR_LIST,
        "re.findall({0}, {1})",
        literals=(0,),
        check=_one_group_check,
        edges=_EDGES,
        platform="unicode",
    ),
)
