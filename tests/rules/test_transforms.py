"""R: what a transform means, and that all who compute it agree."""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from oracle import bits

from featurekit import Entity, EventSource, FeatureService, FeatureStore, FeatureView, feature
from featurekit.errors import CompileError, TransformError
from featurekit.testing import assert_parity
from rules.asking import ERRED, One, ask_all, instant, present, table

FUNCTIONS = """
from featurekit import feature

RATES = {"a": 2, "b": 3}

@feature
def floors(n: int, m: int) -> int:
    return n // m

@feature
def remains(n: int, m: int) -> int:
    return n % m

@feature
def divides(n: int, m: int) -> float:
    return n / m

@feature
def floors_floats(x: float, y: float) -> float:
    return x // y

@feature
def remains_floats(x: float, y: float) -> float:
    return x % y

@feature
def divides_floats(x: float, y: float) -> float:
    return x / y

@feature
def rounds(x: float) -> int:
    return round(x)

@feature
def times_ten(x: float) -> float:
    return x * 10

@feature
def is_float(n: int, x: float) -> bool:
    return n == x

@feature
def exceeds(n: int, x: float) -> bool:
    return n > x

@feature
def equals(x: float, y: float) -> bool:
    return x == y

@feature
def differs(x: float, y: float) -> bool:
    return x != y

@feature
def least(x: float, y: float) -> float:
    return min(x, y)

@feature
def greatest(x: float, y: float) -> float:
    return max(x, y)

@feature
def rises(n: int, m: int) -> bool:
    return 0 < n < m

@feature
def guarded(n: int, m: int) -> bool:
    return m != 0 and n // m > 2

@feature
def letters(word: str) -> int:
    return len(word)

@feature
def lowers(word: str) -> str:
    return word.lower()

@feature
def strips(word: str) -> str:
    return word.strip()

@feature
def one_or_two(n: int, m: int) -> int:
    return 1 if n // m > 2 else 2

@feature
def unused(n: int, m: int) -> int:
    thrown_away = n // m
    return 7

@feature
def not_taken(n: int, m: int) -> int:
    return 7 if m == 0 else n // m

@feature
def grows(n: int, m: int) -> int:
    return n * m

@feature
def returns_to_range(n: int, m: int) -> int:
    return n * m - n * m

@feature
def roots(x: float) -> float:
    return x ** 0.5

@feature
def indexes(n: int) -> int:
    return [1, 2, 3][n]

@feature
def or_seven(k: int | None) -> int:
    return k + 1 if k is not None else 7

@feature
def by_default(k: int | None) -> int:
    return k or 7

@feature
def rate(word: str) -> int:
    return RATES.get(word, 0)
"""
NAMES = [line[4:].split("(")[0] for line in FUNCTIONS.splitlines() if line.startswith("def ")]
FEATURES = ", ".join(f'"{name}": {name}' for name in NAMES)
MODULE = f"""
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count, Sum
{FUNCTIONS}
@feature
def plus_one(floors: int | None) -> int:
    return 1 if floors is None else floors + 1

user = Entity("user", {{"key": int}})
rows = EventSource(
    "rows", path="rows.parquet", timestamp_field="at", created_timestamp_column="arrived",
    schema={{"key": int, "n": int, "m": int, "x": float, "y": float, "word": str,
            "k": int | None}},
)

def view(name, features, **options):
    return FeatureView(name, entities=[user], source=rows, features=features, **options)

transforms = FeatureService("transforms", features=[view("latest", {{{FEATURES}}})])
windows = FeatureService("windows", features=[view("window", {{
    "sum": Sum(floors, window="1d"), "sure": Sum(floors, window="1d", default=5),
    "where": Count(where=guarded, window="1d"), "large": Sum("n", window="1d", default=5),
}})])
reading = FeatureService("reading", features=[view("read", {{"floors": floors}}), plus_one])
strict = FeatureService("strict", features=[
    view("strict_latest", {{"floors": floors}}, on_error="fail")
])
"""
TYPES = {"n": pa.int64(), "m": pa.int64(), "x": pa.float64(), "y": pa.float64(),
         "word": pa.string(), "k": pa.int64()}  # fmt: skip
TABLES = {"rows": table(**TYPES)}
NAN, INF = math.nan, math.inf
USUAL: dict[str, Any] = {"n": 1, "m": 1, "x": 1.0, "y": 1.0, "word": "a", "k": 1}


PLAIN: dict[str, Any] = {}
exec(FUNCTIONS, PLAIN)  # the plain functions, as Python has them


# --- R1, R3, R4: the values, worked out by hand ---------------------------------------------------

