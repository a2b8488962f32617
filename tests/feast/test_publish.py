"""`apply` publishes to a Feast registry, and what Feast answers then is what featurekit answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

pytest.importorskip("feast.feature_store", reason="needs Feast (the extra featurekit[feast])")

from published_repos import AT, DEFINITIONS, HOUR, LABELS, ROLES, bits, columns, write_repo

from featurekit import FeatureStore
from featurekit.errors import ConfigError, DefinitionError, RegistryError
from featurekit.plugins.feast.shown import MARK

pytestmark = pytest.mark.filterwarnings("ignore")
Make = Callable[..., tuple[Path, FeatureStore]]
REGISTRIES = {
    "file": "feast.db",
    "sql": "{registry_type: sql, path: 'sqlite:///FOLDER/feast.sqlite'}",
}


@pytest.fixture
def make(tmp_path: Path, redis_url: str) -> Iterator[Make]:
    """Makes a repo and opens it; `registry` is "file" or "sql"."""
    opened: list[FeatureStore] = []

    def made(name: str = "repo", *, registry: str = "file", **more: Any) -> tuple[Path, Any]:
        folder = tmp_path / name
        project = more.pop("project", f"p{tmp_path.name}_{name}".replace("-", "_"))
        where = REGISTRIES[registry].replace("FOLDER", str(tmp_path))
        write_repo(folder, redis_url, project=project, registry=where, **more)
        opened.append(FeatureStore(folder))
        return folder, opened[-1]

    yield made
    for store in opened:
        store.close()


def feast_of(folder: Path) -> Any:
    from feast import FeatureStore as FeastStore

    return FeastStore(repo_path=str(folder))


def done(store: FeatureStore) -> list[tuple[str, str, str]]:
    return [(p.action, p.kind, p.name) for p in store.apply().published]


# --- what is published ----------------------------------------------------------------------------


@pytest.mark.parametrize("registry", REGISTRIES)
def test_every_definition_appears_with_what_its_author_says(make: Make, registry: str) -> None:
    folder, store = make(registry=registry)
    store.apply()
    feast = feast_of(folder)
    assert {v.name for v in feast.list_feature_views()} >= {"windows", "latest", "shops"}
    view = feast.get_feature_view("windows")
    compiled = store.repo.compiled_views["windows"]
    assert (view.description, view.owner, view.tags["tier"]) == (
        "How much a user buys.", "ann", "gold",
    )  # fmt: skip
    assert view.tags["featurekit.fingerprint"] == compiled.fingerprint
    assert view.tags["featurekit.version"] == f"windows@{compiled.fingerprint[:12]}"
    types = {f.name: str(f.dtype.to_value_type()) for f in view.features}
    assert types == {
        "spend_1d": "ValueType.DOUBLE", "orders_7d": "ValueType.INT64",
        "most_7d": "ValueType.DOUBLE",
    }  # fmt: skip
    assert {f.tags["featurekit.fingerprint"] for f in view.features} == {
        f.fingerprint for f in compiled.features
    }
    entity = feast.get_entity("user")
    assert (entity.description, entity.owner, entity.tags["team"]) == ("Somebody.", "ann", "core")
    assert {e.name: e.join_key for e in feast.list_entities()} == {
        "user": "user_id", "shop_country": "country", "shop_number": "number",
    }  # fmt: skip
    source = feast.get_data_source("orders")
    assert (source.path, source.timestamp_field, source.owner) == (
        "data/orders.parquet", "at", "ann",
    )  # fmt: skip
    service = feast.get_feature_service("checkout")
    assert (service.description, service.tags["model"]) == ("At the till.", "till@3")
    assert service.tags["featurekit.fingerprint"] == (
        store.repo.compiled_services["checkout"].fingerprint
    )
    assert {p.name: [f.name for f in p.features] for p in service.feature_view_projections} == {
        "windows": ["spend_1d", "orders_7d", "most_7d"],
        "latest": ["units", "note"],
        "checkout_request": ["share", "far"],
    }
    assert feast.get_feature_view("latest").ttl.days == 2


@pytest.mark.parametrize("registry", REGISTRIES)
def test_to_apply_again_changes_nothing(make: Make, registry: str) -> None:
    folder, store = make(registry=registry)
    assert store.plan().published == store.apply().published != []
    assert store.plan().published == []
    before = (folder / "feast.db").read_bytes() if registry == "file" else b""
    assert done(store) == []
    if registry == "file":
        assert (folder / "feast.db").read_bytes() == before
    again = FeatureStore(folder)
    assert done(again) == []
    again.close()


@pytest.mark.parametrize("registry", REGISTRIES)
def test_what_is_edited_changes_and_what_is_gone_goes(make: Make, registry: str) -> None:
    folder, store = make(registry=registry)
    other, others = make("other", registry=registry)
    others.apply()
    store.apply()
    text = DEFINITIONS.replace('"latest"', '"newest"').replace(
        'window="7d", default', 'window="3d"'
    )
    (folder / "shop.py").write_text(
        text.replace("How much a user buys.", "What a user spends."), encoding="utf-8"
    )
    found = set(done(store))
    assert ("add", "feature view", "newest") in found
    assert ("remove", "feature view", "latest") in found
    assert ("change", "feature view", "windows") in found
    assert ("change", "feature service", "checkout") in found
    feast = feast_of(folder)
    names = {v.name for v in feast.list_feature_views()}
    assert "newest" in names
    assert "latest" not in names
    assert feast.get_feature_view("windows").description == "What a user spends."
    assert {v.name for v in feast_of(other).list_feature_views()} >= {"windows", "latest"}


def test_objects_of_feast_stay_and_a_name_of_theirs_is_refused(make: Make) -> None:
    from feast import Entity, FeatureView, FileSource
    from feast.permissions.action import AuthzedAction
    from feast.permissions.permission import Permission
    from feast.permissions.policy import RoleBasedPolicy
    from feast.value_type import ValueType

    folder, store = make()
    feast = feast_of(folder)
    own = Entity(name="own", join_keys=["k"], value_type=ValueType.INT64)
    source = FileSource(name="orders", path="data/orders.parquet", timestamp_field="at")
    reader = Permission(
        name="readers", types=[FeatureView], policy=RoleBasedPolicy(roles=["reader"]),
        actions=[AuthzedAction.READ_ONLINE],
    )  # fmt: skip
    feast.apply([own, source, reader])
    with pytest.raises(RegistryError, match="data source 'orders' of its own") as caught:
        store.apply()
    assert "applied and in force here" in str(caught.value)
    assert "windows" in store.registry.names("view")
    assert feast_of(folder).list_feature_views() == []
    feast.apply([], objects_to_delete=[source], partial=False)
    store.apply()
    after = feast_of(folder)
    assert [p.name for p in after.list_permissions()] == ["readers"]
    assert {e.name for e in after.list_entities()} == {"own", "user", "shop_country", "shop_number"}
    assert {v.name for v in after.list_feature_views()} >= {"windows"}


def test_what_feast_cannot_say_is_told_by_name(make: Make) -> None:
    more = """
