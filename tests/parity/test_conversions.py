"""A feature has one dtype and one value in every frame, whether it was trained on or served."""

from __future__ import annotations

import asyncio
import datetime as dt
import enum
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurekit import (
    Entity,
    EventSource,
    FeatureService,
    FeatureStore,
    FeatureView,
    OnlineService,
    Vector,
    feature,
)  # fmt: skip
from featurekit import aggregates as agg
from featurekit.core import conversions
from featurekit.define.compile_service import compile_service
from featurekit.define.lacking import may_lack, may_raise
from featurekit.errors import DefinitionError, EntityFrameError
from featurekit.offline import training_set
from featurekit.parity.compare import bits
from featurekit.results import OnlineResult, TrainingSet

UTC = dt.UTC
AT = dt.datetime(2026, 1, 1, 12, tzinfo=UTC)
ASKED = AT + dt.timedelta(hours=1)


class Color(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


instants = st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30), timezones=st.just(UTC))
spans = st.timedeltas(dt.timedelta(-100_000), dt.timedelta(100_000))
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
ints = st.integers(-(2**63), 2**63 - 1)
single = st.floats(width=32, allow_nan=True)
TYPES: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "bool": (bool, st.booleans()),
    "int": (int, ints),
    "float": (float, st.floats()),
    "str": (str, texts),
    "bytes": (bytes, st.binary(max_size=3)),
    "instant": (dt.datetime, instants),
    "date": (dt.date, st.dates()),
    "span": (dt.timedelta, spans),
    "color": (Color, st.sampled_from(["red", "blue"])),
    "one_of": (Literal[1, 2], st.sampled_from([1, 2])),
    "vector": (Vector[2], st.lists(single, min_size=2, max_size=2)),
    "ints": (list[int], st.lists(ints, max_size=3)),
    "floats": (list[float], st.lists(st.floats(), max_size=3)),
    "bools": (list[bool], st.lists(st.booleans(), max_size=2)),
    "texts": (list[str], st.lists(texts, max_size=2)),
    "blobs": (list[bytes], st.lists(st.binary(max_size=2), max_size=2)),
    "instants": (list[dt.datetime], st.lists(instants, max_size=2)),
    "dates": (list[dt.date], st.lists(st.dates(), max_size=2)),
    "spans": (list[dt.timedelta], st.lists(spans, max_size=2)),
}
SCHEMA = {"k": int} | {
    name: hint
    for kind, (given, _) in TYPES.items()
    for name, hint in ((kind, given), (f"{kind}_or_none", given | None))
}
ROW = st.fixed_dictionaries(
    {
        name: values
        for kind, (_, drawn) in TYPES.items()
        for name, values in ((kind, drawn), (f"{kind}_or_none", st.none() | drawn))
    }
)


@feature
def negated(bool: bool) -> bool:
    return not bool


@feature
def divided(int: int) -> int:
    return 7 // int


@feature
def scaled(basket: float, x_mean: float | None) -> float:
    return basket if x_mean is None else basket / x_mean


@feature
def doubled(scaled: float) -> float:
    return scaled * 2


customer = Entity("customer", {"k": int})


def service(frame: Any) -> FeatureService:
    events = EventSource("events", frame=frame, schema=SCHEMA, timestamp_field="at")
    own: dict[str, Any] = {name: name for name in SCHEMA if name != "k"}
    latest = FeatureView(
        "latest", entities=[customer], source=events, ttl="1d",
        features=own | {"negated": negated, "divided": divided},
    )  # fmt: skip
    day: Any = {"window": "1d"}
    windows = FeatureView(
        "windows", entities=[customer], source=events,
        features={
            "n": agg.Count(**day), "total": agg.Sum("int", **day, default=0),
            "x_mean": agg.Mean("float", **day), "x_sum": agg.Sum("float", **day, default=0.0),
            "spread": agg.StdDev("float", **day), "any": agg.Any("bool", **day),
            "every": agg.All("bool", **day, default=True),
            "counts": agg.ValueCounts("str", **day), "by_date": agg.ValueCounts("date", **day),
            "by_span": agg.ValueCounts("span_or_none", **day),
            "by_instant": agg.ValueCounts("instant", **day),
            "last": agg.LastN("instant", n=2, **day), "top": agg.TopK("int", k=2, **day),
            "first": agg.First("bytes", **day), "distinct": agg.CountDistinct("float", **day),
        },
    )  # fmt: skip
    return FeatureService(
        "service", features=[latest, windows, scaled, doubled], request={"basket": float}
    )


