"""Where Python's own rules surprise: each form agrees three ways, or is refused with what works."""

from __future__ import annotations

import pytest
from programs import columns
from three_ways import Table, differences, module

from featurekit import feature
from featurekit.errors import CompileError
from featurekit.parse import parse

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
    "a_span_beyond_int64": (
        "FOREVER = timedelta.max\ndef f(a: int) -> bool:\n return timedelta(days=a) < FOREVER",
        "a timedelta outside int64 microseconds",
        "106_751_991 days",
    ),
}


@pytest.fixture(scope="module")
def table() -> Table:
    return Table(columns(300))


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
