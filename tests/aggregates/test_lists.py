"""Aggregates that are lists or counts of categories: None among inputs, distinct ones, and hostile
values agree three ways, in blocks too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import duckdb
import oracle
import pytest
from agreeing import (
    EXAMPLES,
    PAIR,
    late,
    numbered,
    offline_agrees,
    online_agrees,
    prompt,
    quotient,
    ratio,
    rich,
    view,
)
from family import HINTS, PLAIN, W
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import bits
from paths import Paths, Question, connect, service_of

from featurekit.aggregates import (
    Aggregate,
    Distinct,
    FirstN,
    Histogram,
    Lag,
    LargestN,
    LastN,
    Mode,
    SmallestN,
)
from featurekit.core.types import FLOAT, INT, STR, list_of
from featurekit.define.compile_view import compile_view
from featurekit.define.definitions import EventSource, FeatureView
from featurekit.errors import DefinitionError
from featurekit.language import wire

NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        yield connection


# --- three ways -----------------------------------------------------------------------------------

EVERYTHING = ("amount", "qty", "flag", "name", ratio, quotient)


def each(kind: type[Aggregate], *columns: Any, **params: Any) -> dict[str, Aggregate]:
    """One aggregate of each column, by turns with conditions, hops and offsets."""
    ways = ({}, {"where": "flag"}, {"hop": "7h"}, {"offset": "1h"})
    named = "_".join([kind.__name__.lower(), *params])
    return {
        f"{named}_{i}": kind(x, window=("1d", "8d")[i % 2], **ways[i % 4], **params)
        for i, x in enumerate(columns)
    }


ENDS = {
    **each(Lag, *EVERYTHING),
    **each(Lag, *EVERYTHING, n=2, keep_none=True),
    **each(LastN, *EVERYTHING, n=3, keep_none=True),
    **each(FirstN, *EVERYTHING, n=2, keep_none=True),
    **each(LastN, *EVERYTHING, n=2, distinct=True),
    **each(FirstN, *EVERYTHING, n=2, distinct=True),
    **each(LastN, *EVERYTHING[::-1], n=2, distinct=True, keep_none=True),
    "lag_or": Lag("amount", window="8d", default=-0.0),
    "lag_0": Lag("amount", n=0, window="8d", keep_none=True),
}
BY_VALUE = {
    **each(LargestN, *EVERYTHING, n=2),
    **each(SmallestN, *EVERYTHING, n=3),
    **each(Distinct, *EVERYTHING),
    **each(Distinct, *EVERYTHING[::-1], top=2),
    **each(Mode, *EVERYTHING),
    **each(Histogram, "amount", "qty", ratio, quotient, edges=[-1, 0, 0.5, 1e3]),
    "mode_or": Mode("amount", window="1h", default=-0.0),
    "bins": Histogram("amount", window="lifetime", edges=[0]),
}
RICH_ENDS = {
    f"{kind.__name__.lower()}_{i}_{name}": kind(name, window="7d", **params)
    for i, (kind, params) in enumerate(
        [
            (Lag, {}),
            (Lag, {"keep_none": True}),
            (LastN, {"n": 2, "keep_none": True}),
            (LastN, {"n": 2, "distinct": True}),
            (LargestN, {"n": 2}),
            (SmallestN, {"n": 2}),
            (Distinct, {"top": 2}),
            (Mode, {}),
        ]
    )
    for name in ("at_field", "day", "lasting", "raw", "items", "prices", "words")
    if i < 3 or name not in ("items", "prices", "words")
}
SERVICES = {
    "ends of late events": service_of(view("ends", PAIR, late, ENDS)),
    "ends of numbered events": service_of(view("ends", PAIR, numbered, ENDS)),
    "ends of prompt events": service_of(view("ends", PAIR, prompt, ENDS)),
    "values of late events": service_of(view("values", PAIR, late, BY_VALUE)),
    "values of prompt events": service_of(view("values", PAIR, prompt, BY_VALUE)),
    "ends of other types": service_of(view("rich", PAIR, rich, RICH_ENDS)),
}


@pytest.mark.parametrize("name", SERVICES)
def test_offline_is_what_the_oracle_says(con, name):
    offline_agrees(con, SERVICES[name], examples=max(5, EXAMPLES // 5))


@pytest.mark.parametrize("name", SERVICES)
def test_online_is_what_the_oracle_says_however_states_were_filled(con, name):
    online_agrees(con, SERVICES[name], examples=max(5, EXAMPLES // 10))


# --- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "values", "value"),
    [
        (Lag(**W), [3, 1, 2], 1),
        (Lag(**W), [3], None),
        (Lag(**W, n=2), [3, 1, 2], 3),
        (Lag(**W, n=0), [3, 1, 2], 2),
        (Lag(**W, keep_none=True), [3, None, 2], None),
        (LastN(**W, n=2, keep_none=True), [3, None], [3, None]),
        (LastN(**W, n=2, distinct=True), [1, 2, 3, 2], [3, 2]),
        (LastN(**W, n=9, distinct=True), [1, 2, 3, 2], [1, 3, 2]),
        (FirstN(**W, n=2, distinct=True), [1, 1, 2, 3], [1, 2]),
        (LastN(**W, n=3, distinct=True), [0.0, NAN, -0.0, NAN], [0.0, NAN]),
        (FirstN(**W, n=3, distinct=True), [-0.0, 1.0, 0.0], [0.0, 1.0]),
        (LastN(**W, n=3, distinct=True, keep_none=True), [None, 1, None], [1, None]),
        (LastN(**W, n=3, distinct=True), [], []),
        (LargestN(**W, n=3), [1, 3, 2, 3], [3, 3, 2]),
        (SmallestN(**W, n=3), [1, 3, 1, 3], [1, 1, 3]),
        (LargestN(**W, n=2), [], []),
        (Distinct(**W), ["b", "a", "b"], ["a", "b"]),
        (Distinct(**W, top=2), [3, 1, 3, 2, 2, 1, 3], [1, 3]),
        (Mode(**W), [3, 1, 1, 3], 1),
        (Mode(**W), [], None),
        (Histogram(**W, edges=[0, 10]), [-1, 0, 9, 10, 11], [1, 2, 2]),
        (Histogram(**W, edges=[0, 10]), [], [0, 0, 0]),
        (Histogram(**W, edges=[2**53 + 1]), [2**53, 2**53 + 1, 2**53 + 2], [1, 2]),
    ],
)
def test_an_end_worked_by_hand(one: Aggregate, values: list[Any], value: Any) -> None:
    assert bits(one.over(values, None)) == bits(value)
    assert bits(oracle._finish(one, values)) == bits(value)


@pytest.mark.parametrize(
    ("one", "values", "value"),
    [
        (LargestN(**W, n=4), [0.0, NAN, -0.0, 1.0], [NAN, 1.0, 0.0, -0.0]),
        (SmallestN(**W, n=4), [0.0, NAN, -0.0, 1.0], [-0.0, 0.0, 1.0, NAN]),
        (Distinct(**W), [NAN, 0.0, -0.0, -1.0, NAN], [-1.0, 0.0, NAN]),
        (Mode(**W), [NAN, -0.0, 0.0, NAN], 0.0),
        (Mode(**W), [NAN, NAN, 1.0], NAN),
        (Histogram(**W, edges=[0, 1]), [-0.0, NAN, INF, -INF, 1.0, 0.5], [1, 2, 2]),
    ],
)
def test_a_value_of_floats_worked_by_hand(one: Aggregate, values: list[Any], value: Any) -> None:
    assert bits(one.over(values, FLOAT)) == bits(value)
    assert bits(oracle._finish(one, values)) == bits(value)


@pytest.mark.parametrize("type_", PLAIN, ids=str)
def test_none_among_inputs_is_what_the_oracle_says(type_):
    import awkward

    @settings(max_examples=max(10, EXAMPLES // 4))
    @given(st.lists(st.none() | st.one_of(awkward._flavours(HINTS[type_])), max_size=9))
    def check(values):
        for one in (
            Lag(**W, keep_none=True),
            LastN(**W, n=3, keep_none=True),
            FirstN(**W, n=3, keep_none=True, distinct=True),
            LastN(**W, n=3, keep_none=True, distinct=True),
        ):
            assert bits(one.over(values, type_)) == bits(oracle._finish(one, values))

    check()


def rows_of(column: str, values: list[Any]) -> list[dict[str, Any]]:
    """Events of one entity a microsecond apart, with these values in one column."""
    rest = {"key": 1, "key2": "a", "amount": 1.0, "qty": 1, "flag": None, "name": None}
    return [rest | {column: v, "__ts": i, "__created": i} for i, v in enumerate(values)]


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("name", ["a", "a\0", "a\0b", "", "a", "\0", "\U0001f600", "\uffff", None, "a\0"]),
        ("amount", [0.0, -0.0, NAN, 5e-324, -0.0, float("inf"), NAN, 0.0]),
    ],
)
def test_hostile_values_are_told_apart_on_both_paths(con, column, values):
    features = {
        "all": LastN(column, n=99, window="1d", keep_none=True),
        "distinct": LastN(column, n=99, window="1d", distinct=True),
        "firsts": FirstN(column, n=99, window="1d", distinct=True),
        "lag": Lag(column, n=3, window="1d"),
        "largest": LargestN(column, n=99, window="1d"),
        "smallest": SmallestN(column, n=99, window="1d"),
        "values": Distinct(column, window="1d"),
        "some": Distinct(column, window="1d", top=3),
        "mode": Mode(column, window="1d"),
    }
    service = service_of(view("hostile", PAIR, prompt, features))
    for some in (values, values[::-1]):
        paths = Paths(con, service, {"prompt": rows_of(column, some)})
        questions = [Question({"key": 1, "key2": "a"}, len(some))]
        expected = paths.oracle(questions)
        assert not paths.shown(questions, expected, paths.offline(questions))
        assert not paths.shown(questions, expected, paths.by_materialising(questions))
        paths.close()


# --- definitions ----------------------------------------------------------------------------------

shop = EventSource(
    "shop", path="shop.parquet", timestamp_field="at",
    schema={"key": int, "key2": str, "x": float, "s": str, "ok": bool, "xs": list[float]},
)  # fmt: skip


def compiled(**features: Aggregate) -> Any:
    return compile_view(FeatureView("v", entities=[PAIR], source=shop, features=features))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LastN(**W, n=1, keep_none=1), r"LastN\(keep_none=…\) is True or False, found 1"),
        (lambda: Lag(**W, n=-1), r"Lag\(n=…\) is a whole number from 0 to 999998, found -1"),
        (lambda: Lag(**W, keep_none=None), r"Lag\(keep_none=…\) is True or False, found None"),
        (
            lambda: LargestN(**W, n=0),
            r"LargestN\(n=…\) is a whole number from 1 to 999999, found 0",
        ),
        (lambda: Distinct(**W, top=0), r"Distinct\(top=…\) is a whole number, at least 1"),
        (lambda: Histogram(**W, edges=[]), r"Histogram\(edges=…\) is a list of 1 to 100 numbers"),
        (lambda: Histogram(**W, edges="12"), r"is a list of numbers, as in \[0, 10, 100\]"),
        (lambda: Histogram(**W, edges=[0, NAN]), "is a list of ints of 64 bits and finite floats"),
        (lambda: Histogram(**W, edges=[0, True]), "is a list of ints of 64 bits and finite floats"),
        (lambda: Histogram(**W, edges=[2**63]), "is a list of ints of 64 bits and finite floats"),
        (lambda: Histogram(**W, edges=[0.0, -0.0]), "in which each number is above the one before"),
        (
            lambda: compiled(a=Histogram("s", window="1d", edges=[1])),
            "takes int or float, found str",
        ),
        (lambda: compiled(a=Mode("xs", window="1d")), "plain values, found list"),
        (
            lambda: compiled(a=LastN("xs", n=1, window="1d", distinct=True)),
            "plain values, found list",
        ),
    ],
)
def test_a_wrong_definition_says_what_to_write(make, message):
    with pytest.raises(DefinitionError, match=message):
        make()


@pytest.mark.parametrize(
    ("one", "type_"),
    [
        (LastN("x", n=2, window="1d", keep_none=True), "list[float | None]"),
        (FirstN("xs", n=2, window="1d", keep_none=True), "list[list[float] | None]"),
        (LastN("s", n=2, window="1d", distinct=True), "list[str]"),
        (Lag("s", window="1d"), "str | None"),
        (LargestN("s", n=2, window="1d"), "list[str]"),
        (Distinct("ok", window="1d"), "list[bool]"),
        (Mode("s", window="1d"), "str | None"),
        (Histogram("x", window="1d", edges=[1]), "list[int]"),
        (Lag("s", window="1d", default="?"), "str"),
    ],
)
def test_results_have_declared_types(one, type_):
    assert str(compiled(f=one).features[0].type) == type_


def test_options_that_are_not_used_leave_a_fingerprint_as_it_was():
    plain, off, on = (
        compiled(f=LastN("x", n=2, window="1d", **options)).features[0]
        for options in ({}, {"keep_none": False, "distinct": False}, {"keep_none": True})
    )
    assert plain == off
    assert plain.params == (("n", 2),)
    assert on.fingerprint != plain.fingerprint
    bins = compiled(f=Histogram("x", window="1d", edges=[0, 0.5, 2**53 + 1])).features[0]
    assert bins == compiled(f=Histogram("x", window="1d", edges=(0.0, 0.5, 2**53 + 1))).features[0]
    for feature in (plain, on, bins):
        again = wire.from_json(wire.to_json(feature))
        assert again == feature
        assert again.implementation().params == feature.params


def test_lists_hold_none_and_say_so():
    item = list_of(FLOAT)
    assert LastN(**W, n=1, keep_none=True).result(item) == list_of(item.or_none())
    assert Lag(**W).result(STR) == STR.or_none()
    assert LastN(**W, n=1).result(INT) == list_of(INT)