def table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    declared = EventSource("t", path="t.parquet", schema=SCHEMA, timestamp_field="at")
    types = {name: type_.arrow for name, type_ in declared.schema.items()}
    types["at"] = pa.timestamp("us", "UTC")
    return pa.table({n: pa.array([r[n] for r in rows], t) for n, t in types.items()})


Pair = tuple[TrainingSet, OnlineResult]


def answered(store: FeatureStore, asked: Sequence[dict[str, Any]]) -> Pair:
    labels = [{**row, "event_timestamp": ASKED} for row in asked]
    trained = store.get_historical_features(labels, "service")
    return trained, store.get_online_features("service", asked, ASKED, request_fields=True)


def plain(value: Any) -> Any:
    """A value of a frame as one of Python: arrays become lists, what is missing becomes None."""
    if value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    return value


def same_in_every_frame(trained: TrainingSet, online: OnlineResult) -> None:
    names = list(online.columns)
    made = trained.to_arrow()
    trained.to_arrow = lambda: made  # type: ignore[method-assign]  # one join, for all that follows
    pandas, served = trained.to_pandas()[names], online.to_pandas()
    assert dict(served[names].dtypes) == dict(pandas.dtypes)
    polars, served_polars = trained.to_polars()[names], online.to_polars()[names]
    assert served_polars.schema == polars.schema
    arrow, served_arrow = trained.to_arrow().select(names), online.to_arrow().select(names)
    assert served_arrow.schema == arrow.schema
    arrays, served_arrays = trained.to_numpy(), online.to_numpy()
    columns, served_columns = trained.to_dict(), online.to_dict()
    rows, served_rows = trained.to_pylist(), online.to_pylist()
    for name in names:
        wanted = bits(online.columns[name])
        assert bits(columns[name]) == bits(served_columns[name]) == wanted, name
        assert bits([row[name] for row in rows]) == wanted, name
        assert bits([row[name] for row in served_rows]) == wanted, name
        assert served_arrays[name].dtype == arrays[name].dtype, name
        for one, other in (
            (arrays[name], served_arrays[name]),
            (pandas[name], served[name]),
            (polars[name].to_list(), served_polars[name].to_list()),
        ):
            assert bits([plain(v) for v in one]) == bits([plain(v) for v in other]), name
        if online.types[name].name in ("bool", "int", "float", "str", "dict", "date", "bytes"):
            assert bits([plain(v) for v in pandas[name]]) == wanted, name
        if online.types[name].name in ("bool", "int", "float", "str", "bytes", "date"):
            assert bits(polars[name].to_list()) == wanted, name


