"""Each construct of the language agrees three ways on awkward rows; and what parsing says of it."""

from __future__ import annotations

import random
from typing import Any

import duckdb
import pytest
from programs import columns
from three_ways import Table, differences, module

from featurekit import feature
from featurekit.core.sql import quote
from featurekit.core.values import ERROR
from featurekit.errors import DefinitionError
from featurekit.language import ir, walk, wire
from featurekit.language.parse import parse
from featurekit.language.to_duckdb import Lowering, Sql, Value, lower
from featurekit.language.to_python import to_python

HELPERS = """
from typing import Literal, NamedTuple, TypedDict
import enum

RATES = {"a": 0.5, "b": -2.0, "C1": 0.1}
POINTS = {1: 7, 0: -1, -1: 2**62, 7: 0}
BANDS = (0.5, 2.0, 10.0)
STEPS = ((1, 0.5), (2, 1.5), (7, -1.0))
WEEK = 7 * 24
MANY = {i * i - 50: i * 0.5 for i in range(60)}
NAMES = {**{f"K{i}": i for i in range(40)}, "a": -1, "": -2, "ß": -3, "'": -4}


class Shop(enum.StrEnum):
    WEB = "a"
    STORE = "b"


class Grade(str, enum.Enum):
    GOOD = "a"
    BAD = "C"


class Both(NamedTuple):
    low: float
    high: float | None


class Parts(TypedDict):
    whole: int
    rest: int


def ratio(n: float, d: float, empty: float = 0.0) -> float:
    if d == 0.0:
        return empty
    return n / d


def split(n: int, d: int) -> tuple[int, int]:
    return n // d, n % d


def bounds(x: float) -> Both:
    if x != x:
        return Both(0.0, None)
    return Both(low=x - 1.0, high=x + 1.0)


"""

