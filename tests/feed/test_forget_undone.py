"""What a forgetting did not carry out in a store is not served: it died, or an older dump came
back. The next materialisation, the incremental one too, carries it out."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest

from featurekit import FeatureStore
from featurekit.cli import main
from featurekit.errors import DamagedView
from featurekit.feed import forget as module
from featurekit.online.lookup import watch
from featurekit.online.lookup.service import OnlineService
from featurekit.online.store.redis import RedisStore
from featurekit.project import marks
from featurekit.project.carried import number_at
from featurekit.project.deployment import fed_views

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count, Sum

user, shop = Entity("user", {"user": int}), Entity("shop", {"shop": int})
schema = {"user": int, "shop": int, "n": int, "id": int}
orders = EventSource("orders", path="data/orders.parquet", schema=schema, timestamp_field="at")
named = EventSource("named", path="data/orders.parquet", schema=schema, timestamp_field="at",
                    event_id="id", dedupe_within="9000d")
visits = EventSource("visits", path="data/visits.parquet", schema={"place": int, "n": int},
                     timestamp_field="at")
WINDOW = {"sum": Sum("n", window="9000d"), "count": Count(window="9000d")}
views = [
    FeatureView("latest", entities=[user], source=orders, features={"n": "n"}),
    FeatureView("users", entities=[user], source=orders, features=WINDOW),
    FeatureView("shops", entities=[shop], source=orders, features=WINDOW),
    FeatureView("ids", entities=[shop], source=named, features=WINDOW),
]
service = FeatureService("service", features=views)
places = FeatureService("places", features=[
    FeatureView("places", entities=[Entity("place", {"place": int})], source=visits,
                features=WINDOW)])
"""
FIRST = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
KEYS = [{"user": user, "shop": shop} for user in (1, 2, 3) for shop in (0, 1)]


class Dies(BaseException):
    """The end of a process, as far as what it leaves undone."""


def rows(number: int) -> pa.Table:
    at = pa.array([FIRST + dt.timedelta(hours=i) for i in range(number)], pa.timestamp("us", "UTC"))
    ids = list(range(number))
    return pa.table({"user": [i % 4 for i in ids], "shop": [i % 2 for i in ids], "n": ids,
                     "id": ids, "at": at})  # fmt: skip


Open = Callable[[], FeatureStore]


@pytest.fixture
def open_store(make_repo: Any, redis_store: RedisStore) -> Iterator[Open]:
    """Opens the repo anew, as another process does."""
    visits = rows(4).select(["user", "n", "at"]).rename_columns(["place", "n", "at"])
    repo = make_repo(MODULE, {"orders": rows(12), "visits": visits})
    opened: list[FeatureStore] = []

    def made() -> FeatureStore:
        opened.append(FeatureStore(repo, redis_url=redis_store.url))
        return opened[-1]

    yield made
    for store in opened:
        store.close()


