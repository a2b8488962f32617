"""Groups of blocks and their tallies: a lookup reads few, and answers as from all events."""

from __future__ import annotations

import datetime as dt
import itertools
import math
import random
import zlib
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
from oracle import bits
from paths import in_small_blocks, service_of

from featurekit.aggregates import (
    Aggregate,
    All,
    ApproxCountDistinct,
    ApproxQuantile,
    CountDistinct,
    First,
    FirstN,
    LastN,
    Max,
    Quantile,
    TimeSince,
    TopK,
    ValueCounts,
    hyperloglog,
    tallies,
)
from featurekit.aggregates import Any as AnyOf
from featurekit.core.types import EPOCH, INT, STR
from featurekit.core.values import ERROR
from featurekit.define.compile_service import compile_service
from featurekit.define.definitions import Entity, EventSource, FeatureView
from featurekit.define.plan import View
from featurekit.errors import AsOfTooOld
from featurekit.language.transform import feature
from featurekit.online.lookup.blocks import needed
from featurekit.online.lookup.evaluator import Evaluator
from featurekit.online.state import groups
from featurekit.online.state.blocks import BlocksHead, Layout, is_head, state_keys
from featurekit.online.state.groups import Groups, Known, Made, make_groups
from featurekit.online.state.seal import opened
from featurekit.online.state.state import Event
from featurekit.online.state.update import add_events
from featurekit.online.store.memory import MemoryStore

S = 1_000_000
DAY = dt.timedelta(days=1)
VALUES: dict[type, list[Any]] = {
    int: [0, -1, 1, 2**63 - 1, -(2**63), 7, 8],
    float: [0.0, -0.0, math.nan, math.inf, -math.inf, 5e-324, -5e-324, 1.5, -1.5, 3.25, 1e308],
    str: ["", "a", "b", "é", "zz", "a\0", "日本"],
    bytes: [b"", b"a", b"\0", b"\xff\xfe", b"ab"],
    bool: [True, False],
    dt.date: [dt.date(1, 1, 1), dt.date(1969, 12, 31), dt.date(1970, 1, 1), dt.date(2024, 2, 29)],
    dt.datetime: [EPOCH, EPOCH - DAY, EPOCH + 20_000 * DAY],
    dt.timedelta: [dt.timedelta(0), DAY, -DAY, dt.timedelta(microseconds=1)],
}


@feature
def inverse(n: int) -> float:
    return 1 / n


def aggregates_of(hint: type, window: dict[str, Any], *, hashes: bool) -> dict[str, Aggregate]:
    """Aggregates over a column of a type. Without `hashes`, the groups of numbers have no level
    0."""
    given: dict[str, Any] = {"input": "v", **window}
    made: dict[str, Aggregate] = {}
    if hashes:
        made["about"] = ApproxCountDistinct(**given)
        made["about_good"] = ApproxCountDistinct(**given, where="good")
    made |= {
        "distinct": CountDistinct(**given),
        "counts": ValueCounts(**given),
        "top": TopK(**given, k=2),
        "distinct_good": CountDistinct(**given, where="good"),
        "first_few": FirstN(**given, n=3, where="good"),
        "last_few": LastN(**given, n=4),
        "first": First(**given, where="good"),
        "most": Max(**given, where="good"),
        "since": TimeSince(**given, where="good"),
        "since_first": TimeSince(**given, since="first", where="good"),
        "erring": CountDistinct(inverse, **window),
    }
    if hint in (int, float):
        made["median"] = Quantile(**given, q=0.5)
        made["most_of"] = Quantile(**given, q=0.9, where="good")
        made["about_median"] = ApproxQuantile(**given, q=0.5)
    if hint is bool:
        made |= {"some": AnyOf(**given), "every": All(**given, where="good")}
    return made


WINDOWS: dict[str, dict[str, Any]] = {
    "ever": {"window": "lifetime"},
    "long": {"window": "300s"},
    "before": {"window": "90s", "offset": "45s"},
    "tiles": {"window": "120s", "hop": "20s"},
}


