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

from featurekit.aggregates import Aggregate, FirstN, Lag, LastN
from featurekit.core.types import FLOAT, INT, STR, list_of
from featurekit.define.compile_view import compile_view
from featurekit.define.definitions import EventSource, FeatureView
from featurekit.errors import DefinitionError
from featurekit.language import wire

NAN = float("nan")


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
RICH_ENDS = {
    f"{kind.__name__.lower()}_{i}_{name}": kind(name, window="7d", **params)
    for i, (kind, params) in enumerate(
        [
            (Lag, {}),
            (Lag, {"keep_none": True}),
            (LastN, {"n": 2, "keep_none": True}),
            (LastN, {"n": 2, "distinct": True}),
        ]
    )
    for name in ("at_field", "day", "lasting", "raw", "items", "prices", "words")
    if name not in ("items", "prices", "words") or "distinct" not in params
}
SERVICES = {
    "ends of late events": service_of(view("ends", PAIR, late, ENDS)),
    "ends of numbered events": service_of(view("ends", PAIR, numbered, ENDS)),
    "ends of prompt events": service_of(view("ends", PAIR, prompt, ENDS)),
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
    ],
)
def test_an_end_worked_by_hand(one: Aggregate, values: list[Any], value: Any) -> None:
    assert bits(one.over(values, None)) == bits(value)
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
    for feature in (plain, on):
        again = wire.from_json(wire.to_json(feature))
        assert again == feature
        assert again.implementation().params == feature.params


def test_lists_hold_none_and_say_so():
    item = list_of(FLOAT)
    assert LastN(**W, n=1, keep_none=True).result(item) == list_of(item.or_none())
    assert Lag(**W).result(STR) == STR.or_none()
    assert LastN(**W, n=1).result(INT) == list_of(INT)
