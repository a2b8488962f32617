"""Events that are put into a state's bytes give the bytes that the state itself gives."""

from __future__ import annotations

import datetime as dt
import itertools
import math
import random
from typing import Any

import pytest

from featurekit import Entity, EventSource, FeatureView, Vector
from featurekit.aggregates import Any as AnyOf
from featurekit.aggregates import Count, Last, Max, Sum
from featurekit.core.status import FOREVER
from featurekit.core.types import EPOCH
from featurekit.core.values import ERROR
from featurekit.define.compile_view import compile_view
from featurekit.define.plan import View
from featurekit.online.state.blocks import SPLIT
from featurekit.online.state.ids import Ids
from featurekit.online.state.splice import splice_of
from featurekit.online.state.state import State, decode_state

S = 1_000_000
FLOATS = [0.0, -0.0, 1.5, -2.25, float("inf"), float("nan"), None, ERROR]


def view(*, ids: bool = False, history: str | None = None, kept: str = "1m") -> View:
    source = EventSource(
        "events", path="e.parquet", timestamp_field="at",
        schema={"id": int, "k": int, "n": int, "x": float | None, "b": bool},
        **({"event_id": "id", "dedupe_within": "30s"} if ids else {}),
    )  # fmt: skip
    made = FeatureView(
        "view", entities=[Entity("e", {"k": int})], source=source,
        **({} if history is None else {"history": history}),
        features={"a": Sum("n", window=kept), "b": Max("x", window="10s"),
                  "c": Count(window="5s"), "d": AnyOf("b", window=kept)},
    )  # fmt: skip
    return compile_view(made)


def latest(history: str | None) -> View:
    """A view of latest rows, with texts."""
    source = EventSource(
        "events", path="e.parquet", timestamp_field="at",
        schema={"k": int, "n": int, "x": float | None, "b": bool, "s": str},
    )  # fmt: skip
    return compile_view(
        FeatureView(
            "view", entities=[Entity("e", {"k": int})], source=source,
            **({} if history is None else {"history": history}),
            features={name: name for name in "nxbs"},
        )
    )  # fmt: skip


def event(rng: random.Random, of: View, at: int, *, odd: float) -> Any:
    created = at + rng.choice([0, 0, 0, 0, 1, -1, 5 * S, 40 * S])
    values = {"int": rng.randrange(-5, 5), "bool": rng.random() < 0.5, "str": "aéz"[at % 3]}
    slots = []
    for slot in of.slots:
        if slot.type.name == "float":
            slots.append(rng.choice(FLOATS) if rng.random() < odd else rng.random())
        else:
            slots.append(values[slot.type.name])
    return at, created, tuple(slots)