def view(hint: type, *, hashes: bool = True, lifetime: bool = True, **options: Any) -> FeatureView:
    source = EventSource(
        "events",
        path="events.parquet",
        schema={"key": int, "v": hint | None, "n": int, "good": bool | None},
        timestamp_field="at",
        created_timestamp_column="arrived",
    )
    features = {
        f"{name}_{window}": aggregate
        for window, given in WINDOWS.items()
        if lifetime or window != "ever"
        for name, aggregate in aggregates_of(hint, given, hashes=hashes).items()
    }
    entity = Entity("key", {"key": int})
    return FeatureView("view", entities=[entity], source=source, features=features, **options)


def plan_of(definition: FeatureView) -> tuple[Evaluator, View, bytes]:
    plan = Evaluator("tests", compile_service(service_of(definition)))
    (((key,),)) = plan.state_keys({"key": [1]}, 1)
    assert key is not None
    return plan, plan.service.views[0], key


def events_of(plan: View, hint: type, chance: random.Random, n: int) -> list[Event]:
    """Events half a second apart, some at one instant, some late, in the order of their arrival."""
    made = []
    for i in range(n):
        ts = (i + chance.choice((0, 0, 1))) * S // 2
        n_ = chance.randrange(-3, 4)
        row = {
            "v": None if chance.random() < 0.1 else chance.choice(VALUES[hint]),
            "n": n_,
            "good": chance.choice((True, True, False, None)),
        }
        slots = tuple(row[s.column] if s.column else 1 / n_ if n_ else ERROR for s in plan.slots)
        made.append((ts, ts + chance.choice((0, 0, 0, 1, 40, 500)) * S, slots))
    return sorted(made, key=lambda event: event[1])


def asked(plan: Evaluator, key: bytes, store: MemoryStore, t: int) -> list[Any]:
    try:
        found = {key: store.read([key])[0]}
        ((values, statuses),) = plan.evaluate([[key]], found, [{}], [t], store.read)
    except AsOfTooOld:
        return ["too old"]
    return [*map(bits, values), *statuses]


def in_order(values: list[Any]) -> list[Any]:
    """The values, with the order of dicts, which `==` does not see."""
    return [list(v.items()) if isinstance(v, dict) else v for v in values]


CASES = [(hint, True, True) for hint in VALUES]
CASES += [(float, False, False), (int, False, True), (str, False, False)]


@pytest.mark.parametrize(("hint", "hashes", "lifetime"), CASES)
def test_groups_are_what_one_state_would_be(hint: type, hashes: bool, lifetime: bool) -> None:
    """The keys and bytes are those of one push of all (A2), and no other key is left; the answers
    are those of a state that is whole, whatever came when and wherever the windows end."""
    history = "60s" if lifetime else "5s"
    definition = view(hint, hashes=hashes, lifetime=lifetime, history=history)
    plan, compiled, key = plan_of(definition)
    chance = random.Random(f"{hint.__name__} {lifetime}")
    events = events_of(compiled, hint, chance, 260 if lifetime else 1000)
    store, whole, arrived, levels = MemoryStore(), MemoryStore(), [], set[int]()
    while events:
        n = chance.choice((1, 2, 40, 60) if lifetime else (1, 2, 120, 200))
        coming, events = events[:n], events[n:]
        chance.shuffle(coming)
        arrived += coming
        with pytest.MonkeyPatch.context() as patch:
            in_small_blocks(patch, split=8, size=5)
            add_events(store, [(compiled, key, coming)])
            if not is_head(opened(key, store.values[key])):
                continue
            once = MemoryStore()
            add_events(once, [(compiled, key, arrived)])
            assert store.values == once.values
            head = opened(key, store.values[key])
            assert {*state_keys(compiled, key, head)} == store.values.keys()
            levels |= {int(k.split(b"/")[1][0:1]) for k in store.values if b"." in k}
            newest = max(e[1] for e in arrived)
            at = [newest, newest - chance.randrange(60 * S), newest + chance.randrange(300 * S)]
            in_blocks = [asked(plan, key, store, t) for t in at]
        whole.values.clear()
        add_events(whole, [(compiled, key, arrived)])
        assert list(map(in_order, in_blocks)) == [in_order(asked(plan, key, whole, t)) for t in at]
    assert levels == ({0, 1, 2, 3} if hashes or hint is str else {1, 2, 3})


