"""Where Feast's own stores answer one thing offline and another online, featurekit's do not.

Each case is asked on featurekit's stores. With `FEATUREKIT_FEAST_OWN=1` the same cases are asked on
Feast's DuckDB and Redis stores, where each of them must fail: so none is a case that nobody gets
wrong.
"""

from __future__ import annotations

import datetime as dt
import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("feast.feature_store", reason="needs Feast (the extra featurekit[feast])")

from feast_repos import DAY, NOW, Repo, exact

from featurekit.errors import DataError

pytestmark = pytest.mark.filterwarnings("ignore")
OWN = bool(os.environ.get("FEATUREKIT_FEAST_OWN"))
HOUR = dt.timedelta(hours=1)


@pytest.fixture
def repo(make_repo: Callable[..., Repo]) -> Repo:
    """A repo on featurekit's stores; on Feast's own ones where the environment says so."""
    return make_repo(ours=not OWN)


def agree(repo: Repo, refs: list[str], keys: list[Any], wanted: dict[str, list[Any]]) -> None:
    """Both paths give `wanted`, to the last bit."""
    offline, online = repo.offline(refs, keys), repo.online(refs, keys)
    assert exact(offline) == exact(online)
    assert exact(offline) == exact(wanted)


def rows(**columns: Any) -> pa.Table:
    """Rows of a file; `at` and `created` are microseconds in UTC."""
    return pa.table(columns)


def test_a_row_older_than_the_ttl_is_none(repo: Repo) -> None:
    from feast.types import Int64

    repo.view("v", rows(key=[1], at=[NOW - 10 * DAY], x=[42]), {"x": Int64}, ttl=DAY)
    repo.materialize()
    agree(repo, ["v:x"], [1], {"x": [None]})
    if not OWN:
        found = repo.store.get_online_features(["v:x"], [{"key": 1}, {"key": 2}])
        assert found.statuses()["x"] == ["OUTSIDE_MAX_AGE", "NOT_FOUND"]


def test_a_correction_of_one_instant_counts(repo: Repo) -> None:
    from feast.types import Int64

    first = rows(key=[1], at=[NOW - DAY], created=[NOW - DAY], x=[100])
    repo.view("v", first, {"x": Int64})
    repo.materialize()
    second = rows(key=[1], at=[NOW - DAY], created=[NOW - HOUR], x=[999])
    pq.write_table(pa.concat_tables([first, second]), repo.folder / "v.parquet")
    repo.materialize()
    agree(repo, ["v:x"], [1], {"x": [999]})


def test_a_row_that_comes_late_counts_after_an_incremental_run(repo: Repo) -> None:
    from feast.types import Int64

    first = rows(key=[1], at=[NOW - 3 * DAY], x=[1])
    repo.view("v", first, {"x": Int64})
    repo.store.materialize_incremental(NOW - DAY)
    late = rows(key=[1], at=[NOW - 2 * DAY], x=[2])
    pq.write_table(pa.concat_tables([first, late]), repo.folder / "v.parquet")
    repo.store.materialize_incremental(NOW)
    agree(repo, ["v:x"], [1], {"x": [2]})


def test_ties_go_by_the_values(repo: Repo) -> None:
    from feast.types import Int64

    keys = [key for key in range(200) for _ in range(3)]
    values = [(7 * i + key) % 31 for i, key in enumerate(keys)]
    repo.view("v", rows(key=keys, at=[NOW - DAY] * 600, x=values), {"x": Int64})
    repo.materialize()
    best = [max(values[3 * key : 3 * key + 3]) for key in range(200)]
    agree(repo, ["v:x"], list(range(200)), {"x": best})


def test_float32_is_rounded_on_both_paths(repo: Repo) -> None:
    from feast.types import Float32

    repo.view("v", rows(key=[1], at=[NOW - DAY], x=[0.1]), {"x": Float32})
    repo.materialize()
    agree(repo, ["v:x"], [1], {"x": [0.10000000149011612]})


@pytest.mark.parametrize("mode", ["pandas", "python"])
def test_a_batch_view_is_transformed_on_both_paths(repo: Repo, mode: str) -> None:
    from feast import BatchFeatureView, Field, FileSource
    from feast.types import Int64

    path = str(repo.folder / "raw.parquet")
    pq.write_table(rows(key=[1, 2], at=[NOW - DAY] * 2, raw=[5, 7]), path)

    def tenfold(frame):  # type: ignore[no-untyped-def]  # Feast reads hints without this module
        return frame.assign(x=frame["raw"] * 10)

    view = BatchFeatureView(
        name="v",
        mode=mode,
        entities=[repo.key],
        schema=[Field(name="key", dtype=Int64), Field(name="x", dtype=Int64)],
        source=FileSource(name="raw", path=path, timestamp_field="at"),
        online=True,
        udf=tenfold,
        udf_string="tenfold",
    )
    repo.store.apply([repo.key, view])
    repo.materialize()
    agree(repo, ["v:x"], [1, 2, 3], {"x": [50, 70, None]})