CASES: dict[str, str] = {
    "augmented": "def f(a: int, b: int) -> int:\n a += b\n a *= 2\n a -= 1\n a //= b\n return a",
    "unpacking_swaps": "def f(a: int, b: int) -> int:\n a, b = b, a\n return a - b * 2",
    "divmod": (
        "def f(a: int, b: int) -> int:\n d, r = divmod(a, b)\n return d ^ 0 if False else d + r"
    ),
    "unpacked_helper": "def f(a: int, b: int) -> int:\n d, r = split(a, b)\n return r - d",
    "unpacked_named_tuple": """
def f(x: float) -> float:
    low, high = bounds(x)
    return low if high is None else high - low
""",
    "match_int": """
def f(a: int, oa: int | None) -> str:
    match a:
        case 0 | 1:
            return "few"
        case -1:
            got = "minus"
        case n if n > 5:
            got = "many"
        case _:
            got = "some"
    match oa:
        case None:
            return got + "?"
        case 7:
            return got + "7"
    return got if oa < 3 else "x"
""",
    "match_str_and_enum": """
def f(s: str, q: bool) -> int:
    match s:
        case Shop.WEB:
            return 1
        case "C" | "ab":
            return 2
    match q:
        case True:
            return 3
        case False:
            return 4
    return 5
""",
    "for_range_accumulates": """
def f(a: int, b: int) -> int:
    total = 0
    for i in range(1, 6):
        if i == b:
            continue
        if total > 20:
            break
        total += a * i
    return total
""",
    "for_constants": """
def f(x: float) -> float:
    best = 0.0
    for bound, (at, gain) in zip(BANDS, STEPS):
        if x > bound:
            best = gain * at
    for i, bound in enumerate(BANDS, 1):
        best += bound * i
    return best
""",
    "for_over_locals": """
def f(a: int, b: int, k: int) -> int:
    n = 0
    for v in (a, b, k):
        if v > 1:
            n += 1
    return n
""",
    "loop_returns_early": """
def f(x: float) -> int:
    for i, bound in enumerate(BANDS):
        if x < bound:
            return i
    return len(BANDS)
""",
    "loop_breaks_with_locals": """
def f(x: float, a: int) -> float:
    got: float | None = None
    for bound in BANDS:
        if x / a < bound:
            got = bound
            break
        x = x - 1.0
    if got is None:
        return x
    return got + x
""",
    "nested_loops": """
def f(a: int, b: int) -> int:
    n = 0
    for i in range(4):
        for j in range(3):
            if j > i or n > b:
                break
            n += a - j
        else_ = n
        if else_ < 0:
            continue
        n += 1
    return n
""",
    "long_loop": """
def f(a: int) -> int:
    n = 0
    for i in range(400):
        if i % 7 == 0:
            n += a
    return n
""",
    "loop_over_nothing": """
def f(a: int, li: list[int]) -> int:
    for i in range(0):
        for n in li:
            a += n
    for n in li:
        a -= n
    return a
""",
    "loop_over_a_list": """
def f(lf: list[float], x: float) -> float | None:
    best: float | None = None
    for v in lf:
        if v != v:
            continue
        if best is None or v > best:
            best = v
        if best > x:
            break
    return best
""",
    "loop_returns_from_a_list": """
def f(ls: list[str], s: str) -> int:
    for i, w in enumerate(ls, 1):
        if w == s:
            return i // len(w)
    return -1
""",
    "loop_by_index": """
def f(li: list[int]) -> int:
    n = 0
    for i in range(len(li)):
        n += li[i] * i
    return n
""",
    "loop_in_step": """
def f(li: list[int], lf: list[float]) -> float:
    total = 0.0
    for i, (n, v) in enumerate(zip(li, lf, strict=False)):
        total += v / n if i else v
    return total
""",
    "comprehension": (
        "def f(li: list[int], a: int) -> list[int]:\n return [n // a for n in li if n != 3]"
    ),
    "comprehension_of_floats": "def f(li: list[int]) -> list[float]:\n return [n / 2 for n in li]",
    "nested_comprehension": """
def f(li: list[int], ls: list[str]) -> list[str]:
    return [w * (n % 3) for n in li if n > 0 for w in ls if w]
""",
    "narrowing_in_a_comprehension": """
def f(ls: list[str]) -> float:
    found = [RATES.get(w) for w in ls]
    return sum([r for r in found if r is not None], 0.0)
""",
    "generator_stops": "def f(li: list[int], a: int) -> bool:\n return any(a // n > 1 for n in li)",
    "list_does_not_stop": (
        "def f(li: list[int], a: int) -> bool:\n return any([a // n > 1 for n in li])"
    ),
    "all_of_a_list": "def f(li: list[int]) -> bool:\n return all(li) or not any(li)",
    "aggregates_of_lists": """
def f(li: list[int], lf: list[float]) -> float:
    return min(li, default=0) + max(lf) - len(lf) + sum(li) / (1 + len(li))
""",
    "sorted_and_sliced": "def f(li: list[int]) -> list[int]:\n return sorted(li)[1:3] + li[-1:]",
    "in_a_list": "def f(ls: list[str], s: str) -> bool:\n return s in ls and 'ß' not in ls",
    "list_display": "def f(a: int, b: int) -> list[int]:\n return [a // b, b]",
    "list_of_optionals": """
def f(oa: int | None, ox: float | None) -> list[float | None]:
    return [ox, None, 1.0]
""",
    "optional_list": """
def f(li: list[int], p: bool) -> list[int] | None:
    return li if p and li[0] > 0 else None
""",
    "list_local_typed": """
def f(p: bool, lf: list[float]) -> int:
    got: list[float] = []
    if p:
        got = lf
    return len(got)
""",
    "unpacked_split": """
def f(s: str) -> str:
    left, right = s.split("a")
    return right + left
""",
    "unpacked_partition": """
def f(s: str) -> str:
    left, _, right = s.partition("a")
    return right + left
""",
    "formats": """
def f(s: str, a: int, x: float, q: bool) -> str:
    return f"{s!s:>4}|{a:,}|{x:.1f}|{q}|{a}|{x}"
""",
    "slices": """
def f(s: str, a: int) -> str:
    return s[1:] + s[:-1] + s[a:a + 2] + s[::-1] + s[1::2] + s[:]
""",
    "startswith_any": (
        "def f(s: str) -> bool:\n return s.startswith(('a', 'C')) or s.endswith(WORDS)\n"
        "WORDS = ('b',)"
    ),
    "regular_expressions": """
def f(s: str, u: str) -> str:
    found = re.search("([a-c])(?P<rest>.*)", s)
    if found is None or WORD.fullmatch(u):
        return "none"
    return found.group(1) + found["rest"] + WORD.sub("-", u)
WORD = re.compile("[A-Z]+", re.I)
""",
    "digests": """
def f(s: str) -> str:
    return hashlib.sha256(s.encode()).hexdigest()[:8] + hashlib.md5(s.encode("utf-8")).hexdigest()
""",
    "int_where_a_helper_takes_a_float": """
def f(a: int, b: int, q: bool) -> float:
    return ratio(a, b) + ratio(q, 2.0, empty=b / 4)
""",
    "walrus_in_if": """
def f(x: float, y: float) -> float:
    if (r := x / y) > 1.0:
        return r
    return -r
""",
    "walrus_after_and": """
def f(oa: int | None, b: int) -> int:
    if oa is not None and (n := oa // b) > 1:
        return n
    return 0
""",
    "walrus_reassigned_on_one_way": """
def f(a: int, b: int) -> int:
    if (n := a * 2) > b:
        n -= b
    return n
""",
    "assert_narrows": (
        "def f(oa: int | None) -> int:\n assert oa is not None and oa > 0\n return oa"
    ),
    "raise_errs": """
def f(a: int) -> int:
    if a < 0:
        raise ValueError("negative")
    return a
""",
    "chained_comparison_once": "def f(a: int, b: int) -> bool:\n return 0 < a // b <= 3 != b",
    "helper_default_and_keyword": """
def f(x: float, y: float) -> float:
    return ratio(x, y) + ratio(d=y, n=1.0, empty=x) - ratio(n=x, d=2.0)
""",
    "defaults_are_constants": """
def f(x: float, rate: float = 0.25, *, n: int = 3) -> float:
    return x * rate + n
""",
    "truth_of_times": """
def f(t: datetime, ot: datetime | None, od: date | None, g: timedelta) -> datetime | None:
    if not od:
        return ot or t + g
    return ot if ot and t - g else None
""",
    "none_assigned": """
def f(li: list[int], oa: int | None) -> int | None:
    last = oa
    for n in li:
        if last is not None and last > n:
            last = None
        elif n:
            last = n
    if not last:
        oa = None
    return oa
""",
    "item_of_a_list_display": """
def f(a: int, b: int, s: str) -> int:
    return [a, b][1] - [a, a // 2, b][-2] + len([s][0:1]) + [7, 9][b]
""",
    "list_display_in_a_branch_not_taken": """
def f(ot: datetime | None, ox: float | None) -> float:
    if ot is not None and ox is not None:
        return 1.0 * math.prod([ot.timestamp(), ox])
    return 0.0
""",
    "times_formatted_with_nothing": """
def f(d: date, t: datetime) -> str:
    return format(d, "") + format(t, "") + d.strftime("") + f"{t:}{d:%Y}"
""",
    "isocalendar_of_a_constant": """
def f(d: date) -> bool:
    return d.isocalendar().week == date(2024, 12, 30).isocalendar().week
""",
    "reversed_lists": """
def f(li: list[int], ls: list[str]) -> list[int]:
    return list(reversed(li)) + sorted(reversed(li)) + [len(w) for w in reversed(ls)]
""",
    "local_time_that_no_year_holds": """
def f(t: datetime) -> int:
    local = t.astimezone(ZoneInfo("Pacific/Apia"))
    if t.year > 2024:
        return 1
    return local.hour
""",
    "tuples_and_views_are_read": """
def f(s: str, d: date, t: datetime) -> int:
    week = t.astimezone(ZoneInfo("Asia/Kolkata")).isocalendar()[1]
    year, _, day = d.isocalendar()
    parts = list(s.partition("a")) + [s.rpartition("a")[2]]
    return week + year * day + len(parts) + sum(len(p) for p in s.partition("b"))
""",
    "table_raises_when_absent": "def f(s: str) -> float:\n return RATES[s] * 2.0",
    "table_get": "def f(a: int) -> int | None:\n return POINTS.get(a)",
    "table_get_default": "def f(s: str, x: float) -> float:\n return RATES.get(s, 1.0 / x)",
    "long_table": """
def f(s: str, a: int, x: float) -> float:
    if s in MANY:
        return MANY[s] + SQUARES.get(a, x)
    return SQUARES[a] * HALVES.get(x, 0.25)
MANY = {w: float(i) for i, w in enumerate(["a", "b", "", "C", "ab", "x", "ß", "y", "😀", "z"])}
SQUARES = {i: i * 0.5 for i in range(-20, 20)}
HALVES = {i / 2: i * 1.5 for i in range(-20, 20)}
""",
    "large_table": "def f(a: int, s: str) -> float:\n return MANY[a] + NAMES[s]",
    "large_table_get": "def f(a: int) -> float | None:\n return MANY.get(a + 1)",
    "large_table_get_or": "def f(a: int, x: float) -> float:\n return MANY.get(10 // a, x) * 2.0",
    "large_table_guarded": """
def f(a: int, s: str | None) -> float:
    if s is None or a > 2**40:
        return -1.0
    return MANY[a * 2] if NAMES.get(s, 0) >= 0 else 1.0 / NAMES[s]
""",
    "large_table_in": "def f(s: str, a: int) -> bool:\n return s in NAMES and a not in MANY",
    "one_of_few": "def f(s: str, a: int) -> bool:\n return s in ('a', 'ß', '') or a in (7, -1)",
    "or_of_equalities": "def f(a: int, b: int) -> bool:\n return a == 1 or a == 7 or b == -1",
    "error_of_a_local_that_some_ways_do_not_read": """
def f(a: int, b: int, x: float) -> float:
    ratio = a // b
    if x > 1.0:
        return x
    return ratio * 2.0
""",
    "error_of_a_local_in_one_branch": """
def f(a: int, b: int, x: float) -> float:
    y = x
    if a > 1:
        y = x / b
    elif a < -1:
        unread = 1 / b
    return 0.0 if x < 0.0 else y
""",
    "error_on_the_left_where_the_right_would_decide": """
def f(a: int, b: int, q: bool) -> int:
    both = 10 // b > 2 and a == 12345
    either = 10 // a < 5 or (q or not q)
    return 1 if both else 2 if either else 3
""",
    "error_of_a_test": """
def f(a: int, b: int, x: float) -> int | None:
    if a // b > 2:
        return None
    if x > 0.0 and 1 / b < 0.5:
        return 1
    elif 10 % a == 0:
        return 2 if x < 5.0 else None
    return a * b * 7 + 1
""",
    "error_of_a_local_that_is_a_none_elsewhere": """
def f(a: int, b: int, ox: float | None) -> float | None:
    got = ox / b if ox is not None else None
    if a == 1:
        return got
    if got is None:
        return 1.0 / a
    return got * 2.0
""",
    "leaving_loops_in_many_ways": """
def f(a: int, b: int, x: float) -> float:
    total = x
    for i in range(4):
        if a == i:
            continue
        if b == i:
            break
        if total > 1e9:
            return total
        if a * i > 2**40:
            if x > 0.0:
                break
            total = total - 1.0
        total = total * 2.0 + 1.0 / (b - 3)
    return total
""",
    "floor_division_by_literals": """
def f(a: int, b: int) -> int:
    return (a // 8) ^ (a % 8) ^ (b // 6) ^ (b % 10) ^ (a // 2**52) ^ (b % 2**53) ^ (b // 1)
""",
    "table_in": "def f(s: str, a: int) -> bool:\n return s in RATES and a not in POINTS",
    "table_written_here": 'def f(s: str) -> int:\n return {"a": 1, "b": 2}.get(s, 0)',
    "literal_type": (
        'def f(s: Literal["a", "b"]) -> Literal["a", "x"]:\n return "a" if s == "b" else "x"'
    ),
    "append": """
def f(li: list[int], a: int) -> list[int]:
    out: list[int] = []
    for v in li:
        if v > a:
            out.append(v)
        elif v < 0:
            out.extend([v, a])
            out += [1]
    if len(out) > 2:
        out.append(out[0])
    return out[::-1]
""",
    "characters": """
def f(s: str, u: str) -> list[int]:
    digits = sum(c.isdigit() for c in s)
    repeated = sum(1 for a, b in zip(s, s[1:]) if a == b)
    found: list[str] = []
    for i, c in enumerate(s):
        if c not in u and i % 2 == 0:
            found.append(c.upper())
    return [digits, repeated, len(found), len(list(u)), len("".join(sorted(s)[:3]))]
""",
    "characters_of_a_constant": """
def f(s: str) -> int:
    return sum(s.count(c) for c in "aeiouß😀")
""",
    "reversed_list": """
def f(li: list[int], a: int) -> int:
    best = a
    for i, v in enumerate(reversed(li)):
        best = best - v if i % 2 else best + 1
    return best
""",
    "literal_from_a_local": """
def f(a: int, s: str) -> Literal["low", "high", "none"]:
    band: Literal["low", "high"] = "low"
    if a > 3:
        band = "high"
    return band if s else BANDS_BY_SIGN.get(a, "none")
BANDS_BY_SIGN = {1: "low", -1: "high"}
""",
    "enum_parameter": "def f(s: Shop) -> bool:\n return s == Shop.WEB or s in (Shop.STORE, 'C')",
    "str_enum_member": (
        "def f(s: str) -> Grade:\n return Grade.GOOD if s == Grade.BAD else Grade.BAD"
    ),
    "enum_value": "def f(s: str) -> str:\n return s + Grade.GOOD.value + Shop.WEB",
    "f_string": "def f(s: str, u: str) -> str:\n return f'{s}-{u}{{}}'",
    "any_over_constants": "def f(s: str) -> bool:\n return any(w in s for w in ('a', 'C1', 'ß'))",
    "all_stops_at_the_first_false": """
def f(x: float, y: float) -> bool:
    return all(x / d > 1.0 for d in (1.0, 0.5, y) if d != 2.0)
""",
    "nested_choice": "def f(a: int) -> str:\n return 'x' if a > 3 else 'y' if a > 0 else 'z'",
    "module_constants": (
        "def f(a: int) -> int:\n return a % WEEK + len(STEPS) + STEPS_1\nSTEPS_1 = 5"
    ),
    "unused_result_errs": "def f(a: int, b: int) -> int:\n a // b\n return 1",
    "whole_literals_for_a_float": (
        "def f(x: float) -> float:\n return 0 if x > 1.0 else -0 if x > 0.5 else x"
    ),
    "always_raises": "def f(a: int) -> int:\n assert a > a\n return 1",
    "reassigned_types_by_path": """
def f(x: float, ox: float | None) -> float | None:
    got = ox
    if got is None and x > 0.0:
        got = x
    return got
""",
    "big_ints_compare_exactly": (
        "def f(a: int, x: float) -> bool:\n return a == x or a < x <= a + 0.5"
    ),
}