def test_a_range_of_blocks_is_covered_by_few_groups() -> None:
    """By each block once, in order. The groups below a group are its blocks again."""
    chance = random.Random(0)
    for n in [*range(8), 60, 400]:
        heights = bytes(groups.height(chance.randrange(1, 10**6)) for _ in range(n))
        heights = bytes(h * (chance.random() < 0.95) for h in heights)
        for lowest in (0, 1):
            of = Groups(heights, lowest)
            spans = [of.span(g) for g in range(of.count)]
            for g, (level, i, j) in enumerate(spans):
                assert all(heights[k - 1] > level for k in (i, j))
                assert not any(h > level for h in heights[i : j - 1])
                assert {k for k in range(n) if g in of.of_block(k)} == {*range(i, j)}
                if level > lowest:
                    below = [spans[c] for c in of.within(g)]
                    assert {one[0] for one in below} == {level - 1}
                    assert [k for _, a, b in below for k in range(a, b)] == [*range(i, j)]
            ends = sorted(chance.sample(range(n + 1), min(n + 1, 12)))
            for i, j in itertools.combinations_with_replacement(ends, 2):
                parts = of.cover(i, j)
                covered = [range(p, p + 1) if p < n else range(*spans[p - n][1:]) for p in parts]
                assert [k for run in covered for k in run] == [*range(i, j)]
                assert len(parts) < 80


def test_a_register_keeps_its_greatest_rank_across_groups() -> None:
    numbers = [*range(20_000)]
    form = tallies.Form("codes", INT)
    parts = [form.merged([form.of(np.array(numbers[i::7]))]) for i in range(7)]
    parts = [form.decode(memoryview(form.encode(part))) for part in parts]
    one = ApproxCountDistinct("n", window="1s")
    expected = one.over(numbers, INT)
    for tally in (form.together(parts), form.merged(parts)):
        assert one.over_tally(tally, INT) == expected
    assert len(form.merged(parts)) <= hyperloglog.REGISTERS
    assert form.encode(form.merged(parts)) == form.encode(form.merged([form.of(np.array(numbers))]))


class Plain:
    """Tallies of blocks that are their bytes."""

    def of_block(self, blob: bytes) -> list[bytes]:
        return [blob]

    def merged(self, parts: Sequence[list[bytes]]) -> list[bytes]:
        return [one for part in parts for one in part]

    def encode(self, digest: bytes, tallies: list[bytes]) -> bytes:
        return b"|".join([digest, *tallies])

    def decode_all(self, blob: bytes) -> list[bytes]:
        return blob.split(b"|")[1:]


