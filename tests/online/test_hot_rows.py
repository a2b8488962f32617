"""A state that many rows ask about is read and computed once, and a large one holds up no event
loop."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from test_damage import NOW, VIEWS, S, World, row

from featurekit.core.types import instant
from featurekit.online.lookup import evaluator, steps, watch
from featurekit.online.lookup.view import ViewLookup
from featurekit.online.store.memory import MemoryStore

KEYS = [1, 2, 1, 1, 2]


@pytest.fixture(autouse=True)
def _looking_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read beside the lookups while these are counted."""
    monkeypatch.setattr(watch, "EVERY_S", 1e6)


def ask(it: World, keys: Sequence[int]) -> Any:
    return it.online.get([{"key": key} for key in keys], instant(NOW + 10 * S))


@pytest.mark.parametrize("kind", ["latest row of numbers", "latest row", "windows of texts"])
def test_a_key_that_repeats_is_read_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    it = World(VIEWS[kind])
    apart = [ask(it, [key]) for key in KEYS]
    read: Counter[bytes] = Counter()
    of_store = MemoryStore.read

    def counted(store: MemoryStore, keys: Sequence[bytes]) -> list[bytes | None]:
        read.update(keys)
        return of_store(store, keys)

    monkeypatch.setattr(MemoryStore, "read", counted)
    found = ask(it, KEYS)
    assert (read[it.first], read[it.second]) == (1, 1)
    assert found.to_pylist() == [one.to_pylist()[0] for one in apart]
    assert found.statuses() == [one.statuses()[0] for one in apart]


def test_windows_of_a_repeated_key_are_computed_once_and_are_the_callers_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    it, computed = World(VIEWS["windows of texts"]), 0
    answered = ViewLookup.answer

    def counted(lookup: ViewLookup, state: Any, t: int) -> Any:
        nonlocal computed
        computed += 1
        return answered(lookup, state, t)

    monkeypatch.setattr(ViewLookup, "answer", counted)
    found = ask(it, KEYS)
    assert computed == 2
    words = found.columns["words"]
    words[0].append("mine")
    assert words[2] == words[3] == words[0][:-1]


def test_a_steady_lookup_is_one_round_trip(monkeypatch: pytest.MonkeyPatch) -> None:
    it = World(VIEWS["windows"])
    ask(it, KEYS)
    trips = 0
    of_store = MemoryStore.read

    def counted(store: MemoryStore, keys: Sequence[bytes]) -> list[bytes | None]:
        nonlocal trips
        trips += 1
        return of_store(store, keys)

    monkeypatch.setattr(MemoryStore, "read", counted)
    ask(it, KEYS)
    assert trips == 1


@pytest.mark.parametrize("large", [False, True])
def test_answers_of_large_states_are_made_beside_the_event_loop(
    large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "LARGE", 1_000)
    it = World(VIEWS["windows with ids"])
    if large:
        it.push(*(row(1, i % 8, id=1_000 + i) for i in range(50)))
    seen: set[int] = set()
    of_views = evaluator.Evaluator._of_views

    def noted(self: Any, *given: Any) -> Any:
        seen.add(threading.get_ident())
        return of_views(self, *given)

    monkeypatch.setattr(evaluator.Evaluator, "_of_views", noted)
    rows, at = [{"key": 1}, {"key": 2}], instant(NOW + 10 * S)
    found = asyncio.run(it.online.get_async(rows, at))
    assert (threading.get_ident() in seen) is not large
    assert found == it.online.get(rows, at)
