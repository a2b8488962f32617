"""Values, keys, request fields and functions' results that are one on both paths, or one error."""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Callable
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

pytest.importorskip("feast.feature_store", reason="needs Feast (the extra featurekit[feast])")

from feast import Field, RequestSource, types
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.transformation.pandas_transformation import PandasTransformation
from feast.transformation.python_transformation import PythonTransformation
from feast_repos import DAY, NOW, Repo, exact

from featurekit.errors import DataError, EntityFrameError, FeaturekitError

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def repo(make_repo: Callable[..., Repo]) -> Repo:
    """A repo on featurekit's stores."""
    made: Repo = make_repo()
    return made


@pytest.fixture
def two(repo: Repo) -> Repo:
    """A view `v` with an int for the keys 1 and 2."""
    rows = pa.table({"key": [1, 2], "at": [NOW - DAY] * 2, "x": [1, 2]})
    repo.view("v", rows, {"x": types.Int64})
    repo.materialize()
    return repo


def on_demand(
    repo: Repo, function: Any, *, mode: str = "python", made: Any = None, field: Any = None,
    view: str = "v", **options: Any,
) -> None:  # fmt: skip
    """An on-demand view `made` with the feature `y`; `field` is the type of its request field."""
    sources = [repo.store.get_feature_view(view)]
    if field is not None:
        sources.append(RequestSource(name="asked", schema=[Field(name="q", dtype=field)]))
    kind = PythonTransformation if mode == "python" else PandasTransformation
    made_of = OnDemandFeatureView(
        name="made",
        sources=sources,
        schema=[Field(name="y", dtype=made or types.Int64)],
        feature_transformation=kind(function, "function"),
        mode=mode,
        **options,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        repo.store.apply([made_of])


def asked(repo: Repo, ref: str, columns: dict[str, list[Any]]) -> tuple[list[Any], list[Any]]:
    """A feature of rows with these columns, offline and online."""
    name = ref.split(":")[1]
    n = len(columns["key"])
    frame = pd.DataFrame({**columns, "event_timestamp": [NOW] * n})
    table = repo.store.get_historical_features(frame, [ref]).to_arrow()
    rows = [{one: values[i] for one, values in columns.items()} for i in range(n)]
    online = repo.store.get_online_features([ref], rows).to_dict()
    return table[name].to_pylist(maps_as_pydicts="strict"), online[name]


def test_a_map_has_the_keys_of_its_own_row(repo: Repo) -> None:
    maps = [{"b": 2, "a": 1}, {"c": 3}, {}, None]
    column = pa.array(maps, pa.map_(pa.string(), pa.int64()))
    repo.view(
        "v", pa.table({"key": range(4), "at": [NOW - DAY] * 4, "x": column}), {"x": types.Map}
    )
    repo.materialize()
    assert exact(repo.offline(["v:x"], range(4))) == exact({"x": maps})
    assert exact(repo.online(["v:x"], range(4))) == exact({"x": maps})
    frame = pd.DataFrame({"key": range(4), "event_timestamp": [NOW] * 4})
    job = repo.store.get_historical_features(frame, ["v:x"])
    assert exact(list(job.to_df()["x"])) == exact(maps)
    assert [*job.to_df()["x"][0]] == [*repo.online(["v:x"], [0])["x"][0]] == ["a", "b"]


def test_a_map_of_several_types_is_a_struct(repo: Repo) -> None:
    column = pa.array([{"a": 1, "b": "x"}, {"a": 2, "b": None}])
    repo.view("v", pa.table({"key": [0, 1], "at": [NOW - DAY] * 2, "x": column}), {"x": types.Map})
    repo.materialize()
    assert exact(repo.offline(["v:x"], [0, 1])) == exact(repo.online(["v:x"], [0, 1]))
    assert exact(repo.online(["v:x"], [1])) == exact({"x": [{"a": 2, "b": None}]})


def test_maps_that_arrow_has_no_type_for_are_an_error(repo: Repo) -> None:
    """Feast reads a map that is written as JSON, and an online answer has it."""
    rows = pa.table({"key": [0, 1], "at": [NOW - DAY] * 2, "x": ['{"a": 1}', '{"a": [1]}']})
    repo.view("v", rows, {"x": types.Map})
    repo.materialize()
    assert exact(repo.online(["v:x"], [0, 1])) == exact({"x": [{"a": 1}, {"a": [1]}]})
    with pytest.raises(DataError, match=r"values of MAP are of several types.*declare the feature"):
        repo.offline(["v:x"], [0, 1])


def test_a_function_sees_a_map_of_its_own_row(repo: Repo) -> None:
    column = pa.array([{"a": 1}, {"b": 2, "c": 3}], pa.map_(pa.string(), pa.int64()))
    rows = pa.table({"key": [1, 2], "at": [NOW - DAY] * 2, "x": column, "n": [5, 5]})
    repo.view("v", rows, {"x": types.Map, "n": types.Int64})
    repo.materialize()

    def size(frame: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"y": [len(x) if x else 0 for x in frame["x"]]})

    on_demand(repo, size, mode="pandas")
    assert asked(repo, "made:y", {"key": [1, 2]}) == ([1, 2], [1, 2])


