"""Where Python's own rules surprise: each form agrees three ways, or is refused with what works."""

from __future__ import annotations

import re

import pytest
from programs import columns
from three_ways import Table, differences, module

from featurekit import feature
from featurekit.core.types import STR
from featurekit.errors import CompileError
from featurekit.language.parse import parse

AGREE: dict[str, str] = {
    "rows_grow_into_another_list": """
def f(li: list[int]) -> list[int]:
    out: list[int] = []
    for u in li:
        row: list[int] = []
        for v in li:
            row.append((u % 7) * (v % 5))
        out += row
        row.append(1)
        out.extend(row)
    return out
""",
    "a_copy_by_a_slice_grows": """
def f(li: list[int], a: int) -> list[int]:
    out = li[:2]
    out.append(a)
    return li + out
""",
    "characters_joined_again": """
def f(s: str) -> str:
    out = list(s)
    out.append("!")
    return "-".join(out)
""",
    "an_empty_list_for_none": """
def f(li: list[int]) -> int:
    found = li if len(li) > 2 else None
    n = 0
    for v in found or []:
        n += v % 10
    return n + len(found or [])
""",
    "fsum_raises_where_partial_sums_overflow": (
        "def f(x: float) -> float:\n    return math.fsum([1e308, 1e308, -1e308, x])"
    ),
    "haversine_by_map": """
def f(x: float, y: float) -> float:
    lon1, lat1, lon2, lat2 = map(math.radians, [x, y, 1.0, 2.0])
    h = math.sin((lat2 - lat1) / 2) ** 2
    h += math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    return 2 * 6371 * math.asin(math.sqrt(h))
""",
    "map_and_filter": """
def f(ls: list[str], li: list[int], s: str) -> str:
    long = sum(map(len, ls)) + sum(map(str.isupper, s)) + sum(filter(lambda n: n < 9, li[:3]))
    return ",".join(map(str, filter(None, li))) + str(long) + "".join(reversed(s))
""",
    "map_of_a_helper": """
def half(n: int) -> int:
    return n // 2
def f(li: list[int], a: int) -> int:
    return max(map(half, li)) + sum(map(lambda u, v: u // a - v // 2, li, reversed(li)))
""",
    "distinct_elements": """
def f(li: list[int], ls: list[str], s: str) -> int:
    n = len(set(ls)) + len({v % 3 for v in li}) + len(set(s.lower().split()))
    for v in sorted(set(li)):
        n = n * 3 % 1000 + v % 7
    return n + len(sorted({c for c in s}))
""",
    "in_a_range": (
        "def f(a: int, b: int) -> bool:\n"
        "    return a in range(1, 4) or b % 5 not in range(3) or a in range(4, 1)"
    ),
    "divmod_by_its_place": (
        "def f(a: int, b: int, x: float, y: float) -> float:\n"
        "    return divmod(a, b)[0] + divmod(x, y)[1] if a else divmod(a, b)[-1]"
    ),
    "split_at_spaces": """
def f(s: str) -> list[str]:
    parts = s.split(None, 1) + s.split(maxsplit=0) + s.rsplit(maxsplit=1) + s.split(None)
    return parts + s.split(sep=None, maxsplit=-1)
""",
    "an_argument_that_errs_and_is_not_read": """
def first(n: int, k: int) -> int:
    return n

def f(a: int, b: int) -> int:
    return first(a, a // b)
""",
    "a_quotient_by_a_negative_literal_that_leaves_int64": """
def f(a: int) -> int:
    return a // -1 + a
""",
    "an_error_that_one_branch_alone_passes_on": """
def f(a: int, p: bool) -> float:
    q = 1 / a
    if p:
        r = q
    else:
        r = 2.0
    return r
""",
    "bound_in_a_loop_that_turns": """
def f(a: int) -> int:
    for i in range(3):
        last = a + i
    return last
""",
    "sub_with_count_and_flags": """
P = re.compile("a")
def f(s: str) -> str:
    made = re.sub("[a-c]", "-", s, count=1, flags=re.I) + re.sub("a", "", s, 1) + P.sub("+", s, 1)
    return made + re.sub(P, "x", s) + "|".join(re.split("b", s, maxsplit=1, flags=re.I))
""",
    "findall_with_flags": (
        "def f(s: str) -> int:\n"
        "    return len(re.findall('[a-c]', s, re.I)) + len(re.split('b', s, 1))"
    ),
    "hypot_of_many": (
        "def f(lf: list[float], x: float, a: int) -> float:\n"
        "    return math.hypot(*lf) + math.hypot(x, 2, a) + math.hypot(x)"
    ),
    "an_instant_is_true": """
def f(s: str, p: bool) -> int:
    at = datetime(2024, 2, 29, tzinfo=timezone.utc) if p else None
    day = at.date() if at else None
    return day.year if day else (at or datetime.fromisoformat(s + "2024-01-01T00:00Z")).month
""",
    "a_long_sum": "def f(a: int) -> int:\n    return "
    + " + ".join(f"a % {i + 2}" for i in range(150)),
    "a_long_chain_of_elif": (
        "def f(a: int) -> int:\n    if a < -7: return 0\n"
        + "".join(f"    elif a == {i}: return {i * 7} // a\n" for i in range(120))
        + "    else: return -1"
    ),
    "a_long_match": (
        "def f(s: str) -> int:\n    match s:\n"
        + "".join(f"        case 'a{i}' | '{'ab'[: i % 3]}': return {i}\n" for i in range(120))
        + "    return -1"
    ),
    "a_long_or": (
        f"WORDS = {(*(f'w{i}' for i in range(500)), 'b')!r}\n"
        "def f(s: str) -> bool:\n    return s.startswith(WORDS) or any(w in s for w in WORDS)"
    ),
    "a_long_f_string": "def f(s: str) -> str:\n    return f'" + "{s}-" * 300 + "'",
    "choices_in_choices": (
        "def f(a: int, b: int) -> int:\n    return "
        + "".join(f"{i} // b if a == {i} else " for i in range(100))
        + "-1"
    ),
    "fsum_of_both_infinities": "def f(x: float) -> float:\n    return math.fsum([math.inf, -x])",
}

