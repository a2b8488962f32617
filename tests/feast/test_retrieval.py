"""What the offline store does beside the features of a pandas frame."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("feast.feature_store", reason="needs Feast (the extra featurekit[feast])")

from feast_repos import DAY, NOW, Repo

from featurekit.errors import EntityFrameError

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def repo(make_repo: Callable[..., Repo]) -> Repo:
    """Two entities with rows of three days, one of which was created late."""
    from feast.data_format import ParquetFormat
    from feast.types import Int64

    made: Repo = make_repo()
    rows = pa.table({
        "key": [1, 1, 2],
        "at": [NOW - 3 * DAY, NOW - 2 * DAY, NOW - 2 * DAY],
        "created": [NOW - 3 * DAY, NOW - DAY / 2, None],
        "x": [1, 2, 3],
    })  # fmt: skip
    made.view("v", rows, {"x": Int64}, file_format=ParquetFormat())
    return made


def ask(repo: Repo, frame: Any, **options: Any) -> pa.Table:
    """The features of a frame, as an Arrow table."""
    return repo.store.get_historical_features(frame, ["v:x"], **options).to_arrow()


def test_without_a_frame_each_row_of_the_interval_is_asked_about(repo: Repo) -> None:
    found = ask(repo, None, start_date=NOW - 2.5 * DAY, end_date=NOW)
    assert sorted(zip(found["key"].to_pylist(), found["x"].to_pylist(), strict=True)) == [
        (1, 2),
        (2, 3),
    ]
    assert set(found["event_timestamp"].to_pylist()) == {NOW - 2 * DAY}


def test_a_query_gives_the_frame(repo: Repo) -> None:
    at = NOW.isoformat()
    found = ask(repo, f"SELECT 2 AS key, TIMESTAMPTZ '{at}' AS event_timestamp, 'a' AS own")
    assert found.to_pylist() == [{"key": 2, "event_timestamp": NOW, "own": "a", "x": 3}]


def test_a_row_created_later_counts_from_then_on_where_that_is_asked_for(repo: Repo) -> None:
    frame = pd.DataFrame({"key": [1, 1, 2], "event_timestamp": [NOW - DAY, NOW, NOW]})
    assert ask(repo, frame)["x"].to_pylist() == [2, 2, 3]
    found = ask(repo, frame, filter_by_created_timestamp=True)
    assert found["x"].to_pylist() == [1, 2, 3]


def test_the_frame_comes_back_as_it_was(repo: Repo) -> None:
    frame = pd.DataFrame(
        {"own": ["b", "a"], "key": [2, 1], "event_timestamp": ["2020-01-01", NOW.isoformat()]},
        index=[7, 3],
    )
    before = frame.copy()
    found = ask(repo, frame)
    pd.testing.assert_frame_equal(frame, before)
    assert found["own"].to_pylist() == ["b", "a"]
    assert found["x"].to_pylist() == [None, 2]
    assert found["event_timestamp"].to_pylist() == [dt.datetime(2020, 1, 1, tzinfo=dt.UTC), NOW]


def test_an_added_row_is_in_the_file_and_counts(repo: Repo) -> None:
    frame = pd.DataFrame({"key": [2], "at": [NOW - DAY], "created": [NOW], "x": [30]})
    frame = frame.astype({"at": "datetime64[us, UTC]", "created": "datetime64[us, UTC]"})
    repo.store.write_to_offline_store("v", frame)
    assert pq.read_table(repo.folder / "v.parquet").num_rows == 4
    assert repo.offline(["v:x"], [2]) == {"x": [30]}


def test_a_saved_dataset_is_read_back(repo: Repo) -> None:
    from feast.infra.offline_stores.file_source import SavedDatasetFileStorage

    frame = pd.DataFrame({"key": [1, 2], "event_timestamp": [NOW, NOW]})
    job = repo.store.get_historical_features(frame, ["v:x"])
    storage = SavedDatasetFileStorage(path=str(repo.folder / "saved.parquet"))
    saved = repo.store.create_saved_dataset(job, "saved", storage)
    assert sorted(saved.to_df()["x"]) == [2, 3]


def test_metrics_of_a_source_are_computed_and_kept(repo: Repo) -> None:
    from featurekit.plugins.feast import FeaturekitOfflineStore as Ours

    config, source = repo.store.config, repo.store.get_feature_view("v").batch_source
    (found,) = Ours.compute_monitoring_metrics(config, source, [("x", "numeric")], "at")
    assert (found["row_count"], found["mean"], found["min_val"]) == (3, 2.0, 1.0)
    assert Ours.get_monitoring_max_timestamp(config, source, "at") == NOW - 2 * DAY
    Ours.ensure_monitoring_tables(config)
    assert Ours.query_monitoring_metrics(config, repo.store.project, "feature") == []


def test_logged_features_are_added_to_the_folder(repo: Repo) -> None:
    from feast.feature_logging import LoggingConfig
    from feast.infra.offline_stores.file_source import FileLoggingDestination

    from featurekit.plugins.feast import FeaturekitOfflineStore as Ours

    destination = FileLoggingDestination(path=str(repo.folder / "log"))
    logging = LoggingConfig(destination=destination, sample_rate=1.0)
    for value in (1, 2):
        Ours.write_logged_features(
            repo.store.config, pa.table({"x": [value]}), None, logging, repo.store.registry
        )
    assert sorted(pq.read_table(repo.folder / "log")["x"].to_pylist()) == [1, 2]


def test_a_key_beside_a_null_is_exact_without_a_frame_and_in_a_query(make_repo: Any) -> None:
    from feast.types import Int64

    big, repo = 2**53 + 1, make_repo()
    rows = pa.table({"key": [big, None, 1], "at": [NOW - DAY] * 3, "x": [5, 6, 7]})
    repo.view("v", rows, {"x": Int64})
    found = repo.store.get_historical_features(
        None, ["v:x"], start_date=NOW - 2 * DAY, end_date=NOW
    ).to_arrow()
    assert (found["key"].to_pylist(), found["x"].to_pylist()) == ([1, big], [7, 5])
    query = f"SELECT unnest([{big}, NULL]) AS key, now() AS event_timestamp"
    asked = repo.store.get_historical_features(query, ["v:x"]).to_arrow()
    assert (asked["key"].to_pylist(), asked["x"].to_pylist()) == ([big, None], [5, None])


def test_a_query_that_does_not_run_is_an_error_of_the_frame(repo: Repo) -> None:
    with pytest.raises(EntityFrameError, match="Table with name labels does not exist"):
        repo.store.get_historical_features("SELECT * FROM labels", ["v:x"])


def test_an_error_of_a_file_names_no_line_of_feast(make_repo: Any) -> None:
    from feast.types import Int64, Map

    from featurekit.errors import SourceError

    repo = make_repo()
    seen = pa.array([[("a", "1")]], pa.map_(pa.string(), pa.string()))
    repo.view("m", pa.table({"key": [1], "at": [NOW - DAY], "seen": seen}), {"seen": Map})
    repo.view("v", pa.table({"key": [1], "at": [NOW - DAY], "x": [5]}), {"x": Int64})
    for name, feature in (("m", "seen"), ("v", "x")):
        (repo.folder / f"{name}.parquet").unlink()
        with pytest.raises(SourceError) as raised:
            repo.offline([f"{name}:{feature}"], [1])
        assert "site-packages" not in str(raised.value)