@pytest.mark.parametrize("odd", [0.0, 0.1])
@pytest.mark.parametrize("history", [None, "15s"])
@pytest.mark.parametrize("ids", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_the_bytes_are_those_of_the_state(
    seed: int, ids: bool, history: str | None, odd: float
) -> None:
    rng, of = random.Random(seed), view(ids=ids, history=history)
    splice = splice_of(of)
    assert splice is not None
    blob: bytes | None = None
    spliced = 0
    now = 10**15
    for _ in range(400):
        now += rng.choice([0, 1, S, 5 * S])
        several = [
            event(rng, of, now - rng.choice([0, 0, 0, 1, 3 * S, 30 * S, 70 * S]), odd=odd)
            for _ in range(rng.choice([1, 1, 1, 2, 3]))
        ]
        state = State(of) if blob is None else decode_state(of, blob)
        if ids:
            state.settle(several, several, max(e[1] for e in several))
        else:
            state.add(several)
        wanted = state.encode()
        found = splice.added(blob, several)
        assert found is None or found == wanted
        spliced += found is not None
        blob = wanted
    assert spliced > (10 if odd else 50)


@pytest.mark.parametrize("history", [None, "15s"])
def test_the_bytes_of_a_latest_row_are_those_of_the_state(history: str | None) -> None:
    """Events that come late, before their time, twice, or with an error."""
    rng, of = random.Random(1), latest(history)
    splice = splice_of(of)
    assert splice is not None
    spliced = 0
    for _ in range(300):
        blob: bytes | None = None
        now = 10**15
        for _ in range(8):
            now += rng.choice([0, 1, S, 5 * S])
            several = [
                event(rng, of, now - rng.choice([0, 0, 0, 1, 3 * S, -5 * S, -30 * S]), odd=0.3)
                for _ in range(rng.choice([1, 1, 1, 2]))
            ]
            state = State(of) if blob is None else decode_state(of, blob)
            state.add(several)
            wanted = state.encode()
            found = splice.added(blob, several)
            assert found is None or found == wanted
            spliced += found is not None
            blob = wanted
    assert spliced > (1_400 if history is None else 500)


def test_the_later_row_stays_without_opening_the_state() -> None:
    of = latest(None)
    splice = splice_of(of)
    assert splice is not None
    state, blob = State(of), None
    for ts, created in [(5, 5), (9, 9), (7, 10), (7, 11), (12, 12), (3, 12)]:
        new = (ts, created, tuple({"int": ts, "float": None, "bool": True, "str": "a"}[s.type.name]
                                  for s in of.slots))  # fmt: skip
        blob = splice.added(blob, [new])
        state.add([new])
        assert blob == state.encode()


def wide(*, op: bool) -> View:
    """A view that keeps every column for its order (T6), of every type that is no list."""
    source = EventSource(
        "events", path="e.parquet", timestamp_field="at",
        schema={"id": str, "op": str, "k": int, "n": int | None, "x": float | None,
                "b": bool | None, "s": str | None, "raw": bytes | None, "day": dt.date | None,
                "t": dt.datetime | None, "d": dt.timedelta | None, "v": Vector[3] | None},
        event_id="id", dedupe_within="30s", **({"op": "op"} if op else {}),
    )  # fmt: skip
    made = FeatureView("view", entities=[Entity("e", {"k": int})], source=source,
                       features={"a": Last("s", window="1m")})  # fmt: skip
    return compile_view(made)


POOLS: dict[str, list[Any]] = {
    "int": [0, -5, 7, 2**62],
    "float": FLOATS[:6],
    "bool": [True, False],
    "str": ["", "a", "ßé", "long enough to be told"],
    "bytes": [b"", b"\0", b"abc"],
    "date": [dt.date(1969, 12, 31), dt.date(2026, 1, 1)],
    "datetime": [EPOCH, EPOCH + dt.timedelta(days=20_000, microseconds=1)],
    "timedelta": [dt.timedelta(0), dt.timedelta(days=-1, microseconds=3)],
    "list": [[0.0, 1.5, -2.0], [math.nan, -0.0, 1.0]],
}


@pytest.mark.parametrize("op", [False, True])
@pytest.mark.parametrize("odd", [0.0, 0.02, 0.97])
@pytest.mark.parametrize("seed", range(2))
def test_columns_of_any_type_are_those_of_the_state(seed: int, odd: float, op: bool) -> None:
    """However many values are None or err: a column that has none of them, or only some, or only
    None is written in a way of its own."""
    rng, of = random.Random(seed), wide(op=op)
    splice, blob, spliced, now = splice_of(of), None, 0, 10**15
    assert splice is not None
    for i in range(300):
        now += rng.choice([1, S, 5 * S])
        ts = now - rng.choice([*[0] * 40, 1, 3 * S, 30 * S, 70 * S])
        slots: list[Any] = [
            rng.choice((None, None, ERROR) if rng.random() < odd else POOLS[s.type.name])
            for s in of.slots
        ]
        if i % 3 == 0:
            slots[4] = None
        if i >= 40:
            slots[5] = None  # when the last of its values has left the window, the column has none
        end = [] if not op else [FOREVER if rng.random() < 0.99 else now + 5 * S]
        new = (ts, now, (*slots, *end))
        state = State(of) if blob is None else decode_state(of, blob)
        state.settle([new], [new], now)
        found = splice.added(blob, [new])
        blob = state.encode()
        assert found is None or found == blob
        spliced += found is not None
    assert spliced > 70


@pytest.mark.parametrize("ids", [False, True])
def test_prompt_events_are_all_spliced(ids: bool) -> None:
    of = view(ids=ids)
    splice, blob = splice_of(of), None
    state = State(of)
    for i in range(200):
        new = (i * S, i * S, tuple({"int": i, "float": i / 7, "bool": True}[s.type.name]
                                   for s in of.slots))  # fmt: skip
        assert splice is not None
        blob = splice.added(blob, [new])
        state.add([new])
        assert blob == state.encode()
    assert len(state.events) in (60, 61)


def test_a_state_that_is_to_lie_in_blocks_is_left_to_them() -> None:
    of = view(kept="365d")
    splice, blob = splice_of(of), None
    assert splice is not None
    values = tuple({"int": 1, "float": 0.5, "bool": True}[s.type.name] for s in of.slots)
    for i in range(SPLIT):
        blob = splice.added(blob, [(i, i, values)])
        assert blob is not None
    assert splice.added(blob, [(SPLIT, SPLIT, values)]) is None


def test_what_does_not_fit_is_left_to_the_state() -> None:
    of = view()
    splice = splice_of(of)
    assert splice is not None
    plain = {"int": [1, None, ERROR], "float": FLOATS, "bool": [True, None, ERROR]}
    for slots in itertools.product(*(plain[s.type.name] for s in of.slots)):
        state = State(of)
        state.add([(5, 5, slots)])
        found = splice.added(None, [(5, 5, slots)])
        odd = any(v is None or v is ERROR or v != v for v in slots)
        assert found == (None if odd else state.encode())


def test_a_memory_of_numbers_has_the_bytes_of_its_columns() -> None:
    ids = Ids(view(ids=True))
    for x in (0.5, -0.0, float("nan"), None):
        row = {"id": 7, "k": 1, "n": -3, "x": x, "b": False, "__ts": 5, "__created": 6}
        made = ids.encode([row])
        numbers, ids._numbers = ids._numbers, None
        assert ids.encode([row]) == made
        ids._numbers = numbers
        (read,) = ids.decode(made)
        assert ids.order(read) == ids.order(row)


@pytest.mark.parametrize("late", [False, True])
def test_columns_that_are_as_long_as_plain_ones_are_not_taken_for_them(late: bool) -> None:
    """A column with marks is longer by a byte for each event, and one of absent bools shorter."""
    source = EventSource(
        "events", path="e.parquet", timestamp_field="at",
        schema={"k": int, "x": float | None, "b": bool | None},
    )  # fmt: skip
    features = {"a": Sum("x", window="1m"), "b": AnyOf("b", window="1m")}
    of = compile_view(
        FeatureView("view", entities=[Entity("e", {"k": int})], source=source, features=features)
    )
    splice = splice_of(of)
    assert splice is not None
    names = [slot.column for slot in of.slots]

    def made(at: int, **values: Any) -> Any:
        return at, at, tuple(values[name] for name in names if name is not None)

    state = State(of)
    state.add([made(S, x=1.0, b=None), made(3 * S, x=None, b=None)])
    blob, new = state.encode(), made(2 * S if late else 4 * S, x=2.0, b=True)
    assert len(blob) == len(_of_numbers(of, made))
    state.add([new])
    assert splice.added(blob, [new]) in (None, state.encode())


def _of_numbers(of: View, made: Any) -> bytes:
    state = State(of)
    state.add([made(S, x=1.0, b=True), made(3 * S, x=1.0, b=True)])
    return state.encode()
