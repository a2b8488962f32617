"""An older version serves again: at once where it was fed all along, else when it is filled."""

import datetime as dt
from typing import Any

import pytest
from versioned import DAY_US, Repo, deploy, live_days

from featurekit.core.keys import state_prefix
from featurekit.errors import RegistryError
from featurekit.project.deployment import fed_views


def test_the_version_before_serves_again_at_once_and_has_missed_no_push(repo: Repo) -> None:
    repo.files((1, 1, 10))
    first, second = deploy(repo, "30d", "20d")
    repo.push(k=1, x=5, ts=dt.datetime.now(dt.UTC))
    with repo.store() as store:
        done = store.rollback("service")
    assert (done.fingerprint, done.before, done.live, done.unfilled) == (first, second, True, ())
    assert live_days(repo) == 30
    repo.define(window="30d")
    offline, online = repo.both(1, dt.datetime.now(dt.UTC))
    assert online == offline
    assert online == {"x": (5, "PRESENT"), "sum": (5, "PRESENT")}


def test_a_reader_that_is_open_follows_a_rollback(repo: Repo) -> None:
    repo.files((1, 1, 10))
    deploy(repo, "1d", "30000d")
    with repo.store() as reader, repo.store() as store:
        asked = [{"k": 1}]
        assert reader.get_online_features("service", asked).columns["sum"] == [1]
        store.rollback("service")
        assert reader.get_online_features("service", asked).columns["sum"] == [None]


def test_materialising_after_a_rollback_does_not_undo_it(repo: Repo) -> None:
    repo.files((1, 1, 10))
    deploy(repo, "30d", "20d")
    with repo.store() as store:
        store.rollback("service")
        assert store.materialize().live == ()
    assert live_days(repo) == 30


def test_the_next_apply_publishes_what_the_repo_says(repo: Repo) -> None:
    repo.files((1, 1, 10))
    first, second = deploy(repo, "30d", "20d")
    with repo.store() as store:
        store.rollback("service")
        (change,) = store.plan()
        assert (change.action, change.old, change.new) == ("change", first, second)
        store.apply()
    assert live_days(repo) == 20


def test_rolling_back_twice_is_rolling_forward(repo: Repo) -> None:
    repo.files((1, 1, 10))
    deploy(repo, "30d", "20d")
    with repo.store() as store:
        store.rollback("service")
        assert store.rollback("service").live
    assert live_days(repo) == 20


def test_an_older_version_waits_until_it_is_materialised(repo: Repo) -> None:
    repo.files((1, 1, 10))
    first, _, third = deploy(repo, "30d", "20d", "10d")
    repo.push(k=1, x=5, ts=dt.datetime.now(dt.UTC))
    with repo.store() as store:
        done = store.rollback("service", first[:9])
        assert (done.fingerprint, done.before) == (first, third)
        assert (done.live, done.unfilled) == (False, ("window",))
    assert live_days(repo) == 10
    with repo.store() as store:
        assert store.materialize().live == ("service",)
    assert live_days(repo) == 30
    repo.define(window="30d")
    offline, online = repo.both(1, dt.datetime.now(dt.UTC))
    assert online == offline
    assert online["sum"] == (5, "PRESENT")


def test_one_version_before_the_live_one_is_fed(repo: Repo) -> None:
    repo.files((1, 1, 10))
    deploy(repo, "30d", "20d", "10d")
    with repo.store() as store:
        fed = fed_views(store.online, store.project)
        assert sorted(v.retain_us // DAY_US for v in fed if v.name == "window") == [10, 20]
        before = {v.fingerprint: states(store, v) for v in fed if v.name == "window"}
    repo.push(k=1, x=5, ts=dt.datetime.now(dt.UTC))
    with repo.store() as store:
        after = {v.fingerprint: states(store, v) for v in fed if v.name == "window"}
    assert all(after[f] != before[f] for f in before)


def states(store: Any, view: Any) -> list[bytes]:
    return list(store.online.read(store.online.keys(state_prefix(store.project, view))))


def test_versions_says_what_each_is(repo: Repo) -> None:
    repo.files((1, 1, 10))
    fingerprints = deploy(repo, "30d", "20d", "10d")
    repo.define(window="5d")
    with repo.store() as store:
        store.apply()
        found = store.versions("service")
        waiting = store.repo.compiled_services["service"].fingerprint
    assert [v.fingerprint for v in found] == [*fingerprints, waiting]
    assert [v.state for v in found] == ["unfed", "retained", "live", "next"]
    assert [v.materialized_until is None for v in found] == [True, False, False, True]


def test_rolling_back_to_the_live_version_withdraws_the_waiting_one(repo: Repo) -> None:
    repo.files((1, 1, 10))
    (first,) = deploy(repo, "30d")
    repo.define(window="20d")
    with repo.store() as store:
        store.apply()
        waiting = store.repo.compiled_services["service"].fingerprint
        done = store.rollback("service", first)
        assert (done.live, done.withdrawn) == (True, waiting)
        assert store.materialize().live == ()
    assert live_days(repo) == 30


def test_a_version_that_missed_a_push_is_materialised_before_it_serves(repo: Repo) -> None:
    repo.files((1, 1, 10))
    deploy(repo, "30d")
    repo.define(window="20d", schema='{"k": int, "x": int | None}')
    repo.deploy()
    repo.push(k=1, x=5, ts=dt.datetime.now(dt.UTC))  # the first version cannot be fed now
    with repo.store() as store, pytest.raises(RegistryError, match="source 'events' as it was"):
        store.rollback("service")
    repo.define(window="30d")
    with repo.store() as store:
        done = store.rollback("service")
        assert (done.live, done.unfilled) == (False, ("latest", "window"))
        store.materialize()
    offline, online = repo.both(1, dt.datetime.now(dt.UTC))
    assert online == offline
    assert online["x"] == (5, "PRESENT")


def test_what_cannot_be_rolled_back_to_is_explained(repo: Repo) -> None:
    repo.files((1, 1, 10))
    (first,) = deploy(repo, "30d")
    with repo.store() as store:
        with pytest.raises(RegistryError, match="no service 'shop'; it knows: service"):
            store.rollback("shop")
        with pytest.raises(RegistryError, match="no service 'shop'; it knows: service"):
            store.versions("shop")
        with pytest.raises(RegistryError, match=r"has one version alone, .* which is live"):
            store.rollback("service")
        with pytest.raises(RegistryError, match=f"'abc' is no version .* {first[:12]}"):
            store.rollback("service", "abc")
        with pytest.raises(RegistryError, match=f"{first[:12]} is live already"):
            store.rollback("service", first)


def test_a_beginning_that_several_versions_share_is_refused(repo: Repo) -> None:
    repo.files((1, 1, 10))
    for days in range(1, 18):  # two of 17 fingerprints begin with one hexadecimal digit
        repo.define(window=f"{days}d")
        with repo.store() as store:
            store.apply()
    with repo.store() as store:
        firsts = [v.fingerprint[0] for v in store.versions("service")]
        shared = next(c for c in firsts if firsts.count(c) > 1)
        with pytest.raises(RegistryError, match="names several versions"):
            store.rollback("service", shared)
