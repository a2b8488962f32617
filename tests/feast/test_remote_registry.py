"""Stores that know their definitions by Feast's registry server give the same bits."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

pytest.importorskip("feast.feature_store", reason="needs Feast (the extra featurekit[feast])")

from feast import Entity, FeatureView, Field, FileSource, PushSource, types
from feast import FeatureStore as Feast
from feast.data_source import PushMode
from feast_repos import DAY, NOW, Repo, exact
from feast_servers import serving_registry
from published_repos import AT, HOUR, STORES, columns, write_repo

from featurekit import FeatureStore

pytestmark = pytest.mark.filterwarnings("ignore")


def far(folder: Path, address: str, url: str, project: str) -> Any:
    """A store whose registry is at this address."""
    settings = (
        f"project: {project}\nprovider: local\nregistry:\n  registry_type: remote\n"
        f"  path: {address}\nentity_key_serialization_version: 3\n{STORES}  redis_url: {url}\n"
    )
    (folder / "far.yaml").write_text(settings, encoding="utf-8")
    return Feast(repo_path=str(folder), fs_yaml_file=folder / "far.yaml")


@pytest.fixture
def repo(make_repo: Callable[..., Repo]) -> Repo:
    """A repo with a view of an int, a float and an instant, filled."""
    made: Repo = make_repo()
    rows = pa.table(
        {
            "key": [1, 2],
            "at": [NOW - DAY, NOW - 3 * DAY],
            "x": [9007199254740993, None],
            "y": [0.1, float("nan")],
            "t": [NOW, None],
        }
    )
    fields = {"x": types.Int64, "y": types.Float64, "t": types.UnixTimestamp}
    made.view("v", rows, fields, ttl=2 * DAY)
    made.materialize()
    made.write_settings()
    return made


def test_both_paths_answer_by_a_remote_registry(repo: Repo, redis_url: str) -> None:
    refs, keys = ["v:x", "v:y", "v:t"], [1, 2, 3]
    wanted = repo.offline(refs, keys), repo.online(refs, keys)
    assert wanted[0]["x"] == [9007199254740993, None, None]
    with serving_registry(repo.folder) as address:
        repo.store = far(repo.folder, address, redis_url, repo.config.project)
        assert exact(repo.offline(refs, keys)) == exact(wanted[0])
        assert exact(repo.online(refs, keys)) == exact(wanted[1])


def test_definitions_go_to_a_remote_registry(repo: Repo, redis_url: str) -> None:
    with serving_registry(repo.folder) as address:
        repo.store = far(repo.folder, address, redis_url, repo.config.project)
        source = FileSource(
            name="w_source", path=str(repo.folder / "v.parquet"), timestamp_field="at"
        )
        view = FeatureView(
            name="w",
            entities=[Entity(name="key", join_keys=["key"])],
            schema=[Field(name="key", dtype=types.Int64), Field(name="y", dtype=types.Float64)],
            source=PushSource(name="w_push", batch_source=source),
            ttl=DAY * 0,
        )
        repo.store.apply([view])
        repo.materialize()
        assert exact(repo.online(["w:y"], [1, 2])) == exact(repo.offline(["w:y"], [1, 2]))
        now = dt.datetime.now(dt.UTC)
        pushed = pd.DataFrame({"key": [1], "at": [now], "x": [1], "y": [0.3], "t": [now]})
        repo.store.push("w_push", pushed, to=PushMode.ONLINE_AND_OFFLINE)
        assert repo.online(["w:y"], [1]) == repo.offline(["w:y"], [1]) == {"y": [0.3]}
        repo.store.apply([], objects_to_delete=[view], partial=False)
        assert [one.name for one in repo.store.list_feature_views()] == ["v"]


@pytest.fixture
def published(tmp_path: Path, redis_url: str) -> Iterator[FeatureStore]:
    """A featurekit repo whose definitions are published to a registry in a file."""
    folder = write_repo(tmp_path / "repo", redis_url, project="published_far")
    with FeatureStore(folder) as store:
        store.apply()
        store.materialize(AT + 70 * HOUR)
        yield store


def test_what_is_published_is_asked_by_a_remote_registry(
    published: FeatureStore, redis_url: str
) -> None:
    rows = [{"user_id": key, "basket": 0.1 * (key + 1)} for key in range(7)]
    names = [one.name for one in published.repo.compiled_services["checkout"].outputs]
    labels = pd.DataFrame(rows).assign(event_timestamp=[AT + 40 * HOUR] * 7)
    online = published.get_online_features("checkout", rows)
    offline = published.get_historical_features(labels, "checkout").to_arrow().to_pydict()
    with serving_registry(published.path) as address:
        feast = far(published.path, address, redis_url, "published_far")
        service = feast.get_feature_service("checkout")
        theirs = feast.get_online_features(service, rows).to_dict()
        assert columns(theirs, names) == columns(online.columns, names)
        made = feast.get_historical_features(labels, service).to_arrow().to_pydict()
        assert columns(made, names) == columns(offline, names)
    assert len(set(made["spend_1d"])) > 2
