"""Each form of the language that needs more than one operator agrees three ways, over awkward rows
that Hypothesis chooses (R1–R4)."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from programs import columns
from three_ways import Table, compared, disagreeing, module

from featurekit import feature
from featurekit.core.values import ERROR
from featurekit.errors import CompileError
from featurekit.language.listing import lines
from featurekit.language.parse import parse
from featurekit.language.to_python import to_python

ROWS, ASKED = 500, 40

FORMS: dict[str, str] = {
    "try_around_a_conversion": """
def f(s: str) -> float | None:
    try:
        return float(s)
    except ValueError:
        return None
""",
    "a_handler_sees_what_holds_wherever_the_body_stopped": """
def f(s: str, a: int, b: int) -> int:
    n = 1
    try:
        n = a // b
        n = int(s)
    except ZeroDivisionError:
        n -= 1
    except (ValueError, TypeError):
        n += 1
    return n
""",
    "an_int_outside_int64_is_caught_by_no_handler": """
def f(a: int, b: int) -> int:
    try:
        return a * b
    except (OverflowError, ValueError):
        return 0
    except Exception:
        return 1
""",
    "a_handler_of_another_class_lets_the_error_pass": """
def f(li: list[int], a: int) -> int:
    try:
        return li[a]
    except (ValueError, ZeroDivisionError):
        return -1
""",
    "a_handler_by_its_base_class": """
def f(li: list[int], s: str, ob: bytes | None) -> int:
    try:
        if ob is not None:
            return len(ob.decode("utf-8"))
        return li[0] + {"a": 1}[s]
    except LookupError:
        return -1
    except UnicodeError:
        return -2
""",
    "try_in_a_loop": """
def f(ls: list[str]) -> int:
    total = 0
    for w in ls:
        try:
            n = int(w)
        except ValueError:
            continue
        if n > 5:
            break
        total += n % 100
    return total
""",
    "a_missing_match_in_a_try": r"""
def f(s: str) -> str:
    try:
        return re.search(r"(\w)\w", s).group(1)
    except AttributeError:
        return "none"
""",
    "while_until_it_is_small": """
def f(a: int, b: int) -> int:
    a, b = abs(a % 1000), abs(b % 1000)
    while b:
        a, b = b, a % b
    return a
""",
    "while_with_break_and_continue": """
def f(s: str, k: int) -> str:
    out = ""
    i = 0
    while i < len(s):
        i += 1
        if s[i - 1] == "a":
            continue
        out += s[i - 1]
        if len(out) > k % 4:
            break
    return out
""",
    "while_true_with_a_walrus": """
def f(s: str) -> int:
    at, n = 0, 0
    while (at := s.find("a", at)) >= 0:
        at += 1
        n += 1
    return n
""",
    "ranges_that_the_data_tells": """
def f(li: list[int], k: int) -> int:
    n = 0
    for i in range(1, len(li)):
        n += (li[i] % 100) - (li[i - 1] % 100)
    for j in range(k % 7, -2, -2):
        n += j
    return n + sum([i for i in range(0, len(li) - 1)])
""",
    "parts_of_a_list": """
def f(s: str, k: int) -> list[str]:
    n = abs(k % 3) + 1
    return [s[i : i + n] for i in range(0, len(s), n)]
""",
    "loops_over_matches": r"""
def f(s: str) -> str:
    out = ""
    for m in re.finditer(r"(\w)(\w)?", s):
        out += m.group(1) + str(m.start()) + str(m.end())
    return out + "".join(m[0] for m in re.finditer("[ab]+", s) if m.start() > 0)
""",
    "groups_of_a_match": r"""
def f(s: str) -> str:
    m = re.match(r"(\w)(.)", s)
    if m is None:
        return "none"
    a, b = m.groups()
    c, d = m.group(2, 1)
    return a + b + c + d + str(m.end())
""",
    "the_class_of_a_value": """
def f(s: str | None, a: int, ox: float | None) -> int:
    if not isinstance(s, str):
        return -1
    if isinstance(a, str) or type(a) is bool:
        return a.upper()
    n = 1 if isinstance(a, (int, float)) and type(s) is str else s
    if isinstance(ox, float) and ox > 1.0:
        n += 1
    return n + len(s)