@pytest.mark.parametrize(
    ("declared", "value"),
    [("Int32", 2**31), ("Float32", 1e300), ("Array(Int32)", [1, -(2**31) - 1])],
    ids=["int32", "float32", "list"],
)
def test_a_value_that_the_type_cannot_hold_is_named(repo: Repo, declared: str, value: Any) -> None:
    """Neither path has a value for it, and both say where it is."""
    from feast import types

    from featurekit.errors import DataError

    repo.view("v", rows(key=[1], at=[NOW - DAY], x=[value]), {"x": eval(declared, vars(types))})
    with pytest.raises(DataError, match="'x' is"):
        repo.offline(["v:x"], [1])
    with pytest.raises(DataError, match="'x' is"):
        repo.materialize()


def test_an_int_is_the_digits_of_a_key_that_is_a_text(repo: Repo) -> None:
    from feast.types import Int64, String

    repo.view("v", rows(key=[7, 8], at=[NOW - DAY] * 2, x=[70, 80]), {"x": Int64}, key_type=String)
    repo.materialize()
    agree(repo, ["v:x"], [7, 9], {"x": [70, None]})
    agree(repo, ["v:x"], ["8"], {"x": [80]})


def test_an_int_beside_a_null_is_exact(repo: Repo) -> None:
    from feast.types import Int64

    table = rows(key=[1, 2], at=[NOW - DAY] * 2, x=[9007199254740993, None])
    repo.view("v", table, {"x": Int64})
    repo.materialize()
    agree(repo, ["v:x"], [1, 2], {"x": [9007199254740993, None]})


def test_microseconds_are_kept(repo: Repo) -> None:
    from feast.types import UnixTimestamp

    repo.view("v", rows(key=[1], at=[NOW - DAY], x=[NOW]), {"x": UnixTimestamp})
    repo.materialize()
    agree(repo, ["v:x"], [1], {"x": [NOW]})


def test_nan_is_a_value(repo: Repo) -> None:
    from feast.types import Float64

    table = rows(key=[1, 2], at=[NOW - DAY] * 2, x=pa.array([float("nan"), None], pa.float64()))
    repo.view("v", table, {"x": Float64})
    repo.materialize()
    agree(repo, ["v:x"], [1, 2], {"x": [float("nan"), None]})


def test_a_key_has_one_width(repo: Repo) -> None:
    from feast.types import Int32, Int64

    narrow = rows(key=pa.array([1], pa.int32()), at=[NOW - DAY], a=[11])
    repo.view("narrow", narrow, {"a": Int64}, key_type=Int32)
    repo.view("wide", rows(key=[1], at=[NOW - DAY], b=[22]), {"b": Int64})
    repo.materialize()
    agree(repo, ["narrow:a", "wide:b"], [1], {"a": [11], "b": [22]})


def test_features_whose_hashes_collide_are_two(repo: Repo) -> None:
    from feast.types import Int64

    one, other = "feature_33781", "feature_119421"  # of view "v"
    table = rows(key=[1], at=[NOW - DAY], **{one: [111], other: [222]})
    repo.view("v", table, {one: Int64, other: Int64})
    repo.materialize()
    agree(repo, [f"v:{one}", f"v:{other}"], [1], {one: [111], other: [222]})


@pytest.mark.parametrize(
    ("declared", "values"), [("Int64", [2.7]), ("String", [7, None])], ids=["2.7", "7"]
)
def test_a_value_of_another_type_than_declared_is_named(
    repo: Repo, declared: str, values: list[Any]
) -> None:
    """Neither path has a value for it, and both say where it is."""
    from feast import types

    from featurekit.errors import FeaturekitError

    n = len(values)
    frame = pd.DataFrame({"key": range(n), "at": [NOW - DAY] * n, "x": values})
    repo.view("v", pa.Table.from_pandas(frame), {"x": getattr(types, declared)})
    with pytest.raises(FeaturekitError, match="'x'"):
        repo.offline(["v:x"], [0])
    with pytest.raises(FeaturekitError, match="'x'"):
        repo.materialize()


