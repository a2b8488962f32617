"""What the online store does beside `get_online_features`."""

from __future__ import annotations

import asyncio
import datetime as dt
import decimal
import uuid
import warnings
from collections.abc import Callable
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

pytest.importorskip("feast.feature_store", reason="needs Feast (the extra featurekit[feast])")

from feast import FeatureView, Field, types
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast_repos import DAY, NOW, Repo, exact

from featurekit.errors import DefinitionError
from featurekit.online.store.open import open_store

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def repo(make_repo: Callable[..., Repo]) -> Repo:
    """A repo on featurekit's stores."""
    made: Repo = make_repo()
    return made


def simple(repo: Repo, *values: int) -> FeatureView:
    """A view with an int for each key, not yet materialised."""
    n = len(values)
    table = pa.table({"key": range(n), "at": [NOW - DAY] * n, "x": pa.array(values, pa.int64())})
    return repo.view("v", table, {"x": types.Int64})


def key(number: int) -> EntityKey:
    """An entity key as Feast's providers make it."""
    return EntityKey(join_keys=["key"], entity_values=[Value(int64_val=number)])


def test_awaited_calls_do_what_the_others_do(repo: Repo) -> None:
    view = simple(repo, 5)
    store, config = repo.store._get_provider().online_store, repo.store.config
    supported = store.async_supported
    assert supported.read
    assert supported.write

    async def work() -> Any:
        row = (key(7), {"x": Value(int64_val=70)}, NOW - DAY, None)
        await store.online_write_batch_async(config, view, [row], None)
        read = await store.online_read_async(config, view, [key(7), key(8)], ["x"])
        rows = [{"key": 7}, {"key": 8}]
        features = await repo.store.get_online_features_async(["v:x"], rows)
        await store.close()
        return read, features.to_dict()

    read, features = asyncio.run(work())
    assert read == store.online_read(config, view, [key(7), key(8)], ["x"])
    assert [values and values["x"].int64_val for _, values in read] == [70, None]
    assert features == {"key": [7, 8], "x": [70, None]}


def test_a_changed_schema_is_told_and_its_old_rows_go_with_the_next_run(
    repo: Repo, redis_url: str
) -> None:
    simple(repo, 5)
    repo.materialize()
    states = open_store(redis_url)
    prefix = f"fk:feast.{repo.store.project}:state:".encode()
    assert len(list(states.keys(prefix))) == 1
    view = repo.store.get_feature_view("v")
    changed = FeatureView(
        name="v",
        entities=[repo.key],
        source=view.batch_source,
        schema=[Field(name="key", dtype=types.Int64), Field(name="x", dtype=types.Float64)],
    )
    with pytest.warns(UserWarning, match="'v' has another schema than its rows"):
        repo.store.apply([changed])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        repo.store.get_online_features(["v:x"], [{"key": 0}])
    assert repo.online(["v:x"], [0]) == {"x": [None]}
    repo.store.apply([view])  # and back: the rows are there
    assert repo.online(["v:x"], [0]) == {"x": [5]}
    repo.materialize()
    assert len(list(states.keys(prefix))) == 1


def test_versions_of_a_view_have_rows_of_their_own(repo: Repo) -> None:
    view = simple(repo, 5)
    repo.store.config.registry.enable_online_feature_view_versioning = True
    store, config = repo.store._get_provider().online_store, repo.store.config
    for version in (1, 2):
        view.current_version_number = version
        row = (key(0), {"x": Value(int64_val=version)}, NOW - DAY, None)
        store.online_write_batch(config, view, [row], None)
    found = {}
    for version in (1, 2):
        view.current_version_number = version
        ((_, values),) = store.online_read(config, view, [key(0)])
        found[version] = values["x"].int64_val
    assert found == {1: 1, 2: 2}
    store.update(config, [view], [], [], [], False)
    assert store.online_read(config, view, [key(0)]) == [(None, None)]
    view.current_version_number = 1
    assert store.online_read(config, view, [key(0)]) == [(None, None)]


def test_there_is_no_search_of_vectors_and_that_is_said(repo: Repo) -> None:
    simple(repo, 5)
    with pytest.raises(DefinitionError, match="no index of vectors"):
        repo.store.retrieve_online_documents_v2(features=["v:x"], query=[1.0], top_k=1)


def test_an_on_demand_view_that_is_written_has_the_same_values_offline(repo: Repo) -> None:
    from feast.on_demand_feature_view import OnDemandFeatureView
    from feast.transformation.pandas_transformation import PandasTransformation

    source = simple(repo, 5, 7)
    view = OnDemandFeatureView(
        name="made",
        entities=[repo.key],
        sources=[source],
        schema=[Field(name="y", dtype=types.Int64)],
        feature_transformation=PandasTransformation(
            lambda frame: pd.DataFrame({"y": frame["x"] * 10}), "tenfold"
        ),
        mode="pandas",
        write_to_online_store=True,
    )
    repo.store.apply([view])
    repo.materialize()
    assert repo.online(["made:y"], [0, 1]) == {"y": [50, 70]}
    assert repo.offline(["made:y"], [0, 1]) == {"y": [50, 70]}