@pytest.fixture(autouse=True)
def _always_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at every chance, not once a second."""
    monkeypatch.setattr(watch, "EVERY_S", 0.0)
    monkeypatch.setattr(marks, "EVERY_S", 0.0)


def filled(open_store: Open) -> FeatureStore:
    store = open_store()
    store.apply()
    store.materialize()
    return store


def forget(store: FeatureStore, user: int = 1) -> None:
    store.forget("user", {"user": user})


def forget_and_die(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, name: str, user: int = 1
) -> None:
    def die(*_: Any, **__: Any) -> None:
        raise Dies

    with monkeypatch.context() as patched:
        patched.setattr(module, name, die)
        with pytest.raises(Dies):
            forget(store, user)


def push(store: FeatureStore, user: int, shop: int = 1) -> None:
    store.push("orders", {"user": user, "shop": shop, "n": 100, "id": 900, "at": FIRST})


def same(store: FeatureStore) -> list[dict[str, Any]]:
    """What both paths answer alike."""
    found = store.get_online_features("service", KEYS)
    frame = [{**row, "event_timestamp": found.as_of} for row in KEYS]
    offline = store.get_historical_features(frame, "service", statuses=True).to_arrow().to_pylist()
    names = list(found.status)
    online = [
        {n: (found.columns[n][i], found.status[n][i]) for n in names} for i in range(len(KEYS))
    ]
    assert online == [{n: (row[n], row[f"{n}__status"]) for n in names} for row in offline]
    return online


def dump(redis: RedisStore) -> dict[bytes, bytes]:
    return {key: redis.client.dump(key) for key in redis.client.keys("*")}


def restore(redis: RedisStore, dumped: dict[bytes, bytes]) -> None:
    redis.client.flushall()
    for key, value in dumped.items():
        redis.client.restore(key, 0, value)


# --- a store that came back from before a forgetting ----------------------------------------------


@pytest.mark.parametrize("incremental", [False, True])
def test_an_older_dump_serves_nobody_who_was_forgotten_since(
    open_store: Open, redis_store: RedisStore, incremental: bool
) -> None:
    store = filled(open_store)
    before = dump(redis_store)
    forget(store)
    expected = same(store)
    assert expected[0]["n"] == (None, "NOT_FOUND")
    restore(redis_store, before)
    fresh = open_store()
    with pytest.raises(DamagedView, match=r"'user'.* was forgotten.*featurekit materialize"):
        fresh.get_online_features("service", KEYS)
    with (
        pytest.raises(DamagedView),
        OnlineService.connect(redis_store.url, "tests", "service") as s,
    ):
        s.get(KEYS)
    (fresh.materialize_incremental if incremental else fresh.materialize)()
    assert same(fresh) == expected
    assert same(open_store()) == expected


def test_a_service_that_has_seen_the_forgetting_sees_that_an_older_dump_came_back(
    open_store: Open, redis_store: RedisStore
) -> None:
    store = filled(open_store)
    before = dump(redis_store)
    forget(store)
    with OnlineService.connect(redis_store.url, "tests", "service") as service:
        assert service.get(KEYS).status["n"][0] == "NOT_FOUND"
        restore(redis_store, before)
        service.watch.look(fed_views(redis_store, "tests"))
        with pytest.raises(DamagedView):
            service.get(KEYS)


def test_apply_looks_too_and_views_of_other_events_are_served(
    open_store: Open, redis_store: RedisStore
) -> None:
    store = filled(open_store)
    before = dump(redis_store)
    forget(store)
    restore(redis_store, before)
    open_store().apply()
    with (
        pytest.raises(DamagedView),
        OnlineService.connect(redis_store.url, "tests", "service") as s,
    ):
        s.get(KEYS)
    with OnlineService.connect(redis_store.url, "tests", "places") as service:
        assert service.get([{"place": 1}]).to_pylist() == [{"place": 1, "sum": 1, "count": 1}]


def test_the_copy_of_the_registry_is_brought_up_to_date_again(
    open_store: Open, redis_store: RedisStore
) -> None:
    store = filled(open_store)
    before = dump(redis_store)
    forget(store)
    record = redis_store.read([b"fk:tests:registry", b"fk:tests:registry:record"])
    restore(redis_store, before)
    open_store().materialize_incremental()
    assert redis_store.read([b"fk:tests:registry", b"fk:tests:registry:record"]) == record


def test_a_run_up_to_before_the_forgetting_does_not_carry_it_out(
    open_store: Open, redis_store: RedisStore
) -> None:
    store = filled(open_store)
    push(store, 1)
    before = dump(redis_store)
    forget(store)
    expected = same(store)
    restore(redis_store, before)
    fresh = open_store()
    fresh.materialize(FIRST + dt.timedelta(days=30))
    with pytest.raises(DamagedView):
        open_store().get_online_features("service", KEYS)
    fresh.materialize_incremental()
    assert same(open_store()) == expected


OF_ONE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count, Sum

web = EventSource("web", path="data/web.parquet", schema={"user": int, "n": int},
                  timestamp_field="at")
app = EventSource("app", path="data/app.parquet", schema={"uid": int, "shop": int, "n": int},
                  timestamp_field="at")
WINDOW = {"sum": Sum("n", window="9000d"), "count": Count(window="9000d")}
users = FeatureView("users", entities=[Entity("user", {"user": int})],
                    sources=[web, {app: {"user": "uid"}}], features=WINDOW)
shops = FeatureView("shops", entities=[Entity("shop", {"shop": int})], source=app, features=WINDOW)
service = FeatureService("service", features=[users])
plain = FeatureService("plain", features=[shops])
"""
"""The source `app` does not name the user: only the view of both sources says which column has
it."""


@pytest.fixture
def mapped(make_repo: Any, redis_store: RedisStore) -> Iterator[Open]:
    """As `open_store`, for views of which one says what the other's columns mean."""
    app = rows(12).select(["user", "shop", "n", "at"]).rename_columns(["uid", "shop", "n", "at"])
    repo = make_repo(OF_ONE, {"web": rows(4).select(["user", "n", "at"]), "app": app})
    opened: list[FeatureStore] = []

    def made() -> FeatureStore:
        opened.append(FeatureStore(repo, redis_url=redis_store.url))
        return opened[-1]

    yield made
    for store in opened:
        store.close()


SHOPS = [{"shop": 0}, {"shop": 1}]


