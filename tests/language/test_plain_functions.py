"""A feature is a plain function of its arguments: decorators, methods, clocks and what else is no
such function are refused, each with a caret (R1)."""

from __future__ import annotations

from pathlib import Path

import pytest
from three_ways import module

from featurekit.errors import CompileError, DefinitionError
from featurekit.language.parse import parse
from featurekit.language.to_python import to_python

MODULE = """
import builtins, datetime as dt, functools, json, math, os, random, statistics, sys, time, uuid
from random import random as chance
clock = time.time
show = print
generator = random.Random(3)
rounded = functools.partial(round, ndigits=2)
TABLE = {"a": [1.0]}
SEEN = []
TAGS = frozenset({"a", "b"})

def now() -> float:
    return clock()

def twice(function):
    @functools.wraps(function)
    def inner(*args):
        return function(*args) * 2
    return inner

def plainly_twice(function):
    def inner(x: float) -> float:
        return function(x) * 2
    return inner

def same(function):
    return function

@functools.lru_cache
def cached(x: float) -> float:
    return x

@twice
def doubled(x: float) -> float:
    return x

class Shop:
    @staticmethod
    def rate(x: float) -> float:
        return x

    def bound(self, x: float) -> float:
        return x
"""

PYTHON = '@feature(on_unsupported="python")\n'


def compile_error(source: str) -> CompileError:
    with pytest.raises(CompileError) as found:
        parse(module(MODULE + source)["f"])
    return found.value


def pointed_at(error: CompileError) -> str:
    """What begins at the caret."""
    lines = str(error).splitlines()
    at = next(i for i, line in enumerate(lines) if line.strip() == "^")
    return lines[at - 1][lines[at].index("^") :]


# --- what is not the def that is read -------------------------------------------------------------

REPLACED = {
    "wraps": ("@feature\n@twice\ndef f(x: float) -> float:\n    return x\n", "twice"),
    "above another": (
        "@feature\n@same\n@twice\ndef f(x: float) -> float:\n    return x\n",
        "same",
    ),
    "options": ("@feature(owner='me')\n@twice\ndef f(x: float) -> float:\n    return x\n", "twice"),
    "lru_cache": (
        "@feature\n@functools.lru_cache(maxsize=None)\ndef f(x: float) -> float:\n    return x\n",
        "functools.lru_cache",
    ),
    "staticmethod": (
        "@feature\n@staticmethod\ndef f(x: float) -> float:\n    return x\n",
        "static",
    ),
    "classmethod": ("@feature\n@classmethod\ndef f(x: float) -> float:\n    return x\n", "class"),
    "singledispatch": (
        "@feature\n@functools.singledispatch\ndef f(x: float) -> float:\n    return x\n",
        "functools.singledispatch",
    ),
    "lambda": ("f = feature(lambda x: x)\n", "lambda x: x"),
    "lambda in a call": ("f = dict(\n    f=feature(lambda x: x),\n)['f']\n", "lambda x: x"),
    "a static method": ("f = feature(Shop.rate)\n", "def rate"),
    "a bound method": ("f = feature(Shop().bound)\n", "def bound"),
    "in a class": (
        "class Own:\n    @feature\n    def f(x: float) -> float:\n        return x\nf = Own.f\n",
        "def f",
    ),
    "a cached helper": (
        "@feature\ndef f(x: float) -> float:\n    return cached(x)\n",
        "cached(x)",
    ),
    "a wrapped helper": (
        "@feature\ndef f(x: float) -> float:\n    return doubled(x)\n",
        "doubled(x)",
    ),
}


@pytest.mark.parametrize("name", REPLACED)
def test_a_function_that_is_not_the_text_s_is_refused_with_a_caret(name: str) -> None:
    source, place = REPLACED[name]
    assert pointed_at(compile_error(source)).startswith(place)


@pytest.mark.parametrize("name", ["wraps", "lru_cache", "staticmethod", "in a class"])
def test_python_that_is_not_compiled_is_refused_alike(name: str) -> None:
    source, place = REPLACED[name]
    source = source.replace("@feature(owner='me')", "@feature").replace(
        "@feature", '@feature(on_unsupported="python")'
    )
    assert pointed_at(compile_error(source)).startswith(place)