@pytest.fixture(scope="module")
def table() -> Table:
    return Table(columns(400, seed=3))


@pytest.mark.parametrize("name", CASES)
def test_construct_agrees_three_ways(table: Table, name: str) -> None:
    assert differences(HELPERS + CASES[name], "f", table, range(400)) == []


def compiled(source: str, name: str = "f") -> ir.Function:
    made = module(HELPERS + source)[name]
    return parse(made if hasattr(made, "function") else feature(made))


def fingerprint(source: str) -> str:
    return wire.fingerprint(walk.rename(compiled(source)))


ORIGINAL = """
def near(n: float, d: float) -> float:
    part = n / d
    return part

def f(x: float, y: float, li: list[int]) -> float:
    total = 0.0
    for i in range(3):
        total += x * i
    if (w := near(x, y)) > 1.0:
        total -= w
    return total
"""
RENAMED = """
def close(above: float, below: float) -> float:
    r = above / below
    return r

def f(x: float, y: float, li: list[int]) -> float:
    '''Documented, too.'''
    s = 0.0
    for step in range(3):
        s += x * step
    if (other := close(x, y)) > 1.0:
        s -= other
    return s
"""


def test_renaming_locals_and_helpers_keeps_the_fingerprint() -> None:
    assert fingerprint(ORIGINAL) == fingerprint(RENAMED)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("range(3)", "range(4)"),
        ("total = 0.0", "total = -0.0"),
        ("> 1.0", ">= 1.0"),
        ("n / d", "d / n"),
    ],
)
def test_changing_the_meaning_changes_the_fingerprint(old: str, new: str) -> None:
    assert fingerprint(ORIGINAL) != fingerprint(ORIGINAL.replace(old, new))