def test_a_map_may_be_asked_with_and_given_by_a_function(two: Repo) -> None:
    def turned(frame: pd.DataFrame) -> pd.DataFrame:
        given = [x if isinstance(x, dict) else {} for x in frame["q"]]
        return pd.DataFrame({"y": [{value: key for key, value in x.items()} for x in given]})

    on_demand(two, turned, mode="pandas", made=types.Map, field=types.Map)
    maps = [{"a": "b"}, {"c": "d", "e": "f"}]
    offline, online = asked(two, "made:y", {"key": [1, 2], "q": maps})
    assert exact(offline) == exact(online) == exact([{"b": "a"}, {"d": "c", "f": "e"}])


def test_a_uuid_may_be_a_key_in_any_of_its_forms(repo: Repo) -> None:
    ids = [uuid.UUID(int=10), uuid.UUID(int=11)]
    rows = pa.table({"key": [str(one).upper() for one in ids], "at": [NOW - DAY] * 2, "x": [1, 2]})
    repo.view("v", rows, {"x": types.Int64}, key_type=types.Uuid)
    repo.materialize()
    for keys in (ids, [str(one) for one in ids], [str(one).upper() for one in ids]):
        assert asked(repo, "v:x", {"key": keys}) == ([1, 2], [1, 2])
    found = repo.store.get_historical_features(
        None, ["v:x"], start_date=NOW - 2 * DAY, end_date=NOW
    ).to_df()
    assert dict(zip(found["key"], found["x"], strict=True)) == {str(ids[0]): 1, str(ids[1]): 2}


@pytest.mark.parametrize("declared", ["Uuid", "Decimal", "Json", "Map"])
def test_a_text_that_is_no_value_of_its_type_is_named(repo: Repo, declared: str) -> None:
    rows = pa.table({"key": [1], "at": [NOW - DAY], "x": ["{zz"]})
    repo.view("v", rows, {"x": getattr(types, declared)})
    for asking in (lambda: repo.offline(["v:x"], [1]), repo.materialize):
        with pytest.raises(DataError, match="'x' is " + declared.upper()):
            asking()


def test_a_float_is_an_int_and_nan_is_null_in_a_request(two: Repo) -> None:
    nan = float("nan")
    on_demand(
        two, lambda row: {"y": [0 if q is None else 10 * q for q in row["q"]]}, field=types.Int64
    )
    assert asked(two, "made:y", {"key": [1, 2], "q": [2.0, nan]}) == ([20, 0], [20, 0])
    assert asked(two, "v:x", {"key": [1.0, nan]}) == ([1, None], [1, None])
    for wrong in (2.5, 1e300):
        for i in range(2):
            with pytest.raises(EntityFrameError, match="'q'"):
                _one_path(two, {"key": [1], "q": [wrong]}, i)


def _one_path(repo: Repo, columns: dict[str, list[Any]], path: int) -> Any:
    """What one of both paths gives."""
    if path == 1:
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        return repo.store.get_online_features(["made:y"], rows)
    frame = pd.DataFrame({**columns, "event_timestamp": [NOW] * len(columns["key"])})
    return repo.store.get_historical_features(frame, ["made:y"]).to_arrow()


RESULTS: dict[str, tuple[str, bool, Any, str]] = {
    # mode, singleton, what the function gives, and what is said of it
    "no dict of a row": ("python", True, lambda _: [1], "gives a list for a row; give a dict"),
    "nothing of a row": ("python", True, lambda _: None, "gives a NoneType for a row"),
    "other names": ("python", True, lambda _: {"z": 1}, "gives 'z' for a row; give 'y' too"),
    "no dict": ("python", False, lambda _: [1], "gives a list; give a dict with a list"),
    "one value": ("python", False, lambda _: {"y": 5}, "gives a int for all rows; give a list"),
    "a text": ("python", False, lambda _: {"y": "ab"}, "gives a str for all rows; give a list"),
    "no frame": ("pandas", False, lambda frame: [1] * len(frame), "gives a list; give a frame"),
    "too few": ("pandas", False, lambda frame: frame[["x"]][:1].set_axis(["y"], axis=1), "1 val"),
}


