"""States in blocks: what a window reads of them, and what else must know of them."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Sequence
from typing import Any

import pytest
from large_states import (
    FLOATS,
    SOURCE,
    VIEWS,
    S,
    asked,
    events_of,
    key_of,
    plan_of,
    steps,
)
from oracle import bits
from paths import in_older_heads, in_small_blocks, service_of
from slow import slow_unless

from featurekit.aggregates import (
    Count,
    LastN,
    Mean,
    Min,
    StdDev,
    Sum,
    Variance,
)
from featurekit.aggregates.sums import sums_of
from featurekit.core.keys import project_key
from featurekit.core.types import FLOAT, INT, instant
from featurekit.core.values import ERROR
from featurekit.define.compile_service import compile_service
from featurekit.define.definitions import Entity, FeatureView
from featurekit.define.plan import Service
from featurekit.define.published import plan_bytes
from featurekit.errors import OnlineError
from featurekit.online.lookup.blocks import needed
from featurekit.online.lookup.evaluator import Evaluator
from featurekit.online.lookup.service import OnlineService
from featurekit.online.state import blocks, state
from featurekit.online.state.blocks import BlocksHead, Layout, is_head
from featurekit.online.state.seal import opened
from featurekit.online.state.state import Event, Reader
from featurekit.online.state.update import add_events
from featurekit.online.store.memory import MemoryStore
from featurekit.online.store.protocol import OnlineStore
from featurekit.online.store.redis import RedisStore


@pytest.mark.parametrize(
    ("name", "mild", "seed"),
    # Each view with values of both kinds, and each seed with several of them.
    slow_unless(
        lambda name, mild, seed: seed == ([*VIEWS].index(name) + mild) % 3,
        itertools.product(VIEWS, (True, False), range(3)),
    ),
)
def test_blocks_are_what_one_state_would_be(name: str, mild: bool, seed: int) -> None:
    """The keys and bytes are those of one push of all (A2), the answers those of a state that is
    whole, whatever came when and wherever the windows end."""
    split = 0
    for step in steps(VIEWS[name], seed, mild=mild):
        assert step.keys == step.keys_at_once
        assert step.answers == step.of_whole
        split += step.in_blocks
    assert split >= 10


@pytest.mark.parametrize(
    ("version", "keys", "digest"),
    [(2, 15, "fb1c8b87c0d64651"), (blocks.VERSION, 28, "cc80ed2474c743d9")],
)
def test_the_bytes_of_a_head_and_its_blocks_are_those_of_their_version(
    version: int, keys: int, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What other bytes are made of needs another `blocks.VERSION`: stores hold these."""
    if version < blocks.VERSION:
        in_older_heads(monkeypatch)
    plan = plan_of(VIEWS["lifetime"])
    (compiled,), store = plan.service.views, MemoryStore()
    events: list[Event] = []
    for i in range(3000):
        row = {"x": FLOATS[i % len(FLOATS)], "n": i % 7, "kind": "abé"[i % 3], "good": i % 5 > 1}
        row |= {"x": None} if i % 11 == 0 else {}
        slots = tuple(row[s.column] if s.column else 1 / (i % 7) if i % 7 else ERROR
                      for s in compiled.slots)  # fmt: skip
        events.append((i * S, i * S + i % 3, slots))
    add_events(store, [(compiled, key_of(plan), events)])
    assert len(store.values) == keys
    written = b"".join(opened(key, store.values[key]) or b"" for key in sorted(store.values))
    assert opened(key_of(plan), store.values[key_of(plan)] or b"")[0] == version
    assert blocks.digest(written).hex() == digest