@settings(max_examples=max(2, settings().max_examples // 40))
@given(st.lists(ROW, min_size=2, max_size=8))
def test_every_type_is_the_same_in_every_frame(drawn: list[dict[str, Any]]) -> None:
    events = [
        {**row, "k": 1 + i // 2, "at": AT + dt.timedelta(seconds=i)} for i, row in enumerate(drawn)
    ]
    with FeatureStore(definitions=[service(table(events))]) as store:
        store.apply()
        store.materialize(ASKED)
        asked = [{"k": k, "basket": 2.5} for k in (1, 2, 3)]
        several = answered(store, asked)
        same_in_every_frame(*several)
        dtypes = several[0].to_pandas()[list(several[1].columns)].dtypes
        for some in (asked[:1], asked[2:], []):  # a dtype does not depend on the rows
            alone = store.get_online_features("service", some, ASKED).to_pandas()
            assert dict(alone[list(dtypes.index)].dtypes) == dict(dtypes)


# --- which columns may lack values ----------------------------------------------------------------


def test_what_may_err_has_a_dtype_that_holds_no_value() -> None:
    made = compile_service(service(table([])))
    lacks = {o.name: lack for o, lack in zip(made.outputs, may_lack(made), strict=True)}
    assert not any(lacks[n] for n in ("n", "counts", "every", "distinct", "last", "top"))
    assert all(
        lacks[n] for n in ("divided", "total", "x_sum", "x_mean", "scaled", "doubled", "int")
    )


def test_what_sql_may_find_erring_is_told_by_the_plan() -> None:
    with FeatureStore(definitions=[service(table([]))]) as store:
        labels = [{"k": 1, "basket": 1.0, "event_timestamp": ASKED}]
        trained = store.get_historical_features(labels, "service")
        with training_set._TrainingRun(trained) as run:
            erring = run.joined.erring
        lacks = may_lack(trained._service)
        assert erring
        assert [o for o in erring if not lacks[o]] == []


@feature
def sure(a: int | None, b: str) -> bool:
    return a is not None and b == "x"


@feature
def chosen(a: int) -> str:
    return {1: "a", 2: "b"}.get(a, "c")


@feature
def looked_up(a: int) -> str:
    return {1: "a", 2: "b"}[a]


@feature
def raised(a: int) -> int:
    if a == 1:
        raise ValueError
    return a


@feature
def grown(a: int) -> int:
    return a + 1


@feature(on_unsupported="python")
def opaque(a: int) -> int:
    return a


@pytest.mark.parametrize(
    ("one", "errs"),
    [(sure, False), (chosen, False), (looked_up, True), (raised, True), (grown, True),
     (opaque, True)],
)  # fmt: skip
def test_a_function_that_may_err_is_known(one: Any, errs: bool) -> None:
    from featurekit.define.parameters import read_transform

    assert may_raise(read_transform(one)) is errs


@pytest.mark.parametrize("kind", agg.BY_NAME.values(), ids=list(agg.BY_NAME))
def test_an_aggregate_whose_sql_has_an_error_says_so(kind: Any) -> None:
    """What a plan tells alone is what DuckDB is told."""
    wanted = {"Sum", "Mean", "Variance", "StdDev", "SumOfSquares", "Covariance", "LinearTrend"}
    wanted |= {"ExponentialDecay", "Ratio", "Rate"}
    assert kind.raises is (kind.__name__ in wanted)


# --- what rides along, and what a model is given --------------------------------------------------


@pytest.fixture(scope="module")
def store() -> Iterator[FeatureStore]:
    rows = [
        {"k": 1, "x": 0.5, "s": "a", "at": AT},
        {"k": 1, "x": float("nan"), "s": "b", "at": AT},
        {"k": 2, "x": -0.0, "s": None, "at": AT},
    ]
    schema = {"k": int, "x": float, "s": str | None}
    arrow = pa.Table.from_pylist(rows)
    events = EventSource("events", frame=arrow, schema=schema, timestamp_field="at")
    day: Any = {"window": "1d"}
    features = {
        "x_mean": agg.Mean("x", **day),
        "n": agg.Count(**day),
        "s": agg.ValueCounts("s", **day),
    }
    view = FeatureView("view", entities=[customer], source=events, features=features)
    plain_view = FeatureView("rows", entities=[customer], source=events, features={"x": "x"})
    request: Any = {"basket": float, "seen": dt.datetime | None}
    written = [
        FeatureService("service", features=[view, scaled], request=request),
        FeatureService("quick", features=[plain_view], request={"basket": float}),
    ]
    with FeatureStore(definitions=written) as opened:
        opened.apply()
        opened.materialize(ASKED)
        yield opened


ROWS = [{"k": 1, "basket": 2.0, "seen": AT}, {"k": 3, "basket": 0.5, "seen": None}]
FRAMES: dict[str, Any] = {
    "dicts": lambda: ROWS,
    "tuple of dicts": lambda: tuple(ROWS),
    "lists": lambda: {"k": [1, 3], "basket": [2.0, 0.5], "seen": [AT, None]},
    "arrays": lambda: {
        "k": np.array([1, 3], np.int32),
        "basket": np.array([2.0, 0.5], np.float32),
        "seen": np.array(["2026-01-01T12:00:00.000000999", "NaT"], "datetime64[ns]"),
    },
    "columns of libraries": lambda: {
        "k": pl.Series([1, 3]),
        "basket": pd.Series([2.0, 0.5]),
        "seen": pa.array([AT, None], pa.timestamp("s", "UTC")),
    },
    "pandas": lambda: pd.DataFrame(ROWS),
    "pandas with floats": lambda: pd.DataFrame(ROWS).astype({"k": float}),
    "pandas of objects": lambda: pd.DataFrame(ROWS).astype(object),
    "pandas of Arrow": lambda: pd.DataFrame(ROWS).convert_dtypes(dtype_backend="pyarrow"),
    "pandas with an index": lambda: pd.DataFrame(ROWS, index=[5, 5]),
    "pandas in Berlin": lambda: pd.DataFrame(ROWS).assign(
        seen=lambda f: f["seen"].dt.tz_convert("Europe/Berlin")
    ),
    "polars": lambda: pl.DataFrame(ROWS),
    "lazy": lambda: pl.DataFrame(ROWS).lazy(),
    "arrow": lambda: pa.Table.from_pylist(ROWS),
    "batch": lambda: pa.RecordBatch.from_pylist(ROWS),
    "reader": lambda: pa.Table.from_pylist(ROWS).to_reader(max_chunksize=1),
}


@pytest.mark.parametrize("make", FRAMES.values(), ids=list(FRAMES))
def test_every_frame_of_rows_has_the_same_answer(store: FeatureStore, make: Any) -> None:
    wanted = store.get_online_features("service", ROWS, ASKED, request_fields=True)
    found = store.get_online_features("service", make(), ASKED, request_fields=True)
    assert bits(found.to_pylist()) == bits(wanted.to_pylist())
    assert found.status == wanted.status
    assert wanted.request == {"basket": [2.0, 0.5], "seen": [AT, None]}


def test_awaited_lookups_take_frames_too(store: FeatureStore) -> None:
    wanted = store.get_online_features("service", ROWS, ASKED, full_feature_names=True)
    found = asyncio.run(
        store.get_online_features_async(
            "service", pl.DataFrame(ROWS), ASKED, full_feature_names=True
        )
    )
    assert bits(found.to_pylist()) == bits(wanted.to_pylist())
    assert list(wanted.columns) == ["view__x_mean", "view__n", "view__s", "scaled"]


def test_a_model_is_served_what_it_was_trained_on(store: FeatureStore) -> None:
    columns = ["basket", "x_mean", "n", "scaled"]
    labels = pl.DataFrame(ROWS).with_columns(event_timestamp=ASKED)
    trained = store.get_historical_features(labels, "service")
    online = store.get_online_features("service", ROWS, ASKED, request_fields=True)
    pd.testing.assert_frame_equal(online[columns], trained[columns])
    assert list(online[columns].columns) == columns
    assert online["n"].tolist() == [2, 0]
    without = store.get_online_features("service", ROWS, ASKED)
    with pytest.raises(
        DefinitionError, match="without request_fields=True, has no column 'basket'"
    ):
        without[columns]
    with pytest.raises(DefinitionError, match="the training set has no column 'y'; it has k, bas"):
        trained["y"]
    for result in (trained, online):
        with pytest.raises(TypeError, match="not iterable"):
            iter(result)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("name", ["service", "quick"])
def test_names_and_order_are_those_of_training(store: FeatureStore, name: str, full: bool) -> None:
    """ "quick" is answered by whole columns, which no other service here is."""
    rows = [{"k": k, "basket": 1.5, "seen": None} for k in (1, 2)]
    if name == "quick":
        rows = [{"k": row["k"], "basket": 1.5} for row in rows]
    labels = [{**row, "event_timestamp": ASKED} for row in rows]
    trained = store.get_historical_features(labels, name, full_feature_names=full)
    online = store.get_online_features(
        name, rows, ASKED, full_feature_names=full, request_fields=True
    )
    given = list(rows[0])
    assert list(online.to_pandas()) == list(online.to_dict()) == [*given, *trained.names]
    assert online.to_arrow().column_names == online.to_polars().columns == [*given, *trained.names]
    assert bits(
        [[row[n] for n in (*given, *trained.names)] for row in trained.to_pylist()]
    ) == bits([list(row.values()) for row in online.to_pylist()])
    assert bits(online.to_arrow().to_pylist(maps_as_pydicts="strict")) == bits(online.to_pylist())
    again = pickle.loads(pickle.dumps(online))
    assert bits(again.to_pylist()) == bits(online.to_pylist())
    assert dict(again.to_pandas().dtypes) == dict(online.to_pandas().dtypes)
    without = store.get_online_features(name, rows, ASKED)
    assert list(without.to_pandas()) == ["k", *(n.split("__")[-1] for n in trained.names)]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({"k": 1, "basket": 2.0}, "found one row, {'k': 1, .*; write it in a list, [{'k': 1"),
        ({"k": "abc", "basket": [2.0]}, "a list or an array .*, and 'k' is 'abc'; write ['abc']"),
        ({"k": {}, "basket": [2.0]}, "a list or an array for each, and 'k' is {}; write"),
        (5, "int has no rows; give a list of dicts, a dict of lists, or a frame"),
        (None, "get_online_features lacks rows, the entities to answer for; write rows=[{"),
        ("k=1", "rows is 'k=1'; write rows=[{"),
        (iter([]), "list_iterator has no rows"),
        ({"k": [1, 2], "basket": [1.0]}, "its columns are not equally long: 'k' 2, 'basket' 1"),
        (pd.DataFrame({"k": [1]}), "lack a column basket; service 'quick' takes exactly basket, k"),
        (pl.DataFrame({"k": [1], "basket": [1.0], "event_timestamp": [AT]}),
         "have event_timestamp; service 'quick' takes exactly basket, k: frame[['basket', 'k']]"),
        (pd.DataFrame({"k": [1], 5: [1.0]}), "the column 5 is not named by a text; rename it"),
        (pd.DataFrame([[1, 2]], columns=["k", "k"]), "two columns are named 'k'"),
        (pa.table([[1], [2]], ["k", "k"]), "two columns are named 'k'"),
        (pd.DataFrame({"k": [1.5], "basket": [1.0]}), "row 0, 'k': expected int | None, found 1.5"),
        ({"k": ["a"], "basket": [1.0]}, "row 0, 'k': expected int | None, found 'a'"),
        ({"k": [1], "basket": [None]}, "row 0, 'basket': expected float, found None"),
        ({"k": np.array([2**64 - 1], np.uint64), "basket": [1.0]},
         "row 0, 'k': 18446744073709551615 is outside of int64"),
        ({"k": np.array([1]), "basket": np.array([1 + 2j])}, "'basket' has no Arrow type"),
        (pl.DataFrame({"k": [1]}).lazy().select("z"), "its LazyFrame cannot be collected"),
        (pa.table({"k": [1], "basket": pa.array([10**15], pa.timestamp("s"))}),
         "the column 'basket' has an instant outside the years 1 to 9999"),
        (pa.table({"k": pa.array([b"\xff"]).view(pa.string()), "basket": [1.0]}),
         "the column 'k' has text that is not UTF-8"),
    ],
)  # fmt: skip
def test_what_is_no_frame_of_rows_is_refused(store: FeatureStore, rows: Any, said: str) -> None:
    pattern = re.escape(said).replace(r"\.\*", ".*")
    with pytest.raises(EntityFrameError, match=pattern):
        store.get_online_features("quick", rows, ASKED)


def test_a_frame_without_rows_has_an_answer_without_rows(store: FeatureStore) -> None:
    for empty in (pd.DataFrame({"k": [], "basket": []}), {"k": [], "basket": []}, []):
        found = store.get_online_features("quick", empty, ASKED, request_fields=True)
        assert found.to_pandas().shape == (0, 3)
        assert found.to_pylist() == []


def test_a_service_alone_takes_frames(store: FeatureStore) -> None:
    service = OnlineService(store.online, "notebook", "quick")
    frame = pl.DataFrame({"k": [1, 2], "basket": [1.0, 2.0]})
    assert bits(service.get(frame, ASKED).columns["x"]) == bits([float("nan"), -0.0])


ALONE = """
import sys
from featurekit.online.lookup.rows import given
rows = [{"k": 1}]
assert given(rows) is rows
given({"k": [1, 2]})
heavy = ("duckdb", "pyarrow", "pandas", "polars", "numpy", "tempfile")
print([name for name in heavy if name in sys.modules])
"""


def test_a_list_of_dicts_loads_no_library_of_frames() -> None:
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "columns", [0, -1, True, None, 1.5, slice(0, 1), [0], [None], np.array([True]), b"x"]
)
def test_what_is_no_name_of_a_column_is_refused(columns: Any) -> None:
    frame = pd.DataFrame({"x": [1]})
    with pytest.raises(DefinitionError, match=r"the result is indexed by .* to_pylist\(\)\[0\]"):
        conversions.chosen(frame, columns, what="the result")


def test_names_of_columns_are_one_or_a_list() -> None:
    frame = pd.DataFrame({"x": [1], "y": [2]})
    assert list(conversions.chosen(frame, "x", what="the result")) == [1]
    assert list(conversions.chosen(frame, ["y", "x"], what="the result")) == ["y", "x"]
    assert list(conversions.chosen(frame, ("y",), what="the result")) == ["y"]  # type: ignore[arg-type]
