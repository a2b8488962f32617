"""Aggregates by categories: a dict of each category's value, the same three ways and in blocks."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Iterator
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from agreeing import (
    EXAMPLES,
    NAMED,
    PAIR,
    initial,
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
from oracle import bits
from paths import Paths, Question, connect, service_of

from featurekit import Entity, FeatureService, feature
from featurekit.aggregates import (
    All,
    ApproxCountDistinct,
    Correlation,
    Count,
    CountDistinct,
    Distinct,
    ExponentialDecay,
    First,
    Lag,
    Last,
    LastN,
    LinearTrend,
    Max,
    Mean,
    Min,
    Mode,
    Quantile,
    Ratio,
    StdDev,
    Sum,
    TimeSince,
    ValueCounts,
)
from featurekit.core.types import BOOL, FLOAT, INT, STR, Type, dict_of, from_text
from featurekit.define.compile_service import compile_service
from featurekit.define.compile_view import compile_view
from featurekit.define.definitions import EventSource, FeatureView
from featurekit.define.published import plan_bytes, read_plan
from featurekit.errors import DefinitionError
from featurekit.log.served.block import _decode_column, _encode
from featurekit.offline import by_category as offline_by_category
from featurekit.online.state import inputs as online_inputs
from featurekit.online.wire.arrow import python_values
from featurekit.server.as_json import OWN

NAN, INF = math.nan, math.inf


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        yield connection


@feature
def size(qty: int) -> int | None:
    return None if qty > 5 else qty % 2


# --- three ways -----------------------------------------------------------------------------------

DAY: dict[str, Any] = {"window": "1d"}
NUMBERS = {
    "rows": Count(window="8d", by="name"),
    "rows_top": Count(window="8d", by="flag", top=1),
    "amounts": Sum("amount", window="8d", by="name", where="flag"),
    "totals": Sum(ratio, **DAY, by=size),
    "wholes": Sum("qty", window="8d", by="qty", top=2),
    "means": Mean("amount", window="8d", by=initial, hop="7h"),
    "spreads": StdDev("amount", window="8d", by="flag"),
    "least": Min("amount", **DAY, by="name", offset="1h"),
    "most": Max("name", window="8d", by="flag"),
    "middle": Quantile("amount", q=0.5, window="8d", by="flag"),
    "quotients": Sum(quotient, window="8d", by=size, top=1),
    "ratios": Ratio("amount", "qty", window="8d", by="name"),
    "lines": Correlation("qty", "amount", window="8d", by="flag"),
}
ORDERED = {
    "first": First("amount", window="8d", by="name"),
    "last": Last("amount", window="8d", by="flag", top=1),
    "last_names": Last("name", **DAY, by="qty"),
    "before": Lag("amount", window="8d", by="name"),
    "before_or_none": Lag("amount", window="8d", by="name", keep_none=True),
    "since": TimeSince(window="8d", by="name"),
    "since_first": TimeSince("amount", since="first", window="8d", by="flag"),
    "trend": LinearTrend("amount", window="8d", by="flag"),
    "decay": ExponentialDecay("amount", half_life="1h", window="8d", by="name"),
    "kinds": CountDistinct("name", window="lifetime", by="flag"),
    "about": ApproxCountDistinct("amount", window="8d", by="name"),
    "mode": Mode("name", window="8d", by="flag"),
    "flags": All("flag", window="8d", by="name"),
    "of_rows": Last("amount", rows=3, by="name"),
    "before_now": Count(window="8d", by="name", exclude="instant"),
}
RICH = {
    **{f"by_{name}": Count(window="7d", by=name) for name in ("at_field", "day", "lasting", "raw")},
    **{f"last_{name}": Last(name, window="7d", by="key2")
       for name in ("at_field", "day", "lasting", "raw")},
    "listed": Count("items", window="7d", by="day", top=2),
}  # fmt: skip
SERVICES = {
    "numbers of late events": service_of(view("numbers", PAIR, late, NUMBERS)),
    "numbers of prompt events": service_of(view("numbers", PAIR, prompt, NUMBERS, ttl="2d")),
    "ordered late events": service_of(view("ordered", PAIR, late, ORDERED)),
    "ordered numbered events": service_of(view("ordered", PAIR, numbered, ORDERED)),
    "other types": service_of(view("rich", PAIR, rich, RICH)),
    "by the key itself": service_of(
        view("named", NAMED, late, {"n": Count(window="8d", by="name")})
    ),
}


@pytest.mark.parametrize("name", SERVICES)
def test_offline_is_what_the_oracle_says(con: Any, name: str) -> None:
    offline_agrees(con, SERVICES[name], examples=max(5, EXAMPLES // 5))


@pytest.mark.parametrize("name", SERVICES)
def test_online_is_what_the_oracle_says_however_states_were_filled(con: Any, name: str) -> None:
    online_agrees(con, SERVICES[name], examples=max(5, EXAMPLES // 10))


# --- values ---------------------------------------------------------------------------------------

EVENTS = EventSource(
    "events", path="e.parquet", timestamp_field="at",
    schema={"key": int, "kind": str | None, "x": float | None, "n": int, "xs": list[float],
            "y": float},
)  # fmt: skip
BASE = {"key": 1, "kind": "a", "x": 1.0, "n": 1, "xs": [], "y": 0.0, "__created": 0}
ONE = Entity("key", {"key": int})


def told(con: Any, one: Any, *rows: dict[str, Any], t: int = 50) -> Any:
    """What the oracle and both paths give, in bits, once they agree."""
    service = service_of(FeatureView("v", entities=[ONE], source=EVENTS, features={"f": one}))
    given = [BASE | {"__ts": i, "__created": i} | row for i, row in enumerate(rows)]
    paths = Paths(con, service, {"events": given})
    questions = [Question({"key": 1}, t)]
    expected = paths.oracle(questions)
    for found in (
        paths.offline(questions),
        paths.by_materialising(questions),
        paths.by_pushes_in_order(questions),
    ):
        assert bits(found) == bits(expected)
    paths.close()
    return expected[0][0]


W: dict[str, Any] = {"window": "1d"}
BY: dict[str, Any] = {"window": "1d", "by": "kind"}
HOSTILE = ("\0", "", "\U0001f600", "İ", "a")


@pytest.mark.parametrize(
    ("one", "rows", "value"),
    [
        # The most frequent category is first, then the least.
        (Count(**BY), [{"kind": k} for k in "baab"] + [{"kind": "c"}], {"a": 2, "b": 2, "c": 1}),
        (Count(**BY, top=1), [{"kind": k} for k in "baab"], {"a": 2}),
        (Count(**BY), [{"kind": k} for k in HOSTILE],
         {"": 1, "\0": 1, "a": 1, "İ": 1, "\U0001f600": 1}),
        # An event without a category is in none.
        (Count(**BY), [{"kind": None}, {"kind": "a"}], {"a": 1}),
        # The count is that of inputs.
        (Sum("x", **BY, top=1), [{"kind": "b", "x": None}, {"kind": "b"}, {"kind": "a"},
                                 {"kind": "b", "x": None}], {"a": 1.0}),
        # A category over which the aggregate is None is left out, before the first are taken.
        (StdDev("x", **BY, top=1), [{"kind": "a"}, {"kind": "b"}, {"kind": "b"}], {"b": 0.0}),
        (Lag("x", **BY, keep_none=True), [{"kind": "a"}, {"kind": "b", "x": None}, {"kind": "b"}],
         {}),
        (Max("x", **BY), [{"x": -0.0}, {"x": NAN, "kind": "b"}, {"x": INF, "kind": "c"}],
         {"a": -0.0, "b": NAN, "c": INF}),
        (Sum("n", **BY), [], {}),
    ],
)  # fmt: skip
def test_a_dict_of_categories_is_what_the_rule_says(
    con: Any, one: Any, rows: Any, value: Any
) -> None:
    status = "PRESENT" if rows else "NOT_FOUND"
    assert bits(told(con, one, *rows)) == bits((value, status))
    assert list(told(con, one, *rows)[0]) == list(value)


def test_one_category_that_errs_is_an_error_of_all(con: Any) -> None:
    rows = [{"n": 2**62}, {"n": 2**62}, {"n": 1, "kind": "b"}, {"n": 2, "kind": "b"}]
    assert told(con, Sum("n", **BY), *rows) == (None, "ERROR")


def test_the_last_rows_are_taken_before_their_categories(con: Any) -> None:
    rows = [{"kind": k} for k in "aaab"]
    assert told(con, Count(rows=2, by="kind"), *rows) == ({"a": 1, "b": 1}, "PRESENT")


# --- definitions ----------------------------------------------------------------------------------


def compiled(**features: Any) -> Any:
    made = {"features": features, "entities": [ONE], "source": EVENTS}
    return compile_view(FeatureView("v", **made))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: compiled(a=Count(**W, by="x")), "by= is float | None, and a category is bool"),
        (lambda: compiled(a=Count(**W, by="xs")), r"by= is list\[float\], and a category is"),
        (lambda: compiled(a=Count(**W, by=3)), "Count's by is a column's name or a @feature"),
        (lambda: compiled(a=Count(**W, by=3)), r'write Count\(by="amount", …\) for a column'),
        (lambda: compiled(a=Count(**W, by=["kind", "n"])), "several columns in a @feature"),
        (lambda: compiled(a=Count(**W, by="kin")), "no column 'kin'"),
        (lambda: compiled(a=LastN("x", n=2, **BY)), r"gives list\[float\], and by= takes"),
        (lambda: compiled(a=ValueCounts("kind", **BY)), r"gives dict\[str, int\], and by= takes"),
        (lambda: compiled(a=Distinct("kind", top=3, **BY)), r"gives list\[str\], and by= takes"),
        (lambda: compiled(a=Sum("n", **BY, default=0)), "which takes no default"),
        (lambda: Count(**W, top=3), "there is no by=; write one"),
        (lambda: Count(**BY, top=0), "is a whole number, at least 1"),
    ],
)
def test_a_wrong_definition_says_what_to_write(make: Any, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        make()


def test_the_type_is_a_dict_of_the_aggregate_s_values() -> None:
    made = compiled(a=Sum("x", **BY), b=Count(**BY), c=Last("kind", **W, by="n"))
    types = [f.type for f in made.features]
    assert types == [dict_of(STR, FLOAT), dict_of(STR), dict_of(INT, STR)]
    assert [str(t) for t in types] == ["dict[str, float]", "dict[str, int]", "dict[int, str]"]
    assert [from_text(str(t)) for t in types] == types
    assert dict_of(STR, BOOL) != dict_of(STR) == dict_of(STR, INT)


def test_the_category_and_its_bound_are_part_of_the_fingerprint_and_the_plan() -> None:
    made = [
        compiled(a=Count(**W, by=by, top=top)).features[0].fingerprint
        for by, top in (("kind", None), ("n", None), ("kind", 3))
    ] + [compiled(a=Count(**W)).features[0].fingerprint]
    assert len(set(made)) == 4
    for service in SERVICES.values():
        plan = compile_service(service)
        assert read_plan(plan_bytes(plan)) == plan


def test_a_transform_takes_a_dict_of_counts(con: Any) -> None:
    @feature
    def of_a(kinds: dict[str, int]) -> int:
        return kinds.get("a", 0)

    of = FeatureView("v", entities=[ONE], source=EVENTS, features={"kinds": Sum("n", **BY)})
    service = FeatureService("s", features=[of, of_a])
    paths = Paths(con, service, {"events": [BASE | {"__ts": 0, "n": 7}]})
    questions = [Question({"key": 1}, 5)]
    assert paths.offline(questions)[0][-1] == (7, "PRESENT")
    assert paths.by_pushes_in_order(questions)[0][-1] == (7, "PRESENT")
    paths.close()


# --- dicts of other values than counts leave featurekit -------------------------------------------

UTC = dt.UTC
DICTS: list[tuple[Type, dict[Any, Any]]] = [
    (dict_of(STR, FLOAT), {"b": -0.0, "a": NAN, "\0": INF}),
    (dict_of(INT, STR), {2: "é", -1: ""}),
    (dict_of(Type("date"), Type("datetime")),
     {dt.date(2026, 1, 2): dt.datetime(2026, 1, 2, 3, tzinfo=UTC)}),
    (dict_of(BOOL, Type("timedelta")), {True: dt.timedelta(microseconds=-1)}),
    (dict_of(STR, Type("bytes")), {"a": b"\xff"}),
    (dict_of(STR, BOOL), {"a": True, "b": False}),
]  # fmt: skip


@pytest.mark.parametrize(("type_", "value"), DICTS, ids=lambda x: str(x)[:20])
def test_a_dict_is_kept_in_the_log_and_in_arrow(type_: Type, value: dict[Any, Any]) -> None:
    column = [value, None, {}]
    data = memoryview(_encode(type_, column))
    found, at = _decode_column(type_, data, 0, 3)
    assert at == len(data)
    assert bits(found) == bits(column)
    pairs = [None if v is None else list(v.items()) for v in column]
    assert bits(list(python_values(pa.array(pairs, type_.arrow), type_))) == bits(column)


def test_a_dict_is_a_json_object_of_its_values() -> None:
    write = OWN.write(dict_of(INT, FLOAT))
    assert write is not None
    assert json.dumps(write({1: NAN, -2: 0.5})) == '{"1": "NaN", "-2": 0.5}'


# --- planted --------------------------------------------------------------------------------------


def test_a_planted_skew_shows(con: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = online_inputs._by_category
    monkeypatch.setattr(
        online_inputs, "_by_category",
        lambda *about: [("" if c is None else c, x) for c, x in made(*about)][:-1],
    )  # fmt: skip
    with pytest.raises(AssertionError):
        told(con, Count(**BY), {}, {"kind": "b"})


def test_a_planted_skew_of_the_order_shows(con: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offline_by_category, "itemgetter", lambda name: lambda entry: -entry[name])
    with pytest.raises(AssertionError):
        told(con, Last("x", **BY), {"x": 1.0}, {"x": 2.0})
