"""What a run puts into many states at once has the bytes of states opened one by one (A2)."""

from __future__ import annotations

import datetime as dt
import math
import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from featurekit.core.status import NEVER
from featurekit.core.types import BOOL, BYTES, DATE, DATETIME, FLOAT, INT, STR, TIMEDELTA, Type
from featurekit.core.values import ERROR
from featurekit.online.state import blocks
from featurekit.online.state.encode_many import Many
from featurekit.online.state.replace_many import Replacing
from featurekit.online.state.seal import sealed
from featurekit.online.state.state import Event, State, visible_from

DRAWS: dict[str, tuple[Type, list[Any]]] = {
    "int": (INT, [0, 1, -(2**63), 2**63 - 1]),
    "float": (FLOAT, [0.0, -0.0, math.nan, math.inf, 0.1, 5e-324]),
    "bool": (BOOL, [False, True]),
    "str": (STR, ["", "a", "naïve", "\0", "long " * 9]),
    "bytes": (BYTES, [b"", b"\xff\0", b"three"]),
    "datetime": (DATETIME, [dt.datetime(y, 9, 1, tzinfo=dt.UTC) for y in (1, 2026)]),
    "date": (DATE, [dt.date(1969, 12, 31), dt.date(9999, 12, 31)]),
    "timedelta": (TIMEDELTA, [dt.timedelta(0), dt.timedelta(-1), dt.timedelta(10**6)]),
}  # fmt: skip
AFTER, UNTIL = 30, 60
"""The interval of arrivals of an increment; pushes before it, in it and after it are in states."""
Facts = tuple[list[Event], int, int]


def view_of(chance: random.Random, kind: str, names: list[str]) -> Any:
    retain = chance.choice([5, 40, 2**63]) if kind == "window" else 0
    return SimpleNamespace(
        kind=kind, name="view", dedupe_us=None, source=SimpleNamespace(op=None), join_keys=[],
        slots=[SimpleNamespace(type=DRAWS[name][0]) for name in names],
        order=tuple(range(len(names))), history_us=chance.choice([0, 0, 15]), retain_us=retain,
    )  # fmt: skip


def events_of(
    chance: random.Random, names: list[str], n: int, after: int, until: int
) -> list[Event]:
    absent = chance.choice([[], [], [None], [ERROR], [None, ERROR]])
    found = []
    for _ in range(n):
        created = chance.choice([after + 1, until, chance.randint(after + 1, until)])
        ts = created + chance.choice([0, 0, -1, -20, 1, 7])
        values = (chance.choice([*DRAWS[name][1], *absent]) for name in names)
        found.append((ts, created, tuple(values)))
    return found


def run_of(view: Any, events: list[Event]) -> Facts:
    """The events that a run writes for an entity, its first visible instant and newest arrival."""
    state = State(view)
    state.add(events)
    return state.events, min(map(visible_from, events)), max(e[1] for e in events)


def many_of(view: Any, found: list[Facts]) -> Many:
    """What a run found of several entities."""
    events = [event for some, _, _ in found for event in some]
    slots = []
    for i, slot in enumerate(view.slots):
        values = [None if e[2][i] is ERROR else e[2][i] for e in events]
        errs = np.array([e[2][i] is ERROR for e in events], np.bool_)
        slots.append((slot.type, pa.array(values, slot.type.arrow), errs if errs.any() else None))
    return Many(
        slots, np.array([f[1] for f in found]), np.array([f[2] for f in found]),
        np.array([e[0] for e in events], np.int64), np.array([e[1] for e in events], np.int64),
        np.cumsum([0, *(len(f[0]) for f in found)]),
    )  # fmt: skip


def held(chance: random.Random, view: Any, names: list[str]) -> State | None:
    """A state that pushes and earlier runs have left; None where there is none."""
    if chance.random() < 0.2:
        return None
    state = State(view)
    latest = chance.choice([AFTER, AFTER, UNTIL, UNTIL + 9])
    state.add(events_of(chance, names, chance.choice([1, 1, 1, 2, 6]), 0, latest))
    if chance.random() < 0.1:  # its rows have left the files and the log
        state.replace(NEVER, UNTIL, [], first=2**63 - 1, newest=NEVER)
    return state