@pytest.mark.parametrize(
    ("helper", "place"), [("cached", "functools.lru_cache"), ("doubled", "twice")]
)
def test_the_helper_of_python_that_is_not_compiled_is_refused_at_its_decorator(
    helper: str, place: str
) -> None:
    source = (
        f'@feature(on_unsupported="python")\ndef f(x: float) -> float:\n    return {helper}(x)\n'
    )
    assert pointed_at(compile_error(source)).startswith(place)


@pytest.mark.parametrize("found", ["rounded", "Shop", "3", "statistics.mean(x for x in [1])"])
def test_what_is_no_function_is_refused_where_it_is_decorated(found: str) -> None:
    with pytest.raises(CompileError, match="stands above a def") as error:
        module(f"{MODULE}f = feature({found})\n")
    assert pointed_at(error.value).startswith("f = feature(")


def test_the_caret_stands_under_the_text_of_an_edited_file(tmp_path: Path) -> None:
    file = tmp_path / "edited.py"
    lines = (
        "f = feature(2)",
        "# one more\ng = feature(lambda x: x)",
        "one = 1\n\nh = feature(len)",
    )
    for text, place in zip(lines, ("f = feature(2", "lambda x: x", "h = feature(len"), strict=True):
        file.write_text(f"from featurekit import feature\n{text}\n", encoding="utf-8")
        with pytest.raises(CompileError, match="stands above a def") as error:
            exec(compile(file.read_text(encoding="utf-8"), file, "exec"), {})
        assert pointed_at(error.value).startswith(place)


def test_a_decorator_that_gives_a_function_of_its_own_is_read_as_that_function() -> None:
    source = "@feature\n@plainly_twice\ndef f(x: float) -> float:\n    return x\n"
    assert "2" in repr(parse(module(MODULE + source)["f"]).body)


def test_a_decorator_that_gives_the_function_back_loses_nothing() -> None:
    source = "@feature\n@same\ndef f(x: float) -> float:\n    return x\n"
    assert parse(module(MODULE + source)["f"]).params[0].name == "x"


# --- what is no function of its arguments ---------------------------------------------------------

IMPURE = {
    "random.random()": "random.random",
    "chance()": "chance",
    "generator.random()": "generator",
    "clock()": "clock",
    "time.perf_counter()": "time.perf_counter",
    "float(dt.datetime.now().year)": "dt.datetime.now",
    "float(dt.date.today().year)": "dt.date.today",
    "dt.datetime.fromtimestamp(x).timestamp()": "dt.datetime.fromtimestamp",
    "float(dt.datetime.fromisoformat('2024-01-01').now().year)": "dt.datetime.fromisoformat",
    "float(dt.datetime(2024, 1, 1).astimezone().hour)": "dt.datetime(2024, 1, 1).astimezone()",
    "float(uuid.uuid4().int)": "uuid.uuid4",
    "float(os.getpid())": "os.getpid",
    "float(len(os.environ))": "os.environ",
    "float(os.path.exists('a'))": "os.path.exists",
    "float(len(sys.argv))": "sys.argv",
    "float(open('a').read())": "open",
    "float(builtins.open('a').read())": "builtins.open",
    "float(input())": "input",
    "print(x) or x": "print",
    "show(x) or x": "show",
    "float(hash(str(x)))": "hash",
    "float(id(x))": "id",
    "float(eval('1'))": "eval",
    "getattr(time, 'time')()": "getattr",
    "float(len(globals()))": "globals",
    "sum([(lambda: random.random())()])": "random.random",
    "max(map(random.random, []), default=x)": "random.random",
    "x.__class__(1)": "x.__class__(1)",
    "float(list(TAGS)[0] == 'a')": "TAGS",
    "float(','.join({str(x), 'a'}) == 'a')": "{str(x), 'a'}",
    "float(f'{TAGS}' == '')": "TAGS",
    "[v for v in {x, 1.0}][0]": "{x, 1.0}",
    "SEEN.append(x) or float(len(SEEN))": "SEEN",
    "TABLE['a'].append(x) or x": "TABLE['a'].append",
    "TABLE.get('a').append(x) or x": "TABLE.get('a').append",
    "now()": "clock",
}


