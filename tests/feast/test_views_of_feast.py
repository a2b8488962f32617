"""Stream views, precomputed services and plans of a Feast repo work on featurekit's stores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

pytest.importorskip("feast.feature_store", reason="needs Feast (the extra featurekit[feast])")

from feast import FeatureService, Field, KafkaSource, types
from feast.data_format import JsonFormat
from feast.data_source import PushMode, PushSource
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.stream_feature_view import StreamFeatureView
from feast.transformation.pandas_transformation import PandasTransformation
from feast_repos import DAY, NOW, Repo, exact
from feast_servers import run_feast

from featurekit.errors import DataError

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def repo(make_repo: Callable[..., Repo]) -> Repo:
    """A repo with a view `v` of the keys 1 and 2."""
    made: Repo = make_repo()
    rows = pa.table({"key": [1, 2], "at": [NOW - 2 * DAY] * 2, "x": [1, 2]})
    made.view("v", rows, {"x": types.Int64}, ttl=30 * DAY)
    made.materialize()
    return made


def stream(repo: Repo, source: Any) -> None:
    """A stream view `s` with a feature `x` from this source."""
    schema = [Field(name="key", dtype=types.Int64), Field(name="x", dtype=types.Int64)]
    view = StreamFeatureView(
        name="s", entities=[repo.key], ttl=30 * DAY, schema=schema, source=source,
        timestamp_field="at",
    )  # fmt: skip
    repo.store.apply([view])


def both(repo: Repo, keys: list[int]) -> list[Any]:
    """The values of the stream view, which both paths give."""
    offline, online = repo.offline(["s:x"], keys), repo.online(["s:x"], keys)
    assert exact(offline) == exact(online)
    return list(online["x"])


def test_a_stream_view_is_filled_of_its_files_and_of_its_stream(repo: Repo) -> None:
    batch = repo.store.get_feature_view("v").batch_source
    kafka = KafkaSource(
        name="orders", timestamp_field="at", batch_source=batch, topic="orders",
        kafka_bootstrap_servers="localhost:1", message_format=JsonFormat("key int, x int"),
    )  # fmt: skip
    stream(repo, kafka)
    repo.materialize()
    assert both(repo, [1, 2, 3]) == [1, 2, None]
    # What a processor of the stream writes, and the file it adds to.
    rows = pd.DataFrame({"key": [1, 3], "at": [NOW - DAY] * 2, "x": [10, 30]})
    repo.store.write_to_online_store("s", rows)
    repo.store.write_to_offline_store("s", rows)
    assert both(repo, [1, 2, 3]) == [10, 2, 30]
    repo.materialize()
    assert both(repo, [1, 2, 3]) == [10, 2, 30]


def test_a_stream_view_takes_pushes(repo: Repo) -> None:
    batch = repo.store.get_feature_view("v").batch_source
    stream(repo, PushSource(name="pushed", batch_source=batch))
    rows = pd.DataFrame({"key": [2], "at": [NOW - DAY], "x": [20]})
    repo.store.push("pushed", rows, to=PushMode.ONLINE_AND_OFFLINE)
    repo.materialize()
    assert both(repo, [1, 2]) == [1, 20]


def test_a_precomputed_service_is_answered_of_the_rows_that_are_there(
    repo: Repo, caplog: Any
) -> None:
    service = FeatureService(
        name="ready", features=[repo.store.get_feature_view("v")], precompute_online=True
    )
    repo.store.apply([service])
    repo.materialize()
    assert "Failed" not in caplog.text
    row = pd.DataFrame({"key": [1], "at": [NOW], "x": [5]})
    repo.store.write_to_online_store("v", row)
    found = repo.store.get_online_features(service, [{"key": 1}, {"key": 2}]).to_dict()
    assert found["x"] == [5, 2]


def test_a_plan_says_what_an_apply_would_do(repo: Repo) -> None:
    repo.write_settings()
    (repo.folder / "views.py").write_text(
        "from feast import Entity, FeatureView, Field, FileSource, types\n"
        "key = Entity(name='key', join_keys=['key'])\n"
        "rows = FileSource(name='v_source', path='v.parquet', timestamp_field='at')\n"
        "w = FeatureView(name='w', entities=[key], source=rows, schema=[\n"
        "    Field(name='key', dtype=types.Int64), Field(name='x', dtype=types.Int64)])\n",
        encoding="utf-8",
    )
    before = repo.online(["v:x"], [1])
    told = run_feast(repo.folder, "plan", "--skip-source-validation")
    assert "Created feature view" in told
    assert "Deleted feature view" in told
    assert [view.name for view in repo.store.list_feature_views()] == ["v"]
    assert repo.online(["v:x"], [1]) == before == {"x": [1]}


def test_a_push_online_loses_what_feast_s_protos_do_not_hold(repo: Repo) -> None:
    """Feast makes protos of a push before the online store sees it. The file has what was pushed,
    or says that it cannot, and once it is materialised both paths have that."""
    rows = pa.table({"key": [1], "at": [NOW - 2 * DAY], "x": [1], "t": [NOW]})
    repo.view("p", rows, {"x": types.Int64, "t": types.UnixTimestamp})
    batch = repo.store.get_feature_view("p").batch_source
    view = repo.store.get_feature_view("p")
    view.stream_source = PushSource(name="p_push", batch_source=batch)
    repo.store.apply([view.stream_source, view])
    part = pd.DataFrame({"key": [1], "at": [NOW - DAY], "x": [1.5], "t": [NOW]})
    repo.store.push("p_push", part, to=PushMode.ONLINE)
    assert repo.online(["p:x", "p:t"], [1]) == {"x": [1], "t": [NOW.replace(microsecond=0)]}
    with pytest.raises(DataError, match="column 'x': the file has int64"):
        repo.store.push("p_push", part, to=PushMode.OFFLINE)
    whole = part.assign(x=[2])
    repo.store.push("p_push", whole, to=PushMode.OFFLINE)
    repo.materialize()
    assert repo.offline(["p:x", "p:t"], [1]) == {"x": [2], "t": [NOW]}
    assert exact(repo.online(["p:x", "p:t"], [1])) == exact(repo.offline(["p:x", "p:t"], [1]))


def test_what_an_on_demand_view_writes_outlives_the_ttl_of_its_sources(repo: Repo) -> None:
    """Feast's own tests serve it. Its sources do not, and neither do historical features."""
    rows = pa.table({"key": [1], "at": [NOW - 2 * DAY], "x": [1]})
    source = repo.view("old", rows, {"x": types.Int64}, ttl=DAY)
    made = OnDemandFeatureView(
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
    repo.store.apply([made])
    repo.materialize()
    assert repo.online(["made:y", "old:x"], [1]) == {"y": [10], "x": [None]}
    assert repo.offline(["made:y", "old:x"], [1]) == {"y": [None], "x": [None]}