_AT = dt.datetime(2024, 2, 3, 4, 5, 6, 789_012, tzinfo=dt.UTC)
_ID = uuid.UUID("12345678-1234-5678-1234-567812345678")
VALUES: dict[str, tuple[Any, pa.DataType, Any, Any]] = {
    # declared: the value in the file, its type there, and what both paths give
    "Bytes": (b"\0\xff", pa.binary(), b"\0\xff", b"\0\xff"),
    "Bool": (True, pa.bool_(), True, True),
    "UnixTimestamp": (_AT, pa.timestamp("us", tz="UTC"), _AT, _AT),
    "ZonedTimestamp": (_AT, pa.timestamp("us", tz="Europe/Rome"), _AT, _AT),
    "Int32": (-(2**31), pa.int32(), -(2**31), None),
    "PdfBytes": (b"%PDF", pa.binary(), b"%PDF", None),
    "ImageBytes": (b"\xff\xd8", pa.binary(), b"\xff\xd8", None),
    "Array(Int32)": ([1, 2], pa.list_(pa.int32()), [1, 2], None),
    "Array(Float64)": ([0.1, -0.0], pa.list_(pa.float64()), [0.1, -0.0], None),
    "Array(Bytes)": ([b"a"], pa.list_(pa.binary()), [b"a"], None),
    "Array(Uuid)": ([str(_ID)], pa.list_(pa.string()), [str(_ID)], [_ID]),
    "Array(Decimal)": (["1.50"], pa.list_(pa.string()), ["1.50"], [decimal.Decimal("1.50")]),
    "Array(Json)": (["[1]", "{}"], pa.list_(pa.string()), ["[1]", "{}"], [[1], {}]),
    "Set(Int32)": ([2, 1, 2], pa.list_(pa.int32()), [1, 2], {1, 2}),
    "Set(Float64)": ([0.5, 0.1], pa.list_(pa.float64()), [0.1, 0.5], {0.1, 0.5}),
    "Set(Bool)": ([True, False], pa.list_(pa.bool_()), [False, True], {False, True}),
    "Set(Uuid)": ([str(_ID)] * 2, pa.list_(pa.string()), [str(_ID)], {_ID}),
    "Set(Decimal)": (["1.50"], pa.list_(pa.string()), ["1.50"], {decimal.Decimal("1.50")}),
    "TimeUuid": (str(_ID), pa.string(), str(_ID), _ID),
    "Struct({'a': Int64})": ({"a": 5}, pa.struct([("a", pa.int64())]), {"a": 5}, None),
    "ScalarMap": ({1: 2}, pa.map_(pa.int64(), pa.int64()), {1: 2}, None),
    "Array(Int64)": ([9007199254740993, 1], pa.list_(pa.int64()), [9007199254740993, 1], None),
    "Array(Float32)": ([0.1, 2.0], pa.list_(pa.float64()), [0.10000000149011612, 2.0], None),
    "Array(String)": (["a", ""], pa.list_(pa.string()), ["a", ""], None),
    "Array(Bool)": ([True, False], pa.list_(pa.bool_()), [True, False], None),
    "Array(UnixTimestamp)": ([_AT], pa.list_(pa.timestamp("us", tz="UTC")), [_AT], None),
    "Set(Int64)": ([3, 1, 3], pa.list_(pa.int64()), [1, 3], {1, 3}),
    "Set(String)": (["b", "a"], pa.list_(pa.string()), ["a", "b"], {"a", "b"}),
    "Map": ({"a": "b"}, pa.struct([("a", pa.string())]), {"a": "b"}, None),
    "Array(Map)": (
        [{"a": 1}, {}],
        pa.list_(pa.map_(pa.string(), pa.int64())),
        [{"a": 1}, {}],
        None,
    ),
    "Json": ('{"b": [2]}', pa.string(), '{"b": [2]}', {"b": [2]}),
    "Uuid": (str(_ID), pa.string(), str(_ID), _ID),
    "Decimal": ("1.50", pa.string(), "1.50", decimal.Decimal("1.50")),
}


@pytest.mark.parametrize("declared", VALUES)
def test_a_value_of_each_type_is_one_on_both_paths(repo: Repo, declared: str) -> None:
    """Beside it a null, which is None on both."""
    value, of_file, offline, online = VALUES[declared]
    table = pa.table({"key": [0, 1], "at": [NOW - DAY] * 2, "x": pa.array([value, None], of_file)})
    repo.view("v", table, {"x": eval(declared, vars(types))})
    repo.materialize()
    found = {
        "offline": repo.offline(["v:x"], [0, 1])["x"],
        "online": repo.online(["v:x"], [0, 1])["x"],
    }
    wanted = {"offline": [offline, None], "online": [offline if online is None else online, None]}
    assert exact(found) == exact(wanted)


def test_a_pushed_row_is_the_one_of_the_file(repo: Repo) -> None:
    """A proto that is written, and the row of the file, are the same state."""
    rows = pa.table({"key": [0], "at": [NOW - DAY], "x": pa.array([0.1], pa.float32())})
    repo.view("v", rows, {"x": types.Float32})
    frame = pd.DataFrame({"key": [0], "at": [NOW - DAY], "x": [0.1]})
    repo.store.write_to_online_store("v", frame)
    before = repo.online(["v:x"], [0])
    repo.materialize()
    assert exact(before) == exact(repo.online(["v:x"], [0])) == exact(repo.offline(["v:x"], [0]))


def test_a_written_row_with_a_null_key_belongs_to_no_entity(make_repo: Any) -> None:
    import pandas as pd
    from feast.types import Int64

    repo = make_repo()
    repo.view("v", pa.table({"key": [1], "at": [NOW - DAY], "x": [5]}), {"x": Int64})
    frame = pd.DataFrame({"key": [None, 2], "at": [NOW - DAY] * 2, "x": [6, 7]})
    repo.store.write_to_online_store("v", frame)
    assert repo.online(["v:x"], [2, None]) == {"x": [7, None]}