@pytest.mark.parametrize("case", RESULTS)
def test_a_result_that_is_no_column_is_named_on_both_paths(two: Repo, case: str) -> None:
    mode, singleton, wrong, told = RESULTS[case]

    def function(given):  # type: ignore[no-untyped-def]  # Feast reads hints of a result
        plain = [1] if mode == "python" and not singleton else 1
        # Feast tries it on one row of its own.
        mine = given["x"] == 2 if singleton else len(given["x"]) == 2
        if mine:
            return wrong(given)
        return pd.DataFrame({"y": [1] * len(given)}) if mode == "pandas" else {"y": plain}

    on_demand(two, function, mode=mode, **({"singleton": True} if singleton else {}))
    for path in range(2):
        with pytest.raises(DataError, match="on-demand view 'made'.*" + told):
            _one_path(two, {"key": [1, 2]}, path)


def test_a_view_without_entities_has_the_key_that_feast_wants(repo: Repo) -> None:
    """Feast's own engine reads it; without it, a run of that engine ends with a bare error."""
    from feast.feature_view import DUMMY_ENTITY_ID

    view = repo.view("v", pa.table({"key": [1], "at": [NOW - DAY], "x": [5]}), {"x": types.Int64})
    store = repo.store._get_provider().offline_store
    job = store.pull_latest_from_table_or_query(
        repo.config, view.batch_source, [], ["x"], "at", None, NOW - 2 * DAY, NOW
    )
    assert job.to_arrow().to_pylist() == [{"x": 5, "at": NOW - DAY, DUMMY_ENTITY_ID: ""}]


def test_a_row_that_a_file_cannot_hold_is_named(two: Repo) -> None:
    before = (two.folder / "v.parquet").read_bytes()
    frame = pd.DataFrame({"key": [1], "at": [NOW], "x": [1.5]})
    with pytest.raises(DataError, match="view 'v', column 'x': the file has int64"):
        two.store.write_to_offline_store("v", frame)
    assert (two.folder / "v.parquet").read_bytes() == before


@pytest.mark.parametrize(
    ("column", "declared", "told"),
    [
        (["s"], "Int64", "declared Int64, the file has VARCHAR; declare it String in the view's"),
        ([[1, None]], "Array(Int64)", "a null in a list.*; mend the row, or declare the type"),
        ([5], "UnixTimestamp", "declared UnixTimestamp.*; write it as a timestamp"),
    ],
)
def test_errors_are_in_words_of_feast(repo: Repo, column: Any, declared: str, told: str) -> None:
    rows = pa.table({"key": [1], "at": [NOW - DAY], "x": column})
    repo.view("v", rows, {"x": eval(declared, vars(types))})
    with pytest.raises(FeaturekitError, match="^Feast's view 'v'.*column 'x'.*" + told) as found:
        repo.offline(["v:x"], [1])
    for ours in ("EventSource", "on_bad_row", "timestamp_format"):
        assert ours not in str(found.value)


@pytest.mark.parametrize("listed", [False, True])
def test_a_float32_in_a_request_is_rounded(two: Repo, listed: bool) -> None:
    dtype, made = types.Float32, types.Float64
    if listed:
        dtype, made = types.Array(dtype), types.Array(made)
    on_demand(two, lambda rows: {"y": rows["q"]}, made=made, field=dtype)
    given = [[0.1], [0.2]] if listed else [0.1, 0.2]
    wanted = [0.10000000149011612, 0.20000000298023224]
    offline, online = asked(two, "made:y", {"key": [1, 2], "q": given})
    assert exact(offline) == exact(online) == exact([[x] for x in wanted] if listed else wanted)


def result(two: Repo, declared: str, value: Any) -> None:
    """An on-demand view which gives this for two rows; Feast tries it on one, and wants a value of
    the declared type."""

    def function(frame: pd.DataFrame) -> pd.DataFrame:
        if len(frame) == 1:
            return pd.DataFrame({"y": pd.Series([1], dtype=declared.lower())})
        return pd.DataFrame({"y": [value] * len(frame)})

    on_demand(two, function, mode="pandas", made=getattr(types, declared))


def test_a_float32_that_a_function_gives_is_rounded(two: Repo) -> None:
    result(two, "Float32", 0.1)
    offline, online = asked(two, "made:y", {"key": [1, 2]})
    assert exact(offline) == exact(online) == exact([0.10000000149011612] * 2)


@pytest.mark.parametrize(("declared", "value"), [("Float32", 1e300), ("Int32", 2**40)])
def test_a_number_that_a_function_gives_and_its_type_cannot_hold_is_named(
    two: Repo, declared: str, value: Any
) -> None:
    result(two, declared, value)
    for path in range(2):
        with pytest.raises(DataError, match=f"'y' is declared {declared.upper()[:3]}.*cannot hold"):
            _one_path(two, {"key": [1, 2]}, path)