EXAMPLES: list[tuple[str, dict[str, Any], Any]] = [
    ("floors", {"n": -7, "m": 2}, -4),
    ("remains", {"n": -7, "m": 2}, 1),
    ("remains", {"n": 7, "m": -2}, -1),
    ("divides", {"n": 7, "m": 2}, 3.5),
    ("floors_floats", {"x": -7.5, "y": 2.0}, -4.0),
    ("remains_floats", {"x": -7.5, "y": 2.0}, 0.5),
    ("rounds", {"x": 2.5}, 2),
    ("rounds", {"x": 3.5}, 4),
    ("is_float", {"n": 9007199254740993, "x": 9007199254740992.0}, False),
    ("is_float", {"n": 9007199254740992, "x": 9007199254740992.0}, True),
    ("exceeds", {"n": 9007199254740993, "x": 9007199254740992.0}, True),
    ("equals", {"x": NAN, "y": NAN}, False),
    ("differs", {"x": NAN, "y": NAN}, True),
    ("equals", {"x": -0.0, "y": 0.0}, True),
    ("least", {"x": NAN, "y": 1.0}, NAN),
    ("least", {"x": 1.0, "y": NAN}, 1.0),
    ("greatest", {"x": -0.0, "y": 0.0}, -0.0),
    ("greatest", {"x": 0.0, "y": -0.0}, 0.0),
    ("rises", {"n": 1, "m": 2}, True),
    ("rises", {"n": 2, "m": 2}, False),
    ("guarded", {"n": 9, "m": 0}, False),
    ("letters", {"word": "🙂é"}, 2),
    ("lowers", {"word": "İ"}, "i̇"),
    ("strips", {"word": "\u2003a\x1c"}, "a"),
    ("times_ten", {"x": 1e308}, INF),
    ("not_taken", {"n": 9, "m": 0}, 7),
    ("or_seven", {"k": None}, 7),
    ("by_default", {"k": 0}, 7),
    ("rate", {"word": "b"}, 3),
]
ERRING: list[tuple[str, dict[str, Any]]] = [
    ("floors", {"n": 1, "m": 0}),
    ("divides_floats", {"x": 1.0, "y": 0.0}),
    ("one_or_two", {"n": 10, "m": 0}),
    ("unused", {"n": 1, "m": 0}),
    ("roots", {"x": -1.0}),
    ("indexes", {"n": 3}),
    ("grows", {"n": 2**62, "m": 2}),
    ("returns_to_range", {"n": 2**62, "m": 2}),
]


CASES = [(name, USUAL | columns) for name, columns, *_ in [*EXAMPLES, *ERRING]]


@pytest.fixture(scope="module")
def answers(store: FeatureStore) -> dict[str, dict[str, Any]]:
    """What both paths say of each case, whose row is of an entity of its own."""
    entities = [One(store) for _ in CASES]
    store.push("rows", [e.event(0, **row) for e, (_, row) in zip(entities, CASES, strict=True)])
    found = ask_all(store, "transforms", [{"key": e.key} for e in entities], instant(0))
    return {repr(case): answer for case, answer in zip(CASES, found, strict=True)}


@pytest.mark.parametrize(("name", "columns", "expected"), EXAMPLES, ids=str)
def test_the_function_and_both_paths_give_what_python_means(
    answers: dict[str, Any], name: str, columns: dict[str, Any], expected: Any
) -> None:
    row = USUAL | columns
    called = PLAIN[name](*(row[p] for p in inspect.signature(PLAIN[name].function).parameters))
    assert bits(called) == bits(expected)
    assert answers[repr((name, row))][name] == present(expected)


@pytest.mark.parametrize(("name", "columns"), ERRING, ids=str)
def test_what_raises_or_leaves_int64_is_an_error_used_or_not(
    answers: dict[str, Any], name: str, columns: dict[str, Any]
) -> None:
    assert answers[repr((name, USUAL | columns))][name] == ERRED


# --- R2: None -------------------------------------------------------------------------------------

user = Entity("user", {"key": int})
optional = EventSource(
    "rows", path="rows.parquet", timestamp_field="at", schema={"key": int, "k": int | None}
)


@feature
def unseen(k: int | None) -> int:
    return k + 1


def test_none_never_reaches_an_operator_unseen() -> None:
    view = FeatureView("v", entities=[user], source=optional, features={"unseen": unseen})
    with pytest.raises(CompileError) as found:
        assert_parity(FeatureService("s", features=[view]), {}, [])
    said = str(found.value)
    assert f"{Path(__file__).name}:{found.value.line}" in said
    assert "    return k + 1\n" in said
    assert "^" in said
    assert "is None" in said


# --- R3: what becomes of an error -----------------------------------------------------------------


def test_an_aggregate_skips_an_input_that_errs(one: One) -> None:
    one.push("rows", 0, **USUAL | {"n": 6, "m": 2})
    pushed = one.push("rows", 1, **USUAL | {"m": 0})
    assert one.ask("windows", 5)["sum"] == present(3)
    assert pushed.erring > 0


def test_an_error_is_counted_with_its_first_row(one: One) -> None:
    one.push("rows", 0, **USUAL | {"m": 0})
    frame = [{"key": key, "event_timestamp": instant(5)} for key in (-1, one.key)]
    made = one.store.get_historical_features(frame, "reading").statistics
    assert made["features"]["floors"] == {"rows": 1, "first_row": 1}


def test_no_default_absorbs_an_error(one: One) -> None:
    one.push("rows", 0, **USUAL | {"n": 2**62})
    one.push("rows", 1, **USUAL | {"n": 2**62})
    assert one.ask("windows", 5)["large"] == ERRED


def test_a_transform_that_reads_an_erring_feature_errs(one: One) -> None:
    one.push("rows", 0, **USUAL | {"m": 0})
    assert one.ask("reading") == {"floors": ERRED, "plus_one": ERRED}


def test_a_view_may_raise_instead_and_names_the_feature(one: One) -> None:
    one.push("rows", 0, **USUAL | {"m": 0})
    with pytest.raises(TransformError, match="floors"):
        one.store.get_online_features("strict", [{"key": one.key}])
    frame = [{"key": one.key, "event_timestamp": instant(5)}]
    with pytest.raises(TransformError, match="floors"):
        one.store.get_historical_features(frame, "strict").to_arrow()