def test_changing_a_captured_table_changes_the_fingerprint() -> None:
    made = "TABLE = {'a': %s}\ndef f(s: str) -> float:\n return TABLE[s]"
    assert fingerprint(made % "1.0") != fingerprint(made % "2.0")


@pytest.mark.parametrize("name", CASES)
def test_ir_survives_json(name: str) -> None:
    function = compiled(CASES[name])
    assert wire.canonical(wire.from_json(wire.to_json(function))) == wire.canonical(function)


def sql_of(function: ir.Function) -> str:
    lowering = Lowering()
    value = lower(lowering, function, [Value(Sql(quote(p.name))) for p in function.params])
    return f"SELECT {value.sql.text} FROM {lowering.wrap('t')}"


def test_sql_grows_linearly_with_sequential_ifs() -> None:
    def length(ifs: int) -> int:
        body = "".join(f"    if x > {i}.5:\n        y = y * 2.0 + x\n" for i in range(ifs))
        source = f"def f(x: float, y: float) -> float:\n{body}    return y"
        return len(sql_of(compiled(source)))

    small, large = length(10), length(40)
    assert large < small * 4.5


def test_sql_grows_linearly_with_nested_choices() -> None:
    def length(depth: int) -> int:
        made = "x"
        for i in range(depth):
            made = f"({made} / y if x > {i}.5 else y)"
        return len(sql_of(compiled(f"def f(x: float, y: float) -> float:\n    return {made}")))

    assert length(24) < length(6) * 5


