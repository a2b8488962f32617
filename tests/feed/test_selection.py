"""Only the named views, or only the named entities' states, are materialised."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from test_forget import Repo as Lines
from test_forget import event, with_ids
from versioned import Repo, at

from featurekit.core.keys import state_prefix
from featurekit.errors import ArgumentError, EntityFrameError, RegistryError
from featurekit.online.state.seal import opened, sealed
from featurekit.online.store.server import scratch_redis
from featurekit.project.deployment import fed_views, materialized_until


@pytest.fixture
def repo(tmp_path: Path) -> Any:
    with scratch_redis() as url:
        yield Repo(tmp_path, url)


def marks(repo: Repo) -> dict[str, int | None]:
    with repo.store() as store:
        views = fed_views(store.online, store.project)
        return {v.name: materialized_until(store.online, store.project, v) for v in views}


def states(repo: Repo) -> dict[tuple[str, bytes], bytes | None]:
    """Every state, by view and the end of its key."""
    found = {}
    with repo.store() as store:
        for view in fed_views(store.online, store.project):
            prefix = state_prefix(store.project, view)
            keys = list(store.online.keys(prefix))
            for key, blob in zip(keys, store.online.read(keys), strict=True):
                found[view.name, key.removeprefix(prefix)] = blob
    return found


def test_a_service_goes_live_when_the_last_of_its_views_is_filled(repo: Repo) -> None:
    repo.files((1, 1, 10), (2, 2, 10))
    with repo.store() as store:
        store.apply()
        done = store.materialize(views=["latest"])
        assert ([v.view for v in done.views], done.live) == (["latest"], ())
    assert {name for name, _ in states(repo)} == {"latest"}
    with repo.store() as store:
        done = store.materialize(views=["window"])
        assert ([v.view for v in done.views], done.live) == (["window"], ("service",))
    offline, online = repo.both(2, dt.datetime.now(dt.UTC))
    assert online == offline
    assert online["x"] == (2, "PRESENT")


@pytest.mark.parametrize("incremental", [False, True])
def test_other_views_stay_as_they_are(repo: Repo, incremental: bool) -> None:
    repo.files((1, 1, 10))
    repo.deploy()
    before, known = states(repo), marks(repo)
    repo.files((1, 1, 10), (1, 5, 20), (2, 2, 20))
    with repo.store() as store:
        fill = store.materialize_incremental if incremental else store.materialize
        fill(views=["window", "window"])
    after, now = states(repo), marks(repo)
    assert {k: v for k, v in after.items() if k[0] == "latest"} == {
        k: v for k, v in before.items() if k[0] == "latest"
    }
    assert now["latest"] == known["latest"]
    assert now["window"] > known["window"]  # type: ignore[operator]
    assert len([k for k in after if k[0] == "window"]) == (1 if incremental else 2)


def test_the_states_of_named_entities_alone_are_put_right(repo: Repo) -> None:
    repo.files((1, 1, 10), (2, 2, 10), (3, 3, 10))
    repo.deploy()
    repo.push(k=1, x=7, ts=dt.datetime.now(dt.UTC))
    right, known = states(repo), marks(repo)
    with repo.store() as store:
        broken = [state_prefix(store.project, v) for v in fed_views(store.online, store.project)]
        one = [prefix + b"{2:i1}" for prefix in broken]
        two = [prefix + b"{2:i2}" for prefix in broken]
        store.online.delete([one[0], two[0]])
        three = dict(zip(broken, store.online.read([p + b"{2:i3}" for p in broken]), strict=True))
        other = opened(broken[1] + b"{2:i3}", three[broken[1]] or b"") or b""
        store.online.write({key: sealed(key, other) for key in (one[1], two[1])})
    wrong = states(repo)
    assert wrong != right
    with repo.store() as store:
        done = store.materialize(entities=[{"k": 1}, {"k": 1}])
        assert [(v.view, v.entities, v.events) for v in done.views] == [
            ("latest", 1, 2),
            ("window", 1, 2),
        ]
    after = states(repo)
    assert {k: v for k, v in after.items() if b"i1" in k[1]} == {
        k: v for k, v in right.items() if b"i1" in k[1]
    }
    assert {k: v for k, v in after.items() if b"i1" not in k[1]} == {
        k: v for k, v in wrong.items() if b"i1" not in k[1]
    }
    assert marks(repo) == known
    with repo.store() as store:
        store.materialize(entities=[{"k": 2}])
    assert states(repo) == right
    offline, online = repo.both(1, dt.datetime.now(dt.UTC))
    assert online == offline


def test_an_entity_that_left_the_files_is_let_go_of_when_it_is_put_right(repo: Repo) -> None:
    repo.files((1, 1, 10), (2, 2, 10), (3, 3, 10))
    repo.deploy()
    repo.files((1, 1, 10))
    with repo.store() as store:
        store.materialize(entities=[{"k": 2}])
    when = dt.datetime.now(dt.UTC)
    offline, online = repo.both(2, when)
    assert online == offline
    assert online["x"] == (None, "NOT_FOUND")
    assert repo.both(3, when)[1]["x"] == (3, "PRESENT")


def test_a_new_version_is_not_live_for_some_entities_being_put_right(repo: Repo) -> None:
    repo.files((1, 1, 10), (2, 2, 10))
    with repo.store() as store:
        store.apply()
        assert store.materialize(entities=[{"k": 1}]).live == ()
        assert store.live() == {}
    assert set(marks(repo).values()) == {None}


def test_up_to_an_instant_what_arrived_later_stays(repo: Repo) -> None:
    repo.files((1, 1, 10))
    repo.deploy()
    repo.push(k=1, x=7, ts=at(5))
    repo.files((1, 4, 10))
    with repo.store() as store:
        store.materialize(at(30), entities=[{"k": 1}])
    offline, online = repo.both(1, dt.datetime.now(dt.UTC))
    assert online == offline
    assert online["x"] == (4, "PRESENT")


def test_a_named_view_that_cannot_be_read_is_no_success(repo: Repo) -> None:
    repo.files((1, 1, 10))
    repo.deploy()
    repo.define(schema='{"k": int, "x": int | None}')
    with repo.store() as store, pytest.raises(RegistryError, match="run `featurekit apply` first"):
        store.materialize(views=["latest"])


def test_what_is_not_there_is_explained(repo: Repo) -> None:
    repo.files((1, 1, 10))
    repo.deploy()
    before = states(repo), marks(repo)
    with repo.store() as store:
        with pytest.raises(RegistryError, match="no applied view is named 'x'; there are latest, "):
            store.materialize(views=["window", "x"])
        with pytest.raises(RegistryError, match="no applied view is named 'x'"):
            store.materialize_incremental(views=["x"])
        with pytest.raises(EntityFrameError, match=r"entity 1 .* has k, z, .* latest by k; window"):
            store.materialize(entities=[{"k": 1}, {"k": 1, "z": 2}])
        with pytest.raises(EntityFrameError, match=r"entity 0 .*, 'k': expected int, found str"):
            store.materialize(entities=[{"k": "1"}])
        with pytest.raises(EntityFrameError, match="null in a column declared int"):
            store.materialize(entities=[{"k": None}])
        with pytest.raises(ArgumentError, match=r"entities is a list of dicts .*, found \[1\]"):
            store.materialize(entities=[1])  # type: ignore[list-item]
    assert (states(repo), marks(repo)) == before


@pytest.mark.parametrize("op", [False, True])
def test_states_of_a_source_with_ids_are_put_right_alone(tmp_path: Path, op: bool) -> None:
    with scratch_redis() as url:
        repo = Lines(tmp_path, url)
        with_ids(repo, op=op)
        repo.deploy()
        more = {"op": "upsert"} if op else {}
        repo.push(event(2, "c", 3.5, id="p1", **more))
        repo.push(event(17850, "c", 4.0, id="p1", **more))
        repo.same()
        with repo.store() as store:
            keys = sorted(store.online.keys(b"fk:forget:"))
            right = store.online.read(keys)
            broken = [k for k in keys if b"{2:i2}" in k]
            assert len(broken) == 2
            store.online.delete(broken)
            store.materialize(entities=[{"customer_id": 2}])
            assert sorted(store.online.keys(b"fk:forget:")) == keys
            # A run holds a lock, and takes a stamp of the clock.
            locks = [i for i, k in enumerate(keys) if b":lock:" in k or k.endswith(b":clock")]
            again = store.online.read(keys)
            assert [v for i, v in enumerate(again) if i not in locks] == [
                v for i, v in enumerate(right) if i not in locks
            ]