@pytest.mark.parametrize("name", ["lifetime", "history"])
def test_an_older_head_is_answered_from_and_written_anew(name: str) -> None:
    plan = plan_of(VIEWS[name])
    compiled, key = plan.service.views[0], key_of(plan)
    events = events_of(compiled, random.Random(5), 200, mild=False)
    with pytest.MonkeyPatch.context() as patch:
        in_small_blocks(patch, split=8, size=6)
        store, once, newer = MemoryStore(), MemoryStore(), MemoryStore()
        with pytest.MonkeyPatch.context() as older:
            in_older_heads(older)
            add_events(store, [(compiled, key, events[:-1])])
        add_events(newer, [(compiled, key, events[:-1])])
        assert (opened(key, store.values[key]) or b"")[0] == 2
        newest = events[-2][1]
        for t in (newest, newest - 7 * S, newest + 30 * S):
            assert asked(plan, store, t) == asked(plan, newer, t)
        add_events(store, [(compiled, key, events[-1:])])
        add_events(once, [(compiled, key, events)])
        assert store.values == once.values


def test_a_lookup_reads_the_ends_of_its_windows_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    in_small_blocks(monkeypatch, split=8, size=8)
    features: dict[str, Any] = {
        "sum": Sum("x", window="800s"),
        "least": Min("n", window="800s"),
        "spread": StdDev("x", window="800s"),
        "of_tiles": Mean("x", window="300s", hop="10s", where="good"),
        "lifetime": Count(window="lifetime"),
    }
    definition = FeatureView(
        "v", entities=[Entity("key", {"key": int})], source=SOURCE, features=features
    )
    plan = plan_of(definition)
    (compiled,), key, store = plan.service.views, key_of(plan), MemoryStore()
    events = events_of(compiled, random.Random(0), 3000, mild=True)
    add_events(store, [(compiled, key, events)])
    head = BlocksHead(Layout(compiled), opened(key, store.values[key]) or b"")
    assert head.n > 200
    every = range(len(features))
    assert len(needed(head, head.newest_arrival, every)) <= 4
    # Of instants before the newest arrival, also blocks in which something had not arrived.
    assert len(needed(head, max(head.newest), every)) <= 4


def test_a_lookup_of_rows_reads_the_last_blocks_that_have_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    in_small_blocks(monkeypatch, split=8, size=8)
    features: dict[str, Any] = {
        "few": Sum("x", rows=3),
        "many": Sum("x", rows=100),
        "good": Sum("x", rows=3, where="good"),
        "within": LastN("x", n=50, window="800s", rows=5),
    }
    definition = FeatureView(
        "v", entities=[Entity("key", {"key": int})], source=SOURCE, features=features
    )
    plan = plan_of(definition)
    (compiled,), key, store = plan.service.views, key_of(plan), MemoryStore()
    events = events_of(compiled, random.Random(0), 3000, mild=True)
    add_events(store, [(compiled, key, events)])
    head = BlocksHead(Layout(compiled), opened(key, store.values[key]) or b"")
    assert head.n > 200
    newest = head.newest_arrival
    read = {name: needed(head, newest, [f]) for f, name in enumerate(features)}
    assert all(min(numbers) > head.n - 40 for numbers in read.values())
    counts = {name: sum(head.counts[k] for k in numbers) for name, numbers in read.items()}
    assert len(read["few"]) <= 3
    assert len(read["within"]) <= 4
    assert 100 <= counts["many"] < 200
    assert 3 <= counts["good"] < 100


def columns_read(patch: pytest.MonkeyPatch) -> set[int]:
    """The slots whose columns are decoded in a state or a block from now on."""
    read: set[int] = set()
    decoded = 0
    column, decode = Reader.column, state.decode_column

    def of_slot(of: Reader, slot: int) -> Any:
        nonlocal decoded
        decoded = 0
        found = column(of, slot)
        assert decoded <= 1
        read.update([slot] * decoded)
        return found

    def noted(*about: Any) -> Any:
        nonlocal decoded
        decoded += 1
        return decode(*about)

    patch.setattr(Reader, "column", of_slot)
    patch.setattr(state, "decode_column", noted)
    return read


