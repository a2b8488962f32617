"""A traced call gives what the online path gives, and names the first node that DuckDB parts at."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from programs import MODULE, Writer, columns
from three_ways import module

from featurekit import feature
from featurekit.core.values import ERROR
from featurekit.language import ops
from featurekit.language.parse import parse
from featurekit.language.to_python import to_python
from featurekit.language.trace import trace
from featurekit.offline.session import prepare
from featurekit.parity.compare import bits
from featurekit.parity.diagnose.parting import first_parting, sql_call

ROWS = columns(40)


@pytest.fixture(scope="module")
def con():
    import duckdb

    opened = duckdb.connect(config={"threads": 1})
    prepare(opened)
    yield opened
    opened.close()


@st.composite
def programs(draw: st.DrawFn) -> str:
    return Writer(lambda n: draw(st.integers(0, n - 1))).function()


@settings(
    max_examples=60,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    database=None,
    phases=[Phase.generate],
)
@given(source=programs())
def test_a_traced_call_gives_what_the_online_path_gives(source):
    note(source)
    function = parse(module(source, MODULE)["f"])
    evaluate = to_python(function)
    for i in range(8):
        arguments = [ROWS[p.name][1][i] for p in function.params]
        assert bits(trace(function, arguments).value) == bits(evaluate(*arguments))


@feature
def fee(amount: float, pieces: int, word: str | None) -> float:
    if word is None:
        return 0.0
    each = amount / pieces
    return math.log(each) * len(word.lower())


def test_every_node_stands_in_the_order_of_its_evaluation():
    made = trace(parse(fee), [8.0, 2, "Ab"])
    assert [(s.text, s.inputs, s.value) for s in made.steps] == [
        ("float(pieces)", (("pieces", 2),), 2.0),
        ("amount / float(pieces)", (("amount", 8.0), ("float(pieces)", 2.0)), 4.0),
        ("math.log(each)", (("each", 4.0),), math.log(4.0)),
        ("word.lower()", (("word", "Ab"),), "ab"),
        ("len(word.lower())", (("word.lower()", "ab"),), 2),
        ("float(len(word.lower()))", (("len(word.lower())", 2),), 2.0),
        (
            "math.log(each) * float(len(word.lower()))",
            (("math.log(each)", math.log(4.0)), ("float(len(word.lower()))", 2.0)),
            math.log(4.0) * 2,
        ),
    ]
    assert made.value == math.log(4.0) * 2


def test_a_call_that_errs_ends_with_the_node_that_erred():
    made = trace(parse(fee), [8.0, 0, "Ab"])
    assert made.value is ERROR
    assert made.steps[-1].text == "amount / float(pieces)"
    assert made.steps[-1].value is ERROR


def test_duckdb_agrees_with_every_node(con):
    made = trace(parse(fee), [8.0, 3, "Ab"])
    assert first_parting(con, made) is None
    assert sql_call(con, made.function, [8.0, 3, "Ab"]) == made.value
    assert sql_call(con, made.function, [8.0, 0, "Ab"]) is ERROR


def test_the_first_node_that_parts_is_named(con, monkeypatch):
    key = "math.log(float)"
    wrong = dataclasses.replace(ops.TABLE[key], sql="ln({0}) + 1.0::DOUBLE", literal_sql=None)
    monkeypatch.setitem(ops.TABLE, key, wrong)
    step, value = first_parting(con, trace(parse(fee), [8.0, 2, "Ab"]))
    assert step.text == "math.log(each)"
    assert value == math.log(4.0) + 1.0


@feature
def strange(words: list[str], at: dt.datetime, k: int) -> list[str]:
    made = [w.strip() for w in words if w]
    total = 0
    for i, word in enumerate(made):
        if word == "stop":
            break
        total += i if word else 0
    made = sorted(made)
    return made + made[:1] if (k := k + 1) > 2 and at.year > 1990 else made


def test_loops_and_lists_are_walked(con):
    at = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    made = trace(parse(strange), [[" b", "", "a", "c", "stop"], at, 4])
    assert made.value == ["a", "b", "c", "stop", "a"]
    assert first_parting(con, made) is None


@feature
def twice(x: float, doubled: bool) -> float:
    return (held := x) + held if doubled else 0.0


@pytest.mark.parametrize("doubled", [True, False])
def test_a_name_that_a_node_binds_itself_is_none_of_its_locals(con, doubled):
    made = trace(parse(twice), [1.5, doubled])
    assert made.value == (3.0 if doubled else 0.0)
    assert [set(s.names) for s in made.steps] == [{"x"}] * doubled + [{"x", "doubled"}]
    assert first_parting(con, made) is None


def test_what_nests_too_deep_for_one_text_is_told_node_by_node(con):
    sums = " + ".join(["x"] * 100)
    made = trace(
        parse(module(f"@feature\ndef f(x: float) -> float:\n    return {sums}")["f"]), [1.0]
    )
    assert [s.value for s in made.steps] == [float(n) for n in range(2, 101)]
    assert made.value == 100.0
    assert first_parting(con, made) is None


RATES = {"a": 0.5, "b": 1.5}


@pytest.mark.parametrize(("key", "x", "erring"), [("b", 0.0, "RATES / x"), ("z", 1.0, "look-up")])
def test_the_node_that_errs_is_the_last_one(key, x, erring):
    made = trace(parse(rate), [key, x])
    assert made.value is ERROR
    assert [s.value for s in made.steps if s.value is ERROR] == [ERROR]
    assert made.steps[-1].text == {"RATES / x": "{…}[key] / x", "look-up": "{…}[key]"}[erring]


@feature
def rate(key: str, x: float) -> float:
    return RATES[key] / x