""",
    "constants_in_locals": r"""
def f(s: str, w: str) -> int:
    days = {"a": 1, "b": 2, "": 3}
    known = {"a", "b"}
    pattern = r"\w+"
    word = re.compile("[ab]", re.IGNORECASE)
    if s in known or word.search(s):
        return days.get(s, 7)
    return len(re.findall(pattern, w)) + len(days)
""",
    "types_found_in_the_text": """
def f(ls: list[str], li: list[int]) -> list[str]:
    seen = []
    sizes = []
    for w in ls:
        if w not in seen:
            seen.append(w)
            sizes.append(len(w))
    return seen + [str(n) for n in sizes]
""",
    "an_int_that_becomes_a_float": """
def f(lf: list[float], x: float, y: float) -> float:
    total = 0
    for v in lf:
        if v == v and abs(v) < 1e100:
            total += v * 0.5
    share = x / y if y and y == y else 0
    return max(total, -5.0) + share
""",
    "formats": """
def f(s: str, a: int, x: float) -> str:
    shape = "{}|{:>5}|{last:.2f}"
    return shape.format(s, a, last=x) + "{1}-{0}".format(a, s)
""",
    "a_dict_of_counts": """
def f(ls: list[str], s: str) -> int:
    counts = {}
    for w in ls:
        counts[w] = counts.get(w, 0) + 1
    counts[s] = 7
    n = 0
    for w, k in counts.items():
        if w in counts and len(w) > 0:
            n += k
    return n + len(counts) + sum(counts.values()) + counts[s]
""",
    "a_counter_and_a_defaultdict": """
def f(ls: list[str], li: list[int]) -> str:
    counts = collections.Counter(ls)
    counts["a"] += 2
    seen = collections.defaultdict(int)
    for v in li:
        seen[v % 3] += 1
    out = str(counts["nothing"]) + str(max(seen.values(), default=0))
    for w, n in counts.most_common(2):
        out += w + str(n)
    return out + counts.most_common(1)[0][0] + max(counts, key=counts.get)
""",
    "a_dict_is_given_back": """
def f(ls: list[str], s: str, k: int) -> dict[str, int]:
    if s == "a":
        return {"": k, s: 1}
    return {w: len(w) for w in ls if w}
""",
    "local_sets": """
def f(ls: list[str], s: str, li: list[int]) -> int:
    seen = set()
    for w in ls:
        if w in seen:
            continue
        seen.add(w)
    letters = set(s) | {"a", s}
    both = letters & seen
    letters -= {"b"}
    seen.discard("a")
    odd = {v % 2 for v in li}
    if not odd:
        return len(both)
    return len(seen) * 100 + len(letters ^ set("abc")) + len(both) + sorted(odd)[0]
""",
    "shared_letters": """
def f(s: str, u: str) -> float:
    common = set(s) & set(u)
    union = set(s).union(u)
    return len(common) / len(union)
""",
    "sorted_by_a_key": """
def f(ls: list[str], lf: list[float], p: bool) -> list[str]:
    last = sorted(lf, key=lambda v: -v if v == v else 0.0)
    words = sorted(ls, key=len, reverse=True) + sorted(ls, key=str.lower)
    return words + [str(v) for v in last]
""",
    "sorted_by_a_key_that_may_leave_int64": """
def f(li: list[int], s: str, k: int) -> list[str]:
    largest = sorted(li, key=lambda v: -v)
    return [str(v) for v in largest + sorted(li, key=abs)] + sorted(s, key=lambda c: -ord(c))
""",
    "sets_of_what_may_err": """