def test_overflow_in_one_of_many_sums_that_share_parts_is_an_error_of_those_alone() -> None:
    # DuckDB rearranges sums and computes once what several columns share, guarded or not.
    rng = random.Random(5)

    def written(depth: int) -> str:
        if depth == 0 or rng.random() < 0.2:
            return rng.choice(["a", "b", "a", "b", "1", "0", "2", "int(a)"])
        return f"({written(depth - 1)} {rng.choice('+-*')} {written(depth - 1)})"

    edges = [0, 1, -1, 3, 2**31, 2**32, -(2**62), 2**62, 2**63 - 1, -(2**63)]
    rows = [(a, b) for a in edges for b in edges]
    con = duckdb.connect()
    con.execute("CREATE TABLE t (i INTEGER, a BIGINT, b BIGINT)")
    con.executemany("INSERT INTO t VALUES (?, ?, ?)", [(i, *r) for i, r in enumerate(rows)])
    erring = 0
    for _ in range(40):
        sources = [f"def f(a: int, b: int) -> int:\n    return {written(3)}" for _ in range(8)]
        functions = [compiled(s) for s in sources]
        lowering = Lowering()
        made = [
            lower(lowering, f, [Value(Sql(quote(p.name))) for p in f.params]) for f in functions
        ]
        shown = ", ".join(m.sql.text for m in made)
        found = con.execute(f"SELECT {shown} FROM {lowering.wrap('t')} ORDER BY i").fetchall()
        for source, function, column in zip(
            sources, functions, zip(*found, strict=True), strict=True
        ):
            evaluate = to_python(function)
            wanted = [None if (v := evaluate(*r)) is ERROR else v for r in rows]
            assert list(column) == wanted, source
            erring += wanted.count(None)
    assert erring > 1000


