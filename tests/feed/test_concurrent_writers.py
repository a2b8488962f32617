"""Writers at once, of the same entities, while others look up: the bytes of one push, and no event
lost. Batches overlap, come late and in any order, and some events come twice (F1, T3, T7)."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from equal_orders import BLOCKS, SERVICES, STATES, hostile, states
from paths import in_small_blocks, plan_of

from featurekit import FeatureStore
from featurekit.core.types import instant
from featurekit.define.repo import load_repo
from featurekit.feed.events import prepare
from featurekit.feed.settle import write
from featurekit.log.segments import read_segment, segments
from featurekit.online.store.memory import MemoryStore
from featurekit.online.store.redis import RedisStore
from tests import forks

WRITERS = 3
S = 1_000_000


def batches(name: str, writer: int) -> list[list[dict[str, Any]]]:
    """A writer's part of the events of a service, in an order of its own; of a source with ids the
    parts overlap, and half of the batches come twice."""
    rows = hostile(5, 120)
    chance = random.Random(writer)
    with_ids = SERVICES[name].features[0].source.event_id is not None
    mine = [r for n, r in enumerate(rows) if n % WRITERS == writer]
    if with_ids:
        mine += chance.sample(rows, len(rows) // 2)
    chance.shuffle(mine)
    made = [mine[low : low + 5] for low in range(0, len(mine), 5)]
    return made + (chance.sample(made, len(made) // 2) if with_ids else [])


def push_part(url: str, name: str, writer: int, start: Any) -> None:
    """The work of a process."""
    in_small_blocks(pytest.MonkeyPatch(), split=20, size=8)
    views = plan_of(SERVICES[name]).service.views
    store = RedisStore(url)
    made = [prepare("tests", views, batch) for batch in batches(name, writer)]
    start.wait(30)
    for prepared in made:
        write(store, prepared)
    store.close()


@pytest.mark.parametrize("name", ["now only", "corrections"])
def test_processes_that_push_at_once_leave_the_bytes_of_one_push(
    redis_url: str, redis_store: RedisStore, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    context = forks.context()
    start = context.Barrier(WRITERS)
    arguments = [(redis_url, name, writer, start) for writer in range(WRITERS)]
    processes = [context.Process(target=push_part, args=a) for a in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * WRITERS
    in_small_blocks(monkeypatch, split=20, size=8)
    once = MemoryStore()
    write(once, prepare("tests", plan_of(SERVICES[name]).service.views, hostile(5, 120)))
    keys = list(redis_store.keys(b"fk:tests:"))
    assert dict(zip(keys, redis_store.read(keys), strict=True)) == once.values
    assert len(keys) >= 12


# --- live pushes, through the log, while others look up -------------------------------------------

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count, CountDistinct, LastN, Sum

user = Entity("user", join_keys={"k": int})
clicks = EventSource("clicks", path="data/clicks.parquet", schema={"k": int, "n": int, "one": int},
                     timestamp_field="at", created_timestamp_column="arrived")
orders = EventSource("orders", path="data/orders.parquet", timestamp_field="at", event_id="n",
                     schema={"k": int, "n": int, "one": int}, created_timestamp_column="arrived",
                     dedupe_within="90d")
features = {"rows": Count(window="lifetime"), "ones": Sum("one", window="lifetime", default=0),
            "distinct": CountDistinct("n", window="lifetime"), "last": LastN("n", n=3, window="9d")}
clicked = FeatureView("clicked", entities=[user], source=clicks, features=features)
bought = FeatureView("bought", entities=[user], source=orders, features=features)
service = FeatureService("service", features=[clicked, bought])
"""
EVENTS, BATCH, USERS = 120, 5, (1, 2)


def sent(source: str, now: int) -> list[list[list[dict[str, Any]]]]:
    """Each writer's batches; of orders every event is sent by two writers, value for value."""
    chance = random.Random(7)
    rows = [
        {"k": chance.choice(USERS), "n": n, "one": 1,
         "at": instant(now - chance.choice((0, S, 3600 * S, 86_400 * S)) - chance.randrange(3))}
        for n in range(EVENTS)
    ]  # fmt: skip
    parts = []
    for writer in range(WRITERS):
        twice = (writer, (writer + 1) % WRITERS) if source == "orders" else (writer,)
        mine = [row for row in rows if row["n"] % WRITERS in twice]
        chance.shuffle(mine)
        parts.append([mine[low : low + BATCH] for low in range(0, len(mine), BATCH)])
    return parts