def after_a_run(view: Any, state: State | None, found: Facts, after: int) -> State:
    """What `State` makes, event by event."""
    opened = State(view) if state is None else State(
        view, state.first_visible, state.newest_arrival, list(state.events)
    )  # fmt: skip
    opened.replace(after, UNTIL, list(found[0]), first=found[1], newest=found[2])
    return opened


@pytest.mark.parametrize("kind", ["window", "latest"])
@pytest.mark.parametrize("after", [NEVER, AFTER], ids=["whole", "increment"])
def test_states_changed_together_have_the_bytes_of_states_changed_one_by_one(
    kind: str, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "SPLIT", 7)
    quick = left = 0
    for seed in range(70):
        chance = random.Random(seed)
        names = chance.sample(list(DRAWS), chance.randint(0, 3))
        view = view_of(chance, kind, names)
        states = [held(chance, view, names) for _ in range(12)]
        since = max(after, 0)
        found = [
            run_of(view, events_of(chance, names, chance.choice([1, 1, 2, 4]), since, UNTIL))
            for _ in states
        ]
        keys = [b"fk:p:state:v{%d}" % i for i in range(len(states))]
        blobs = [
            None if s is None else sealed(k, s.encode()) for k, s in zip(keys, states, strict=True)
        ]
        many = many_of(view, found)
        plain = np.diff(many.starts) <= blocks.SPLIT
        new = Replacing(view, pa.array(keys, pa.large_binary()), many, plain, after, UNTIL)
        numbers = np.flatnonzero([chance.random() < 0.8 for _ in keys])
        made = new.values(numbers, [blobs[i] for i in numbers])
        for i, value in zip(numbers.tolist(), made, strict=True):
            if value is None:
                left += 1
                continue
            quick += 1
            wanted = after_a_run(view, states[i], found[i], after)
            assert value == sealed(keys[i], wanted.encode()), seed
            assert kind == "latest" or len(wanted.events) <= blocks.SPLIT
    assert quick > 2 * left


def test_what_is_not_whole_is_left_to_be_opened() -> None:
    """A value that was changed, or is of another key, or has no checksum, or is in blocks."""
    view = view_of(random.Random(1), "latest", ["int"])
    keys = [b"fk:p:state:v{%d}" % i for i in range(6)]
    old = State(view)
    old.add([(1, 1, (1,))])
    found = [run_of(view, [(40, 40, (2,))]) for _ in keys]
    value = sealed(keys[0], old.encode())
    flipped = sealed(keys[1], old.encode())
    values = [
        value, flipped[:-1] + bytes((flipped[-1] ^ 1,)), value, old.encode(), b"\xf1",
        sealed(keys[5], bytes((blocks.VERSION,)) + old.encode()[1:]),
    ]  # fmt: skip
    for after in (NEVER, AFTER):
        many = many_of(view, found)
        new = Replacing(
            view, pa.array(keys, pa.large_binary()), many, np.ones(6, np.bool_), after, UNTIL
        )
        made = new.values(np.arange(6), values)
        wanted = after_a_run(view, old, found[0], after).encode()
        assert made == [sealed(keys[0], wanted), *[None] * 5]


def test_an_older_row_does_not_take_the_place_of_a_later_one() -> None:
    """It arrived in the interval and happened before the row that is held."""
    view = view_of(random.Random(1), "latest", ["int"])
    view.history_us, key = 0, b"fk:p:state:v{0}"
    old = State(view)
    old.add([(25, 25, (1,))])
    found = [run_of(view, [(20, 40, (2,))])]
    new = Replacing(
        view, pa.array([key], pa.large_binary()), many_of(view, found), np.ones(1, np.bool_), AFTER,
        UNTIL,
    )  # fmt: skip
    (made,) = new.values(np.arange(1), [sealed(key, old.encode())])
    old.add([(20, 40, (2,))])
    assert old.events == [(25, 25, (1,))]
    assert made == sealed(key, old.encode())
