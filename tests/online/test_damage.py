"""A state that is not as it was written is never a value: not one flipped bit of any kind of state
goes unseen, other entities are answered, and a push is refused."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from paths import in_older_heads, in_small_blocks, service_of

from featurekit import Entity, EventSource, FeatureView, feature
from featurekit.aggregates import Count, FirstN, Last, Mean, Quantile, Sum, ValueCounts
from featurekit.core.keys import project_key
from featurekit.core.status import DAMAGED, ERROR_STATUS, PRESENT
from featurekit.core.types import instant
from featurekit.define.compile_service import compile_service
from featurekit.define.plan import Service
from featurekit.define.published import plan_bytes
from featurekit.errors import DamagedState, FeaturekitError
from featurekit.feed.events import prepare
from featurekit.feed.settle import write
from featurekit.online.lookup.service import OnlineService
from featurekit.online.state import seal
from featurekit.online.store.memory import MemoryStore
from featurekit.online.store.replies import Run, Values
from featurekit.parity.compare import bits

S = 1_000_000
NOW = 1_000 * S
SCHEMA = {
    "id": int,
    "key": int,
    "x": float,
    "n": int,
    "good": bool,
    "word": str | None,
    "day": dt.date | None,
    "tags": list[str | None] | None,
}
KEY = Entity("key", {"key": int})


def source(**options: Any) -> EventSource:
    schema = SCHEMA | ({"op": str} if "op" in options else {})
    return EventSource(
        "events",
        path="events.parquet",
        schema=schema,
        timestamp_field="at",
        created_timestamp_column="arrived",
        **options,
    )


def view(features: dict[str, Any], **options: Any) -> FeatureView:
    of = options.pop("of", source())
    return FeatureView("view", entities=[KEY], source=of, features=features, **options)


@feature
def inverse(n: int) -> float:
    return 1 / n


IDS, OPS = source(event_id="id"), source(event_id="id", op="op")
WINDOWS = {
    "sum": Sum("x", window="100s"),
    "hops": Mean("n", window="50s", hop="20s"),
    "count": Count(window="30s"),
}
TEXTS = WINDOWS | {
    "words": FirstN("word", n=3, window="100s"),
    "tags": Last("tags", window="100s"),
    "median": Quantile(inverse, q=0.5, window="100s"),
}
BLOCKS = {"sum": Sum("x", window="100s"), "words": FirstN("word", n=3, window="100s")}
VIEWS = {
    "latest row of numbers": view({"x": "x", "n": "n", "good": "good"}),
    "latest row": view({"x": "x", "word": "word", "day": "day"}),
    "latest row of lists": view({"x": "x", "tags": "tags"}),
    "latest rows": view({"x": "x", "word": "word"}, history="100s"),
    "latest row with ids": view({"x": "x", "word": "word"}, of=IDS, ttl="500s"),
    "windows": view(WINDOWS),
    "windows of texts": view(TEXTS),
    "windows with ids": view(TEXTS, of=IDS),
    "windows with corrections": view(WINDOWS, of=OPS),
    "windows in blocks": view(BLOCKS),
}
KINDS = list(VIEWS)


def row(key: int, i: int, **other: Any) -> dict[str, Any]:
    made = {
        "id": 100 * key + i,
        "key": key,
        "x": i + 0.1,
        "n": i % 3,
        "good": i % 2 == 0,
        "word": None if i % 3 == 0 else "wörd" * (i % 2),
        "day": dt.date(2024, 1, 1 + i),
        "tags": [None, "a" * i] if i % 2 else None,
        "op": "upsert",
        "arrived": instant(NOW + i * S),
    }
    return made | {"__ts": NOW + i * S, "__created": NOW + i * S} | other


class World:
    """A service with the states of two entities, in a store of its own."""

    def __init__(self, definition: FeatureView, *, more: tuple[Any, ...] = ()) -> None:
        self.service: Service = compile_service(service_of(definition, *more))
        (self.view,) = self.service.views
        self.store = MemoryStore()
        self.store.write({
            project_key("tests", "live", "service"): self.service.fingerprint.encode(),
            project_key("tests", "plan", "service", self.service.fingerprint):
                plan_bytes(self.service),
        })  # fmt: skip
        self.online = OnlineService(self.store, "tests", "service")
        one = self.view.kind == "latest" and not self.view.history_us
        for i in range(1 if one else 3):
            self.push(row(1, i), row(2, i))
        self.first, self.second = (
            project_key("tests", "state", "view", self.view.fingerprint) + b":{2:i%d}" % key
            for key in (1, 2)
        )

    def push(self, *rows: dict[str, Any]) -> None:
        write(self.store, prepare("tests", [self.view], rows))

    def ask(self, *keys: int) -> list[tuple[Any, list[str]]]:
        """Each entity's values, in bits, and statuses."""
        found = self.online.get([{"key": key} for key in keys], instant(NOW + 10 * S))
        return [
            (bits(list(one.values())[1:]), list(statuses.values()))
            for one, statuses in zip(found.to_pylist(), found.statuses(), strict=True)
        ]