REFUSED: dict[str, tuple[str, str, str]] = {
    "walrus_in_one_branch": (
        "def f(a: int, b: int) -> int:\n y = 1\n c = (y := a) if b > 0 else b\n return y + c",
        "y is not bound on every path",
        "in place of (y := …)",
    ),
    "walrus_in_a_chain": (
        "def f(a: int, b: int) -> bool:\n y = 7\n c = a < b < (y := 5)\n return c or y == 5",
        "y is not bound on every path",
        "in place of (y := …)",
    ),
    "walrus_after_and": (
        "def f(a: int, b: int) -> int:\n"
        " y = 7\n"
        " c = not (a > 0 and (y := b) > 0)\n"
        " return y if c else 0",
        "y is not bound on every path",
        "in place of (y := …)",
    ),
    "position_of_a_compiled_search": (
        "P = re.compile('A')\ndef f(s: str) -> bool:\n return P.match(s, 2) is not None",
        "a place in the text to match from",
        "text[2:]",
    ),
    "flags_of_a_compiled_pattern": (
        "P = re.compile('A')\ndef f(s: str) -> bool:\n return re.search(P, s, re.I) is not None",
        "flags of a compiled pattern",
        "re.compile()",
    ),
    "ints_in_a_list_of_floats": (
        "def f(x: float) -> str:\n y: list[float] = [1, 2]\n return str(y[0])",
        "this is list[int], and the declared type of y is list[float]",
        "as in 1.0 for 1",
    ),
    "ints_passed_as_a_list_of_floats": (
        "def g(y: list[float]) -> str:\n return str(y[0])\n"
        "def f(x: float) -> str:\n return g([1, 2])",
        "this is list[int], and g's parameter y is list[float]",
        "as in 1.0 for 1",
    ),
    "ints_from_a_helper_for_floats": (
        "def g() -> list[float]:\n return [1, 2]\ndef f(x: float) -> str:\n return str(g()[0])",
        "this is list[int], and the declared result is list[float]",
        "as in 1.0 for 1",
    ),
    "an_int_appended_to_floats": (
        "def f(x: float) -> str:\n y = [x]\n y.append(1)\n return str(y[1])",
        "y is list[float], and this adds int",
        "float(…)",
    ),
    "a_parsed_time_without_its_zone": (
        "def f(s: str) -> date:\n return datetime.strptime(s, '%Y-%m-%d').date()",
        "strptime() without %z",
        ".replace(tzinfo=timezone.utc)",
    ),
    "a_set_of_floats": (
        "def f(lf: list[float]) -> int:\n return len(set(lf))",
        "a set of floats",
        "round(100 * v)",
    ),
    "percent_formatting": (
        "def f(a: int, s: str) -> str:\n return '%s-%d' % (s, a)",
        "% of a text",
        "write an f-string",
    ),
    "str_format": (
        "def f(a: int, s: str) -> str:\n return s.format(a)",
        "format() of a computed text",
        "write an f-string",
    ),
    "too_many_levels": (
        "def f(a: int) -> int:\n b = a\n return " + " + ".join(["a"] * 400),
        "this nests too deeply",
        "assign parts of it to names",
    ),
    "too_long_an_elif": (
        "def f(a: int) -> int:\n if a == -1: return 1\n"
        + "".join(f" elif a == {i}: return {i}\n" for i in range(400))
        + " return 0",
        "this nests too deeply",
        "return early",
    ),
    "bound_in_a_loop_over_nothing": (
        "ROWS = ()\ndef f(a: int) -> int:\n for _ in ROWS:\n  b = a\n return b",
        "b is not bound on every path to here",
        "give it a value first",
    ),
    "none_ruled_out_in_a_loop_over_nothing": (
        "def f(a: int | None) -> int:\n for _ in range(0):\n  if a is None: return 0\n return a",
        "a may be None",
        "test it for None first",
    ),
    "a_span_beyond_int64": (
        "FOREVER = timedelta.max\ndef f(a: int) -> bool:\n return timedelta(days=a) < FOREVER",
        "a timedelta outside int64 microseconds",
        "106_751_991 days",
    ),
}