@pytest.mark.parametrize("incremental", [False, True])
def test_a_view_whose_events_are_the_entity_s_by_another_view_s_mapping_is_not_served(
    mapped: Open, redis_store: RedisStore, incremental: bool
) -> None:
    store = filled(mapped)
    whole = store.get_online_features("plain", SHOPS).to_pylist()
    before = dump(redis_store)
    forget(store)
    expected = store.get_online_features("plain", SHOPS).to_pylist()
    assert whole != expected, "user 1 bought in shop 1"
    restore(redis_store, before)
    fresh = mapped()
    with pytest.raises(DamagedView, match=r"'user'.* was forgotten"):
        fresh.get_online_features("plain", SHOPS)
    (fresh.materialize_incremental if incremental else fresh.materialize)()
    assert mapped().get_online_features("plain", SHOPS).to_pylist() == expected


def test_such_a_view_is_not_carried_by_a_run_up_to_before_the_forgetting(
    mapped: Open, redis_store: RedisStore
) -> None:
    store = filled(mapped)
    before = dump(redis_store)
    forget(store)
    restore(redis_store, before)
    fresh = mapped()
    fresh.materialize(FIRST + dt.timedelta(days=30))
    (view,) = [v for v in fed_views(redis_store, "tests") if v.name == "shops"]
    tombstones = fresh.registry.tombstones()
    assert number_at(tombstones, view, tombstones[0].until - 1) == 0
    assert number_at(tombstones, view, tombstones[0].until) == 1


# --- a forgetting that died -----------------------------------------------------------------------

PLACES = ["_settle", "_repair", "_remove_states"]


@pytest.mark.parametrize("place", PLACES)
def test_what_a_forgetting_left_undone_is_not_served_and_the_next_increment_does_it(
    open_store: Open, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    store = filled(open_store)
    forget_and_die(store, monkeypatch, place)
    with pytest.raises(DamagedView, match="was forgotten"):
        open_store().get_online_features("service", KEYS)
    store.materialize_incremental()
    found = same(open_store())
    assert found[0]["n"] == (None, "NOT_FOUND")
    store.materialize()
    assert same(open_store()) == found


@pytest.mark.parametrize("place", PLACES)
def test_run_again_it_does_what_was_left(
    open_store: Open, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    store = filled(open_store)
    forget_and_die(store, monkeypatch, place)
    forget(store)
    assert same(open_store())[0]["n"] == (None, "NOT_FOUND")


def test_the_forgetting_of_another_does_not_hide_what_was_left(
    open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(open_store)
    forget_and_die(store, monkeypatch, "_remove_states")
    forget(store, 2)
    with pytest.raises(DamagedView):
        open_store().get_online_features("service", KEYS)
    store.materialize_incremental()
    assert {row["n"] for row in same(open_store())[:4]} == {(None, "NOT_FOUND")}


def test_a_plan_names_what_did_not_end(
    open_store: Open, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = filled(open_store)
    forget_and_die(store, monkeypatch, "_remove_states")
    assert main(["plan", "--repo", str(store.path), "--json"]) == 0
    (note,) = json.loads(capsys.readouterr().out)["notes"]["forgetting"]
    assert note["entity"] == "user"
    assert main(["plan", "--repo", str(store.path)]) == 0
    assert "forgetting of a 'user'" in capsys.readouterr().out
    forget(store)
    assert main(["plan", "--repo", str(store.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["notes"]["forgetting"] == []


def test_a_forgetting_that_is_under_way_is_no_damage(
    open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(open_store)
    removing = module._remove_states

    def looking(*given: Any, **named: Any) -> Any:
        fresh = open_store()
        fresh.get_online_features("service", KEYS)
        push(fresh, 3)
        return removing(*given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(module, "_remove_states", looking)
        forget(store)
    found = same(open_store())
    assert found[0]["n"] == (None, "NOT_FOUND")
    assert found[5]["n"] == (11, "PRESENT")  # the push is of an older event


# --- stores that a release before this wrote ------------------------------------------------------


def of_an_older_release(redis: RedisStore) -> None:
    assert redis.client.delete("fk:tests:forgotten") == 1


def test_a_store_of_an_older_release_is_believed_where_the_forgetting_ended(
    open_store: Open, redis_store: RedisStore
) -> None:
    store = filled(open_store)
    forget(store)
    of_an_older_release(redis_store)
    assert same(open_store())[0]["n"] == (None, "NOT_FOUND")
    before = dump(redis_store)
    store.materialize_incremental()  # from now on it is known
    assert before.keys() < dump(redis_store).keys()
    before = dump(redis_store)
    forget(store, 2)
    restore(redis_store, before)
    with pytest.raises(DamagedView):
        open_store().get_online_features("service", KEYS)


def test_of_an_older_release_what_did_not_end_is_carried_out(
    open_store: Open, redis_store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(open_store)
    forget_and_die(store, monkeypatch, "_remove_states")
    of_an_older_release(redis_store)
    with pytest.raises(DamagedView):
        open_store().get_online_features("service", KEYS)
    store.materialize_incremental()
    assert same(open_store())[0]["n"] == (None, "NOT_FOUND")
