"""What the compiler says of functions that it refuses: place, caret, reason and what to write.

The texts stand in snapshots/compile_errors.txt; `FEATUREKIT_SNAPSHOTS=write pytest` rewrites them,
and their diff is the review.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from three_ways import module

from featurekit import feature
from featurekit.errors import CompileError
from featurekit.language.parse import parse
from featurekit.language.transform import Transform

SNAPSHOTS = Path(__file__).parents[1] / "snapshots" / "compile_errors.txt"

MODULE = """
import random, statistics
import enum; from featurekit import Vector
RATES = {"a": 0.5, "b": 1.5}
MIXED = {"a": 1, "b": 2.5}
NESTED = {"a": {"b": 1.0}}
BANDS = [0.5, 1.0]
PAIR = (1, 2.0)
COUNTS = {"a": 1}
seen = 0

class Colour(str, enum.Enum):
    RED = "red"

class Plain(enum.Enum):
    RED = 1

class Two(NamedTuple):
    low: float
    high: float

def untyped(x):
    return x

def half(x: float) -> float:
    return x / 2.0

def same(x: float) -> float:
    return x

def two(x: float) -> Two:
    return Two(x, x)

def down(n: int) -> int:
    return 0 if n <= 0 else down(n - 1)

def count(key: str) -> None:
    COUNTS[key] = 1

def bump() -> None:
    global seen
    seen = seen + 1

@feature
def weight(kg: float) -> float:
    return kg * 1000.0