def world(kind: str, monkeypatch: pytest.MonkeyPatch) -> World:
    if kind == "windows in blocks":
        in_small_blocks(monkeypatch, split=2, size=2)
    return World(VIEWS[kind])


def flipped(value: bytes) -> Iterator[bytes]:
    """The value with each of its bits flipped in turn."""
    for i in range(8 * len(value)):
        changed = bytearray(value)
        changed[i // 8] ^= 1 << i % 8
        yield bytes(changed)


@pytest.mark.parametrize("kind", KINDS)
def test_no_flipped_bit_of_a_state_is_a_value(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    it = world(kind, monkeypatch)
    (one, other), (alone,) = it.ask(1, 2), it.ask(1)
    assert one == alone
    assert PRESENT in one[1]
    lost = bits([None] * len(one[1])), [DAMAGED] * len(one[1])
    for i, changed in enumerate(flipped(it.store.values[it.first])):
        it.store.values[it.first] = changed
        assert it.ask(1, 2) == [lost, other]
        if i % 16 == 0:
            with pytest.raises(DamagedState, match=r"view 'view': the state of key=1 is damaged"):
                it.ask(1)


def test_no_flipped_bit_of_a_block_is_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    it = world("windows in blocks", monkeypatch)
    every = [key for key in it.store.keys(b"fk:tests:block:") if b"{2:i1}" in key]
    blocks = [key for key in every if b"." not in key]  # the others are groups: see below
    assert len(blocks) > 1
    one, other = it.ask(1, 2)
    lost = bits([None] * len(one[1])), [DAMAGED] * len(one[1])
    seen = 0
    for key in blocks:
        right = it.store.values[key]
        for changed in flipped(right):
            it.store.values[key] = changed
            found = it.ask(1, 2)
            assert found in ([lost, other], [one, other])  # a block that nobody reads is no fault
            seen += found[0] == lost
        it.store.values[key] = right
    assert seen > 100


def test_no_flipped_bit_of_a_group_is_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is the group of another range of blocks, or of another entity."""
    in_small_blocks(monkeypatch, split=2, size=1)
    it = World(view({"counts": ValueCounts("word", window="100s")}))
    groups = [key for key in it.store.keys(b"fk:tests:block:") if b"." in key]
    read: list[bytes] = []
    plain = it.store.read
    monkeypatch.setattr(it.store, "read", lambda keys: [read.extend(keys), plain(keys)][1])
    (right,) = it.ask(1)
    known = it.store.values
    asked = [key for key in groups if key in read]
    assert asked
    for key in asked:
        for value in [b"", *(known[k] for k in groups if k != key), *flipped(known[key])]:
            it.store.values = known | {key: value}
            with pytest.raises(DamagedState, match="key=1 is damaged: block"):
                it.ask(1)
    it.store.values = dict(known)
    assert it.ask(1) == [right]
    # Nor is a group as it was before a late row.
    it.push(row(1, 1) | {"__created": NOW + 9 * S})
    changed = [key for key in asked if it.store.values.get(key, known[key]) != known[key]]
    assert changed
    for key in changed:
        it.store.values[key] = known[key]
        with pytest.raises(DamagedState, match="key=1 is damaged: block"):
            it.ask(1)


@pytest.mark.parametrize("kind", KINDS)
def test_no_push_adds_to_a_state_with_a_flipped_bit(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = world(kind, monkeypatch)
    known = dict(it.store.values)
    for changed in flipped(known[it.first]):
        it.store.values = known | {it.first: changed}
        with pytest.raises(DamagedState, match=r"key=1 is damaged.*--view view --entity key=1"):
            it.push(row(1, 8), row(2, 8))
        assert it.store.values == known | {it.first: changed}


@pytest.mark.parametrize("kind", ["windows with ids", "windows with corrections"])
def test_no_flipped_bit_of_a_memory_lets_a_copy_count(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = world(kind, monkeypatch)
    key = project_key("tests", "ids", "view", it.view.fingerprint) + b":i100"
    known = dict(it.store.values)
    for changed in flipped(known[key]):
        it.store.values = known | {key: changed}
        with pytest.raises(DamagedState, match="the memory of id=100 is damaged"):
            it.push(row(1, 0) | {"__created": NOW + 9 * S})
        assert it.store.values == known | {key: changed}


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_under_the_key_of_another_entity_is_damaged(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = world(kind, monkeypatch)
    other = it.ask(2)
    it.store.values[it.first] = it.store.values[it.second]
    assert it.ask(1, 2)[1:] == other
    assert set(it.ask(1, 2)[0][1]) == {DAMAGED}
    with pytest.raises(DamagedState):
        it.ask(1)


@pytest.mark.parametrize("change", [lambda v: v[:-1], lambda v: v + b"\0", lambda v: b""])
@pytest.mark.parametrize("kind", KINDS)
def test_a_state_that_was_cut_or_grew_is_damaged(
    kind: str, change: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    it = world(kind, monkeypatch)
    it.store.values[it.first] = change(it.store.values[it.first])
    assert set(it.ask(1, 2)[0][1]) == {DAMAGED}
    with pytest.raises(DamagedState):
        it.ask(1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_without_a_checksum_is_no_raw_error(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """States of a release before checksums: what cannot be read is named, and others answered."""
    it = world(kind, monkeypatch)
    plain = seal.opened(it.first, it.store.values[it.first])
    assert plain is not None
    it.store.values[it.first] = plain
    _, other = it.ask(1, 2)
    known, seen = dict(it.store.values), 0
    for changed in flipped(plain):
        it.store.values = known | {it.first: changed}
        found = None
        try:
            found = it.ask(1, 2)
        except FeaturekitError:
            continue
        assert found[1] == other
        seen += set(found[0][1]) == {DAMAGED}
        it.store.values = known | {it.first: changed}
        try:
            it.push(row(1, 8))
        except DamagedState:
            seen += 1
    assert seen


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_release_before_checksums_wrote_is_read_and_gets_one(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """States, blocks and memories of ids: the answers are the same, and so is what a push makes."""
    if kind == "windows in blocks":
        in_small_blocks(monkeypatch, split=2, size=2)
    with monkeypatch.context() as patch:
        in_older_heads(patch)
        it, twin = World(VIEWS[kind]), World(VIEWS[kind])
    bare = {
        key: seal.opened(key, value)
        for key, value in it.store.values.items()
        if seal.is_sealed(value)
    }
    assert {it.first, it.second} <= bare.keys()
    it.store.values |= {key: value for key, value in bare.items() if value is not None}
    assert it.ask(1, 2) == twin.ask(1, 2)
    assert it.ask(1) == twin.ask(1)
    for each in (it, twin):
        each.push(row(1, 8))
    assert it.ask(1, 2) == twin.ask(1, 2)
    assert it.store.values[it.first] == twin.store.values[it.first]
    assert seal.is_sealed(it.store.values[it.first])


@feature
def doubled(x: float | None) -> float:
    return 0.0 if x is None else 2 * x


def test_a_transform_that_reads_a_damaged_feature_errs() -> None:
    it = World(VIEWS["latest row of numbers"], more=(doubled,))
    it.store.values[it.first] = it.store.values[it.second]
    assert it.ask(1, 2)[0] == (bits([None] * 4), [*[DAMAGED] * 3, ERROR_STATUS])


def test_a_view_that_fails_on_errors_fails_on_damage() -> None:
    it = World(view({"x": "x"}, on_error="fail"))
    it.store.values[it.first] = it.store.values[it.second]
    with pytest.raises(DamagedState, match="key=1"):
        it.ask(1, 2)


def group(n: int, size: int) -> tuple[bytes, list[bytes], list[bytes]]:
    """A prefix, the ends of keys of several lengths, and the values that were sealed for them."""
    prefix = b"fk:tests:state:view:fingerprint:"
    ends = [b"{%d:i%d}" % (len(str(7**i)) + 1, 7**i) for i in range(n)]
    values = [bytes((3, *((31 * i + k) % 256 for k in range(size)))) for i in range(n)]
    return prefix, ends, [seal.sealed(prefix + e, v) for e, v in zip(ends, values, strict=True)]


def as_they_come(values: list[bytes], *, together: bool) -> Values:
    """The values as a list, or as they lie in a reply."""
    size = len(values[0])
    head = b"$%d\r\n" % size
    data = b"*9\r\n" + b"".join(head + value + b"\r\n" for value in values)
    run = Run(data, 4, len(values), size, len(head), len(head) + size + 2)
    return run if together else values


@pytest.mark.parametrize("together", [True, False])
def test_values_that_are_checked_together_are_whole_or_do_not_open(together: bool) -> None:
    prefix, ends, values = group(6, 21)

    def opened(values: list[bytes], ends: list[bytes]) -> Any:
        found = seal.opened_group(as_they_come(values, together=together), prefix, ends)
        return None if found is None else list(found)

    assert opened(values, ends) == [value[1:-4] for value in values]
    for i in range(len(values)):
        for changed in flipped(values[i]):
            assert opened([*values[:i], changed, *values[i + 1 :]], ends) is None
        for changed in flipped(ends[i]):
            assert opened(values, [*ends[:i], changed, *ends[i + 1 :]]) is None


def test_several_values_that_are_not_whole_do_not_hide_one_another() -> None:
    prefix, ends, values = group(6, 3)

    def opens(changed: list[bytes]) -> bool:
        assert changed != values
        return seal.opened_group(as_they_come(changed, together=True), prefix, ends) is not None

    for i, j in itertools.combinations(range(len(values)), 2):
        exchanged = list(values)
        exchanged[i], exchanged[j] = values[j], values[i]
        assert not opens(exchanged)
        for one, other in itertools.product(flipped(values[i]), flipped(values[j])):
            both = list(values)
            both[i], both[j] = one, other
            assert not opens(both)
    assert not opens([*values[1:], values[0]])
    assert not opens([values[0]] * len(values))