@pytest.mark.parametrize("name", VIEWS)
def test_features_that_nobody_asks_for_are_not_computed(name: str) -> None:
    """A service of one feature answers as that of all does. It takes no block and no column that
    only others need, whether the state is whole or in blocks."""
    definition = VIEWS[name]
    plan = plan_of(definition)
    (compiled,), key = plan.service.views, key_of(plan)
    chance = random.Random(7)
    events = [e for e in events_of(compiled, chance, 200, mild=False) if e[1] <= 101 * S]
    t = events[-1][1]
    times = (t, t + 15 * S, t - 10 * S)
    for in_blocks in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            if in_blocks:
                in_small_blocks(patch, split=8, size=6)
            store = MemoryStore()
            add_events(store, [(compiled, key, events)])
            assert is_head(opened(key, store.values[key])) == in_blocks
            every = {at: asked(plan, store, at) for at in times}
            for f, feature_ in enumerate(compiled.features):
                alone = Evaluator("tests", compile_service(service_of(definition[[feature_.name]])))
                assert alone.prefixes == plan.prefixes
                with pytest.MonkeyPatch.context() as noting:
                    read = columns_read(noting)
                    found = {at: asked(alone, store, at) for at in times}
                for at, answer in every.items():
                    n = len(compiled.features)
                    both = ["too old"] if len(answer) == 1 else [answer[f], answer[n + f]]
                    assert found[at] == both
                assert read <= {*feature_.reads}


def test_a_lookup_that_a_push_overtakes_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    in_small_blocks(monkeypatch, split=8, size=4)
    plan = plan_of(VIEWS["lifetime"])
    service = plan.service
    (compiled,), key = service.views, key_of(plan)
    events = events_of(compiled, random.Random(1), 100, mild=True)

    class Overtaken(MemoryStore):
        left = 2

        def read(self, keys: Sequence[bytes]) -> list[bytes | None]:
            if any(b":block:" in k for k in keys) and self.left:
                self.left -= 1
                add_events(self.twin, [(compiled, key, [events[-1 - self.left]])])
                self.values = self.twin.values
            return super().read(keys)

    store, store.twin = Overtaken(), MemoryStore()  # type: ignore[attr-defined]
    add_events(store.twin, [(compiled, key, events[:-2])])  # type: ignore[attr-defined]
    store.values = store.twin.values  # type: ignore[attr-defined]
    publish(store, service)
    when = instant(events[-1][1])
    found = OnlineService(store, "tests", service.name).get([{"key": 1}], when)
    assert store.left == 0
    everything = MemoryStore()
    add_events(everything, [(compiled, key, events)])
    wanted = asked(plan, everything, events[-1][1])
    assert [bits(v[0]) for v in found.columns.values()] == wanted[: len(found.columns)]


