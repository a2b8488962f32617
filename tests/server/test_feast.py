"""Feast's own client of a remote online store asks our server, where Feast is installed."""

from __future__ import annotations

import datetime as dt
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import Served, exact, serving

from featurekit.project.api_keys import create_api_key

pytest.importorskip(
    "feast.feature_store", reason="needs Feast (the extra featurekit[feast]) beside the server"
)

FEATURES = ["i", "f", "s", "t", "li", "lf", "ls"]


@pytest.fixture(scope="module")
def feast_store(server: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A Feast repo with the views of the served one, whose online store is our server."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from feast import (
            Entity,
            FeatureService,
            FeatureStore,
            FeatureView,
            Field,
            FileSource,
            RepoConfig,
            types,
        )
        from feast.value_type import ValueType

        folder: Path = tmp_path_factory.mktemp("feast")
        config = RepoConfig(
            project="tests", provider="local", registry=str(folder / "registry.db"),
            online_store={"type": "remote", "path": server.url},
            offline_store={"type": "dask"}, entity_key_serialization_version=3,
        )  # fmt: skip
        store = FeatureStore(config=config)
        entity = Entity(name="key", join_keys=["key"], value_type=ValueType.INT64)
        source = FileSource(name="events", path="none.parquet", timestamp_field="at")
        kinds = {
            "i": types.Int64, "f": types.Float64, "s": types.String, "t": types.Bool,
            "li": types.Array(types.Int64), "lf": types.Array(types.Float64),
            "ls": types.Array(types.String), "m": types.UnixTimestamp, "b": types.Bytes,
        }  # fmt: skip
        schema = [Field(name=name, dtype=kind) for name, kind in kinds.items()]
        two = (("i_last", types.Int64), ("f_last", types.Float64))
        latest = FeatureView(
            name="latest", entities=[entity], ttl=dt.timedelta(0), source=source, schema=schema
        )
        numbers = FeatureView(
            name="numbers", entities=[entity], ttl=dt.timedelta(0), source=source,
            schema=[Field(name=n, dtype=k) for n, k in two],
        )  # fmt: skip
        store.apply([entity, latest, numbers, FeatureService(name="plain", features=[numbers])])
        yield store


@pytest.mark.filterwarnings("ignore")
def test_feast_s_client_reads_the_values_of_the_store(world: Any, feast_store: Any):
    keys = [2, 4, 0, 9]
    asked = [f"latest:{name}" for name in FEATURES]
    found = feast_store.get_online_features(asked, [{"key": k} for k in keys]).to_dict()
    wanted = world.store.get_online_features(asked, [{"key": k} for k in keys])
    assert found["key"] == keys
    for name in ("i", "f", "s", "t"):
        column = wanted.columns[name]
        if name == "f":  # Feast's client keeps "Infinity" as a text, since it guesses the type
            column = [c if c is None or abs(c) != float("inf") else _text(c) for c in column]
        assert exact(found[name]) == exact(column), name
    assert found["li"][0] == wanted.columns["li"][0]
    assert found["ls"][0] == wanted.columns["ls"][0]


def _text(value: float) -> str:
    return "Infinity" if value > 0 else "-Infinity"


@pytest.mark.filterwarnings("ignore")
def test_feast_s_client_reads_a_service(world: Any, feast_store: Any):
    rows = [{"key": 2}, {"key": 0}]
    service = feast_store.get_feature_service("plain")
    found = feast_store.get_online_features(service, rows).to_dict()
    wanted = world.store.get_online_features("plain", rows)
    assert exact(found["i_last"]) == exact(wanted.columns["i_last"])
    assert exact(found["f_last"]) == exact(wanted.columns["f_last"])


@pytest.mark.filterwarnings("ignore")
def test_feast_s_online_read_has_the_declared_types(world: Any, feast_store: Any):
    """The path of Feast's own server: keys and values as protos, each of the type of its field."""
    from feast.infra.online_stores.remote import RemoteOnlineStore
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    # Feast's client takes no "NaN" and no "Infinity" for a double, from its own server either.
    read_keys = (2, 0, 9)
    keys = [EntityKey(join_keys=["key"], entity_values=[Value(int64_val=k)]) for k in read_keys]
    view = feast_store.get_feature_view("latest")
    names = ["i", "f", "s", "m", "t"]
    read = RemoteOnlineStore().online_read(feast_store.config, view, keys, names)
    wanted = world.store.get_online_features([f"latest:{n}" for n in names],
                                             [{"key": k} for k in read_keys])  # fmt: skip
    kinds = {"i": "int64_val", "f": "double_val", "s": "string_val", "t": "bool_val"}
    for row, (at, values) in enumerate(read):
        assert abs(at - dt.datetime.now(dt.UTC)) < dt.timedelta(hours=1)
        for name, kind in kinds.items():
            value = wanted.columns[name][row]
            has = values[name].WhichOneof("val")
            assert (has, None if has is None else exact(getattr(values[name], kind))) == (
                (None, None) if value is None else (kind, exact(value))
            ), (row, name)
        moment = wanted.columns["m"][row]
        if moment is not None and moment.year < 9999:
            since = moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
            assert values["m"].unix_timestamp_val == since // dt.timedelta(seconds=1)


def test_the_answer_has_the_shape_of_feast_s_own(server: Served, feast_store: Any):
    """The same proto, written by Feast's server and by ours, has the same fields."""
    from feast.feature_server_utils import convert_response_to_dict
    from feast.infra.online_stores.remote import RemoteOnlineStore

    body = {"feature_service": "plain", "entities": {"key": [2, 9]}}
    status, ours = server.post("/get-online-features", body)
    assert status == 200
    made = RemoteOnlineStore()._build_online_response_from_json(ours)
    theirs = convert_response_to_dict(made.proto)
    assert theirs["metadata"]["feature_names"] == ours["metadata"]["feature_names"]
    for one, other in zip(theirs["results"], ours["results"], strict=True):
        assert other.keys() == {*one, "event_timestamps"}
        assert one["statuses"] == other["statuses"]
        assert one["values"] == other["values"]


@pytest.mark.filterwarnings("ignore")
def test_feast_s_client_brings_a_key(
    world: Any, feast_store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the page says: its settings name the variable that holds the key."""
    from feast import FeatureStore, RepoConfig
    from feast.permissions.client.http_auth_requests_wrapper import HttpSessionManager

    online = world.store.online
    token = create_api_key(online, "tests", "feast", ["list:features"])[1]
    monkeypatch.setenv("FEATUREKIT_TOKEN", token)
    asked = ["numbers:i_last"]
    with serving("--project", "tests", "--redis-url", world.url, "--auth", "keys") as guarded:

        def store(**more: Any) -> Any:
            HttpSessionManager.close_session()  # one is kept for all stores of a process
            config = RepoConfig(
                project="tests", provider="local", registry=feast_store.config.registry.path,
                online_store={"type": "remote", "path": guarded.url},
                offline_store={"type": "dask"}, entity_key_serialization_version=3, **more,
            )  # fmt: skip
            return FeatureStore(config=config)

        with pytest.raises(Exception, match="says not who asks"):
            store().get_online_features(asked, [{"key": 2}])
        known = store(auth={"type": "oidc", "token_env_var": "FEATUREKIT_TOKEN"})
        found = known.get_online_features(asked, [{"key": 2}]).to_dict()
    HttpSessionManager.close_session()
    wanted = world.store.get_online_features(asked, [{"key": 2}])
    assert exact(found["i_last"]) == exact(wanted.columns["i_last"])
