"""A project's keys belong to one registry, and a lost registry is rebuilt from its copy there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from versioned import Repo, at

from featurekit import FeatureStore
from featurekit.cli import main
from featurekit.core.keys import project_key
from featurekit.errors import RegistryError
from featurekit.online.store.redis import RedisStore
from featurekit.project.deployment import owner_key
from featurekit.project.ownership import claim, record
from featurekit.project.registry import Registry
from featurekit.project.registry_file import RegistryFile

ROWS = [(1, 5, 0), (1, 7, 1), (2, 11, 2)]


@pytest.fixture
def deployed(repo: Repo) -> Repo:
    """Three versions, of which the second is in force, and entity 1 forgotten."""
    repo.files(*ROWS)
    for window in ("30d", "20d"):
        repo.define(window=window)
        repo.deploy()
    with repo.store() as store:
        store.forget("entity", {"k": 1})
    return repo


@pytest.fixture
def redis(repo: Repo) -> Iterator[RedisStore]:
    store = RedisStore(repo.url)
    yield store
    store.close()


def registry_of(repo: Repo) -> Path:
    with repo.store() as store:
        return store.registry.kept.path


def known(repo: Repo) -> list[tuple[int, int]]:
    """The keys and values that a training set knows."""
    with repo.store() as store:
        frame = [{"k": k, "event_timestamp": at(10)} for k in (1, 2)]
        rows = store.get_historical_features(frame, "service").to_arrow().to_pylist()
    return [(row["k"], row["sum"]) for row in rows]


def other(repo: Repo, folder: Path) -> Repo:
    """Another repo of the same project in the same Redis."""
    folder.mkdir()
    made = Repo(folder, repo.url)
    made.files((1, 100, 0))
    return made


def test_another_repo_of_the_project_overwrites_nothing(deployed: Repo, tmp_path: Path) -> None:
    stranger = other(deployed, tmp_path / "other")
    before = deployed.both(2, at(10))
    with (
        stranger.store() as store,
        pytest.raises(RegistryError, match=r"belongs to a registry that is not here.*adopt"),
    ):
        store.apply()
    assert not (stranger.folder / ".featurekit" / "registry.db").exists()
    # It has a registry of its own, from another Redis.
    with FeatureStore(stranger.folder, redis_url=_scratch(tmp_path)) as store:
        store.apply()
    row = {"k": 1, "x": 1, "ts": at(3), "arrived": at(3)}
    with stranger.store() as store:
        for work in (
            store.apply,
            store.materialize,
            store.gc,
            store.adopt,
            lambda: store.push("events", row),
            lambda: store.rollback("service"),
            lambda: store.forget("entity", {"k": 2}),
        ):
            with pytest.raises(RegistryError, match="belongs to another registry"):
                work()
    assert deployed.both(2, at(10)) == before


def _scratch(tmp_path: Path) -> str:
    from featurekit.online.store.server import private_redis

    return private_redis(tmp_path / "private")


def test_another_checkout_of_the_registry_is_welcome(deployed: Repo, tmp_path: Path) -> None:
    """A colleague, CI or another host: the same registry, named by its path."""
    folder = tmp_path / "checkout"
    shutil.copytree(deployed.folder, folder, ignore=shutil.ignore_patterns(".featurekit", "check*"))
    path = registry_of(deployed)
    with (folder / "feature_store.yaml").open("a") as file:
        file.write(f"featurekit:\n  registry: {path}\n")
    shutil.copy(path.parent / "forget.key", folder / "forget.key")
    colleague = Repo(folder, deployed.url)
    (folder / "feature_store.yaml").write_text(
        f"project: versions\nprovider: local\nonline_store:\n  type: redis\n"
        f"featurekit:\n  registry: {path}\n  state_dir: {path.parent}\n"
    )
    colleague.define(window="10d")
    colleague.deploy()
    with deployed.store() as store:
        assert len(store.versions("service")) == 3
        store.push("events", {"k": 2, "x": 1, "ts": at(20), "arrived": at(20)})


def test_a_lost_registry_undoes_no_forgetting(deployed: Repo) -> None:
    assert known(deployed) == [(1, None), (2, 11)]
    path = registry_of(deployed)
    with deployed.store() as store:
        versions, tombstones = store.versions("service"), store.registry.tombstones()
        changes = store.registry.dump()
    path.unlink()
    with pytest.raises(RegistryError, match=r"forgotten.*adopt"):
        known(deployed)
    with deployed.store() as store:
        for work in (store.apply, store.materialize, lambda: store.forget("entity", {"k": 2})):
            with pytest.raises(RegistryError, match=r"not here: .*adopt"):
                work()
        done = store.adopt()
        assert (done.services, done.forgotten, done.missing) == (("service",), 1, ())
        assert (done.complete, done.kept) == (True, None)
        assert store.versions("service") == versions
        assert store.registry.tombstones() == tombstones
        assert store.registry.dump() == changes
        assert store.plan() == []
    assert known(deployed) == [(1, None), (2, 11)]
    with deployed.store() as store:
        store.apply()
        store.rollback("service")
        store.materialize()
    offline, online = deployed.both(1, at(10))
    assert offline == online == {"x": (None, "NOT_FOUND"), "sum": (None, "NOT_FOUND")}


def test_an_old_copy_of_the_registry_is_brought_up_to_date(deployed: Repo, tmp_path: Path) -> None:
    path = registry_of(deployed)
    backup = tmp_path / "backup.db"
    shutil.copy(path, backup)
    with deployed.store() as store:
        store.forget("entity", {"k": 2})
    shutil.copy(backup, path)
    with (
        deployed.store() as store,
        pytest.raises(RegistryError, match=r"an old copy: .* 1 of 2 forgotten"),
    ):
        store.materialize()
    with deployed.store() as store:
        done = store.adopt()
        assert done.forgotten == 2
        assert done.kept is not None
        assert done.kept.exists()
        store.materialize()
    assert known(deployed) == [(1, None), (2, None)]


def test_two_that_grew_apart_are_joined(deployed: Repo, tmp_path: Path) -> None:
    """Two hosts with copies of one registry wrote at once: nothing that either knew is lost."""
    path = registry_of(deployed)
    copied = tmp_path / "copy.db"
    shutil.copy(path, copied)
    deployed.define(window="7d")
    deployed.deploy()
    shutil.copy(copied, path)
    store = deployed.store()
    with store:
        mine = Registry(RegistryFile(path))
        mine.roll_back("service", "service", store.versions("service")[0].fingerprint)
        with pytest.raises(RegistryError, match=r"meanwhile; run `featurekit adopt`|an old copy"):
            store.apply()
        store.adopt()
        assert len(store.versions("service")) == 3
        actions = [change[0] for change in store.registry.dump().changes]
        assert actions.count("rollback") == 1
        store.apply()


def test_who_claims_the_keys_first_has_them(redis: RedisStore, tmp_path: Path) -> None:
    """Also before anything was recorded, as while two first `apply` go on at once."""
    mine, others = (Registry(RegistryFile(tmp_path / f"{n}.db")) for n in ("mine", "others"))
    claim(redis, "p", mine, tmp_path)
    with pytest.raises(RegistryError, match="belongs to a registry that is not here"):
        claim(redis, "p", others, tmp_path)
    mine.roll_back("view", "v", "f")
    record(redis, "p", mine)
    recorded = redis.read([owner_key("p")])
    claim(redis, "p", mine, tmp_path)
    assert redis.read([owner_key("p")]) == recorded


def test_an_emptied_redis_is_filled_by_the_registry_that_is_there(
    deployed: Repo, redis: RedisStore
) -> None:
    redis.client.flushall()
    deployed.deploy()
    offline, online = deployed.both(2, at(10))
    assert offline == online
    registry_of(deployed).unlink()
    with deployed.store() as store:
        assert store.adopt().forgotten == 1


def test_what_an_earlier_featurekit_wrote_is_adopted_as_far_as_it_is_known(
    deployed: Repo, redis: RedisStore
) -> None:
    redis.delete(list(redis.keys(project_key("versions", "registry"))))
    path = registry_of(deployed)
    path.unlink()
    (path.parent / "forget.key").unlink()
    with deployed.store() as store:
        with pytest.raises(RegistryError, match="not here"):
            store.apply()
        done = store.adopt()
        assert (done.complete, done.services) == (False, ("service",))
        assert {v.state for v in store.versions("service")} == {"live", "retained"}
        store.apply()


def test_nothing_is_adopted_from_where_nothing_is(repo: Repo) -> None:
    repo.files(*ROWS)
    with repo.store() as store, pytest.raises(RegistryError, match="nothing of a project"):
        store.adopt()


def test_a_copy_that_is_damaged_is_told(deployed: Repo, redis: RedisStore) -> None:
    registry_of(deployed).unlink()
    record = project_key("versions", "registry", "record")
    for key, value in (
        (record, b'{"versions": [[1]]}'),
        (record, b"[]"),
        (owner_key("versions"), b"{}"),
        (owner_key("versions"), b'{"format": 2}'),
    ):
        kept = redis.read([key])[0]
        redis.write({key: value})
        with deployed.store() as store, pytest.raises(RegistryError, match="fk:versions:registry"):
            store.adopt()
        redis.write({key: kept or b""})


def test_a_definition_that_the_store_lost_is_told(deployed: Repo, redis: RedisStore) -> None:
    path = registry_of(deployed)
    with deployed.store() as store:
        first = store.versions("service")[0].fingerprint
    path.unlink()
    lost = [
        key
        for kind in ("registry:service", "plan")
        for key in redis.keys(project_key("versions", kind))
        if first.encode() in key
    ]
    redis.delete(lost)
    with deployed.store() as store:
        assert store.adopt().missing == (f"service:service:{first}",)


def test_what_is_adopted_vouches_for_no_function_of_python(deployed: Repo) -> None:
    path = registry_of(deployed)
    with deployed.store() as store:
        live = store.live()["service"].fingerprint
        assert store.registry.has_service("service", live)
    path.unlink()
    with deployed.store() as store:
        store.adopt()
        assert not store.registry.has_service("service", live)
        store.apply()
        assert store.registry.has_service("service", live)


def test_the_command_says_what_it_adopted(
    deployed: Repo, capsys: pytest.CaptureFixture[str]
) -> None:
    registry_of(deployed).unlink()
    repo = ["--repo", str(deployed.folder), "--redis-url", deployed.url, "--json"]
    assert main([*repo, "adopt"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["services"], made["forgotten"], made["complete"]) == (["service"], 1, True)