def test_a_loop_over_a_list_runs_as_one_python_function() -> None:
    function = compiled("""
def f(lf: list[float]) -> float:
    total = 0.0
    for v in lf:
        total = total * 0.5 + v
    return total
""")
    lowering = Lowering()
    lower(lowering, function, [Value(Sql("lf"))])
    assert [name.split("_")[1] for name in lowering.python_ops] == ["fn"]


# --- several values -------------------------------------------------------------------------------

SEVERAL = """
@feature
def spread(x: float, y: float) -> Both:
    if x > 3.0:
        return Both(x, None)
    return Both(low=x / y, high=y) if y < 1.0 else Both(high=x, low=y)

@feature
def parts(a: int, b: int) -> Parts:
    return {"whole": a // b, "rest": a % b}

def low(x: float, y: float) -> float:
    return spread.function(x, y).low
def high(x: float, y: float) -> float | None:
    return spread.function(x, y).high
"""


@pytest.mark.parametrize("field", ["low", "high"])
def test_fields_of_a_named_tuple_are_features(table: Table, field: str) -> None:
    space = module(HELPERS + SEVERAL)
    function = parse(space["spread"][field])
    assert function.name == field
    rows = table.rows(function, range(300))
    evaluate = to_python(function)
    for row, from_sql in zip(rows, table.ask(function, range(300)), strict=True):
        try:
            plain: Any = space["spread"][field](*row)
        except ZeroDivisionError:
            plain = "ERROR"
        assert repr(plain).strip("'") == repr(evaluate(*row)) == repr(from_sql)