@pytest.fixture(scope="module")
def table() -> Table:
    return Table(columns(300))


# Python 3.13 would rather have these by name; a feature may give them by place all the same.
@pytest.mark.filterwarnings("ignore:.*is passed as positional argument:DeprecationWarning")
@pytest.mark.parametrize("name", AGREE)
def test_forms_agree_three_ways(table: Table, name: str) -> None:
    assert differences(AGREE[name], "f", table, range(300)) == []


@pytest.mark.parametrize("name", REFUSED)
def test_forms_are_refused_with_what_works(name: str) -> None:
    source, reason, hint = REFUSED[name]
    with pytest.raises(CompileError) as caught:
        parse(feature(module(source)["f"]))
    assert reason in caught.value.reason
    assert hint in caught.value.hint


OFFSETS = """
def hour_alone(z: str) -> int:
    return datetime.fromisoformat(z).hour

def hour_in_utc(z: str) -> int:
    return datetime.fromisoformat(z).astimezone(timezone.utc).hour

def hour_in_london(z: str) -> int:
    local = datetime.fromisoformat(z).astimezone(ZoneInfo("Europe/London"))
    return local.hour

def day_parsed(z: str) -> int:
    return datetime.strptime(z, "%Y-%m-%d %H:%M:%S%z").astimezone(timezone.utc).day

def day_parsed_alone(z: str) -> int:
    return datetime.strptime(z, "%Y-%m-%d %H:%M:%S%z").day
"""
TEXTS = ["2024-07-01 00:30:00+05:30", "2024-07-01 00:30:00+00:00", "2024-07-01 23:30:00-02:00",
         "2024-07-01 12:00:00", "2024-07-01 00:30:00Z", "x"]  # fmt: skip


@pytest.mark.parametrize("name", re.findall(r"def (\w+)", OFFSETS))
def test_the_offset_of_a_text_never_changes_a_field_silently(name: str) -> None:
    table = Table({"z": (STR, TEXTS)})
    assert differences(OFFSETS, name, table, range(len(TEXTS))) == []