"""

# name: the function `f`; each a thing that people write.
REFUSED: dict[str, str] = {
    "none_in_arithmetic": "def f(price: float | None, n: int) -> float:\n    return price * n",
    "none_of_an_expression": "def f(a: str) -> float:\n    return RATES.get(a) + 1.0",
    "none_returned_undeclared": (
        "def f(a: int) -> int:\n    if a > 3:\n        return None\n    return a"
    ),
    "path_without_return": "def f(a: int) -> int:\n    if a > 3:\n        return a",
    "none_compared_by_value": "def f(a: int | None) -> bool:\n    return a == None",
    "identity": "def f(a: int, b: int) -> bool:\n    return a is b",
    "float_for_int": "def f(a: int) -> int:\n    return a / 2",
    "str_and_int": "def f(a: int) -> str:\n    return 'n' + a",
    "never_equal": "def f(a: int) -> bool:\n    return a == '3'",
    "int_in_a_float_local": "def f(x: float) -> float:\n    y: float = 0\n    return y - x",
    "int_becomes_float_in_a_loop": (
        "def f(x: float) -> str:\n    total = 0\n    for i in range(3):\n        total += x\n"
        "    return str(total)"
    ),
    "two_types_on_two_paths": (
        "def f(a: int) -> str:\n    if a > 3:\n        y = 'a'\n    else:\n        y = 3\n"
        "    return 'x'"
    ),
    "unbound_on_a_path": "def f(a: int) -> int:\n    if a > 3:\n        b = a\n    return b",
    "undefined": "def f(a: int) -> int:\n    return a + offset",
    "branches_of_two_types": "def f(x: float) -> bool:\n    return (0 if x > 1 else x) > 3",
    "min_of_int_and_float": "def f(a: int, x: float) -> bool:\n    return min(a, x) > 3",
    "none_local": "def f(a: int) -> int | None:\n    best = None\n    return best",
    "untyped_parameter": "def f(a) -> int:\n    return a",
    "untyped_result": "def f(a: int):\n    return a",
    "unknown_type": "def f(a: complex) -> int:\n    return 3",
    "union": "def f(a: int | str) -> int:\n    return 3",
    "bare_list": "def f(a: list) -> int:\n    return 3",
    "dict_of_floats": "def f(a: dict[str, float]) -> int:\n    return 3",
    "dict_method": (
        "def f(seen: dict[str, int]) -> list[str]:\n    return [k for k, n in seen.most_common()]"
    ),
    "vector_without_size": "def f(a: Vector) -> int:\n    return 3",
    "vector_of_computed_numbers": (
        "def f(a: Vector[3], x: float) -> Vector[3]:\n    return [v * x for v in a]"
    ),
    "vector_of_another_size": "def f(a: Vector[3]) -> Vector[4]:\n    return a",
    "literal_not_declared": (
        "def f(a: int) -> Literal['low', 'high']:\n    return 'mid' if a > 3 else 'low'"
    ),
    "literal_of_any_str": (
        "def f(s: str) -> Literal['a', 'b']:\n    found = s.lower()\n    return found"
    ),
    "plain_enum": "def f(a: Plain) -> int:\n    return 3",
    "star_args": "def f(*a: int) -> int:\n    return 3",
    "async_def": "async def f(a: int) -> int:\n    return a",
    "while_else": (
        "def f(a: int) -> int:\n    while a > 3:\n        a -= 1\n    else:\n        a = 0\n"
        "    return a"
    ),
    "for_else": (
        "def f(a: int) -> int:\n    for i in range(3):\n        a += i\n    else:\n        a = 0\n"
        "    return a"
    ),
    "try_finally": (
        "def f(a: int) -> float:\n    try:\n        return 1 / a\n    finally:\n        a = 3"
    ),
    "raise_inside_a_try": (
        "def f(a: int) -> float:\n    try:\n        assert a > 3\n        return 1 / a\n"
        "    except ZeroDivisionError:\n        return 0.0"
    ),
    "none_in_a_handler": (
        "def f(s: str, a: int) -> int:\n    n: int | None = a\n    if n is None:\n"
        "        return 0\n    try:\n        n = None\n        n = int(s)\n"
        "    except ValueError:\n        return n + 1\n    return n"
    ),
    "int_or_float_of_a_helper": (
        "def h(lf: list[float]) -> float:\n    total = 0\n    for v in lf:\n        total += v\n"
        "    return total\n\n"
        "def f(lf: list[float]) -> str:\n    return str(h(lf))"
    ),
    "handler_of_no_error": (
        "def f(a: int) -> float:\n    try:\n        return 1 / a\n    except OSError:\n"
        "        return 0.0"
    ),
    "appended_in_two_types": (
        "def f(a: int, s: str) -> int:\n    out = []\n    out.append(a)\n    out.append(s)\n"
        "    return len(out)"
    ),
    "url_is_no_value": (
        "def f(s: str) -> bool:\n    parts = urllib.parse.urlparse(s)\n    return parts == s"
    ),
    "part_of_a_url": "def f(s: str) -> str:\n    return urllib.parse.urlparse(s).host",
    "dict_is_no_value": ("def f(s: str) -> bool:\n    table = {'a': 3}\n    return table == s"),
    "lambda_inside": "def f(a: int) -> int:\n    g = lambda v: v + 1\n    return g(a)",
    "def_inside": (
        "def f(a: int) -> int:\n    def g(v: int) -> int:\n        return v\n    return g(a)"
    ),
    "import_inside": "def f(a: float) -> float:\n    import numpy\n    return numpy.log(a)",
    "set_returned": "def f(li: list[int]) -> list[int]:\n    seen = set(li)\n    return list(seen)",
    "set_of_floats": "def f(lf: list[float]) -> int:\n    return len(set(lf) & {1.5})",
    "dict_of_computed_floats": "def f(x: float) -> int:\n    return len({'a': x / 3})",
    "dict_with_two_names": (
        "def f(s: str) -> int:\n    a = {}\n    b = a\n    a[s] = 3\n    return len(b)"
    ),
    "dict_of_its_caller": (
        "def f(seen: dict[str, int], s: str) -> int:\n    seen[s] = 3\n    return len(seen)"
    ),
    "defaultdict_read": (
        "def f(s: str) -> int:\n    d = collections.defaultdict(int)\n    d[s] += 1\n"
        "    return d['a']"
    ),
    "key_of_another_keyword": (
        "def f(li: list[int]) -> int:\n    return max(li, key=abs, default=3)"
    ),
    "print_call": "def f(a: int) -> int:\n    print(a)\n    return a",
    "isinstance_of_another_class": "def f(a: int) -> bool:\n    return isinstance(a, Plain)",
    "library_code": "def f(x: float) -> float:\n    return x * random.random()",
    "library_function": "def f(x: float) -> float:\n    return statistics.quantiles([x, x])",
    "now": "def f(t: datetime) -> bool:\n    return t < datetime.now()",
    "unknown_function": "def f(x: float) -> float:\n    return clamp(x, 0.0, 1.0)",
    "misspelt_method": "def f(s: str) -> bool:\n    return s.startwith('a')",
    "misspelt_math": "def f(x: float) -> float:\n    return math.sqr(x)",
    "wrong_argument_type": "def f(a: int) -> bool:\n    return 'abc'.startswith(a)",
    "untyped_helper": "def f(x: float) -> float:\n    return untyped(x)",
    "helper_argument": "def f(s: str) -> float:\n    return half(s)",
    "helper_gives_back_an_int": "def f(a: int) -> float:\n    y = same(a)\n    return y",
    "local_time_as_a_value": (
        "def f(t: datetime) -> datetime:\n    return t.astimezone(ZoneInfo('Europe/London'))"
    ),
    "zone_of_the_machine": "def f(t: datetime) -> int:\n    return t.astimezone().hour",
    "method_not_called": "def f(t: datetime) -> bool:\n    return t.weekday == 3",
    "field_called": "def f(t: datetime) -> int:\n    return t.hour()",
    "match_as_a_value": "def f(s: str) -> bool:\n    return re.search('a', s)",
    "pattern_computed": "def f(s: str, u: str) -> bool:\n    return re.search(u, s) is not None",
    "helper_arity": "def f(x: float) -> float:\n    return half(x, 2.0)",
    "helper_of_several": "def f(x: float) -> float:\n    return two(x)",
    "recursion": "def f(a: int) -> int:\n    return down(a)",
    "feature_as_a_value": "def f(x: float) -> float:\n    return weight * x",
    "several_values_unnamed": "def f(x: float) -> Two:\n    return Two(x, x)",
    "mutable_list_captured": "def f(x: float) -> bool:\n    y = BANDS\n    return x > 3",
    "tuple_as_a_value": "def f(a: int) -> int:\n    pair = (a, a)\n    return pair[0]",
    "table_of_two_types": "def f(s: str) -> float:\n    return MIXED[s]",
    "table_of_tables": "def f(s: str) -> float:\n    return NESTED[s]['b']",
    "table_key": "def f(a: int) -> float:\n    return RATES[a]",
    "table_default": "def f(s: str) -> float:\n    y = RATES.get(s, 0)\n    return y",
    "table_changed_elsewhere": "def f(s: str) -> int:\n    return COUNTS[s]",
    "global_changed_elsewhere": "def f(a: int) -> int:\n    return a + seen",
    "enum_member_as_str": "def f(s: str) -> str:\n    return s + Colour.RED",
    "list_append": "def f(li: list[int]) -> int:\n    li.append(3)\n    return 3",
    "list_of_two_types": "def f(a: int, x: float) -> list[float]:\n    return [a, x]",
    "list_append_while_looping": (
        "def f(li: list[int]) -> list[int]:\n    out = sorted(li)\n    for v in out:\n"
        "        out.append(v)\n    return out"
    ),
    "list_append_with_two_names": (
        "def f(li: list[int]) -> list[int]:\n    out = sorted(li)\n    other = out\n"
        "    out.append(3)\n    return other"
    ),
    "list_append_to_another": (
        "def f(li: list[int]) -> list[int]:\n    out = li\n    out += [3]\n    return out"
    ),
    "list_sorted_in_place": (
        "def f(li: list[int]) -> list[int]:\n    out = [3, 1]\n    out.sort()\n    return out"
    ),
    "computed_element": "def f(a: int, b: int) -> bool:\n    return a in (b + 1, 2)",
    "pattern_of_parts": (
        "def f(a: int) -> int:\n    match a:\n        case int(real=v):\n            return v\n"
        "    return 3"
    ),
    "literal_outside_int64": (
        "def f(a: int) -> bool:\n    return a > 2**10 + 10000000000000000000000"
    ),
    "naive_datetime": "def f(t: datetime) -> bool:\n    return t > datetime(2024, 1, 1)",
    "attribute_of_a_str": "def f(s: str) -> int:\n    return s.size",
    "assignment_to_an_element": "def f(li: list[int]) -> int:\n    li[0] = 3\n    return 3",
    "computed_format": "def f(x: float, a: int) -> str:\n    return f'{x:.{a}f}'",
    "two_targets": "def f(a: int) -> int:\n    b = c = a\n    return b + c",
    "uneven_unpacking": "def f(a: int) -> int:\n    b, c, d = divmod(a, 2)\n    return b",
    "walrus_in_a_comprehension": (
        "def f(li: list[int]) -> list[int]:\n    return [y := v for v in li]"
    ),
    "tuple_joined_to_a_list": ("def f(s: str) -> list[str]:\n    return s.partition('a') + [s]"),
    "tuple_for_a_list": "def f(s: str) -> list[str]:\n    return s.rpartition('a')",
    "tuple_equals_no_list": (
        "def f(li: list[int], d: date) -> bool:\n    return li == d.isocalendar()"
    ),
    "local_isocalendar_kept": (
        "def f(t: datetime) -> int:\n"
        "    parts = t.astimezone(ZoneInfo('Asia/Kolkata')).isocalendar()\n"
        "    return parts[1]"
    ),
    "tuple_of_a_list": "def f(li: list[int]) -> bool:\n    return tuple(li) == li",
    "lists_of_floats_compared": "def f(lf: list[float]) -> bool:\n    return lf[1:] == lf[:-1]",
    "float_counted_in_a_list": "def f(lf: list[float]) -> int:\n    return lf.count(lf[0])",
    "tolerance_by_position": (
        "def f(x: float, y: float) -> bool:\n    return math.isclose(x, y, 0.1)"
    ),
    "item_of_a_view": "def f(seen: dict[str, int]) -> int:\n    return seen.values()[0]",
    "strptime_without_a_zone": (
        "def f(s: str) -> date:\n    return datetime.strptime(s, '%d/%m/%Y').date()"
    ),
    "yields": "def f(a: int) -> int:\n    yield a",
    "int_chosen_in_a_declared_list_of_floats": (
        "def f(x: float, p: bool) -> str:\n"
        "    v: list[float] = [0 if p else x]\n"
        "    return str(v[0])"
    ),
    "bound_in_a_loop_that_may_not_turn": (
        "def f(li: list[int]) -> int:\n    for v in li:\n        last = v\n    return last"
    ),
    "annotation_that_is_no_python": "def f(a: '1 +') -> int:\n    return a",
    "annotation_that_raises": "def f(a: int) -> int:\n    b: [][0] = a\n    return b",
    "several_fields_differ": (
        "def h(x: float) -> Two:\n    return Two(lo=x, height=x)\n\n"
        "def f(x: float) -> float:\n    a, b = h(x)\n    return a + b"
    ),
    "unicode_before_the_caret": "def f(s: str) -> int:\n    return 'äöü€😀' + s - 1",
}


def message(name: str) -> str:
    """The error's text, with its file's name taken out."""
    made = module(MODULE + REFUSED[name])["f"]
    with pytest.raises(CompileError) as caught:
        parse(made if isinstance(made, Transform) else feature(made))
    return re.sub(r"<program \d+>", "features.py", str(caught.value))


def snapshots() -> dict[str, str]:
    text = SNAPSHOTS.read_text(encoding="utf-8")
    parts = re.split(r"^=== (\w+)\n", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], (p.rstrip("\n") for p in parts[1::2]), strict=True))


def test_compile_errors_read_as_they_were_reviewed() -> None:
    found = {name: message(name) for name in REFUSED}
    if os.environ.get("FEATUREKIT_SNAPSHOTS") == "write":
        SNAPSHOTS.parent.mkdir(exist_ok=True)
        text = "\n\n".join(f"=== {name}\n{shown}" for name, shown in found.items())
        SNAPSHOTS.write_text(f"{text}\n", encoding="utf-8")
    assert found == snapshots()


@pytest.mark.parametrize("name", REFUSED)
def test_every_error_points_at_its_line_and_says_what_to_write(name: str) -> None:
    place, source, caret, hint = message(name).split("\n")
    line, column = map(int, place.split(":")[1:3])
    written = (MODULE + REFUSED[name]).split("\n")[line - 1]
    assert source == f"    {written}"
    assert caret == " " * (3 + column) + "^"
    assert written[column - 1 :].strip()
    assert len(hint) > len("  hint: ") + 5