def f(li: list[int], a: int, b: int) -> int:
    s = set(li)
    s.discard(a // b)
    negated = {-v for v in li}
    return len(s) * 100 + len(negated & {-a}) * 10 + len(negated - {b * 2})
""",
    "a_shared_element_that_errs_beside_an_empty_set": """
def f(li: list[int], a: int, b: int) -> int:
    return len(set(li) & {a // b})
""",
    "a_missing_element_that_errs_beside_an_empty_set": """
def f(li: list[int], a: int, b: int) -> int:
    return len(set(li) - {a // b})
""",
    "places_and_counts_of_computed_inputs": """
def f(s: str, k: int) -> list[str]:
    from collections import Counter
    ends = [str(m.end()) for m in re.finditer("a", s[-k:])]
    return ends + [w for w, _ in Counter(s.split()).most_common(k + 1)]
""",
    "extremes_by_a_key": """
def f(ls: list[str], li: list[int]) -> str:
    if not ls:
        return "none"
    last = max(li, key=lambda v: v % 7)
    return max(ls, key=len) + min(ls, key=lambda w: w.count("a")) + str(last)
""",
    "lists_repeated_and_imports_inside": """
def f(li: list[int], k: int) -> list[int]:
    from math import floor as down
    sizes, more = 1, []
    more.append(down(k % 7 / 2))
    return [0] * 3 + li * (k % 3) + more
""",
    "elements_that_may_be_none": """
def f(li: list[int], k: int, p: bool) -> int | None:
    some = [v if v % 2 else None for v in li]
    if not some:
        return None
    first = some[0]
    known = [v for v in some[1:] + some[::-1] if v is not None]
    if 3 in some or p:
        return len(some) + len(known)
    return first if k % 2 else some[k % 5]
""",
    "lists_of_optional_texts": """
def f(ls: list[str], k: int) -> list[str | None]:
    return [w or None for w in ls][: k % 3] if k % 2 else [None, "a"]
""",
    "lists_of_lists": """
def f(li: list[int], k: int) -> list[list[int]]:
    n = abs(k % 3) + 1
    parts = [li[i : i + n] for i in range(0, len(li), n)]
    rows = []
    for part in parts:
        if len(part) == n and part[0] != 7:
            rows.append(part)
    return rows + parts[-1:]
""",
    "sums_of_rows": """
def f(li: list[int], k: int) -> int:
    rows = [[v % 100, v % 7] for v in li]
    if not rows:
        return 0
    return sum(sum(row) for row in rows) + rows[k % 4][1] + len(rows[0])
""",
    "unpacking_with_a_star": """
def f(ls: list[str], li: list[int]) -> str:
    first, *rest = ls
    *others, last = ls
    a, *middle, b = li
    return first + "".join(rest) + last + str(len(others)) + str(len(middle)) + str(b % 5)
""",
    "a_match_bound_in_a_test": r"""
def f(s: str, u: str) -> str:
    if m := re.match(r"(\w)(.)", s):
        return m.group(2) + m[1]
    elif u and (n := re.search("[ab]+", u)):
        return n.group() + str(n.start())
    return "none"
""",
    "match_on_classes": """
def f(s: str | None, a: int, ox: float | None) -> str:
    match a:
        case str():
            return a.upper()
        case int(n):
            out = str(n % 10)
    match s:
        case str(t) if t:
            out += t
        case None:
            out += "none"
    match ox:
        case int():
            return "never"
        case float():
            return out + str(ox > 1.0)
        case _:
            return out
""",
    "a_class_with_a_guard": """
def f(a: int) -> str:
    match a % 5:
        case int() if a > 3:
            return "more"
        case 0:
            return "none"
        case _:
            return "other"
""",
    "match_on_tuples": """
def f(s: str, oa: int | None, p: bool) -> str:
    match (s, oa):
        case ("a", None):
            return "first"
        case ("" | " a ", n):
            return "second" + str(n is None)
        case (w, int(n)) if len(w) > 2:
            return w + str(n % 7)
        case (_, None):
            return "third"
    match p, len(s):
        case True, 0 | 1:
            return "short"
        case _:
            return s
""",
    "times_of_the_day": """
def f(ot: datetime | None, d: date) -> str:
    if ot is None:
        return str(datetime.combine(d, time(9, 30), tzinfo=timezone.utc))
    clock = ot.time()
    local = ot.astimezone(ZoneInfo("Asia/Kolkata")).time()
    late = clock >= time(17) or local < time(5, 30, 1)
    same = datetime.combine(ot.date(), clock, tzinfo=timezone.utc) == ot
    return str(late) + str(same) + str(clock.minute) + str(ot.time().hour)
""",
    "parts_of_a_url": """
def f(s: str, w: str) -> str:
    parts = urllib.parse.urlparse("http://" + s + ":80/" + w)
    host = parts.hostname or ""
    port = parts.port
    if port is None:
        return host
    return f"{parts.scheme} {host} {port} {parts.path}"
""",
}


@pytest.fixture(scope="module")
def table() -> Table:
    return Table(columns(ROWS))


@pytest.mark.parametrize("name", FORMS)
def test_a_form_agrees_three_ways(table: Table, name: str) -> None:
    seen: list[Any] = []

    @settings(
        max_examples=6,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(first=st.integers(0, ROWS - ASKED))
    def agree(first: int) -> None:
        _, answers = compared(FORMS[name], "f", table, range(first, first + ASKED))
        seen.extend(plain for _, plain, *_ in answers)
        assert disagreeing(answers)[:1] == []

    agree()
    assert len(set(map(repr, seen))) > 1  # the form has more than one outcome


# --- bounds, which Python has not -----------------------------------------------------------------

ENDLESS = {
    "while": "def f(a: int) -> int:\n    while a == a:\n        a = 0\n    return a",
    "while_with_a_handler": (
        "def f(a: int) -> int:\n    try:\n        while True:\n            a = 0\n"
        "    except Exception:\n        return 1"
    ),
    "whiles_in_whiles": (
        "def f(a: int) -> int:\n    n = 0\n    for i in range(2000):\n        j = 0\n"
        "        while j < 1000:\n            j += 1\n        n += j\n    return n + a"
    ),
    "range": "def f(a: int) -> int:\n    return sum([i for i in range(0, a + 1_000_002)])",
    "list": "def f(a: int) -> int:\n    return len([0, 1] * (a + 600_000))",
    "comb": "def f(a: int) -> int:\n    return math.comb(2**60 + a, 2**59)",
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_never_ends_in_python_is_an_error(name: str) -> None:
    if name == "whiles_in_whiles":
        source = ENDLESS[name].replace("range(2000)", "range(a + 2000)")
    else:
        source = ENDLESS[name]
    function = parse(feature(module(source)["f"]))
    assert to_python(function)(0) is ERROR


def test_turns_within_the_bound_are_no_error() -> None:
    source = "def f(a: int) -> int:\n    while a < 1_000_000:\n        a += 1\n    return a"
    function = parse(feature(module(source)["f"]))
    assert to_python(function)(0) == 1_000_000


# --- what people see of it ------------------------------------------------------------------------


def test_a_function_with_a_handler_is_listed_as_it_reads() -> None:
    source = """
def f(s: str) -> int:
    n = 0
    while n < 3:
        try:
            n = int(s)
        except (ValueError, IndexError):
            n += 1
    return n
"""
    shown = "\n".join(lines(parse(feature(module(source)["f"]))))
    assert "    while n < 3:\n        try:" in shown
    assert "        except (ValueError, IndexError):" in shown


# --- several results ------------------------------------------------------------------------------

DATACLASS = """
import dataclasses

@dataclasses.dataclass(frozen=True)
class Pair:
    low: int
    high: int | None

@feature
def pair(a: int, b: int) -> Pair:
    if a == b:
        return Pair(low=a, high=None)
    return Pair(min(a, b), high=max(a, b))

@feature
def f(a: int, b: int) -> int:
    low, high = pair(a, b)
    return low if high is None else high
"""


def test_the_fields_of_a_dataclass_are_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "program", ModuleType("program"))
    space = module(DATACLASS)
    assert list(space["pair"].fields) == ["low", "high"]
    low, high = (to_python(parse(space["pair"][name])) for name in ("low", "high"))
    assert [(low(a, b), high(a, b)) for a, b in ((1, 2), (3, 3))] == [(1, 2), (3, None)]
    assert space["pair"]["high"](5, 4) == 5
    with pytest.raises(CompileError, match="gives a Pair, which is not unpacked"):
        parse(space["f"])  # Python does not unpack it either