span_of = EventSource("spans", path="data/spans.parquet", timestamp_field="at",
                      schema={"user_id": int, "span": dt.timedelta, "day": dt.date})
spans = FeatureView("spans", entities=[user], source=span_of, features={"span": "span"})
days = FeatureView("days", entities=[user], source=span_of,
                   features={"day": "day", "seen": Count(window="1d")} if False else
                   {"day": "day", "who": "user_id"})
"""
    _, store = make(definitions=DEFINITIONS + LABELS + more)
    told = {(p.kind, p.name): p.why for p in store.apply().published if p.action == "omit"}
    assert "labels" in told["feature view", "bought"]
    assert "none of its features" in told["feature view", "spans"]
    assert "timedelta" in told["feature", "spans:span"]
    assert "date" in told["feature", "days:day"]
    assert "span is timedelta" in told["push source", "spans_push"]
    assert [p.action for p in store.apply().published] == ["omit"] * len(told)


def test_a_repo_without_the_setting_publishes_nothing(make: Make) -> None:
    folder, store = make()
    config = folder / "feature_store.yaml"
    config.write_text(config.read_text("utf-8").replace("  publish: feast\n", "  buckets: 2\n"))
    store.reload()
    assert store.apply().published == []
    assert not (folder / "feast.db").exists()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("publish: feast", "publish: hopsworks", r":1\d: featurekit.publish: is 'feast', found"),
        ("type: featurekit.plugins.feast.FeaturekitOfflineStore", "type: duckdb",
         r":5: offline_store: Feast asks .* write offline_store: {type: featurekit"),
        ("registry: feast.db\n", "", r"registry: is missing, and `publish: feast` needs it"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_are_named_with_their_line(
    make: Make, old: str, new: str, said: str
) -> None:
    folder, _ = make()
    config = folder / "feature_store.yaml"
    config.write_text(config.read_text("utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        FeatureStore(folder)


def test_a_registry_that_fails_leaves_ours_whole_and_says_so(make: Make) -> None:
    folder, store = make(registry="sql")
    config = folder / "feature_store.yaml"
    config.write_text(config.read_text("utf-8").replace("sqlite:///", "sqlite:////nowhere/"))
    store.reload()
    with pytest.raises(RegistryError, match=r"applied and in force here.*publishing them to feast"):
        store.apply()
    assert store.registry.names("service") == ["checkout"]


# --- what Feast answers ---------------------------------------------------------------------------


def frame(count: int = 8, **more: Any) -> pd.DataFrame:
    return pd.DataFrame({
        "user_id": [i % 7 for i in range(count)],
        "event_timestamp": [AT + (7 * i) * HOUR for i in range(count)],
        "basket": [0.1 * i for i in range(count)],
        "other": [f"o{i}" for i in range(count)],
        **more,
    })  # fmt: skip


def test_historical_features_are_those_of_featurekit(make: Make) -> None:
    folder, store = make()
    store.apply()
    labels = frame()
    ours = store.get_historical_features(labels, "checkout").to_arrow()
    feast = feast_of(folder)
    theirs = feast.get_historical_features(labels, feast.get_feature_service("checkout")).to_arrow()
    names = [o.name for o in store.repo.compiled_services["checkout"].outputs]
    assert len(set(bits(ours["spend_1d"].to_pylist()))) > 2
    assert columns(theirs.to_pydict(), names) == columns(ours.to_pydict(), names)
    assert theirs["other"].to_pylist() == list(labels["other"])
    assert [theirs.schema.field(n).type for n in names] == [
        ours.schema.field(n).type for n in names
    ]


def test_a_list_of_references_is_answered_by_full_names(make: Make) -> None:
    folder, store = make()
    store.apply()
    store.materialize()
    feast = feast_of(folder)
    refs = ["latest:amount", "windows:spend_1d", "checkout_request:far"]
    ours = store.get_historical_features(
        frame(), features=["latest:amount", "windows:spend_1d", "far"]
    ).to_arrow()
    theirs = feast.get_historical_features(frame(), refs, full_feature_names=True).to_arrow()
    shown = ["latest__amount", "windows__spend_1d", "checkout_request__far"]
    for name, own in zip(shown, ["amount", "spend_1d", "far"], strict=True):
        assert bits(theirs[name].to_pylist()) == bits(ours[own].to_pylist())
    rows = [{"user_id": i, "basket": 0.1} for i in range(7)]
    online = feast.get_online_features(refs, rows, full_feature_names=True).to_dict()
    own = store.get_online_features(
        features=["latest:amount", "windows:spend_1d", "far"], rows=rows
    )
    for name, mine in zip(shown, ["amount", "spend_1d", "far"], strict=True):
        assert bits(online[name]) == bits(own.columns[mine])


def test_online_features_are_those_of_featurekit_with_their_statuses(make: Make) -> None:
    folder, store = make()
    store.apply()
    store.materialize()
    feast = feast_of(folder)
    rows = [{"user_id": i, "basket": 0.1 * i} for i in range(8)]
    ours = store.get_online_features("checkout", rows)
    answer = feast.get_online_features(feast.get_feature_service("checkout"), rows)
    assert columns(answer.to_dict(), list(ours.columns)) == columns(
        ours.columns, list(ours.columns)
    )
    assert answer.to_dict()["user_id"] == list(range(8))
    assert {n: s for n, s in answer.statuses().items() if n != "user_id"} == ours.status
    assert ours.status["note"][7] == "NOT_FOUND"


async def _awaited(feast: Any, rows: Any) -> Any:
    return await feast.get_online_features_async(feast.get_feature_service("checkout"), rows)


def test_the_async_twin_answers_the_same(make: Make) -> None:
    import asyncio

    folder, store = make()
    store.apply()
    store.materialize()
    feast = feast_of(folder)
    rows = [{"user_id": i, "basket": 0.1 * i} for i in range(3)]
    ours = store.get_online_features("checkout", rows)
    found = asyncio.run(_awaited(feast, rows)).to_dict()
    assert columns(found, list(ours.columns)) == columns(ours.columns, list(ours.columns))


def test_roles_of_a_view_are_answered_as_its_service_has_them(make: Make) -> None:
    folder, store = make(definitions=DEFINITIONS + ROLES)
    store.apply()
    store.materialize()
    feast = feast_of(folder)
    rows = [{"payer_id": i, "payee_id": i + 1} for i in range(4)]
    ours = store.get_online_features("pair", rows, full_feature_names=True)
    service = feast.get_feature_service("pair")
    theirs = feast.get_online_features(service, rows, full_feature_names=True).to_dict()
    assert columns(theirs, list(ours.columns)) == columns(ours.columns, list(ours.columns))
    labels = pd.DataFrame(rows).assign(event_timestamp=AT + 30 * HOUR)
    table = feast.get_historical_features(labels, service, full_feature_names=True).to_arrow()
    own = store.get_historical_features(labels, "pair", full_feature_names=True).to_arrow()
    assert columns(table.to_pydict(), list(ours.columns)) == columns(
        own.to_pydict(), list(ours.columns)
    )


def test_the_function_of_an_on_demand_view_computes_what_the_service_does(make: Make) -> None:
    folder, store = make()
    store.apply()
    view = feast_of(folder).get_on_demand_feature_view("checkout_request")
    given = {"basket": [1.0, 2.0, 3.0], "spend_1d": [0.0, 0.3, 5.0], "units": [1, None, 0]}
    assert view.feature_transformation.udf(given) == {
        "share": [None, 2.0 / 0.3, 3.0 / 5.0], "far": [False, False, True],
    }  # fmt: skip


def test_views_of_feast_are_answered_beside_published_ones(make: Make) -> None:
    from feast import Entity, FeatureView, Field, FileSource
    from feast.types import Float64, Int64
    from feast.value_type import ValueType

    folder, store = make()
    store.apply()
    store.materialize()
    feast = feast_of(folder)
    own = Entity(name="owner", join_keys=["user_id"], value_type=ValueType.INT64)
    view = FeatureView(
        name="native", entities=[own], ttl=None,
        schema=[Field(name="user_id", dtype=Int64), Field(name="amount", dtype=Float64)],
        source=FileSource(name="native", path="data/orders.parquet", timestamp_field="at"),
    )  # fmt: skip
    feast.apply([own, view])
    feast.materialize(AT - HOUR, AT + 100 * HOUR, feature_views=["native"])
    rows = [{"user_id": 2}]
    found = feast.get_online_features(["native:amount"], rows).to_dict()
    assert bits(found["amount"]) == bits([0.1])  # of the 57th order, the last of user 2
    with pytest.raises(
        DefinitionError, match=r"views of featurekit \(windows\) and views of Feast"
    ):
        feast.get_online_features(["native:amount", "windows:spend_1d"], rows)
    assert done(store) == []


def test_feast_materializes_as_featurekit_does(make: Make) -> None:
    folder, store = make()
    store.apply()
    assert store.live() == {}
    feast = feast_of(folder)
    assert not feast.get_feature_view("shops").online  # no service reads it
    feast.materialize(AT - HOUR, AT + 40 * HOUR)
    assert list(store.live()) == ["checkout"]
    feast.materialize_incremental(AT + 100 * HOUR)
    rows = [{"user_id": i, "basket": 0.1} for i in range(6)]
    _, copy = make("twin")
    copy.apply()
    copy.materialize(AT + 100 * HOUR)
    assert len(copy.get_online_features("checkout", rows).columns["most_7d"]) == 6
    names = [o.name for o in store.repo.compiled_services["checkout"].outputs]
    assert columns(store.get_online_features("checkout", rows).columns, names) == columns(
        copy.get_online_features("checkout", rows).columns, names
    )


def test_a_database_registry_gets_all_or_nothing(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from feast.infra.registry.sql import SqlRegistry

    folder, store = make(registry="sql")

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("the network is gone")

    with monkeypatch.context() as patched:
        patched.setattr(SqlRegistry, "apply_feature_service", fail)
        with pytest.raises(RegistryError, match="the network is gone"):
            store.apply()
    assert feast_of(folder).list_feature_views() == []
    assert ("add", "feature view", "windows") in done(store)
    assert {v.name for v in feast_of(folder).list_feature_views()} >= {"windows", "latest"}


# --- pushes, and what Feast may not do ------------------------------------------------------------


def pushed_row() -> pd.DataFrame:
    hour_ago = pd.Timestamp.now(tz="UTC").floor("us") - pd.Timedelta(hours=1)
    return pd.DataFrame({
        "user_id": [5], "country": ["de"], "number": [1], "amount": [0.1], "units": [2**53 + 1],
        "note": ["pushed"], "at": [hour_ago],
    })  # fmt: skip


def known_now(store: FeatureStore) -> dict[str, list[Any]]:
    """What a training set says of user 5 as of now."""
    labels = frame(1, user_id=[5], event_timestamp=[pd.Timestamp.now(tz="UTC")])
    found = store.get_historical_features(labels, "checkout").to_arrow().to_pydict()
    return columns(found, ["spend_1d", "orders_7d", "units", "note"])


@pytest.mark.parametrize("both", [False, True])
def test_a_push_through_feast_is_one_event_on_both_paths(make: Make, both: bool) -> None:
    from feast.data_source import PushMode

    folder, store = make()
    store.apply()
    store.materialize()
    feast = feast_of(folder)
    assert known_now(store) == {
        "spend_1d": bits([0.0]), "orders_7d": [0], "units": [None], "note": [None],
    }  # fmt: skip
    mode = PushMode.ONLINE_AND_OFFLINE if both else PushMode.ONLINE
    feast.push("orders_push", pushed_row(), to=mode)
    wanted = {
        "spend_1d": bits([0.1 * 1.1]), "orders_7d": [1], "units": [2**53 + 1], "note": ["pushed"],
    }  # fmt: skip
    assert known_now(store) == wanted
    service, rows = feast.get_feature_service("checkout"), [{"user_id": 5, "basket": 1.0}]
    assert columns(feast.get_online_features(service, rows).to_dict(), list(wanted)) == wanted


def test_a_push_to_the_offline_store_alone_is_refused_and_takes_nothing(make: Make) -> None:
    from feast.data_source import PushMode

    folder, store = make()
    store.apply()
    store.materialize()
    before = known_now(store)
    with pytest.raises(DefinitionError, match="none to the offline store alone"):
        feast_of(folder).push("orders_push", pushed_row(), to=PushMode.OFFLINE)
    assert known_now(store) == before


def test_feast_cannot_write_to_a_published_view_nor_take_it_away(make: Make) -> None:
    folder, store = make()
    store.apply()
    store.materialize()
    feast = feast_of(folder)
    row = pd.DataFrame({"user_id": [1], "units_7d": [3], "spend_1d": [1.0], "orders_7d": [2],
                        "most_7d": [1.0], "at": [AT]})  # fmt: skip
    with pytest.raises(DefinitionError, match="push the events of its source"):
        feast.write_to_online_store("windows", row)
    view = feast.get_feature_view("windows")
    with pytest.raises(DefinitionError, match="featurekit apply"):
        feast.apply([], objects_to_delete=[view], partial=False)
    assert feast_of(folder).get_feature_view("windows").tags[MARK] == "view"
    with pytest.raises(DefinitionError, match="takes pushes to 'orders'"):
        feast.get_online_features(["orders_push:units"], [{"user_id": 1}])


def test_teardown_of_feast_leaves_the_keys_of_others_and_our_states(make: Make) -> None:
    folder, store = make(project="foo")
    _, other = make("other", project="my_foo")
    for one in (store, other):
        one.apply()
        one.materialize()
    rows = [{"user_id": i, "basket": 1.0} for i in range(7)]
    before = [one.get_online_features("checkout", rows).columns for one in (store, other)]
    feast_of(folder).teardown()
    after = [one.get_online_features("checkout", rows).columns for one in (store, other)]
    assert [columns(c, list(c)) for c in after] == [columns(c, list(c)) for c in before]
    assert ("add", "feature view", "windows") in done(store)


def test_a_push_to_both_stores_asks_for_no_file_of_the_source(make: Make) -> None:
    """Feast asks for the columns once the push is taken: an error then would have it sent again."""
    from feast.data_source import PushMode

    folder, store = make(definitions=DEFINITIONS.replace("orders.parquet", "orders.csv"))
    pushed_row().assign(user_id=1).to_csv(folder / "data/orders.csv", index=False)
    store.apply()
    store.materialize()
    feast_of(folder).push("orders_push", pushed_row(), to=PushMode.ONLINE_AND_OFFLINE)
    assert known_now(store)["orders_7d"] == [1]
    with pytest.raises(DefinitionError, match="none to the offline store alone"):
        feast_of(folder).push("orders_push", pushed_row(), to=PushMode.OFFLINE)
    assert known_now(store)["orders_7d"] == [1]
