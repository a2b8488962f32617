"""Windows of many doubles, answered at once by NumPy, give what each gives alone."""

from __future__ import annotations

import math
import random
import struct
from fractions import Fraction
from typing import Any

import awkward
import pytest
from agreeing import ONE, source, view
from hypothesis import given
from hypothesis import strategies as st
from oracle import bits

from featurekit.aggregates import Count, CountDistinct, Max, Mean, Min, Sum, runs
from featurekit.aggregates.runs import runs_of
from featurekit.core.types import FLOAT
from featurekit.core.values import ERROR
from featurekit.define.compile_view import compile_view
from featurekit.define.plan import View
from featurekit.errors import AsOfTooOld
from featurekit.language.transform import feature
from featurekit.online.lookup import answer as state_module
from featurekit.online.lookup.answer import answer
from featurekit.online.lookup.view import ViewLookup
from featurekit.online.state.state import Reader, State

S = 1_000_000
FIELDS: dict[runs.RunField, Any] = {
    "count": Count("x", window="1s"),
    "total": Sum("x", window="1s"),
    "mean": Mean("x", window="1s"),
    "low": Min("x", window="1s"),
    "high": Max("x", window="1s"),
}
FLAVOURS = [
    st.integers(-(10**6), 10**6).map(lambda n: n / 100),
    st.integers(-3, 3).map(float),
    st.floats(-1, 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([2.0**53, 1.0, 0.5, 2.0**-53, -(2.0**52), 3.0, 1e150, 5e-324, -1e-160]),
    awkward.values(float),
]


def column(values: list[float]) -> memoryview:
    return memoryview(struct.pack(f"{len(values)}d", *values)).cast("d")


@st.composite
def columns(draw: st.DrawFn) -> tuple[list[float], list[tuple[int, int]]]:
    """Doubles of one flavour, and some runs of them that overlap, touch or stand apart."""
    values = draw(st.lists(draw(st.sampled_from(FLAVOURS)), min_size=1, max_size=40))
    edges = st.integers(0, len(values))
    spans = st.tuples(edges, edges).map(sorted).filter(lambda s: s[0] < s[1])
    return values, [(i, j) for i, j in draw(st.lists(spans, min_size=1, max_size=4))]


@given(columns())
def test_what_is_known_of_a_run_is_what_the_aggregate_gives_over_its_inputs(given):
    values, spans = given
    found = runs_of(column(values), spans, list(FIELDS))
    for name, aggregate in FIELDS.items():
        assert aggregate.of_run == name
        for value, (i, j) in zip(found[name], spans, strict=True):
            if value is not None:
                assert bits(value) == bits(aggregate.over(values[i:j], FLOAT))


@pytest.mark.parametrize("scale", [1e-100, 1e-6, 1.0, 1e6, 1e100])
@pytest.mark.parametrize("n", [1, 192, 1000, 70_000])
def test_sums_of_ordinary_amounts_are_known_and_are_the_exact_sums_rounded_once(n, scale):
    chance = random.Random(n)
    values = [chance.randrange(1, 10**6) / 100 * scale for _ in range(n)]
    spans = [(0, n), (n // 3, n), (n - 1, n), (0, n // 2 + 1)]
    found = runs_of(column(values), spans, list(FIELDS))
    for total, low, high, (i, j) in zip(
        found["total"], found["low"], found["high"], spans, strict=True
    ):
        assert bits(total) == bits(float(sum(map(Fraction, values[i:j]))))
        assert (low, high) == (min(values[i:j]), max(values[i:j]))


@pytest.mark.parametrize(
    "values",
    [
        [1.0, math.nan], [math.inf, 1.0], [math.inf, -math.inf], [0.0, -0.0], [-0.0], [5e-324],
        [1e308, 1e308], [1.0, -1.0], [2.0**53, 1.0], [1.0, 2.0**-53], [2.0**53 + 2, -1.0],
        [1e150, 1e-150, -1e150],
    ],
    ids=str,
)  # fmt: skip
def test_where_two_parts_do_not_decide_the_sum_it_is_not_told(values):
    assert runs_of(column(values), [(0, len(values))], ["total"])["total"] == [None]


# --- lookups --------------------------------------------------------------------------------------


@feature
def inverse(y: int) -> float:
    return 1 / y


@feature
def positive(x: float | None) -> bool:
    return x is not None and x > 0


AMOUNTS = {"key": int, "x": float | None, "z": float, "y": int}
amounts = source("amounts", AMOUNTS, created_timestamp_column="arrived")
FEATURES: dict[str, Any] = {"tiles": Sum("z", window="100s", hop="7s")}
for name, window, options in (
    ("all", "1000s", {}), ("some", "30s", {}), ("none", "1s", {}), ("ever", "lifetime", {}),
    ("before", "60s", {"offset": "40s"}), ("gone", "5s", {"offset": "2000s"}),
):  # fmt: skip
    for kind in (Count, Sum, Mean, Min, Max, CountDistinct):
        FEATURES[f"{kind.__name__}_{name}"] = kind("x", window=window, **options)
    FEATURES |= {
        f"rows_{name}": Count(window=window, **options),
        f"z_{name}": Max("z", window=window, default=-1.0, **options),
        f"total_{name}": Sum("z", window=window, default=0.5, **options),
        f"where_{name}": Sum("z", window=window, where=positive, **options),
        f"erring_{name}": Sum(inverse, window=window, **options),
        f"whole_{name}": Sum("y", window=window, **options),
    }
VIEWS: dict[str, View] = {
    "plain": compile_view(view("runs", ONE, amounts, FEATURES, history="5s")),
    "ttl": compile_view(
        view("fresh", ONE, amounts, {n: f for n, f in FEATURES.items() if "ever" not in n},
             history="5s", ttl="3s")
    ),
}  # fmt: skip
KINDS: dict[str, Any] = {
    "amounts": lambda chance: chance.randrange(10**6) / 100,
    "around zero": lambda chance: chance.uniform(-1, 1),
    "zeros": lambda chance: chance.choice([0.0, -0.0, -1.0, -2.5]),
    "specials": lambda chance: chance.choice([1.5, 1.5, 1.5, math.nan, math.inf, -math.inf, -0.0]),
    "a NaN": lambda chance: math.nan if chance.random() < 0.01 else 2.25,
    "sizes": lambda chance: math.ldexp(chance.uniform(-1, 1), chance.randrange(-200, 200)),
    "large": lambda chance: chance.choice([1e308, -1e308, 1.7e308]),
}


def many(compiled: View, kind: str, n: int, *, nones: bool, late: bool) -> State:
    """Events a second apart, the last of which happens at 0."""
    chance = random.Random(f"{kind}{n}{nones}{late}")
    events = []
    for k in range(n):
        x, y = KINDS[kind](chance), chance.randrange(5) if nones else chance.randrange(1, 5)
        row = {"x": None if nones and chance.random() < 0.1 else x, "z": x, "y": y}
        slots = []
        for slot in compiled.slots:
            if slot.column is not None:
                slots.append(row[slot.column])
            elif slot.type.name == "bool":
                slots.append(row["x"] is not None and row["x"] > 0)
            else:
                slots.append(1 / y if y else ERROR)
        ts = (k - n + 1) * S
        events.append((ts, ts + (chance.choice((0, 3 * S)) if late else 0), tuple(slots)))
    state = State(compiled)
    state.add(events)
    return state


def told(compiled: View, blob: bytes, t: int) -> Any:
    try:
        return bits(answer(Reader(compiled, blob), compiled, t))
    except AsOfTooOld as error:
        return str(error)


@pytest.mark.parametrize("late", [False, True], ids=["prompt", "late"])
@pytest.mark.parametrize("nones", [False, True], ids=["present", "mixed"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", VIEWS)
def test_windows_of_many_events_are_those_of_each_feature_alone(
    name, kind, nones, late, monkeypatch
):
    compiled = VIEWS[name]
    blob = many(compiled, kind, 250, nones=nones, late=late).encode()
    edges = [0, S, 3 * S, 30 * S, 31 * S, 100 * S, 219 * S, 249 * S, 1000 * S, 1001 * S, 3000 * S]
    instants = [edge + by for edge in edges for by in (-1, 0, 1)] + [-2 * S, -6 * S]
    monkeypatch.setattr(runs, "WORTH", 1)
    at_once = [told(compiled, blob, t) for t in instants]
    lookup = ViewLookup(compiled)
    pairs = list(zip(*lookup.answer(blob, 5 * S), strict=True))
    assert bits(pairs) == told(compiled, blob, 5 * S)
    monkeypatch.setattr(runs, "WORTH", 10**9)
    monkeypatch.setattr(state_module, "_runs", lambda asked, read, spans: [None] * 10**4)
    assert at_once == [told(compiled, blob, t) for t in instants]


def test_a_view_of_ordinary_amounts_asks_no_input(monkeypatch):
    features = {n: f for n, f in FEATURES.items() if n.startswith(("rows", "z_", "total", "tiles"))}
    features = {n: f for n, f in features.items() if not n.endswith(("gone", "none"))}
    compiled = compile_view(view("asked", ONE, amounts, features))
    blob = many(compiled, "amounts", 250, nones=False, late=False).encode()
    expected = told(compiled, blob, 0)
    monkeypatch.setattr(state_module, "_window", None)
    assert told(compiled, blob, 0) == expected