def test_a_push_that_another_overtakes_is_done_again(
    redis_store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_small_blocks(monkeypatch, split=8, size=4)
    plan = plan_of(VIEWS["lifetime"])
    (compiled,), key = plan.service.views, key_of(plan)
    events = events_of(compiled, random.Random(2), 120, mild=True)
    other = RedisStore(redis_store.url)

    class Overtaken(RedisStore):
        left = 3

        def read(self, keys: Sequence[bytes]) -> list[bytes | None]:
            if any(b":block:" in k for k in keys) and self.left:
                self.left -= 1
                add_events(other, [(compiled, key, [events[-2 - self.left]])])
            return super().read(keys)

    slow = Overtaken(redis_store.url)
    add_events(slow, [(compiled, key, events[:-4])])
    add_events(slow, [(compiled, key, events[-1:])])
    assert slow.left == 0
    once = MemoryStore()
    add_events(once, [(compiled, key, events)])
    keys = list(redis_store.keys(b""))
    assert dict(zip(keys, redis_store.read(keys), strict=True)) == once.values
    other.close()
    slow.close()


def test_a_state_whose_block_was_evicted_is_an_error_for_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    in_small_blocks(monkeypatch, split=8, size=4)
    plan = plan_of(VIEWS["lifetime"])
    service, key, store = plan.service, key_of(plan), MemoryStore()
    events = events_of(service.views[0], random.Random(1), 100, mild=True)
    add_events(store, [(service.views[0], key, events[:-1])])
    store.delete([k for k in store.keys(b"fk:tests:block:") if k.endswith(b"open")])
    publish(store, service)
    shown = re.escape(key.decode())
    with pytest.raises(OnlineError, match=rf"block open of the state under {shown} is .*evict"):
        OnlineService(store, "tests", service.name).get([{"key": 1}], instant(events[-1][1]))
    late = (max(e[0] for e in events) + S, *events[-1][1:])
    with pytest.raises(OnlineError, match=r"noeviction.*featurekit materialize"):
        add_events(store, [(service.views[0], key, [late])])


def test_writers_that_are_faster_for_long_are_no_eviction(monkeypatch: pytest.MonkeyPatch) -> None:
    in_small_blocks(monkeypatch, split=8, size=4)
    plan = plan_of(VIEWS["lifetime"])
    (compiled,), key = plan.service.views, key_of(plan)
    events = events_of(compiled, random.Random(1), 60, mild=True)
    newest = max(e[0] for e in events)
    late = [(newest, newest + i, events[0][2]) for i in range(300)]
    twin = MemoryStore()

    class Overtaken(MemoryStore):
        left = 299

        def read(self, keys: Sequence[bytes]) -> list[bytes | None]:
            if any(b":block:" in k for k in keys) and self.left:
                self.left -= 1
                add_events(twin, [(compiled, key, [late[self.left]])])
            return super().read(keys)

    store = Overtaken()
    store.values = twin.values
    add_events(twin, [(compiled, key, events)])
    add_events(store, [(compiled, key, late[-1:])])
    once = MemoryStore()
    add_events(once, [(compiled, key, events + late)])
    assert store.left == 0
    assert store.values == once.values


def publish(store: OnlineStore, service: Service) -> None:
    store.write(
        {
            project_key("tests", "live", service.name): service.fingerprint.encode(),
            project_key("tests", "plan", service.name, service.fingerprint): plan_bytes(service),
        }
    )


def test_a_state_and_its_blocks_lie_in_one_cluster_slot() -> None:
    key = key_of(plan_of(VIEWS["windows"]))
    of_block = blocks.block_key(key, b"open")
    assert key[key.index(b"{") : key.index(b"}") + 1] in of_block
    assert of_block.startswith(b"fk:tests:block:view:")


@pytest.mark.parametrize("item", [FLOAT, INT])
def test_sums_of_parts_make_the_aggregate_of_all(item: Any) -> None:
    """Sums may be added and, as whole numbers, taken away: the rest is what is beside them."""
    chance = random.Random(3)
    for _ in range(400):
        n = chance.randrange(0, 6)
        pool = FLOATS if item == FLOAT else [0, 1, -1, 2**63 - 1, -(2**63), 7]
        if item == FLOAT and chance.random() < 0.6:
            pool = [chance.uniform(-1, 1) * 2.0 ** chance.randrange(-60, 60) for _ in range(6)]
        values = [chance.choice(pool) for _ in range(n)]
        a, b = sorted((chance.randint(0, n), chance.randint(0, n)))
        for kind in (Count, Sum, Mean, Variance, StdDev):
            aggregate = kind("x", window="1s")
            parts = [sums_of(v, item, aggregate.adds) for v in (values[:a], values[a:b])]
            expected = outcome(lambda k=aggregate, v=values: k.over(v, item))
            sums = parts[0] + parts[1]
            assert (
                outcome(lambda k=aggregate, s=sums, v=values[b:]: k.over_sums(s, v, item))
                == expected
            )


def outcome(call: Any) -> Any:
    try:
        return bits(call())
    except OverflowError:
        return "beyond"