def test_fields_of_a_typed_dict_are_features() -> None:
    space = module(HELPERS + SEVERAL)
    assert list(space["parts"].fields) == ["whole", "rest"]
    assert to_python(parse(space["parts"]["rest"]))(7, 4) == 3
    assert space["parts"]["rest"](7, 4) == 3


def test_an_error_in_one_field_is_an_error_of_all() -> None:
    space = module(HELPERS + SEVERAL)
    for field in ("whole", "rest"):
        assert repr(to_python(parse(space["parts"][field]))(7, 0)) == "ERROR"


def test_an_unknown_field_is_refused() -> None:
    space = module(HELPERS + SEVERAL)
    with pytest.raises(DefinitionError, match="it has whole, rest"):
        space["parts"]["half"]


# --- on_unsupported -------------------------------------------------------------------------------

VERBATIM = """
import statistics
WEIGHTS = {"a": [1.0, 2.0], "b": [0.5]}

def spread_of(values: list[float]) -> float:
    return statistics.pstdev(values)

@feature(on_unsupported="python")
def f(s: str, x: float, oa: int | None) -> float | None:
    try:
        weights = WEIGHTS[s[:1]]
    except KeyError:
        return None
    while len(weights) < 4:
        weights = weights + [x]
    if oa is not None and oa > 3:
        return oa  # an int, for a float
    return spread_of(weights)
"""


def test_a_function_runs_as_it_stands_where_asked(table: Table) -> None:
    assert differences(HELPERS + VERBATIM, "f", table, range(300)) == []


def test_a_verbatim_function_travels_as_json(table: Table) -> None:
    function = compiled(VERBATIM)
    again = wire.from_json(wire.to_json(function))
    assert to_python(again)("ab", 2.0, None) == to_python(function)("ab", 2.0, None)


def test_the_text_of_a_verbatim_function_is_part_of_its_fingerprint() -> None:
    assert fingerprint(VERBATIM) != fingerprint(VERBATIM.replace("< 4", "< 5"))
    assert fingerprint(VERBATIM) != fingerprint(VERBATIM.replace("pstdev", "stdev"))
    assert fingerprint(VERBATIM) != fingerprint(VERBATIM.replace("[0.5]", "[0.25]"))


@pytest.mark.parametrize(
    ("returns", "value"),
    [("int", "2**70"), ("int", "1.5"), ("float", "'1'"), ("str", "None"), ("str", "'\\ud800'")],
)
def test_a_result_that_its_type_does_not_hold_is_an_error(returns: str, value: str) -> None:
    source = f"@feature(on_unsupported='python')\ndef f(a: int) -> {returns}:\n    return {value}\n"
    assert repr(to_python(compiled(source))(1)) == "ERROR"