def _on_demand(repo: Repo, dtype: Any, made: Any, function: Any, **options: Any) -> None:
    from feast import Field
    from feast.on_demand_feature_view import OnDemandFeatureView
    from feast.transformation.pandas_transformation import PandasTransformation
    from feast.transformation.python_transformation import PythonTransformation

    kind = PythonTransformation if options.get("mode") == "python" else PandasTransformation
    view = OnDemandFeatureView(
        name="made",
        sources=[repo.store.get_feature_view("v")],
        schema=[Field(name="y", dtype=made)],
        feature_transformation=kind(function, "function"),
        **{"mode": "pandas", **options},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        repo.store.apply([view])


def test_an_on_demand_view_sees_one_width_of_int(repo: Repo) -> None:
    from feast.types import Int32, Int64

    table = rows(key=[1], at=[NOW - DAY], x=pa.array([2_000_000_000], pa.int32()))
    repo.view("v", table, {"x": Int32})
    repo.materialize()
    _on_demand(repo, Int32, Int64, lambda frame: pd.DataFrame({"y": frame["x"] * 2}))
    agree(repo, ["made:y"], [1], {"y": [4_000_000_000]})


def test_an_on_demand_view_sees_one_width_of_float(repo: Repo) -> None:
    from feast.types import Float32, Float64

    table = rows(key=[1], at=[NOW - DAY], x=pa.array([0.1], pa.float32()))
    repo.view("v", table, {"x": Float32})
    repo.materialize()
    _on_demand(repo, Float32, Float64, lambda frame: pd.DataFrame({"y": frame["x"] * 10}))
    agree(repo, ["made:y"], [1], {"y": [1.0000000149011612]})


def test_a_singleton_view_of_python_is_computed_for_each_row(repo: Repo) -> None:
    from feast.types import Int64

    repo.view("v", rows(key=[1, 2], at=[NOW - DAY] * 2, x=[5, 7]), {"x": Int64})
    repo.materialize()
    _on_demand(repo, Int64, Int64, lambda row: {"y": row["x"] * 10}, mode="python", singleton=True)
    agree(repo, ["made:y"], [1, 2], {"y": [50, 70]})


@pytest.mark.parametrize("form", [float, np.float32, lambda half: [1, half]])
def test_a_part_of_an_int_that_a_function_gives_is_an_error_on_both_paths(
    repo: Repo, form: Callable[[float], Any]
) -> None:
    from feast.types import Array, Int64

    listed = isinstance(form(0.5), list)
    table = pa.table({"key": [1], "at": [NOW - DAY], "x": [5]})
    repo.view("v", table, {"x": Int64})
    repo.materialize()

    def half(row: dict[str, Any]) -> dict[str, Any]:
        tried = [1] if listed else 1  # by Feast, on a value of its own
        return {"y": form(row["x"] / 2) if row["x"] == 5 else tried}

    made = Array(Int64) if listed else Int64
    _on_demand(repo, Int64, made, half, mode="python", singleton=True)
    for asking in (repo.offline, repo.online):
        with pytest.raises(DataError, match=r"INT64.*2\.5 is no int"):
            asking(["made:y"], [1])


def test_a_null_key_spoils_no_run(repo: Repo) -> None:
    from feast.types import Int64

    repo.view("v", rows(key=[1, None], at=[NOW - DAY] * 2, x=[5, 7]), {"x": Int64})
    repo.materialize()
    agree(repo, ["v:x"], [1], {"x": [5]})


def test_rows_come_in_the_order_of_the_frame(repo: Repo) -> None:
    from feast.types import Int64

    n = 50_000
    keys = [(k * 7919) % n for k in range(n)]
    repo.view("v", rows(key=list(range(n)), at=[NOW - DAY] * n, x=list(range(n))), {"x": Int64})
    assert repo.offline(["v:x"], keys)["x"] == keys


def test_a_missing_entity_is_not_found(repo: Repo) -> None:
    from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
    from feast.types import Int64

    repo.view("v", rows(key=[1], at=[NOW - DAY], x=[5]), {"x": Int64})
    repo.materialize()
    found = repo.store.get_online_features(["v:x"], [{"key": 9}]).proto
    assert list(found.results[1].statuses) == [FieldStatus.NOT_FOUND]


def test_teardown_leaves_a_project_whose_name_ends_alike(make_repo: Callable[..., Repo]) -> None:
    from feast.types import Int64

    repos = [make_repo(ours=not OWN, project=name) for name in ("foo", "my_foo")]
    for repo in repos:
        repo.view("v", rows(key=[1], at=[NOW - DAY], x=[5]), {"x": Int64})
        repo.materialize()
    repos[0].store.teardown()
    assert repos[1].online(["v:x"], [1]) == {"x": [5]}


def test_a_null_beside_it_does_not_change_what_an_on_demand_view_is_given(repo: Repo) -> None:
    from feast.types import Int64

    big = 2**53 + 1
    repo.view("v", rows(key=[1, 2], at=[NOW - DAY] * 2, x=[big, None]), {"x": Int64})
    repo.materialize()
    _on_demand(repo, Int64, Int64, lambda frame: pd.DataFrame({"y": frame["x"] - 1}))
    agree(repo, ["made:y"], [1], {"y": [big - 1]})
    agree(repo, ["made:y"], [2, 1], {"y": [None, big - 1]})