@pytest.mark.parametrize("lowest", [0, 1])
def test_groups_after_a_change_are_those_of_all_blocks(
    lowest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever blocks changed, came or went."""
    monkeypatch.setattr(groups, "RADIX", 2)
    chance = random.Random(lowest)
    height = {last: groups.height(chance.randrange(1, 10**6)) for last in range(60)}

    def digest(blob: bytes) -> bytes:
        return b"%08d" % (zlib.crc32(blob) % 10**8)

    def made(blocks: dict[int, bytes], new: set[int], known: Known | None) -> tuple[Groups, Made]:
        heights = bytes(0 if last == 59 else height[last] for last in blocks)
        of, tallied = Groups(heights, lowest), cast("Any", Plain())
        numbered = {k: blob for k, (last, blob) in enumerate(blocks.items()) if last in new}
        digests = [digest(blob) for blob in blocks.values()]
        return of, make_groups(of, [*blocks], digests, numbered, tallied, digest, known)

    def kept(blocks: dict[int, bytes], of: Groups, was: Made) -> Known:
        parts = [*blocks.values(), *(was.new[of.name(g, [*blocks])] for g in range(of.count))]
        return Known(of, [*blocks], was.digests, lambda wanted: [parts[p] for p in wanted])

    for _ in range(300):
        blocks = {last: b"%d" % last for last in sorted(chance.sample(range(60), 40))}
        before, first = made(blocks, {*blocks}, None)
        changed = {last: b"new %d" % last for last in chance.sample(range(60), 2)}
        gone = {*chance.sample(range(60), chance.choice((0, 0, 1, 3)))} - changed.keys()
        after = {k: v for k, v in sorted((blocks | changed).items()) if k not in gone}
        _, found = made(after, {*changed}, kept(blocks, before, first))
        _, whole = made(after, {*after}, None)
        assert found.digests == whole.digests
        assert {k: v for k, v in first.new.items() if k not in found.gone} | found.new == whole.new
        assert found.new.keys() < whole.new.keys()  # what is as it was is not made again


def state_of(definition: FeatureView, hint: type, n: int) -> tuple[View, bytes, MemoryStore]:
    _, compiled, key = plan_of(definition)
    store = MemoryStore()
    events = [
        (i * S, i * S, tuple(VALUES[hint][i % 7] if s.column == "v" else True
                             for s in compiled.slots))
        for i in range(n)
    ]  # fmt: skip
    add_events(store, [(compiled, key, events)])
    return compiled, key, store


def test_a_lookup_reads_few_parts_and_a_push_few_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many blocks the state has."""
    in_small_blocks(monkeypatch, split=8, size=4)
    monkeypatch.setattr(groups, "TOP", 12)
    compiled, key, store = state_of(only(CountDistinct("v", window="lifetime")), str, 4000)
    head = BlocksHead(Layout(compiled), opened(key, store.values[key]) or b"")
    assert head.n > 900
    assert len(needed(head, 4000 * S, [0])) < 40
    read: list[bytes] = []
    plain = MemoryStore.read

    def noted(self: MemoryStore, keys: Any) -> Any:
        read.extend(k for k in keys if b":block:" in k)
        return plain(self, keys)

    monkeypatch.setattr(MemoryStore, "read", noted)
    slots = ("b",)
    before = dict(store.values)
    add_events(store, [(compiled, key, [(4000 * S, 4000 * S, slots)])])
    assert len(read) <= 1  # the last block is open, and in no group
    add_events(store, [(compiled, key, [(2000 * S + 1, 4000 * S, slots)])])
    assert len(read) < 40
    changed = [k for k, v in store.values.items() if before.get(k) != v]
    assert len(changed) < 20


def only(aggregate: Aggregate) -> FeatureView:
    entity = Entity("key", {"key": int})
    source = EventSource(
        "events", path="events.parquet", schema={"key": int, "v": str}, timestamp_field="at"
    )
    return FeatureView("view", entities=[entity], source=source, features={"f": aggregate})


@pytest.mark.parametrize("kind", ["values", "counts"])
def test_texts_that_share_half_of_their_hash_are_two(
    kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where keys were chosen that share all places of the tables they are found by."""
    full = tallies.hashed
    halved = {0: lambda raw: bytes(8) + full(raw)[8:], 1: lambda raw: full(raw)[:8] + bytes(8)}
    texts = [b"text %d" % (i % 50) for i in range(300)]
    form = tallies.Form(kind, STR)
    for which, factors in itertools.product(halved, (tallies._FACTORS, [tallies._HALF * 0])):
        with monkeypatch.context() as patch:
            patch.setattr(tallies, "hashed", halved[which])
            patch.setattr(tallies, "_FACTORS", factors)
            parts = [form.of(texts[i : i + 40]) for i in range(0, 300, 30)]
            for tally in (form.together(parts), form.merged(parts)):
                assert tally.distinct() == 50
            if kind == "counts":
                counts = form.merged([form.of(texts)]).ranked()
                assert counts == {f"text {i}": 6 for i in range(50)}
            merged = form.merged([form.merged(parts[:5]), form.merged(parts[5:][::-1])])
            assert form.encode(merged) == form.encode(form.merged(parts))