def read_meanwhile(open_: Callable[[], FeatureStore], over: threading.Event) -> int:
    """Look up until it is over: events only come, and a view's features are of one state."""
    before = {(k, view): 0 for k in USERS for view in ("clicked", "bought")}
    asked = 0
    with open_() as store:
        while not over.wait(0.001):
            found = store.get_online_features("service", [{"k": k} for k in USERS]).columns
            for i, k in enumerate(USERS):
                for view in ("clicked", "bought"):
                    rows = found[f"{view}__rows"][i]
                    assert found[f"{view}__ones"][i] == found[f"{view}__distinct"][i] == rows
                    assert len(found[f"{view}__last"][i]) == min(rows, 3)
                    assert rows >= before[k, view]
                    before[k, view] = rows
            asked += 1
    return asked


def test_repos_that_are_opened_at_once_have_each_its_own_definitions(tmp_path: Path) -> None:
    folders = [tmp_path / str(n) for n in range(4)]
    for n, folder in enumerate(folders):
        folder.mkdir()
        text = MODULE.replace('"9d"', f'"{n + 1}d"')
        (folder / "definitions.py").write_text(f"import time\ntime.sleep(0.05)\n{text}")
    with ThreadPoolExecutor(len(folders)) as pool:
        repos = list(pool.map(load_repo, folders))
    assert [r.views["clicked"].features["last"].window for r in repos] == ["1d", "2d", "3d", "4d"]


@pytest.fixture(params=[False, True], ids=["whole states", "small blocks"])
def in_blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param:
        in_small_blocks(monkeypatch, split=20, size=8)


@pytest.fixture
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda fd: None)  # no power fails here


@pytest.mark.usefixtures("no_fsync", "redis_store", "in_blocks")
def test_live_pushes_at_once_lose_no_event_and_readers_see_them_whole(
    make_repo: Callable[..., Path], redis_url: str
) -> None:
    instants = pa.timestamp("us", tz="UTC")
    types = {"k": pa.int64(), "n": pa.int64(), "one": pa.int64(), "at": instants,
             "arrived": instants}  # fmt: skip
    empty = pa.table({name: pa.array([], type_) for name, type_ in types.items()})
    folder = make_repo(MODULE, {"clicks": empty, "orders": empty})

    def open_() -> FeatureStore:
        return FeatureStore(folder, redis_url=redis_url)

    with open_() as store:
        store.apply()
        store.materialize()
        parts = {source: sent(source, store.online.now_us()) for source in ("clicks", "orders")}
        over = threading.Event()

        def push_all(source: str, writer: int) -> None:
            with open_() as own:
                for batch in parts[source][writer]:
                    own.push(source, batch)

        with ThreadPoolExecutor(2 * WRITERS + 1) as pool:
            reader = pool.submit(read_meanwhile, open_, over)
            try:
                jobs = [pool.submit(push_all, s, w) for s in parts for w in range(WRITERS)]
                for job in jobs:
                    job.result()
            finally:
                over.set()
            assert reader.result() > 0
        logged = {source: list(rows_of(store, source)) for source in parts}
        for source, rows in logged.items():
            assert {row["n"] for row in rows} == set(range(EVENTS)), source
        assert len(logged["clicks"]) == EVENTS
        views = store.live()["service"].views
        once = MemoryStore()
        for source, rows in logged.items():
            write(once, prepare("tests", [v for v in views if v.source.name == source], rows))
        keys = [key for prefix in (STATES, BLOCKS) for key in store.online.keys(prefix)]
        assert dict(zip(keys, store.online.read(keys), strict=True)) == states(once)
        assert sum(key.startswith(STATES) for key in keys) == len(views) * len(USERS)
        counts = store.get_online_features("service", [{"k": k} for k in USERS]).columns
        assert sum(counts["clicked__rows"]) == sum(counts["bought__rows"]) == EVENTS


def rows_of(store: FeatureStore, source: str) -> Iterator[dict[str, Any]]:
    """The rows in a source's log, with the arrivals that they were given."""
    for path in segments(store.state_dir, source):
        table = read_segment(path)
        yield from [] if table is None else table.to_pylist()
