"""What Redis lost is never taken for values: by eviction, a flush, a restart, an older dump."""

from __future__ import annotations

import datetime as dt
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from featurekit.core.waiting import until
from featurekit.errors import (
    DamagedView,
    EvictingStore,
    NotServed,
    RegistryError,
    StoreUnavailable,
    UnreadRegistry,
)
from featurekit.online.lookup import watch
from featurekit.online.lookup.service import OnlineService
from featurekit.online.store.redis import RedisStore
from featurekit.online.store.server import find_binary
from featurekit.project import marks
from featurekit.project.deployment import fed_views
from featurekit.store import FeatureStore

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count, Sum

orders = EventSource(
    "orders", path="data/orders.parquet", schema={"key": int, "x": float}, timestamp_field="at",
)
sums = FeatureView(
    "sums", entities=[Entity("key", {"key": int})], source=orders,
    features={"count": Count(window="3650d"), "sum": Sum("x", window="3650d")},
)
service = FeatureService("service", features=[sums])
"""
DAY = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


def soon(holds: Callable[[], bool]) -> None:
    until(holds, within_s=60.0, every_s=0.02, or_say=lambda _: AssertionError("it never was so"))


class Server:
    """A Redis of a test's own, which can end and begin again with what it had saved."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.url = folder, f"unix://{folder}/redis.sock"
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        options = ["--port", "0", "--unixsocket", f"{self.folder}/redis.sock", "--save", ""]
        self.process = subprocess.Popen(
            [str(find_binary()), *options, "--dir", str(self.folder)], stdout=subprocess.DEVNULL
        )
        self.store = RedisStore(self.url)
        until(
            self._answers, within_s=30.0, every_s=0.02, or_say=lambda _: AssertionError("no Redis")
        )

    def _answers(self) -> bool:
        try:
            return self.store.count() >= 0
        except StoreUnavailable:
            return False

    def kill(self) -> None:
        assert self.process is not None
        self.store.close()
        self.process.kill()
        self.process.wait()

    def again(self) -> None:
        """End as in a power failure, and begin again."""
        self.kill()
        self.start()

    def evict(self, policy: str) -> int:
        """Let the memory run full under a policy. Keys of somebody else go, which are the oldest;
        the number of them."""
        client = self.store.client
        client.set("other", b"x" * 10_000)
        dump = client.dump("other")
        for i in range(300):
            client.restore(f"other:{i}", 10**8, dump, idletime=10**6)
        client.config_set("maxmemory-policy", policy)
        client.config_set("maxmemory", client.info("memory")["used_memory"] - 500_000)
        client.set("other", b"")
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", "noeviction" if "all" in policy else policy)
        return int(client.info("stats")["evicted_keys"])


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("r"))
    yield made
    made.kill()