@pytest.mark.parametrize("expression", IMPURE)
def test_what_is_not_a_function_of_its_arguments_is_refused(expression: str) -> None:
    error = compile_error(f"{PYTHON}def f(x: float) -> float:\n    return {expression}\n")
    assert pointed_at(error).startswith(IMPURE[expression])


STATEMENTS = {
    "global": ("global N\n    N = x", "global N"),
    "import": ("import random\n    x = random.random()", "import random"),
    "from": ("from time import time as len\n    x = len()", "from time"),
    "attribute": ("now.calls = x", "now.calls"),
    "alias": ("own = SEEN\n    own.append(x)", "own.append"),
    "alias of a part": ("own = TABLE['a']\n    own[0] = x", "own[0]"),
    "in place": ("xs += [x]", "xs += "),
    "argument": ("xs.sort()", "xs.sort"),
    "alias in a loop": ("for own in TABLE.values():\n        own.append(x)", "own.append"),
    "nonlocal": (
        "n = 0\n    def step():\n        nonlocal n\n        n += 1\n    step()",
        "nonlocal n",
    ),
    "default": ("", "kept.append"),
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_change_of_what_outlives_the_call_is_refused(name: str) -> None:
    statements, place = STATEMENTS[name]
    params = "xs: list[float], x: float"
    if name == "default":
        params, statements = f"{params}, kept=[]", "kept.append(x)"
    error = compile_error(
        f'@feature(on_unsupported="python")\ndef f({params}) -> float:\n    {statements}\n'
        "    return x\n"
    )
    assert pointed_at(error).startswith(place)


PURE = (
    "statistics.pstdev([x, 1.0])",
    "float(len(json.dumps([x])))",
    "float(len(os.path.join('a', 'b')))",
    "functools.reduce(max, [x, 1.0])",
    "float('a' in TAGS and len(TAGS) == 2)",
    "float(sorted(TAGS)[0] == 'a')",
    "float(len({v for v in TAGS}))",
    "max(v for v in {x, 2.0})",
    "sum(TABLE['a']) + math.fsum(sorted(list(TABLE['a']) + [x]))",
    "(lambda own: own)([x])[0]",
    "dt.timedelta(seconds=1).total_seconds()",
    "float(uuid.UUID(int=3).int)",
)


@pytest.mark.parametrize("expression", PURE)
def test_a_function_of_its_arguments_is_taken(expression: str) -> None:
    source = f"{PYTHON}def f(x: float) -> float:\n    return {expression}\n"
    transform = module(MODULE + source)["f"]
    assert to_python(parse(transform))(2.5) == transform(2.5)


def test_a_list_of_its_own_may_be_changed() -> None:
    source = """
@feature(on_unsupported="python")
def f(xs: list[float]) -> float:
    own, counts = list(xs), {}
    own.sort()
    for value in own:
        counts[value] = counts.get(value, 0) + 1
    own += [1.0]
    rows = [[] for _ in own]
    rows[0].append(1.0)
    return float(len(counts) + len(own))
"""
    assert parse(module(MODULE + source)["f"]).name == "f"


def test_no_hint_recommends_python_for_what_is_not_a_function() -> None:
    error = compile_error("@feature\ndef f(x: float) -> float:\n    return x * random.random()\n")
    assert "on_unsupported" not in error.hint
    error = compile_error("@feature\ndef f(x: float) -> float:\n    return x * clock()\n")
    assert "as_of: datetime" in error.hint


def test_an_object_of_a_library_under_another_name_is_refused() -> None:
    source = '@feature(on_unsupported="python")\ndef f(x: float) -> float:\n    return rounded(x)\n'
    with pytest.raises(DefinitionError, match="is not what functools calls"):
        parse(module(MODULE + source)["f"])


@pytest.mark.parametrize("change", ["PARTS['a']['b'] = 1.0", "PARTS['a'].update(b=1.0)"])
@pytest.mark.parametrize("decorator", ["@feature\n", PYTHON])
def test_a_constant_whose_part_a_function_of_the_module_changes_is_refused(
    change: str, decorator: str
) -> None:
    source = f"""
PARTS = {{"a": {{"b": 0.5}}}}

def later() -> None:
    {change}

{decorator}def f(x: float) -> float:
    return x * PARTS["a"]["b"]
"""
    error = compile_error(source)
    assert "is changed in later()" in str(error)