@pytest.fixture(autouse=True)
def _always_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at every chance, not once a second."""
    monkeypatch.setattr(watch, "EVERY_S", 0.0)
    monkeypatch.setattr(marks, "EVERY_S", 0.0)


Open = Callable[[], FeatureStore]


@pytest.fixture
def open_store(server: Server, make_repo: Any) -> Iterator[Open]:
    """Opens the repo anew, as another process does."""
    at = pa.array([DAY, DAY], pa.timestamp("us", tz="UTC"))
    repo = make_repo(MODULE, {"orders": pa.table({"key": [1, 2], "x": [1.5, 2.5], "at": at})})
    opened: list[FeatureStore] = []

    def made() -> FeatureStore:
        opened.append(FeatureStore(repo, redis_url=server.url))
        return opened[-1]

    yield made
    for store in opened:
        store.close()


def fill(store: FeatureStore) -> None:
    store.apply()
    store.materialize()


def push(store: FeatureStore, key: int = 1) -> Any:
    return store.push("orders", {"key": key, "x": 10.0, "at": DAY + dt.timedelta(days=1)})


def ask(store: FeatureStore, key: int = 1) -> tuple[int, float]:
    (row,) = store.get_online_features("service", [{"key": key}]).to_pylist()
    return row["count"], row["sum"]


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random"])
def test_a_policy_that_evicts_states_is_refused(
    server: Server, open_store: Open, policy: str
) -> None:
    fill(open_store())
    server.store.client.config_set("maxmemory-policy", policy)
    with pytest.raises(EvictingStore, match=rf"{policy}.*CONFIG SET maxmemory-policy noeviction"):
        open_store().apply()
    with pytest.raises(EvictingStore, match=policy):
        open_store().materialize()
    server.store.client.config_set("maxmemory-policy", "volatile-lru")
    fill(open_store())


def test_where_the_policy_may_not_be_asked_for_the_settings_say_it(
    server: Server, open_store: Open
) -> None:
    store = open_store()
    server.store.client.acl_setuser("default", commands=["-info"], keys=["*"], enabled=True)
    with pytest.raises(EvictingStore, match="maxmemory_policy: noeviction"):
        store.apply()
    settings = store.path / "feature_store.yaml"
    settings.write_text(settings.read_text() + "featurekit: {maxmemory_policy: noeviction}\n")
    store = open_store()
    fill(store)
    assert ask(store) == (1, 1.5)


def test_an_evicted_state_and_a_push_are_no_count_of_one(server: Server, open_store: Open) -> None:
    store, reader = open_store(), open_store()
    fill(store)
    assert ask(reader) == (1, 1.5)
    (state,) = [key for key in server.store.keys(b"fk:tests:state:") if key.endswith(b"{2:i1}")]
    assert server.evict("allkeys-lru") > 0
    server.store.delete([state])  # as if it were among them
    assert push(store).damaged == ("sums",)
    for one in (store, reader, open_store()):
        with pytest.raises(DamagedView, match=r"'sums' is damaged: Redis has evicted \d+ keys"):
            ask(one)
    open_store().materialize_incremental()
    for one in (store, reader, open_store()):
        assert ask(one) == (2, 11.5)
    assert push(store).damaged == ()


def test_a_reader_alone_sees_what_was_evicted(server: Server, open_store: Open) -> None:
    fill(open_store())
    with OnlineService.connect(server.url, "tests", "service") as online:
        online.get([{"key": 1}])
        assert server.evict("allkeys-lru") > 0
        until(
            lambda: refused(online), within_s=30.0, every_s=0.02, or_say=lambda _: AssertionError()
        )
        open_store().materialize()
        soon(lambda: not refused(online))


def refused(online: OnlineService) -> bool:
    try:
        online.get([{"key": 1}])
    except DamagedView:
        return True
    return False


def test_keys_of_others_that_expire_may_be_evicted(server: Server, open_store: Open) -> None:
    server.store.client.config_set("maxmemory-policy", "volatile-lru")
    store = open_store()
    fill(store)
    assert server.evict("volatile-lru") > 0
    assert push(store).damaged == ()
    assert ask(open_store()) == (2, 11.5)


def test_after_a_flush_nothing_is_served_until_it_is_filled(
    server: Server, open_store: Open
) -> None:
    store = open_store()
    fill(store)
    push(store)
    server.store.client.flushall()
    with pytest.raises(NotServed):
        ask(store)
    with pytest.raises(RegistryError):
        push(store)
    store.apply()
    assert push(store).damaged == ()
    with pytest.raises(NotServed):
        ask(store)
    store.materialize()
    assert ask(store) == (3, 21.5)


def test_a_restart_without_a_dump_serves_nothing(server: Server, open_store: Open) -> None:
    fill(open_store())
    server.again()
    with pytest.raises(NotServed):
        ask(open_store())


def test_a_restart_that_kept_everything_is_no_damage(server: Server, open_store: Open) -> None:
    store = open_store()
    fill(store)
    push(store)
    server.store.client.save()
    server.again()
    for one in (store, open_store()):
        assert ask(one) == (2, 11.5)
    assert push(open_store()).damaged == ()
    assert ask(open_store()) == (3, 21.5)


def test_an_older_dump_lacks_pushes(server: Server, open_store: Open) -> None:
    store = open_store()
    fill(store)
    push(store)
    server.store.client.save()
    push(store)
    assert ask(store) == (3, 21.5)
    server.again()
    with pytest.raises(DamagedView, match="came back with less than it had"):
        ask(open_store())
    store.materialize()
    assert ask(open_store()) == ask(store) == (3, 21.5)
    assert push(open_store()).damaged == ()


@pytest.mark.parametrize("fills", [1, 2, 3])
def test_a_process_that_looked_before_sees_that_an_older_dump_was_filled_again(
    server: Server, open_store: Open, fills: int
) -> None:
    """The dump is from before all but the first of the fills, and from before the pushes."""
    store = open_store()
    fill(store)
    server.store.client.save()
    for _ in range(1, fills):
        store.materialize()
    push(store)
    assert ask(store) == (2, 11.5)
    server.again()
    open_store().materialize()
    for _ in range(50):  # each lookup begins a look in the background
        assert ask(store) == (2, 11.5)
        time.sleep(0.01)


def test_a_process_that_looked_before_sees_an_older_dump(server: Server, open_store: Open) -> None:
    store = open_store()
    fill(store)
    server.store.client.save()
    push(store)
    assert ask(store) == (2, 11.5)
    server.again()
    soon(lambda: refuses(store))
    assert refuses(store)
    store.materialize()
    assert ask(store) == (2, 11.5)


def refuses(store: FeatureStore) -> bool:
    """Whether a lookup names a damaged view."""
    try:
        ask(store)
    except DamagedView:
        return True
    return False


def test_a_push_after_an_older_dump_says_so(server: Server, open_store: Open) -> None:
    store = open_store()
    fill(store)
    server.store.client.save()
    push(store)
    server.again()
    assert push(open_store()).damaged == ("sums",)
    with pytest.raises(DamagedView):
        ask(store)
    store.materialize()
    assert ask(store) == (3, 21.5)


def test_a_damaged_count_of_pushes_is_an_unknown_one(server: Server, open_store: Open) -> None:
    """It is no loss of what Redis has, whichever bit of it flips."""
    store = open_store()
    fill(store)
    push(store)
    (file,) = (store.state_dir / "marks").iterdir()
    kept = file.read_bytes()
    for at in range(0, len(kept), 3):
        file.write_bytes(kept[:at] + bytes([kept[at] ^ 1 << at % 8]) + kept[at + 1 :])
        assert open_store().parts.marks._known("orders") == ("", 0)
    assert push(open_store()).damaged == ()
    ask(open_store())
    assert file.read_bytes()[:53].endswith(b"2")
    file.write_bytes(file.read_bytes()[:53])  # as an earlier release wrote it
    server.store.write({b"fk:tests:pushes:orders:ended": b"1"})
    assert push(open_store()).damaged == ("sums",)


def test_an_older_dump_lacks_what_was_filled(server: Server, open_store: Open) -> None:
    store = open_store()
    fill(store)
    server.store.client.save()
    store.materialize_incremental()
    server.again()
    with pytest.raises(DamagedView, match="came back with less than it had"):
        ask(open_store())
    store.materialize_incremental()
    assert ask(open_store()) == (1, 1.5)


def test_a_reader_that_stays_sees_that_a_server_came_back_with_less(
    server: Server, open_store: Open
) -> None:
    store = open_store()
    fill(store)
    server.store.client.save()
    push(store)
    with OnlineService.connect(server.url, "tests", "service") as online:
        online.get([{"key": 1}])
        server.again()
        until(
            lambda: refused(online), within_s=30.0, every_s=0.02, or_say=lambda _: AssertionError()
        )


def test_another_store_is_not_taken_for_one_that_lost_something(
    server: Server, open_store: Open, redis_url: str
) -> None:
    store = open_store()
    fill(store)
    for _ in range(3):
        push(store)
    RedisStore(redis_url).client.flushall()
    with FeatureStore(store.path, redis_url=redis_url) as other:
        fill(other)
        assert push(other).damaged == ()
        assert ask(other) == (5, 41.5)
    assert ask(open_store()) == (4, 31.5)


@pytest.mark.parametrize("knows", [False, True])
def test_lookups_go_on_while_the_registry_cannot_be_read_and_say_so(
    server: Server, open_store: Open, knows: bool
) -> None:
    """A process goes by what the registry told it last: it still sees what Redis lost."""
    first = open_store()
    fill(first)
    server.store.client.save()
    first.materialize()
    store = open_store()
    registry = Path(store.parts.registry.kept.place)
    if knows:
        assert ask(store) == (1, 1.5)
    held = registry.read_bytes()
    registry.write_bytes(b"no registry" * 100)
    server.again()
    store.parts._services.clear()
    with pytest.warns(UnreadRegistry, match=r"registry\.db.*whether Redis came back with less"):
        assert refuses(store) is knows
    for work in (FeatureStore.apply, FeatureStore.materialize):
        with pytest.raises(RegistryError, match=r"registry\.db"):
            work(open_store())
    registry.write_bytes(held)
    with pytest.raises(DamagedView, match="came back with less than it had"):
        ask(open_store())


@pytest.mark.parametrize("moment", ["read", "health"])
@pytest.mark.parametrize("work", [push, FeatureStore.materialize_incremental, fill])
def test_what_others_end_while_one_looks_is_no_damage(
    open_store: Open,
    monkeypatch: pytest.MonkeyPatch,
    work: Callable[[FeatureStore], Any],
    moment: str,
) -> None:
    """Another process pushes or fills after each reading of a process that looks."""
    other, late = open_store(), open_store()
    fill(other)
    push(other)
    project = late.parts
    views, looking = fed_views(project.online, project.name), project.online
    done = getattr(looking, moment)
    ended = 0

    def and_then(*args: Any) -> Any:
        nonlocal ended
        found = done(*args)
        with monkeypatch.context() as patched:
            patched.setattr(looking, moment, done)
            work(other)
            ended += 1
        return found

    monkeypatch.setattr(looking, moment, and_then)
    project.marks.check(views)
    assert ended
    monkeypatch.undo()
    assert not refuses(late)
    assert not refuses(open_store())


def test_a_push_does_not_mend_a_state_that_somebody_deleted_and_filling_the_entity_does(
    server: Server, open_store: Open
) -> None:
    store = open_store()
    fill(store)
    push(store)
    assert ask(store) == (2, 11.5)
    (key,) = [key for key in server.store.keys(b"fk:tests:state:sums:") if b"i1}" in key]
    server.store.delete([key])
    push(store)
    assert ask(store) == (1, 10.0)
    store.materialize(views=["sums"], entities=[{"key": 1}])
    assert ask(store) == (3, 21.5)
